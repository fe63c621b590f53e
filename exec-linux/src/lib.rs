//! What aioli's drivers for Linux share: the calls on sockets, the process guard, the bell that other threads ring, Ctrl-C.
//!
//! This is a part of the drivers, in a crate of its own so that it is written once. Programs have no use for it.

pub mod file;
mod flight;
mod interrupt;
mod kind;
mod process;
mod run;
pub mod socket;
pub mod syscall;
mod wake;
mod work;

pub use flight::Flight;
pub use interrupt::Interrupt;
pub use kind::Kind;
pub use process::Home;
pub use run::run;
pub use wake::Wake;
pub use work::{Armed, Attempt, Direction, Queue, Work};
