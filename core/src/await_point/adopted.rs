//! Await points that were roused: what reaches them is known when they are polled, see [`Strays`](crate::strays::Strays).

use super::{Covered, Place, Token};
use crate::cancel;
use crate::error::Message;
use crate::task::RawTask;
use crate::task::header::flag;

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
        let scope = self.task.core().current.scope();
        let message = cancel::open_at(self.task, scope.as_ref());
        self.adopt(message.or_else(|| cancel::lingering_at(self.task, scope.as_ref(), time)));
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
