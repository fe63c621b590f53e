//! [`Pool`]: memory for cells, by size class.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ptr::{self, NonNull};

/// Class sizes are multiples of this; blocks are aligned to it.
const GRAIN: usize = 16;
/// Blocks above this come from the general allocator.
const LARGEST: usize = 512;
const CLASSES: usize = LARGEST / GRAIN;
const CHUNK: usize = 32 * 1024;
/// After so many chunks, which is tens of thousands of tasks, they are large.
const SMALL_CHUNKS: usize = 256;
/// A large chunk, which is one page where the kernel has such: tasks that wake in any order have the processor look up thousands of
/// others, one by one, and the kernel hand them out.
const LARGE_CHUNK: usize = 2 * 1024 * 1024;

/// Blocks of memory for one loop. Freed blocks are kept for reuse until the pool is dropped.
pub(crate) struct Pool {
    free: [Cell<*mut Free>; CLASSES],
    bump: Cell<*mut u8>,
    left: Cell<usize>,
    chunks: RefCell<Vec<NonNull<u8>>>,
}

/// What kind of block: its layout, and the class that it belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    layout: Layout,
    /// `CLASSES` if it comes from the general allocator.
    class: usize,
}

impl Block {
    pub(crate) const fn new(layout: Layout) -> Self {
        let pooled = layout.size() <= LARGEST && layout.align() <= GRAIN && layout.size() > 0;
        Block { layout, class: if pooled { (layout.size() - 1) / GRAIN } else { CLASSES } }
    }

    /// Whether it does not come from the general allocator.
    #[inline]
    pub(crate) fn is_pooled(self) -> bool {
        self.class < CLASSES
    }
}

/// What a free block holds: the next one of its class.
struct Free {
    next: *mut Free,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Pool {
            free: [const { Cell::new(ptr::null_mut()) }; CLASSES],
            bump: Cell::new(ptr::null_mut()),
            left: Cell::new(0),
            chunks: RefCell::new(Vec::new()),
        }
    }

    /// Memory for a block, uninitialised. It goes back with [`free`](Self::free) and the same kind.
    #[inline]
    pub(crate) fn alloc(&self, kind: Block) -> NonNull<u8> {
        let Some(list) = self.free.get(kind.class) else { return Self::general(kind.layout) };
        match NonNull::new(list.get()) {
            Some(block) => {
                // SAFETY: a block on a free list is unused, at least GRAIN bytes large, and `free` wrote a `Free` into it.
                list.set(unsafe { (*block.as_ptr()).next });
                block.cast()
            }
            None => self.carve((kind.class + 1) * GRAIN),
        }
    }

    /// Takes back a block.
    ///
    /// # Safety
    /// `block` came from [`alloc`](Self::alloc) of this pool with this kind, and nothing uses it any more.
    #[inline]
    pub(crate) unsafe fn free(&self, block: NonNull<u8>, kind: Block) {
        let Some(list) = self.free.get(kind.class) else {
            // SAFETY: as the caller promises, the block came from `general` with this layout.
            return unsafe { dealloc(block.as_ptr(), kind.layout) };
        };
        let block = block.cast::<Free>().as_ptr();
        // SAFETY: the caller gives up the block, which is large enough and aligned for a `Free`.
        unsafe { block.write(Free { next: list.get() }) };
        list.set(block);
    }

    fn carve(&self, size: usize) -> NonNull<u8> {
        if self.left.get() < size {
            let mut chunks = self.chunks.borrow_mut();
            let layout = Self::chunk(chunks.len());
            let chunk = Self::general(layout);
            if layout.size() == LARGE_CHUNK {
                prefer_large_page(chunk);
            }
            chunks.push(chunk);
            self.bump.set(chunk.as_ptr());
            self.left.set(layout.size());
        }
        let block = self.bump.get();
        self.left.set(self.left.get() - size);
        // SAFETY: `size` bytes from `block` on are inside the current chunk, as `left` said.
        unsafe {
            self.bump.set(block.add(size));
            NonNull::new_unchecked(block)
        }
    }

    /// The layout of the chunk with this number.
    fn chunk(number: usize) -> Layout {
        let (size, align) = if number < SMALL_CHUNKS { (CHUNK, GRAIN) } else { (LARGE_CHUNK, LARGE_CHUNK) };
        Layout::from_size_align(size, align).expect("a constant layout")
    }

    fn general(layout: Layout) -> NonNull<u8> {
        debug_assert!(layout.size() > 0);
        // SAFETY: the layout has a size above zero: cells have a header, chunks are constant.
        NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
    }
}

/// Asks the kernel for one large page. It may have none, and gives what it has.
#[cfg(target_os = "linux")]
fn prefer_large_page(chunk: NonNull<u8>) {
    // SAFETY: the chunk is aligned, as large as this says, and all ours; the advice changes nothing of what is in it.
    let _ = unsafe { rustix::mm::madvise(chunk.as_ptr().cast(), LARGE_CHUNK, rustix::mm::Advice::LinuxHugepage) };
}

#[cfg(not(target_os = "linux"))]
fn prefer_large_page(_chunk: NonNull<u8>) {}

impl Drop for Pool {
    fn drop(&mut self) {
        for (number, chunk) in self.chunks.get_mut().drain(..).enumerate() {
            // SAFETY: chunks come from `general` with this layout, and every block's user holds the loop that owns the pool.
            unsafe { dealloc(chunk.as_ptr(), Self::chunk(number)) };
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("chunks", &self.chunks.borrow().len()).finish_non_exhaustive()
    }
}
