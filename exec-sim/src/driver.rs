//! [`SimDriver`]: the machine as the loop sees it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use aioli_core::Instant;
use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, TryReceived, Wait};
use aioli_core::op::{Address, Op, Outcome, Resource};
use bytes::BytesMut;

use crate::bell::Bell;
use crate::config::Config;
use crate::disk::FileWork;
use crate::errno::Errno;
use crate::line::{Direction, Work};
use crate::machine::Machine;

/// The driver that runs operations on a machine in memory. It makes no system calls. Its clock begins at zero, and moves when nothing
/// else can.
///
/// What does not exist here is refused with `Unsupported`: descriptors ([`Op::Adopt`], [`Op::PollFd`]) and processes. Names of Unix
/// sockets are the machine's own, and no files; a name is free again when its socket is closed. Files lie in memory, and their paths are
/// names: every directory counts as being there, and none can be opened. What was written is there as long as the machine.
/// A file holds 1 GiB at most.
///
/// ```
/// use aioli_core::driver::{Driver, OpId, Submit};
/// use aioli_core::op::{Domain, Op, Outcome, SocketKind};
/// use aioli_exec_sim::SimDriver;
///
/// let mut driver = SimDriver::new();
/// let op = Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Stream };
/// let Submit::Done(Outcome::Opened(Ok(socket))) = driver.submit(OpId(0), op) else { panic!() };
/// let op = Op::Connect { socket, address: ([192, 0, 2, 1], 80).into() };
/// let Submit::Done(Outcome::Done(Err(error))) = driver.submit(OpId(0), op) else { panic!() };
/// assert_eq!(error.to_string(), "Network is unreachable (os error 101)");
/// ```
pub struct SimDriver {
    machine: Machine,
    bell: Arc<Bell>,
    closed: bool,
}

impl SimDriver {
    /// A calm machine.
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    /// A machine of one's choice.
    pub fn with(config: Config) -> Self {
        SimDriver { machine: Machine::new(config), bell: Arc::default(), closed: false }
    }

    fn find(&self, resource: Resource) -> Result<usize, Errno> {
        self.machine.sockets.find(resource)
    }

    /// Makes a call that completes at once on a socket.
    fn call<T>(
        &mut self,
        socket: Resource,
        call: impl FnOnce(&mut Machine, usize) -> Result<T, Errno>,
    ) -> io::Result<T> {
        let n = self.find(socket)?;
        Ok(call(&mut self.machine, n)?)
    }

    fn start(&mut self, id: OpId, resource: Resource, work: Work) -> Submit {
        match self.find(resource) {
            Ok(n) => self.machine.start(id, n, work),
            Err(error) => Submit::Done(work.fail(error)),
        }
    }

    fn carry_out(&mut self, id: OpId, op: Op) -> Submit {
        let unsupported = |what| io::Error::new(io::ErrorKind::Unsupported, what);
        Submit::Done(match op {
            Op::Recv { buffer, .. } if buffer.len() == buffer.capacity() => {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "a receive needs spare capacity");
                Outcome::Received { result: Err(error), buffer }
            }
            Op::Recv { socket, buffer } => return self.start(id, socket, Work::Recv(buffer)),
            Op::Send { socket, data } => return self.start(id, socket, Work::Send(data)),
            Op::Accept { credit: 0, .. } => Outcome::Accepted(Err(io::ErrorKind::InvalidInput.into())),
            Op::Accept { listener, credit } => return self.start(id, listener, Work::Accept { credit }),
            Op::Connect { socket, address } => {
                let begun = is_possible(&address).and_then(|()| {
                    let n = self.find(socket)?;
                    Ok((n, self.machine.connect(n, &address)?))
                });
                match begun {
                    Ok((n, false)) => return self.machine.wait_in_line(id, n, Work::Connect),
                    result => Outcome::Done(result.map(drop)),
                }
            }
            Op::Poll { resource, interest } => match self.find(resource) {
                Ok(n) => return self.machine.poll(id, n, interest),
                Err(error) => Outcome::Ready(Err(error.into())),
            },
            Op::Watch { socket } => match self.find(socket) {
                Ok(n) => return self.machine.watch(id, n),
                Err(error) => Outcome::Ready(Err(error.into())),
            },
            Op::Socket { domain, kind } => Outcome::Opened(self.machine.open(domain, kind).map_err(Into::into)),
            Op::Bind { socket, address } => Outcome::Done(
                is_possible(&address).and_then(|()| self.call(socket, |machine, n| machine.bind(n, &address))),
            ),
            Op::Listen { socket, backlog } => Outcome::Done(self.call(socket, |machine, n| machine.listen(n, backlog))),
            Op::SetOption { socket, option } => {
                Outcome::Done(self.call(socket, |machine, n| machine.set_option(n, option)))
            }
            Op::LocalAddress { socket } => {
                Outcome::Address(self.call(socket, |machine, n| Ok(machine.local_address(n))))
            }
            Op::PeerAddress { socket } => Outcome::Address(self.call(socket, |machine, n| machine.peer_address(n))),
            Op::Shutdown { socket, how } => Outcome::Done(self.call(socket, |machine, n| machine.shut_down(n, how))),
            Op::Close { resource } if self.machine.disk.is_open(resource) => {
                self.machine.close_file(resource);
                Outcome::Done(Ok(()))
            }
            Op::Close { resource } => Outcome::Done(self.call(resource, |machine, n| {
                machine.close(n);
                Ok(())
            })),
            Op::OpenFile { path, options } => return self.machine.start_file(id, None, FileWork::Open(path, options)),
            Op::ReadFile { buffer, .. } if buffer.len() == buffer.capacity() => {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "a read needs spare capacity");
                Outcome::Received { result: Err(error), buffer }
            }
            Op::ReadFile { file, offset, buffer } => {
                return self.machine.start_file(id, Some(file), FileWork::Read(offset, buffer));
            }
            Op::WriteFile { file, offset, data } => {
                return self.machine.start_file(id, Some(file), FileWork::Write(offset, data));
            }
            Op::SyncFile { file, .. } => return self.machine.start_file(id, Some(file), FileWork::Sync),
            Op::FileStatus { file } => return self.machine.start_file(id, Some(file), FileWork::Status),
            op @ (Op::Adopt { .. } | Op::PollFd { .. }) => {
                op.refuse(unsupported("the simulated machine has no descriptors: use another backend"))
            }
            op @ (Op::WaitProcess { .. } | Op::SignalProcess { .. }) => {
                op.refuse(unsupported("the simulated machine has no processes: use another backend"))
            }
            op => op.refuse(unsupported("the simulated machine does not have this operation: use another backend")),
        })
    }

    /// Has everything happen that is due, and hands over what completed. Returns whether anything did.
    fn reap(&mut self, completions: &mut Completions) -> bool {
        let machine = &mut self.machine;
        machine.run_due();
        machine.spread_news();
        if let Some(trace) = &machine.config.trace {
            for completion in &machine.owed {
                trace.line(machine.now, format_args!("{:x} -> {:?}", completion.id.0, completion.outcome));
            }
        }
        let any = !machine.owed.is_empty();
        completions.append(&mut machine.owed);
        any
    }
}

/// The machine's names are as long as a real one's may be.
fn is_possible(address: &Address) -> io::Result<()> {
    address.unix().map_or(Ok(()), |name| name.to_std().map(drop))
}

impl Default for SimDriver {
    fn default() -> Self {
        Self::new()
    }
}

impl Driver for SimDriver {
    fn report(&self) -> DriverReport {
        let seed = self.machine.config.seed.to_string();
        DriverReport {
            name: "sim",
            capabilities: vec![("clock".to_owned(), "virtual".to_owned()), ("seed".to_owned(), seed)],
        }
    }

    fn now(&self) -> Instant {
        self.machine.now
    }

    fn is_virtual(&self) -> bool {
        true
    }

    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        if self.closed {
            return Submit::Done(op.refuse(Errno::CANCELED.into()));
        }
        let Some(trace) = self.machine.config.trace.clone() else { return self.carry_out(id, op) };
        let what = format!("{op:?}");
        let submitted = self.carry_out(id, op);
        trace.line(self.machine.now, format_args!("{:x} {what} = {submitted:?}", id.0));
        submitted
    }

    fn cancel(&mut self, id: OpId) {
        if let Some(trace) = &self.machine.config.trace {
            trace.line(self.machine.now, format_args!("{:x} cancel", id.0));
        }
        self.machine.cancel(id);
    }

    fn try_send(&mut self, resource: Resource, data: &[u8]) -> Option<io::Result<usize>> {
        let n = match self.find(resource) {
            Ok(n) => n,
            Err(error) => return Some(Err(error.into())),
        };
        if !self.machine.sockets[n].line(Direction::Write).is_empty() {
            return None;
        }
        let result = self.machine.send(n, data).unwrap_or(Err(Errno::AGAIN));
        if let Some(trace) = &self.machine.config.trace {
            let text = data.escape_ascii();
            trace.line(self.machine.now, format_args!("send {:x} \"{text}\" = {result:?}", resource.0));
        }
        Some(result.map_err(Into::into))
    }

    fn try_recv(&mut self, resource: Resource, buffer: &mut BytesMut) -> Option<io::Result<TryReceived>> {
        let n = match self.find(resource) {
            Ok(n) => n,
            Err(error) => return Some(Err(error.into())),
        };
        if !self.machine.sockets[n].line(Direction::Read).is_empty() {
            return None;
        }
        let result = self.machine.recv(n, buffer).unwrap_or(Err(Errno::AGAIN));
        let more = self.machine.level(n).readable;
        if !more || result == Err(Errno::AGAIN) {
            self.machine.rearm(n);
        }
        if let Some(trace) = &self.machine.config.trace {
            trace.line(self.machine.now, format_args!("receive {:x} = {result:?}", resource.0));
        }
        Some(result.map(|count| TryReceived::new(count, more)).map_err(Into::into))
    }

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        self.machine.now += self.machine.config.turn;
        loop {
            // What one completion sets off is for the next turn, as with a kernel.
            if self.reap(completions) || wait == Wait::No || self.closed || self.bell.take() {
                return Ok(());
            }
            if self.machine.has_news() {
                continue;
            }
            let deadline = match wait {
                Wait::Until(deadline) => Some(deadline),
                Wait::No | Wait::Forever => None,
            };
            let now = match (self.machine.agenda.next(), deadline) {
                (Some(event), deadline) if deadline.is_none_or(|deadline| event <= deadline) => event,
                (_, Some(deadline)) => deadline,
                (_, None) if self.bell.wait_for(self.machine.config.patience) => return Ok(()),
                (_, None) => return Err(io::ErrorKind::Deadlock.into()),
            };
            if now > self.machine.now {
                self.machine.now = now;
                if let Some(trace) = &self.machine.config.trace {
                    trace.line(now, format_args!("wait"));
                }
            }
            if deadline.is_some_and(|deadline| deadline <= self.machine.now) {
                self.reap(completions);
                return Ok(());
            }
        }
    }

    fn is_stuck(&self) -> bool {
        let machine = &self.machine;
        machine.owed.is_empty() && !machine.has_news() && machine.agenda.next().is_none()
    }

    fn look_up(&self, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        let hosts = &self.machine.config.hosts;
        let mut found: Vec<_> =
            hosts.iter().filter(|(name, _)| name.eq_ignore_ascii_case(host)).map(|(_, ip)| *ip).collect();
        if found.is_empty() && host.eq_ignore_ascii_case("localhost") {
            found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        let unknown = || io::Error::other("failed to lookup address information: Name or service not known");
        Some(if found.is_empty() { Err(unknown()) } else { Ok(found) })
    }

    fn has_socket_files(&self) -> bool {
        false
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.bell) as Arc<dyn Kick>
    }

    fn shutdown(&mut self, completions: &mut Completions) {
        self.machine.close_all();
        completions.append(&mut self.machine.owed);
        self.closed = true;
    }
}

impl fmt::Debug for SimDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDriver")
            .field("config", &self.machine.config)
            .field("now", &self.machine.now)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
