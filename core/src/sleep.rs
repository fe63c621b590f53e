//! [`sleep`] and the bare yield.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aioli_timers::TimerKey;

use crate::await_point::{Wait, WaitPoll};
use crate::cancel;
use crate::delay::{Delay, IntoDelay};
use crate::error::{Error, Result};
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
    Sleep { state: State::New(delay.into_delay()), wait: Wait::new() }
}

/// The future of [`sleep`].
#[derive(Debug)]
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep {
    state: State,
    wait: Wait,
}

#[derive(Debug)]
enum State {
    New(Delay),
    /// A yield, in this turn.
    Yielded(u64),
    Armed(TimerKey),
    Done,
}

impl std::future::Future for Sleep {
    type Output = Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        match this.state {
            State::New(Delay::For(delay)) if delay > Duration::ZERO => this.arm(delay, cx),
            State::New(Delay::For(_) | Delay::Past) => this.begin_yield(cx),
            State::New(Delay::Invalid) => Poll::Ready(Err(Delay::error())),
            State::Yielded(turn) => this.end_yield(turn, cx),
            State::Armed(key) => this.check(key, cx),
            State::Done => Poll::Ready(Ok(())),
        }
    }
}

impl Sleep {
    fn arm(&mut self, delay: Duration, cx: &Context<'_>) -> Poll<Result<()>> {
        let token = match self.wait.register(cx) {
            Ok(token) => token,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let key = home::with(|core| core.timers.start(delay, TimerTarget::Wake(token), || core.now()));
        self.state = key.map_or(State::Done, State::Armed);
        Poll::Pending
    }

    #[inline]
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
        let target = TimerTarget::Wake(token.clone());
        if home::with(|core| core.timers.retarget(key, target)).flatten().is_none() {
            // The timer has fired already, for the task before.
            token.fire();
        }
        Poll::Pending
    }

    fn disarm(&mut self) {
        if let State::Armed(key) = std::mem::replace(&mut self.state, State::Done) {
            drop(home::with(|core| core.disarm(key)));
        }
    }

    /// A yield leaves no trace but its task's place in the queue, and ends by itself when a later turn polls it. Only where a request
    /// is open does it register, to be found. Under a combinator it is a timer that is due at once.
    #[inline]
    fn begin_yield(&mut self, cx: &Context<'_>) -> Poll<Result<()>> {
        let begun = home::with(|core| {
            let task = core.current_task()?;
            let own = waker::is_own(cx.waker(), &task);
            let registered = !own || task.head().is_requested();
            if own {
                task.wake();
            }
            Some((core.turn(), own, registered))
        });
        match begun.flatten() {
            Some((turn, true, false)) => self.state = State::Yielded(turn),
            Some((turn, own, _)) => match self.wait.register(cx) {
                Err(error) => return Poll::Ready(Err(error)),
                Ok(_) if own => self.state = State::Yielded(turn),
                Ok(token) => {
                    let key = home::with(|core| core.start_now(TimerTarget::Wake(token)));
                    self.state = key.map_or(State::Done, State::Armed);
                }
            },
            None => return Poll::Ready(Err(crate::await_point::outside())),
        }
        Poll::Pending
    }

    #[inline]
    fn end_yield(&mut self, turn: u64, cx: &Context<'_>) -> Poll<Result<()>> {
        if self.wait.is_registered() {
            return self.end_registered(turn, cx);
        }
        let ended = home::with(|core| {
            let later = core.turn() != turn;
            let open = later.then(|| core.current_task().filter(|task| task.head().is_requested())).flatten();
            later.then(|| open.and_then(|task| cancel::take_open(&task)))
        });
        self.yielded(ended.flatten(), cx)
    }

    #[cold]
    fn end_registered(&mut self, turn: u64, cx: &Context<'_>) -> Poll<Result<()>> {
        let ended = match self.wait.poll(cx) {
            WaitPoll::Cancelled(error) => Some(Some(error)),
            _ => home::with(|core| (core.turn() != turn).then_some(None)).flatten(),
        };
        self.yielded(ended, cx)
    }

    fn yielded(&mut self, ended: Option<Option<Error>>, cx: &Context<'_>) -> Poll<Result<()>> {
        let Some(error) = ended else {
            // Polled again in the same turn: whoever polls has to come back.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        self.wait.release();
        self.state = State::Done;
        Poll::Ready(error.map_or(Ok(()), Err))
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}
