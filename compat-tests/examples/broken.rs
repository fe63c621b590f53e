//! The suite on drivers that are broken on purpose, to show what it catches.
//!
//! `cargo run -p aioli-compat-tests --example broken` breaks epoll's driver in one way after the other, tries the cases about drivers
//! and sockets on it, and prints which of them noticed. It fails if a fault goes unnoticed.
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;

use aioli_compat_tests::{Backend, Verdict, all_cases, catch_places};
use aioli_core::Instant;
use aioli_core::driver::{Completion, Completions, Driver, DriverReport, Kick, OpId, Submit, Wait};
use aioli_core::op::{Op, Outcome};
use aioli_exec_single::EpollDriver;
use bytes::BytesMut;

/// What is wrong with a driver.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing: this one must pass.
    None,
    /// A receive completes twice, against law D1.
    Twice,
    /// A shutdown keeps what was in flight, against laws D1 and D3.
    Silent,
    /// A listener accepts one more than its credit allows, against law D7.
    Generous,
    /// The last byte of what came is lost, against law L4.
    Nibbling,
}

/// epoll's driver with a fault.
struct Broken {
    driver: EpollDriver,
    fault: Fault,
}

impl Driver for Broken {
    fn report(&self) -> DriverReport {
        self.driver.report()
    }

    fn now(&self) -> Instant {
        self.driver.now()
    }

    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        match (self.fault, op) {
            // There are no immediate receives here that it could speak of.
            (_, Op::Watch { .. }) => Submit::Done(Outcome::Ready(Err(io::ErrorKind::Unsupported.into()))),
            (Fault::Generous, Op::Accept { listener, credit }) => {
                self.driver.submit(id, Op::Accept { listener, credit: credit + 1 })
            }
            (Fault::Nibbling, op) => match self.driver.submit(id, op) {
                Submit::Done(outcome) => Submit::Done(nibble(outcome)),
                pending => pending,
            },
            (_, op) => self.driver.submit(id, op),
        }
    }

    fn cancel(&mut self, id: OpId) {
        self.driver.cancel(id);
    }

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        let mut arrived = Completions::new();
        self.driver.turn(wait, &mut arrived)?;
        for Completion { id, more, outcome } in arrived {
            let again = matches!((self.fault, &outcome), (Fault::Twice, Outcome::Received { .. }));
            let outcome = if let Fault::Nibbling = self.fault { nibble(outcome) } else { outcome };
            completions.push_back(Completion { id, more, outcome });
            if again {
                let outcome = Outcome::Received { result: Ok(0), buffer: BytesMut::new() };
                completions.push_back(Completion { id, more, outcome });
            }
        }
        Ok(())
    }

    fn look_up(&self, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        self.driver.look_up(host)
    }

    fn has_socket_files(&self) -> bool {
        self.driver.has_socket_files()
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        self.driver.kicker()
    }

    fn shutdown(&mut self, completions: &mut Completions) {
        self.driver.shutdown(completions);
        if let Fault::Silent = self.fault {
            completions.clear();
        }
    }
}

/// Loses the last of several bytes that came.
fn nibble(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Received { result: Ok(count), mut buffer } if count > 1 => {
            buffer.truncate(buffer.len() - 1);
            Outcome::Received { result: Ok(count - 1), buffer }
        }
        other => other,
    }
}

#[derive(Debug)]
struct BrokenBackend(Fault);

impl Backend for BrokenBackend {
    fn name(&self) -> &str {
        "broken"
    }

    fn driver(&self) -> io::Result<Box<dyn Driver>> {
        Ok(Box::new(Broken { driver: EpollDriver::new()?, fault: self.0 }))
    }
}

static BACKENDS: [BrokenBackend; 5] = [
    BrokenBackend(Fault::None),
    BrokenBackend(Fault::Twice),
    BrokenBackend(Fault::Silent),
    BrokenBackend(Fault::Generous),
    BrokenBackend(Fault::Nibbling),
];

fn main() -> ExitCode {
    // A driver that breaks its laws may make the loop panic where it should not: that is what is looked for.
    catch_places();
    let cases: Vec<_> = all_cases().into_iter().filter(|case| case.area == "driver").collect();
    let mut good = true;
    for backend in &BACKENDS {
        let mut noticed = 0;
        for case in &cases {
            if let Verdict::Failed(why) = case.run(backend) {
                noticed += 1;
                println!("{:?}: {} [{}]: {why}", backend.0, case.id(), case.rules);
            }
        }
        println!("{:?}: {noticed} of {} cases failed", backend.0, cases.len());
        good &= matches!(backend.0, Fault::None) == (noticed == 0);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
