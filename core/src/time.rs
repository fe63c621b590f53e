//! [`Instant`]: a point on the loop's clock.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A point on the clock of a loop, in nanoseconds since an origin that the driver chose.
///
/// It is not `std::time::Instant`, since a loop's clock may be virtual. asyncio's counterpart is the float that `loop.time()`
/// returns.
///
/// ```
/// use aioli_core::Instant;
/// use std::time::Duration;
///
/// let t = Instant::from_nanos(1_500);
/// assert_eq!(t + Duration::from_nanos(500), Instant::from_nanos(2_000));
/// assert_eq!(t - Instant::from_nanos(2_000), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The latest point the clock can tell, about 584 years after its origin.
    pub const MAX: Instant = Instant(u64::MAX);

    /// The point this many nanoseconds after the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the clock's origin, as asyncio's `loop.time()` gives them.
    pub fn as_secs_f64(self) -> f64 {
        Duration::from_nanos(self.0).as_secs_f64()
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn saturating_duration_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Saturates at [`Instant::MAX`].
impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

/// Saturates at the clock's origin.
impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Saturates at zero.
impl Sub for Instant {
    type Output = Duration;
    fn sub(self, rhs: Instant) -> Duration {
        self.saturating_duration_since(rhs)
    }
}
