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

impl Timeout {
    /// What is left of it when some time has passed.
    pub(crate) fn after(self, passed: Duration) -> Self {
        match self {
            Timeout::For(duration) if duration > passed => Timeout::For(duration - passed),
            Timeout::For(_) => Timeout::Zero,
            other => other,
        }
    }
}
