//! [`Trace`]: a record of what happened on the machine.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use aioli_core::Instant;

/// Takes down what happens on a simulated machine: each operation, its completions, and each event of the network, a line each, with the
/// time. Clones are handles to one record.
///
/// Two runs of one program with the same [`Config`](crate::Config) give the same record, byte for byte, unless the program depends on
/// something outside of the machine: the time of day, other threads, the order in which a `HashMap` is walked.
///
/// ```
/// use aioli_exec_sim::{Config, Trace, run_with};
/// use aioli_core::sleep;
///
/// let trace = Trace::new();
/// run_with(Config::new(7).trace(trace.clone()), sleep(2.5)).unwrap();
/// assert_eq!(trace.text(), "2.500000000 wait\n");
/// ```
#[derive(Clone, Default)]
pub struct Trace(Rc<RefCell<String>>);

impl Trace {
    /// An empty record.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was taken down until now.
    pub fn text(&self) -> String {
        self.0.borrow().clone()
    }

    pub(crate) fn line(&self, now: Instant, what: fmt::Arguments<'_>) {
        use fmt::Write;
        let nanos = now.as_nanos();
        let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        // A string takes everything.
        let _ = writeln!(self.0.borrow_mut(), "{seconds}.{nanos:09} {what}");
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("lines", &self.0.borrow().lines().count()).finish()
    }
}
