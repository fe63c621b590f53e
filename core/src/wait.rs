//! [`wait`](fn@wait): until some of several are done.

use std::cell::Cell;
use std::fmt;
use std::future::Future as StdFuture;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::await_point::{Token, Wait, WaitPoll};
use crate::awaitable;
use crate::awaited::Awaited;
use crate::callback::{Callback, Hook, HookRef};
use crate::delay::{Delay, saturating_nanos};
use crate::error::{Error, Result};
use crate::event_loop::LoopCore;
use crate::future::Future;
use crate::task::{RawFuture, home};
use crate::tasks::{AnyTask, Task};
use crate::timer::{Armed, TimerTarget};
use crate::wait_for::IntoTimeout;

/// Waits until some of the given tasks and futures are done, and gives those done and those pending, each in the order given, and what
/// was given twice twice: asyncio's `wait`. Nothing is cancelled, no error is raised for one of them, and none for a timeout.
///
/// # Errors
/// The await returns Cancelled if the caller was cancelled; what was waited for runs on. `Value` if nothing was given, something of
/// another loop was, or the timeout is not finite. `Runtime` outside of a task.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{ReturnWhen, create_task, sleep, wait};
/// use std::time::Duration;
///
/// let tasks: Vec<_> = [3, 1, 2].map(|n| create_task(sleep(Duration::from_secs(n)))).into();
/// let (done, pending) = wait(&tasks).return_when(ReturnWhen::FirstCompleted).await?;
/// assert_eq!((done.len(), pending.len()), (1, 2));
/// let (done, pending) = wait(tasks).timeout(Duration::from_millis(1500)).await?;
/// assert_eq!((done.len(), pending.len()), (2, 1));
/// # Ok(())
/// # }).unwrap();
/// ```
pub fn wait<I>(handles: I) -> WaitAll<I::Item>
where
    I: IntoIterator,
    I::Item: Waitable,
{
    WaitAll {
        handles: handles.into_iter().collect(),
        timeout: None,
        return_when: ReturnWhen::AllCompleted,
        state: State::New,
        wait: Wait::new(),
    }
}

/// When [`wait`](fn@wait) returns: asyncio's `ALL_COMPLETED`, `FIRST_COMPLETED` and `FIRST_EXCEPTION`.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Error, ReturnWhen, create_task, sleep, wait};
///
/// let jobs = [3.0, 1.0, 2.0].map(|seconds| {
///     create_task(async move {
///         sleep(seconds).await?;
///         if seconds == 2.0 { Err(Error::msg("no luck")) } else { Ok(()) }
///     })
/// });
/// let (done, pending) = wait(&jobs).return_when(ReturnWhen::FirstException).await?;
/// assert_eq!((done.len(), pending.len()), (2, 1));
/// let failed = done.iter().find_map(|job| job.exception().ok().flatten());
/// assert_eq!(failed.unwrap().to_string(), "no luck");
/// pending.iter().for_each(|job| drop(job.cancel(None)));
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReturnWhen {
    /// When all are done.
    #[default]
    AllCompleted,
    /// When one is done.
    FirstCompleted,
    /// When one has failed, not counting cancellation, or all are done.
    FirstException,
}

/// A handle that [`wait`](fn@wait) takes: a [`Task`], a [`Future`], an [`AnyTask`], or a reference to one. As in asyncio since
/// 3.11, coroutines are not: give them to [`create_task`](crate::create_task) first.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Result, Waitable, create_task, sleep, wait};
///
/// async fn all_within(seconds: f64, handles: &[impl Waitable]) -> Result<bool> {
///     let (_, pending) = wait(handles).timeout(seconds).await?;
///     Ok(pending.is_empty())
/// }
///
/// let tasks = [1.0, 2.0].map(|seconds| create_task(sleep(seconds)));
/// assert!(!all_within(1.5, &tasks).await?);
/// assert!(all_within(1.5, &tasks).await?);
/// # Ok(())
/// # }).unwrap();
/// ```
pub trait Waitable {
    #[doc(hidden)]
    fn waited(&self) -> RawHandle<'_>;
}

/// A future whose type does not matter.
#[doc(hidden)]
#[derive(Debug)]
pub struct RawHandle<'a>(&'a RawFuture);

impl<T> Waitable for Task<T> {
    fn waited(&self) -> RawHandle<'_> {
        RawHandle(self.raw())
    }
}

impl<T> Waitable for Future<T> {
    fn waited(&self) -> RawHandle<'_> {
        RawHandle(self.raw())
    }
}

impl Waitable for AnyTask {
    fn waited(&self) -> RawHandle<'_> {
        RawHandle(self.raw())
    }
}

impl<W: Waitable> Waitable for &W {
    fn waited(&self) -> RawHandle<'_> {
        (**self).waited()
    }
}

/// The future of [`wait`](fn@wait).
///
/// Dropping it, like cancelling it, changes nothing for what it waits for.
#[must_use = "wait does nothing unless it is awaited"]
pub struct WaitAll<W: Waitable> {
    handles: Vec<W>,
    timeout: Option<Delay>,
    return_when: ReturnWhen,
    state: State,
    wait: Wait,
}

enum State {
    New,
    Waiting { counter: HookRef, release: Rc<Counter>, timer: Option<Armed> },
    Done,
}

/// Counts those that are done, and releases the waiter.
struct Counter {
    left: Cell<usize>,
    return_when: ReturnWhen,
    /// What is waited for, by the index of its callback.
    raws: Vec<RawFuture>,
    token: Cell<Option<Token>>,
}

struct Count(Rc<Counter>);

impl Hook for Count {
    fn run(&self, _: &LoopCore, index: u32) {
        let counter = &self.0;
        counter.left.set(counter.left.get().saturating_sub(1));
        let failed = || {
            let raw = counter.raws.get(index as usize).filter(|raw| !raw.is_cancelled());
            raw.and_then(RawFuture::retrieve_error).is_some()
        };
        let enough = counter.left.get() == 0
            || match counter.return_when {
                ReturnWhen::AllCompleted => false,
                ReturnWhen::FirstCompleted => true,
                ReturnWhen::FirstException => failed(),
            };
        if enough && let Some(token) = counter.token.take() {
            token.fire();
        }
    }

    fn children(&self) -> &[RawFuture] {
        &self.0.raws
    }
}

impl<W: Waitable> WaitAll<W> {
    /// Returns after this time at the latest. `None` waits without a limit.
    pub fn timeout(mut self, timeout: impl IntoTimeout) -> Self {
        self.timeout = timeout.into_timeout();
        self
    }

    /// When to return; [`ReturnWhen::AllCompleted`] unless told otherwise.
    pub fn return_when(mut self, return_when: ReturnWhen) -> Self {
        self.return_when = return_when;
        self
    }

    fn start(&mut self, cx: &Context<'_>) -> Result<()> {
        if self.handles.is_empty() {
            return Err(Error::value("nothing to wait for: the set of futures is empty"));
        }
        let timeout = self.timeout.map(Delay::duration).transpose()?;
        let token = self.register(cx)?;
        let timer = timeout.and_then(|delay| {
            home::with(|core| {
                let target = TimerTarget::wake(token.clone());
                let key = if delay.is_zero() {
                    core.start_at(core.now(), target)
                } else {
                    core.timers.start(saturating_nanos(delay), || target, || core.now())
                };
                Armed::new(core, key)
            })
        });
        let raws = awaitable::distinct(self.handles.iter().map(|handle| handle.waited().0.clone()).collect());
        let release = Rc::new(Counter {
            left: Cell::new(raws.len()),
            return_when: self.return_when,
            raws,
            token: Cell::new(Some(token)),
        });
        let counter: HookRef = Rc::new(Box::new(Count(Rc::clone(&release))));
        home::with(|core| core.remember(&counter));
        for (index, raw) in (0..).zip(&release.raws) {
            raw.add_callback(Callback::Hook(Rc::clone(&counter), index));
        }
        self.state = State::Waiting { counter, release, timer };
        Ok(())
    }

    fn register(&mut self, cx: &Context<'_>) -> Result<Token> {
        let token = self.wait.register_for(cx, Awaited::Futures)?;
        let here = home::home();
        if let Some(stranger) = self.handles.iter().map(|handle| handle.waited().0).find(|raw| raw.core().id() != here)
        {
            self.wait.release();
            return Err(Error::value(format!("a future of another event loop was given to wait: {stranger:?}")));
        }
        Ok(token)
    }

    /// Another task polls it: that one is released from now on, at the same deadline. Returns whether it has to wait.
    #[cold]
    fn move_here(&mut self, cx: &Context<'_>) -> Result<bool> {
        let token = self.register(cx)?;
        let State::Waiting { release, timer, .. } = &self.state else { return Ok(false) };
        if release.token.take().is_none() {
            // It was released, in the task before.
            self.wait.release();
            return Ok(false);
        }
        if timer.as_ref().is_some_and(|timer| !timer.retarget(token.clone())) {
            // Its time has come already, for the task before. To fire here would never end where two tasks poll it in turns.
            self.wait.release();
            return Ok(false);
        }
        release.token.set(Some(token));
        Ok(true)
    }

    fn stop(&mut self) {
        if let State::Waiting { counter, release, timer } = std::mem::replace(&mut self.state, State::Done) {
            if let Some(timer) = timer {
                timer.disarm();
            }
            for raw in &release.raws {
                raw.remove_hook(&counter);
            }
            release.token.set(None);
        }
    }
}

impl<W: Waitable + Unpin> StdFuture for WaitAll<W> {
    type Output = Result<(Vec<W>, Vec<W>)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let State::New = this.state {
            return match this.start(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            };
        }
        if this.wait.is_registered() {
            match this.wait.poll(cx) {
                WaitPoll::Pending => return Poll::Pending,
                WaitPoll::Fired => (),
                WaitPoll::Cancelled(error) => {
                    this.stop();
                    return Poll::Ready(Err(error));
                }
                WaitPoll::Moved(_) => match this.move_here(cx) {
                    Ok(true) => return Poll::Pending,
                    Ok(false) => (),
                    Err(error) => {
                        this.stop();
                        return Poll::Ready(Err(error));
                    }
                },
            }
        }
        this.stop();
        Poll::Ready(Ok(std::mem::take(&mut this.handles).into_iter().partition(|handle| handle.waited().0.is_done())))
    }
}

impl<W: Waitable> Drop for WaitAll<W> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<W: Waitable> fmt::Debug for WaitAll<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitAll")
            .field("handles", &self.handles.len())
            .field("timeout", &self.timeout)
            .field("return_when", &self.return_when)
            .finish_non_exhaustive()
    }
}
