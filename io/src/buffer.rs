//! [`Buffer`]: the memory of a reader, which a user's function may look at where it lies.

use std::cell::{OnceCell, RefCell, RefMut};
use std::mem::ManuallyDrop;

use bytes::BytesMut;

/// A buffer. While it is shown to a function, which may do anything with the stream, another one takes its place.
#[derive(Default)]
pub(crate) struct Buffer {
    bytes: RefCell<BytesMut>,
    another: OnceCell<Box<Buffer>>,
}

/// The end of showing a buffer. What was shown counts as read, whatever the function did.
struct Shown<'a>(&'a Buffer);

impl Buffer {
    /// The bytes, to be changed.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> RefMut<'_, BytesMut> {
        match self.bytes.try_borrow_mut() {
            Ok(bytes) => bytes,
            Err(_) => self.other_bytes(),
        }
    }

    #[cold]
    #[inline(never)]
    fn other_bytes(&self) -> RefMut<'_, BytesMut> {
        self.another().bytes()
    }

    #[cold]
    #[inline(never)]
    fn another(&self) -> &Buffer {
        self.another.get_or_init(Box::default)
    }

    /// The bytes, to be changed, unless they are shown.
    #[inline(always)]
    pub(crate) fn idle_bytes(&self) -> Option<RefMut<'_, BytesMut>> {
        self.bytes.try_borrow_mut().ok()
    }

    /// How many bytes there are.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        match self.bytes.try_borrow_mut() {
            Ok(bytes) => bytes.len(),
            Err(_) => self.other_len(),
        }
    }

    #[cold]
    #[inline(never)]
    fn other_len(&self) -> usize {
        self.another().len()
    }

    /// Shows all there is to `f`, and forgets it. It stays where it is: to take it out and put it back is to write all of it twice.
    #[inline(always)]
    pub(crate) fn show<R>(&self, f: impl FnOnce(&[u8]) -> R) -> ManuallyDrop<R> {
        let buffer = if self.bytes.try_borrow_mut().is_ok() { self } else { self.idle() };
        let _shown = Shown(buffer);
        let bytes = buffer.bytes.borrow_mut();
        // Nothing that comes now panics, so the result need not lie where it could be dropped.
        ManuallyDrop::new(f(&bytes))
    }

    /// The first that is not shown already.
    #[cold]
    #[inline(never)]
    fn idle(&self) -> &Buffer {
        let mut buffer = self;
        while buffer.bytes.try_borrow_mut().is_err() {
            buffer = buffer.another();
        }
        buffer
    }

    #[cold]
    #[inline(never)]
    fn take_from(&self, another: &Buffer) {
        let came = another.bytes.take();
        if !came.is_empty() {
            drop(self.bytes.replace(came));
        }
    }
}

impl Drop for Shown<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let buffer = self.0;
        buffer.bytes.borrow_mut().clear();
        if let Some(another) = buffer.another.get() {
            buffer.take_from(another);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn filled(text: &str) -> Buffer {
        let buffer = Buffer::default();
        buffer.bytes().extend_from_slice(text.as_bytes());
        buffer
    }

    fn shown(buffer: &Buffer) -> Vec<u8> {
        ManuallyDrop::into_inner(buffer.show(<[u8]>::to_vec))
    }

    #[test]
    fn what_was_shown_is_gone() {
        let buffer = filled("one");
        assert_eq!(shown(&buffer), b"one");
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn what_comes_while_it_is_shown_is_kept() {
        let buffer = filled("one");
        buffer.show(|data| {
            assert_eq!((data, buffer.len()), (&b"one"[..], 0));
            buffer.bytes().extend_from_slice(b"two");
            assert_eq!(buffer.len(), 3);
            // It is shown in its turn, and something comes even then.
            buffer.show(|data| {
                assert_eq!((data, buffer.len()), (&b"two"[..], 0));
                buffer.bytes().extend_from_slice(b"three");
            });
            assert_eq!((data, buffer.len()), (&b"one"[..], 5));
        });
        assert_eq!(shown(&buffer), b"three");
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn what_was_shown_is_gone_after_a_panic() {
        let buffer = filled("one");
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            buffer.show(|_| {
                buffer.bytes().extend_from_slice(b"two");
                panic!("on purpose");
            });
        }));
        assert!(panicked.is_err());
        assert_eq!(shown(&buffer), b"two");
    }
}
