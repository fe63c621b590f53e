//! User code that runs in the middle of things: destructors, clones, wakers, handlers; those that use the loop, and those that panic.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future as StdFuture, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as PollContext, Poll, Wake, Waker};

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

pub(super) mod clones;
pub(super) mod destructors;
pub(super) mod panics;
pub(super) mod wakers;

cases! {
    ($) "reentrancy" in reentrancy as __cases_reentrancy;
    what_a_callback_schedules_runs_in_the_next_turn: "LP1 L11";
}

thread_local! {
    /// How often [`meddle`] was called and came to its end.
    static MEDDLED: Cell<u32> = const { Cell::new(0) };
}

/// How often [`meddle`] was called since this was asked last.
fn meddled() -> u32 {
    MEDDLED.take()
}

/// Uses everything that a loop offers. While it closes, most of that is refused.
fn meddle() {
    let running = event_loop();
    let future = pending::<u32>();
    let setter = future.clone();
    let handle = running.call_soon(move || drop(setter.set_result(1)));
    handle.into_iter().for_each(|handle| handle.cancel());
    drop(running.call_later(1.0, || ()).map(|timer| timer.cancel()));
    let waiting = create_task(hang());
    drop((gather((ready(1), ready(2))), gather_results([&future]), shield(&future)));
    future.add_done_callback(|_| ());
    drop(TaskBuilder::new().eager_start(true).create_task(async { pump(1).await }));
    waiting.cancel(Some("meddling"));
    drop(future.set_result(1));
    all_tasks().iter().for_each(|task| drop(task.name()));
    let var = ContextVar::<u32>::new();
    var.reset(var.set(1));
    MEDDLED.set(MEDDLED.get() + 1);
}

/// Something whose destructor does what it is told.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Something whose destructor meddles.
fn meddler() -> OnDrop<fn()> {
    OnDrop(meddle)
}

/// Something whose destructor panics.
fn bomb() -> OnDrop<fn()> {
    OnDrop(|| {
        if !std::thread::panicking() {
            panic!("bomb")
        }
    })
}

/// An error with something in it.
struct Loaded<T>(#[allow(dead_code)] T);

impl<T> fmt::Debug for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loaded")
    }
}
impl<T> fmt::Display for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("loaded")
    }
}
impl<T> std::error::Error for Loaded<T> {}

fn loaded<T: Send + Sync + 'static>(load: T) -> Error {
    Error::new(Loaded(load))
}

/// Keeps something until dropped.
async fn keep<T>(kept: T, coroutine: impl StdFuture<Output = Result<()>>) -> Result<()> {
    let result = coroutine.await;
    drop(kept);
    result
}

fn what_a_callback_schedules_runs_in_the_next_turn(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let future = pending::<u32>();
        let (t, other) = (trace.clone(), pending::<u32>());
        let setter = other.clone();
        let mark = trace.marker("other");
        other.add_done_callback(move |_| mark());
        future.add_done_callback(move |future| {
            t.mark(future.result().unwrap());
            let again = t.marker("added in callback");
            future.add_done_callback(move |_| again());
            setter.set_result(2).unwrap();
        });
        trace.start();
        future.set_result(1)?;
        pump(3).await?;
        assert_eq!(trace.take(), ["1+1", "added in callback+2", "other+2"]);
        Ok(())
    });
}
