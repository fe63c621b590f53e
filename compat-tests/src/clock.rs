//! [`Jumping`]: a driver with a virtual clock in place of its own.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aioli_core::Instant;
use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, TryReceived, Wait};
use aioli_core::op::{Op, Resource};
use bytes::BytesMut;

/// A driver whose clock begins at zero and, as a simulated machine's, jumps to the deadline that a wait is for if nothing is there.
#[derive(Debug)]
pub(crate) struct Jumping<D> {
    driver: D,
    now: Instant,
    bell: Arc<Bell>,
}

/// Tells a kick from other reasons for which a wait ends early.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    driver: Arc<dyn Kick>,
}

impl Kick for Bell {
    fn kick(&self) {
        self.rung.store(true, Ordering::SeqCst);
        self.driver.kick();
    }
}

impl<D: Driver> Jumping<D> {
    pub(crate) fn new(driver: D) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(false), driver: driver.kicker() });
        Jumping { driver, now: Instant::default(), bell }
    }
}

impl<D: Driver> Driver for Jumping<D> {
    fn report(&self) -> DriverReport {
        self.driver.report()
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn is_virtual(&self) -> bool {
        true
    }

    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        self.driver.submit(id, op)
    }

    fn cancel(&mut self, id: OpId) {
        self.driver.cancel(id);
    }

    fn try_send(&mut self, resource: Resource, data: &[u8]) -> Option<io::Result<usize>> {
        self.driver.try_send(resource, data)
    }

    fn try_recv(&mut self, resource: Resource, buffer: &mut BytesMut) -> Option<io::Result<TryReceived>> {
        self.driver.try_recv(resource, buffer)
    }

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        if wait == Wait::No || self.bell.rung.swap(false, Ordering::SeqCst) {
            return self.driver.turn(Wait::No, completions);
        }
        let Wait::Until(deadline) = wait else {
            let turned = self.driver.turn(Wait::Forever, completions);
            self.bell.rung.store(false, Ordering::SeqCst);
            return turned;
        };
        let before = completions.len();
        self.driver.turn(Wait::No, completions)?;
        if completions.len() == before {
            self.now = self.now.max(deadline);
        }
        Ok(())
    }

    fn is_stuck(&self) -> bool {
        self.driver.is_stuck()
    }

    fn look_up(&self, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        self.driver.look_up(host)
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.bell) as Arc<dyn Kick>
    }

    fn shutdown(&mut self, completions: &mut Completions) {
        self.driver.shutdown(completions);
    }
}
