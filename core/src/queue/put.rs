//! [`Put`]: waiting for room in a queue; [`PutError`]: an item that comes back.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::turn::{Side, Turn};
use super::{Queue, Store};
use crate::error::{Error, ErrorKind, Result};

/// The future of [`Queue::put`]. It keeps the item until the queue has it.
///
/// Awaited by reference it gives the item back when it failed; or it may be awaited again.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Queue, timeout};
///
/// let queue = Queue::new(1);
/// queue.put("first").await?;
/// let mut put = queue.put("second");
/// assert!(timeout(1.0, &mut put).await.unwrap_err().is_timeout());
/// assert_eq!(put.into_item(), Some("second"));
/// # Ok(())
/// # }).unwrap();
/// ```
#[must_use = "nothing is put unless this is awaited"]
pub struct Put<'a, T, S: Store<T>> {
    queue: &'a Queue<T, S>,
    turn: Turn<'a, T, S>,
    item: Option<T>,
}

impl<'a, T, S: Store<T>> Put<'a, T, S> {
    pub(super) fn new(queue: &'a Queue<T, S>, item: T) -> Self {
        Put { queue, turn: Turn::new(queue, Side::Putters), item: Some(item) }
    }

    /// The item, unless the queue has it. It is not put any more.
    pub fn into_item(self) -> Option<T> {
        self.item
    }
}

// The item is never pinned.
impl<T, S: Store<T>> Unpin for Put<'_, T, S> {}

impl<T, S: Store<T>> std::future::Future for Put<'_, T, S> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Put { queue, turn, item } = self.get_mut();
        loop {
            if !turn.has_joined() && (item.is_none() || !queue.full() || queue.is_shut_down()) {
                let Some(taken) = item.take() else { return Poll::Ready(Err(already_put())) };
                return Poll::Ready(queue.put_nowait(taken).map_err(|refused| {
                    *item = Some(refused.item);
                    refused.error
                }));
            }
            match turn.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => turn.leave(),
                Poll::Ready(Err(error)) => {
                    turn.pass_on();
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

#[cold]
fn already_put() -> Error {
    Error::fixed(ErrorKind::InvalidState, &"the item was already put")
}

impl<T, S: Store<T>> fmt::Debug for Put<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put").field("put", &self.item.is_none()).finish_non_exhaustive()
    }
}

/// Why an item could not be put, and the item. By `?` it becomes the [`Error`] alone.
///
/// ```
/// use aioli_core::{ErrorKind, Queue};
///
/// let queue = Queue::new(1);
/// queue.put_nowait("first").unwrap();
/// let refused = queue.put_nowait("second").unwrap_err();
/// assert_eq!(refused.error.kind(), ErrorKind::QueueFull);
/// assert_eq!(refused.item, "second");
/// ```
pub struct PutError<T> {
    /// `QueueFull` or `QueueShutDown`.
    pub error: Error,
    /// What was to be put.
    pub item: T,
}

impl<T> From<PutError<T>> for Error {
    fn from(refused: PutError<T>) -> Self {
        refused.error
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutError").field("error", &self.error).finish_non_exhaustive()
    }
}
