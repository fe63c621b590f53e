//! [`SpilledList`]: the await points of a task beside the one in its memory.

use std::collections::VecDeque;
use std::rc::Rc;

use super::WaitState;
use crate::error::Message;
use crate::foreign_waker::ForeignWaker;
use crate::scope::ScopeNode;
use crate::serial;
use crate::task::RawFuture;

/// An await point beside the one in the task's memory.
pub(crate) struct Spilled {
    pub(super) serial: u32,
    pub(super) state: WaitState,
    pub(super) target: Option<RawFuture>,
    pub(super) scope: Option<Rc<ScopeNode>>,
    /// The waker it was polled with, unless that is the task's own.
    pub(super) waker: ForeignWaker,
    pub(super) message: Message,
    /// When it was woken, to be polled by whichever task has it now: until then that may be another one. 0: it was not.
    pub(super) roused: u64,
    /// It was asked in another task and came here without an answer, as what several tasks poll does again and again.
    pub(super) declined: bool,
}

/// The await points of a task under combinators, by their serials. There may be thousands, each of which is looked up several times.
#[derive(Default)]
pub(crate) struct SpilledList {
    /// Ascending, which is the order of registration until the numbers begin anew; those that moved here from the task's memory come first.
    sorted: VecDeque<Spilled>,
    /// The latest number, without [`LISTED`].
    last: u32,
}

/// Marks the numbers of what was registered here. The others are those of the task's memory.
const LISTED: u32 = serial::END;

impl SpilledList {
    /// A number that nothing in the list has.
    pub(super) fn take_serial(&mut self) -> u32 {
        self.last = serial::next(self.last, |number| self.find(number | LISTED).is_some());
        self.last | LISTED
    }

    pub(super) fn insert(&mut self, wait: Spilled) {
        match self.sorted.back() {
            Some(last) if last.serial > wait.serial => {
                let at = self.sorted.partition_point(|known| known.serial < wait.serial);
                self.sorted.insert(at, wait);
            }
            _ => self.sorted.push_back(wait),
        }
    }

    fn position(&self, serial: u32) -> Option<usize> {
        self.sorted.binary_search_by_key(&serial, |wait| wait.serial).ok()
    }

    pub(super) fn find(&self, serial: u32) -> Option<&Spilled> {
        self.position(serial).map(|at| &self.sorted[at])
    }

    pub(super) fn find_mut(&mut self, serial: u32) -> Option<&mut Spilled> {
        self.position(serial).map(|at| &mut self.sorted[at])
    }

    pub(super) fn remove(&mut self, serial: u32) -> Option<Spilled> {
        self.position(serial).and_then(|at| self.sorted.remove(at))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Spilled> {
        self.sorted.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Spilled> {
        self.sorted.iter_mut()
    }
}
