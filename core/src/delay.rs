//! Delays: a `Duration`, or a number of seconds, as in asyncio.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// A delay, as functions that wait take it.
///
/// [`IntoDelay`] makes one of a `Duration` or a number of seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Delay {
    /// This long.
    For(Duration),
    /// It has passed already: a negative number of seconds.
    Past,
    /// Not a number of seconds that anybody can wait.
    Invalid,
}

impl Delay {
    pub(crate) fn error() -> Error {
        Error::fixed(
            ErrorKind::Value,
            &"invalid delay: a number of seconds must be finite; Duration::MAX waits for ever",
        )
    }

    /// The delay as a duration, zero if it has passed.
    ///
    /// # Errors
    /// `Value` if it is invalid.
    pub fn duration(self) -> crate::Result<Duration> {
        match self {
            Delay::For(duration) => Ok(duration),
            Delay::Past => Ok(Duration::ZERO),
            Delay::Invalid => Err(Self::error()),
        }
    }
}

/// What can be given as a delay: a `Duration`, or a number of seconds. A negative number counts as passed, as in asyncio; NaN and
/// infinity are refused with a `Value` error by whoever takes the delay.
///
/// ```
/// use aioli_core::{Delay, IntoDelay};
/// use std::time::Duration;
///
/// assert_eq!(1.5.into_delay(), Delay::For(Duration::from_millis(1500)));
/// assert_eq!(2.into_delay(), Delay::For(Duration::from_secs(2)));
/// assert_eq!((-1.0).into_delay(), Delay::Past);
/// assert!(f64::NAN.into_delay().duration().is_err());
/// ```
pub trait IntoDelay {
    /// The delay.
    fn into_delay(self) -> Delay;
}

impl IntoDelay for Delay {
    fn into_delay(self) -> Delay {
        self
    }
}

impl IntoDelay for Duration {
    #[inline]
    fn into_delay(self) -> Delay {
        Delay::For(self)
    }
}

impl IntoDelay for f64 {
    fn into_delay(self) -> Delay {
        if !self.is_finite() {
            return Delay::Invalid;
        }
        if self < 0.0 {
            return Delay::Past;
        }
        // What is finite and too long for a Duration is for ever.
        Delay::For(Duration::try_from_secs_f64(self).unwrap_or(Duration::MAX))
    }
}

macro_rules! whole_seconds {
    ($($number:ty),*) => {$(
        impl IntoDelay for $number {
            #[inline]
            fn into_delay(self) -> Delay {
                u64::try_from(self).map_or(Delay::Past, |seconds| Delay::For(Duration::from_secs(seconds)))
            }
        }
    )*};
}

whole_seconds!(i32, u32, i64, u64);

/// Nanoseconds of a duration; what is longer than 584 years is as good as for ever.
#[inline]
pub(crate) fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
