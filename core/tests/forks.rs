//! A loop in a process that was forked in the middle of a step.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, Wait, forked};
use aioli_core::op::Op;
use aioli_core::*;
use aioli_exec_sim::{SimDriver, VirtualClock};

/// A driver that knows its process when it is asked, and at no other time.
struct Checked {
    driver: SimDriver,
    elsewhere: Rc<Cell<bool>>,
}

impl Driver for Checked {
    fn report(&self) -> DriverReport {
        self.driver.report()
    }

    fn check(&self) -> io::Result<()> {
        if self.elsewhere.get() { Err(io::Error::other("the parent's")) } else { Ok(()) }
    }

    fn now(&self) -> Instant {
        self.driver.now()
    }

    fn is_virtual(&self) -> bool {
        self.driver.is_virtual()
    }

    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        self.driver.submit(id, op)
    }

    fn cancel(&mut self, id: OpId) {
        self.driver.cancel(id);
    }

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        self.driver.turn(wait, completions)
    }

    fn is_stuck(&self) -> bool {
        self.driver.is_stuck()
    }

    fn look_up(&self, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        self.driver.look_up(host)
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        self.driver.kicker()
    }

    fn shutdown(&mut self, completions: &mut Completions) {
        self.driver.shutdown(completions);
    }
}

/// It waited for ever, in the driver, for what the parent was to do.
#[test]
fn a_loop_that_was_left_to_the_parent_ends_though_its_driver_goes_on() {
    let elsewhere = Rc::new(Cell::new(false));
    let driver = Checked { driver: SimDriver::new(), elsewhere: elsewhere.clone() };
    let ran = run(driver, async move {
        let napping = create_task(sleep(0.001));
        sleep(0.0).await?;
        // As the fork handler of a driver does in the child.
        elsewhere.set(true);
        forked();
        napping.await
    });
    let error = ran.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Io, "the parent's".to_owned()));
}

/// It took the parent's tasks for its own: they were cancelled, and cleaned up in the child.
#[test]
fn closing_a_loop_on_a_virtual_clock_elsewhere_leaves_its_tasks_alone() {
    let elsewhere = Rc::new(Cell::new(false));
    let driver = Checked { driver: SimDriver::new(), elsewhere: elsewhere.clone() };
    let runner = Runner::new(VirtualClock::new(driver));
    let cleaned = Rc::new(Cell::new(false));
    let cleanup = cleaned.clone();
    runner
        .run(async move {
            create_task(async move {
                let slept = sleep(1.0).await;
                cleanup.set(true);
                slept
            });
            sleep(0.0).await
        })
        .unwrap();
    elsewhere.set(true);
    runner.close().unwrap();
    assert!(!cleaned.get());
}
