//! [`Lock`]: one holder at a time.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;

use crate::awaited::Awaited;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::waiters::{LoopBound, Waiter, Waiters};

/// A lock that tasks wait for: asyncio's `Lock`.
///
/// It is fair: who waits longest gets it next, and nobody overtakes, not even the task that has just released it. A free lock is
/// taken without suspending. It has no owner: anyone may release it, and acquiring it twice waits for ever.
///
/// [`lock`](Self::lock) gives a guard that releases the lock when it is dropped; [`acquire`](Self::acquire) and
/// [`release`](Self::release) are there for code that does not fit a guard.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// use aioli_core::{Lock, create_task, sleep};
///
/// let lock = Rc::new(Lock::new());
/// let account = Rc::new(Cell::new(0));
/// let workers: Vec<_> = (0..10)
///     .map(|_| {
///         let (lock, account) = (Rc::clone(&lock), Rc::clone(&account));
///         create_task(async move {
///             let _guard = lock.lock().await?;
///             let seen = account.get();
///             sleep(0.1).await?;
///             account.set(seen + 1);
///             Ok(())
///         })
///     })
///     .collect();
/// for worker in workers {
///     worker.await?;
/// }
/// assert_eq!(account.get(), 10);
/// # Ok(())
/// # }).unwrap();
/// ```
pub struct Lock {
    locked: Cell<bool>,
    /// Counts the acquisitions: what a guard holds is the one it was made for.
    holds: Cell<u64>,
    waiters: Waiters,
    bound: LoopBound,
}

/// One acquisition of a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold(u64);

impl Lock {
    /// A free lock.
    pub const fn new() -> Self {
        Lock {
            locked: Cell::new(false),
            holds: Cell::new(0),
            waiters: Waiters::new(Awaited::Lock),
            bound: LoopBound::new(&"this lock is bound to a different event loop"),
        }
    }

    /// Whether somebody holds it: asyncio's `Lock.locked`. Between a release and the step of the task that gets it next nobody
    /// does, and yet it is not to be had.
    #[inline]
    pub fn locked(&self) -> bool {
        self.locked.get()
    }

    /// Waits until it is this task's turn and takes the lock: asyncio's `Lock.acquire`. Pair it with [`release`](Self::release).
    ///
    /// Cancelled or dropped before it returns, it holds nothing.
    ///
    /// # Errors
    /// Cancelled; `Runtime` if it would have to wait outside of a task, or the lock belongs to a different loop.
    #[inline]
    pub async fn acquire(&self) -> Result<()> {
        if self.try_take().is_none() {
            self.take_in_turn().await?;
        }
        Ok(())
    }

    /// Frees the lock and wakes the one who has waited longest: asyncio's `Lock.release`.
    ///
    /// # Errors
    /// `Runtime` if nobody holds it.
    #[inline]
    pub fn release(&self) -> Result<()> {
        if !self.locked.replace(false) {
            return Err(Error::fixed(ErrorKind::Runtime, &"cannot release a lock that is not acquired"));
        }
        self.waiters.call_first();
        Ok(())
    }

    /// Acquires the lock and gives a guard, which releases it when dropped.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub async fn lock(&self) -> Result<LockGuard<'_>> {
        let hold = self.take().await?;
        Ok(LockGuard { lock: self, hold })
    }

    #[inline]
    pub(crate) async fn take(&self) -> Result<Hold> {
        match self.try_take() {
            Some(hold) => Ok(hold),
            None => self.take_in_turn().await,
        }
    }

    #[inline]
    fn try_take(&self) -> Option<Hold> {
        (!self.locked.get() && !self.waiters.has_claims()).then(|| self.seize())
    }

    async fn take_in_turn(&self) -> Result<Hold> {
        let mut turn = Turn { lock: self, waiter: Waiter::new(&self.waiters, &self.bound) };
        poll_fn(|cx| turn.waiter.poll(cx, || self.call_first())).await?;
        Ok(self.seize())
    }

    #[inline]
    fn seize(&self) -> Hold {
        self.locked.set(true);
        self.holds.set(self.holds.get() + 1);
        Hold(self.holds.get())
    }

    /// Has a free lock taken by the first in line.
    #[inline]
    fn call_first(&self) {
        if !self.locked.get() {
            self.waiters.call_first();
        }
    }

    /// The acquisition that holds it now.
    #[inline]
    pub(crate) fn hold(&self) -> Option<Hold> {
        self.locked.get().then(|| Hold(self.holds.get()))
    }

    /// Releases it if it is still held by this acquisition.
    #[inline]
    pub(crate) fn give_back(&self, hold: Hold) -> Result<()> {
        if self.hold() == Some(hold) { self.release() } else { Err(Self::lost()) }
    }

    #[cold]
    pub(crate) fn lost() -> Error {
        Error::fixed(ErrorKind::Runtime, &"this guard does not hold the lock")
    }
}

impl Default for Lock {
    fn default() -> Self {
        Lock::new()
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("locked", &self.locked.get()).field("waiters", &self.waiters).finish()
    }
}

/// A place in a lock's line. A waiter that leaves a free lock behind, because it was cancelled or dropped, sees to the next one.
struct Turn<'a> {
    lock: &'a Lock,
    waiter: Waiter<'a>,
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.waiter.leave().is_some() {
            self.lock.call_first();
        }
    }
}

/// Holds a [`Lock`] until it is dropped: asyncio's `async with lock`.
///
/// If the lock was released by other means meanwhile, the guard holds nothing, and leaves it alone whoever holds it then.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::Lock;
///
/// let lock = Lock::new();
/// let guard = lock.lock().await?;
/// assert!(lock.locked());
/// guard.release()?;
/// assert!(!lock.locked());
/// # Ok(())
/// # }).unwrap();
/// ```
#[must_use = "the lock is released when its guard is dropped"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    hold: Hold,
}

impl LockGuard<'_> {
    /// Releases the lock.
    ///
    /// # Errors
    /// `Runtime` if the lock was released by other means.
    #[inline]
    pub fn release(self) -> Result<()> {
        self.lock.give_back(self.hold)
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Nobody is there to be told that the lock was released before.
        let _ = self.lock.give_back(self.hold);
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("held", &(self.lock.hold() == Some(self.hold))).finish()
    }
}
