//! Locks, events, conditions, semaphores, barriers and queues. What a trace test expects is what CPython does, turn by turn.

pub(super) mod comparisons;
pub(super) mod drops;
pub(super) mod locks;
pub(super) mod model;
pub(super) mod queues;
pub(super) mod traces;
pub(super) mod traces_of_conditions;
pub(super) mod traces_of_queues;
pub(super) mod upstream_barriers;
pub(super) mod upstream_locks;
pub(super) mod upstream_queues;

use std::cell::RefCell;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::rc::Rc;

use aioli_core::*;

use crate::case::cases;
use crate::cases::support::messages;
use crate::machine::Machine;

fn turn() -> u64 {
    get_running_loop().unwrap().turn()
}

/// Bare yields.
async fn pump(turns: usize) -> Result<()> {
    for _ in 0..turns {
        sleep(0.0).await?;
    }
    Ok(())
}

fn pending<T: 'static>() -> aioli_core::Future<T> {
    get_running_loop().unwrap().create_future()
}

fn soon(callback: impl FnOnce() + 'static) {
    get_running_loop().unwrap().call_soon(callback).unwrap();
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

/// What happened, and how many turns after the beginning.
#[derive(Clone)]
struct Trace {
    begin: u64,
    events: Rc<RefCell<Vec<String>>>,
}

impl Trace {
    fn begin() -> Self {
        Trace { begin: turn(), events: Rc::default() }
    }

    fn note(&self, what: impl Display) {
        self.events.borrow_mut().push(format!("{what}+{}", turn() - self.begin));
    }

    /// A task that notes its end: `name:value` or `name!error`.
    fn spawn<T: Debug + 'static>(
        &self,
        name: impl Display + 'static,
        coroutine: impl Future<Output = Result<T>> + 'static,
    ) -> Task<T> {
        let trace = self.clone();
        create_task(async move {
            let result = coroutine.await;
            match &result {
                Ok(value) => trace.note(format!("{name}:{value:?}")),
                Err(error) => trace.note(format!("{name}!{:?}", error.kind())),
            }
            result
        })
    }

    #[track_caller]
    fn expect(&self, events: &[&str]) {
        assert_eq!(*self.events.borrow(), events);
    }
}
