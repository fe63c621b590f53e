//! [`Agenda`]: what is to happen, and when.

use std::collections::BTreeMap;

use aioli_core::Instant;

/// Events in the order of their times; those of one time in the order in which they were entered.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    events: BTreeMap<(Instant, u64), E>,
    entered: u64,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Self {
        Agenda { events: BTreeMap::new(), entered: 0 }
    }

    pub(crate) fn enter(&mut self, time: Instant, event: E) {
        self.entered += 1;
        self.events.insert((time, self.entered), event);
    }

    /// When the next event is.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.events.first_key_value().map(|((time, _), _)| *time)
    }

    /// Takes the next event out, if it is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<E> {
        let first = self.events.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    pub(crate) fn clear(&mut self) {
        self.events.clear();
    }
}
