//! asyncio for Rust: the event loop, coroutines, tasks, futures and cancellation that Python programmers know, with asyncio's exact
//! scheduling and cancellation rules, on stable Rust, on one thread.
//!
//! In other runtimes cancelling a task drops it in the middle of an await: nothing after that point runs, and no cleanup can await.
//! Here a cancellation is a *request*. The await returns an error; the task cleans up with further awaits, and may refuse.
//!
//! ```
//! use aioli::{Result, create_task, sleep, task_group, timeout};
//! use std::time::Duration;
//!
//! async fn worker(name: &'static str, millis: u64) -> Result<String> {
//!     if let Err(error) = sleep(Duration::from_millis(millis)).await {
//!         sleep(Duration::from_millis(1)).await?; // cleanup may await
//!         return Err(error);
//!     }
//!     Ok(format!("result of {name}"))
//! }
//!
//! fn main() -> Result<()> {
//!     aioli::run(async {
//!         let a = create_task(worker("A", 3));
//!         let b = create_task(worker("B", 1));
//!         println!("{} {}", a.await?, b.await?);
//!         // C has cleaned up before this returns.
//!         assert!(timeout(Duration::from_millis(5), worker("C", 900)).await.unwrap_err().is_timeout());
//!         task_group(async |group| {
//!             group.create_task(worker("D", 1))?;
//!             group.create_task(worker("E", 2))?;
//!             Ok(())
//!         })
//!         .await
//!     })
//! }
//! ```
//!
//! A coroutine is any `async` block or function whose output is a [`Result`]. [`run`] drives one on the backend that fits the
//! machine; [`create_task`] starts another beside it. Names are asyncio's. The rules, numbered, are in [`aioli_core`]; what differs
//! from asyncio is listed in `docs/differences-from-asyncio.md`.
#![forbid(unsafe_code)]

mod backend;
pub mod sim;

pub use aioli_core::*;
pub use aioli_io::*;
pub use backend::{Backend, run, run_on};
