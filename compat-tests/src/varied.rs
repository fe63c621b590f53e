//! [`Varied`]: a driver in another shape.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use aioli_core::Instant;
use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, TryReceived, Wait};
use aioli_core::op::{Op, Outcome, Resource};
use bytes::BytesMut;

/// A name of this machine that has an address of each family, IPv6 first. What `localhost` has differs.
pub(crate) const TWO_FAMILIES: &str = "two-families.test";

/// A driver that differs from the backend's.
pub(crate) struct Varied {
    pub(crate) driver: Box<dyn Driver>,
    /// It has immediate sends and receives, if the backend has them. Without them epoll has the shape of io_uring.
    pub(crate) fast: bool,
    /// It is asked in every turn, as asyncio's selector is.
    pub(crate) every_turn: bool,
    /// It ignores requests to end an operation: one that is cancelled goes on until it succeeds.
    pub(crate) deaf: bool,
}

impl Driver for Varied {
    fn report(&self) -> DriverReport {
        self.driver.report()
    }

    fn check(&self) -> io::Result<()> {
        self.driver.check()
    }

    fn now(&self) -> Instant {
        self.driver.now()
    }

    fn is_virtual(&self) -> bool {
        self.every_turn || self.driver.is_virtual()
    }

    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        match op {
            Op::Watch { .. } if !self.fast => Submit::Done(Outcome::Ready(Err(io::ErrorKind::Unsupported.into()))),
            op => self.driver.submit(id, op),
        }
    }

    fn cancel(&mut self, id: OpId) {
        if !self.deaf {
            self.driver.cancel(id);
        }
    }

    fn try_send(&mut self, resource: Resource, data: &[u8]) -> Option<io::Result<usize>> {
        if self.fast { self.driver.try_send(resource, data) } else { None }
    }

    fn try_recv(&mut self, resource: Resource, buffer: &mut BytesMut) -> Option<io::Result<TryReceived>> {
        if self.fast { self.driver.try_recv(resource, buffer) } else { None }
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
        if self.fast { self.driver.try_read(file, offset, buffer) } else { None }
    }

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        self.driver.turn(wait, completions)
    }

    fn is_stuck(&self) -> bool {
        self.driver.is_stuck()
    }

    fn look_up(&self, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        if host == TWO_FAMILIES {
            return Some(Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]));
        }
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
    }
}
