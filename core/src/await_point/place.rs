//! [`Place`]: one registration of an await point, wherever it is kept.

use std::rc::Rc;

use super::spilled::Spilled;
use super::{Phase, Token, WaitState};
use crate::cancel;
use crate::error::{Error, Message};
use crate::foreign_waker::ForeignWaker;
use crate::scope::ScopeNode;
use crate::task::{PollWaker, RawFuture, RawTask, peek, waker};

/// One registration.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) task: &'a RawTask,
    pub(super) serial: u32,
}

/// What was registered, to be dropped when nothing is borrowed.
pub(super) struct Gone {
    pub(super) target: Option<RawFuture>,
    pub(super) scope: Option<Rc<ScopeNode>>,
    pub(super) message: Message,
    _waker: ForeignWaker,
}

impl Gone {
    /// The error of a request that came after what was waited for. An error that is lost to it counts as retrieved.
    pub(super) fn lost_to(&self, message: impl FnOnce() -> Message) -> Error {
        let lost = self.target.as_ref().and_then(RawFuture::retrieve_error);
        lost.filter(Error::is_cancelled).unwrap_or_else(|| Error::cancelled_with(message()))
    }
}

impl Place<'_> {
    pub(super) fn token(self) -> Token {
        Token { task: self.task.clone(), serial: self.serial }
    }

    #[inline]
    pub(super) fn state(self) -> WaitState {
        let head = self.task.head();
        if head.wait.holds(self.serial) {
            return head.wait.state();
        }
        let Some(extra) = head.extra.get() else { return WaitState::VACANT };
        let spilled = extra.spilled.borrow();
        spilled.find(self.serial).map_or(WaitState::VACANT, |wait| wait.state)
    }

    /// Withdraws the registration, of which nothing is to be known any more.
    pub(super) fn release(self) {
        let head = self.task.head();
        if head.wait.holds(self.serial) && !head.wait.state().asked {
            head.wait.set_state(WaitState::VACANT);
            if peek::is_some(&head.wait_target) || peek::is_some(&head.wait_scope) {
                drop_links(self.task);
            }
        } else {
            self.release_asked();
        }
    }

    /// The same where it may have been asked to end: the request stays with the task.
    #[cold]
    pub(super) fn release_asked(self) {
        let asked = self.state().asked;
        drop(self.withdraw());
        if asked {
            cancel::left_unanswered(self.task);
        }
    }

    pub(super) fn withdraw(self) -> Gone {
        let head = self.task.head();
        if head.wait.holds(self.serial) {
            let phase = head.wait.state().phase;
            head.wait.set_state(WaitState::VACANT);
            let cancelled = matches!(phase, Phase::Cancelled | Phase::CancelledAside);
            return Gone {
                target: head.wait_target.take(),
                scope: head.wait_scope.take(),
                message: if cancelled { head.extra.get().and_then(|extra| extra.wait_message.take()) } else { None },
                _waker: ForeignWaker::default(),
            };
        }
        let mut gone = Gone { target: None, scope: None, message: None, _waker: ForeignWaker::default() };
        if let Some(extra) = head.extra.get() {
            let mut spilled = extra.spilled.borrow_mut();
            if let Some(wait) = spilled.remove(self.serial) {
                let Spilled { target, scope, message, waker, .. } = wait;
                gone = Gone { target, scope, message, _waker: waker };
            }
        }
        gone
    }

    /// It may be polled inside another scope than before: the last one counts.
    pub(super) fn keep_scope(self) {
        let head = self.task.head();
        let scope = self.task.core().current.scope();
        if head.wait.holds(self.serial) {
            let old = head.wait_scope.replace(scope);
            drop(old);
        } else if let Some(extra) = head.extra.get() {
            let mut spilled = extra.spilled.borrow_mut();
            let Some(wait) = spilled.find_mut(self.serial) else { return };
            match std::mem::take(&mut wait.roused) {
                0 => {
                    let old = std::mem::replace(&mut wait.scope, scope);
                    drop(spilled);
                    drop(old);
                }
                // It is still here, and polled only because it was roused: it stays in its scope. A request that came since is its too.
                time => {
                    let message = cancel::asked_since(self.task, wait.scope.as_ref(), time);
                    drop(spilled);
                    self.adopt(message);
                }
            }
        }
    }

    /// A combinator may poll with another waker than before: the last one counts.
    pub(super) fn keep_waker(self, polled_with: PollWaker<'_>) {
        let head = self.task.head();
        let inline = head.wait.holds(self.serial);
        let own = polled_with.is_own(self.task);
        if inline && own {
            return;
        }
        let extra = head.extra();
        let fresh = (!own).then_some(polled_with);
        if !inline {
            let mut spilled = extra.spilled.borrow_mut();
            let Some(wait) = spilled.find_mut(self.serial) else { return };
            let same = wait.waker.is_same(fresh);
            drop(spilled);
            if same {
                return;
            }
        }
        // Whatever a clone does, it finds the await point as it was, and what the drop of the last waker does, as it will be.
        let mut foreign = ForeignWaker::clone_of(fresh);
        if self.state().phase != Phase::Pending {
            return;
        }
        if inline {
            // It moved under a combinator: its state goes to the list, where a waker has room.
            let state = head.wait.state();
            let Gone { target, scope, message, .. } = self.withdraw();
            let (roused, declined) = (0, false);
            let wait = Spilled { serial: self.serial, state, target, scope, waker: foreign, message, roused, declined };
            extra.spilled.borrow_mut().insert(wait);
            if waker::is_unheld(head) {
                self.task.core().strays.note_lost(self.task);
            }
        } else if let Some(wait) = extra.spilled.borrow_mut().find_mut(self.serial) {
            std::mem::swap(&mut wait.waker, &mut foreign);
        }
    }
}

/// Drops what a registration in the task's memory had, which is over.
#[inline(never)]
pub(super) fn drop_links(task: &RawTask) {
    let head = task.head();
    drop(head.wait_target.take());
    drop(head.wait_scope.take());
}
