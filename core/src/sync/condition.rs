//! [`Condition`]: waiting for something that a lock protects to change.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;

use crate::awaited::Awaited;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::lock::{Hold, Lock};
use crate::sync::waiters::{LoopBound, Waiter, Waiters};

/// A lock with a line of tasks that wait to be notified: asyncio's `Condition`.
///
/// [`lock`](Self::lock) gives a guard, whose [`wait`](ConditionGuard::wait) releases the lock, waits for a notification, and takes
/// the lock again before it returns. A wait may return without reason: test again what was waited for, or use
/// [`wait_for`](ConditionGuard::wait_for).
///
/// [`acquire`](Self::acquire), [`release`](Self::release) and [`wait`](Self::wait) are there for code that does not fit a guard.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// use aioli_core::{Condition, create_task, sleep};
///
/// let shared = Rc::new((Condition::new(), Cell::new(0)));
/// let buyer = create_task({
///     let shared = Rc::clone(&shared);
///     async move {
///         let (condition, stock) = &*shared;
///         let mut guard = condition.lock().await?;
///         guard.wait_for(|| stock.get() >= 3).await?;
///         stock.set(stock.get() - 3);
///         Ok(())
///     }
/// });
/// let (condition, stock) = &*shared;
/// while !buyer.done() {
///     sleep(1.0).await?;
///     let guard = condition.lock().await?;
///     stock.set(stock.get() + 1);
///     guard.notify(1)?;
/// }
/// buyer.await?;
/// # Ok(())
/// # }).unwrap();
/// ```
pub struct Condition {
    lock: Rc<Lock>,
    waiters: Waiters,
    bound: LoopBound,
}

impl Condition {
    /// A condition with a lock of its own.
    pub fn new() -> Self {
        Condition::with_lock(Rc::new(Lock::new()))
    }

    /// A condition with a lock that others use too, other conditions for instance: asyncio's `Condition(lock)`.
    pub fn with_lock(lock: Rc<Lock>) -> Self {
        Condition {
            lock,
            waiters: Waiters::new(Awaited::Condition),
            bound: LoopBound::new(&"this condition is bound to a different event loop"),
        }
    }

    /// Whether somebody holds the lock: asyncio's `Condition.locked`.
    pub fn locked(&self) -> bool {
        self.lock.locked()
    }

    /// Acquires the lock, as [`Lock::acquire`]. asyncio's `Condition.acquire`.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn acquire(&self) -> Result<()> {
        self.lock.acquire().await
    }

    /// Releases the lock, as [`Lock::release`]. asyncio's `Condition.release`.
    ///
    /// # Errors
    /// As [`Lock::release`].
    pub fn release(&self) -> Result<()> {
        self.lock.release()
    }

    /// Acquires the lock and gives a guard, which releases it when dropped.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn lock(&self) -> Result<ConditionGuard<'_>> {
        let hold = self.lock.take().await?;
        Ok(ConditionGuard { condition: self, hold: Cell::new(Some(hold)) })
    }

    /// Releases the lock, waits to be notified, and takes the lock again: asyncio's `Condition.wait`.
    ///
    /// The lock is taken again also when the wait is cancelled; requests that come while it waits for the lock are taken in, and the
    /// last one is returned then. A notification that a cancelled wait has got goes to another one.
    ///
    /// Dropped, it does not hold the lock: code that releases it afterwards would release what others hold. A
    /// [guard](ConditionGuard::wait) knows.
    ///
    /// # Errors
    /// Cancelled. `Runtime` if nobody holds the lock, the wait is outside of a task, or the condition belongs to a different loop;
    /// then the lock was not released.
    pub async fn wait(&self) -> Result<()> {
        self.wait_holding(&Cell::new(self.lock.hold())).await
    }

    /// Waits until `predicate` is true, testing it before each [`wait`](Self::wait). asyncio's `Condition.wait_for`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait); none if the predicate is true at once.
    pub async fn wait_for(&self, mut predicate: impl FnMut() -> bool) -> Result<()> {
        while !predicate() {
            self.wait().await?;
        }
        Ok(())
    }

    /// Wakes up to `n` of those who wait, in the order in which they came: asyncio's `Condition.notify`. Each goes on when it has
    /// the lock again.
    ///
    /// # Errors
    /// `Runtime` if nobody holds the lock.
    pub fn notify(&self, n: usize) -> Result<()> {
        if !self.lock.locked() {
            return Err(Error::fixed(ErrorKind::Runtime, &"cannot notify on a lock that is not acquired"));
        }
        self.waiters.call(n);
        Ok(())
    }

    /// Wakes all who wait: asyncio's `Condition.notify_all`.
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    pub fn notify_all(&self) -> Result<()> {
        self.notify(usize::MAX)
    }

    /// Wakes all who wait, whoever holds the lock.
    pub(super) fn call_all(&self) {
        self.waiters.call(usize::MAX);
    }

    /// Waits. `hold` is what the caller holds of the lock, as long as it does.
    async fn wait_holding(&self, hold: &Cell<Option<Hold>>) -> Result<()> {
        if hold.get().is_none_or(|hold| self.lock.hold() != Some(hold)) {
            return Err(Error::fixed(ErrorKind::Runtime, &"cannot wait on a lock that is not acquired"));
        }
        let mut notice = Notice { condition: self, waiter: Waiter::new(&self.waiters, &self.bound), owed: false };
        let notified = poll_fn(|cx| {
            let first = !notice.waiter.has_joined();
            let polled = notice.waiter.poll(cx, || ());
            if first && notice.waiter.has_joined() {
                // It holds, as was tested above.
                let _ = hold.take().map(|held| self.lock.give_back(held));
            }
            polled
        })
        .await;
        if hold.get().is_some() {
            return notified;
        }
        notice.leave();
        let mut error = notified.err();
        loop {
            match self.lock.take().await {
                Ok(taken) => {
                    hold.set(Some(taken));
                    break;
                }
                Err(cancelled) if cancelled.is_cancelled() => error = Some(cancelled),
                Err(other) => {
                    error = Some(other);
                    break;
                }
            }
        }
        notice.owed = error.is_some();
        error.map_or(Ok(()), Err)
    }
}

impl Default for Condition {
    fn default() -> Self {
        Condition::new()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("locked", &self.locked()).field("waiters", &self.waiters).finish()
    }
}

/// A place in a condition's line, and the notification that it got there, until the wait returns without an error.
struct Notice<'a> {
    condition: &'a Condition,
    waiter: Waiter<'a>,
    /// Somebody else is to be notified instead.
    owed: bool,
}

impl Notice<'_> {
    fn leave(&mut self) {
        self.owed |= self.waiter.leave() == Some(true);
    }
}

impl Drop for Notice<'_> {
    fn drop(&mut self) {
        self.leave();
        if self.owed {
            self.condition.waiters.call_next();
        }
    }
}

/// Holds the lock of a [`Condition`] until it is dropped: asyncio's `async with condition`.
///
/// A [`wait`](Self::wait) that is dropped before it returned leaves a guard that holds nothing; [`acquire`](Self::acquire) makes it
/// hold again. A guard that holds nothing leaves the lock alone.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Condition, timeout};
///
/// let condition = Condition::new();
/// let mut guard = condition.lock().await?;
/// // A wait that is cancelled takes the lock again.
/// assert!(timeout(1.0, guard.wait()).await.unwrap_err().is_timeout());
/// assert!(guard.is_held());
/// // One that is dropped does not.
/// let wait = Box::pin(guard.wait());
/// drop(futures::future::select(wait, Box::pin(aioli_core::sleep(1.0))).await);
/// assert!(!guard.is_held());
/// guard.acquire().await?;
/// guard.notify_all()?;
/// # Ok(())
/// # }).unwrap();
/// ```
#[must_use = "the lock is released when its guard is dropped"]
pub struct ConditionGuard<'a> {
    condition: &'a Condition,
    hold: Cell<Option<Hold>>,
}

impl ConditionGuard<'_> {
    /// Whether it holds the lock.
    pub fn is_held(&self) -> bool {
        self.hold.get().is_some_and(|hold| self.condition.lock.hold() == Some(hold))
    }

    /// Takes the lock, unless the guard holds it.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn acquire(&mut self) -> Result<()> {
        if !self.is_held() {
            self.hold.set(Some(self.condition.lock.take().await?));
        }
        Ok(())
    }

    /// Releases the lock, waits to be notified, and takes the lock again, also when it is cancelled: see [`Condition::wait`].
    ///
    /// # Errors
    /// As [`Condition::wait`]; `Runtime` if the guard does not hold the lock.
    pub async fn wait(&mut self) -> Result<()> {
        self.condition.wait_holding(&self.hold).await
    }

    /// Waits until `predicate` is true, testing it before each [`wait`](Self::wait).
    ///
    /// # Errors
    /// As [`wait`](Self::wait); none if the predicate is true at once.
    pub async fn wait_for(&mut self, mut predicate: impl FnMut() -> bool) -> Result<()> {
        while !predicate() {
            self.wait().await?;
        }
        Ok(())
    }

    /// Wakes up to `n` of those who wait: see [`Condition::notify`].
    ///
    /// # Errors
    /// `Runtime` if the guard does not hold the lock.
    pub fn notify(&self, n: usize) -> Result<()> {
        if self.is_held() { self.condition.notify(n) } else { Err(Lock::lost()) }
    }

    /// Wakes all who wait.
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    pub fn notify_all(&self) -> Result<()> {
        self.notify(usize::MAX)
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// `Runtime` if the guard does not hold it.
    pub fn release(self) -> Result<()> {
        self.give_back()
    }

    fn give_back(&self) -> Result<()> {
        self.hold.take().map_or_else(|| Err(Lock::lost()), |hold| self.condition.lock.give_back(hold))
    }
}

impl Drop for ConditionGuard<'_> {
    fn drop(&mut self) {
        // Nobody is there to be told that it holds nothing.
        let _ = self.give_back();
    }
}

impl fmt::Debug for ConditionGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConditionGuard").field("held", &self.is_held()).finish()
    }
}
