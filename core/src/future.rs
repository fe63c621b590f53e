//! [`Future`]: a result that somebody will set.

use std::fmt;
use std::future::IntoFuture;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::callback::{Call, Callback, CallbackId};
use crate::cancel;
use crate::context;
use crate::error::{self, Error, ErrorKind, Message, Result};
use crate::join::Join;
use crate::shield;
use crate::task::header::flag;
use crate::task::{FutureRef, Handle, LoopRef, RawFuture};

/// A result that is not there yet: asyncio's `Future`.
///
/// It is pending until [`set_result`](Self::set_result), [`set_exception`](Self::set_exception) or [`cancel`](Self::cancel). Clones
/// are handles to the same future. Awaiting a handle takes the value out of the future; awaiting a reference clones it. Whoever
/// waits for it runs one turn after it was set, in the order in which they came.
///
/// Cancelling a task that waits for a future cancels the future, and so all others that wait for it: [`shield`](crate::shield)
/// protects it.
///
/// A future that ends with an error which nobody retrieves is reported to the loop's exception handler when its last handle goes.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{create_task, get_running_loop};
///
/// let answer = get_running_loop()?.create_future::<u32>();
/// let setter = answer.clone();
/// create_task(async move { setter.set_result(42) });
/// assert_eq!(answer.await?, 42);
/// # Ok(())
/// # }).unwrap();
/// ```
pub struct Future<T> {
    handle: Handle<T>,
}

impl<T> Future<T> {
    pub(crate) fn from_ref(cell: FutureRef<T>) -> Self {
        Future { handle: Handle::new(cell) }
    }

    #[inline]
    pub(crate) fn cell(&self) -> &FutureRef<T> {
        self.handle.cell()
    }

    #[inline]
    pub(crate) fn raw(&self) -> &RawFuture {
        self.cell().raw()
    }

    /// Whether it has a result, an error, or was cancelled: asyncio's `Future.done`.
    pub fn done(&self) -> bool {
        self.raw().is_done()
    }

    /// Whether it was cancelled: asyncio's `Future.cancelled`.
    pub fn cancelled(&self) -> bool {
        self.raw().is_cancelled()
    }

    /// Sets the result and schedules the callbacks: asyncio's `Future.set_result`.
    ///
    /// # Errors
    /// `InvalidState` if it is done already, and the value is dropped. `Runtime` if the handle leads to a task.
    pub fn set_result(&self, value: T) -> Result<()> {
        if self.cell().finish_value(value) { Ok(()) } else { Err(self.refusal()) }
    }

    /// Ends it with an error and schedules the callbacks: asyncio's `Future.set_exception`. A cancellation given here is an error
    /// like others: the future does not count as cancelled.
    ///
    /// # Errors
    /// As [`set_result`](Self::set_result).
    pub fn set_exception(&self, error: Error) -> Result<()> {
        if self.raw().header().has(flag::TASK | flag::DONE) {
            return Err(self.refusal());
        }
        self.raw().finish_error(error, false);
        if self.raw().header().has(flag::SHIELDED) {
            shield::report_lost(self.raw());
        }
        Ok(())
    }

    /// Why it cannot be set.
    #[cold]
    fn refusal(&self) -> Error {
        if self.raw().header().has(flag::TASK) {
            return Error::fixed(ErrorKind::Runtime, &"a task sets its result itself");
        }
        Error::fixed(ErrorKind::InvalidState, &"the future is done already")
    }

    /// Cancels it, unless it is done, and schedules the callbacks: asyncio's `Future.cancel`. Returns whether it was pending.
    ///
    /// The outer future of a [`gather`](crate::gather) passes the request on to what was gathered, and ends when they have.
    pub fn cancel(&self, message: Option<&str>) -> bool {
        cancel::cancel(self.raw(), error::message(message))
    }

    /// The result: a clone of the value, or the error. asyncio's `Future.result`.
    ///
    /// # Errors
    /// The error it ended with; Cancelled if it was cancelled; `InvalidState` if it is pending or its value was taken.
    pub fn result(&self) -> Result<T>
    where
        T: Clone,
    {
        self.cell().cloned()
    }

    /// The result, with the value moved out.
    ///
    /// # Errors
    /// As [`result`](Self::result).
    pub fn take_result(&self) -> Result<T> {
        self.cell().take()
    }

    /// The error it ended with, `None` if it has a result: asyncio's `Future.exception`.
    ///
    /// # Errors
    /// `InvalidState` if it is pending; Cancelled if it was cancelled.
    pub fn exception(&self) -> Result<Option<Error>> {
        exception(self.raw())
    }

    /// Has `callback` called with a handle to this future, in a turn after it is done: asyncio's `Future.add_done_callback`.
    /// Callbacks run in the order in which they were added, in the context that holds now.
    #[track_caller]
    pub fn add_done_callback(&self, callback: impl FnOnce(&Future<T>) + 'static) -> CallbackId
    where
        T: 'static,
    {
        add_done_callback(self.cell(), Location::caller(), move |cell| callback(&Future::from_ref(cell)))
    }

    /// Removes a callback: asyncio's `Future.remove_done_callback`. Returns whether it was there; once it was scheduled it is not.
    pub fn remove_done_callback(&self, id: CallbackId) -> bool {
        self.raw().remove_call(id)
    }

    /// Whether both are handles to one future.
    pub fn same(&self, other: &Future<T>) -> bool {
        self.raw() == other.raw()
    }
}

impl<T> Clone for Future<T> {
    fn clone(&self) -> Self {
        Future::from_ref(self.cell().clone())
    }
}

impl<T> fmt::Debug for Future<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cell().fmt(f)
    }
}

/// Takes the value. Cancelling the task that waits cancels the future.
impl<T> std::future::Future for Future<T> {
    type Output = Result<T>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        self.get_mut().handle.poll(cx)
    }
}

/// Clones the value.
impl<'a, T: Clone> IntoFuture for &'a Future<T> {
    type Output = Result<T>;
    type IntoFuture = AwaitRef<'a, T>;

    fn into_future(self) -> AwaitRef<'a, T> {
        AwaitRef::new(self.cell())
    }
}

/// The await of a reference to a [`Future`] or a [`Task`](crate::Task); it clones the value.
///
/// Dropping it changes nothing for the future. Cancelling the task that awaits passes the request on to it.
pub struct AwaitRef<'a, T> {
    cell: &'a FutureRef<T>,
    join: Join,
}

impl<'a, T> AwaitRef<'a, T> {
    pub(crate) fn new(cell: &'a FutureRef<T>) -> Self {
        AwaitRef { cell, join: Join::new() }
    }

    pub(crate) fn raw(&self) -> &RawFuture {
        self.cell.raw()
    }
}

impl<T: Clone> std::future::Future for AwaitRef<'_, T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.get_mut();
        match this.join.poll(this.cell.raw(), cx) {
            Poll::Ready(Ok(())) => Poll::Ready(this.cell.cloned()),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> Drop for AwaitRef<'_, T> {
    fn drop(&mut self) {
        self.join.detach(self.cell.raw());
    }
}

impl<T> fmt::Debug for AwaitRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AwaitRef").field(self.cell).finish()
    }
}

impl RawFuture {
    /// The message that it was cancelled with, as a later cancellation error of it has it.
    pub(crate) fn cancel_message(&self) -> Message {
        let header = self.header();
        match self.as_task() {
            Some(task) if !header.has(flag::CANCELLED) => task.head().cancel_message(),
            Some(_) if !header.has(flag::TOLD) => None,
            // Neither a gather that was cancelled nor what was given such an error counts as cancelled.
            _ if !header.has(flag::CANCELLED) => None,
            _ => self.error().and_then(|error| error::message(error.cancel_message())),
        }
    }

    /// The error of a cell that finished with one. This counts as retrieval.
    ///
    /// A cancelled task gives the error that ended it once, and from then on one without its message.
    pub(crate) fn retrieve_error(&self) -> Option<Error> {
        self.header().clear(flag::LOG);
        let error = self.error()?;
        if self.as_task().is_some() && self.is_cancelled() && !self.header().has(flag::TOLD) {
            self.header().set(flag::TOLD);
            self.replace_error(Error::cancelled(None));
        }
        Some(error)
    }
}

pub(crate) fn exception(raw: &RawFuture) -> Result<Option<Error>> {
    if !raw.is_done() {
        return Err(Error::fixed(ErrorKind::InvalidState, &"the exception is not set"));
    }
    match raw.retrieve_error() {
        Some(error) if raw.is_cancelled() => Err(error),
        error => Ok(error),
    }
}

pub(crate) fn add_done_callback<T: 'static>(
    cell: &FutureRef<T>,
    location: &'static Location<'static>,
    callback: impl FnOnce(FutureRef<T>) + 'static,
) -> CallbackId {
    let raw = cell.raw();
    let call = Call::new(raw.core(), context::current(), location, move |finished| {
        if let Some(cell) = finished.and_then(|raw| FutureRef::<T>::downcast(raw)) {
            callback(cell);
        }
    });
    let id = call.callback_id();
    raw.add_callback(Callback::Call(call));
    id
}

/// A pending future of a loop.
pub(crate) fn pending<T: 'static>(core: &LoopRef) -> Future<T> {
    Future::from_ref(FutureRef::new(core))
}
