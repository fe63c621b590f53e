//! A virtual clock over a driver that has a real one.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aioli_core::Instant;
use aioli_core::driver::{Completion, Completions, Driver, DriverReport, Kick, OpId, Submit, Wait};
use aioli_core::op::{Op, Outcome, Resource};
use aioli_exec_sim::VirtualClock;

/// A driver whose operations complete in its next turn that waits, if they ever do. Its own clock stands at 7 seconds.
#[derive(Clone, Default)]
struct Kernel {
    waits: Rc<RefCell<Vec<Wait>>>,
    in_flight: Rc<RefCell<Vec<OpId>>>,
    hangs: bool,
}

#[derive(Debug)]
struct Deaf;

impl Kick for Deaf {
    fn kick(&self) {}
}

const REAL: Instant = Instant::from_nanos(7_000_000_000);

impl Driver for Kernel {
    fn report(&self) -> DriverReport {
        DriverReport { name: "kernel", capabilities: Vec::new() }
    }

    fn check(&self) -> io::Result<()> {
        Err(io::Error::other("made elsewhere"))
    }

    fn look_up(&self, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        (host == "here.test").then(|| Ok(vec![[10, 0, 0, 1].into()]))
    }

    fn now(&self) -> Instant {
        REAL
    }

    fn submit(&mut self, id: OpId, _: Op) -> Submit {
        self.in_flight.borrow_mut().push(id);
        Submit::Pending
    }

    fn cancel(&mut self, _: OpId) {}

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        self.waits.borrow_mut().push(wait);
        if wait != Wait::No && !self.hangs {
            let done = self.in_flight.take();
            completions.extend(done.into_iter().map(|id| Completion {
                id,
                more: false,
                outcome: Outcome::Done(Ok(())),
            }));
        }
        Ok(())
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::new(Deaf)
    }

    fn shutdown(&mut self, _: &mut Completions) {}
}

const DEADLINE: Instant = Instant::from_nanos(60_000_000_000);

/// One wait until the deadline. Gives the clock afterwards, and how many operations completed.
fn wait(clock: &mut VirtualClock<Kernel>) -> (Instant, usize) {
    let mut completions = Completions::new();
    clock.turn(Wait::Until(DEADLINE), &mut completions).unwrap();
    (clock.now(), completions.len())
}

fn close() -> Op {
    Op::Close { resource: Resource(1) }
}

#[test]
fn it_begins_at_zero_and_jumps_without_waiting() {
    let kernel = Kernel::default();
    let mut clock = VirtualClock::new(kernel.clone());
    assert_eq!((clock.now(), clock.is_virtual(), clock.is_stuck()), (Instant::default(), true, true));
    clock.turn(Wait::No, &mut Completions::new()).unwrap();
    assert_eq!(clock.now(), Instant::default());
    assert_eq!(wait(&mut clock), (DEADLINE, 0));
    assert_eq!(*kernel.waits.borrow(), [Wait::No, Wait::No]);
}

#[test]
fn operations_in_flight_have_a_little_real_time() {
    let kernel = Kernel::default();
    let mut clock = VirtualClock::new(kernel.clone()).patience(Duration::from_millis(5));
    assert!(matches!(clock.submit(OpId(1), close()), Submit::Pending));
    assert!(!clock.is_stuck());
    assert_eq!(wait(&mut clock), (Instant::default(), 1));
    assert_eq!(*kernel.waits.borrow(), [Wait::Until(REAL + Duration::from_millis(5))]);
    // And now that there are none it jumps.
    assert_eq!(wait(&mut clock), (DEADLINE, 0));
}

#[test]
fn operations_that_take_longer_are_overtaken() {
    let kernel = Kernel { hangs: true, ..Kernel::default() };
    let mut clock = VirtualClock::new(kernel);
    assert!(matches!(clock.submit(OpId(1), close()), Submit::Pending));
    assert_eq!(wait(&mut clock), (DEADLINE, 0));
    assert!(!clock.is_stuck());
}

#[test]
fn a_kick_ends_the_wait_and_the_clock_stands() {
    let mut clock = VirtualClock::new(Kernel::default());
    clock.kicker().kick();
    clock.turn(Wait::No, &mut Completions::new()).unwrap(); // does not use it up
    assert_eq!(wait(&mut clock), (Instant::default(), 0));
    assert_eq!(wait(&mut clock), (DEADLINE, 0));
}

#[test]
fn a_driver_with_a_virtual_clock_keeps_its_process_and_its_names() {
    let clock = VirtualClock::new(Kernel::default());
    assert_eq!(clock.check().unwrap_err().to_string(), "made elsewhere");
    assert_eq!(clock.look_up("here.test").unwrap().unwrap(), [IpAddr::from([10, 0, 0, 1])]);
    assert!(clock.look_up("example.org").is_none());
}
