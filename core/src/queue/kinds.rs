//! [`PriorityQueue`] and [`LifoQueue`]: queues with another order.

use std::fmt;
use std::ops::Deref;

use super::{Heap, Lifo, Queue};

/// A [`Queue`] that gives the smallest item first: asyncio's `PriorityQueue`.
///
/// It has the methods of [`Queue`]. Items that are equal come in the order of Python's `heapq`, which is not that of their coming:
/// add a number to them if that matters. `std::cmp::Reverse` gives the greatest first.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::PriorityQueue;
///
/// let queue = PriorityQueue::new(0);
/// for job in [(2, "later"), (1, "now"), (3, "some day")] {
///     queue.put(job).await?;
/// }
/// assert_eq!(queue.get().await?, (1, "now"));
/// assert_eq!(queue.get().await?, (2, "later"));
/// # Ok(())
/// # }).unwrap();
/// ```
pub struct PriorityQueue<T: Ord> {
    queue: Queue<T, Heap<T>>,
}

/// A [`Queue`] that gives the item first that was put last: asyncio's `LifoQueue`.
///
/// It has the methods of [`Queue`].
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::LifoQueue;
///
/// let queue = LifoQueue::new(0);
/// for page in ["first", "second", "third"] {
///     queue.put(page).await?;
/// }
/// assert_eq!(queue.get().await?, "third");
/// # Ok(())
/// # }).unwrap();
/// ```
pub struct LifoQueue<T> {
    queue: Queue<T, Lifo<T>>,
}

impl<T: Ord> PriorityQueue<T> {
    /// A queue of up to `maxsize` items; 0 is without limit.
    pub fn new(maxsize: usize) -> Self {
        PriorityQueue { queue: Queue::with_store(Heap::default(), maxsize) }
    }
}

impl<T> LifoQueue<T> {
    /// A queue of up to `maxsize` items; 0 is without limit.
    pub fn new(maxsize: usize) -> Self {
        LifoQueue { queue: Queue::with_store(Lifo::default(), maxsize) }
    }
}

impl<T: Ord> Deref for PriorityQueue<T> {
    type Target = Queue<T, Heap<T>>;

    fn deref(&self) -> &Self::Target {
        &self.queue
    }
}

impl<T> Deref for LifoQueue<T> {
    type Target = Queue<T, Lifo<T>>;

    fn deref(&self) -> &Self::Target {
        &self.queue
    }
}

impl<T: Ord> fmt::Debug for PriorityQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PriorityQueue").field(&self.queue).finish()
    }
}

impl<T> fmt::Debug for LifoQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LifoQueue").field(&self.queue).finish()
    }
}
