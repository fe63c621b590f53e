//! [`Unpoisoned`]: locks of the standard library, whoever panicked while holding one.
//!
//! They keep what they know in themselves. Locks that park threads in a table of the process hang in a forked child, where the table
//! still has the parent's threads in it, and a thread of the child's gets the memory of one of them.

use std::sync::{LockResult, PoisonError};

/// What is locked stays as it was when somebody panicked: nothing here is ever left half done.
pub(crate) trait Unpoisoned<G> {
    /// The guard.
    fn unpoisoned(self) -> G;
}

impl<G> Unpoisoned<G> for LockResult<G> {
    #[inline]
    fn unpoisoned(self) -> G {
        self.unwrap_or_else(PoisonError::into_inner)
    }
}
