//! [`Buffers`]: the memory that the kernel picks from when data comes.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::BytesMut;
use io_uring::types::BufRingEntry;

use crate::ring::Ring;

/// The group's number in the ring. There is one.
pub(crate) const GROUP: u16 = 0;
/// The size of a buffer. A little more than a power of two, so that the buffers' first bytes do not compete for the same lines of the
/// cache.
pub(crate) const SIZE: usize = 16 * 1024 + 192;
/// The same where a receive has no credit: it fills 32 buffers at once, twice in a system call.
pub(crate) const SIZE_WITHOUT_CREDIT: usize = 512 - 64;
/// How many buffers the kernel can have at most.
const PLACES: u16 = 1024;
/// How many it has at first.
const FIRST: usize = 64;
/// From this size on, the buffer itself changes hands…
const LARGE: usize = SIZE / 2;
/// …for one that is no larger than this: it is kept.
const FITTING: usize = 4 * SIZE;
/// Up to this size, data is added to a buffer that waits to be read anyway.
const SMALL: usize = 4096;
/// No slot.
const NONE: u16 = u16::MAX;

/// A list of filled buffers that belong together, oldest first.
#[derive(Debug)]
pub(crate) struct Kept {
    head: u16,
    tail: u16,
    bytes: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Kept { head: NONE, tail: NONE, bytes: 0 }
    }
}

impl Kept {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A buffer, known to the kernel by its number: its place among the slots.
///
/// While the kernel has it, it is empty, and its spare capacity is the kernel's to write to.
struct Slot {
    block: BytesMut,
    /// How much of the data was read.
    start: usize,
    next: u16,
}

impl Slot {
    #[cold]
    #[inline(never)]
    fn renew(&mut self, size: usize) {
        self.block = BytesMut::with_capacity(size);
    }
}

/// The buffers of a driver.
///
/// There are as many slots as are needed for the kernel to have enough, also when readers are slow. What a reader does not read is
/// bounded by whoever asked for it. The memory must not be freed before the ring is closed.
pub(crate) struct Buffers {
    memory: Memory,
    size: usize,
    tail: u16,
    slots: Vec<Slot>,
    /// Slots without a buffer.
    vacant: Vec<u16>,
    /// How many buffers the kernel has, and should have.
    given: usize,
    wanted: usize,
}

impl Buffers {
    /// Makes buffers known to a ring.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn register(ring: &mut Ring, size: usize) -> io::Result<Self> {
        let memory = Memory::new()?;
        // SAFETY: the memory is freed after the ring is closed: whoever has both drops them in this order.
        unsafe {
            let address = memory.0.as_ptr() as u64;
            ring.uring().submitter().register_buf_ring_with_flags(address, PLACES, GROUP, 0)?;
        }
        let mut buffers =
            Buffers { memory, size, tail: 0, slots: Vec::new(), vacant: Vec::new(), given: 0, wanted: FIRST };
        buffers.replenish();
        Ok(buffers)
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Gives the kernel as many as it should have.
    fn replenish(&mut self) {
        while self.given < self.wanted {
            let slot = match self.vacant.pop() {
                Some(slot) => slot,
                // The number that means none, and fewer than that.
                None if self.slots.len() >= usize::from(NONE) => return,
                None => {
                    self.slots.push(Slot { block: BytesMut::new(), start: 0, next: NONE });
                    (self.slots.len() - 1) as u16
                }
            };
            self.give(slot);
        }
    }

    /// The kernel found none. Returns whether it has some now.
    pub(crate) fn exhausted(&mut self) -> bool {
        self.wanted = (self.wanted * 2).min(usize::from(PLACES));
        self.replenish();
        self.given > 0
    }

    /// Gives the kernel the buffer of a slot, or a new one.
    #[inline(always)]
    fn give(&mut self, number: u16) {
        let slot = &mut self.slots[usize::from(number)];
        if slot.block.capacity() < self.size {
            slot.renew(self.size);
        }
        // While the kernel has it, it is ready to be filled.
        slot.block.clear();
        if slot.start != 0 {
            slot.start = 0;
        }
        if slot.next != NONE {
            slot.next = NONE;
        }
        let spare = slot.block.spare_capacity_mut();
        self.memory.write(self.tail, spare.as_mut_ptr() as u64, self.size as u32, number);
        self.tail = self.tail.wrapping_add(1);
        self.memory.publish(self.tail);
        self.given += 1;
    }

    /// A slot's data was read.
    #[inline(always)]
    fn recycle(&mut self, number: u16) {
        if self.given < self.wanted {
            self.give(number);
        } else {
            self.retire(number);
        }
    }

    /// The kernel has enough buffers.
    #[cold]
    #[inline(never)]
    fn retire(&mut self, number: u16) {
        self.slots[usize::from(number)].block = BytesMut::new();
        self.vacant.push(number);
    }

    /// The kernel gave a buffer back, with nothing in it.
    pub(crate) fn unused(&mut self, number: u16) {
        self.given -= 1;
        self.recycle(number);
    }

    /// The kernel filled so much of a buffer.
    #[inline(always)]
    fn filled(&mut self, number: u16, count: usize) {
        self.given -= 1;
        // SAFETY: the kernel wrote so many bytes at the start of the buffer, which has that capacity, and has done with it.
        unsafe { self.slots[usize::from(number)].block.set_len(count) };
    }

    /// The kernel filled so much of a buffer, which becomes a list.
    #[inline(always)]
    pub(crate) fn keep_first(&mut self, number: u16, count: usize) -> Kept {
        self.filled(number, count);
        Kept { head: number, tail: number, bytes: count }
    }

    /// The kernel filled so much of a buffer, which is added to a list.
    pub(crate) fn keep(&mut self, number: u16, count: usize, kept: &mut Kept) {
        if kept.is_empty() {
            *kept = self.keep_first(number, count);
            return;
        }
        self.filled(number, count);
        kept.bytes += count;
        let index = usize::from(number);
        if count <= SMALL && self.room(kept.tail) >= count {
            let block = std::mem::take(&mut self.slots[index].block);
            self.slots[usize::from(kept.tail)].block.extend_from_slice(&block);
            self.slots[index].block = block;
            self.recycle(number);
        } else {
            self.slots[usize::from(kept.tail)].next = number;
            kept.tail = number;
        }
    }

    /// The kernel is to be entered. If it has few, because readers have not read, it gets more; those that were read it has again.
    #[inline]
    pub(crate) fn top_up(&mut self) {
        if self.given < self.wanted / 4 {
            self.replenish();
        }
    }

    fn room(&self, number: u16) -> usize {
        let block = &self.slots[usize::from(number)].block;
        block.capacity() - block.len()
    }

    /// Moves the only buffer of a list, of which nothing was read and which is not large, to the end of another that has room for it.
    /// Returns how much that is; `None` if it is not so.
    #[inline(always)]
    pub(crate) fn read_only_one(&mut self, kept: &mut Kept, target: &mut BytesMut) -> Option<usize> {
        let number = kept.head;
        let slot = self.slots.get(usize::from(number))?;
        let count = slot.block.len();
        let before = target.len();
        let plain = slot.next == NONE && slot.start == 0 && count < LARGE && count <= target.capacity() - before;
        if !plain || self.given >= self.wanted {
            return None;
        }
        // SAFETY: there is room for so many bytes, which then are initialized, and they are those of another buffer.
        unsafe {
            let spare = target.spare_capacity_mut().as_mut_ptr().cast::<u8>();
            ptr::copy_nonoverlapping(slot.block.as_ptr(), spare, count);
            target.set_len(before + count);
        }
        *kept = Kept::default();
        self.give(number);
        Some(count)
    }

    /// Moves data from a list to the end of a buffer, as much as there is room for. Large data is not copied into an empty buffer:
    /// the buffers change places. Returns how much was moved.
    #[inline]
    pub(crate) fn read(&mut self, kept: &mut Kept, target: &mut BytesMut) -> usize {
        if target.is_empty() && target.capacity() <= FITTING && !kept.is_empty() {
            let slot = &mut self.slots[usize::from(kept.head)];
            let count = slot.block.len();
            if slot.start == 0 && count >= LARGE {
                std::mem::swap(target, &mut slot.block);
                kept.bytes -= count;
                self.drop_head(kept);
                return count;
            }
        }
        self.copy(kept, target)
    }

    /// Copies data from a list to the end of a buffer, as much as there is room for. Returns how much.
    #[inline]
    pub(crate) fn copy(&mut self, kept: &mut Kept, target: &mut BytesMut) -> usize {
        let before = target.len();
        while !kept.is_empty() {
            let slot = &mut self.slots[usize::from(kept.head)];
            let left = &slot.block[slot.start..];
            let room = target.capacity() - target.len();
            if left.len() > room {
                target.extend_from_slice(&left[..room]);
                slot.start += room;
                break;
            }
            target.extend_from_slice(left);
            self.drop_head(kept);
        }
        let count = target.len() - before;
        kept.bytes -= count;
        count
    }

    fn drop_head(&mut self, kept: &mut Kept) {
        let number = kept.head;
        kept.head = self.slots[usize::from(number)].next;
        if kept.head == NONE {
            kept.tail = NONE;
        }
        self.recycle(number);
    }

    /// Forgets what is in a list.
    pub(crate) fn discard(&mut self, kept: &mut Kept) {
        while !kept.is_empty() {
            self.drop_head(kept);
        }
        kept.bytes = 0;
    }

    /// In a fork, where the memory that the kernel shares is not mapped: leaves alone what else may lie there now.
    pub(crate) fn forget(self) {
        std::mem::forget(self.memory);
    }
}

/// The ring of buffers that is shared with the kernel. A fork does not get it.
struct Memory(NonNull<BufRingEntry>);

impl Memory {
    const LENGTH: usize = PLACES as usize * size_of::<BufRingEntry>();

    fn new() -> io::Result<Self> {
        // SAFETY: a fresh mapping, which nobody else knows. It is zeroed: a valid empty ring.
        unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let address = libc::mmap(ptr::null_mut(), Self::LENGTH, protection, flags, -1, 0);
            if address == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let memory = Memory(NonNull::new_unchecked(address.cast()));
            if libc::madvise(address, Self::LENGTH, libc::MADV_DONTFORK) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(memory)
        }
    }

    fn write(&mut self, place: u16, address: u64, length: u32, number: u16) {
        let place = usize::from(place % PLACES);
        // SAFETY: the place lies in the ring. The kernel does not read it before it is published; the fields written here are not
        // those of the tail.
        let entry = unsafe { self.0.add(place).as_mut() };
        entry.set_addr(address);
        entry.set_len(length);
        entry.set_bid(number);
    }

    fn publish(&mut self, tail: u16) {
        // SAFETY: the tail lies in the first entry, is aligned, and is only ever accessed as an atomic by either side.
        unsafe {
            let shared = BufRingEntry::tail(self.0.as_ptr()).cast::<AtomicU16>();
            (*shared).store(tail, Ordering::Release);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it is ours, and the ring that knew it is closed. In a fork nothing is mapped there.
        unsafe { libc::munmap(self.0.as_ptr().cast(), Self::LENGTH) };
    }
}
