//! [`ThreadPool`]: threads for what blocks.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crew::{Crew, Job, MOST_THREADS};
use crate::error::{Error, Result};

/// Threads that run blocking functions for a loop: the `ThreadPoolExecutor` of `concurrent.futures`.
///
/// Threads are made when jobs need them, up to a limit, and idle ones are used before a new one is made. Jobs begin in the order in
/// which they were submitted. Clones are handles to the same pool; when the last one is dropped, the pool shuts down, and what was
/// submitted is still done.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{ThreadPool, get_running_loop};
///
/// let pool = ThreadPool::builder().max_workers(2).thread_name_prefix("disk").build()?;
/// let name = get_running_loop()?.run_in_executor(Some(&pool), || Ok(std::thread::current().name().map(String::from))).await?;
/// assert_eq!(name.as_deref(), Some("disk_0"));
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct ThreadPool {
    owner: Arc<Owner>,
}

/// Shuts the crew down when the last handle goes.
struct Owner(Arc<Crew>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}

impl ThreadPool {
    /// A pool with the defaults of [`ThreadPoolBuilder`]. It has no thread yet.
    pub fn new() -> Self {
        ThreadPoolBuilder::default().make()
    }

    /// A pool with other limits or names.
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder::default()
    }

    /// How many threads it has at most.
    pub fn max_workers(&self) -> usize {
        self.owner.0.limit()
    }

    /// How many threads it has now.
    pub fn threads(&self) -> usize {
        self.owner.0.threads()
    }

    /// Accepts no more jobs: the `shutdown(wait=False)` of `concurrent.futures`' executors. What was submitted is still done, and
    /// then the threads end. Returns at once.
    pub fn shutdown(&self) {
        self.owner.0.shut_down();
    }

    /// Shuts down and blocks until all jobs are done and the threads have ended: their `shutdown(wait=True)`. Inside of a loop,
    /// await [`Loop::shutdown_default_executor`](crate::Loop::shutdown_default_executor) instead.
    ///
    /// Called by a job of this very pool, it shuts down and does not wait.
    pub fn join(&self) {
        self.owner.0.join(None);
    }

    /// As [`join`](Self::join), for some time at most. Returns whether the threads have ended; if not, they go on with what they have.
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.owner.0.join(Instant::now().checked_add(timeout))
    }

    pub(super) fn submit(&self, job: Arc<dyn Job>) -> Result<()> {
        self.owner.0.submit(job)
    }
}

impl Default for ThreadPool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("max_workers", &self.max_workers())
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

/// What a [`ThreadPool`] is to be like: the arguments of `concurrent.futures.ThreadPoolExecutor`. [`ThreadPool::builder`] makes
/// one.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{ThreadPool, get_running_loop, to_thread};
///
/// assert!(ThreadPool::builder().max_workers(0).build().is_err());
/// let pool = ThreadPool::builder().max_workers(2).thread_name_prefix("worker").build()?;
/// get_running_loop()?.set_default_executor(pool);
/// let name = to_thread(|| Ok(std::thread::current().name().map(str::to_owned))).await?;
/// assert_eq!(name.as_deref(), Some("worker_0"));
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct ThreadPoolBuilder {
    max_workers: Option<usize>,
    prefix: String,
}

impl Default for ThreadPoolBuilder {
    fn default() -> Self {
        ThreadPoolBuilder { max_workers: None, prefix: "aioli".into() }
    }
}

impl ThreadPoolBuilder {
    /// How many threads there are at most. By default four more than processors that this process may use, and 32 at most.
    #[must_use]
    pub fn max_workers(mut self, max_workers: usize) -> Self {
        self.max_workers = Some(max_workers);
        self
    }

    /// What the names of the threads begin with, `"aioli"` by default: the first is named `aioli_0`.
    #[must_use]
    pub fn thread_name_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The pool. It has no thread yet.
    ///
    /// # Errors
    /// `Value` if it may have no thread or more than a million, or if there is a zero byte in the prefix.
    pub fn build(self) -> Result<ThreadPool> {
        if self.max_workers.is_some_and(|most| most == 0 || most > MOST_THREADS) {
            return Err(Error::value(format!("max_workers must be between 1 and {MOST_THREADS}")));
        }
        if self.prefix.contains('\0') {
            return Err(Error::value("the name of a thread cannot contain a zero byte"));
        }
        Ok(self.make())
    }

    fn make(self) -> ThreadPool {
        let limit = self.max_workers.unwrap_or_else(|| {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            processors.saturating_add(4).min(32)
        });
        ThreadPool { owner: Arc::new(Owner(Arc::new(Crew::new(self.prefix, limit)))) }
    }
}
