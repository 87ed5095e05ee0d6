//! What goes wrong: Redis slow, stopped, gone, half connected or saying no; clients that leave or mean harm; a server that
//! ends. What a client is told, how soon, and what is left in the store.

mod abuse;
mod shutdown;

#[cfg(feature = "redis")]
mod aborted;
#[cfg(feature = "redis")]
mod redis;
