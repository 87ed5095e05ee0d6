//! The recipes of `docs/frameworks.md`, as code that the tests run: each block of the page is a piece of one of these files.
//!
//! All apps are the same. `/login` stores the name that it is sent, `/profile` answers it, `/logout` ends the session, and
//! `/fail` stores a name and then answers with an error.

pub mod poem;
pub mod salvo;
pub mod tonic;
pub mod warp;
