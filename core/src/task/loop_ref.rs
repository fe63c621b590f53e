//! [`LoopRef`]: a counted reference to a loop.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::{Rc, Weak};

use crate::event_loop::LoopCore;

/// A counted reference to a loop.
///
/// Futures and tasks, of which each is in a block of the loop's memory, keep the loop too, but none of them is counted: one count stands
/// for all. When no other is left, the blocks are counted, once, and from then on the last of them ends the loop.
pub(crate) struct LoopRef {
    core: ManuallyDrop<Rc<LoopCore>>,
}

impl LoopRef {
    pub(crate) fn new(core: LoopCore) -> Self {
        let core = Rc::new(core);
        // The count of the blocks.
        std::mem::forget(Rc::clone(&core));
        LoopRef { core: ManuallyDrop::new(core) }
    }

    /// Where the loop is, for its blocks and for the thread on which it runs.
    #[inline]
    pub(crate) fn as_ptr(&self) -> NonNull<LoopCore> {
        // SAFETY: what an `Rc` leads to has an address.
        unsafe { NonNull::new_unchecked(Rc::as_ptr(&self.core).cast_mut()) }
    }

    /// A reference that is not counted, and not to be dropped.
    ///
    /// # Safety
    /// `core` is from [`as_ptr`](Self::as_ptr), and the loop lives for as long as this is used.
    #[inline(always)]
    pub(crate) unsafe fn borrowed(core: NonNull<LoopCore>) -> ManuallyDrop<Self> {
        // SAFETY: as the caller says. It is not dropped, so its count is nobody's.
        let core = unsafe { Rc::from_raw(core.as_ptr().cast_const()) };
        ManuallyDrop::new(LoopRef { core: ManuallyDrop::new(core) })
    }

    pub(crate) fn downgrade(&self) -> Weak<LoopCore> {
        Rc::downgrade(&self.core)
    }

    pub(crate) fn upgrade(core: &Weak<LoopCore>) -> Option<Self> {
        core.upgrade().map(|core| LoopRef { core: ManuallyDrop::new(core) })
    }

    pub(crate) fn same(&self, other: &LoopRef) -> bool {
        Rc::ptr_eq(&self.core, &other.core)
    }

    /// Whether the blocks alone keep the loop, but for this reference.
    #[inline(always)]
    fn is_last(&self) -> bool {
        Rc::strong_count(&self.core) <= 2
    }

    /// This was the last block.
    ///
    /// # Safety
    /// `core` is from [`as_ptr`](Self::as_ptr), and blocks have kept the loop until now.
    #[cold]
    pub(crate) unsafe fn note_last_block(core: NonNull<LoopCore>) {
        // SAFETY: as the caller says.
        let blocks = ManuallyDrop::into_inner(unsafe { Self::borrowed(core) });
        if Rc::strong_count(&blocks.core) == 1 {
            drop(Self::into_count(blocks));
        } else {
            std::mem::forget(blocks);
        }
    }

    fn into_count(self) -> Rc<LoopCore> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: its own destructor does not run any more.
        unsafe { ManuallyDrop::take(&mut this.core) }
    }

    #[cold]
    #[inline(never)]
    fn drop_last(core: Rc<LoopCore>) {
        if core.pool.count_blocks() == 0 {
            // SAFETY: `new` put in this count, and nobody has another: the one below is the last.
            unsafe { Rc::decrement_strong_count(Rc::as_ptr(&core)) };
        }
        drop(core);
    }
}

impl Drop for LoopRef {
    #[inline(always)]
    fn drop(&mut self) {
        let last = self.is_last();
        // SAFETY: the destructor, after which nobody uses it.
        let core = unsafe { ManuallyDrop::take(&mut self.core) };
        if last { Self::drop_last(core) } else { drop(core) }
    }
}

impl Clone for LoopRef {
    #[inline]
    fn clone(&self) -> Self {
        LoopRef { core: self.core.clone() }
    }
}

impl Deref for LoopRef {
    type Target = LoopCore;

    #[inline(always)]
    fn deref(&self) -> &LoopCore {
        &self.core
    }
}

impl fmt::Debug for LoopRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}
