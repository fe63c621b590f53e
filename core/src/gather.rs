//! [`gather`]: several results at once.

use std::cell::Cell;
use std::rc::Rc;

use crate::awaitable;
use crate::callback::{Callback, Hook, HookRef};
use crate::error::{Error, Result};
use crate::event_loop::LoopCore;
use crate::future::{self, Future};
use crate::gather_set::{Children, GatherSet, RawChild};
use crate::task::header::flag;
use crate::task::{FutureRef, RawFuture, home};

/// Waits for everything in a tuple or collection, concurrently, and gives the values in the same order: asyncio's `gather`.
///
/// Coroutines become tasks at once. The first error ends the gather with that error, while the others run on, their later errors
/// unreported. Cancelling the gather, or the task that awaits it, cancels everything gathered; it ends when the first has ended.
/// Dropping it leaves everything running.
///
/// # Errors
/// The future ends with the first error; with Cancelled if it was cancelled; with `Value` if something of another loop was given.
///
/// # Panics
/// Outside of a running loop.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{create_task, gather, sleep};
/// use std::time::Duration;
///
/// let slow = create_task(async { sleep(Duration::from_secs(1)).await.map(|()| "slow") });
/// assert_eq!(gather((slow, async { Ok(7) })).await?, ("slow", 7));
/// let many: Vec<_> = (0..3).map(|n| async move { Ok(n) }).collect();
/// assert_eq!(gather(many).await?, [0, 1, 2]);
/// # Ok(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn gather<S: GatherSet>(set: S) -> Future<<S::Children as Children>::Values> {
    start(set.into_children(), false, |children| children.values())
}

/// As [`gather`] with `return_exceptions=True`: waits for all of them and gives the results, errors included. Only a cancellation of
/// the gather itself ends it with an error, after everything has ended.
///
/// # Errors
/// The future ends with Cancelled if it was cancelled; with `Value` if something of another loop was given.
///
/// # Panics
/// Outside of a running loop.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Error, gather_results};
///
/// let (good, bad) = gather_results((async { Ok(1) }, async { Err::<u8, _>(Error::msg("no")) })).await?;
/// assert_eq!(good?, 1);
/// assert!(bad.is_err());
/// # Ok(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn gather_results<S: GatherSet>(set: S) -> Future<<S::Children as Children>::Results> {
    start(set.into_children(), true, |children| Ok(children.results()))
}

struct Gather<C, R> {
    outer: FutureRef<R>,
    children: C,
    /// Each future once, also if it was given several times.
    distinct: Vec<RawFuture>,
    /// All that was given, if something was given several times: that is cancelled as often.
    repeated: Option<Vec<RawFuture>>,
    finished: Cell<usize>,
    cancelled: Cell<bool>,
    with_errors: bool,
    collect: fn(&C) -> Result<R>,
}

fn start<C: Children, R: 'static>(children: Result<C>, with_errors: bool, collect: fn(&C) -> Result<R>) -> Future<R> {
    let core = home::current().expect("no running event loop: gather is called inside of `run`");
    let outer = future::pending::<R>(&core);
    let children = match children {
        Ok(children) => children,
        Err(error) => {
            outer.raw().finish_error(error, false);
            return outer;
        }
    };
    let mut given = Vec::new();
    children.each(&mut |RawChild(raw)| given.push(raw));
    let distinct = awaitable::distinct(given.clone());
    let repeated = (given.len() > distinct.len()).then_some(given);
    if let Some(stranger) = distinct.iter().find(|raw| raw.core().id() != core.id()) {
        let text = format!("a future of another event loop was given to gather: {stranger:?}");
        outer.raw().finish_error(Error::value(text), false);
        return outer;
    }
    let gather = Gather {
        outer: outer.cell().clone(),
        children,
        distinct,
        repeated,
        finished: Cell::new(0),
        cancelled: Cell::new(false),
        with_errors,
        collect,
    };
    if gather.distinct.is_empty() {
        gather.complete();
        return outer;
    }
    let distinct = gather.distinct.clone();
    let gather: HookRef = Rc::new(Box::new(gather));
    outer.raw().set_delegate(Rc::downgrade(&gather));
    core.remember(&gather);
    let mut done = Vec::new();
    for (index, child) in (0..).zip(&distinct) {
        if child.is_done() {
            done.push(index);
        } else {
            child.add_callback(Callback::Hook(Rc::clone(&gather), index));
        }
    }
    for index in done {
        gather.run(&core, index);
    }
    outer
}

impl<C: Children, R: 'static> Gather<C, R> {
    /// Sets the result, now that all have finished.
    fn complete(&self) {
        if self.cancelled.get() {
            // The errors of the others are lost to the request.
            self.distinct.iter().for_each(|child| child.header().clear(flag::LOG));
            return self.outer.raw().finish_error(self.cancellation(), false);
        }
        match (self.collect)(&self.children) {
            // Collecting cloned values, which is user code: it may have cancelled the gather.
            _ if self.outer.raw().is_done() => (),
            Ok(values) => assert!(self.outer.finish_value(values), "it was pending"),
            Err(error) => self.outer.raw().finish_error(error, false),
        }
    }
}

impl<C: Children, R: 'static> Gather<C, R> {
    /// The error of a gather that was cancelled: that of the last argument, whatever became of it.
    fn cancellation(&self) -> Error {
        let mut last = None;
        self.children.each(&mut |RawChild(raw)| last = Some(raw));
        let Some(last) = last else { return Error::cancelled(None) };
        let own = if last.is_cancelled() { last.retrieve_error() } else { None };
        own.unwrap_or_else(|| Error::cancelled_with(last.cancel_message()))
    }
}

impl<C: Children, R: 'static> Hook for Gather<C, R> {
    fn run(&self, _: &LoopCore, index: u32) {
        let Some(child) = self.distinct.get(index as usize) else { return };
        self.finished.set(self.finished.get() + 1);
        if self.outer.raw().is_done() {
            // Nobody will ask for it.
            child.header().clear(flag::LOG);
            return;
        }
        if !self.with_errors
            && let Some(error) = child.retrieve_error()
        {
            return self.outer.raw().finish_error(error, false);
        }
        if self.finished.get() == self.distinct.len() {
            let collected = std::panic::AssertUnwindSafe(|| self.complete());
            if let Err(panic) = std::panic::catch_unwind(collected) {
                self.outer.raw().finish_error(Error::panicked(panic), false);
            }
        }
    }

    fn children(&self) -> &[RawFuture] {
        self.repeated.as_deref().unwrap_or(&self.distinct)
    }

    fn cancel_requested(&self) {
        self.cancelled.set(true);
    }
}
