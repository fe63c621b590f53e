//! [`Barrier`]: a number of tasks that wait for each other.

use std::cell::Cell;
use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::sync::condition::Condition;

/// A point where tasks wait until a given number of them have come: asyncio's `Barrier`.
///
/// The last one to come lets them all through, and the barrier is ready for the next round when all have left it; who comes
/// meanwhile waits.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use std::rc::Rc;
///
/// use aioli_core::{Barrier, create_task, get_running_loop, sleep};
///
/// let start = Rc::new(Barrier::new(3)?);
/// let runners: Vec<_> = (1..=3)
///     .map(|n| {
///         let start = Rc::clone(&start);
///         create_task(async move {
///             sleep(f64::from(n)).await?;
///             start.wait().await?;
///             Ok(get_running_loop()?.time())
///         })
///     })
///     .collect();
/// let mut times = Vec::new();
/// for runner in runners {
///     times.push(runner.await?);
/// }
/// assert!(times.iter().all(|time| *time == times[0]));
/// # Ok(())
/// # }).unwrap();
/// ```
pub struct Barrier {
    condition: Condition,
    parties: usize,
    state: Cell<State>,
    /// How many are inside: from their coming until they have gone through.
    count: Cell<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Filling,
    Draining,
    Resetting,
    Broken,
}

impl Barrier {
    /// A barrier for `parties` tasks.
    ///
    /// # Errors
    /// `Value` if `parties` is 0.
    pub fn new(parties: usize) -> Result<Self> {
        if parties == 0 {
            return Err(Error::fixed(ErrorKind::Value, &"a barrier has at least one party"));
        }
        let condition = Condition::new();
        Ok(Barrier { condition, parties, state: Cell::new(State::Filling), count: Cell::new(0) })
    }

    /// How many tasks it takes to get through: asyncio's `Barrier.parties`.
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many tasks wait for others to come; 0 while a full barrier lets them through. asyncio's `Barrier.n_waiting`.
    pub fn n_waiting(&self) -> usize {
        if self.state.get() == State::Filling { self.count.get() } else { 0 }
    }

    /// Whether it was aborted and not reset since: asyncio's `Barrier.broken`.
    pub fn broken(&self) -> bool {
        self.state.get() == State::Broken
    }

    /// Waits for the other parties: asyncio's `Barrier.wait`. Returns how many had come before this one, a number from 0 to
    /// `parties - 1`.
    ///
    /// Cancelled or dropped, the task counts as not having come; numbers may then repeat.
    ///
    /// # Errors
    /// `BrokenBarrier` if the barrier is broken, or is reset or aborted meanwhile. Cancelled. `Runtime` if it would have to wait
    /// outside of a task, or the barrier belongs to a different loop.
    pub async fn wait(&self) -> Result<usize> {
        let mut guard = self.condition.lock().await?;
        guard.wait_for(|| !matches!(self.state.get(), State::Draining | State::Resetting)).await?;
        if self.broken() {
            return Err(Error::fixed(ErrorKind::BrokenBarrier, &"the barrier is broken"));
        }
        let inside = Inside::enter(self);
        if inside.index + 1 == self.parties {
            self.state.set(State::Draining);
            guard.notify_all()?;
        } else {
            guard.wait_for(|| self.state.get() != State::Filling).await?;
            if matches!(self.state.get(), State::Broken | State::Resetting) {
                return Err(Error::fixed(ErrorKind::BrokenBarrier, &"the barrier was reset or aborted"));
            }
        }
        Ok(inside.index)
    }

    /// Makes it ready for use again: asyncio's `Barrier.reset`. Tasks that wait get a `BrokenBarrier` error.
    ///
    /// # Errors
    /// As [`Lock::acquire`](crate::Lock::acquire): it waits for its turn among those who come and go.
    pub async fn reset(&self) -> Result<()> {
        let guard = self.condition.lock().await?;
        self.state.set(if self.count.get() > 0 { State::Resetting } else { State::Filling });
        guard.notify_all()
    }

    /// Breaks it: tasks that wait, and those who come later, get a `BrokenBarrier` error, until it is [reset](Self::reset).
    /// asyncio's `Barrier.abort`.
    ///
    /// # Errors
    /// As [`reset`](Self::reset).
    pub async fn abort(&self) -> Result<()> {
        let guard = self.condition.lock().await?;
        self.state.set(State::Broken);
        guard.notify_all()
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("state", &self.state.get())
            .field("waiting", &self.n_waiting())
            .field("parties", &self.parties)
            .finish()
    }
}

/// A task inside a barrier.
struct Inside<'a> {
    barrier: &'a Barrier,
    index: usize,
}

impl<'a> Inside<'a> {
    fn enter(barrier: &'a Barrier) -> Self {
        let index = barrier.count.get();
        barrier.count.set(index + 1);
        Inside { barrier, index }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let Barrier { condition, state, count, .. } = self.barrier;
        count.set(count.get() - 1);
        if count.get() == 0 {
            if matches!(state.get(), State::Resetting | State::Draining) {
                state.set(State::Filling);
            }
            condition.call_all();
        }
    }
}
