//! Numbers that look random and are the same in every run.

use std::time::Duration;

/// A SplitMix64 generator.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A generator whose numbers follow from `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration from zero up to (not including) `end`, in whole nanoseconds.
    ///
    /// # Panics
    ///
    /// If `end` is zero or longer than 584 years.
    pub fn duration_below(&mut self, end: Duration) -> Duration {
        let end = u64::try_from(end.as_nanos()).expect("a duration of less than 584 years");
        Duration::from_nanos(self.next_u64() % end)
    }
}
