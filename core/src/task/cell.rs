//! Blocks of memory that hold a future or a task: making, polling and ending them.

use std::alloc::Layout;
use std::any::TypeId;
use std::cell::{Cell, OnceCell, UnsafeCell};
use std::future::Future;
use std::mem::{ManuallyDrop, needs_drop, offset_of};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll};

use super::header::{Flags, FutureHead, Header, Stage, TaskHead, VTable, flag};
use super::loop_ref::LoopRef;
use super::pool::Block;
use super::raw::RawFuture;
use super::requests::Requests;
use super::wait_cell::WaitCell;
use super::waker;
use crate::error::{Error, Result};
use crate::event_loop::LoopCore;
use crate::report::discard;

/// What a finished cell holds, as its flags tell.
#[repr(C)]
union Payload<F, T> {
    coroutine: ManuallyDrop<F>,
    value: ManuallyDrop<T>,
    error: ManuallyDrop<Error>,
    empty: (),
}

#[repr(C)]
struct FutureCell<T> {
    head: FutureHead,
    payload: UnsafeCell<Payload<(), T>>,
}

#[repr(C)]
struct TaskCell<F, T> {
    head: TaskHead,
    payload: UnsafeCell<Payload<F, T>>,
}

struct FutureType<T>(T);

impl<T: 'static> FutureType<T> {
    const VTABLE: VTable = VTable {
        block: const { Block::new(Layout::new::<FutureCell<T>>()) },
        payload: offset_of!(FutureCell<T>, payload),
        value: TypeId::of::<T>,
        poll: |_| unreachable!("a plain future has no coroutine"),
        drop_coroutine: |_| unreachable!("a plain future has no coroutine"),
        // SAFETY: the caller says that the payload holds a value, whose type is `T`.
        drop_value: |cell| unsafe { ptr::drop_in_place(payload(cell).cast::<T>()) },
    };
}

struct TaskType<F, T>(F, T);

impl<F: Future<Output = Result<T>>, T: 'static> TaskType<F, T> {
    const VTABLE: VTable = VTable {
        block: const { Block::new(Layout::new::<TaskCell<F, T>>()) },
        payload: offset_of!(TaskCell<F, T>, payload),
        value: TypeId::of::<T>,
        poll: poll::<F, T>,
        // SAFETY: the caller says that the payload holds the coroutine, whose type is `F`; it is dropped in place, as pinning asks.
        drop_coroutine: |cell| unsafe { ptr::drop_in_place(payload(cell).cast::<F>()) },
        // SAFETY: the caller says that the payload holds a value, whose type is `T`.
        drop_value: |cell| unsafe { ptr::drop_in_place(payload(cell).cast::<T>()) },
    };
}

/// Where a cell's payload is.
///
/// # Safety
/// `cell` is a live cell.
#[inline]
pub(super) unsafe fn payload(cell: NonNull<Header>) -> *mut u8 {
    // SAFETY: every cell starts with a header, and its vtable tells the payload's place inside the same block.
    unsafe { cell.as_ptr().cast::<u8>().add((*cell.as_ptr()).vtable.payload) }
}

/// The same for a plain future whose value is a `T`: its type alone tells.
///
/// # Safety
/// `cell` is a live cell of such a future.
#[inline]
pub(super) unsafe fn future_payload<T>(cell: NonNull<Header>) -> *mut T {
    // SAFETY: as the caller says.
    unsafe { (&raw mut (*cell.cast::<FutureCell<T>>().as_ptr()).payload).cast() }
}

fn header(core: &LoopRef, vtable: &'static VTable, refs: u32, flags: u32) -> Header {
    Header { vtable, refs: Cell::new(refs), flags: Flags::new(flags), owner: core.as_ptr(), callbacks: Cell::default() }
}

/// A pending future with one reference.
pub(super) fn new_future<T: 'static>(core: &LoopRef) -> NonNull<Header> {
    let cell = core.pool.alloc(FutureType::<T>::VTABLE.block).cast::<FutureCell<T>>();
    let vtable = const { &FutureType::<T>::VTABLE };
    let head = FutureHead { header: header(core, vtable, 1, 0), delegate: Cell::new(None) };
    // SAFETY: the block is fresh and has the layout of the cell.
    unsafe { cell.write(FutureCell { head, payload: UnsafeCell::new(Payload { empty: () }) }) };
    cell.cast()
}

/// A task that was not started, marked as queued, with two references.
#[inline]
pub(super) fn new_task<F, T>(
    core: &LoopRef,
    number: u64,
    location: &'static Location<'static>,
    coroutine: F,
) -> NonNull<Header>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    let cell = core.pool.alloc(TaskType::<F, T>::VTABLE.block).cast::<TaskCell<F, T>>();
    let vtable = const { &TaskType::<F, T>::VTABLE };
    let head = TaskHead {
        header: header(core, vtable, 2, flag::TASK | flag::COROUTINE),
        wait_target: Cell::new(None),
        wait_scope: Cell::new(None),
        wait: WaitCell::new(),
        context: Cell::new(None),
        extra: OnceCell::new(),
        place: Cell::new(core.next_place()),
        queued: Cell::new(true),
        stage: Cell::new(Stage::Unborn),
        requests: Requests::default(),
        waker: waker::to_task(cell.cast()),
        number,
        location,
    };
    // SAFETY: the block is fresh and has the layout of the cell.
    unsafe {
        cell.write(TaskCell { head, payload: UnsafeCell::new(Payload { coroutine: ManuallyDrop::new(coroutine) }) });
    }
    cell.cast()
}

/// Polls a task's coroutine, see [`VTable::poll`].
///
/// # Safety
/// `cell` is a live `TaskCell<F, T>` whose payload is the coroutine, and no poll of it is under way.
unsafe fn poll<F, T>(cell: NonNull<Header>)
where
    F: Future<Output = Result<T>>,
{
    // SAFETY: a live cell of this type.
    let slot = unsafe { &raw mut (*cell.cast::<TaskCell<F, T>>().as_ptr()).payload };
    // SAFETY: the payload is the coroutine, as the caller says, and is not moved until it is dropped in place. Nothing else refers to
    // it while it is polled, since nobody polls it a second time.
    let coroutine = unsafe { Pin::new_unchecked(&mut *slot.cast::<F>()) };
    // What it captures shares its memory with what it returns. So the waker is not captured: it stays in registers as long as nobody asks
    // for its address.
    let step = || {
        // SAFETY: a live task cell, as the caller says; the waker does not outlive this call, during which the cell lives.
        let waker = unsafe { waker::borrowed(cell.cast::<TaskHead>()) };
        coroutine.poll(&mut Context::from_waker(&waker))
    };
    let result = match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Poll::Pending) => return,
        Ok(Poll::Ready(result)) => result,
        Err(panic) => Err(Error::panicked(panic)),
    };
    // SAFETY: a live cell whose payload is the coroutine still, which is not being polled any more. It leaves the payload empty, with
    // room for a `T` or an error; the flags say what it holds from then on.
    unsafe {
        let header = cell.as_ref();
        if needs_drop::<F>() {
            guard_drop(header.owner.as_ref(), || ptr::drop_in_place(slot.cast::<F>()));
        }
        let flags = header.flags.get() & !flag::COROUTINE;
        match result {
            Ok(value) => {
                slot.cast::<T>().write(value);
                header.flags.set(flags | flag::VALUE);
            }
            Err(error) => {
                let state = if error.is_cancelled() { flag::CANCELLED } else { flag::FAILED | flag::LOG };
                slot.cast::<Error>().write(error);
                header.flags.set(flags | state);
            }
        }
    }
}

/// Drops a task's coroutine. A panic of its destructors is reported.
///
/// # Safety
/// `cell` is a live task whose payload is the coroutine, which is not being polled.
pub(super) unsafe fn drop_coroutine(cell: NonNull<Header>, core: &LoopCore) {
    // SAFETY: a live cell.
    let header = unsafe { cell.as_ref() };
    header.clear(flag::COROUTINE);
    // SAFETY: its payload is the coroutine, as the caller says.
    guard_drop(core, || unsafe { (header.vtable.drop_coroutine)(cell) });
}

#[inline(always)]
fn guard_drop(core: &LoopCore, drop: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(drop)) {
        core.report_panic("a destructor of a coroutine panicked", panic);
    }
}

/// Whether a cell is finished and holds nothing any more that has to be dropped, and goes back to the pool: a finished cell has no
/// callbacks, waits or context.
///
/// # Safety
/// `cell` is a live cell, or one that was just given up.
#[inline]
pub(super) unsafe fn is_empty(cell: NonNull<Header>) -> bool {
    const HOLDING: u32 = flag::COROUTINE | flag::VALUE | flag::FAILED | flag::CANCELLED | flag::GATHER;
    // SAFETY: the cell's memory is still there.
    let header = unsafe { cell.as_ref() };
    let flags = header.flags.get();
    if flags & (flag::DONE | HOLDING) != flag::DONE || !header.vtable.block.is_pooled() {
        return false;
    }
    // SAFETY: the flag says that this is a task.
    flags & flag::TASK == 0 || unsafe { cell.cast::<TaskHead>().as_ref() }.is_plain()
}

/// Gives the memory of a cell back, and ends the loop if nothing else keeps it.
///
/// # Safety
/// `cell` was given up by its last reference, and nothing of it is to be dropped any more.
#[inline]
pub(super) unsafe fn free(cell: NonNull<Header>) {
    // SAFETY: the cell lives until its memory goes back.
    let header = unsafe { cell.as_ref() };
    // SAFETY: the loop lives as long as its cells. The block came from its pool with this layout and holds nothing any more.
    if !unsafe { header.owner.as_ref().pool.free(cell.cast(), header.vtable.block) } {
        // SAFETY: as above.
        unsafe { free_slowly(cell) };
    }
}

/// As [`free`].
///
/// # Safety
/// As for [`free`], after the pool has refused it.
#[cold]
#[inline(never)]
unsafe fn free_slowly(cell: NonNull<Header>) {
    // SAFETY: as in `free`.
    let (core, block) = unsafe { (cell.as_ref().owner, cell.as_ref().vtable.block) };
    // SAFETY: as in `free`.
    let last = unsafe { core.as_ref().pool.free_counted(cell.cast(), block) };
    if last {
        // SAFETY: as the pool says.
        unsafe { LoopRef::note_last_block(core) };
    }
}

/// Ends a cell that its last reference has given up: drops what it holds and gives its memory back, as [`free`] does.
///
/// # Safety
/// `cell` was given up by its last reference, and its payload is not a coroutine that is being polled.
pub(super) unsafe fn destroy(cell: NonNull<Header>) {
    // SAFETY: the cell lives until its memory goes back below.
    let header = unsafe { cell.as_ref() };
    // SAFETY: the loop lives as long as its cells.
    let core = unsafe { header.owner.as_ref() };
    let vtable = header.vtable;
    let flags = header.flags.get();
    drop(header.callbacks.take());
    if flags & flag::COROUTINE != 0 {
        // SAFETY: the flag says that the payload is the coroutine.
        unsafe { drop_coroutine(cell, core) };
    }
    if flags & flag::VALUE != 0 {
        // SAFETY: the flag says that the payload is a value; nobody can reach it any more.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { (vtable.drop_value)(cell) }));
        if let Err(panic) = dropped {
            core.report_panic("a destructor of a result panicked", panic);
        }
    }
    if flags & (flag::FAILED | flag::CANCELLED) != 0 {
        // SAFETY: the flags say that the payload is an error; it is taken out once.
        let error = unsafe { payload(cell).cast::<Error>().read() };
        if flags & flag::LOG != 0 {
            // SAFETY: the head is dropped further below; the report only looks.
            let dying = unsafe { RawFuture::uncounted(cell) };
            core.report_never_retrieved(&dying, error);
        }
        if flags & flag::TASK != 0 {
            // SAFETY: this is a task, and its head is dropped further below.
            let context = unsafe { cell.cast::<TaskHead>().as_ref() }.context.take();
            discard(context);
        }
    }
    if flags & flag::TASK != 0 {
        // SAFETY: the flag says that this is a task; its head is dropped in place once.
        unsafe {
            waker::release(cell.cast());
            ptr::drop_in_place(cell.cast::<TaskHead>().as_ptr());
        }
    } else {
        // SAFETY: a plain future, whose head is dropped in place once.
        unsafe { ptr::drop_in_place(cell.cast::<FutureHead>().as_ptr()) };
    }
    // SAFETY: everything was dropped.
    unsafe { free(cell) };
}
