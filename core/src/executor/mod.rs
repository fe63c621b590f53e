//! Threads for what blocks: [`ThreadPool`], [`to_thread`], [`Loop::run_in_executor`].

mod call;
mod crew;
mod pool;

use std::cell::{Cell, RefCell};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use pool::{ThreadPool, ThreadPoolBuilder};

use crate::context::ContextMap;
use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::LoopCore;
use crate::future::{self, Future};
use crate::loop_handle::Loop;
use crate::registry::Reply;
use crate::report::Report;
use crate::task::{LoopRef, home};
use crate::wait_for::IntoTimeout;

/// The pool that a loop uses where none is named.
#[derive(Default, Debug)]
pub(crate) struct DefaultExecutor {
    pool: RefCell<Option<ThreadPool>>,
    shut_down: Cell<bool>,
}

impl DefaultExecutor {
    /// The pool, made now if there is none.
    fn pool(&self) -> Result<ThreadPool> {
        if self.shut_down.get() {
            return Err(Error::fixed(ErrorKind::Runtime, &"the default executor was shut down"));
        }
        Ok(self.pool.borrow_mut().get_or_insert_with(ThreadPool::new).clone())
    }

    fn replace(&self, pool: ThreadPool) {
        let old = self.pool.replace(Some(pool));
        drop(old);
    }
}

/// Calls a blocking function in a thread of the loop's default executor, in a copy of the current context: asyncio's `to_thread`.
///
/// The function is submitted when this is first awaited. Cancelling the await returns at once: a function that was not begun is
/// dropped, one that runs goes on in its thread, and its result is lost. Dropping the future changes nothing for the function.
///
/// # Errors
/// What the function returns; `Panicked` if it panicked; `Runtime` outside of a loop, or if the executor was shut down.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::to_thread;
///
/// let text = to_thread(|| Ok(std::fs::read_to_string("Cargo.toml")?)).await?;
/// assert!(text.contains("[package]"));
/// # Ok(())
/// # }).unwrap();
/// ```
pub async fn to_thread<F, T>(function: F) -> Result<T>
where
    F: FnOnce() -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    let begun = home::with(|core| start(core, None, core.context(), function));
    begun.ok_or_else(|| Error::runtime("no running event loop: to_thread is awaited inside of `run`"))?.await
}

fn start<F, T>(core: &LoopRef, pool: Option<&ThreadPool>, context: Option<ContextMap>, function: F) -> Future<T>
where
    F: FnOnce() -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    if core.is_closed() {
        return failed(core, Error::fixed(ErrorKind::Runtime, &"the event loop is closed"));
    }
    let submitted = match pool {
        Some(pool) => call::submit(core, pool, context, function),
        None => core.executor.pool().and_then(|pool| call::submit(core, &pool, context, function)),
    };
    submitted.unwrap_or_else(|error| failed(core, error))
}

fn failed<T: 'static>(core: &LoopRef, error: Error) -> Future<T> {
    let future = future::pending::<T>(core);
    future.raw().finish_error(error, false);
    future
}

impl Loop {
    /// Calls a blocking function in a thread of `pool`, or of the default executor, which is made on first use: asyncio's
    /// `loop.run_in_executor`. The function runs in an empty context: [`to_thread`] takes the current one along.
    ///
    /// Cancelling the future ends it at once. If the function was not begun it is dropped, in the next turn, on the loop's thread; if
    /// it runs it goes on, and its result is lost. Dropping the future changes nothing for the function.
    ///
    /// The future fails with what the function returns; with `Panicked` if it panicked; with `Runtime` if the loop is closed or the
    /// pool was shut down; with `Io` if no thread can be made.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// let sum = aioli_core::get_running_loop()?.run_in_executor(None, || Ok((1..=1000).sum::<u64>()));
    /// assert_eq!(sum.await?, 500_500);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    pub fn run_in_executor<F, T>(&self, pool: Option<&ThreadPool>, function: F) -> Future<T>
    where
        F: FnOnce() -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        start(self.core(), pool, None, function)
    }

    /// Makes `pool` the default executor: what [`run_in_executor`](Self::run_in_executor) uses without a pool, and [`to_thread`].
    /// asyncio's `loop.set_default_executor`. The loop shuts it down when it closes. The one before shuts down if nobody else has
    /// it.
    pub fn set_default_executor(&self, pool: ThreadPool) {
        self.core().executor.replace(pool);
    }

    /// Shuts the default executor down and waits until all its jobs are done and its threads have ended. `None` waits without a
    /// limit. The time is real time, also on a virtual clock, since threads take it.
    ///
    /// If time runs out this is reported to the loop's exception handler, and the threads are left to themselves. From the first poll
    /// on the default executor takes no more jobs, also if this is cancelled or dropped. asyncio's `shutdown_default_executor`.
    ///
    /// # Errors
    /// Cancelled; `Value` if the timeout is not finite; `Io` if the thread that waits cannot be made.
    pub async fn shutdown_default_executor(&self, timeout: impl IntoTimeout) -> Result<()> {
        let timeout = timeout.into_timeout().map(|delay| delay.duration()).transpose()?;
        let Some(mut shutdown) = begin_shutdown(self.core(), timeout)? else { return Ok(()) };
        let ended = shutdown.ended.clone().await;
        ended.map(|ended| shutdown.conclude(self.core(), ended))
    }
}

/// A default executor that shuts down.
pub(crate) struct Shutdown {
    /// Whether its threads have ended in time.
    pub(crate) ended: Future<bool>,
    helper: Option<JoinHandle<()>>,
    timeout: Option<Duration>,
}

/// Shuts the default executor down. A helper waits for its threads, so that the loop goes on. `None` if there is none.
pub(crate) fn begin_shutdown(core: &LoopRef, timeout: Option<Duration>) -> Result<Option<Shutdown>> {
    core.executor.shut_down.set(true);
    let pool = core.executor.pool.borrow().clone();
    let Some(pool) = pool else { return Ok(None) };
    // Also where no thread is left, as they leave when they like: it takes as many turns in any case, and what they have sent comes first.
    let ended = future::pending::<bool>(core);
    let reply = Reply::to(core, ended.raw());
    let number = reply.number();
    let helper = thread::Builder::new().name("aioli-join".into()).spawn(move || {
        let in_time = match timeout {
            Some(timeout) => pool.join_timeout(timeout),
            None => {
                pool.join();
                true
            }
        };
        drop(pool);
        reply.send(Ok(in_time));
    });
    match helper {
        Ok(helper) => Ok(Some(Shutdown { ended, helper: Some(helper), timeout })),
        Err(error) => {
            drop(core.registry.remove(number));
            Err(Error::from(error))
        }
    }
}

impl Shutdown {
    /// The helper has answered.
    pub(crate) fn conclude(&mut self, core: &LoopCore, in_time: bool) {
        if let Some(helper) = self.helper.take() {
            // It answered with its last breath.
            let _ = helper.join();
        }
        if let (false, Some(timeout)) = (in_time, self.timeout) {
            core.report(Report::new(format!("the executor did not finish joining its threads within {timeout:?}")));
        }
    }
}
