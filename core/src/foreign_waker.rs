//! [`ForeignWaker`]: a waker that is not ours.

use std::task::Waker;

use crate::report::discard;
use crate::task::PollWaker;

/// The waker of a combinator of another crate, if it is one that polls.
///
/// To clone, wake or drop it runs code that may do anything, so none of it happens while something is borrowed or half changed. A panic
/// of its destructor is reported.
#[derive(Default, Debug)]
pub(crate) struct ForeignWaker(Option<Waker>);

impl ForeignWaker {
    /// It panics if the waker does.
    pub(crate) fn clone_of(waker: Option<PollWaker<'_>>) -> Self {
        ForeignWaker(waker.map(PollWaker::to_waker))
    }

    pub(crate) fn is_same(&self, other: Option<PollWaker<'_>>) -> bool {
        match (&self.0, other) {
            (Some(one), Some(other)) => other.with(|other| one.will_wake(other)),
            (None, None) => true,
            _ => false,
        }
    }

    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn take(&mut self) -> Option<Waker> {
        self.0.take()
    }
}

impl Drop for ForeignWaker {
    fn drop(&mut self) {
        if let Some(waker) = self.0.take() {
            discard(waker);
        }
    }
}
