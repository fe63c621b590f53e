//! [`Socket`]: a socket without buffers of its own.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use aioli_core::op::{Address, Domain, Interest, Op, Outcome, ShutdownHow, SocketKind, SocketOption};
use aioli_core::ops::{Owner, Submitted};
use aioli_core::{Loop, Result, get_running_loop};
use bytes::{Buf, Bytes, BytesMut};

use crate::address::at;
use crate::handle::{Handle, unexpected};
use crate::home::check_home;
use crate::landing::fitting;
use crate::lane::{Lane, Turn};
use crate::perform::perform;

/// The most that one receive asks for, in bytes.
const MOST: usize = 256 * 1024;

/// A socket without buffers of its own: what asyncio's `loop.sock_recv`, `sock_sendall`, `sock_connect` and `sock_accept` work on.
///
/// Each operation tries its system call first, and suspends the task only if that would block. Operations of one direction run one
/// after another, in the order in which they were called; receiving and accepting are one direction, sending and connecting the other.
///
/// Cancelling loses nothing: where a backend hands out data or a connection although the task that asked for it was cancelled
/// meanwhile, the next operation of that direction gets it. Dropping the socket closes it.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_core::op::Domain;
/// use aioli_io::Socket;
///
/// let listener = Socket::stream(Domain::Ipv4)?;
/// listener.bind(([127, 0, 0, 1], 0).into())?;
/// listener.listen(1)?;
/// let client = Socket::stream(Domain::Ipv4)?;
/// client.connect(listener.local_addr()?).await?;
/// let (server, _) = listener.accept().await?;
/// client.sendall(b"ciao").await?;
/// assert_eq!(server.recv(100).await?, "ciao");
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub struct Socket {
    shared: Rc<Shared>,
    handle: Handle,
    /// The number of a descriptor that came from elsewhere: others may know it.
    fd: Option<RawFd>,
}

/// What the drivers end a cancelled operation with, as Linux numbers it; the standard library has no name for it.
const ECANCELED: i32 = 125;

/// EAFNOSUPPORT, as Linux numbers it.
const WRONG_FAMILY: i32 = 97;

const READ: u32 = 0;
const WRITE: u32 = 1;

/// What a socket is taken apart to.
pub(crate) struct Parts {
    pub(crate) handle: Handle,
    /// Received for an await that was given up, or more than it asked for.
    pub(crate) received: BytesMut,
    /// Accepted for an await that was given up.
    pub(crate) accepted: Option<(Handle, Address)>,
}

struct Shared {
    event_loop: Loop,
    read: Lane,
    write: Lane,
    /// Received for an await that was given up, and more than the next one asked for.
    left_over: RefCell<BytesMut>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(Outcome::Accepted(Ok((resource, _)))) = self.read.left_behind() {
            // A connection that was accepted for an await that was given up, and nobody came for it.
            drop(Handle::adopt(&self.event_loop, resource));
        }
    }
}

impl Owner for Shared {
    fn complete(&self, tag: u32, outcome: Outcome, _: bool) {
        match tag {
            READ => self.read.complete(outcome),
            _ => self.write.complete(outcome),
        }
    }
}

impl Socket {
    /// Opens a socket for a byte stream.
    ///
    /// # Errors
    /// `Io` from the operating system; `Runtime` outside of a running loop.
    pub fn stream(domain: Domain) -> Result<Self> {
        Ok(Self::over(Handle::open(&get_running_loop()?, domain, SocketKind::Stream)?))
    }

    /// Takes over a descriptor, which becomes non-blocking: Python's `socket(fileno=…)`.
    ///
    /// # Errors
    /// `Io` from the operating system, or where the backend knows no descriptors; `Runtime` outside of a running loop.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let event_loop = get_running_loop()?;
        let number = fd.as_raw_fd();
        Ok(Socket { fd: Some(number), ..Self::over(Handle::from_fd(&event_loop, fd)?) })
    }

    fn over(handle: Handle) -> Self {
        let event_loop = handle.event_loop().clone();
        let (read, write, left_over) = Default::default();
        Socket { shared: Rc::new(Shared { event_loop, read, write, left_over }), handle, fd: None }
    }

    pub(crate) fn fd(&self) -> Option<RawFd> {
        self.fd
    }

    /// The socket itself, and what came for nobody.
    pub(crate) async fn into_parts(self) -> Result<Parts> {
        // An operation that was given up has to end first.
        let turn = self.shared.read.enter(self.event_loop()).await?;
        let left = self.shared.read.left_behind();
        drop(turn);
        let (mut received, mut accepted) = (self.shared.left_over.take(), None);
        match left {
            Some(Outcome::Received { buffer, .. }) => received.unsplit(buffer),
            Some(Outcome::Accepted(Ok((resource, peer)))) => {
                accepted = Some((Handle::adopt(self.event_loop(), resource), peer));
            }
            _ => (),
        }
        Ok(Parts { handle: self.handle, received, accepted })
    }

    fn event_loop(&self) -> &Loop {
        self.handle.event_loop()
    }

    /// Binds the socket to a local address: Python's `socket.bind`.
    ///
    /// # Errors
    /// `Io` from the operating system, with the address.
    pub fn bind(&self, address: SocketAddr) -> Result<()> {
        Ok(self
            .handle
            .bind(address.into())?
            .map_err(|error| at("error while attempting to bind on address", address, error))?)
    }

    /// Makes a bound socket a listener: Python's `socket.listen`. `backlog` connections may wait to be accepted.
    ///
    /// # Errors
    /// `Io` from the operating system.
    pub fn listen(&self, backlog: u32) -> Result<()> {
        self.handle.listen(backlog)
    }

    /// Sets an option: Python's `socket.setsockopt`.
    ///
    /// # Errors
    /// `Io` from the operating system.
    pub fn set_option(&self, option: SocketOption) -> Result<()> {
        self.handle.set_option(option)
    }

    /// The local address: Python's `socket.getsockname`.
    ///
    /// # Errors
    /// `Io` from the operating system, also for a socket that is not an internet socket.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        internet(self.handle.local_addr()?)
    }

    /// The peer's address: Python's `socket.getpeername`.
    ///
    /// # Errors
    /// `Io` from the operating system, also for a socket that is not connected.
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        internet(self.handle.peer_addr()?)
    }

    /// Ends one or both directions of a connection: Python's `socket.shutdown`.
    ///
    /// # Errors
    /// `Io` from the operating system.
    pub fn shutdown(&self, how: ShutdownHow) -> Result<()> {
        self.handle.shutdown(how)
    }

    /// Submits an operation of a direction, and waits for what comes of it.
    async fn run(&self, turn: &mut Turn<'_>, tag: u32, op: Op) -> Result<Outcome> {
        let owner: Rc<dyn Owner> = Rc::<Shared>::clone(&self.shared);
        match self.event_loop().submit(op, &owner, tag)? {
            Submitted::Done(outcome) => Ok(outcome),
            Submitted::InFlight(id) => turn.outcome(id).await,
        }
    }

    /// Receives at most `count` bytes: asyncio's `sock_recv`. Nothing means that the stream has ended, or `count` is 0. What was
    /// received for a call that is cancelled goes to the next one.
    ///
    /// # Errors
    /// Cancelled; `Io` from the operating system; `Runtime` outside of a task.
    pub async fn recv(&self, count: usize) -> Result<Bytes> {
        self.receive(count).await.map(fitting)
    }

    /// Receives into a buffer of the caller's, and returns how many bytes came. The buffer is not lent to the kernel: the bytes are
    /// copied. asyncio's `sock_recv_into`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn recv_into(&self, buffer: &mut [u8]) -> Result<usize> {
        let data = self.receive(buffer.len()).await?;
        buffer[..data.len()].copy_from_slice(&data);
        Ok(data.len())
    }

    async fn receive(&self, count: usize) -> Result<BytesMut> {
        if count == 0 {
            return Ok(BytesMut::new());
        }
        let mut turn = self.shared.read.enter(self.event_loop()).await?;
        let mut data = self.shared.left_over.take();
        if data.is_empty() {
            let outcome = match self.shared.read.left_behind().filter(|outcome| !is_cancelled(outcome)) {
                Some(outcome) => outcome,
                None => {
                    let buffer = BytesMut::with_capacity(count.min(MOST));
                    self.run(&mut turn, READ, Op::Recv { socket: self.handle.resource(), buffer }).await?
                }
            };
            data = match outcome {
                Outcome::Received { result, buffer } => {
                    result?;
                    buffer
                }
                other => return Err(unexpected(&other)),
            };
        }
        if data.len() > count {
            // It was received for somebody who asked for more.
            self.shared.left_over.replace(data.split_off(count));
        }
        Ok(data)
    }

    /// Sends everything. asyncio's `sock_sendall`.
    ///
    /// # Errors
    /// Cancelled; `Io` from the operating system. How much was sent is not known then; what the kernel took before a cancellation is
    /// sent.
    pub async fn sendall(&self, data: &[u8]) -> Result<()> {
        let mut turn = self.shared.write.enter(self.event_loop()).await?;
        // What came of a send that was given up concerns nobody.
        drop(self.shared.write.left_behind());
        let socket = self.handle.resource();
        let mut sent = 0;
        match self.event_loop().try_send(socket, data) {
            Some(Ok(count)) => sent = count,
            Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
            Some(Err(_)) | None => (),
        }
        let mut data = Bytes::copy_from_slice(&data[sent..]);
        while !data.is_empty() {
            match self.run(&mut turn, WRITE, Op::Send { socket, data }).await? {
                Outcome::Sent { result, data: all } => {
                    data = all;
                    data.advance(result?);
                }
                other => return Err(unexpected(&other)),
            }
        }
        Ok(())
    }

    /// Connects to an address. asyncio's `sock_connect`.
    ///
    /// # Errors
    /// Cancelled, and the socket is of no use then but to be closed or connected again; `Io` from the operating system, with the
    /// address.
    pub async fn connect(&self, address: SocketAddr) -> Result<()> {
        let mut turn = self.shared.write.enter(self.event_loop()).await?;
        let left = self.shared.write.left_behind().filter(|outcome| matches!(outcome, Outcome::Done(Ok(()))));
        let outcome = match left {
            Some(outcome) => outcome,
            None => {
                self.run(&mut turn, WRITE, Op::Connect { socket: self.handle.resource(), address: address.into() })
                    .await?
            }
        };
        match outcome {
            Outcome::Done(result) => Ok(result.map_err(|error| at("connect call failed", address, error))?),
            other => Err(unexpected(&other)),
        }
    }

    /// Accepts a connection on a listener, and returns it with the peer's address, which is `0.0.0.0:0` if that is not an internet
    /// socket. asyncio's `sock_accept`. A connection that was accepted for a call that is cancelled goes to the next one.
    ///
    /// # Errors
    /// Cancelled; `Io` from the operating system; `Runtime` outside of a task.
    pub async fn accept(&self) -> Result<(Socket, SocketAddr)> {
        let mut turn = self.shared.read.enter(self.event_loop()).await?;
        let outcome = match self.shared.read.left_behind().filter(|outcome| !is_cancelled(outcome)) {
            Some(outcome) => outcome,
            None => self.run(&mut turn, READ, Op::Accept { listener: self.handle.resource(), credit: 1 }).await?,
        };
        match outcome {
            Outcome::Accepted(result) => {
                let (resource, peer) = result?;
                Ok((
                    Socket::over(Handle::adopt(self.event_loop(), resource)),
                    peer.internet().unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into()),
                ))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until a receive or an accept would not block: what asyncio's `add_reader` tells. Cancelling it changes nothing.
    ///
    /// # Errors
    /// Cancelled; `Io` from the operating system.
    pub async fn readable(&self) -> Result<()> {
        check_home(self.event_loop())?;
        let left_behind = self.shared.read.has_left_behind(|outcome| !is_cancelled(outcome));
        if left_behind || !self.shared.left_over.borrow().is_empty() {
            return Ok(());
        }
        self.ready(Interest { readable: true, writable: false }).await
    }

    /// Waits until a send would not block: what asyncio's `add_writer` tells. Cancelling it changes nothing.
    ///
    /// # Errors
    /// Cancelled; `Io` from the operating system.
    pub async fn writable(&self) -> Result<()> {
        self.ready(Interest { readable: false, writable: true }).await
    }

    async fn ready(&self, interest: Interest) -> Result<()> {
        let op = Op::Poll { resource: self.handle.resource(), interest };
        match perform(self.event_loop(), op).await? {
            Outcome::Ready(found) => found.map(|_| ()).map_err(Into::into),
            other => Err(unexpected(&other)),
        }
    }
}

fn internet(address: Address) -> Result<SocketAddr> {
    Ok(address.internet().ok_or_else(|| io::Error::from_raw_os_error(WRONG_FAMILY))?)
}

/// Whether an operation ended because that was asked for, so that it came to nothing.
fn is_cancelled(outcome: &Outcome) -> bool {
    let error = match outcome {
        Outcome::Received { result: Err(error), .. } | Outcome::Accepted(Err(error)) => error,
        _ => return false,
    };
    error.raw_os_error() == Some(ECANCELED)
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("resource", &self.handle)
            .field("read", &self.shared.read)
            .field("write", &self.shared.write)
            .finish_non_exhaustive()
    }
}
