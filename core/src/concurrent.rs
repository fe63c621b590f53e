//! [`ConcurrentFuture`]: the result of a coroutine for the threads that the loop does not run on.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::callback::{Callback, Hook, HookRef};
use crate::cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::LoopCore;
use crate::registry::Entry;
use crate::remote::RemoteLoop;
use crate::report::Report;
use crate::task::{FutureRef, home};
use crate::tasks::TaskBuilder;
use crate::unpoisoned::Unpoisoned;

/// The result of a coroutine that runs on a loop, for any other thread: the `concurrent.futures.Future` that asyncio's
/// `run_coroutine_threadsafe` returns.
///
/// A thread blocks on it with [`result`](Self::result); a task of any runtime, this one's included, awaits it. Both take the value.
/// Dropping it detaches the coroutine, whose error is then reported to its loop's exception handler.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Event, get_running_loop, to_thread};
///
/// let remote = get_running_loop()?.remote();
/// let answer = to_thread(move || {
///     let slow = remote.run_coroutine_threadsafe(async || Event::new().wait().await); // nobody sets it
///     assert!(slow.cancel());
///     assert!(slow.result().unwrap_err().is_cancelled());
///     remote.run_coroutine_threadsafe(async || Ok(42)).result() // blocks this thread, not the loop
/// });
/// assert_eq!(answer.await?, 42);
/// # Ok(())
/// # }).unwrap();
/// ```
pub struct ConcurrentFuture<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    remote: RemoteLoop,
    state: Mutex<State<T>>,
    done: Condvar,
}

struct State<T> {
    phase: Phase<T>,
    /// What the task is registered under.
    task: Option<u64>,
    /// Whoever awaits the result.
    waker: Option<Waker>,
    /// The handle was dropped.
    abandoned: bool,
}

enum Phase<T> {
    Pending,
    Value(T),
    Taken,
    Failed {
        error: Error,
        /// Nobody has seen it yet.
        unseen: bool,
    },
    Cancelled(Error),
}

impl RemoteLoop {
    /// Runs a coroutine on the loop, from any thread: asyncio's `run_coroutine_threadsafe`.
    ///
    /// `make` is called on the loop's thread and makes the coroutine there, which therefore need not be `Send`: an `async` closure,
    /// or a function. A future that is `Send` is passed as `move || future`. The coroutine becomes a task, in the context that holds
    /// here.
    ///
    /// If `make` panics, the result is that error, and it is reported to the loop's exception handler as well. If the loop is closed,
    /// or closes before the coroutine has ended, the result is a `Runtime` error.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_core::{get_running_loop, sleep, to_thread};
    /// use std::time::Duration;
    ///
    /// let remote = get_running_loop()?.remote();
    /// let sum = to_thread(move || {
    ///     let one = remote.run_coroutine_threadsafe(async || sleep(Duration::from_secs(1)).await.map(|()| 1));
    ///     let two = remote.run_coroutine_threadsafe(async || Ok(2));
    ///     Ok(one.result()? + two.result()?)
    /// });
    /// assert_eq!(sum.await?, 3);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn run_coroutine_threadsafe<F, C, T>(&self, make: F) -> ConcurrentFuture<T>
    where
        F: FnOnce() -> C + Send + 'static,
        C: Future<Output = Result<T>> + 'static,
        T: Send + 'static,
    {
        let location = Location::caller();
        let state = State { phase: Phase::Pending, task: None, waker: None, abandoned: false };
        let shared = Arc::new(Shared { remote: self.clone(), state: Mutex::new(state), done: Condvar::new() });
        let promise = Promise { shared: Arc::clone(&shared) };
        // A closed loop drops the promise, which settles it.
        let _ = self.call_soon_threadsafe(move || promise.begin(location, make));
        ConcurrentFuture { shared }
    }
}

impl<T> ConcurrentFuture<T> {
    /// Whether there is a result, or it was cancelled: `concurrent.futures.Future.done`.
    pub fn done(&self) -> bool {
        !matches!(self.shared.state.lock().unpoisoned().phase, Phase::Pending)
    }

    /// Whether it was cancelled, here or by the coroutine's task: `concurrent.futures.Future.cancelled`.
    pub fn cancelled(&self) -> bool {
        matches!(self.shared.state.lock().unpoisoned().phase, Phase::Cancelled(_))
    }

    /// Cancels it, unless it is done: it counts as cancelled from now on, and the coroutine's task is asked to end, which takes its
    /// time on the loop. Returns whether it is cancelled. `concurrent.futures.Future.cancel`.
    pub fn cancel(&self) -> bool {
        let mut state = self.shared.state.lock().unpoisoned();
        match state.phase {
            Phase::Pending => (),
            Phase::Cancelled(_) => return true,
            Phase::Value(_) | Phase::Taken | Phase::Failed { .. } => return false,
        }
        let task = state.task;
        let waker = self.shared.settle(&mut state, Phase::Cancelled(Error::cancelled(None)));
        drop(state);
        if let Some(task) = task {
            self.shared.cancel_task(task);
        }
        wake(waker);
        true
    }

    /// Blocks until there is a result, and takes it: `concurrent.futures.Future.result`. A loop that does not run makes none, until
    /// it runs or closes.
    ///
    /// # Errors
    /// The error that the coroutine ended with; Cancelled; `Runtime` if the loop closed, or if this is called on the loop's own
    /// thread while the result is not there, which would block for ever; `InvalidState` if the value was taken before.
    pub fn result(&self) -> Result<T> {
        self.wait(None)
    }

    /// As [`result`](Self::result), for some time at most. The time is real time, also if the loop's clock is virtual. The
    /// coroutine goes on if it has passed.
    ///
    /// # Errors
    /// As [`result`](Self::result); `Timeout` if the time has passed.
    pub fn result_timeout(&self, timeout: Duration) -> Result<T> {
        self.wait(Instant::now().checked_add(timeout))
    }

    fn wait(&self, deadline: Option<Instant>) -> Result<T> {
        let mut state = self.shared.state.lock().unpoisoned();
        while let Phase::Pending = state.phase {
            if home::home() == self.shared.remote.id() {
                return Err(Error::fixed(
                    ErrorKind::Runtime,
                    &"blocking on a coroutine's result on the thread of its own loop would last for ever: await it instead",
                ));
            }
            match deadline {
                None => state = self.shared.done.wait(state).unpoisoned(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let late;
                    (state, late) = self.shared.done.wait_timeout(state, left).unpoisoned();
                    if late.timed_out() && matches!(state.phase, Phase::Pending) {
                        return Err(Error::timeout());
                    }
                }
            }
        }
        state.take()
    }
}

impl<T> State<T> {
    /// The result, which is there.
    fn take(&mut self) -> Result<T> {
        match &mut self.phase {
            Phase::Failed { error, unseen } => {
                *unseen = false;
                return Err(error.clone());
            }
            Phase::Cancelled(error) => return Err(error.clone()),
            _ => (),
        }
        match std::mem::replace(&mut self.phase, Phase::Taken) {
            Phase::Value(value) => Ok(value),
            _ => Err(Error::fixed(ErrorKind::InvalidState, &"the result was already taken")),
        }
    }
}

impl<T> Shared<T> {
    /// Ends it. The waker is for whoever awaits it, to be woken when nothing is locked.
    #[must_use]
    fn settle(&self, state: &mut State<T>, phase: Phase<T>) -> Option<Waker> {
        state.phase = phase;
        self.done.notify_all();
        state.waker.take()
    }

    /// Has the loop cancel the task.
    fn cancel_task(&self, number: u64) {
        // A closed loop has ended it.
        let _ = self.remote.call_soon_threadsafe(move || {
            let raw = home::with(|core| core.registry.future(number)).flatten();
            if let Some(raw) = raw {
                cancel::cancel(&raw, None);
            }
        });
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Takes the value. Cancelling a task that awaits this leaves the coroutine alone: [`cancel`](ConcurrentFuture::cancel) ends it.
impl<T> Future for ConcurrentFuture<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        // To clone a waker, and to drop one, is somebody else's code: nothing is locked meanwhile.
        let mut fresh = None;
        let mut state = self.shared.state.lock().unpoisoned();
        loop {
            if !matches!(state.phase, Phase::Pending) {
                let result = state.take();
                drop(state);
                return Poll::Ready(result);
            }
            if state.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            if let Some(fresh) = fresh.take() {
                let old = state.waker.replace(fresh);
                drop(state);
                drop(old);
                return Poll::Pending;
            }
            drop(state);
            fresh = Some(cx.waker().clone());
            state = self.shared.state.lock().unpoisoned();
        }
    }
}

impl<T> Drop for ConcurrentFuture<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unpoisoned();
        state.abandoned = true;
        let waker = state.waker.take();
        let phase = match state.phase {
            // The loop has to know of it, also if it has not made the coroutine yet.
            Phase::Pending | Phase::Cancelled(_) => None,
            _ => Some(std::mem::replace(&mut state.phase, Phase::Taken)),
        };
        drop(state);
        drop(waker);
        if let Some(Phase::Failed { error, unseen: true }) = phase {
            let report = move || {
                let report = Report::new("exception of a coroutine from another thread was never retrieved");
                home::with(|core| core.report(report.with_error(error)));
            };
            // With the loop its exception handler has gone.
            let _ = self.shared.remote.call_soon_threadsafe(report);
        }
    }
}

impl<T> fmt::Debug for ConcurrentFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.shared.state.lock().unpoisoned().phase {
            Phase::Pending => "<ConcurrentFuture pending>",
            Phase::Cancelled(_) => "<ConcurrentFuture cancelled>",
            Phase::Value(_) | Phase::Taken | Phase::Failed { .. } => "<ConcurrentFuture finished>",
        })
    }
}

/// The loop's side of a [`ConcurrentFuture`]. Dropped unsettled, it settles it: the loop has closed.
struct Promise<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send + 'static> Promise<T> {
    /// Makes the coroutine and its task, on the loop.
    fn begin<F, C>(self, location: &'static Location<'static>, make: F)
    where
        F: FnOnce() -> C,
        C: Future<Output = Result<T>> + 'static,
    {
        let Some(core) = home::current() else { return };
        let coroutine = match catch_unwind(AssertUnwindSafe(make)) {
            Ok(coroutine) => coroutine,
            Err(panic) => {
                let error = Error::panicked(panic);
                let mut report = Report::new("exception in callback").with_error(error.clone());
                report.location = Some(location);
                self.fail(error);
                return core.report(report);
            }
        };
        let task = TaskBuilder::new().create_on(&core, location, coroutine);
        let number = core.register(Entry::Future(task.raw().clone()));
        let mut state = self.shared.state.lock().unpoisoned();
        state.task = Some(number);
        let cancelled = matches!(state.phase, Phase::Cancelled(_));
        drop(state);
        if cancelled {
            self.shared.cancel_task(number);
        }
        let hook: HookRef = Rc::new(Box::new(Ended { promise: self, number }));
        task.raw().add_callback(Callback::Hook(hook, 0));
    }
}

impl<T> Promise<T> {
    /// Ends it with an error, if it is pending still.
    fn fail(&self, error: Error) {
        let mut state = self.shared.state.lock().unpoisoned();
        let waker = match state.phase {
            Phase::Pending => self.shared.settle(&mut state, Phase::Failed { error, unseen: false }),
            _ => None,
        };
        drop(state);
        wake(waker);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let closed = Error::fixed(ErrorKind::Runtime, &"the event loop closed before the coroutine had ended");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.fail(closed))) {
            home::with(|core| core.report_panic("a waker panicked", panic));
        }
    }
}

/// The task of the coroutine has ended.
struct Ended<T> {
    promise: Promise<T>,
    number: u64,
}

impl<T: Send + 'static> Hook for Ended<T> {
    fn run(&self, core: &LoopCore, _: u32) {
        let Some(cell) = core.registry.take_future(self.number).and_then(FutureRef::<T>::downcast) else { return };
        let shared = &self.promise.shared;
        let mut state = shared.state.lock().unpoisoned();
        if state.abandoned || !matches!(state.phase, Phase::Pending) {
            // Nobody wants it. An error stays with the task, to be reported.
            drop(state);
            return drop(cell);
        }
        let phase = match cell.take() {
            Ok(value) => Phase::Value(value),
            Err(error) if cell.raw().is_cancelled() => Phase::Cancelled(error),
            Err(error) => Phase::Failed { error, unseen: true },
        };
        let waker = shared.settle(&mut state, phase);
        drop(state);
        wake(waker);
    }
}
