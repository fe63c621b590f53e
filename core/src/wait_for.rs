//! [`wait_for`]: one awaitable with a deadline.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;

use crate::await_point::{Wait, WaitPoll};
use crate::callback::Callback;
use crate::cancel;
use crate::delay::{Delay, IntoDelay};
use crate::error::{Error, Result};
use crate::join;
use crate::task::{RawFuture, identify};
use crate::tasks::{Task, create_task};
use crate::timeout::{Timed, Timeout};

/// Waits for an awaitable, with a deadline: asyncio's `wait_for`.
///
/// It is awaited inline, in the caller's task, and may borrow. When the deadline passes it is cancelled, and `wait_for` returns
/// `Timeout` once it has ended; if it swallowed the cancellation, its own result. `None` waits without a deadline.
///
/// With a delay of zero or less, something done gives its result; a [`Task`](crate::Task) or [`Future`](crate::Future) is cancelled; a
/// coroutine never starts.
///
/// # Errors
/// `Timeout` if the deadline passed; else what the awaitable returns. `Value` if the delay is not finite. `Runtime` outside of a task.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{sleep, wait_for};
/// use std::time::Duration;
///
/// assert!(wait_for(sleep(Duration::from_secs(2)), Duration::from_secs(1)).await.unwrap_err().is_timeout());
/// wait_for(sleep(Duration::from_secs(2)), None::<Duration>).await?;
/// # Ok(())
/// # }).unwrap();
/// ```
pub fn wait_for<A, T>(awaitable: A, delay: impl IntoTimeout) -> WaitFor<A::IntoFuture>
where
    A: IntoFuture<Output = Result<T>>,
{
    let future = awaitable.into_future();
    let state = match delay.into_timeout() {
        None => State::Timed(Timeout::at(None).run(future)),
        Some(Delay::For(delay)) if !delay.is_zero() => State::Timed(Timeout::after(delay).run(future)),
        Some(Delay::Invalid) => State::Timed(Timeout::after(Delay::Invalid).run(future)),
        Some(Delay::Past | Delay::For(_)) => match identify::<A::IntoFuture, T>(&future) {
            Some(raw) => State::Handle { future, raw, wait: Wait::new(), cancelled: false },
            None => State::Coroutine { future: Some(future), instead: None, wait: Wait::new() },
        },
    };
    WaitFor { state }
}

/// An optional delay: what `wait_for` and others take as their timeout. A `Duration`, a number of seconds, or an `Option` of one,
/// where `None` sets no limit, as in asyncio.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{IntoTimeout, Result, sleep, wait_for};
/// use std::time::Duration;
///
/// async fn fetch(timeout: impl IntoTimeout) -> Result<&'static str> {
///     wait_for(async { sleep(2.0).await.map(|()| "page") }, timeout).await
/// }
///
/// assert!(fetch(Duration::from_secs(1)).await.unwrap_err().is_timeout());
/// assert!(fetch(0.5).await.unwrap_err().is_timeout());
/// assert_eq!(fetch(None::<Duration>).await?, "page");
/// # Ok(())
/// # }).unwrap();
/// ```
pub trait IntoTimeout {
    /// The delay; `None` for no limit.
    fn into_timeout(self) -> Option<Delay>;
}

impl<D: IntoDelay> IntoTimeout for D {
    fn into_timeout(self) -> Option<Delay> {
        Some(self.into_delay())
    }
}

impl<D: IntoDelay> IntoTimeout for Option<D> {
    fn into_timeout(self) -> Option<Delay> {
        self.map(IntoDelay::into_delay)
    }
}

/// The future of [`wait_for`].
///
/// Dropping it withdraws it; a task or future that it waited for runs on.
#[pin_project(PinnedDrop)]
#[must_use = "wait_for does nothing unless it is awaited"]
pub struct WaitFor<F> {
    #[pin]
    state: State<F>,
}

#[pin_project(project = StateProjection)]
enum State<F> {
    Timed(#[pin] Timed<F>),
    /// Too late for a future or task: it is cancelled and waited for.
    Handle {
        #[pin]
        future: F,
        raw: RawFuture,
        wait: Wait,
        cancelled: bool,
    },
    /// Too late for a coroutine. As in asyncio there is a task for it that is cancelled before it starts; but the coroutine may
    /// borrow, so that it is not in there.
    Coroutine {
        #[pin]
        future: Option<F>,
        instead: Option<Task<()>>,
        wait: Wait,
    },
}

impl<F, T> std::future::Future for WaitFor<F>
where
    F: std::future::Future<Output = Result<T>>,
{
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        match self.project().state.project() {
            StateProjection::Timed(timed) => timed.poll(cx),
            StateProjection::Handle { future, raw, wait, cancelled } => {
                if !*cancelled {
                    if raw.is_done() {
                        return future.poll(cx);
                    }
                    if let Some(error) = join::misuse(raw) {
                        return Poll::Ready(Err(error));
                    }
                    let token = match wait.register(cx) {
                        Ok(token) => token,
                        Err(error) => return Poll::Ready(Err(error)),
                    };
                    raw.add_callback(Callback::release(token));
                    cancel::cancel(raw, None);
                    *cancelled = true;
                    return Poll::Pending;
                }
                match poll_released(wait, raw, cx) {
                    Poll::Ready(Ok(())) => (),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
                match future.poll(cx) {
                    Poll::Ready(Err(error)) if error.is_cancelled() => Poll::Ready(Err(Error::timeout())),
                    polled => polled,
                }
            }
            StateProjection::Coroutine { mut future, instead, wait } => {
                if instead.is_none() {
                    future.set(None);
                    let token = match wait.register(cx) {
                        Ok(token) => token,
                        Err(error) => return Poll::Ready(Err(error)),
                    };
                    let task = instead.insert(create_task(async { Ok(()) }));
                    task.raw().add_callback(Callback::release(token));
                    task.cancel(None);
                    return Poll::Pending;
                }
                let Some(task) = instead else { return Poll::Pending };
                poll_released(wait, task.raw(), cx).map(|released| released.and(Err(Error::timeout())))
            }
        }
    }
}

/// Waits for the callback of a future that was cancelled.
fn poll_released(wait: &mut Wait, raw: &RawFuture, cx: &Context<'_>) -> Poll<Result<()>> {
    let Some(token) = wait.token() else { return Poll::Ready(Ok(())) };
    match wait.poll(cx) {
        WaitPoll::Pending => Poll::Pending,
        WaitPoll::Fired => Poll::Ready(Ok(())),
        WaitPoll::Cancelled(error) => {
            raw.remove_wake(&token);
            Poll::Ready(Err(error))
        }
        WaitPoll::Moved(_) => {
            raw.remove_wake(&token);
            Poll::Ready(Ok(()))
        }
    }
}

#[pin_project::pinned_drop]
impl<F> PinnedDrop for WaitFor<F> {
    fn drop(self: Pin<&mut Self>) {
        let (raw, wait) = match self.project().state.project() {
            StateProjection::Handle { raw, wait, .. } => (&*raw, wait),
            StateProjection::Coroutine { instead: Some(task), wait, .. } => (task.raw(), wait),
            _ => return,
        };
        if let Some(token) = wait.token() {
            raw.remove_wake(&token);
        }
    }
}

impl<F> fmt::Debug for WaitFor<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WaitFor")
    }
}
