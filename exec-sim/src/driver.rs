//! [`SimDriver`]: a driver whose clock is virtual.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use aioli_core::Instant;
use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, Wait};
use aioli_core::op::{Op, Outcome};

/// A driver that makes no system call for what it simulates. Its clock begins at zero, and moves when nothing else can.
#[derive(Debug, Default)]
pub struct SimDriver {
    now: Instant,
    bell: Arc<Bell>,
}

/// How long the real clock runs before a wait that only other threads could end counts as a deadlock.
const PATIENCE: Duration = Duration::from_secs(10);

/// What other threads ring.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    waiting: Condvar,
}

impl Bell {
    fn take(&self) -> bool {
        std::mem::take(&mut self.rung.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until it rings, for a time of the real clock. Returns whether it has rung.
    fn wait_for(&self, patience: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.waiting.wait_timeout_while(rung, patience, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut rung)
    }
}

impl Kick for Bell {
    fn kick(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.waiting.notify_one();
    }
}

impl SimDriver {
    /// A machine at time zero.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Driver for SimDriver {
    fn report(&self) -> DriverReport {
        DriverReport { name: "sim", capabilities: vec![("clock".into(), "virtual".into())] }
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn is_virtual(&self) -> bool {
        true
    }

    fn submit(&mut self, _: OpId, op: Op) -> Submit {
        Submit::Done(refuse(op))
    }

    fn cancel(&mut self, _: OpId) {}

    fn turn(&mut self, wait: Wait, _: &mut Completions) -> io::Result<()> {
        if self.bell.take() {
            return Ok(());
        }
        match wait {
            Wait::No => (),
            Wait::Until(deadline) => self.now = self.now.max(deadline),
            Wait::Forever if self.bell.wait_for(PATIENCE) => (),
            Wait::Forever => return Err(io::ErrorKind::Deadlock.into()),
        }
        Ok(())
    }

    fn is_stuck(&self) -> bool {
        true
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.bell) as Arc<dyn Kick>
    }

    fn shutdown(&mut self, _: &mut Completions) {}
}

/// The outcome of an operation that this machine does not have.
fn refuse(op: Op) -> Outcome {
    fn unsupported() -> io::Error {
        io::Error::new(io::ErrorKind::Unsupported, "the simulated machine has no network: use another backend")
    }
    match op {
        Op::Socket { .. } | Op::Adopt { .. } => Outcome::Opened(Err(unsupported())),
        Op::LocalAddress { .. } | Op::PeerAddress { .. } => Outcome::Address(Err(unsupported())),
        Op::Accept { .. } => Outcome::Accepted(Err(unsupported())),
        Op::Recv { buffer, .. } => Outcome::Received { result: Err(unsupported()), buffer },
        Op::Send { data, .. } => Outcome::Sent { result: Err(unsupported()), data },
        Op::Poll { .. } | Op::PollFd { .. } => Outcome::Ready(Err(unsupported())),
        Op::WaitProcess { .. } => Outcome::Exited(Err(unsupported())),
        _ => Outcome::Done(Err(unsupported())),
    }
}
