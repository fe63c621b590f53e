//! Queues between tasks of one loop: asyncio's, with its order and its turns.
//!
//! [`Queue`] is first in, first out. [`PriorityQueue`] and [`LifoQueue`] differ in nothing but the order of their items, and have all
//! methods of it. The second type parameter of [`Queue`] is what keeps the items; only code that takes any queue has to name it.

mod heap;
mod kinds;
mod put;
mod store;
mod turn;

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;

use crate::awaited::Awaited;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Event;
use crate::sync::waiters::{LoopBound, Waiters};
use turn::{Side, Turn};

pub use heap::Heap;
pub use kinds::{LifoQueue, PriorityQueue};
pub use put::{Put, PutError};
pub use store::{Fifo, Lifo, Store};

/// A queue of items, first in, first out, with a limit to how many it holds: asyncio's `Queue`.
///
/// A [`put`](Self::put) waits while the queue is full, a [`get`](Self::get) while it is empty. Who waits longest is woken first; but
/// what it was woken for may be taken by another before it runs, and then it waits again, at the end of the line. What can be done
/// at once does not suspend.
///
/// [`join`](Self::join) waits until every item that was put has been [done](Self::task_done). [`shutdown`](Self::shutdown) ends the
/// use of the queue.
///
/// No item is lost: a cancelled or dropped `get` leaves it in the queue, and a [`put`](Self::put) that fails still has it.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use std::rc::Rc;
///
/// use aioli_core::{ErrorKind, Queue, create_task};
///
/// let queue = Rc::new(Queue::new(2));
/// let consumer = create_task({
///     let queue = Rc::clone(&queue);
///     async move {
///         let mut sum = 0;
///         loop {
///             match queue.get().await {
///                 Ok(item) => sum += item,
///                 Err(error) if error.kind() == ErrorKind::QueueShutDown => return Ok(sum),
///                 Err(error) => return Err(error),
///             }
///             queue.task_done()?;
///         }
///     }
/// });
/// for item in 1..=10 {
///     queue.put(item).await?;
/// }
/// queue.join().await?;
/// queue.shutdown(false);
/// assert_eq!(consumer.await?, 55);
/// # Ok(())
/// # }).unwrap();
/// ```
pub struct Queue<T, S = Fifo<T>> {
    store: S,
    maxsize: usize,
    getters: Waiters,
    putters: Waiters,
    bound: LoopBound,
    /// Items that were put and are not done.
    unfinished: Cell<usize>,
    finished: Event,
    shut_down: Cell<bool>,
    /// The items are to be dropped as soon as they can be got at.
    clear_later: Cell<bool>,
    items: PhantomData<T>,
}

impl<T> Queue<T> {
    /// A queue of up to `maxsize` items; 0 is without limit.
    pub fn new(maxsize: usize) -> Self {
        Queue::with_store(Fifo::default(), maxsize)
    }
}

impl<T, S: Store<T>> Queue<T, S> {
    fn with_store(store: S, maxsize: usize) -> Self {
        let finished = Event::new();
        finished.set();
        Queue {
            store,
            maxsize,
            getters: Waiters::new(Awaited::Item),
            putters: Waiters::new(Awaited::Room),
            bound: LoopBound::new(&"this queue is bound to a different event loop"),
            unfinished: Cell::new(0),
            finished,
            shut_down: Cell::new(false),
            clear_later: Cell::new(false),
            items: PhantomData,
        }
    }

    /// How many items there may be; 0 is without limit. asyncio's `Queue.maxsize`.
    pub fn maxsize(&self) -> usize {
        self.maxsize
    }

    /// How many items there are: asyncio's `Queue.qsize`.
    pub fn qsize(&self) -> usize {
        self.store.len()
    }

    /// Whether there are no items: asyncio's `Queue.empty`.
    pub fn empty(&self) -> bool {
        self.store.len() == 0
    }

    /// Whether there are `maxsize` items: asyncio's `Queue.full`. Without a limit it never is.
    pub fn full(&self) -> bool {
        self.maxsize > 0 && self.store.len() >= self.maxsize
    }

    fn is_shut_down(&self) -> bool {
        self.shut_down.get()
    }

    /// Puts an item, and waits for room while the queue is full: asyncio's `Queue.put`.
    ///
    /// Cancelled, or ended by a shutdown, it still has the item: [`Put`] gives it back, or can be awaited again.
    ///
    /// # Errors
    /// `QueueShutDown` if the queue was or is shut down; Cancelled; `Runtime` if it would have to wait outside of a task, or the
    /// queue belongs to a different loop.
    pub fn put(&self, item: T) -> Put<'_, T, S> {
        Put::new(self, item)
    }

    /// Puts an item if there is room: asyncio's `Queue.put_nowait`.
    ///
    /// # Errors
    /// `QueueFull`; `QueueShutDown`; `Runtime` if called by a comparison of the queue's own items. The item comes back with the
    /// error.
    ///
    /// # Panics
    /// If the comparison of items does, in a [`PriorityQueue`]; the item was put then.
    pub fn put_nowait(&self, item: T) -> Result<(), PutError<T>> {
        if self.is_shut_down() {
            return Err(PutError { error: shut_down(), item });
        }
        if self.full() {
            return Err(PutError { error: Error::fixed(ErrorKind::QueueFull, &"the queue is full"), item });
        }
        let _operated = Operated::new(self);
        self.store.push(item).map_err(|item| PutError { error: busy(), item })
    }

    /// Removes the next item, and waits for one while the queue is empty: asyncio's `Queue.get`.
    ///
    /// # Errors
    /// `QueueShutDown` if the queue was or is shut down and has no items; Cancelled; `Runtime` if it would have to wait outside of a
    /// task, or the queue belongs to a different loop.
    pub async fn get(&self) -> Result<T> {
        while self.empty() && !self.is_shut_down() {
            self.wait_for_item().await?;
        }
        self.get_nowait()
    }

    async fn wait_for_item(&self) -> Result<()> {
        let mut turn = Turn::new(self, Side::Getters);
        poll_fn(|cx| turn.poll(cx)).await?;
        turn.leave();
        Ok(())
    }

    /// Removes the next item if there is one: asyncio's `Queue.get_nowait`.
    ///
    /// # Errors
    /// `QueueEmpty`; `QueueShutDown` if the queue was shut down and has no items; `Runtime` if called by a comparison of the queue's
    /// own items.
    ///
    /// # Panics
    /// If the comparison of items does, in a [`PriorityQueue`]; no item was removed then.
    pub fn get_nowait(&self) -> Result<T> {
        let operated = Operated::new(self);
        let item = self.store.pop().map_err(|_| busy())?;
        drop(operated);
        match item {
            Some(item) => Ok(item),
            None if self.is_shut_down() => Err(shut_down()),
            None => Err(Error::fixed(ErrorKind::QueueEmpty, &"the queue is empty")),
        }
    }

    /// Says that an item which was got is done with: asyncio's `Queue.task_done`. When all are, [`join`](Self::join) returns.
    ///
    /// # Errors
    /// `Value` if it is said more often than items were put.
    pub fn task_done(&self) -> Result<()> {
        let Some(unfinished) = self.unfinished.get().checked_sub(1) else {
            return Err(Error::fixed(ErrorKind::Value, &"task_done was called more often than items were put"));
        };
        self.unfinished.set(unfinished);
        if unfinished == 0 {
            self.finished.set();
        }
        Ok(())
    }

    /// Waits until every item that was put is done with: asyncio's `Queue.join`.
    ///
    /// # Errors
    /// As [`Event::wait`].
    pub async fn join(&self) -> Result<()> {
        self.finished.wait().await
    }

    /// Ends the use of the queue: it takes no more items, and when it is empty gives a `QueueShutDown` error to those who get or
    /// wait for one. asyncio's `Queue.shutdown`.
    ///
    /// `immediate`: it is emptied at once, and its items count as done. Items that were got are still waited for by
    /// [`join`](Self::join).
    pub fn shutdown(&self, immediate: bool) {
        self.shut_down.set(true);
        let items = if immediate { self.clear() } else { Vec::new() };
        if immediate && self.unfinished.get() == 0 {
            self.finished.set();
        }
        self.getters.call_all();
        self.putters.call_all();
        drop(items);
    }

    /// Takes all items out, which count as done; later if they are being compared.
    fn clear(&self) -> Vec<T> {
        let Ok(items) = self.store.clear() else {
            self.clear_later.set(true);
            return Vec::new();
        };
        self.unfinished.set(self.unfinished.get().saturating_sub(items.len()));
        items
    }
}

/// What follows a push or a pop, also one that a comparison broke off by a panic.
struct Operated<'a, T, S: Store<T>> {
    queue: &'a Queue<T, S>,
    before: usize,
}

impl<'a, T, S: Store<T>> Operated<'a, T, S> {
    #[inline]
    fn new(queue: &'a Queue<T, S>) -> Self {
        Operated { queue, before: queue.qsize() }
    }
}

impl<T, S: Store<T>> Drop for Operated<'_, T, S> {
    fn drop(&mut self) {
        let queue = self.queue;
        match queue.qsize() {
            now if now > self.before => {
                queue.unfinished.set(queue.unfinished.get() + 1);
                queue.finished.clear();
                queue.getters.call_next();
            }
            now if now < self.before => {
                queue.putters.call_next();
            }
            _ => (),
        }
        if queue.clear_later.get() {
            queue.clear_late();
        }
    }
}

impl<T, S: Store<T>> Queue<T, S> {
    /// A comparison of the items has shut the queue down.
    #[cold]
    fn clear_late(&self) {
        self.clear_later.set(false);
        self.shutdown(true);
    }
}

#[cold]
fn shut_down() -> Error {
    Error::fixed(ErrorKind::QueueShutDown, &"the queue is shut down")
}

#[cold]
fn busy() -> Error {
    Error::fixed(ErrorKind::Runtime, &"a comparison of a queue's items cannot use the queue")
}

impl<T, S: Store<T>> fmt::Debug for Queue<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("maxsize", &self.maxsize)
            .field("qsize", &self.qsize())
            .field("getters", &self.getters)
            .field("putters", &self.putters)
            .field("unfinished", &self.unfinished.get())
            .field("shut_down", &self.shut_down.get())
            .finish()
    }
}
