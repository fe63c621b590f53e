//! [`Semaphore`] and [`BoundedSemaphore`]: a number of permits.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;

use crate::awaited::Awaited;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::waiters::{LoopBound, Waiter, Waiters};

/// A number of permits that tasks take and return: asyncio's `Semaphore`.
///
/// It is fair: who waits longest gets the next permit, and nobody overtakes. A permit that is free is taken without suspending.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use std::rc::Rc;
///
/// use aioli_core::{Semaphore, create_task, get_running_loop, sleep};
///
/// let connections = Rc::new(Semaphore::new(3));
/// let before = get_running_loop()?.time();
/// let downloads: Vec<_> = (0..9)
///     .map(|_| {
///         let connections = Rc::clone(&connections);
///         create_task(async move {
///             let _permit = connections.permit().await?;
///             sleep(1.0).await
///         })
///     })
///     .collect();
/// for download in downloads {
///     download.await?;
/// }
/// assert_eq!((get_running_loop()?.time() - before).as_secs(), 3);
/// # Ok(())
/// # }).unwrap();
/// ```
pub struct Semaphore {
    value: Cell<usize>,
    waiters: Waiters,
    bound: LoopBound,
}

impl Semaphore {
    /// A semaphore of `value` free permits.
    pub const fn new(value: usize) -> Self {
        Semaphore {
            value: Cell::new(value),
            waiters: Waiters::new(Awaited::Semaphore),
            bound: LoopBound::new(&"this semaphore is bound to a different event loop"),
        }
    }

    /// Whether an [`acquire`](Self::acquire) would have to wait: no permit is free, or others wait before it. asyncio's
    /// `Semaphore.locked`.
    #[inline]
    pub fn locked(&self) -> bool {
        self.value.get() == 0 || self.waiters.has_claims()
    }

    /// Waits until it is this task's turn and takes a permit: asyncio's `Semaphore.acquire`. Pair it with
    /// [`release`](Self::release).
    ///
    /// Cancelled or dropped before it returns, it takes nothing.
    ///
    /// # Errors
    /// Cancelled; `Runtime` if it would have to wait outside of a task, or the semaphore belongs to a different loop.
    #[inline]
    pub async fn acquire(&self) -> Result<()> {
        if !self.locked() {
            self.value.set(self.value.get() - 1);
            return Ok(());
        }
        self.acquire_in_turn().await
    }

    async fn acquire_in_turn(&self) -> Result<()> {
        let waiter = Waiter::new(&self.waiters, &self.bound);
        let mut turn = Turn { semaphore: self, waiter, taken: false };
        poll_fn(|cx| turn.waiter.poll(cx, || self.call_waiters())).await?;
        turn.taken = true;
        Ok(())
    }

    /// Adds a permit, or hands it to the one who has waited longest: asyncio's `Semaphore.release`. There may be more in the end
    /// than there were at first.
    #[inline]
    pub fn release(&self) {
        self.value.set(self.value.get().saturating_add(1));
        self.call_next();
    }

    /// Acquires a permit that is released when it is dropped.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub async fn permit(&self) -> Result<SemaphorePermit<'_>> {
        self.acquire().await?;
        Ok(SemaphorePermit { semaphore: self, bound: usize::MAX })
    }

    /// Hands a free permit to the first in line. Returns whether there was one.
    #[inline]
    fn call_next(&self) -> bool {
        // It is taken first: a foreign waker may look.
        let value = self.value.get();
        self.value.set(value - 1);
        let called = self.waiters.call_next();
        if !called {
            self.value.set(self.value.get() + 1);
        }
        called
    }

    /// Hands out free permits for as long as there are waiters for them.
    fn call_waiters(&self) {
        while self.value.get() > 0 && self.call_next() {}
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("value", &self.value.get()).field("waiters", &self.waiters).finish()
    }
}

/// A place in a semaphore's line.
struct Turn<'a> {
    semaphore: &'a Semaphore,
    waiter: Waiter<'a>,
    taken: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(called) = self.waiter.leave() else { return };
        let value = &self.semaphore.value;
        if called && !self.taken {
            value.set(value.get().saturating_add(1));
        }
        // Some may have joined only because this one was before them.
        self.semaphore.call_waiters();
    }
}

/// A semaphore that refuses to be released more often than it was acquired: asyncio's `BoundedSemaphore`.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{BoundedSemaphore, ErrorKind};
///
/// let semaphore = BoundedSemaphore::new(1);
/// semaphore.acquire().await?;
/// semaphore.release()?;
/// assert_eq!(semaphore.release().unwrap_err().kind(), ErrorKind::Value);
/// # Ok(())
/// # }).unwrap();
/// ```
pub struct BoundedSemaphore {
    semaphore: Semaphore,
    bound: usize,
}

impl BoundedSemaphore {
    /// A semaphore of `value` free permits, and never more.
    pub const fn new(value: usize) -> Self {
        BoundedSemaphore { semaphore: Semaphore::new(value), bound: value }
    }

    /// As [`Semaphore::locked`].
    #[inline]
    pub fn locked(&self) -> bool {
        self.semaphore.locked()
    }

    /// As [`Semaphore::acquire`].
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    #[inline]
    pub async fn acquire(&self) -> Result<()> {
        self.semaphore.acquire().await
    }

    /// As [`Semaphore::release`]. asyncio's `BoundedSemaphore.release`.
    ///
    /// # Errors
    /// `Value` if every permit is free.
    #[inline]
    pub fn release(&self) -> Result<()> {
        if self.semaphore.value.get() >= self.bound {
            return Err(Error::fixed(ErrorKind::Value, &"the semaphore was released more often than it was acquired"));
        }
        self.semaphore.release();
        Ok(())
    }

    /// As [`Semaphore::permit`].
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    #[inline]
    pub async fn permit(&self) -> Result<SemaphorePermit<'_>> {
        self.semaphore.acquire().await?;
        Ok(SemaphorePermit { semaphore: &self.semaphore, bound: self.bound })
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedSemaphore")
            .field("value", &self.semaphore.value.get())
            .field("bound", &self.bound)
            .field("waiters", &self.semaphore.waiters)
            .finish()
    }
}

/// A permit of a [`Semaphore`] or [`BoundedSemaphore`], until it is dropped: asyncio's `async with semaphore`.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::Semaphore;
///
/// let semaphore = Semaphore::new(1);
/// let permit = semaphore.permit().await?;
/// assert!(semaphore.locked());
/// drop(permit);
/// assert!(!semaphore.locked());
/// # Ok(())
/// # }).unwrap();
/// ```
#[must_use = "the permit is released when this is dropped"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    bound: usize,
}

impl SemaphorePermit<'_> {
    /// Keeps the permit: it is not released when this is dropped.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        // A bounded semaphore that is full has been released by other means; nobody is there to be told.
        if self.semaphore.value.get() < self.bound {
            self.semaphore.release();
        }
    }
}

impl fmt::Debug for SemaphorePermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphorePermit").finish_non_exhaustive()
    }
}
