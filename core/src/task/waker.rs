//! Wakers of tasks.
//!
//! A task is polled with a waker that is only borrowed: it points at the task and costs nothing. Any thread may clone or wake it
//! during the poll, so every entry point asks first whether it is at home: on the thread where the task's loop runs. Elsewhere it
//! touches nothing but the task's atomic pointer to its [`Backing`] and what does not change.
//!
//! A clone points at the backing, which is made once for a task and counted atomically. It holds the way to the loop's inbox, and a
//! pointer to the task that only home follows and that home clears when the task ends. It never keeps the task alive.

use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::header::{Header, TaskHead};
use super::home;
use super::raw::RawTask;
use crate::inbox::{LoopShared, Message};
use crate::shared::{Arc, AtomicBool, AtomicPtr, SharedCell};

/// What clones of a task's waker share.
pub(crate) struct Backing {
    shared: Arc<LoopShared>,
    /// The task; null after it ended. Read and written at home only.
    task: SharedCell<*const TaskHead>,
    /// A wake is on its way through the inbox.
    sent: AtomicBool,
}

// SAFETY: `task` is the only field that is not Sync. It is written before the backing is published, and after that it is touched
// only on the thread on which the loop lives: `at_home` and `forget` see to that.
unsafe impl Send for Backing {}
// SAFETY: as for Send.
unsafe impl Sync for Backing {}

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
    let fresh = Backing { shared: Arc::clone(shared), task: SharedCell::new(task), sent: AtomicBool::new(false) };
    let fresh = Arc::into_raw(Arc::new(fresh)).cast_mut();
    match slot.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => fresh,
        Err(present) => {
            // SAFETY: nobody has seen the fresh one; this is its only count.
            drop(unsafe { Arc::from_raw(fresh) });
            present
        }
    }
}

/// The task has ended: wakers that are left wake nobody. Called at home.
pub(super) fn forget(task: &TaskHead) {
    let backing = task.backing.load(Ordering::Acquire);
    // SAFETY: the task's own count keeps the backing alive, and this is its home thread.
    if let Some(backing) = unsafe { backing.as_ref() } {
        backing.task.set(ptr::null());
    }
}

/// Gives up the task's own count of its backing.
///
/// # Safety
/// `task` is being destroyed: nobody reads its `backing` afterwards.
pub(super) unsafe fn release(task: NonNull<TaskHead>) {
    // SAFETY: a task whose memory is still there.
    let head = unsafe { task.as_ref() };
    forget(head);
    let backing = head.backing.load(Ordering::Acquire);
    if !backing.is_null() {
        // SAFETY: the count that `backing` put into the slot.
        drop(unsafe { Arc::from_raw(backing.cast_const()) });
    }
}

impl Backing {
    fn wake(this: &Arc<Self>) {
        if home::home() == this.shared.id() {
            this.wake_at_home();
        } else if !this.sent.swap(true, Ordering::AcqRel) {
            this.shared.send(Message::Wake(Arc::clone(this)));
        }
    }

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
        // SAFETY: as above. The count taken keeps the backing alive during the call.
        let backing = unsafe {
            let backing = backing(task);
            Arc::increment_strong_count(backing);
            Arc::from_raw(backing)
        };
        Backing::wake(&backing);
    }
}

unsafe fn clone_shared(backing: *const ()) -> RawWaker {
    // SAFETY: the waker that is cloned holds or borrows a count of this backing.
    unsafe { Arc::increment_strong_count(backing.cast::<Backing>()) };
    RawWaker::new(backing, &SHARED)
}

unsafe fn wake_shared(backing: *const ()) {
    // SAFETY: the waker is consumed, and its count with it.
    Backing::wake(&unsafe { Arc::from_raw(backing.cast::<Backing>()) });
}

unsafe fn wake_shared_by_ref(backing: *const ()) {
    // SAFETY: the waker keeps its count, which therefore is not dropped here.
    Backing::wake(&ManuallyDrop::new(unsafe { Arc::from_raw(backing.cast::<Backing>()) }));
}

unsafe fn drop_shared(backing: *const ()) {
    // SAFETY: the waker is dropped, and its count with it.
    drop(unsafe { Arc::from_raw(backing.cast::<Backing>()) });
}

const _: () = {
    const fn is_header_first() {
        assert!(std::mem::offset_of!(TaskHead, header) == 0);
        assert!(std::mem::align_of::<TaskHead>() >= std::mem::align_of::<Header>());
    }
    is_header_first();
};
