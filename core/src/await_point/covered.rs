//! [`Covered`]: the await points that a request reaches.

use std::rc::{Rc, Weak};

use super::{Phase, Token, WaitState};
use crate::error::Message;
use crate::foreign_waker::ForeignWaker;
use crate::scope::ScopeNode;
use crate::task::{RawFuture, RawTask};

/// What a request can be handed to: one await point of a task, seen from outside.
pub(crate) struct Covered {
    pub(super) token: Token,
    pub(crate) state: WaitState,
    pub(crate) target: Option<RawFuture>,
}

impl Covered {
    /// Ends an await point that has nothing to pass the request on to.
    pub(crate) fn cancel(&self, message: Message) {
        let head = self.token.task.head();
        if head.wait.holds(self.token.serial) {
            if message.is_some() {
                head.extra().wait_message.set(message);
            }
            head.wait.set_state(WaitState { phase: Phase::Cancelled, asked: true, ..WaitState::VACANT });
            self.token.task.wake();
        } else {
            self.update(|state| state.asked = true);
            self.token.set_spilled(Phase::Cancelled, message);
        }
    }

    /// It was asked and has an answer, its task took a step since, and nothing has the task take another: its task waits for something
    /// else. It answers when it is polled, if it ever is, but a request that is open still is not to wait for that.
    fn put_aside(&self) {
        let phase = if self.state.phase == Phase::Fired { Phase::FiredAside } else { Phase::CancelledAside };
        self.update(|state| state.phase = phase);
    }

    /// Changes its state.
    pub(crate) fn update(&self, change: impl FnOnce(&mut WaitState)) {
        let head = self.token.task.head();
        if head.wait.holds(self.token.serial) {
            let mut state = head.wait.state();
            change(&mut state);
            head.wait.set_state(state);
        } else if let Some(extra) = head.extra.get() {
            let mut spilled = extra.spilled.borrow_mut();
            if let Some(wait) = spilled.find_mut(self.token.serial) {
                change(&mut wait.state);
            }
        }
    }
}

/// The await points that a request of a task or of one of its scopes reaches, in the order in which they were registered.
pub(crate) fn covered(task: &RawTask, scope: Option<&Rc<ScopeNode>>) -> Vec<Covered> {
    let mut found = registered(task, scope);
    found.retain(|wait| !matches!(wait.state.phase, Phase::FiredAside | Phase::CancelledAside));
    found
}

/// The same with those that were put aside, but without those that may be another task's, or are several tasks'.
pub(crate) fn registered(task: &RawTask, scope: Option<&Rc<ScopeNode>>) -> Vec<Covered> {
    let head = task.head();
    let inside = |at: Option<&Rc<ScopeNode>>| scope.is_none_or(|scope| ScopeNode::is_inside(at, scope));
    let mut found = Vec::new();
    if !head.wait.is_vacant() {
        let at = head.wait_scope.take();
        if inside(at.as_ref()) {
            let target = head.wait_target.take();
            head.wait_target.set(target.clone());
            let token = Token { task: task.clone(), serial: head.wait.serial() };
            found.push(Covered { token, state: head.wait.state(), target });
        }
        head.wait_scope.set(at);
    }
    if let Some(extra) = head.extra.get() {
        for wait in extra
            .spilled
            .borrow()
            .iter()
            .filter(|wait| wait.roused == 0 && !wait.declined && inside(wait.scope.as_ref()))
        {
            let token = Token { task: task.clone(), serial: wait.serial };
            found.push(Covered { token, state: wait.state, target: wait.target.clone() });
        }
    }
    found
}

/// [`covered`] for a task whose step has ended with a request open. If all that were asked have an answer by then, and the task does not
/// go on by itself, it has put them aside: polled once and kept for later, as in a loop around a `select!`.
pub(crate) fn suspended_on(task: &RawTask, scope: Option<&Rc<ScopeNode>>) -> Vec<Covered> {
    let mut found = covered(task, scope);
    let mut asked = found.iter().filter(|wait| wait.state.asked).peekable();
    if asked.peek().is_some() && asked.all(|wait| wait.state.phase != Phase::Pending) && !task.head().queued.get() {
        found.iter().filter(|wait| wait.state.asked).for_each(Covered::put_aside);
        found.retain(|wait| !wait.state.asked);
    }
    found
}

/// Whether an await point lies inside a scope, or the task has one at all.
pub(crate) fn any_covered(task: &RawTask, scope: Option<&Rc<ScopeNode>>) -> bool {
    !covered(task, scope).is_empty()
}

/// Whether combinators may have polled await points for a task.
pub(crate) fn has_spilled(task: &RawTask) -> bool {
    task.head().extra.get().is_some_and(|extra| extra.spilled.borrow().iter().next().is_some())
}

/// Takes the wakers of what combinators have polled for a task, for it to be polled again. There is none of what was woken already,
/// and which is roused only if the task is known to have `lost` something.
pub(crate) fn rouse_spilled(task: &RawTask, now: u64, lost: bool) -> Vec<ForeignWaker> {
    let Some(extra) = task.head().extra.get() else { return Vec::new() };
    let mut spilled = extra.spilled.borrow_mut();
    let due = spilled.iter_mut().filter(|wait| match wait.state.phase {
        Phase::Pending => wait.waker.is_some(),
        phase => lost && phase == Phase::Fired && !wait.state.asked,
    });
    let roused = due.map(|wait| {
        wait.roused = now;
        std::mem::take(&mut wait.waker)
    });
    roused.collect()
}

/// Whether a finished task may have left something for [`withdraw_all`].
#[inline(always)]
pub(crate) fn are_left(task: &RawTask) -> bool {
    let head = task.head();
    !head.wait.is_vacant() || head.extra.get().is_some()
}

/// Withdraws whatever a finished task left registered: await points that were leaked, or are polled elsewhere from now on. Returns the
/// wakers of combinators that may be there by now: they poll only what was woken, and what they hold has to register anew.
pub(crate) fn withdraw_all(task: &RawTask) -> Vec<ForeignWaker> {
    let mut orphaned = Vec::new();
    let head = task.head();
    if !head.wait.is_vacant() {
        let token = Token { task: task.clone(), serial: head.wait.serial() };
        let gone = token.place().withdraw();
        if let Some(target) = &gone.target {
            target.remove_wake(&token);
        }
    }
    if let Some(extra) = head.extra.get() {
        // A scope holds its task: one that was leaked is not to be held in turn.
        let scopes = std::mem::take(&mut *extra.open_scopes.borrow_mut());
        drop(scopes);
        // They stay as what has gone, for whoever polls them next to know that they were woken.
        let mut left = Vec::new();
        // Requests are looked at more closely from the first such time on: it is not for tasks that merely have a name.
        let any = has_spilled(task) || !extra.foreign_scopes.borrow().is_empty();
        let now = if any { task.core().strays.tick() } else { 0 };
        for wait in extra.spilled.borrow_mut().iter_mut() {
            wait.state = WaitState::VACANT;
            if wait.waker.is_some() {
                wait.roused = now;
            }
            left.push((wait.serial, wait.target.take(), wait.scope.take(), wait.message.take()));
            orphaned.push(std::mem::take(&mut wait.waker));
        }
        for (serial, target, ..) in &left {
            if let Some(target) = target {
                target.remove_wake(&Token { task: task.clone(), serial: *serial });
            }
        }
        task.core().strays.forget(task);
        let scopes = std::mem::take(&mut *extra.foreign_scopes.borrow_mut());
        let mine = scopes.iter().filter_map(Weak::upgrade).filter(|node| node.task() == *task);
        orphaned.extend(mine.map(|node| node.rouse(now)));
    }
    orphaned
}
