//! The name of a timer.

use std::num::NonZeroU32;

/// Names one timer of one [`TimerQueue`](crate::TimerQueue).
///
/// A key stays valid until its timer is gone, and is stale ever after: a slot that is used again carries another generation. Keys are
/// plain numbers, and mean nothing to another queue. `Option<TimerKey>` is as small as the key itself.
///
/// ```
/// use aioli_timers::{TimerKey, TimerQueue};
///
/// let mut timers = TimerQueue::new(0);
/// let old = timers.insert('a');
/// timers.cancel(old);
/// let new = timers.insert('b'); // in the same memory
/// assert_ne!(old, new);
/// assert_eq!(timers.get(old), None);
/// assert_eq!(size_of::<Option<TimerKey>>(), 8);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TimerKey {
    pub(crate) index: u32,
    pub(crate) generation: NonZeroU32,
}

impl TimerKey {
    /// The key as one number, never zero.
    #[inline]
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation.get()) << 32 | u64::from(self.index)
    }

    /// The key that a number stands for; `None` if it stands for none.
    ///
    /// ```
    /// use aioli_timers::{TimerKey, TimerQueue};
    ///
    /// let key = TimerQueue::new(0).insert('a');
    /// assert_eq!(TimerKey::from_bits(key.to_bits()), Some(key));
    /// assert_eq!(TimerKey::from_bits(7), None);
    /// ```
    #[inline]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let generation = NonZeroU32::new((bits >> 32) as u32)?;
        Some(TimerKey { index: bits as u32, generation })
    }
}
