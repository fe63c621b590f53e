//! Cells of futures and tasks, their references and their wakers: the only home of raw pointers in this crate.
//!
//! Everything here is reached through safe references ([`RawFuture`], [`RawTask`], [`FutureRef`]). The rules that make them safe:
//!
//! - A cell stays on the thread of its loop. What crosses threads is the waker's backing alone.
//! - The flags of a cell say what its payload is; whoever changes the payload changes the flag with it, before user code runs. The
//!   destructor of a coroutine that has ended runs before: until it returns, the stage keeps everybody away.
//! - A coroutine is polled or dropped by at most one caller at a time ([`Stage`](header::Stage)).
//! - The last reference ends the cell; cells that die in consequence are ended one after the other, not recursively.
//! - A loop lives as long as its cells, see [`LoopRef`].
#![allow(unsafe_code)]

mod cell;
pub(crate) mod current;
pub(crate) mod fetch;
mod handle;
pub(crate) mod header;
pub(crate) mod home;
mod identify;
mod light;
pub(crate) mod list;
mod loop_ref;
pub(crate) mod peek;
mod poll_waker;
pub(crate) mod pool;
mod raw;
pub(crate) mod ready;
mod requests;
mod task_or;
mod wait_cell;
pub(crate) mod waker;

pub(crate) use handle::Handle;
pub(crate) use identify::identify;
pub(crate) use light::{Light, Weighed};
pub(crate) use loop_ref::LoopRef;
pub(crate) use poll_waker::PollWaker;
pub(crate) use raw::{FutureRef, Graves, RawFuture, RawTask};
pub(crate) use task_or::{Kept, TaskOr};
