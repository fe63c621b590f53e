//! [`timeout`]: a deadline for a stretch of code.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project::pin_project;

use crate::cancel;
use crate::delay::{Delay, IntoDelay};
use crate::error::{Error, ErrorKind, Result};
use crate::scope::{BodyPoll, Scope, ScopeNode};
use crate::task::{LoopRef, home};
use crate::time::Instant;
use crate::timer::{Armed, TimerTarget};

/// Runs `body` with a deadline, `delay` from now: asyncio's `timeout`.
///
/// When it passes, what the body awaits returns Cancelled; the body may clean up with further awaits, and `timeout` returns
/// `Timeout` when it has ended. A body that swallows the cancellation gives its own result. The body is polled in the caller's task
/// and may borrow.
///
/// # Errors
/// `Timeout` if the deadline passed; else what the body returns. `Value` if the delay is not finite. `Runtime` outside of a task.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{sleep, timeout};
/// use std::time::Duration;
///
/// let mut log = Vec::new();
/// let late = timeout(Duration::from_millis(50), async {
///     let interrupted = sleep(Duration::from_secs(9)).await;
///     sleep(Duration::from_millis(10)).await?; // cleanup
///     log.push("cleaned up");
///     interrupted
/// });
/// assert!(late.await.unwrap_err().is_timeout());
/// assert_eq!(log, ["cleaned up"]);
/// # Ok(())
/// # }).unwrap();
/// ```
pub fn timeout<F, T>(delay: impl IntoDelay, body: F) -> Timed<F::IntoFuture>
where
    F: IntoFuture<Output = Result<T>>,
{
    Timeout::after(delay).run(body)
}

/// Runs `body` with a deadline at a point on the loop's clock: asyncio's `timeout_at`. Several stretches of code can share one.
///
/// # Errors
/// As [`timeout`].
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{get_running_loop, sleep, timeout_at};
/// use std::time::Duration;
///
/// let deadline = get_running_loop()?.time() + Duration::from_secs(5);
/// timeout_at(deadline, sleep(Duration::from_secs(3))).await?;
/// // Two seconds are left.
/// assert!(timeout_at(deadline, sleep(Duration::from_secs(3))).await.unwrap_err().is_timeout());
/// assert_eq!(get_running_loop()?.time(), deadline);
/// # Ok(())
/// # }).unwrap();
/// ```
pub fn timeout_at<F, T>(when: Instant, body: F) -> Timed<F::IntoFuture>
where
    F: IntoFuture<Output = Result<T>>,
{
    Timeout::at(Some(when)).run(body)
}

/// A deadline that can be moved while the body runs: the object that asyncio's `async with timeout()` gives.
///
/// Clones are the same deadline. It is armed when its body is first polled.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Timeout, get_running_loop, sleep};
/// use std::time::Duration;
///
/// let deadline = Timeout::after(Duration::from_secs(1));
/// let inside = deadline.clone();
/// deadline.run(async move {
///     inside.reschedule(Some(get_running_loop()?.time() + Duration::from_secs(60)))?;
///     sleep(Duration::from_secs(30)).await
/// }).await?;
/// assert!(!deadline.expired());
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Timeout {
    state: Rc<TimeoutState>,
}

pub(crate) struct TimeoutState {
    phase: Cell<Phase>,
    when: Cell<Option<Instant>>,
    invalid: Cell<bool>,
    /// The delay of a deadline that was made outside of a loop: it counts from when the body is first polled.
    unstarted: Cell<Option<Duration>>,
    timer: Cell<Option<Armed>>,
    scope: RefCell<Option<Rc<ScopeNode>>>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    Created,
    Active,
    Expiring,
    Expired,
    Exited,
}

impl Timeout {
    /// A deadline some time from now. Outside of a loop, where there is no clock: from when its body is first polled.
    pub fn after(delay: impl IntoDelay) -> Self {
        let delay = delay.into_delay();
        let length = match delay {
            Delay::For(delay) => delay,
            Delay::Past | Delay::Invalid => Duration::ZERO,
        };
        let now = home::with(|core| core.now());
        let timeout = Self::at(now.map(|now| now + length));
        if now.is_none() {
            timeout.state.unstarted.set(Some(length));
        }
        timeout.state.invalid.set(delay == Delay::Invalid);
        timeout
    }

    /// A deadline at a point on the loop's clock; `None` for none.
    pub fn at(when: Option<Instant>) -> Self {
        let state = TimeoutState {
            phase: Cell::new(Phase::Created),
            when: Cell::new(when),
            invalid: Cell::new(false),
            unstarted: Cell::new(None),
            timer: Cell::new(None),
            scope: RefCell::new(None),
        };
        Timeout { state: Rc::new(state) }
    }

    /// When the deadline is; `None` for never. asyncio's `Timeout.when`.
    pub fn when(&self) -> Option<Instant> {
        self.state.when.get()
    }

    /// Whether the deadline passed while the body ran: asyncio's `Timeout.expired`.
    pub fn expired(&self) -> bool {
        matches!(self.state.phase.get(), Phase::Expiring | Phase::Expired)
    }

    /// Moves the deadline: asyncio's `Timeout.reschedule`. `None` is never; with a point in the past the body is asked to end in the
    /// next turn.
    ///
    /// # Errors
    /// `Runtime` if the body does not run: not yet, not any more, or the deadline has passed.
    pub fn reschedule(&self, when: Option<Instant>) -> Result<()> {
        let text: &'static &'static str = match self.state.phase.get() {
            Phase::Active => {
                self.state.disarm();
                self.state.when.set(when);
                self.state.arm_again();
                return Ok(());
            }
            Phase::Created => &"the timeout has not been entered",
            Phase::Expiring => &"cannot change the state of an expiring timeout",
            Phase::Expired => &"cannot change the state of an expired timeout",
            Phase::Exited => &"cannot change the state of a finished timeout",
        };
        Err(Error::fixed(ErrorKind::Runtime, text))
    }

    /// Runs the body under this deadline, once. See [`timeout`].
    ///
    /// # Errors
    /// As [`timeout`]; `Runtime` if the deadline was used before.
    pub fn run<F, T>(&self, body: F) -> Timed<F::IntoFuture>
    where
        F: IntoFuture<Output = Result<T>>,
    {
        Timed { state: Rc::clone(&self.state), run: Run::default(), body: Some(body.into_future()) }
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("phase", &self.state.phase.get()).field("when", &self.when()).finish()
    }
}

impl TimeoutState {
    fn disarm(&self) {
        if let Some(timer) = self.timer.take() {
            timer.disarm();
        }
    }

    fn arm(self: &Rc<Self>, core: &LoopRef) {
        let Some(when) = self.when.get() else { return };
        let target = TimerTarget::Timeout(Rc::clone(self));
        let key = if when <= core.now() { core.start_now(target) } else { core.start_at(when, target) };
        self.timer.set(Some(Armed::new(core, key)));
    }

    /// Arms it in the loop of its task, which need not be the one that runs.
    fn arm_again(self: &Rc<Self>) {
        let scope = self.scope.borrow().clone();
        let Some(core) = scope.map(|scope| scope.task().raw().shared_core()) else { return };
        if !core.is_closed() {
            self.arm(&core);
        }
    }

    /// The deadline has passed: what the body awaits is cancelled.
    pub(crate) fn expire(&self) {
        self.timer.set(None);
        let scope = self.scope.borrow().clone();
        if let (Phase::Active, Some(scope)) = (self.phase.get(), scope) {
            self.phase.set(Phase::Expiring);
            cancel::cancel_scope(&scope, None);
        }
    }
}

/// A body that runs under a deadline, see [`timeout`].
///
/// Dropping it drops the body, and disarms the deadline.
#[pin_project(PinnedDrop)]
#[must_use = "the body does not run unless this is awaited"]
pub struct Timed<F> {
    state: Rc<TimeoutState>,
    run: Run,
    #[pin]
    body: Option<F>,
}

/// The scope of a body that runs.
#[derive(Default)]
struct Run {
    scope: Scope,
}

impl<F, T> std::future::Future for Timed<F>
where
    F: std::future::Future<Output = Result<T>>,
{
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let mut this = self.project();
        if let Err(error) = this.run.enter(this.state, cx) {
            return Poll::Ready(Err(error));
        }
        let Some(body) = this.body.as_mut().as_pin_mut() else { return Poll::Pending };
        let result = match this.run.scope.poll_body(cx, body) {
            BodyPoll::Pending => return Poll::Pending,
            BodyPoll::Ready(result) => result,
            BodyPoll::Abandon => Err(this.run.scope.abandon()),
        };
        this.body.set(None);
        Poll::Ready(this.run.leave(this.state, result))
    }
}

impl Run {
    fn enter(&mut self, state: &Rc<TimeoutState>, cx: &Context<'_>) -> Result<()> {
        let first = self.scope.node().is_none();
        if first && state.invalid.get() {
            return Err(Delay::error());
        }
        if first && state.phase.get() != Phase::Created {
            return Err(Error::fixed(ErrorKind::Runtime, &"the timeout has already been entered"));
        }
        let node = self.scope.enter(cx, &"a timeout is used inside of a task")?;
        if first {
            state.scope.replace(Some(node));
            home::with(|core| {
                if let Some(delay) = state.unstarted.take() {
                    state.when.set(Some(core.now() + delay));
                }
                state.phase.set(Phase::Active);
                state.arm(core);
            });
        }
        Ok(())
    }

    /// The body has ended: the scope takes its request back, and tells a timeout from a cancellation.
    fn leave<T>(&mut self, state: &TimeoutState, result: Result<T>) -> Result<T> {
        state.disarm();
        let expiring = state.phase.get() == Phase::Expiring;
        state.phase.set(if expiring { Phase::Expired } else { Phase::Exited });
        let around = self.scope.node().map_or(0, |node| node.around.get());
        let left = self.scope.leave(expiring);
        drop(state.scope.take());
        match result {
            Err(error) if expiring && error.is_cancelled() && left <= around => Err(Error::timeout()),
            result => result,
        }
    }
}

#[pin_project::pinned_drop]
impl<F> PinnedDrop for Timed<F> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        // Also if the body's destructor panics.
        let _given_up = GivenUp(this.state, this.run);
        this.body.set(None);
    }
}

/// Ends a run whose body is dropped.
struct GivenUp<'a>(&'a TimeoutState, &'a mut Run);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        let GivenUp(state, run) = self;
        if run.scope.node().is_some() {
            state.disarm();
            let scope = state.scope.take();
            run.scope.exit();
            state.phase.set(Phase::Exited);
            drop(scope);
        }
    }
}

impl<F> fmt::Debug for Timed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timed").field("phase", &self.state.phase.get()).field("when", &self.state.when.get()).finish()
    }
}
