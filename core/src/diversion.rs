//! [`Diversion`]: Ctrl-C that somebody handles otherwise than by cancelling the main task.

use crate::shared::Arc;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::inbox::LoopShared;

/// How many diversions there are in the program.
static DIVERSIONS: AtomicU32 = AtomicU32::new(0);

/// While this lives, a Ctrl-C does not cancel the main task of a loop: whoever made it handles the signal.
/// [`RemoteLoop::divert_interrupts`](crate::RemoteLoop::divert_interrupts) makes one.
///
/// ```
/// # aioli_exec_sim::run(async {
/// let remote = aioli_core::get_running_loop()?.remote();
/// let diversion = remote.divert_interrupts();
/// assert!(remote.has_diverted_interrupts());
/// drop(diversion);
/// assert!(!remote.has_diverted_interrupts());
/// # Ok(())
/// # }).unwrap();
/// ```
pub struct Diversion {
    shared: Arc<LoopShared>,
}

impl Diversion {
    pub(crate) fn new(shared: Arc<LoopShared>) -> Self {
        DIVERSIONS.fetch_add(1, Ordering::SeqCst);
        shared.diversions.fetch_add(1, Ordering::SeqCst);
        Diversion { shared }
    }

    /// Whether there is any in the program. Async-signal-safe.
    pub fn is_any() -> bool {
        DIVERSIONS.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Diversion {
    fn drop(&mut self) {
        self.shared.diversions.fetch_sub(1, Ordering::SeqCst);
        DIVERSIONS.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Diversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Diversion").field(&self.shared).finish()
    }
}
