//! When the loop asks its driver, and where in a turn completions come.

mod common;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use aioli_core::driver::{Completion, Completions, Driver, DriverReport, Kick, OpId, Submit, Wait as DriverWait};
use aioli_core::op::{Op, Outcome, Resource};
use aioli_core::ops::{Owner, Submitted};
use aioli_core::*;
use aioli_exec_sim::SimDriver;
use common::*;

/// A simulated machine on which every operation completes when the driver is asked next.
#[derive(Default)]
struct Echo {
    machine: SimDriver,
    submitted: VecDeque<OpId>,
}

impl Driver for Echo {
    fn report(&self) -> DriverReport {
        self.machine.report()
    }
    fn now(&self) -> Instant {
        self.machine.now()
    }
    fn is_virtual(&self) -> bool {
        true
    }
    fn submit(&mut self, id: OpId, _: Op) -> Submit {
        self.submitted.push_back(id);
        Submit::Pending
    }
    fn cancel(&mut self, _: OpId) {}
    fn turn(&mut self, wait: DriverWait, completions: &mut Completions) -> io::Result<()> {
        let wait = if self.submitted.is_empty() { wait } else { DriverWait::No };
        let done = |id| Completion { id, more: false, outcome: Outcome::Done(Ok(())) };
        completions.extend(self.submitted.drain(..).map(done));
        self.machine.turn(wait, completions)
    }
    fn kicker(&self) -> Arc<dyn Kick> {
        self.machine.kicker()
    }
    fn shutdown(&mut self, _: &mut Completions) {}
}

/// Marks the turn in which an operation completes.
struct Marker(Trace);

impl Owner for Marker {
    fn complete(&self, tag: u32, _: Outcome, _: bool) {
        self.0.mark(format_args!("io{tag}"));
    }
}

fn submit(trace: &Trace, tag: u32) {
    let owner: Rc<dyn Owner> = Rc::new(Marker(trace.clone()));
    let submitted = event_loop().submit(Op::Close { resource: Resource(0) }, &owner, tag).unwrap();
    assert!(matches!(submitted, Submitted::InFlight(_)));
}

/// A machine with a clock that moves by a step whenever it is read, and that counts how often it is asked.
struct Ticking {
    echo: Echo,
    clock: Rc<Cell<u64>>,
    step: u64,
    asked: Rc<Cell<u32>>,
}

impl Ticking {
    /// With the step in nanoseconds.
    fn new(step: u64) -> (Self, Rc<Cell<u32>>) {
        let asked = Rc::new(Cell::new(0));
        (Ticking { echo: Echo::default(), clock: Rc::default(), step, asked: Rc::clone(&asked) }, asked)
    }
}

impl Driver for Ticking {
    fn report(&self) -> DriverReport {
        self.echo.report()
    }
    fn now(&self) -> Instant {
        self.clock.set(self.clock.get() + self.step);
        Instant::from_nanos(self.clock.get())
    }
    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        self.echo.submit(id, op)
    }
    fn cancel(&mut self, _: OpId) {}
    fn turn(&mut self, wait: DriverWait, completions: &mut Completions) -> io::Result<()> {
        self.asked.set(self.asked.get() + 1);
        if let DriverWait::Until(deadline) = wait {
            self.clock.set(self.clock.get().max(deadline.as_nanos()));
        }
        self.echo.turn(DriverWait::No, completions)
    }
    fn kicker(&self) -> Arc<dyn Kick> {
        self.echo.kicker()
    }
    fn shutdown(&mut self, _: &mut Completions) {}
}

#[test]
fn a_busy_loop_asks_the_driver_once_in_a_while() {
    let (driver, asked) = Ticking::new(1);
    run(driver, async { pump(6400).await }).unwrap();
    let asked = asked.get();
    assert!((100..=110).contains(&asked), "every 64 handles: {asked}");
    let (driver, asked) = Ticking::new(20_000);
    run(driver, async { pump(1000).await }).unwrap();
    let asked = asked.get();
    assert!((16..=40).contains(&asked), "every 64 handles or, looked at every 16, when 100 us have passed: {asked}");
}

#[test]
fn an_idle_loop_asks_the_driver_at_once() {
    let trace = Trace::default();
    let inside = trace.clone();
    let (driver, asked) = Ticking::new(1);
    let count = Rc::clone(&asked);
    run(driver, async move {
        let future = pending::<()>();
        for n in 0..10 {
            let before = count.get();
            submit(&inside, n);
            sleep(1.0).await?;
            assert!(count.get() - before <= 3, "{}", count.get() - before);
        }
        future.set_result(())?;
        future.await
    })
    .unwrap();
    assert_eq!(trace.take().len(), 10);
}

#[test]
fn timers_that_are_due_do_not_wait_for_the_driver_to_be_asked() {
    let trace = Trace::default();
    let inside = trace.clone();
    let (driver, asked) = Ticking::new(1);
    run(driver, async move {
        sleep(1.0).await?;
        inside.start();
        let before = asked.get();
        event_loop().call_later(0.0, inside.marker("zero"))?;
        event_loop().call_at(Instant::default(), inside.marker("past"))?;
        soon(inside.marker("soon"));
        pump(3).await?;
        assert_eq!(asked.get(), before);
        Ok(())
    })
    .unwrap();
    assert_eq!(trace.take(), ["soon+1", "past+1", "zero+1"]);
}

#[test]
fn completions_come_after_what_was_ready_and_before_timers() {
    let trace = Trace::default();
    let inside = trace.clone();
    run(Echo::default(), async move {
        sleep(1.0).await?;
        inside.start();
        submit(&inside, 1);
        submit(&inside, 2);
        event_loop().call_later(0.0, inside.marker("timer"))?;
        soon(inside.marker("soon"));
        pump(3).await
    })
    .unwrap();
    assert_eq!(trace.take(), ["soon+1", "io1+1", "io2+1", "timer+1"]);
}

#[test]
fn a_loop_that_is_never_idle_asks_the_driver_all_the_same() {
    let trace = Trace::default();
    let inside = trace.clone();
    run(Echo::default(), async move {
        inside.start();
        let busy = create_task(pump(50));
        submit(&inside, 1);
        event_loop().call_later(0.0, inside.marker("timer"))?;
        busy.await
    })
    .unwrap();
    assert_eq!(trace.take(), ["io1+1", "timer+1"]);
}
