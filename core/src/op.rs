//! The closed set of operations that a driver executes, and their outcomes.
//!
//! Operations own what they use ([law D3](crate::driver)): buffers go in and come back in the [`Outcome`]. Sockets, listeners and
//! files are [`Resource`]s: ids that the driver gave out, not descriptors.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitStatus;

use bytes::{Bytes, BytesMut};

use crate::driver::OpId;

pub use crate::address::{Address, UnixAddress};
pub use crate::file::{FileOptions, FileStatus};

/// The driver's id of a socket, a listener or another thing that operations work on.
///
/// It is valid from the outcome that brings it until [`Op::Close`], on the loop that submitted the operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Resource(pub u64);

/// The address family of a new socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Sockets of this machine, which have files or abstract names for addresses.
    Unix,
}

impl Domain {
    /// The family that an internet address belongs to.
    pub fn of(address: &SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Domain::Ipv4,
            SocketAddr::V6(_) => Domain::Ipv6,
        }
    }
}

impl Address {
    /// The family that the address belongs to.
    pub fn domain(&self) -> Domain {
        match self {
            Address::Internet(address) => Domain::of(address),
            Address::Unix(_) => Domain::Unix,
        }
    }
}

/// Whether a new socket carries a byte stream or datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketKind {
    /// A byte stream: TCP, or a stream of the Unix domain.
    Stream,
    /// Datagrams: UDP, or datagrams of the Unix domain.
    Datagram,
}

/// Which directions of a connection [`Op::Shutdown`] ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShutdownHow {
    /// No more reading.
    Read,
    /// No more writing: the peer sees the end of the stream.
    Write,
    /// Neither.
    Both,
}

/// A socket option and its new value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SocketOption {
    /// `SO_REUSEADDR`.
    ReuseAddress(bool),
    /// `SO_REUSEPORT`.
    ReusePort(bool),
    /// `IPV6_V6ONLY`.
    OnlyV6(bool),
    /// `TCP_NODELAY`.
    NoDelay(bool),
    /// `SO_KEEPALIVE`.
    KeepAlive(bool),
    /// `SO_RCVBUF`, in bytes.
    ReceiveBuffer(usize),
    /// `SO_SNDBUF`, in bytes.
    SendBuffer(usize),
    /// `SO_LINGER`: seconds to linger on close; 0 makes a close reset the connection.
    Linger(Option<u32>),
}

/// What a [`Op::Poll`] waits for, and what it found: asyncio's `add_reader` and `add_writer` in one.
///
/// ```
/// use aioli_core::op::Interest;
///
/// let either = Interest { readable: true, ..Interest::default() };
/// assert!(either.readable && !either.writable);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interest {
    /// Reading would not block (also at end of stream, error or hang-up).
    pub readable: bool,
    /// Writing would not block (also at error or hang-up).
    pub writable: bool,
}

/// An operation for a driver to execute. Its outcome has the variant named with it.
///
/// Who builds on the loop gives one to [`Loop::submit`](crate::Loop::submit), or to [`Loop::submit_now`](crate::Loop::submit_now)
/// if it completes at submit; see the example of [`Owner`](crate::ops::Owner).
#[derive(Debug)]
#[non_exhaustive]
pub enum Op {
    /// Opens a non-blocking, close-on-exec socket. Completes at submit, with [`Outcome::Opened`].
    Socket {
        /// The address family.
        domain: Domain,
        /// Stream or datagrams.
        kind: SocketKind,
    },
    /// Takes over a descriptor, which becomes non-blocking. Completes at submit, with [`Outcome::Opened`]. A capability: a driver
    /// without descriptors answers `Unsupported`.
    Adopt {
        /// The descriptor; closed if the driver refuses it.
        fd: OwnedFd,
    },
    /// Binds a socket to a local address. Completes at submit, with [`Outcome::Done`].
    Bind {
        /// The socket.
        socket: Resource,
        /// The local address.
        address: Address,
    },
    /// Makes a bound socket a listener. Completes at submit, with [`Outcome::Done`].
    Listen {
        /// The socket.
        socket: Resource,
        /// How many connections may wait to be accepted.
        backlog: u32,
    },
    /// Sets a socket option. Completes at submit, with [`Outcome::Done`].
    SetOption {
        /// The socket.
        socket: Resource,
        /// The option and its value.
        option: SocketOption,
    },
    /// The local address of a socket. Completes at submit, with [`Outcome::Address`].
    LocalAddress {
        /// The socket.
        socket: Resource,
    },
    /// The peer's address of a connected socket. Completes at submit, with [`Outcome::Address`].
    PeerAddress {
        /// The socket.
        socket: Resource,
    },
    /// Ends one or both directions of a connection. Completes at submit, with [`Outcome::Done`].
    Shutdown {
        /// The socket.
        socket: Resource,
        /// Which directions.
        how: ShutdownHow,
    },
    /// Closes a resource. Operations still in flight on it end with `ECANCELED` first. Completes at submit, with [`Outcome::Done`].
    Close {
        /// The resource; its id is not valid any more.
        resource: Resource,
    },
    /// Accepts connections, with [`Outcome::Accepted`] for each: a multishot op that ends when its credit is used up.
    Accept {
        /// The listener.
        listener: Resource,
        /// How many connections at most; 1 makes this a one-shot op. Never 0.
        credit: u32,
    },
    /// Connects a socket, with [`Outcome::Done`].
    Connect {
        /// The socket.
        socket: Resource,
        /// The peer.
        address: Address,
    },
    /// Receives into the spare capacity of a buffer, with [`Outcome::Received`]. Zero bytes: the end of the stream.
    Recv {
        /// The socket.
        socket: Resource,
        /// Where to append; it has spare capacity.
        buffer: BytesMut,
    },
    /// Sends some of the data, with [`Outcome::Sent`].
    Send {
        /// The socket.
        socket: Resource,
        /// What to send.
        data: Bytes,
    },
    /// Waits until a resource is ready, with [`Outcome::Ready`]. One-shot; tests the level at submit.
    Poll {
        /// The resource.
        resource: Resource,
        /// What to wait for.
        interest: Interest,
    },
    /// Tells, with [`Outcome::Ready`], whenever a stream socket may have become readable: a multishot op without a credit, for those
    /// who receive with [`Driver::try_recv`](crate::driver::Driver::try_recv). After it has told, it is silent until such a receive
    /// has found that there is no more for now. A capability: a driver without such receives answers `Unsupported`.
    Watch {
        /// The socket.
        socket: Resource,
    },
    /// Waits until a descriptor of the caller's is ready, with [`Outcome::Ready`]. One-shot; tests the level at submit. The caller
    /// keeps the descriptor open meanwhile. A capability: a driver without descriptors answers `Unsupported`.
    PollFd {
        /// The descriptor; it stays the caller's.
        fd: RawFd,
        /// What to wait for.
        interest: Interest,
    },
    /// Waits until a child process of this program has ended, and takes its exit status, with [`Outcome::Exited`]. Nothing is left of
    /// the process then; until then its number is its own, since nobody else is to take its exit status. An op that is cancelled
    /// leaves the process as it is, unless it was too late: then it succeeds. A capability: a driver without processes answers
    /// `Unsupported`.
    WaitProcess {
        /// The number of the process.
        pid: u32,
    },
    /// Sends a signal to a process that is waited for, with [`Outcome::Done`]. Completes at submit. `ESRCH` if the wait is not in
    /// flight any more. A capability, as above.
    SignalProcess {
        /// The [wait](Op::WaitProcess) for the process.
        wait: OpId,
        /// The number of the signal.
        signal: i32,
    },
    /// Opens a file, with [`Outcome::Opened`]. One that is opened after the op was cancelled is closed. A capability, as are the other
    /// operations on files: a driver without files answers `Unsupported`.
    OpenFile {
        /// Where it is.
        path: PathBuf,
        /// How to open it.
        options: FileOptions,
    },
    /// Reads into the spare capacity of a buffer, with [`Outcome::Received`]. Zero bytes: the end of the file. What is in memory is read
    /// at once, and that may be less than there is.
    ReadFile {
        /// The file.
        file: Resource,
        /// From where.
        offset: u64,
        /// Where to append; it has spare capacity.
        buffer: BytesMut,
    },
    /// Writes some of the data, with [`Outcome::Sent`].
    WriteFile {
        /// The file.
        file: Resource,
        /// Where to, unless it was opened to append.
        offset: u64,
        /// What to write.
        data: Bytes,
    },
    /// Has the disk store what was written, with [`Outcome::Done`].
    SyncFile {
        /// The file.
        file: Resource,
        /// Without what is not needed to find the data again.
        data_only: bool,
    },
    /// Looks at a file's status, with [`Outcome::Status`].
    FileStatus {
        /// The file.
        file: Resource,
    },
}

impl Op {
    /// Fails an op with the outcome of its kind: what a driver does with one that it does not carry out. What it owned comes back,
    /// but for a descriptor to adopt, which is closed.
    ///
    /// ```
    /// use std::io;
    ///
    /// use aioli_core::op::{Domain, Op, Outcome, SocketKind};
    ///
    /// let op = Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Stream };
    /// let outcome = op.refuse(io::ErrorKind::Unsupported.into());
    /// assert!(matches!(outcome, Outcome::Opened(Err(error)) if error.kind() == io::ErrorKind::Unsupported));
    /// ```
    pub fn refuse(self, error: io::Error) -> Outcome {
        match self {
            Op::Socket { .. } | Op::Adopt { .. } | Op::OpenFile { .. } => Outcome::Opened(Err(error)),
            Op::LocalAddress { .. } | Op::PeerAddress { .. } => Outcome::Address(Err(error)),
            Op::Accept { .. } => Outcome::Accepted(Err(error)),
            Op::Recv { buffer, .. } | Op::ReadFile { buffer, .. } => Outcome::Received { result: Err(error), buffer },
            Op::Send { data, .. } | Op::WriteFile { data, .. } => Outcome::Sent { result: Err(error), data },
            Op::Poll { .. } | Op::PollFd { .. } | Op::Watch { .. } => Outcome::Ready(Err(error)),
            Op::WaitProcess { .. } => Outcome::Exited(Err(error)),
            Op::FileStatus { .. } => Outcome::Status(Err(error)),
            Op::Bind { .. }
            | Op::Listen { .. }
            | Op::SetOption { .. }
            | Op::Shutdown { .. }
            | Op::Close { .. }
            | Op::Connect { .. }
            | Op::SignalProcess { .. }
            | Op::SyncFile { .. } => Outcome::Done(Err(error)),
        }
    }
}

/// What an operation came to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It was done, or failed.
    Done(io::Result<()>),
    /// A new resource.
    Opened(io::Result<Resource>),
    /// An address.
    Address(io::Result<Address>),
    /// A connection that came in, and its peer's address.
    Accepted(io::Result<(Resource, Address)>),
    /// Bytes appended to the buffer, which comes back in every case.
    Received {
        /// How many bytes came; 0 is the end of the stream.
        result: io::Result<usize>,
        /// The buffer of the op.
        buffer: BytesMut,
    },
    /// How many bytes of the data were sent; the data comes back in every case.
    Sent {
        /// How many bytes the kernel took.
        result: io::Result<usize>,
        /// The data of the op, whole.
        data: Bytes,
    },
    /// What a resource or descriptor is ready for.
    Ready(io::Result<Interest>),
    /// How a process ended. `ECHILD` if somebody else took its exit status, or it is no child of this program.
    Exited(io::Result<ExitStatus>),
    /// A file's status.
    Status(io::Result<FileStatus>),
}
