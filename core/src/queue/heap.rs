//! [`Heap`]: smallest first.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::fmt;

use super::store::{Busy, Items};

/// Smallest first. Among equal items the order is that of Python's `heapq`, move by move.
///
/// The items are taken out of the heap while they are compared, so that a comparison may use the queue (which answers with a
/// `Runtime` error then) or panic: no item is lost, and the order is restored by the next operation.
pub struct Heap<T> {
    items: RefCell<Vec<T>>,
    len: Cell<usize>,
    /// The items are out.
    busy: Cell<bool>,
    /// A comparison panicked before the items were in order again.
    unordered: Cell<bool>,
}

/// The items of a heap, outside of it.
struct Out<'a, T> {
    heap: &'a Heap<T>,
    items: Vec<T>,
}

impl<T> Drop for Out<'_, T> {
    fn drop(&mut self) {
        self.heap.len.set(self.items.len());
        self.heap.busy.set(false);
        // What was in there is an empty vector, which never allocated.
        self.heap.items.replace(std::mem::take(&mut self.items));
    }
}

impl<T> Heap<T> {
    /// Takes the items out, unless they are.
    fn out(&self) -> Result<Out<'_, T>, Busy> {
        if self.busy.replace(true) {
            return Err(Busy);
        }
        Ok(Out { heap: self, items: self.items.take() })
    }
}

impl<T: Ord> Items<T> for Heap<T> {
    fn len(&self) -> usize {
        self.len.get()
    }

    fn push(&self, item: T) -> Result<(), T> {
        let Ok(mut out) = self.out() else { return Err(item) };
        out.items.push(item);
        self.len.set(out.items.len());
        if self.unordered.replace(true) {
            heapify(&mut out.items);
        } else {
            let last = out.items.len() - 1;
            rise(&mut out.items, 0, last);
        }
        self.unordered.set(false);
        Ok(())
    }

    fn pop(&self) -> Result<Option<T>, Busy> {
        let mut out = self.out()?;
        if self.unordered.replace(true) {
            heapify(&mut out.items);
        }
        if let Some(last) = out.items.len().checked_sub(1) {
            out.items.swap(0, last);
            sink(&mut out.items[..last], 0);
        }
        self.unordered.set(false);
        Ok(out.items.pop())
    }

    fn clear(&self) -> Result<Vec<T>, Busy> {
        let mut out = self.out()?;
        self.unordered.set(false);
        Ok(std::mem::take(&mut out.items))
    }
}

/// Moves an item towards `top` until its parent is not greater.
fn rise<T: Ord>(items: &mut [T], top: usize, mut at: usize) {
    while at > top {
        let parent = (at - 1) / 2;
        if items[at].cmp(&items[parent]) != Ordering::Less {
            break;
        }
        items.swap(at, parent);
        at = parent;
    }
}

/// Moves an item away from the front to a leaf, along the smaller children, and back up to its place below `top`.
fn sink<T: Ord>(items: &mut [T], top: usize) {
    let mut at = top;
    loop {
        let left = 2 * at + 1;
        if left >= items.len() {
            break;
        }
        let right = left + 1;
        let child = if right < items.len() && items[left].cmp(&items[right]) != Ordering::Less { right } else { left };
        items.swap(at, child);
        at = child;
    }
    rise(items, top, at);
}

fn heapify<T: Ord>(items: &mut [T]) {
    for at in (0..items.len() / 2).rev() {
        sink(items, at);
    }
}

impl<T> Default for Heap<T> {
    fn default() -> Self {
        Heap { items: RefCell::default(), len: Cell::new(0), busy: Cell::new(false), unordered: Cell::new(false) }
    }
}

impl<T> fmt::Debug for Heap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Heap({})", self.len.get())
    }
}
