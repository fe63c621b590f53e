//! Wakers of tasks.
//!
//! A task is polled with a waker that is only borrowed: it points at the task and costs nothing. Any thread may clone or wake it
//! during the poll, so every entry point asks first whether it is at home: on the thread where the task's loop runs. Elsewhere it
//! touches nothing but the task's atomic pointer to its [`Backing`] and what does not change.
//!
//! A clone points at the backing, which is made once for a task and counted, see [`Backing`]. It holds the way to the loop's inbox, and
//! a pointer to the task that only home follows and that home clears when the task ends. It never keeps the task alive.
//!
//! Both are one kind of waker, and the lowest bit of what it points at tells which. A task keeps what its polls' wakers point at: itself
//! at first, and its backing once there is one, so that the waker of a later poll equals its clones.

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
    /// The number of the loop.
    home: u64,
    shared: Arc<LoopShared>,
    /// The task; null after it ended. Read and written at home only.
    task: SharedCell<*const TaskHead>,
    /// Clones made at home, less those dropped there; [`ADDED`] once they are counted by `far`, which also counts those for which this is
    /// too small. Belongs to the loop's thread.
    near: SharedCell<i32>,
    /// A wake is on its way through the inbox.
    sent: AtomicBool,
    /// All other clones, less those dropped elsewhere, and [`TASK`] until the counts are added up.
    far: AtomicI64,
}

const ADDED: i32 = i32::MIN;
/// The least that counts.
const LEAST: i32 = ADDED + 1;
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

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone_data, wake_clone, wake_data, drop_clone);

/// Where a task's own waker points at first.
#[inline]
pub(super) fn to_task(task: NonNull<TaskHead>) -> AtomicPtr<()> {
    AtomicPtr::new(task.as_ptr().cast())
}

/// Marks what a waker points at as a backing. Both lie at even addresses.
fn to_backing(backing: *const Backing) -> *const () {
    backing.wrapping_byte_add(1).cast()
}

/// The backing that a waker points at; `None` if it points at a task.
#[inline]
fn backing_of(data: *const ()) -> Option<NonNull<Backing>> {
    // SAFETY: an odd address, less one, is what was marked: a backing's, which is not null.
    (data.addr() & 1 == 1).then(|| unsafe { NonNull::new_unchecked(data.wrapping_byte_sub(1).cast_mut().cast()) })
}

/// The waker to poll a task with. It borrows the task: it is not dropped, and only clones of it may outlive the poll.
///
/// # Safety
/// `task` is live for as long as the waker is used.
pub(super) unsafe fn borrowed(task: NonNull<TaskHead>) -> ManuallyDrop<Waker> {
    // SAFETY: a live task.
    let data = unsafe { (*task.as_ptr()).waker.load(Ordering::Acquire) };
    // SAFETY: the functions of the vtable keep the contract of RawWaker. The waker is not dropped, so the backing's count, of
    // which it owns none, stays right.
    ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) })
}

/// Whether this is the waker that `task` itself is polled with, or a clone of it.
#[inline]
pub(super) fn is_own(data: *const (), vtable: &'static RawWakerVTable, task: &RawTask) -> bool {
    let head = task.head();
    let own = head.waker.load(Ordering::Relaxed).cast_const();
    // The backing may have been made since the poll began.
    ptr::eq(vtable, &VTABLE) && (ptr::eq(data, own) || ptr::eq(data.cast(), head))
}

/// Whether clones of the task's waker were made.
#[inline]
pub(crate) fn was_cloned(task: &TaskHead) -> bool {
    !ptr::eq(task.waker.load(Ordering::Relaxed).cast(), task)
}

/// Whether there is no clone of the task's waker. Asked on the loop's thread.
pub(crate) fn is_unheld(task: &TaskHead) -> bool {
    // SAFETY: the backing lives as long as the task does.
    let backing = backing_of(task.waker.load(Ordering::Acquire)).map(|backing| unsafe { backing.as_ref() });
    backing.is_none_or(|backing| backing.clones() == 0)
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
unsafe fn backing(task: *const TaskHead) -> NonNull<Backing> {
    // SAFETY: a live task; the field is atomic.
    let slot: &AtomicPtr<()> = unsafe { &(*task).waker };
    let present = slot.load(Ordering::Acquire);
    if let Some(backing) = backing_of(present) {
        return backing;
    }
    // SAFETY: a live task.
    let shared = unsafe { shared_of(task) };
    let fresh = NonNull::from(Box::leak(Box::new(Backing {
        home: shared.id(),
        shared: Arc::clone(shared),
        task: SharedCell::new(task),
        near: SharedCell::new(0),
        sent: AtomicBool::new(false),
        far: AtomicI64::new(TASK),
    })));
    let marked = to_backing(fresh.as_ptr()).cast_mut();
    let exchanged = slot.compare_exchange(present, marked, Ordering::AcqRel, Ordering::Acquire);
    match exchanged.err().and_then(|present| backing_of(present)) {
        None => fresh,
        Some(present) => {
            // SAFETY: nobody has seen the fresh one.
            drop(unsafe { Box::from_raw(fresh.as_ptr()) });
            present
        }
    }
}

/// The task has ended: wakers that are left wake nobody. Called on the loop's thread.
#[inline]
pub(super) fn forget(task: &TaskHead) {
    if let Some(backing) = backing_of(task.waker.load(Ordering::Acquire)) {
        // SAFETY: the backing lives as long as the task does.
        unsafe { backing.as_ref() }.task.set(ptr::null());
    }
}

/// Leaves its backing to the clones of its waker. Called on the loop's thread.
///
/// # Safety
/// `task` is being destroyed: nobody reads its `waker` afterwards.
pub(super) unsafe fn release(task: NonNull<TaskHead>) {
    // SAFETY: a task whose memory is still there.
    let head = unsafe { task.as_ref() };
    forget(head);
    if let Some(backing) = backing_of(head.waker.load(Ordering::Acquire)) {
        // SAFETY: the loop's thread, and a task is released once.
        unsafe { Backing::add_up(backing) };
    }
}

impl Backing {
    #[inline]
    fn is_at_home(&self) -> bool {
        home::home() == self.home
    }

    /// Counts a clone made at home, which this is, unless the other count has to.
    #[inline(always)]
    fn count_clone_at_home(&self) -> bool {
        // One comparison tells: beyond the greatest there is only what is not greater than the least, and so is what follows `ADDED`.
        let count = self.near.get().wrapping_add(1);
        let counts = count > LEAST;
        if counts {
            self.near.set(count);
        }
        counts
    }

    /// Counts a clone dropped at home, which this is, unless the other count has to.
    #[inline(always)]
    fn count_drop_at_home(&self) -> bool {
        let near = self.near.get();
        let counts = near > LEAST;
        if counts {
            self.near.set(near - 1);
        }
        counts
    }

    /// The task is gone, and from now on only one count counts.
    ///
    /// # Safety
    /// This is the loop's thread, and this was not called for this backing before.
    unsafe fn add_up(this: NonNull<Backing>) {
        // SAFETY: it lives at least until the counts are added up.
        let near = unsafe { this.as_ref() }.near.replace(ADDED);
        // SAFETY: the task's own count, and those of its clones that were not in `far` yet.
        unsafe { Self::leave(this, TASK - i64::from(near)) };
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

    /// The task, if it has not ended. Asked on the loop's thread.
    #[inline(always)]
    fn task_at_home(&self) -> Option<ManuallyDrop<RawTask>> {
        // SAFETY: this is the loop's thread. The task lives, since its end clears the pointer.
        NonNull::new(self.task.get().cast_mut()).map(|task| unsafe { RawTask::borrowed(task) })
    }

    #[inline(always)]
    fn wake_at_home(&self) {
        if let Some(task) = self.task_at_home() {
            task.wake();
        }
    }

    /// A clone is dropped, perhaps for that of another task.
    #[inline]
    fn note_drop(&self) {
        let task = if self.is_at_home() { self.task_at_home() } else { None };
        if let Some(task) = task.filter(|task| task.head().extra.get().is_some()) {
            task.core().strays.note_waker(&task);
            self.note_last(&task);
        }
    }

    /// A clone goes at home, perhaps the last one.
    #[inline]
    fn note_last(&self, task: &RawTask) {
        if self.clones() == 1 {
            task.core().strays.note_lost(task);
        }
    }

    /// How many clones there are, as far as is known at home. The task has not ended.
    #[inline(always)]
    fn clones(&self) -> i64 {
        i64::from(self.near.get()) + self.far.load(Ordering::Relaxed) - TASK
    }

    /// A wake that came through the inbox has reached home.
    pub(crate) fn arrive(&self) {
        // Clear first: a wake that comes after this must be sent again, and one that came before is seen by the poll that follows.
        self.sent.swap(false, Ordering::AcqRel);
        self.wake_at_home();
        self.note_wake();
    }

    /// A wake has taken a clone along, which is still there.
    fn note_wake(&self) {
        if let Some(task) = self.task_at_home().filter(|task| task.head().extra.get().is_some()) {
            self.note_last(&task);
        }
    }
}

impl BackingRef {
    /// A reference that was not counted.
    ///
    /// # Safety
    /// The backing lives for as long as this is used.
    #[inline]
    unsafe fn borrowed(backing: NonNull<Backing>) -> ManuallyDrop<Self> {
        ManuallyDrop::new(BackingRef { backing })
    }

    /// What a clone of a waker points at, and its count with it.
    ///
    /// # Safety
    /// The waker is gone, and was a clone.
    #[inline]
    unsafe fn from_clone(data: *const ()) -> Self {
        debug_assert!(backing_of(data).is_some());
        // SAFETY: a clone points at a backing, and what is marked as one has an address.
        BackingRef { backing: unsafe { NonNull::new_unchecked(data.wrapping_byte_sub(1).cast_mut().cast()) } }
    }

    #[inline(always)]
    fn wake(&self) {
        if self.is_at_home() { self.wake_at_home() } else { self.wake_from_elsewhere() }
    }

    /// Wakes and drops. At home, and if the task is suspended, nothing is called before the last word is written.
    #[inline(always)]
    fn wake_last(self) {
        if !self.is_at_home() {
            return self.wake_last_slowly();
        }
        match self.task_at_home() {
            // For others it may matter that this was the last.
            Some(task) if task.is_idle() && task.head().extra.get().is_none() && self.count_drop_at_home() => {
                std::mem::forget(self);
                task.core().push_task(&task);
            }
            _ => self.wake_last_slowly(),
        }
    }

    #[inline(never)]
    fn wake_last_slowly(self) {
        self.wake();
        if self.is_at_home() {
            self.note_wake();
        }
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
        if !self.is_at_home() || !self.count_clone_at_home() {
            self.far.fetch_add(1, Ordering::Relaxed);
        }
        BackingRef { backing: self.backing }
    }
}

impl Drop for BackingRef {
    #[inline]
    fn drop(&mut self) {
        if !self.is_at_home() || !self.count_drop_at_home() {
            // SAFETY: this was one count.
            unsafe { Backing::leave(self.backing, 1) };
        }
    }
}

unsafe fn clone_data(data: *const ()) -> RawWaker {
    // SAFETY: a waker that points at a task borrows it while it is polled, so it lives.
    let backing = backing_of(data).unwrap_or_else(|| unsafe { backing(data.cast()) });
    // SAFETY: the waker that is cloned, or the task, holds a count of it.
    let cloned = unsafe { BackingRef::borrowed(backing) };
    // The new waker owns this count.
    std::mem::forget(BackingRef::clone(&cloned));
    RawWaker::new(to_backing(backing.as_ptr()), &VTABLE)
}

unsafe fn wake_data(data: *const ()) {
    match backing_of(data) {
        // SAFETY: the waker keeps its count, or borrows the task's.
        Some(backing) => unsafe { BackingRef::borrowed(backing) }.wake(),
        // SAFETY: a waker that points at a task borrows it while it is polled.
        None => unsafe { wake_task(data.cast()) },
    }
}

/// # Safety
/// `task` is live.
unsafe fn wake_task(task: *const TaskHead) {
    // SAFETY: a live task.
    let shared = unsafe { shared_of(task) };
    if home::home() == shared.id() {
        // SAFETY: as above, and this is its home thread; the address of a task is not null.
        unsafe { RawTask::borrowed(NonNull::new_unchecked(task.cast_mut())) }.wake();
    } else {
        // SAFETY: as above. The task keeps its backing until the poll has ended.
        unsafe { BackingRef::borrowed(backing(task)) }.wake();
    }
}

// What borrows a task is never owned by anybody: only clones are consumed or dropped.

unsafe fn wake_clone(data: *const ()) {
    // SAFETY: a clone, which is consumed.
    unsafe { BackingRef::from_clone(data) }.wake_last();
}

unsafe fn drop_clone(data: *const ()) {
    // SAFETY: a clone, which is dropped.
    let backing = unsafe { BackingRef::from_clone(data) };
    backing.note_drop();
    drop(backing);
}

const _: () = {
    const fn is_header_first() {
        assert!(std::mem::offset_of!(TaskHead, header) == 0);
        assert!(std::mem::align_of::<TaskHead>() >= std::mem::align_of::<Header>());
        assert!(std::mem::align_of::<Backing>() > 1);
        assert!(cfg!(aioli_loom) || size_of::<Backing>() == 40);
    }
    is_header_first();
};

#[cfg(all(test, not(aioli_loom)))]
mod tests {
    use super::*;
    use crate::driver::Kick;

    #[derive(Debug)]
    struct Nobody;

    impl Kick for Nobody {
        fn kick(&self) {}
    }

    #[test]
    fn clones_beyond_what_the_count_at_home_holds_are_counted_elsewhere() {
        for (near, change) in [(i32::MAX - 1, 1), (i32::MIN + 2, -1)] {
            let backing = NonNull::from(Box::leak(Box::new(Backing {
                home: home::home(),
                shared: Arc::new(LoopShared::new(std::sync::Arc::new(Nobody))),
                task: SharedCell::new(ptr::null()),
                near: SharedCell::new(near),
                sent: AtomicBool::new(false),
                // As if that many were counted here.
                far: AtomicI64::new(TASK + 3 - i64::from(near)),
            })));
            let clones: Vec<_> = (0..3).map(|_| BackingRef { backing }).collect();
            // SAFETY: the clones and the count of the task keep it.
            let shown = unsafe { backing.as_ref() };
            if change > 0 {
                let more: Vec<_> = clones.iter().chain(&clones).map(BackingRef::clone).collect();
                assert_eq!(
                    (shown.near.get(), shown.far.load(Ordering::Relaxed)),
                    (i32::MAX, TASK + 8 - i64::from(near))
                );
                drop(more);
            }
            drop(clones);
            assert_ne!(shown.near.get(), ADDED);
            // SAFETY: the loop's thread, so to speak, and for the first time. Nobody has a count any more: the backing ends.
            unsafe { Backing::add_up(backing) };
        }
    }
}
