//! Wakers of tasks.
//!
//! A task is polled with a waker that is only borrowed: it points at the task and costs nothing. Any thread may clone or wake it
//! during the poll, so every entry point asks first whether it is at home: on the thread where the task's loop runs. Elsewhere it
//! touches nothing but the task's atomic pointer to its [`Backing`] and what does not change.
//!
//! A clone points at the backing, which is made once for a task and counted, see [`Backing`]. It holds the way to the loop's inbox, and
//! a pointer to the task that only home follows and that home clears when the task ends. It never keeps the task alive.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::header::{Header, TaskHead};
use super::home;
use super::raw::RawTask;
use crate::inbox::{LoopShared, Message};
use crate::shared::{Arc, AtomicBool, AtomicI64, AtomicPtr, SharedCell};

/// What clones of a task's waker share.
///
/// Most clones are made and dropped at home, where counting them takes no atomic operation: they have a count of their own. Either of
/// the counts may fall below zero, for a clone that was made in one place and dropped in the other. They are added up when the task's
/// memory goes, and the backing lives until then.
pub(crate) struct Backing {
    shared: Arc<LoopShared>,
    /// The task; null after it ended. Read and written at home only.
    task: SharedCell<*const TaskHead>,
    /// Clones made at home, less those dropped there; [`ADDED`] once they are counted by `far`. Belongs to the loop's thread.
    near: SharedCell<i64>,
    /// A wake is on its way through the inbox.
    sent: AtomicBool,
    /// All other clones, less those dropped elsewhere, and [`TASK`] until the counts are added up.
    far: AtomicI64,
}

const ADDED: i64 = i64::MIN;
/// More than there will ever be clones.
const TASK: i64 = 1 << 62;

// SAFETY: `task` and `near` are the only fields that are not Sync. They are written before the backing is published, and after that they
// are touched only on the thread on which the loop lives: `is_at_home`, `forget` and `release` see to that.
unsafe impl Send for Backing {}
// SAFETY: as for Send.
unsafe impl Sync for Backing {}

/// A counted reference to a backing: what a clone of a waker is.
pub(crate) struct BackingRef {
    backing: NonNull<Backing>,
}

// SAFETY: a backing may be used and dropped on any thread, and counts its references for all of them.
unsafe impl Send for BackingRef {}
// SAFETY: as for Send.
unsafe impl Sync for BackingRef {}

static BORROWED: RawWakerVTable = RawWakerVTable::new(clone_borrowed, wake_borrowed, wake_borrowed, |_| ());
static SHARED: RawWakerVTable = RawWakerVTable::new(clone_shared, wake_shared, wake_shared_by_ref, drop_shared);

/// The waker to poll a task with. It borrows the task: it is not dropped, and only clones of it may outlive the poll.
///
/// # Safety
/// `task` is live for as long as the waker is used.
pub(super) unsafe fn borrowed(task: NonNull<TaskHead>) -> ManuallyDrop<Waker> {
    // SAFETY: a live task.
    let backing = unsafe { (*task.as_ptr()).backing.load(Ordering::Acquire) };
    let raw = if backing.is_null() {
        RawWaker::new(task.as_ptr().cast_const().cast(), &BORROWED)
    } else {
        RawWaker::new(backing.cast_const().cast(), &SHARED)
    };
    // SAFETY: the functions of either vtable keep the contract of RawWaker. The waker is not dropped, so the backing's count, of
    // which it owns none, stays right.
    ManuallyDrop::new(unsafe { Waker::from_raw(raw) })
}

/// Whether `waker` is the one that `task` itself is polled with, or a clone of it.
#[inline]
pub(crate) fn is_own(waker: &Waker, task: &RawTask) -> bool {
    let head = task.head();
    let data = waker.data();
    if ptr::eq(waker.vtable(), &BORROWED) {
        ptr::eq(data.cast(), head)
    } else {
        ptr::eq(waker.vtable(), &SHARED) && ptr::eq(data, head.backing.load(Ordering::Relaxed).cast_const().cast())
    }
}

/// The loop-wide part that a task's wakers use off its thread.
///
/// # Safety
/// `task` is live.
unsafe fn shared_of<'a>(task: *const TaskHead) -> &'a Arc<LoopShared> {
    // SAFETY: `owner` is written once before the task is reachable, and the loop it points at lives as long as the task. Only this
    // one field of the loop is borrowed, which is Sync and never written after the loop was made.
    unsafe { &(*(*task).header.owner.as_ptr()).shared }
}

/// The backing of a task, made now if it has none.
///
/// # Safety
/// `task` is live. Any thread may call this.
unsafe fn backing(task: *const TaskHead) -> *const Backing {
    // SAFETY: a live task; the field is atomic.
    let slot: &AtomicPtr<Backing> = unsafe { &(*task).backing };
    let present = slot.load(Ordering::Acquire);
    if !present.is_null() {
        return present;
    }
    // SAFETY: a live task.
    let shared = unsafe { shared_of(task) };
    let fresh = Box::into_raw(Box::new(Backing {
        shared: Arc::clone(shared),
        task: SharedCell::new(task),
        near: SharedCell::new(0),
        sent: AtomicBool::new(false),
        far: AtomicI64::new(TASK),
    }));
    match slot.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => fresh,
        Err(present) => {
            // SAFETY: nobody has seen the fresh one.
            drop(unsafe { Box::from_raw(fresh) });
            present
        }
    }
}

/// The task has ended: wakers that are left wake nobody. Called on the loop's thread.
#[inline]
pub(super) fn forget(task: &TaskHead) {
    let backing = task.backing.load(Ordering::Acquire);
    // SAFETY: the backing lives as long as the task does.
    if let Some(backing) = unsafe { backing.as_ref() } {
        backing.task.set(ptr::null());
    }
}

/// Leaves its backing to the clones of its waker. Called on the loop's thread.
///
/// # Safety
/// `task` is being destroyed: nobody reads its `backing` afterwards.
pub(super) unsafe fn release(task: NonNull<TaskHead>) {
    // SAFETY: a task whose memory is still there.
    let head = unsafe { task.as_ref() };
    forget(head);
    if let Some(backing) = NonNull::new(head.backing.load(Ordering::Acquire)) {
        // SAFETY: the loop's thread, and a task is released once.
        unsafe { Backing::add_up(backing) };
    }
}

impl Backing {
    #[inline]
    fn is_at_home(&self) -> bool {
        home::home() == self.shared.id()
    }

    /// Changes the count of clones made and dropped at home, unless this is elsewhere or the other count has to be changed.
    #[inline]
    fn count_at_home(&self, change: i64) -> bool {
        if !self.is_at_home() {
            return false;
        }
        let near = self.near.get();
        if near == ADDED {
            return false;
        }
        self.near.set(near + change);
        true
    }

    /// The task is gone, and from now on only one count counts.
    ///
    /// # Safety
    /// This is the loop's thread, and this was not called for this backing before.
    unsafe fn add_up(this: NonNull<Backing>) {
        // SAFETY: it lives at least until the counts are added up.
        let near = unsafe { this.as_ref() }.near.replace(ADDED);
        // SAFETY: the task's own count, and those of its clones that were not in `far` yet.
        unsafe { Self::leave(this, TASK - near) };
    }

    /// Takes so much off the count, and ends the backing if nothing is left.
    ///
    /// # Safety
    /// The caller owns that much of the count.
    unsafe fn leave(this: NonNull<Backing>, counts: i64) {
        // SAFETY: the caller's counts keep it alive until here.
        let before = unsafe { this.as_ref() }.far.fetch_sub(counts, Ordering::AcqRel);
        if before == counts {
            // SAFETY: it came from a box, and nobody has a count any more.
            drop(unsafe { Box::from_raw(this.as_ptr()) });
        }
    }

    #[inline(always)]
    fn wake_at_home(&self) {
        if let Some(task) = NonNull::new(self.task.get().cast_mut()) {
            // SAFETY: this is the loop's thread. The task lives, since its end clears the pointer.
            unsafe { RawTask::borrowed(task) }.wake();
        }
    }

    /// A wake that came through the inbox has reached home.
    pub(crate) fn arrive(&self) {
        // Clear first: a wake that comes after this must be sent again, and one that came before is seen by the poll that follows.
        self.sent.swap(false, Ordering::AcqRel);
        self.wake_at_home();
    }
}

impl BackingRef {
    /// A reference that was not counted.
    ///
    /// # Safety
    /// `backing` leads to a backing that lives for as long as this is used.
    unsafe fn borrowed(backing: *const ()) -> ManuallyDrop<Self> {
        // SAFETY: as the caller says, so it is not null.
        ManuallyDrop::new(BackingRef { backing: unsafe { NonNull::new_unchecked(backing.cast_mut().cast()) } })
    }

    #[inline(always)]
    fn wake(&self) {
        if self.is_at_home() { self.wake_at_home() } else { self.wake_from_elsewhere() }
    }

    #[inline(never)]
    fn wake_from_elsewhere(&self) {
        if !self.sent.swap(true, Ordering::AcqRel) {
            self.shared.send(Message::Wake(self.clone()));
        }
    }
}

impl Deref for BackingRef {
    type Target = Backing;

    #[inline]
    fn deref(&self) -> &Backing {
        // SAFETY: this reference is counted.
        unsafe { self.backing.as_ref() }
    }
}

impl Clone for BackingRef {
    #[inline]
    fn clone(&self) -> Self {
        if !self.count_at_home(1) {
            self.far.fetch_add(1, Ordering::Relaxed);
        }
        BackingRef { backing: self.backing }
    }
}

impl Drop for BackingRef {
    #[inline]
    fn drop(&mut self) {
        if !self.count_at_home(-1) {
            // SAFETY: this was one count.
            unsafe { Backing::leave(self.backing, 1) };
        }
    }
}

unsafe fn clone_borrowed(task: *const ()) -> RawWaker {
    // SAFETY: the waker borrows a task that is being polled, so it lives.
    let backing = unsafe { backing(task.cast()) };
    // SAFETY: the task holds a count of its backing.
    unsafe { clone_shared(backing.cast()) }
}

unsafe fn wake_borrowed(task: *const ()) {
    let task = task.cast::<TaskHead>();
    // SAFETY: the waker borrows a task that is being polled, so it lives.
    let shared = unsafe { shared_of(task) };
    if home::home() == shared.id() {
        // SAFETY: as above, and this is its home thread; the address of a task is not null.
        unsafe { RawTask::borrowed(NonNull::new_unchecked(task.cast_mut())) }.wake();
    } else {
        // SAFETY: as above. The task keeps its backing until the poll has ended.
        unsafe { BackingRef::borrowed(backing(task).cast()) }.wake();
    }
}

unsafe fn clone_shared(backing: *const ()) -> RawWaker {
    // SAFETY: the waker that is cloned holds or borrows a count of this backing.
    let cloned = unsafe { BackingRef::borrowed(backing) };
    // The new waker owns this count.
    std::mem::forget(BackingRef::clone(&cloned));
    RawWaker::new(backing, &SHARED)
}

unsafe fn wake_shared(backing: *const ()) {
    // SAFETY: the waker is consumed, and its count with it.
    let backing = ManuallyDrop::into_inner(unsafe { BackingRef::borrowed(backing) });
    backing.wake();
}

unsafe fn wake_shared_by_ref(backing: *const ()) {
    // SAFETY: the waker keeps its count.
    unsafe { BackingRef::borrowed(backing) }.wake();
}

unsafe fn drop_shared(backing: *const ()) {
    // SAFETY: the waker is dropped, and its count with it.
    drop(ManuallyDrop::into_inner(unsafe { BackingRef::borrowed(backing) }));
}

const _: () = {
    const fn is_header_first() {
        assert!(std::mem::offset_of!(TaskHead, header) == 0);
        assert!(std::mem::align_of::<TaskHead>() >= std::mem::align_of::<Header>());
    }
    is_header_first();
};
