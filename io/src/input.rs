//! [`Input`]: what a stream has received and nobody has read yet.

use std::cell::{Cell, RefMut};
use std::fmt;
use std::mem::ManuallyDrop;
use std::task::Waker;

use aioli_core::{Error, Result, Token};
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use smallvec::SmallVec;

use crate::buffer::Buffer;
use crate::fairness::Fairness;
use crate::landing;
use crate::spare;
use crate::waiters;

/// The memory of a buffer that received little is allotted in pieces of this size.
const PIECE: usize = 4096;
/// Up to here it costs less to copy data out than to share the buffer's memory.
const SMALL: usize = 512;

/// The receiving half of a stream: its buffer, its end, and who waits for it.
#[repr(C)]
pub(crate) struct Input {
    buffer: Buffer,
    /// An await of the reader's that waits for data. There is one waiter at most.
    waiter: Cell<Option<Token>>,
    /// Bytes of the buffer that are out on loan to a poll of `AsyncBufRead`.
    lent: Cell<usize>,
    limit: usize,
    pub(crate) fairness: Fairness,
    /// The buffer's memory goes to another stream when everything is read.
    borrowed: Cell<bool>,
    eof: Cell<bool>,
    /// There is an error.
    broken: Cell<bool>,
    /// The task that waits was woken by an error.
    failed: Cell<bool>,
    /// The transport was told to pause, since too much is buffered.
    paused: Cell<bool>,
    /// A poll of `AsyncRead` that waits for data. It may have been given up without notice.
    poll: Cell<Option<Waker>>,
    error: Cell<Option<Box<Error>>>,
}

/// Where a separator lies in a buffer.
struct Match {
    start: usize,
    end: usize,
}

/// What the search for a separator in a buffer came to.
pub(crate) enum Search {
    /// The data with the separator.
    Found(Bytes),
    /// It was searched up to here; more has to come.
    Missing(usize),
    /// This is the answer.
    Failed(Error),
}

impl Input {
    pub(crate) fn new(limit: usize) -> Self {
        Input {
            buffer: Buffer::default(),
            borrowed: Cell::new(false),
            lent: Cell::new(0),
            limit,
            eof: Cell::new(false),
            error: Cell::new(None),
            broken: Cell::new(false),
            waiter: Cell::new(None),
            poll: Cell::new(None),
            failed: Cell::new(false),
            paused: Cell::new(false),
            fairness: Fairness::default(),
        }
    }

    // --- for the transport ---------------------------------------------------------------------------------------------------

    /// The buffer, to be appended to, if it can be at once and has room for half of what is received [at least](landing::LEAST).
    #[inline(always)]
    pub(crate) fn roomy(&self) -> Option<RefMut<'_, BytesMut>> {
        self.buffer.idle_bytes().filter(|buffer| buffer.capacity() - buffer.len() >= landing::LEAST / 2)
    }

    /// The buffer, to be appended to, with room for at least half of `size`.
    #[inline(always)]
    pub(crate) fn landing(&self, size: usize) -> RefMut<'_, BytesMut> {
        let mut buffer = self.buffer.bytes();
        if size > landing::LEAST || buffer.capacity() - buffer.len() < size / 2 {
            self.make_room(&mut buffer, size);
        }
        buffer
    }

    #[inline(never)]
    fn make_room(&self, buffer: &mut BytesMut, size: usize) {
        if size > landing::LEAST && buffer.is_empty() && !self.borrowed.replace(true) {
            spare::borrow(buffer, size);
        } else if buffer.capacity() - buffer.len() < size / 2 {
            buffer.reserve(size);
        }
    }

    /// Takes the bytes of a buffer in, and leaves it empty, with or without its memory.
    pub(crate) fn feed(&self, data: &mut BytesMut) {
        let mut buffer = self.buffer.bytes();
        if buffer.is_empty() && data.len() >= PIECE && data.len() >= data.capacity() / 2 {
            std::mem::swap(&mut *buffer, data);
        } else {
            // What is cut from the buffer keeps all of its memory from being freed, so little goes where other little is.
            if buffer.capacity() - buffer.len() < data.len() {
                buffer.reserve(data.len().max(PIECE));
            }
            buffer.extend_from_slice(data);
        }
        data.clear();
    }

    /// Nothing more comes.
    pub(crate) fn feed_eof(&self) {
        self.eof.set(true);
    }

    pub(crate) fn set_error(&self, error: Error) {
        self.broken.set(true);
        let old = self.error.replace(Some(Box::new(error)));
        drop(old);
        self.failed.set(self.is_awaited());
        self.wake();
    }

    /// Has the processor fetch what waking an await will need.
    #[inline(always)]
    pub(crate) fn prefetch_waiter(&self) {
        Token::prefetch(&self.waiter);
    }

    /// Wakes whoever waits.
    #[inline(always)]
    pub(crate) fn wake(&self) {
        match self.waiter.take() {
            Some(token) => {
                token.fire_last();
            }
            None => self.wake_poll(),
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_poll(&self) {
        if let Some(waker) = self.poll.take() {
            waiters::wake(waker);
        }
    }

    /// Whether so much is buffered that the transport has to pause; it is told once.
    #[inline(always)]
    pub(crate) fn has_to_pause(&self) -> bool {
        // More than twice the limit.
        let full = !self.paused.get() && self.len().div_ceil(2) > self.limit;
        if full {
            self.paused.set(true);
        }
        full
    }

    // --- for the reader ------------------------------------------------------------------------------------------------------

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() + self.lent.get()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn is_eof(&self) -> bool {
        self.eof.get()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    pub(crate) fn error(&self) -> Option<Error> {
        let error = self.error.take();
        let copy = error.as_deref().cloned();
        self.error.set(error);
        copy
    }

    /// # Errors
    /// That of the connection.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.broken.get() { Err(self.failure()) } else { Ok(()) }
    }

    #[cold]
    fn failure(&self) -> Error {
        self.error().expect("a broken stream has an error")
    }

    /// Whether a read need not wait: there is data, or there will be no more.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.eof.get() || self.len() > 0
    }

    /// Whether little enough is buffered now for a paused transport to go on; it is told once.
    #[inline]
    pub(crate) fn may_resume(&self) -> bool {
        self.paused.get() && self.len() <= self.limit && self.paused.replace(false)
    }

    /// A read has to wait: a paused transport has to go on.
    #[inline]
    pub(crate) fn has_to_resume(&self) -> bool {
        self.paused.get() && self.paused.replace(false)
    }

    /// Takes at most `count` bytes, if there are any, or nothing at the end or if `count` is 0.
    #[inline]
    pub(crate) fn read(&self, count: usize) -> Option<Bytes> {
        let mut buffer = self.buffer.bytes();
        match count.min(buffer.len()) {
            0 => (count == 0 || self.is_eof()).then(Bytes::new),
            count => Some(self.cut(&mut buffer, count)),
        }
    }

    /// Copies out as many bytes as there are and fit, if there are any, or none at the end or if none fits.
    #[inline]
    pub(crate) fn read_into(&self, target: &mut [u8]) -> Option<usize> {
        match self.copy_to(target) {
            0 => (target.is_empty() || self.is_eof()).then_some(0),
            count => Some(count),
        }
    }

    /// Takes all there is, and shows it to `f`, which may do anything with the stream meanwhile.
    #[inline(always)]
    pub(crate) fn take_with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        let result = self.buffer.show(f);
        if self.borrowed.get() {
            self.return_shown();
        }
        ManuallyDrop::into_inner(result)
    }

    #[inline(never)]
    fn return_shown(&self) {
        let mut buffer = self.buffer.bytes();
        if buffer.is_empty() {
            self.return_spare(&mut buffer);
        }
    }

    /// Takes at most `count` bytes.
    pub(crate) fn take(&self, count: usize) -> Bytes {
        let mut buffer = self.buffer.bytes();
        let count = count.min(buffer.len());
        self.cut(&mut buffer, count)
    }

    /// Cuts `count` bytes off the buffer.
    #[inline]
    fn cut(&self, buffer: &mut BytesMut, count: usize) -> Bytes {
        if count <= SMALL {
            let data = Bytes::copy_from_slice(&buffer[..count]);
            self.consume(buffer, count);
            return data;
        }
        let data = buffer.split_to(count).freeze();
        if buffer.is_empty() {
            self.return_spare(buffer);
        }
        data
    }

    /// Copies out as many bytes as there are and fit.
    #[inline]
    pub(crate) fn copy_to(&self, target: &mut [u8]) -> usize {
        let mut buffer = self.buffer.bytes();
        let count = target.len().min(buffer.len());
        target[..count].copy_from_slice(&buffer[..count]);
        self.consume(&mut buffer, count);
        count
    }

    /// Forgets bytes of the buffer that were copied out.
    #[inline]
    fn consume(&self, buffer: &mut BytesMut, count: usize) {
        if count < buffer.len() {
            return buffer.advance(count);
        }
        // The same memory again, which is warm.
        buffer.clear();
        self.return_spare(buffer);
    }

    /// Hands the memory of an empty buffer back, if it was borrowed.
    #[inline]
    fn return_spare(&self, buffer: &mut BytesMut) {
        if self.borrowed.get() {
            self.borrowed.set(false);
            spare::give_back(buffer);
        }
    }

    /// Takes the buffer out, as a loan.
    pub(crate) fn lend(&self) -> BytesMut {
        let buffer = self.buffer.bytes().split();
        self.lent.set(buffer.len());
        buffer
    }

    /// Whether a loan is out.
    #[inline]
    pub(crate) fn has_lent(&self) -> bool {
        self.lent.get() > 0
    }

    /// A part of the loan was used up.
    pub(crate) fn use_up(&self, count: usize) {
        self.lent.set(self.lent.get() - count);
    }

    /// Takes a loan back, in front of what has come since.
    pub(crate) fn restore(&self, mut loan: BytesMut) {
        self.lent.set(0);
        let mut buffer = self.buffer.bytes();
        loan.unsplit(std::mem::take(&mut *buffer));
        *buffer = loan;
    }

    /// Looks for the first end of any separator, from `offset` on. The separators are sorted by length, and not empty.
    pub(crate) fn search(&self, separators: &[&[u8]], offset: usize) -> Search {
        let mut buffer = self.buffer.bytes();
        let (shortest, longest) = (separators[0].len(), separators[separators.len() - 1].len());
        let mut offset = offset;
        if buffer.len() >= offset + shortest {
            if let Some(found) = find(&buffer, separators, offset) {
                if found.start > self.limit {
                    let text = "the separator is found, but the chunk is longer than the limit";
                    return Search::Failed(Error::limit_overrun(text, found.start));
                }
                return Search::Found(self.cut(&mut buffer, found.end));
            }
            offset = (buffer.len() + 1).saturating_sub(longest);
            if offset > self.limit {
                let text = "the separator is not found, and the chunk exceeds the limit";
                return Search::Failed(Error::limit_overrun(text, offset));
            }
        }
        if self.eof.get() {
            return Search::Failed(Error::incomplete_read(buffer.split().freeze(), None));
        }
        Search::Missing(offset)
    }

    /// A line was too long: drops it if it ends after `length` bytes, and everything if it does not end.
    pub(crate) fn skip_line(&self, length: usize) {
        let mut buffer = self.buffer.bytes();
        if buffer.get(length) == Some(&b'\n') {
            buffer.advance(length + 1);
        } else {
            buffer.clear();
        }
    }

    // --- waiting -------------------------------------------------------------------------------------------------------------

    /// Whether an await waits for data already.
    #[inline(always)]
    pub(crate) fn is_awaited(&self) -> bool {
        holds(&self.waiter)
    }

    /// Has an await told of the next event.
    #[inline(always)]
    pub(crate) fn wait(&self, token: Token) {
        let old = self.waiter.replace(Some(token));
        if old.is_some() {
            drop_token(old);
        }
        self.forget_poll();
    }

    #[inline(always)]
    fn forget_poll(&self) {
        if holds(&self.poll) {
            self.drop_poll();
        }
    }

    #[cold]
    #[inline(never)]
    fn drop_poll(&self) {
        drop(self.poll.take());
    }

    /// The error that woke the await, if it was one.
    #[inline]
    pub(crate) fn take_failure(&self) -> Result<()> {
        if self.failed.get() { self.fail_once() } else { Ok(()) }
    }

    #[cold]
    fn fail_once(&self) -> Result<()> {
        self.failed.set(false);
        self.check()
    }

    /// Has a waker woken by the next event.
    pub(crate) fn wait_with(&self, waker: &Waker) {
        drop(self.waiter.take());
        match self.poll.take() {
            Some(old) if old.will_wake(waker) => self.poll.set(Some(old)),
            old => {
                drop(self.poll.replace(Some(waker.clone())));
                drop(old);
            }
        }
    }

    /// Forgets an await that is over.
    #[cold]
    pub(crate) fn forget(&self) {
        let waiter = self.waiter.take();
        if waiter.as_ref().is_some_and(Token::is_pending) {
            drop(self.waiter.replace(waiter));
        }
    }
}

/// Whether there is anything in a cell. It is put back before anything else happens: so it is not written at all.
#[inline(always)]
fn holds<T>(cell: &Cell<Option<T>>) -> bool {
    let value = cell.take();
    let is_some = value.is_some();
    std::mem::forget(cell.replace(value));
    is_some
}

#[cold]
#[inline(never)]
fn drop_token(token: Option<Token>) {
    drop(token);
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("len", &self.len()).field("eof", &self.eof.get()).finish_non_exhaustive()
    }
}

/// The separator that ends first; of those that end at the same place the shortest.
fn find(buffer: &[u8], separators: &[&[u8]], offset: usize) -> Option<Match> {
    let mut first: Option<Match> = None;
    for separator in separators {
        let start = match *separator {
            [byte] => memchr::memchr(*byte, &buffer[offset..]),
            separator => memmem::find(&buffer[offset..], separator),
        };
        let Some(start) = start.map(|start| start + offset) else { continue };
        let end = start + separator.len();
        if first.as_ref().is_none_or(|first| end < first.end) {
            first = Some(Match { start, end });
        }
    }
    first
}

/// Sorts separators by length.
///
/// # Errors
/// `Value` if there is none, or an empty one.
pub(crate) fn sorted<'a, S: AsRef<[u8]>>(separators: &'a [S]) -> Result<SmallVec<[&'a [u8]; 4]>> {
    let mut sorted: SmallVec<[&'a [u8]; 4]> = separators.iter().map(AsRef::as_ref).collect();
    sorted.sort_by_key(|separator| separator.len());
    match sorted.first() {
        None => Err(Error::value("separators should contain at least one element")),
        Some(&[]) => Err(Error::value("a separator should be at least one byte long")),
        Some(_) => Ok(sorted),
    }
}
