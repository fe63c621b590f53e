//! [`Connection`]: what a reader, a writer and the driver share of a stream; asyncio's transport and protocol in one.

mod receiving;

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::io;
use std::rc::{Rc, Weak};

use aioli_core::driver::OpId;
use aioli_core::op::{Address, Interest, Op, Outcome, Resource, ShutdownHow, SocketOption};
use aioli_core::ops::{Owner, Submitted};
use aioli_core::{Error, Loop, Report, Result};
use bytes::{Bytes, BytesMut};

use crate::handle::Handle;
use crate::home::{check_home, closed_error};
use crate::input::Input;
use crate::landing::Landing;
use crate::output::Output;
use crate::restore::Restore;
use crate::server::Membership;
use crate::waiters::Waiters;
use receiving::Receiving;

/// From the so-many-eth write on a lost connection on, each is reported.
const PATIENCE_WITH_WRITES: u32 = 5;

/// What the driver's completions are of.
const DATA: u32 = 0;
const HANG_UP: u32 = 1;

/// Which ways the data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ways {
    /// Both: a socket.
    Both,
    /// It is read from, and closed at its end.
    In {
        /// That nobody has the other end of a terminal open is told by EIO.
        terminal: bool,
    },
    /// It is written to.
    Out {
        /// It becomes readable when the other end is closed.
        tells_hang_up: bool,
    },
}

/// A stream's connection.
///
/// Its life: it starts [receiving](Self::start_reading), which goes on until the end of the stream, except while the reader has too
/// much. It is *closing* from [`close`](Self::close), [`abort`](Self::abort) or an error on. When everything is sent, or at once if
/// that is pointless, it is *lost*: whoever waits is told, and the socket is closed.
///
/// In memory it begins with what each receive and each write looks at: with many connections those are out of the caches each time.
#[repr(C)]
pub(crate) struct Connection {
    event_loop: Loop,
    /// The id of the socket; `None` when the connection is lost, and where a reader is fed by hand.
    resource: Cell<Option<Resource>>,
    closing: Cell<Closing>,
    reading_paused: Cell<bool>,
    /// While watching: there is more to receive, of which the driver tells no more.
    unread: Cell<bool>,
    /// While watching: a read was woken to receive what the driver has told of.
    due: Cell<bool>,
    ways: Ways,
    /// Not 0: the loss of the connection is certain. Counts the writes since then.
    doomed: Cell<u32>,
    landing: Landing,
    pub(crate) input: Input,
    pub(crate) output: Output,
    this: Weak<Connection>,
    /// The memory of the last receive, where one is in flight all the time.
    memory: Cell<BytesMut>,
    receiving: Cell<Receiving>,
    sending: Cell<Option<OpId>>,
    /// The socket of that id.
    socket: Cell<Option<Handle>>,
    /// Is dropped after the socket is closed.
    afterwards: Cell<Option<Restore>>,
    addresses: Addresses,
    /// It was lost, and by which error.
    end: OnceCell<Option<Error>>,
    closed: Waiters,
    membership: Cell<Option<Membership>>,
}

/// The addresses of a connection's ends.
#[derive(Default, Debug)]
pub(crate) struct Addresses {
    pub(crate) local: Option<Address>,
    pub(crate) peer: Option<Address>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Closing {
    No,
    ByUser,
    ByError,
}

impl Connection {
    /// A stream over a connected socket. It does not receive before [`start_reading`](Self::start_reading).
    pub(crate) fn new(socket: Handle, peer: Option<Address>, limit: usize) -> Rc<Self> {
        let local = socket.local_addr().ok();
        if !matches!(local, Some(Address::Unix(_))) {
            // Small writes are to be sent without waiting for the peer's acknowledgement of the last one. A socket that has no such
            // option does without.
            let _ = socket.set_option(SocketOption::NoDelay(true));
        }
        let peer = peer.or_else(|| socket.peer_addr().ok());
        let event_loop = socket.event_loop().clone();
        Self::build(event_loop, Some(socket), Ways::Both, Addresses { local, peer }, limit)
    }

    /// A stream over something that data goes one way through. It does not receive before [`start_reading`](Self::start_reading).
    pub(crate) fn one_way(pipe: Handle, ways: Ways, limit: usize, afterwards: Option<Restore>) -> Rc<Self> {
        let event_loop = pipe.event_loop().clone();
        let this = Self::build(event_loop, Some(pipe), ways, Addresses::default(), limit);
        this.afterwards.set(afterwards);
        this
    }

    /// Something to read from that is fed by hand.
    pub(crate) fn detached(event_loop: Loop, limit: usize) -> Rc<Self> {
        Self::build(event_loop, None, Ways::Both, Addresses::default(), limit)
    }

    fn build(event_loop: Loop, socket: Option<Handle>, ways: Ways, addresses: Addresses, limit: usize) -> Rc<Self> {
        Rc::new_cyclic(|this| Connection {
            this: this.clone(),
            event_loop,
            input: Input::new(limit),
            output: Output::new(),
            resource: Cell::new(socket.as_ref().map(Handle::resource)),
            socket: Cell::new(socket),
            ways,
            afterwards: Cell::new(None),
            addresses,
            landing: Landing::new(),
            memory: Cell::default(),
            receiving: Cell::new(Receiving::No),
            sending: Cell::new(None),
            reading_paused: Cell::new(false),
            unread: Cell::new(false),
            due: Cell::new(false),
            closing: Cell::new(Closing::No),
            doomed: Cell::new(0),
            end: OnceCell::new(),
            closed: Waiters::default(),
            membership: Cell::new(None),
        })
    }

    pub(crate) fn join(&self, membership: Membership) {
        self.membership.set(Some(membership));
    }

    #[inline]
    pub(crate) fn event_loop(&self) -> &Loop {
        &self.event_loop
    }

    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Who the driver reports to; `None` while the connection is dropped.
    #[inline]
    fn owner(&self) -> Option<Rc<dyn Owner>> {
        Some(self.this.upgrade()?)
    }

    // --- sending -------------------------------------------------------------------------------------------------------------

    /// Sends what the kernel takes at once, and queues the rest. `whole` is the same data, shared.
    #[inline]
    pub(crate) fn write(&self, data: &[u8], whole: Option<&Bytes>) -> Result<()> {
        if self.output.is_eof() {
            return Err(Error::runtime("cannot write after write_eof()"));
        }
        if self.closing.get() == Closing::ByUser {
            return Err(Error::runtime("cannot write to a stream that is closed"));
        }
        if data.is_empty() {
            return Ok(());
        }
        if self.doomed.get() > 0 {
            self.ignore_write();
            return Ok(());
        }
        if self.output.size() > 0 {
            self.queue(data, whole);
            return Ok(());
        }
        let Some(socket) = self.resource.get() else { return Ok(()) };
        match self.event_loop.try_send(socket, data) {
            Some(Ok(count)) if count == data.len() => (),
            answer => self.queue_rest(data, whole, answer),
        }
        Ok(())
    }

    /// Queues what the kernel did not take.
    #[inline(never)]
    fn queue_rest(&self, data: &[u8], whole: Option<&Bytes>, answer: Option<io::Result<usize>>) {
        let sent = match answer {
            Some(Ok(count)) => count,
            Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return self.fail(error.into()),
            Some(Err(_)) | None => 0,
        };
        match whole {
            Some(whole) => self.queue(&data[sent..], Some(&whole.slice(sent..))),
            None => self.queue(&data[sent..], None),
        }
    }

    /// Queues data, which is also there shared, to be sent when the kernel takes more.
    #[inline(never)]
    fn queue(&self, data: &[u8], whole: Option<&Bytes>) {
        match whole {
            Some(whole) => self.output.push(whole.clone()),
            None => self.output.push_slice(data),
        }
        self.flush();
    }

    #[cold]
    fn ignore_write(&self) {
        let writes = self.doomed.get();
        if writes >= PATIENCE_WITH_WRITES {
            self.event_loop
                .call_exception_handler(Report::new("write to a connection that is lost; drain tells of it"));
        }
        self.doomed.set(writes.saturating_add(1));
    }

    /// Submits sends until one has to wait or there is nothing left.
    fn flush(&self) {
        if self.sending.get().is_some() {
            return;
        }
        let (Some(socket), Some(owner)) = (self.resource.get(), self.owner()) else { return };
        while let Some(data) = self.output.next() {
            match self.event_loop.submit(Op::Send { socket, data }, &owner, DATA) {
                Ok(Submitted::InFlight(id)) => {
                    self.sending.set(Some(id));
                    break;
                }
                Ok(Submitted::Done(Outcome::Sent { result, data })) => {
                    if !self.take_sent(result, data) {
                        return;
                    }
                }
                _ => break,
            }
        }
        self.output.maybe_resume();
        if self.output.size() == 0 {
            self.flushed();
        }
    }

    /// A send came to this. Returns whether the connection goes on.
    fn take_sent(&self, result: io::Result<usize>, data: Bytes) -> bool {
        match result {
            Ok(count) => {
                self.output.taken(data, count);
                true
            }
            Err(error) => {
                self.fail(error.into());
                false
            }
        }
    }

    fn sent(&self, result: io::Result<usize>, data: Bytes) {
        self.sending.set(None);
        if self.doomed.get() == 0 && self.take_sent(result, data) {
            self.flush();
        }
    }

    /// Everything was sent.
    fn flushed(&self) {
        if self.closing.get() != Closing::No {
            self.lose(None);
        } else if self.output.is_eof() {
            self.shut_down();
        }
    }

    /// Tells the peer that nothing more comes, once everything is sent.
    pub(crate) fn write_eof(&self) {
        if self.closing.get() != Closing::No || self.output.is_eof() {
            return;
        }
        self.output.set_eof();
        match self.ways {
            Ways::Out { .. } => self.close(),
            _ if self.output.size() == 0 => self.shut_down(),
            _ => (),
        }
    }

    fn shut_down(&self) {
        if let Some(socket) = self.resource.get() {
            // It fails if the peer has reset the connection, which whoever reads or writes will learn.
            let _ = self.event_loop.submit_now(Op::Shutdown { socket, how: ShutdownHow::Write });
        }
    }

    pub(crate) fn set_option(&self, option: SocketOption) -> Result<()> {
        let Some(socket) = self.resource.get() else {
            return Err(lost_error());
        };
        match self.event_loop.submit_now(Op::SetOption { socket, option })? {
            Outcome::Done(result) => Ok(result?),
            other => Err(crate::handle::unexpected(&other)),
        }
    }

    // --- the end -------------------------------------------------------------------------------------------------------------

    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get() != Closing::No
    }

    /// Whether it broke, and nobody was told yet.
    pub(crate) fn is_failing(&self) -> bool {
        self.closing.get() == Closing::ByError && self.end.get().is_none()
    }

    /// Stops receiving, sends what is queued, and then ends the connection.
    pub(crate) fn close(&self) {
        if self.is_closing() {
            return;
        }
        self.settle();
        self.closing.set(Closing::ByUser);
        if self.output.size() == 0 {
            self.doom(None);
        } else if let Receiving::InFlight(id) = self.receiving.get() {
            self.event_loop.cancel_op(id);
        }
    }

    /// Ends the connection, without sending what is queued.
    pub(crate) fn abort(&self) {
        self.force_close(None, Closing::ByUser);
    }

    /// Receiving has ended with an error: that of the connection, or because the socket or the whole loop was closed.
    #[cold]
    fn stopped(&self, error: io::Error) {
        if !self.is_closing() {
            self.broke(error);
        } else if self.event_loop.is_closed() {
            self.lose(None);
        }
    }

    /// The connection broke.
    #[cold]
    fn fail(&self, error: Error) {
        // Everything that is in flight then ends as if it were cancelled.
        let error = if self.event_loop.is_closed() { closed_error() } else { error };
        self.force_close(Some(error), Closing::ByError);
    }

    fn force_close(&self, error: Option<Error>, by: Closing) {
        if self.doomed.get() > 0 {
            return;
        }
        self.settle();
        self.output.clear();
        if let Some(id) = self.sending.get() {
            self.event_loop.cancel_op(id);
        }
        if let Some(resource) = self.resource.get() {
            self.event_loop.discard(resource);
        }
        if !self.is_closing() {
            self.closing.set(by);
        }
        self.doom(error);
    }

    /// The connection is lost in the next turn.
    fn doom(&self, error: Option<Error>) {
        self.doomed.set(1);
        let Some(this) = self.this.upgrade() else { return };
        let on_lost = error.clone();
        if self.event_loop.call_soon(move || this.lose(on_lost)).is_err() {
            self.lose(error);
        }
    }

    /// The connection is lost: tells everybody, and closes the socket.
    fn lose(&self, error: Option<Error>) {
        self.doomed.set(self.doomed.get().max(1));
        if self.end.set(error.clone()).is_err() {
            return;
        }
        match error {
            None => {
                self.input.feed_eof();
                self.input.wake();
            }
            // Nobody reads, and who writes is told that the connection is lost.
            Some(_) if matches!(self.ways, Ways::Out { .. }) => (),
            Some(error) => self.input.set_error(error),
        }
        self.closed.wake_all();
        self.output.lose();
        self.resource.set(None);
        let (socket, membership) = (self.socket.take(), self.membership.take());
        drop(socket);
        drop(self.afterwards.take());
        drop(membership);
    }

    /// How the connection was lost, if it is.
    pub(crate) fn end(&self) -> Option<Result<()>> {
        self.end.get().map(|error| error.clone().map_or(Ok(()), Err))
    }

    pub(crate) async fn wait_closed(&self) -> Result<()> {
        loop {
            if let Some(end) = self.end() {
                return end;
            }
            check_home(&self.event_loop)?;
            self.closed.wait().await?;
        }
    }
}

/// What who writes gets on a connection that has ended, as in asyncio. By which error, the end itself tells.
#[cold]
pub(crate) fn lost_error() -> Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection lost").into()
}

impl Owner for Connection {
    fn complete(&self, tag: u32, outcome: Outcome, _: bool) {
        match outcome {
            Outcome::Ready(Ok(_)) if tag == HANG_UP => self.hung_up(),
            Outcome::Ready(Ok(_)) => self.readable(),
            Outcome::Ready(Err(error)) => self.stopped(error),
            Outcome::Received { result, buffer } => self.received(result, buffer),
            Outcome::Sent { result, data } => self.sent(result, data),
            _ => debug_assert!(false, "a stream was handed the outcome of {outcome:?}"),
        }
    }

    #[inline]
    fn ready(&self, tag: u32, _: Interest) {
        if tag == HANG_UP { self.hung_up() } else { self.readable() }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.end.get(), self.closing.get()) {
            (Some(_), _) => "closed",
            (None, Closing::No) => "open",
            (None, _) => "closing",
        };
        f.debug_struct("Connection")
            .field("state", &state)
            .field("local", &self.addresses.local)
            .field("peer", &self.addresses.peer)
            .field("reading", &self.is_reading())
            .field("input", &self.input)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}
