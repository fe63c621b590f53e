//! [`Timeout`]: how long a driver waits.

use std::time::Duration;

/// How long to wait for something to happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timeout {
    /// Not at all.
    Zero,
    /// So long at most.
    For(Duration),
    /// Until it happens.
    Forever,
}
