//! [`sleep`] and the bare yield.

use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use aioli_timers::TimerKey;

use crate::await_point::{Token, Wait, WaitPoll};
use crate::awaited::Awaited;
use crate::cancel;
use crate::delay::{Delay, IntoDelay, saturating_nanos};
use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::LoopCore;
use crate::task::header::flag;
use crate::task::{PollWaker, home};
use crate::timer::TimerTarget;

/// Suspends the task for some time: asyncio's `sleep`.
///
/// Zero and less is a bare yield: every other task that is ready runs before this one goes on. The time counts from the end of the
/// step in which the sleep was first polled, and never ends early.
///
/// # Errors
/// Cancelled; `Value` if the delay is a number of seconds that is not finite; `Runtime` outside of a task.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{get_running_loop, sleep};
/// use std::time::Duration;
///
/// let before = get_running_loop()?.time();
/// sleep(Duration::from_millis(20)).await?;
/// sleep(0.5).await?;
/// assert_eq!(get_running_loop()?.time() - before, Duration::from_millis(520));
/// # Ok(())
/// # }).unwrap();
/// ```
#[inline]
pub fn sleep(delay: impl IntoDelay) -> Sleep {
    let (phase, value) = match delay.into_delay() {
        Delay::For(delay) if !delay.is_zero() => (Phase::New, saturating_nanos(delay)),
        Delay::For(_) | Delay::Past => (Phase::Yield, 0),
        Delay::Invalid => (Phase::Invalid, 0),
    };
    Sleep { phase, value, wait: ManuallyDrop::new(Wait::new()) }
}

/// The future of [`sleep`].
///
/// Dropping it disarms its timer. It may be moved to another task between two polls.
#[derive(Debug)]
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep {
    phase: Phase,
    /// What the phase says.
    value: u64,
    /// Registered in some phases only: nearly every sleep is dropped with nothing left to do, and its phase tells so.
    wait: ManuallyDrop<Wait>,
}

/// Beside its value and not around it: a sleep is moved into its task field by field, without a detour over memory.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    /// A bare yield, not polled yet.
    Yield,
    /// A yield that left no trace; the turn in which it began.
    Yielded,
    /// Not polled yet; the delay in nanoseconds.
    New,
    /// Registered; the key of its timer.
    Armed,
    /// A yield that is registered; the turn in which it began.
    Watched,
    Invalid,
    /// A waker panicked in the middle of a move to another task.
    Lost,
    Done,
}

/// The timer of a sleep that leaves its task, disarmed unless it is taken along.
struct Left<'a> {
    core: &'a LoopCore,
    key: Option<TimerKey>,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        drop(self.key.take().and_then(|key| self.core.disarm(key)));
    }
}

impl std::future::Future for Sleep {
    type Output = Result<()>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let waker = PollWaker::of(cx);
        match this.phase {
            Phase::Yield => this.begin_yield(waker),
            Phase::Yielded => this.end_yield(waker),
            Phase::New => this.arm(waker),
            Phase::Armed => this.check(waker),
            Phase::Watched => this.end_requested(waker),
            Phase::Invalid => Poll::Ready(Err(Delay::error())),
            Phase::Lost => Poll::Ready(Err(lost())),
            Phase::Done => Poll::Ready(Ok(())),
        }
    }
}

impl Sleep {
    fn set(&mut self, phase: Phase, value: u64) {
        (self.phase, self.value) = (phase, value);
    }

    fn arm(&mut self, waker: PollWaker<'_>) -> Poll<Result<()>> {
        let delay = self.value;
        let armed = home::with_task(|core, task| {
            let token = self.wait.register_inline(task, waker, None, Awaited::Time)?;
            Some(core.timers.start(delay, || TimerTarget::wake(token), || core.now()))
        });
        if let Some(key) = armed.flatten() {
            self.set(Phase::Armed, key.to_bits());
            return Poll::Pending;
        }
        self.arm_beside_others(waker)
    }

    #[cold]
    fn arm_beside_others(&mut self, waker: PollWaker<'_>) -> Poll<Result<()>> {
        let token = match self.wait.register_by(waker, Awaited::Time) {
            Ok(token) => token,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let key = home::with(|core| core.timers.start(self.value, || TimerTarget::wake(token), || core.now()));
        self.set(Phase::Armed, key.map_or(0, TimerKey::to_bits));
        Poll::Pending
    }

    fn check(&mut self, waker: PollWaker<'_>) -> Poll<Result<()>> {
        match self.wait.poll_with(waker) {
            WaitPoll::Pending => Poll::Pending,
            WaitPoll::Fired => {
                self.phase = Phase::Done;
                Poll::Ready(Ok(()))
            }
            WaitPoll::Cancelled(error) => {
                self.phase = Phase::Done;
                drop(home::with(|core| TimerKey::from_bits(self.value).and_then(|key| core.disarm(key))));
                Poll::Ready(Err(error))
            }
            WaitPoll::Moved(before) => self.move_here(&before, waker),
        }
    }

    /// Another task polls the sleep: its timer wakes that one from now on.
    #[cold]
    fn move_here(&mut self, before: &Token, waker: PollWaker<'_>) -> Poll<Result<()>> {
        // Should the waker panic when it is cloned, this is a sleep without a timer.
        let mut left = Left { core: before.core(), key: TimerKey::from_bits(self.value) };
        self.phase = Phase::Lost;
        let registered = if before.core().id() == home::home() {
            self.wait.register_by(waker, Awaited::Time)
        } else {
            Err(Error::fixed(ErrorKind::Runtime, &"the sleep belongs to a different event loop"))
        };
        let token = match registered {
            Ok(token) => token,
            Err(error) => {
                self.phase = Phase::Done;
                return Poll::Ready(Err(error));
            }
        };
        self.phase = Phase::Armed;
        let target = TimerTarget::wake(token);
        let key = left.key.take();
        if home::with(|core| key.and_then(|key| core.timers.retarget(key, target))).flatten().is_none() {
            // It has fired already, for the task before. To fire again here would never end where two tasks poll the sleep in turns.
            self.wait.release();
            self.phase = Phase::Done;
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Withdraws what is registered, and disarms the timer in the loop that has it, which need not be the one that runs.
    #[inline(never)]
    fn withdraw(&mut self) {
        let armed = std::mem::replace(&mut self.phase, Phase::Done) == Phase::Armed;
        if let Some(task) = self.wait.task().filter(|_| armed) {
            match TimerKey::from_bits(self.value).and_then(|key| task.core().disarm(key)) {
                Some(TimerTarget::Wake(other, _)) => other.drop_beside(task),
                target => drop(target),
            }
        }
        self.wait.release();
    }

    /// A yield leaves no trace but its task's place in the queue, and ends by itself when a later turn polls it. Only where a request
    /// is open does it register, to be found; and under a combinator, where it is a timer that is due at once.
    #[inline(always)]
    fn begin_yield(&mut self, waker: PollWaker<'_>) -> Poll<Result<()>> {
        let plain = home::with_task(|core, task| {
            let head = task.head();
            if head.header.has(flag::REQUESTED | flag::DONE) || !waker.is_own(task) {
                return None;
            }
            if !head.queued.get() {
                core.push_task(task);
            }
            Some(core.turn())
        });
        match plain.flatten() {
            Some(turn) => {
                self.set(Phase::Yielded, turn);
                Poll::Pending
            }
            None => self.begin_registered(waker),
        }
    }

    #[cold]
    fn begin_registered(&mut self, waker: PollWaker<'_>) -> Poll<Result<()>> {
        let token = match self.wait.register_by(waker, Awaited::Turn) {
            Ok(token) => token,
            Err(error) => return Poll::Ready(Err(error)),
        };
        self.phase = Phase::Watched;
        home::with_task(|core, task| {
            if waker.is_own(task) {
                task.wake();
                self.value = core.turn();
            } else {
                self.set(Phase::Armed, core.start_now(TimerTarget::wake(token)).to_bits());
            }
        });
        Poll::Pending
    }

    #[inline(always)]
    fn end_yield(&mut self, waker: PollWaker<'_>) -> Poll<Result<()>> {
        let turn = self.value;
        let plain = home::with_task(|core, task| core.turn() != turn && !task.head().is_requested()).unwrap_or(false);
        // It stays a yield of an earlier turn, which has nothing to undo: nothing is written.
        if plain {
            return Poll::Ready(Ok(()));
        }
        self.end_requested(waker)
    }

    #[cold]
    fn end_requested(&mut self, waker: PollWaker<'_>) -> Poll<Result<()>> {
        let turn = self.value;
        let later = home::with(|core| core.turn() != turn).unwrap_or(true);
        let cancelled = if self.wait.is_registered() {
            let again = self.wait.token().is_some_and(|token| token.must_cancel());
            match self.wait.poll_with(waker) {
                // Of several requests that come during a yield, the last one's message counts.
                WaitPoll::Cancelled(first) if again => Some(last_request().unwrap_or(first)),
                WaitPoll::Cancelled(error) => Some(error),
                _ => None,
            }
        } else if later {
            home::with_task(|_, task| cancel::take_open(task)).flatten().map(|first| last_request().unwrap_or(first))
        } else {
            None
        };
        if cancelled.is_none() && !later {
            // Polled again in the same turn: whoever polls has to come back.
            waker.with(Waker::wake_by_ref);
            return Poll::Pending;
        }
        self.wait.release();
        self.phase = Phase::Done;
        Poll::Ready(cancelled.map_or(Ok(()), Err))
    }
}

#[cold]
fn lost() -> Error {
    let text = &"the sleep was given up: a waker panicked when another task polled it";
    Error::fixed(ErrorKind::Runtime, text)
}

/// The error of the last request of the task that runs or of one of its scopes.
fn last_request() -> Option<Error> {
    home::with_task(|_, task| Error::cancelled_with(task.head().cancel_message()))
}

impl Drop for Sleep {
    #[inline(always)]
    fn drop(&mut self) {
        if matches!(self.phase, Phase::Armed | Phase::Watched) {
            self.withdraw();
        }
    }
}
