//! [`sleep`] and the bare yield.

use std::pin::Pin;
use std::task::{Context, Poll};

use aioli_timers::TimerKey;

use crate::await_point::{Wait, WaitPoll};
use crate::cancel;
use crate::delay::{Delay, IntoDelay, saturating_nanos};
use crate::error::Result;
use crate::task::{home, waker};
use crate::timer::TimerTarget;

/// Suspends the task for some time: asyncio's `sleep`.
///
/// Zero and less is a bare yield: every other task that is ready runs before this one goes on. The time counts from the end of the
/// step in which the sleep was first polled, and never ends early.
///
/// # Errors
/// Cancelled; `Value` if the delay is a number of seconds that is not finite.
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
    let state = match delay.into_delay() {
        Delay::For(delay) => State::New(saturating_nanos(delay)),
        Delay::Past => State::New(0),
        Delay::Invalid => State::Invalid,
    };
    Sleep { state, wait: Wait::new() }
}

/// The future of [`sleep`].
#[derive(Debug)]
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep {
    state: State,
    wait: Wait,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Not polled yet; the delay in nanoseconds.
    New(u64),
    /// A yield, begun in this turn.
    Yielded(u64),
    Armed(TimerKey),
    Invalid,
    Done,
}

impl std::future::Future for Sleep {
    type Output = Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        match this.state {
            State::New(0) => this.begin_yield(cx),
            State::Yielded(turn) => this.end_yield(turn, cx),
            State::New(delay) => this.arm(delay, cx),
            State::Armed(key) => this.check(key, cx),
            State::Invalid => Poll::Ready(Err(Delay::error())),
            State::Done => Poll::Ready(Ok(())),
        }
    }
}

impl Sleep {
    #[inline]
    fn arm(&mut self, delay: u64, cx: &Context<'_>) -> Poll<Result<()>> {
        let token = match self.wait.register(cx) {
            Ok(token) => token,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let key = home::with(|core| core.timers.start(delay, TimerTarget::wake(token), || core.now()));
        self.state = key.map_or(State::Done, State::Armed);
        Poll::Pending
    }

    fn check(&mut self, key: TimerKey, cx: &Context<'_>) -> Poll<Result<()>> {
        match self.wait.poll(cx) {
            WaitPoll::Pending => Poll::Pending,
            WaitPoll::Fired => {
                self.state = State::Done;
                Poll::Ready(Ok(()))
            }
            WaitPoll::Cancelled(error) => {
                self.disarm();
                Poll::Ready(Err(error))
            }
            WaitPoll::Moved(_) => self.move_to(key, cx),
        }
    }

    /// Another task polls the sleep: its timer wakes that one from now on.
    #[cold]
    fn move_to(&mut self, key: TimerKey, cx: &Context<'_>) -> Poll<Result<()>> {
        let token = match self.wait.register(cx) {
            Ok(token) => token,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let target = TimerTarget::wake(token.clone());
        if home::with(|core| core.timers.retarget(key, target)).flatten().is_none() {
            // The timer has fired already, for the task before.
            token.fire();
        }
        Poll::Pending
    }

    #[inline]
    fn disarm(&mut self) {
        if let State::Armed(key) = self.state {
            self.state = State::Done;
            drop(home::with(|core| core.disarm(key)));
        }
    }

    /// A yield leaves no trace but its task's place in the queue, and ends by itself when a later turn polls it. Only where a request
    /// is open does it register, to be found; and under a combinator, where it is a timer that is due at once.
    #[inline]
    fn begin_yield(&mut self, cx: &Context<'_>) -> Poll<Result<()>> {
        let plain = home::with_task(|core, task| {
            if task.head().is_requested() || !waker::is_own(cx.waker(), task) {
                return None;
            }
            task.wake();
            Some(core.turn())
        });
        match plain.flatten() {
            Some(turn) => {
                self.state = State::Yielded(turn);
                Poll::Pending
            }
            None => self.begin_registered(cx),
        }
    }

    #[cold]
    fn begin_registered(&mut self, cx: &Context<'_>) -> Poll<Result<()>> {
        let token = match self.wait.register(cx) {
            Ok(token) => token,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let state = home::with_task(|core, task| {
            if waker::is_own(cx.waker(), task) {
                task.wake();
                State::Yielded(core.turn())
            } else {
                State::Armed(core.start_now(TimerTarget::wake(token)))
            }
        });
        self.state = state.unwrap_or(State::Done);
        Poll::Pending
    }

    #[inline]
    fn end_yield(&mut self, turn: u64, cx: &Context<'_>) -> Poll<Result<()>> {
        let plain = home::with_task(|core, task| core.turn() != turn && !task.head().is_requested()).unwrap_or(false);
        if plain && !self.wait.is_registered() {
            self.state = State::Done;
            return Poll::Ready(Ok(()));
        }
        self.end_requested(turn, cx)
    }

    #[cold]
    fn end_requested(&mut self, turn: u64, cx: &Context<'_>) -> Poll<Result<()>> {
        let later = home::with(|core| core.turn() != turn).unwrap_or(true);
        let cancelled = if self.wait.is_registered() {
            match self.wait.poll(cx) {
                WaitPoll::Cancelled(error) => Some(error),
                _ => None,
            }
        } else if later {
            home::with_task(|_, task| cancel::take_open(task)).flatten()
        } else {
            None
        };
        if cancelled.is_none() && !later {
            // Polled again in the same turn: whoever polls has to come back.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.wait.release();
        self.state = State::Done;
        Poll::Ready(cancelled.map_or(Ok(()), Err))
    }
}

impl Drop for Sleep {
    #[inline]
    fn drop(&mut self) {
        self.disarm();
    }
}
