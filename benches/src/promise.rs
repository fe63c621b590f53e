//! The receiving halves of promises, as futures without a state machine of their own around them.

use std::fmt::Debug;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::slot::Slot;

/// The value of a promise that is never broken.
#[derive(Debug)]
pub(crate) struct Kept<F>(pub(crate) F);

impl<T, E: Debug, F: Future<Output = Result<T, E>> + Unpin> Future for Kept<F> {
    type Output = T;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|kept| kept.expect("the promise is kept"))
    }
}

/// The value that somebody will put into a slot.
pub(crate) struct Taken<T>(pub(crate) Rc<Slot<T>>);

impl<T> Future for Taken<T> {
    type Output = T;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.poll_take(cx)
    }
}
