//! [`Case`]: a behaviour that every backend must have, and the tables that cases stand in.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::backend::Backend;
use crate::machine::Machine;

/// How long a case may take. Most take milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

/// One behaviour, which every backend must have.
#[derive(Clone, Copy)]
pub struct Case {
    /// The part of aioli that it is about.
    pub area: &'static str,
    /// Its name, unlike any other in its area.
    pub name: &'static str,
    /// The codes of the laws and rules that it tests, with spaces between.
    pub rules: &'static str,
    /// The tests of CPython that it is made after, as `file::Class::test`.
    pub upstream: &'static [&'static str],
    pub(crate) body: fn(&Machine),
}

/// What came of a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It held.
    Passed,
    /// It did not, and why.
    Failed(String),
    /// It was not tried, and why.
    Skipped(String),
}

impl Case {
    /// Its area and name: `cancel::before_its_first_step_a_task_never_starts`.
    pub fn id(&self) -> String {
        format!("{}::{}", self.area, self.name)
    }

    /// The codes of the laws and rules that it tests.
    pub fn rules(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.rules.split_ascii_whitespace()
    }

    /// Tries it on a backend, on a thread of its own. A case that does not end within a minute has failed; its thread is left behind.
    /// One that needs a process of its own is skipped.
    pub fn run(&self, backend: &'static dyn Backend) -> Verdict {
        self.run_by(backend, None)
    }

    /// The same in a program that runs nothing but this case on this backend if it is called with these arguments: cases that need a
    /// process of their own call it so.
    pub fn run_with(&self, backend: &'static dyn Backend, again: &[String]) -> Verdict {
        self.run_by(backend, Some(again.to_vec()))
    }

    fn run_by(&self, backend: &'static dyn Backend, again: Option<Vec<String>>) -> Verdict {
        if let Some(why) = backend.missing() {
            return Verdict::Skipped(why);
        }
        let (sender, receiver) = mpsc::channel();
        let body = self.body;
        let trying = thread::Builder::new().name(self.name.into()).spawn(move || {
            let machine = Machine::new(backend, again.as_deref());
            let verdict = match panic::catch_unwind(AssertUnwindSafe(|| body(&machine))) {
                Ok(()) => machine.skipped().map_or(Verdict::Passed, Verdict::Skipped),
                Err(panic) => Verdict::Failed(describe(panic.as_ref())),
            };
            // Nobody listens any more if it took too long.
            let _ = sender.send(verdict);
        });
        let failed = |why: &str| Verdict::Failed(why.into());
        match trying {
            Err(error) => Verdict::Failed(format!("no thread for it: {error}")),
            Ok(_) => receiver.recv_timeout(LIMIT).unwrap_or_else(|_| failed("did not end within a minute")),
        }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("id", &self.id()).field("rules", &self.rules).finish_non_exhaustive()
    }
}

thread_local! {
    /// Where and why this thread last panicked, if [`catch_places`] is in force.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has panics noted for the verdict, with their place, instead of printed: many cases panic on purpose.
pub fn catch_places() {
    panic::set_hook(Box::new(|info| {
        PLACE.with_borrow_mut(|place| *place = Some(info.to_string()));
    }));
}

fn describe(panic: &(dyn Any + Send)) -> String {
    let noted = PLACE.with_borrow_mut(Option::take);
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    let text = noted.as_deref().or(text).unwrap_or("panicked");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The table of a file's cases: each has its name, the codes of the laws and rules that it tests, and CPython's tests that it is made
/// after. Besides the table it makes the macro that [`conformance!`](crate::conformance) turns into `#[test]`s.
macro_rules! cases {
    (
        ($d:tt) $area:literal in $file:ident as $tests:ident;
        $($name:ident: $rules:literal $(= $($upstream:literal),+)?;)*
    ) => {
        pub(crate) const CASES: &[crate::Case] = &[$(crate::Case {
            area: $area,
            name: stringify!($name),
            rules: $rules,
            upstream: &[$($($upstream),+)?],
            body: $name,
        }),*];

        #[doc(hidden)]
        #[macro_export]
        macro_rules! $tests {
            ($d backend:expr) => {
                mod $file {
                    #[allow(unused_imports)]
                    use super::*;

                    $(#[test]
                    fn $name() {
                        let path = concat!(module_path!(), "::", stringify!($name));
                        $d crate::check(&$d backend, $area, stringify!($name), path);
                    })*
                }
            };
        }
    };
}
pub(crate) use cases;
