//! [`Requests`]: how many cancellations of a task were requested and not taken back.

use std::cell::Cell;
use std::process::abort;

use super::header::TaskHead;

/// The count, as far as two bytes hold it. A task has no room for more; the rest is with what few tasks have.
#[derive(Default)]
pub(crate) struct Requests(Cell<u16>);

impl TaskHead {
    /// How many cancellations were requested and not taken back.
    #[inline]
    pub(crate) fn requests(&self) -> u32 {
        match self.requests.0.get() {
            u16::MAX => u32::from(u16::MAX) + self.extra.get().map_or(0, |extra| extra.further_requests.get()),
            count => u32::from(count),
        }
    }

    /// Counts one more. Four billion end the process.
    pub(crate) fn add_request(&self) {
        match self.requests.0.get() {
            u16::MAX => {
                let _all = self.requests().checked_add(1).unwrap_or_else(|| abort());
                let further = &self.extra().further_requests;
                further.set(further.get() + 1);
            }
            count => self.requests.0.set(count + 1),
        }
    }

    /// Takes one back, if there is one. Returns whether there was.
    pub(crate) fn take_request(&self) -> bool {
        let further = self.extra.get().map_or(0, |extra| extra.further_requests.get());
        match (self.requests.0.get(), further) {
            (0, _) => return false,
            (count, 0) => self.requests.0.set(count - 1),
            (_, further) => self.extra().further_requests.set(further - 1),
        }
        true
    }
}
