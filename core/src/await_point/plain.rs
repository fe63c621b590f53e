//! What nearly all await points go through: one of a task on straight-line code outside of scopes, that waits for a future.
//!
//! Everything is asked first, and nothing is called on the way: what is called has registers written to memory for it, and writing is
//! what a processor does one by one. Where anything is otherwise nothing has changed, and the general way is taken.

use super::{Awaited, Phase, Token, Wait, WaitState};
use crate::event_loop::LoopCore;
use crate::serial;
use crate::task::header::flag;
use crate::task::{PollWaker, RawFuture, RawTask, home};

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

impl Wait {
    /// Registers with the task that runs and with the future that it waits for, if that is pending and all is as on straight-line code
    /// outside of scopes. Returns whether it is; if not, nothing has changed.
    #[inline(always)]
    pub(crate) fn register_on_future(&mut self, waker: PollWaker<'_>, future: &RawFuture) -> bool {
        let registered = home::with_task(|core, task| {
            let head = task.head();
            let serial = serial::next_plainly(head.wait.serial());
            let plain = !future.header().has(flag::DONE)
                && !future.header().has_callbacks()
                && std::ptr::eq(future.core(), &**core)
                && future != task.raw()
                && self.is_plain(core, task, waker);
            let Some(serial) = serial.filter(|_| plain) else { return false };
            let Some(target) = future.try_clone() else { return false };
            let Some((own, token)) = task.try_clone_twice() else {
                std::mem::forget(target);
                return false;
            };
            head.wait.fill(serial, WaitState::pending(Awaited::Other));
            // Where there is no await point there is no target that would have to be dropped.
            std::mem::forget(head.wait_target.replace(Some(target)));
            std::mem::forget(self.task.replace(own));
            self.serial = u64::from(serial);
            future.add_first_wake(Token::from_parts(token, serial));
            true
        });
        registered == Some(true)
    }

    /// Ends the registration with a future that is done, if it has fired, this was registered on straight-line code outside of scopes,
    /// and nothing else is to be told. If not, nothing has changed.
    #[inline(always)]
    pub(crate) fn end_with(&mut self, future: &RawFuture) -> bool {
        let ended = home::with_task(|_, task| {
            let head = task.head();
            if !self.has_just_fired(task) || !head.waits_plainly_for(future) {
                return false;
            }
            head.wait.set_state(WaitState::VACANT);
            if let Some(target) = head.wait_target.take() {
                target.drop_beside(future);
            }
            if let Some(own) = self.task.take() {
                own.drop_beside(task);
            }
            true
        });
        ended == Some(true)
    }

    /// Whether this is not registered and may be in the memory of the running task, which is on straight-line code outside of scopes.
    #[inline(always)]
    pub(super) fn is_plain(&self, core: &LoopCore, task: &RawTask, waker: PollWaker<'_>) -> bool {
        self.task.is_none() && task.head().wait.is_vacant() && !core.current.has_scope() && waker.is_own(task)
    }

    /// Whether this is in the memory of the running task and has fired, and nothing else is to be told.
    #[inline(always)]
    pub(super) fn has_just_fired(&self, task: &RawTask) -> bool {
        let head = task.head();
        let state = head.wait.state();
        self.task.as_ref() == Some(task)
            && state.phase == Phase::Fired
            && !state.asked
            && head.wait.serial() == self.serial as u32
    }
}
