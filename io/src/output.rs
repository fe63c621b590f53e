//! [`Output`]: what a stream was given to send and the kernel has not taken yet.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::task::Waker;

use aioli_core::{Error, Result};
use bytes::{Buf, Bytes, BytesMut};

use crate::fairness::Fairness;
use crate::waiters::{self, Waiters};

/// From this size on, bytes that are given away are queued as they are. Smaller ones are put together, for fewer system calls.
const WHOLE: usize = 4096;

/// The sending half of a stream: its queue, and flow control.
#[repr(C)]
pub(crate) struct Output {
    /// Bytes in the queue, and those of it that a send in flight has not reported yet.
    size: Cell<usize>,
    pub(crate) fairness: Fairness,
    eof: Cell<bool>,
    paused: Cell<bool>,
    /// Something that was written was forgotten.
    cut: Cell<bool>,
    queue: RefCell<Queue>,
    high: Cell<usize>,
    low: Cell<usize>,
    /// How often writing was resumed.
    resumed: Cell<u32>,
    drains: Waiters,
    /// A poll of `AsyncWrite`.
    poll: Cell<Option<Waker>>,
}

#[derive(Default)]
struct Queue {
    whole: VecDeque<Bytes>,
    /// What comes after those, put together.
    tail: BytesMut,
}

impl Output {
    pub(crate) fn new() -> Self {
        Output {
            queue: RefCell::default(),
            size: Cell::new(0),
            high: Cell::new(64 * 1024),
            low: Cell::new(16 * 1024),
            paused: Cell::new(false),
            cut: Cell::new(false),
            resumed: Cell::new(0),
            eof: Cell::new(false),
            drains: Waiters::default(),
            poll: Cell::new(None),
            fairness: Fairness::default(),
        }
    }

    /// Bytes that the kernel has not taken.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.size.get()
    }

    pub(crate) fn limits(&self) -> (usize, usize) {
        (self.low.get(), self.high.get())
    }

    /// How much can be queued before the high limit is reached.
    pub(crate) fn room(&self) -> usize {
        self.high.get().saturating_sub(self.size.get())
    }

    pub(crate) fn set_limits(&self, high: Option<usize>, low: Option<usize>) -> Result<()> {
        let high = high.or_else(|| low.map(|low| low.saturating_mul(4))).unwrap_or(64 * 1024);
        let low = low.unwrap_or(high / 4);
        if low > high {
            return Err(Error::value(format!("the high limit ({high}) must not be less than the low one ({low})")));
        }
        self.high.set(high);
        self.low.set(low);
        self.maybe_pause();
        Ok(())
    }

    /// Whether the end was written.
    #[inline]
    pub(crate) fn is_eof(&self) -> bool {
        self.eof.get()
    }

    pub(crate) fn set_eof(&self) {
        self.eof.set(true);
    }

    pub(crate) fn push_slice(&self, data: &[u8]) {
        self.size.set(self.size.get() + data.len());
        self.queue.borrow_mut().tail.extend_from_slice(data);
        self.maybe_pause();
    }

    pub(crate) fn push(&self, data: Bytes) {
        if data.len() < WHOLE {
            return self.push_slice(&data);
        }
        self.size.set(self.size.get() + data.len());
        let mut queue = self.queue.borrow_mut();
        if !queue.tail.is_empty() {
            let tail = queue.tail.split().freeze();
            queue.whole.push_back(tail);
        }
        queue.whole.push_back(data);
        drop(queue);
        self.maybe_pause();
    }

    /// What to send next.
    pub(crate) fn next(&self) -> Option<Bytes> {
        let mut queue = self.queue.borrow_mut();
        if let Some(data) = queue.whole.pop_front() {
            return Some(data);
        }
        (!queue.tail.is_empty()).then(|| queue.tail.split().freeze())
    }

    /// The kernel took some of what was to be sent; the rest is next again.
    pub(crate) fn taken(&self, mut data: Bytes, count: usize) {
        self.size.set(self.size.get() - count);
        data.advance(count);
        if !data.is_empty() {
            self.queue.borrow_mut().whole.push_front(data);
        }
    }

    /// Forgets everything, since it cannot be sent any more.
    pub(crate) fn clear(&self) {
        if self.size.replace(0) > 0 {
            self.cut.set(true);
        }
        let queue = std::mem::take(&mut *self.queue.borrow_mut());
        drop(queue);
    }

    /// Whether something was forgotten.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    // --- flow control --------------------------------------------------------------------------------------------------------

    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    fn maybe_pause(&self) {
        if self.size.get() > self.high.get() {
            self.paused.set(true);
        }
    }

    /// The queue has become shorter: wakes those that wait for that, if it is short enough.
    pub(crate) fn maybe_resume(&self) {
        if self.paused.get() && self.size.get() <= self.low.get() {
            self.paused.set(false);
            self.resumed.set(self.resumed.get().wrapping_add(1));
            self.drains.wake_all();
        }
        if !self.paused.get() {
            self.wake_poll();
        }
    }

    /// Waits until writing is resumed, or the connection is lost. Returns which.
    pub(crate) async fn wait(&self) -> Result<bool> {
        let before = self.resumed.get();
        self.drains.wait().await?;
        Ok(self.resumed.get() != before)
    }

    /// The connection is lost: nobody waits any more.
    pub(crate) fn lose(&self) {
        self.drains.wake_all();
        self.wake_poll();
    }

    /// Has a waker woken when something was sent.
    pub(crate) fn wait_with(&self, waker: &Waker) {
        match self.poll.take() {
            Some(old) if old.will_wake(waker) => self.poll.set(Some(old)),
            old => {
                self.poll.set(Some(waker.clone()));
                drop(old);
            }
        }
    }

    fn wake_poll(&self) {
        if let Some(waker) = self.poll.take() {
            waiters::wake(waker);
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("size", &self.size.get()).field("eof", &self.eof.get()).finish_non_exhaustive()
    }
}
