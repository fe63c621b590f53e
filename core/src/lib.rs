//! The semantics of aioli.
#![deny(unsafe_code)]

pub mod driver;
pub mod op;
mod time;

pub use time::Instant;
