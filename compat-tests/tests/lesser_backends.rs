//! Backends that lack something, say so, and say no more than that: they pass the suite.
#![allow(missing_docs)]

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use aioli_compat_tests::{Backend, Capabilities, Verdict, all_cases};
use aioli_core::Instant;
use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, Wait};
use aioli_core::op::Op;
use aioli_exec_single::EpollDriver;

/// epoll's driver without immediate sends, receives and reads, and without what its backend lacks.
struct Lesser {
    driver: EpollDriver,
    has: Capabilities,
}

impl Driver for Lesser {
    fn report(&self) -> DriverReport {
        self.driver.report()
    }

    fn check(&self) -> io::Result<()> {
        self.driver.check()
    }

    fn now(&self) -> Instant {
        self.driver.now()
    }

    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        let has = match op {
            Op::Watch { .. } => false,
            Op::Adopt { .. } | Op::PollFd { .. } => self.has.descriptors,
            Op::WaitProcess { .. } | Op::SignalProcess { .. } => self.has.processes,
            Op::OpenFile { .. } => self.has.files,
            _ => true,
        };
        if has { self.driver.submit(id, op) } else { Submit::Done(op.refuse(io::ErrorKind::Unsupported.into())) }
    }

    fn cancel(&mut self, id: OpId) {
        self.driver.cancel(id);
    }

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        self.driver.turn(wait, completions)
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

#[derive(Debug)]
struct Without(Capabilities);

impl Backend for Without {
    fn name(&self) -> &str {
        "lesser"
    }

    fn driver(&self) -> io::Result<Box<dyn Driver>> {
        Ok(Box::new(Lesser { driver: EpollDriver::new()?, has: self.0 }))
    }

    fn capabilities(&self) -> Capabilities {
        self.0
    }
}

/// Runs the cases that need more than the loop.
fn passes(backend: &'static Without) {
    // Those about Unix sockets ask of a backend without descriptors that other programs do not see its sockets.
    const AREAS: [&str; 9] =
        ["connect", "descriptors", "driver", "files", "pipes", "processes", "servers", "sockets", "streams"];
    for case in all_cases().into_iter().filter(|case| AREAS.contains(&case.area)) {
        // A busy machine may hand data on a turn later than the case counts. What is lacking is so both times.
        let failed = || matches!(case.run(backend), Verdict::Failed(_));
        if failed()
            && let Verdict::Failed(why) = case.run(backend)
        {
            panic!("{}: {why}", case.id());
        }
    }
}

#[test]
fn a_backend_without_processes_passes() {
    static BACKEND: Without = Without(Capabilities::all().processes(false));
    passes(&BACKEND);
}

#[test]
fn a_backend_without_files_passes() {
    static BACKEND: Without = Without(Capabilities::all().files(false));
    passes(&BACKEND);
}

#[test]
fn a_backend_without_descriptors_passes() {
    static BACKEND: Without = Without(Capabilities::all().descriptors(false).processes(false));
    passes(&BACKEND);
}
