//! The semantics of aioli: the loop, tasks, futures and their cancellation, with asyncio's rules. No system calls, no backend names.
//!
//! A coroutine is any future whose output is a [`Result`]. [`create_task`] has the loop drive one; awaiting the [`Task`] gives its
//! result. [`Task::cancel`] is a request: the await that the task is suspended on returns an error, and the task may clean up with
//! further awaits, or refuse.
//!
//! # The laws
//!
//! - **L1 turn.** One turn of the loop: what other threads sent is taken; completions, in the order of their arrival, make handles
//!   ready; due timers, in the order of their deadlines (equal ones: first armed, first run), make handles ready; then exactly the
//!   handles that are ready run, first in, first out. What they make ready waits for the next turn.
//! - **L2 hops.** Finishing a future schedules its callbacks in the order in which they were added, one handle each. Awaiting what is
//!   done does not yield. Every operation takes the number of turns that it takes in CPython.
//! - **L3 cancel.** A request is passed down along what the task waits for, delivered once, at the await, one turn later. A task
//!   that was not started never starts. A task that swallows the request goes on. Scopes ([`timeout`], [`task_group`]) are cancelled
//!   on their own, and what is outside does not see it.
//! - **L4 nothing produced is lost.** What was received for a cancelled await stays with its source.
//! - **L5 time.** A deadline is never early. `sleep` of zero is a bare yield.
//! - **L6 drop.** Every future may be dropped, leaked or moved to another task at any moment.
//! - **L7 panic.** A panic in user code is caught and reported; the task ends `Panicked`, the others go on.
//! - **L8 no silence.** An error that nobody retrieved reaches the loop's exception handler.
//! - **L9 leaving.** A [`Runner`] that closes cancels what is left, awaits it, and reports what failed.
//! - **L10 threads.** A wake from another thread is never lost, and costs the loop nothing while unused.
//! - **L11 re-entrancy.** No user code runs while the loop or a driver is half changed.
//! - **L12 fork.** In a forked child the loop refuses to run.
#![deny(unsafe_code)]

mod address;
mod as_completed;
mod await_point;
mod awaitable;
mod awaited;
mod callback;
mod cancel;
mod cancellable;
mod concurrent;
mod context;
mod deadlock;
mod delay;
mod diversion;
pub mod driver;
mod error;
mod event_loop;
mod executor;
mod file;
mod foreign_waker;
mod future;
mod gather;
mod gather_set;
mod group;
mod inbox;
mod join;
mod loop_handle;
pub mod op;
pub mod ops;
mod own_context;
pub mod queue;
mod registry;
mod remote;
mod report;
mod runner;
mod scope;
mod serial;
mod shared;
mod shield;
mod slack;
mod sleep;
mod strays;
mod sync;
mod task;
mod tasks;
mod time;
mod timeout;
mod timer;
mod token;
mod unpoisoned;
mod wait;
mod wait_for;

pub use as_completed::{AsCompleted, CompletedHandles, as_completed};
pub use await_point::{Token, Wait, WaitPoll};
pub use awaitable::{Awaitable, ensure_future};
pub use awaited::Awaited;
pub use callback::{CallbackId, Handle, TimerHandle};
pub use cancel::take_request;
pub use cancellable::{Cancellable, CancellableFuture};
pub use concurrent::ConcurrentFuture;
pub use context::{Context, ContextToken, ContextVar};
pub use delay::{Delay, IntoDelay};
pub use diversion::Diversion;
pub use error::{Error, ErrorKind, Result};
pub use executor::{ThreadPool, ThreadPoolBuilder, to_thread};
pub use future::{AwaitRef, Future};
pub use gather::{gather, gather_results};
pub use gather_set::GatherSet;
pub use group::{TaskGroup, cancellable_task_group, task_group};
pub use loop_handle::{Loop, get_running_loop};
pub use queue::{LifoQueue, PriorityQueue, Put, PutError, Queue};
pub use remote::{RemoteHandle, RemoteLoop};
pub use report::Report;
pub use runner::{Runner, run};
pub use shield::shield;
pub use sleep::{Sleep, sleep};
pub use sync::{
    Barrier, BoundedSemaphore, Condition, ConditionGuard, Event, Lock, LockGuard, Semaphore, SemaphorePermit,
};
pub use tasks::{AnyTask, Task, TaskBuilder, all_tasks, create_task, current_task};
pub use time::Instant;
pub use timeout::{Timed, Timeout, timeout, timeout_at};
pub use token::{CancelToken, RemoteCancelToken, TokenCancelled, TokenRun};
pub use wait::{ReturnWhen, WaitAll, Waitable, wait};
pub use wait_for::{IntoTimeout, WaitFor, wait_for};
