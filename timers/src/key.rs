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
