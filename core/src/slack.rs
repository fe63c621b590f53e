//! [`Slack`]: dense timers are gathered, so that the loop sleeps less often.

use std::cell::Cell;
use std::time::Duration;

use crate::time::Instant;

/// How late a timer may be made, unless the user says otherwise.
const USUAL: Duration = Duration::from_micros(500);
/// Timers are dense if so many of them fire within…
const SOME: u32 = 8;
/// …this time for each, …
const EACH: Duration = Duration::from_micros(10);
/// …twice in a row, since a burst may look like that once, …
const ROW: u8 = 2;
/// …and so many are armed, of which the next is due within this time. A few that are armed again and again, each when it has fired,
/// would not gather.
const CROWD: usize = 256;
const SOON: Duration = Duration::from_micros(80);

/// How long past a deadline the loop may sleep.
///
/// To sleep and to be woken costs what dozens of timers cost. Where a timer is due every few microseconds, a loop that wakes for each
/// deadline spends much of its time on that; so it lets them gather a little. Timers that are further apart are not put off.
#[derive(Debug)]
pub(crate) struct Slack {
    most: Cell<Duration>,
    /// Timers that fired since this time.
    fired: Cell<u32>,
    since: Cell<Instant>,
    /// How often in a row those were dense.
    dense: Cell<u8>,
}

impl Slack {
    pub(crate) fn new(now: Instant) -> Self {
        Slack { most: Cell::new(USUAL), fired: Cell::new(0), since: Cell::new(now), dense: Cell::new(0) }
    }

    pub(crate) fn most(&self) -> Duration {
        self.most.get()
    }

    pub(crate) fn set_most(&self, most: Duration) {
        self.most.set(most);
    }

    /// Some timers were due.
    #[inline]
    pub(crate) fn count(&self, fired: u32) {
        self.fired.set(self.fired.get().saturating_add(fired));
    }

    /// The loop goes to sleep: until when, if this is the next deadline, and so many timers are armed.
    pub(crate) fn put_off(&self, deadline: Instant, now: Instant, armed: usize) -> Instant {
        let (fired, passed) = (self.fired.get(), now - self.since.get());
        if fired >= SOME || passed > SOON {
            let dense = fired >= SOME && EACH * fired >= passed;
            self.dense.set(if dense { ROW.min(self.dense.get() + 1) } else { 0 });
            self.fired.set(0);
            self.since.set(now);
        }
        let soon = now < deadline && deadline - now < SOON;
        if soon && armed >= CROWD && self.dense.get() == ROW { deadline + self.most.get() } else { deadline }
    }
}
