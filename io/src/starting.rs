//! [`Starting`]: a future with options, which can be set until it is polled.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use aioli_core::{Error, Result};

type Running<T> = Pin<Box<dyn Future<Output = Result<T>>>>;

/// What a future with options is made of.
pub(crate) enum Starting<O, T> {
    /// It was not polled yet.
    New(O),
    Running(Running<T>),
    Done,
}

impl<O, T> Starting<O, T> {
    /// Sets an option, unless it is too late.
    pub(crate) fn option(&mut self, set: impl FnOnce(&mut O)) {
        if let Starting::New(options) = self {
            set(options);
        }
    }

    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self, Starting::New(_))
    }

    /// Polls what `start` makes of the options; `again` is the error of a poll after the end.
    pub(crate) fn poll<F>(&mut self, cx: &mut Context<'_>, start: fn(O) -> F, again: &'static str) -> Poll<Result<T>>
    where
        F: Future<Output = Result<T>> + 'static,
    {
        if let Starting::New(_) = self
            && let Starting::New(options) = std::mem::replace(self, Starting::Done)
        {
            *self = Starting::Running(Box::pin(start(options)));
        }
        let Starting::Running(running) = self else { return Poll::Ready(Err(Error::runtime(again))) };
        let result = std::task::ready!(running.as_mut().poll(cx));
        *self = Starting::Done;
        Poll::Ready(result)
    }
}
