//! [`Pool`]: memory for cells, by size class.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::ptr::{self, NonNull};

/// Class sizes are multiples of this; blocks are aligned to it.
const GRAIN: usize = 16;
/// What the processor fetches at once. Blocks of such sizes are aligned to it, so that they lie in no more of them than they need.
const LINE: usize = 64;
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
    free: FreeLists,
    /// For blocks of whole lines, and for others.
    lined: Bump,
    unlined: Bump,
    chunks: RefCell<Vec<NonNull<u8>>>,
    /// Blocks that were made and not given back to the general allocator: those in use, and those on `free`.
    blocks: Cell<usize>,
    /// From the first time on that somebody has asked how many are in use.
    counted: OnceCell<Box<Counted>>,
}

/// The rest of a chunk, of which blocks are made.
struct Bump {
    next: Cell<*mut u8>,
    left: Cell<usize>,
}

impl Bump {
    const fn new() -> Self {
        Bump { next: Cell::new(ptr::null_mut()), left: Cell::new(0) }
    }
}

/// Freed blocks of each class.
type FreeLists = [Cell<*mut Free>; CLASSES];

/// The blocks of a pool that counts them. Then `Pool::free` is empty, so that nobody makes one without coming here.
struct Counted {
    in_use: Cell<usize>,
    free: FreeLists,
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

/// Takes a block off a list.
#[inline]
fn take(list: &Cell<*mut Free>) -> Option<NonNull<u8>> {
    let block = NonNull::new(list.get())?;
    // SAFETY: a block on a list is unused, and `put` wrote a `Free` into it.
    list.set(unsafe { (*block.as_ptr()).next });
    Some(block.cast())
}

/// Puts a block onto a list.
///
/// # Safety
/// It is pooled, of the class of this list, and nothing uses it any more.
#[inline]
unsafe fn put(list: &Cell<*mut Free>, block: NonNull<u8>) {
    let block = block.cast::<Free>().as_ptr();
    // SAFETY: the caller gives up the block, which is at least GRAIN bytes large, and aligned to it.
    unsafe { block.write(Free { next: list.get() }) };
    list.set(block);
}

fn length(list: &Cell<*mut Free>) -> usize {
    // SAFETY: blocks on a list are unused, and lead to one another.
    std::iter::successors(NonNull::new(list.get()), |block| NonNull::new(unsafe { block.as_ref() }.next)).count()
}

impl Pool {
    pub(crate) fn new() -> Self {
        Pool {
            free: [const { Cell::new(ptr::null_mut()) }; CLASSES],
            lined: Bump::new(),
            unlined: Bump::new(),
            chunks: RefCell::new(Vec::new()),
            blocks: Cell::new(0),
            counted: OnceCell::new(),
        }
    }

    /// Memory for a block, uninitialised. It goes back with [`free`](Self::free) and the same kind.
    #[inline]
    pub(crate) fn alloc(&self, kind: Block) -> NonNull<u8> {
        self.free.get(kind.class).and_then(take).unwrap_or_else(|| self.alloc_slowly(kind))
    }

    #[cold]
    #[inline(never)]
    fn alloc_slowly(&self, kind: Block) -> NonNull<u8> {
        if let Some(counted) = self.counted.get() {
            counted.in_use.set(counted.in_use.get() + 1);
            if let Some(block) = counted.free.get(kind.class).and_then(take) {
                return block;
            }
        }
        self.blocks.set(self.blocks.get() + 1);
        if kind.is_pooled() { self.carve((kind.class + 1) * GRAIN) } else { Self::general(kind.layout) }
    }

    /// Takes back a block, if that is all there is to do: if not, it is one for [`free_counted`](Self::free_counted).
    ///
    /// # Safety
    /// `block` came from [`alloc`](Self::alloc) of this pool with this kind, and nothing uses it any more.
    #[inline(always)]
    pub(crate) unsafe fn free(&self, block: NonNull<u8>, kind: Block) -> bool {
        match self.free.get(kind.class) {
            Some(list) if self.counted.get().is_none() => {
                // SAFETY: the caller gives up the block, and it is one of this class.
                unsafe { put(list, block) };
                true
            }
            _ => false,
        }
    }

    /// Takes back a block. Returns whether that was the last one in use, if they are counted.
    ///
    /// # Safety
    /// As for [`free`](Self::free), which has not taken it.
    pub(crate) unsafe fn free_counted(&self, block: NonNull<u8>, kind: Block) -> bool {
        let counted = self.counted.get();
        match counted.map_or(&self.free, |counted| &counted.free).get(kind.class) {
            // SAFETY: the caller gives up the block, and it is one of this class.
            Some(list) => unsafe { put(list, block) },
            None => {
                self.blocks.set(self.blocks.get() - 1);
                // SAFETY: as the caller promises, the block came from `general` with this layout.
                unsafe { dealloc(block.as_ptr(), kind.layout) };
            }
        }
        counted.is_some_and(|counted| counted.in_use.replace(counted.in_use.get() - 1) == 1)
    }

    /// How many blocks are in use. The first time they are counted one by one, and from then on each is, as it comes and goes.
    #[cold]
    pub(crate) fn count_blocks(&self) -> usize {
        let counted = self.counted.get_or_init(|| {
            let free: usize = self.free.iter().map(length).sum();
            let lists = std::array::from_fn(|class| Cell::new(self.free[class].replace(ptr::null_mut())));
            Box::new(Counted { in_use: Cell::new(self.blocks.get() - free), free: lists })
        });
        counted.in_use.get()
    }

    fn carve(&self, size: usize) -> NonNull<u8> {
        let bump = if size.is_multiple_of(LINE) { &self.lined } else { &self.unlined };
        if bump.left.get() < size {
            let mut chunks = self.chunks.borrow_mut();
            let layout = Self::chunk(chunks.len());
            let chunk = Self::general(layout);
            if layout.size() == LARGE_CHUNK {
                prefer_large_page(chunk);
            }
            chunks.push(chunk);
            bump.next.set(chunk.as_ptr());
            bump.left.set(layout.size());
        }
        let block = bump.next.get();
        bump.left.set(bump.left.get() - size);
        // SAFETY: `size` bytes from `block` on are inside the current chunk, as `left` said.
        unsafe {
            bump.next.set(block.add(size));
            NonNull::new_unchecked(block)
        }
    }

    /// The layout of the chunk with this number.
    fn chunk(number: usize) -> Layout {
        let (size, align) = if number < SMALL_CHUNKS { (CHUNK, LINE) } else { (LARGE_CHUNK, LARGE_CHUNK) };
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
