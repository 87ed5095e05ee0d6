//! The places where a Redis is: what they refuse, what lies in front of them, and how far away they are.

#[cfg(feature = "rustls")]
mod far;
mod far_cluster;
mod in_front;
mod keys;
mod node;
mod refused;
