//! What the tests share: the backends that each runs on, and an event log with turns.
#![allow(dead_code, reason = "each test file is a program of its own, which uses a part of this")]

use std::future::Future;
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, Wait};
use aioli_core::op::{Op, Outcome};
use aioli_core::{Instant, Result, timeout};
use aioli_exec_sim::SimDriver;
use aioli_exec_single::EpollDriver;
use aioli_exec_uring::{Config, Rung, UringDriver};

#[path = "../../../compat-tests/src/cases/net/support.rs"]
mod support;

#[allow(unused_imports, reason = "as above")]
pub use support::*;

/// Runs a test on each backend.
#[track_caller]
pub fn run<F: Future<Output = Result<()>> + 'static>(test: impl Fn() -> F) {
    run_on("epoll", EpollDriver::new().unwrap(), test());
    run_on("epoll without fast paths", Slow { driver: epoll(), deaf: false }, test());
    if let Some(uring) = uring() {
        run_on("io_uring", uring, test());
        run_on("io_uring without fast paths", Slow { driver: uring_again(), deaf: false }, test());
    }
}

/// Runs a test that needs no descriptors: also on the simulated machine, while it is calm.
#[track_caller]
pub fn run_everywhere<F: Future<Output = Result<()>> + 'static>(test: impl Fn() -> F) {
    run(&test);
    run_on("the simulated machine", SimDriver::new(), test());
}

/// Runs a test on a backend that cannot end an operation: one that is cancelled goes on until it succeeds. What then comes of it must
/// not be lost.
#[track_caller]
pub fn run_deaf<F: Future<Output = Result<()>> + 'static>(test: impl Fn() -> F) {
    run_on("epoll that does not cancel", Slow { driver: epoll(), deaf: true }, test());
    if let Some(uring) = uring() {
        run_on("io_uring that does not cancel", Slow { driver: uring, deaf: true }, test());
    }
}

/// The drivers of the backends that this machine has. `AIOLI_TEST_WITHOUT` names rungs of io_uring to do without, with commas.
fn epoll() -> EpollDriver {
    EpollDriver::new().unwrap()
}

fn uring() -> Option<UringDriver> {
    let masked = std::env::var("AIOLI_TEST_WITHOUT").unwrap_or_default();
    let masked = masked.split(',').filter(|name| !name.is_empty()).map(|name| name.parse::<Rung>().unwrap());
    masked.fold(Config::new(), Config::without).build().ok()
}

fn uring_again() -> UringDriver {
    uring().unwrap()
}

#[track_caller]
fn run_on(name: &str, driver: impl Driver, test: impl Future<Output = Result<()>> + 'static) {
    let result = aioli_core::run(driver, async move {
        let reports = Reports::default();
        reports.install();
        timeout(Duration::from_secs(patience()), test).await?;
        assert_eq!(reports.take(), [] as [String; 0], "unexpected reports");
        Ok(())
    });
    if let Err(error) = result {
        panic!("on {name}: {error}");
    }
}

/// How many seconds a test may take on a backend; `AIOLI_TEST_SECONDS` says otherwise.
fn patience() -> u64 {
    std::env::var("AIOLI_TEST_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(20)
}

/// A driver without immediate sends, receives and reads.
struct Slow<D> {
    driver: D,
    /// It ignores requests to end an operation.
    deaf: bool,
}

impl<D: Driver> Driver for Slow<D> {
    fn report(&self) -> DriverReport {
        self.driver.report()
    }

    fn now(&self) -> Instant {
        self.driver.now()
    }

    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        match op {
            Op::Watch { .. } => Submit::Done(Outcome::Ready(Err(io::ErrorKind::Unsupported.into()))),
            op => self.driver.submit(id, op),
        }
    }

    fn cancel(&mut self, id: OpId) {
        if !self.deaf {
            self.driver.cancel(id);
        }
    }

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        self.driver.turn(wait, completions)
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        self.driver.kicker()
    }

    fn shutdown(&mut self, completions: &mut Completions) {
        self.driver.shutdown(completions);
    }
}

/// How many descriptors this process has open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs the rest of the calling test in a process of its own; true in that process.
pub fn alone(test: &str) -> bool {
    const ALONE: &str = "AIOLI_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    false
}

/// What a round opens is closed when it is over and everybody knows.
pub async fn leaves_nothing(round: impl AsyncFn() -> Result<()>) -> Result<()> {
    round().await?;
    settle().await?;
    let before = descriptors();
    for _ in 0..3 {
        round().await?;
    }
    settle().await?;
    assert_eq!(descriptors(), before);
    Ok(())
}
