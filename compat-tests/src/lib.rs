//! The conformance suite of aioli.
#![forbid(unsafe_code)]

mod backend;
mod case;
mod cases;
mod clock;
mod machine;
mod suite;

pub use backend::{Backend, Capabilities, Epoll, Sim, backends};
pub use case::{Case, Verdict, catch_places};
pub use suite::{all_cases, check};
