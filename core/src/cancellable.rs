//! [`Cancellable`]: futures of other crates as awaitables that can be cancelled.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;

use crate::await_point::{Wait, WaitPoll};
use crate::cancel;
use crate::error::Result;

/// Gives any future an await that a cancellation can end.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Cancellable, create_task, sleep};
///
/// let (sender, receiver) = futures::channel::oneshot::channel::<u32>();
/// let task = create_task(async move {
///     match receiver.cancellable().await {
///         Ok(received) => Ok(received?),
///         Err(cancelled) => {
///             sleep(1.0).await?; // cleanup
///             Err(cancelled)
///         }
///     }
/// });
/// sleep(0.0).await?;
/// task.cancel(None);
/// assert!(task.await.unwrap_err().is_cancelled());
/// assert!(sender.is_canceled());
/// # Ok(())
/// # }).unwrap();
/// ```
pub trait Cancellable: Future + Sized {
    /// An awaitable with the future's output, or Cancelled: then the future is dropped first, one turn after the request. If it is
    /// ready in that turn its output is returned, and the request stands for the next await. Polls of streams inside, as those of
    /// `AsyncRead`, do not see the request: wrappers would make an output of their error.
    fn cancellable(self) -> CancellableFuture<Self> {
        CancellableFuture { wait: Wait::new(), future: Some(self) }
    }
}

impl<F: Future> Cancellable for F {}

/// The future of [`Cancellable::cancellable`].
///
/// Dropping it drops the future inside.
#[pin_project]
#[must_use = "the future does nothing unless it is awaited"]
pub struct CancellableFuture<F> {
    wait: Wait,
    #[pin]
    future: Option<F>,
}

impl<F: Future> Future for CancellableFuture<F> {
    type Output = Result<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<F::Output>> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let covered = cancel::cover();
        let polled = future.poll(cx);
        drop(covered);
        if let Poll::Ready(output) = polled {
            // Withdrawn without asking it: a request that has come stays open.
            this.wait.release();
            this.future.set(None);
            return Poll::Ready(Ok(output));
        }
        if this.wait.is_registered() {
            match this.wait.poll(cx) {
                WaitPoll::Pending => return Poll::Pending,
                WaitPoll::Cancelled(error) => {
                    this.future.set(None);
                    return Poll::Ready(Err(error));
                }
                WaitPoll::Fired | WaitPoll::Moved(_) => (),
            }
        }
        if let Err(error) = this.wait.register(cx) {
            this.future.set(None);
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }
}

impl<F> fmt::Debug for CancellableFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellableFuture").field("wait", &self.wait).finish_non_exhaustive()
    }
}
