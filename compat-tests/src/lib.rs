//! The conformance suite of aioli: what every backend must do, as asyncio does it.
//!
//! A [`Backend`] makes drivers; a [`Case`] is a behaviour that holds on any of them. Cases run in virtual time: a driver whose own
//! clock is a real one is given another.
//!
//! To test a backend of one's own, implement [`Backend`] for it and have [`conformance!`] make a `#[test]` of each case:
//!
//! ```
//! # #[derive(Debug)] struct MyBackend;
//! # impl aioli_compat_tests::Backend for MyBackend {
//! #     fn name(&self) -> &str { "mine" }
//! #     fn driver(&self) -> std::io::Result<Box<dyn aioli_core::driver::Driver>> {
//! #         Ok(Box::new(aioli_exec_single::EpollDriver::new()?))
//! #     }
//! # }
//! aioli_compat_tests::conformance!(MyBackend);
//! ```
//!
//! The program of the same name runs the suite on the backends of aioli; see `docs/conformance.md`.
#![forbid(unsafe_code)]

mod backend;
mod case;
mod cases;
pub mod differential;
mod machine;
mod part;
mod rules;
mod suite;
mod upstream;
mod varied;

pub use backend::{Backend, Capabilities, Epoll, Sim, Uring, backends};
pub use case::{Case, Verdict, catch_places};
pub use rules::{Bearing, Rule, rules};
pub use suite::{all_cases, check};
pub use upstream::{Status, Upstream, upstream};
