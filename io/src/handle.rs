//! [`Handle`]: a socket of a driver's, owned.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use aioli_core::op::{Address, Domain, Op, Outcome, Resource, ShutdownHow, SocketKind, SocketOption};
use aioli_core::{Loop, Result};

/// Owns a resource of a loop's driver, and closes it when dropped.
pub(crate) struct Handle {
    event_loop: Loop,
    resource: Resource,
}

impl Handle {
    pub(crate) fn adopt(event_loop: &Loop, resource: Resource) -> Self {
        Handle { event_loop: event_loop.clone(), resource }
    }

    /// Takes over a descriptor, where the backend knows any.
    pub(crate) fn from_fd(event_loop: &Loop, fd: OwnedFd) -> Result<Self> {
        match event_loop.submit_now(Op::Adopt { fd })? {
            Outcome::Opened(Err(error)) => Err(explained(error, "descriptors").into()),
            outcome => Ok(Handle::adopt(event_loop, opened(outcome)?)),
        }
    }

    pub(crate) fn open(event_loop: &Loop, domain: Domain, kind: SocketKind) -> Result<Self> {
        Ok(Handle::adopt(event_loop, opened(event_loop.submit_now(Op::Socket { domain, kind })?)?))
    }

    pub(crate) fn event_loop(&self) -> &Loop {
        &self.event_loop
    }

    pub(crate) fn resource(&self) -> Resource {
        self.resource
    }

    pub(crate) fn bind(&self, address: Address) -> Result<io::Result<()>> {
        self.done(Op::Bind { socket: self.resource, address })
    }

    pub(crate) fn listen(&self, backlog: u32) -> Result<()> {
        Ok(self.done(Op::Listen { socket: self.resource, backlog })??)
    }

    pub(crate) fn set_option(&self, option: SocketOption) -> Result<()> {
        Ok(self.done(Op::SetOption { socket: self.resource, option })??)
    }

    pub(crate) fn shutdown(&self, how: ShutdownHow) -> Result<()> {
        Ok(self.done(Op::Shutdown { socket: self.resource, how })??)
    }

    pub(crate) fn local_addr(&self) -> Result<Address> {
        address(self.event_loop.submit_now(Op::LocalAddress { socket: self.resource })?)
    }

    pub(crate) fn peer_addr(&self) -> Result<Address> {
        address(self.event_loop.submit_now(Op::PeerAddress { socket: self.resource })?)
    }

    fn done(&self, op: Op) -> Result<io::Result<()>> {
        match self.event_loop.submit_now(op)? {
            Outcome::Done(result) => Ok(result),
            other => Err(unexpected(&other)),
        }
    }
}

/// A driver need not say what it has not got: an error that says nothing is given words.
pub(crate) fn explained(error: io::Error, lacking: &str) -> io::Error {
    if error.kind() != io::ErrorKind::Unsupported || error.get_ref().is_some() {
        return error;
    }
    io::Error::new(error.kind(), format!("this backend has no {lacking}: use another backend"))
}

pub(crate) fn opened(outcome: Outcome) -> Result<Resource> {
    match outcome {
        Outcome::Opened(result) => Ok(result?),
        other => Err(unexpected(&other)),
    }
}

fn address(outcome: Outcome) -> Result<Address> {
    match outcome {
        Outcome::Address(result) => Ok(result?),
        other => Err(unexpected(&other)),
    }
}

/// A driver broke its contract.
#[cold]
pub(crate) fn unexpected(outcome: &Outcome) -> aioli_core::Error {
    aioli_core::Error::runtime(format!("the driver answered with an outcome of another kind: {outcome:?}"))
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A loop that is closed has closed its driver, and that everything.
        let _ = self.event_loop.submit_now(Op::Close { resource: self.resource });
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.resource.fmt(f)
    }
}
