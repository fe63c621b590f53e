//! The io_uring driver of aioli: [`UringDriver`].
//!
//! One ring a loop, and one system call a turn, which hands the kernel what was submitted and waits. What it saves:
//!
//! - A stream's receive is asked for once. From then on the kernel receives by itself, into buffers that it picks from a common stock
//!   when data comes, so that a connection on which nothing comes holds none. Small data is copied to its reader, and the buffer
//!   goes back to the stock; large data goes to its reader in the buffer it came in.
//! - Where many connections send in each turn, their small writes go with the system call at its end, and the kernel reports only those
//!   that fail.
//! - A listener accepts by one request, as many connections as its credit allows.
//! - Where completions have kept coming within microseconds, it looks for them a little before it sleeps: see [`Config::spin`].
//! - A turn that does not wait, and for which the kernel has nothing, makes no system call.
//!
//! What an older kernel has not is done in another way: see [`Rung`].

mod buffers;
mod core;
mod driver;
mod file;
mod line;
mod outbox;
mod probe;
mod process;
mod ring;
mod run;
mod rung;
mod setup;
mod stream;
mod table;
mod token;

pub use driver::UringDriver;
pub use run::run;
pub use rung::Rung;
pub use setup::Config;
