//! Primitives by which tasks of one loop wait for each other: asyncio's, with its order and its turns.
//!
//! All of them are plain values that are used by reference; tasks share one in an [`Rc`](std::rc::Rc). None leaves its thread, and
//! each belongs to the first loop in which a task has waited at it: a wait in any other loop is a `Runtime` error.
//!
//! A wait that is cancelled or dropped leaves the line. If it had been granted already what it waited for, the next in line gets it.

mod barrier;
mod condition;
mod event;
mod lock;
mod semaphore;
pub(crate) mod waiters;

pub use barrier::Barrier;
pub use condition::{Condition, ConditionGuard};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use semaphore::{BoundedSemaphore, Semaphore, SemaphorePermit};
