//! [`Awaitable`]: what `gather`, `wait`, `shield` and `as_completed` take.

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::panic::Location;

use crate::error::{Error, Result};
use crate::future::Future;
use crate::task::header::flag;
use crate::task::{FutureRef, RawFuture, home};
use crate::tasks::{self, Task};

/// Something that has a result later: a coroutine, which becomes a task; a [`Task`] or [`Future`], whose value is taken; or a
/// reference to one, whose value is cloned. asyncio's `ensure_future` accepts the same.
///
/// It is implemented for every future of a [`Result`]; there is nothing to implement.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Awaitable, Result, create_task, shield, sleep};
///
/// /// Twice the value, also if the caller is cancelled: what was given goes on.
/// async fn twice(number: impl Awaitable<Value = u32>) -> Result<u32> {
///     shield(number).await.map(|number| 2 * number)
/// }
///
/// let task = create_task(async { sleep(1.0).await.map(|()| 1) });
/// assert_eq!(twice(&task).await?, 2); // a clone of the value
/// assert_eq!(twice(task).await?, 2); // the value
/// assert_eq!(twice(async { Ok(3) }).await?, 6);
/// # Ok(())
/// # }).unwrap();
/// ```
pub trait Awaitable {
    /// The type of the value.
    type Value: 'static;

    /// The future to wait for. A coroutine becomes a task of the running loop here.
    ///
    /// # Errors
    /// `Runtime` if a coroutine is given and no loop runs.
    #[track_caller]
    fn into_child(self) -> Result<Child<Self::Value>>;
}

/// A future or task that somebody waits for, and whether its value is to be taken or cloned.
pub struct Child<T> {
    cell: FutureRef<T>,
    read: fn(&FutureRef<T>) -> Result<T>,
    created: bool,
}

impl<T> Child<T> {
    pub(crate) fn cell(&self) -> &FutureRef<T> {
        &self.cell
    }

    pub(crate) fn raw(&self) -> &RawFuture {
        self.cell.raw()
    }

    /// The result of a finished one: taken or cloned.
    pub(crate) fn read(&self) -> Result<T> {
        (self.read)(&self.cell)
    }

    /// The result as one of several: in asyncio the entry for something cancelled is an error of its own, which has an empty message
    /// where there is none.
    pub(crate) fn entry(&self) -> Result<T> {
        if !self.raw().is_cancelled() {
            return self.read();
        }
        let message = self.raw().cancel_message();
        Err(Error::cancelled(Some(message.as_deref().map_or("", |text| &**text))))
    }

    /// Whether a coroutine was given, which became a task that nobody else knows.
    pub(crate) fn is_created(&self) -> bool {
        self.created
    }
}

impl<T> Clone for Child<T> {
    fn clone(&self) -> Self {
        Child { cell: self.cell.clone(), read: self.read, created: self.created }
    }
}

impl<T> fmt::Debug for Child<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cell.fmt(f)
    }
}

impl<F, T> Awaitable for F
where
    F: std::future::Future<Output = Result<T>> + 'static,
    T: 'static,
{
    type Value = T;

    #[track_caller]
    fn into_child(self) -> Result<Child<T>> {
        let mut given = Some(self);
        let given = &mut given as &mut dyn Any;
        if let Some(task) = given.downcast_mut::<Option<Task<T>>>().and_then(Option::take) {
            return Ok(Child { cell: task.cell().clone(), read: FutureRef::take, created: false });
        }
        if let Some(future) = given.downcast_mut::<Option<Future<T>>>().and_then(Option::take) {
            return Ok(Child { cell: future.cell().clone(), read: FutureRef::take, created: false });
        }
        let coroutine = given.downcast_mut::<Option<F>>().and_then(Option::take).expect("nothing else took it");
        let location = Location::caller();
        let created = home::with(|core| {
            let (cell, raw) = tasks::new_cell(core, location, coroutine);
            cell.raw().header().set(flag::QUIET);
            tasks::start(core, raw, false);
            Child { cell, read: FutureRef::take, created: true }
        });
        created.ok_or_else(|| Error::runtime("no running event loop: a coroutine becomes a task inside of `run` only"))
    }
}

impl<T: Clone + 'static> Awaitable for &Task<T> {
    type Value = T;

    fn into_child(self) -> Result<Child<T>> {
        Ok(Child { cell: self.cell().clone(), read: FutureRef::cloned, created: false })
    }
}

impl<T: Clone + 'static> Awaitable for &Future<T> {
    type Value = T;

    fn into_child(self) -> Result<Child<T>> {
        Ok(Child { cell: self.cell().clone(), read: FutureRef::cloned, created: false })
    }
}

/// A task of the running loop for a coroutine; a [`Task`] or [`Future`] as it is: asyncio's `ensure_future`. The future that it
/// gives leads to it: cancelling the one cancels the other.
///
/// # Errors
/// `Runtime` if a coroutine is given and no loop runs.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Awaitable, Result, ensure_future, sleep};
///
/// /// Begins at once, whatever is given.
/// fn begin<T: 'static>(work: impl Awaitable<Value = T>) -> Result<aioli_core::Future<T>> {
///     ensure_future(work)
/// }
///
/// let first = begin(async { sleep(1.0).await.map(|()| 1) })?;
/// let second = begin(first.clone())?;
/// assert!(first.same(&second));
/// assert_eq!((&first).await?, 1);
/// assert_eq!(second.await?, 1);
/// # Ok(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn ensure_future<A: Awaitable>(awaitable: A) -> Result<Future<A::Value>> {
    let child = awaitable.into_child()?;
    if child.is_created() {
        child.raw().header().clear(flag::QUIET);
    }
    Ok(Future::from_ref(child.cell().clone()))
}

/// Each future once, in the order of the first mention.
pub(crate) fn distinct(mut given: Vec<RawFuture>) -> Vec<RawFuture> {
    let mut seen = HashSet::with_capacity(given.len());
    given.retain(|raw| seen.insert(raw.address()));
    given
}
