//! What nearly all await points go through: one of a task on straight-line code outside of scopes, that waits for a future.
//!
//! Everything is asked first, and nothing is called on the way: what is called has registers written to memory for it, and writing is
//! what a processor does one by one. Where anything is otherwise nothing has changed, and the general way is taken.

use super::{Awaited, Phase, Token, Wait, WaitState};
use crate::event_loop::LoopCore;
use crate::serial;
use crate::task::header::flag;
use crate::task::{PollWaker, RawFuture, RawTask, TaskOr, home};

/// Whether to fire this registration comes down to marking it in its task's memory and queueing that.
#[inline(always)]
pub(crate) fn fires_plainly(task: &RawTask, serial: u32) -> bool {
    let head = task.head();
    head.wait.serial() == serial && head.wait.state().phase == Phase::Pending && task.is_idle()
}

/// Fires what [fires plainly](fires_plainly).
#[inline(always)]
pub(crate) fn fire_plainly(task: RawTask) {
    task.head().wait.set_phase(Phase::Fired);
    task.queue_and_drop();
}

/// Registers with the task that runs and with the future that it waits for, if that is pending, nothing is kept and all is as on
/// straight-line code outside of scopes; then the task is kept. Returns whether it is; if not, nothing has changed.
#[inline(always)]
pub(crate) fn register_on_future(kept: &mut TaskOr<Wait>, waker: PollWaker<'_>, future: &RawFuture) -> bool {
    let registered = home::with_task(|core, task| {
        let head = task.head();
        let serial = serial::next_plainly(head.wait.serial());
        let plain = kept.is_nothing()
            && !future.header().has(flag::DONE)
            && !future.header().has_callbacks()
            && std::ptr::eq(future.core(), &**core)
            && future != task.raw()
            && is_plain(core, task, waker);
        let Some(serial) = serial.filter(|_| plain) else { return false };
        let Some(target) = future.try_clone() else { return false };
        let Some((own, token)) = task.try_clone_twice() else {
            std::mem::forget(target);
            return false;
        };
        head.wait.fill(serial, WaitState::pending(Awaited::Other));
        // Where there is no await point there is no target that would have to be dropped.
        std::mem::forget(head.wait_target.replace(Some(target)));
        std::mem::forget(std::mem::replace(kept, TaskOr::task(own)));
        future.add_first_wake(Token::from_parts(token, serial));
        true
    });
    registered == Some(true)
}

/// Ends the registration with a future that is done, if the task that runs is kept, it has fired, was registered on straight-line code
/// outside of scopes, and nothing else is to be told. If not, nothing has changed.
#[inline(always)]
pub(crate) fn end_with(kept: &mut TaskOr<Wait>, future: &RawFuture) -> bool {
    let ended = home::with_task(|_, task| {
        let head = task.head();
        if !kept.is(task) || !has_just_fired(task) || !head.waits_plainly_for(future) {
            return false;
        }
        head.wait.set_state(WaitState::VACANT);
        if let Some(target) = head.wait_target.take() {
            target.drop_beside(future);
        }
        kept.drop_beside(task)
    });
    ended == Some(true)
}

/// Whether something may be registered in the memory of the running task, which is on straight-line code outside of scopes.
#[inline(always)]
pub(super) fn is_plain(core: &LoopCore, task: &RawTask, waker: PollWaker<'_>) -> bool {
    task.head().wait.is_vacant() && !core.current.has_scope() && waker.is_own(task)
}

/// Whether what is registered in the memory of a task has fired, and nothing else is to be told.
#[inline(always)]
pub(super) fn has_just_fired(task: &RawTask) -> bool {
    let state = task.head().wait.state();
    state.phase == Phase::Fired && !state.asked
}
