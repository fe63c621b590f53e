//! [`Spin`]: looking for events a little before going to sleep.

use std::io;
use std::time::Duration;

use aioli_core::Instant;

use crate::Timeout;
use crate::syscall::now;

/// A sleep that is shorter could have been spared.
const SHORT: Duration = Duration::from_micros(100);
/// So many short sleeps in a row, or more if that did not pay before, make the loop look.
const FEWEST: u32 = 16;
const MOST: u32 = 4096;
/// What looking is trusted at first, and at most.
const TRUST: u32 = 16;
const FULL_TRUST: u32 = 64;
/// A miss costs as much trust as so many hits gain. So looking goes on only where nine in ten are hits.
const MISS: u32 = 8;
/// The clock is read after so many looks: it costs as much as one.
const LOOKS: u32 = 4;
/// With full trust only one time in so many is the time taken, …
const TAKEN: u32 = 8;
/// …and else from so many looks on, which nearly always find something.
const UNTIMED: u32 = 16;

/// Whether a loop looks for events a little before it sleeps.
///
/// Going to sleep and being woken takes the processor some microseconds, and the sleeper has to wait much longer until it runs
/// again. Where the peer answers sooner than that, as in a conversation of two programs on one machine or in a rack, looking takes
/// less of the processor and several times less of the clock. Elsewhere it is a waste. So a loop looks after many short sleeps in a
/// row, and as long as it nearly always finds something.
#[derive(Debug)]
pub struct Spin {
    limit: Duration,
    /// The loop looks while there is some.
    trust: u32,
    /// Short sleeps in a row, and how many it takes.
    short: u32,
    needed: u32,
    /// How often the loop has looked since the time was taken.
    untimed: u32,
}

impl Spin {
    /// Looks so long at most; zero: never.
    pub fn new(limit: Duration) -> Self {
        Spin { limit, trust: 0, short: 0, needed: FEWEST, untimed: 0 }
    }

    /// Whether to look before a wait that has this timeout.
    #[inline]
    pub fn is_on(&self, timeout: Timeout) -> bool {
        self.trust > 0
            && match timeout {
                Timeout::Zero => false,
                Timeout::For(duration) => duration > self.limit,
                Timeout::Forever => true,
            }
    }

    /// Looks until something is found. If nothing is, it is time to sleep: returns for how long.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn look(
        &mut self,
        timeout: Timeout,
        mut look: impl FnMut() -> io::Result<bool>,
    ) -> io::Result<Option<Timeout>> {
        self.untimed += 1;
        if self.trust < FULL_TRUST || self.untimed >= TAKEN {
            self.untimed = 0;
        } else if look_some(UNTIMED, &mut look)? {
            return Ok(None);
        }
        let started = now();
        loop {
            let found = look_some(LOOKS, &mut look)?;
            let looked = now() - started;
            let missed = looked > self.limit;
            if missed {
                self.trust = self.trust.saturating_sub(MISS);
                if self.trust == 0 {
                    self.needed = MOST.min(self.needed * 2);
                }
            } else if found {
                self.trust += 1;
                if self.trust >= FULL_TRUST {
                    (self.trust, self.needed) = (FULL_TRUST, FEWEST);
                }
            }
            if found {
                return Ok(None);
            }
            if missed {
                return Ok(Some(timeout.after(looked)));
            }
        }
    }

    /// Called before a sleep: the time, if it matters how long the sleep takes.
    #[inline]
    pub fn before_sleep(&self) -> Option<Instant> {
        (self.trust == 0 && self.limit > Duration::ZERO).then(now)
    }

    /// Called after a sleep, with whether something happened that ended it.
    #[inline]
    pub fn after_sleep(&mut self, before: Option<Instant>, happened: bool) {
        let Some(before) = before else { return };
        if !happened || now() - before > SHORT {
            self.short = 0;
            return;
        }
        self.short += 1;
        if self.short >= self.needed {
            self.short = 0;
            self.trust = TRUST;
        }
    }
}

/// Looks so often, unless something is found.
fn look_some(looks: u32, look: &mut impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    for _ in 0..looks {
        if look()? {
            return Ok(true);
        }
        // The peer may need this processor.
        std::thread::yield_now();
    }
    Ok(false)
}
