//! Await points that were roused: what reaches them is known when they are polled, see [`Strays`](crate::strays::Strays).

use super::{Covered, Phase, Place, Token};
use crate::cancel;
use crate::error::{Error, Message};
use crate::task::header::flag;
use crate::task::{RawFuture, RawTask, home};

/// In the place of the serial of an await point that has left its task: that it was roused, and when; and that it was asked.
pub(super) const ROUSED: u64 = 1 << 63;
pub(super) const DECLINED: u64 = 1 << 62;

/// The await points that were roused, have been polled since, and are to answer a request that came before that.
pub(crate) fn adopted(task: &RawTask) -> Vec<(Covered, Message)> {
    let Some(extra) = task.head().extra.get() else { return Vec::new() };
    let known = extra.adopted.take();
    let spilled = extra.spilled.borrow();
    let unasked = |(serial, message)| {
        let wait = spilled.find(serial).filter(|wait| !wait.state.asked)?;
        let token = Token { task: task.clone(), serial };
        Some((Covered { token, state: wait.state, target: wait.target.clone() }, message))
    };
    known.into_iter().filter_map(unasked).collect()
}

/// The message of a request around the current point of the running task, for what was roused at this time: one that is open or came
/// since.
fn asked_here(task: &RawTask, time: u64) -> Option<Message> {
    let scope = task.core().current.scope();
    let open = cancel::open_at(task, scope.as_ref());
    open.or_else(|| cancel::lingering_at(task, scope.as_ref(), time))
}

impl Place<'_> {
    /// As what it leaves its task, if a combinator may have polled it.
    pub(super) fn stray(self) -> Option<u64> {
        let spilled = self.task.head().extra.get()?.spilled.borrow();
        let wait = spilled.find(self.serial)?;
        let declined = wait.declined || wait.state.asked;
        let roused = if wait.roused == 0 { 0 } else { ROUSED | wait.roused };
        Some(roused + u64::from(declined) * DECLINED)
    }

    /// It was roused at this time, and another task has it now: a request around it there that is open, or came since, is its too.
    #[cold]
    pub(super) fn adopt_moved(self, time: u64) {
        self.adopt(asked_here(self.task, time));
    }

    /// Its task is left by what has [this left](Self::stray). If it was roused, and what it waited for has happened before it was polled
    /// where it is now, a request there is answered at once: it would return without being registered, to be asked. Gives the error.
    pub(super) fn end_moved(self, left: u64) -> Option<Error> {
        let happened = {
            let spilled = self.task.head().extra.get()?.spilled.borrow();
            let wait = spilled.find(self.serial)?;
            wait.state.phase == Phase::Fired || wait.target.as_ref().is_some_and(RawFuture::is_done)
        };
        if left & ROUSED == 0 || !happened {
            return None;
        }
        let answered = home::with_task(|core, task| {
            let time = left & !(ROUSED | DECLINED);
            let message =
                Some(task).filter(|_| core.id() == self.task.core().id()).and_then(|task| asked_here(task, time))?;
            cancel::consume(task, core.current.scope().as_ref());
            Some(message)
        });
        let message = answered.flatten()?;
        Some(self.withdraw().lost_to(|| message))
    }

    /// It may have been roused and have fired before it was polled: a request that came in between is answered now.
    pub(super) fn adopt_fired(self) {
        let Some(extra) = self.task.head().extra.get() else { return };
        let asked = {
            let spilled = extra.spilled.borrow();
            let wait = spilled.find(self.serial).filter(|wait| wait.roused != 0 && !wait.state.asked);
            wait.and_then(|wait| cancel::asked_since(self.task, wait.scope.as_ref(), wait.roused))
        };
        let Some(message) = asked else { return };
        cancel::set_cancel_message(self.task, &message);
        if let Some(wait) = extra.spilled.borrow_mut().find_mut(self.serial) {
            (wait.state.asked, wait.state.must_cancel) = (true, true);
        }
    }

    pub(super) fn adopt(self, message: Option<Message>) {
        if let Some(message) = message {
            self.task.raw().header().set(flag::REQUESTED);
            self.task.head().extra().adopted.borrow_mut().push((self.serial, message));
        }
    }
}
