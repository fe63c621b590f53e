//! The epoll driver of aioli: [`EpollDriver`].
//!
//! epoll tells when a descriptor is ready; the loop wants operations that complete. The driver makes one of the other: it tries an
//! operation's system call when the operation is submitted, and where the call would block, it waits for an edge and tries again. How it
//! saves system calls:
//!
//! - A descriptor is registered once, edge-triggered for both directions, when an operation first has to wait.
//! - A direction that is known to block is not tried. On a TCP connection a short write says so, and a short read, until an event told
//!   of an end, an error or urgent data. Anything else is read and written until it would block.
//! - Where many connections send in each turn, their small writes are put together and sent at its end, one after the other.
//! - A request on a TCP connection so costs one receive, one send, and its share of one wait.
//! - Where events have kept coming within microseconds, it looks for them a little before it sleeps: see [`Config::spin`].
//! - A turn that does not wait and has nothing in flight makes no system call, nor does a kick that finds the loop awake.

mod children;
mod driver;
mod epoll;
mod files;
mod outbox;
mod reactor;
mod resource;
mod run;
mod table;
mod workers;

pub use driver::{Config, EpollDriver};
pub use run::run;
