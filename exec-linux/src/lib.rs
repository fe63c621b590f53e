//! What aioli's drivers for Linux share: what operations come down to, the calls on sockets, the process guard, small sends that wait for the end of their turn, how
//! long to look before sleeping, the bell that other threads ring, Ctrl-C.
//!
//! This is a part of the drivers, in a crate of its own so that it is written once. Programs have no use for it.

mod burst;
pub mod file;
mod flight;
mod interrupt;
mod kind;
mod parcel;
mod process;
mod readable;
mod run;
mod slots;
pub mod socket;
mod spin;
mod submit;
pub mod syscall;
mod timeout;
mod wake;
mod work;

pub use burst::Burst;
pub use flight::Flight;
pub use interrupt::Interrupt;
pub use kind::Kind;
pub use parcel::Parcel;
pub use process::Home;
pub use readable::tell_readable;
pub use run::run;
pub use slots::Slots;
pub use spin::Spin;
pub use submit::{Entries, submit};
pub use timeout::Timeout;
pub use wake::Wake;
pub use work::{Armed, Attempt, Direction, Queue, Work};
