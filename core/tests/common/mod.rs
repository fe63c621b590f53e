//! What the tests of the core share: programs in virtual time, beside what they share with the conformance suite.
#![allow(dead_code)] // each test program uses its part

use std::cell::{Cell, RefCell};
use std::future::Future as StdFuture;
use std::rc::Rc;
use std::sync::Mutex;

use aioli_core::*;

#[path = "../../../compat-tests/src/cases/support.rs"]
mod support;

#[allow(unused_imports)] // as above
pub use support::*;

/// Runs a program on the simulated machine. It must succeed.
#[track_caller]
pub fn sim<T: 'static>(main: impl StdFuture<Output = Result<T>> + 'static) -> T {
    aioli_exec_sim::run(main).unwrap()
}

/// Leaks a value, as `mem::forget` does, but where those who look for leaks still find it.
pub fn leak<T>(value: T) {
    static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let at = Box::into_raw(Box::new(value)).expose_provenance();
    LEAKED.lock().unwrap().push(at);
}

/// The seeds of random programs: as many as the environment variable `CHAOS` says, from that on which `CHAOS_SEED` says.
pub fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    let first = number("CHAOS_SEED", 0);
    first..first + number("CHAOS", count)
}

/// Numbers at random, which the clones share.
#[derive(Clone)]
pub struct Random(Rc<Cell<u64>>);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(Rc::new(Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)))
    }

    /// A number below `n`.
    pub fn below(&self, n: u64) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        (x >> 11) % n
    }
}

/// Runs a program whose reports go into a list, and gives that list.
pub fn reports(main: impl StdFuture<Output = Result<()>> + 'static) -> Vec<Report> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&seen);
    sim(async move {
        event_loop().set_exception_handler(Some(Box::new(move |report| sink.borrow_mut().push(report.clone()))));
        main.await
    });
    Rc::into_inner(seen).expect("the handler is gone with the loop").into_inner()
}
