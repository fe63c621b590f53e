//! [`Store`]: what a queue keeps its items in, and thereby their order; [`Fifo`] and [`Lifo`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;

/// The items of a [`Queue`](super::Queue), in an order of its own: [`Fifo`], [`Lifo`], or [`Heap`](super::Heap).
///
/// This trait is there to write code that takes any queue, and cannot be implemented outside of this crate.
pub trait Store<T>: Items<T> {}

impl<T, S: Items<T>> Store<T> for S {}

/// The items cannot be got at: they are being compared.
#[derive(Debug)]
pub struct Busy;

/// What a store does. Comparisons are user code: they may panic, or use the queue.
pub trait Items<T> {
    /// How many items there are.
    fn len(&self) -> usize;

    /// Adds an item, or gives it back.
    fn push(&self, item: T) -> Result<(), T>;

    /// Removes the item whose turn it is.
    fn pop(&self) -> Result<Option<T>, Busy>;

    /// Removes all items.
    fn clear(&self) -> Result<Vec<T>, Busy>;
}

/// First in, first out.
pub struct Fifo<T>(RefCell<VecDeque<T>>);

/// Last in, first out.
pub struct Lifo<T>(RefCell<Vec<T>>);

impl<T> Items<T> for Fifo<T> {
    #[inline]
    fn len(&self) -> usize {
        self.0.borrow().len()
    }

    #[inline]
    fn push(&self, item: T) -> Result<(), T> {
        self.0.borrow_mut().push_back(item);
        Ok(())
    }

    #[inline]
    fn pop(&self) -> Result<Option<T>, Busy> {
        Ok(self.0.borrow_mut().pop_front())
    }

    fn clear(&self) -> Result<Vec<T>, Busy> {
        Ok(self.0.take().into())
    }
}

impl<T> Items<T> for Lifo<T> {
    #[inline]
    fn len(&self) -> usize {
        self.0.borrow().len()
    }

    #[inline]
    fn push(&self, item: T) -> Result<(), T> {
        self.0.borrow_mut().push(item);
        Ok(())
    }

    #[inline]
    fn pop(&self) -> Result<Option<T>, Busy> {
        Ok(self.0.borrow_mut().pop())
    }

    fn clear(&self) -> Result<Vec<T>, Busy> {
        Ok(self.0.take())
    }
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Fifo(RefCell::default())
    }
}

impl<T> Default for Lifo<T> {
    fn default() -> Self {
        Lifo(RefCell::default())
    }
}

impl<T> fmt::Debug for Fifo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fifo({})", self.len())
    }
}

impl<T> fmt::Debug for Lifo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lifo({})", self.len())
    }
}
