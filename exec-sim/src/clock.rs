//! [`VirtualClock`]: a virtual clock for a driver that has a real one.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aioli_core::Instant;
use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, TryReceived, Wait};
use aioli_core::op::{Op, Resource};
use bytes::BytesMut;

/// A driver with a virtual clock in place of its own: it begins at zero, stands still while tasks run, and jumps to the next deadline
/// instead of waiting for it. For tests that run on a real kernel and take no time.
///
/// While operations are in flight it gives them a little real time before it jumps, see [`patience`](Self::patience). What other
/// threads work on is not seen: a program that waits for them sets no deadlines, or must expect to miss them.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use aioli_core::{get_running_loop, sleep};
/// use aioli_exec_sim::{SimDriver, VirtualClock};
///
/// let driver = VirtualClock::new(SimDriver::new()); // usually: one that makes system calls
/// let began = Instant::now();
/// let passed = aioli_core::run(driver, async {
///     sleep(3600.0).await?;
///     Ok(get_running_loop()?.time().as_nanos())
/// });
/// assert_eq!(passed.unwrap(), 3_600_000_000_000);
/// assert!(began.elapsed() < Duration::from_secs(60));
/// ```
#[derive(Debug)]
pub struct VirtualClock<D> {
    driver: D,
    now: Instant,
    patience: Duration,
    in_flight: usize,
    bell: Arc<Bell>,
}

/// Tells a wait that was kicked from one that ended without reason.
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

impl<D: Driver> VirtualClock<D> {
    /// Gives a driver a virtual clock, and a patience of one millisecond.
    pub fn new(driver: D) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(false), driver: driver.kicker() });
        let patience = Duration::from_millis(1);
        VirtualClock { driver, now: Instant::default(), patience, in_flight: 0, bell }
    }

    /// How long, in real time, operations in flight have to complete before the clock jumps over them. Over loopback a millisecond is
    /// plenty, unless the machine is busy.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        VirtualClock { patience, ..self }
    }

    fn turn_counting(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<usize> {
        let before = completions.len();
        self.driver.turn(wait, completions)?;
        let ended = completions.iter().skip(before).filter(|completion| !completion.more).count();
        self.in_flight -= ended;
        Ok(completions.len() - before)
    }
}

impl<D: Driver> Driver for VirtualClock<D> {
    fn report(&self) -> DriverReport {
        let mut report = self.driver.report();
        report.capabilities.push(("clock".into(), "virtual".into()));
        report
    }

    fn check(&self) -> io::Result<()> {
        self.driver.check()
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn is_virtual(&self) -> bool {
        true
    }

    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        let submitted = self.driver.submit(id, op);
        self.in_flight += usize::from(matches!(submitted, Submit::Pending));
        submitted
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

    fn flush(&mut self) -> io::Result<()> {
        self.driver.flush()
    }

    fn discard(&mut self, resource: Resource) {
        self.driver.discard(resource);
    }

    fn may_have_ended(&mut self, resource: Resource) -> bool {
        self.driver.may_have_ended(resource)
    }

    fn try_read(&mut self, file: Resource, offset: u64, buffer: &mut BytesMut) -> Option<io::Result<usize>> {
        self.driver.try_read(file, offset, buffer)
    }

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        if wait == Wait::No || self.bell.rung.swap(false, Ordering::SeqCst) {
            return self.turn_counting(Wait::No, completions).map(drop);
        }
        let Wait::Until(deadline) = wait else {
            self.turn_counting(Wait::Forever, completions)?;
            self.bell.rung.store(false, Ordering::SeqCst);
            return Ok(());
        };
        let real = if self.in_flight == 0 { Wait::No } else { Wait::Until(self.driver.now() + self.patience) };
        let arrived = self.turn_counting(real, completions)?;
        let kicked = self.bell.rung.swap(false, Ordering::SeqCst);
        if arrived == 0 && !kicked {
            self.now = self.now.max(deadline);
        }
        Ok(())
    }

    fn is_stuck(&self) -> bool {
        self.in_flight == 0 || self.driver.is_stuck()
    }

    fn look_up(&self, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        self.driver.look_up(host)
    }

    fn has_socket_files(&self) -> bool {
        self.driver.has_socket_files()
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.bell) as Arc<dyn Kick>
    }

    fn shutdown(&mut self, completions: &mut Completions) {
        self.driver.shutdown(completions);
        self.in_flight = 0;
    }
}
