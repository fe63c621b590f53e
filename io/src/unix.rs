//! Streams over sockets of the Unix domain: [`open_unix_connection`] and [`start_unix_server`].

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aioli_core::op::{Address, Domain, Op, Outcome, SocketKind, UnixAddress};
use aioli_core::{Error, Loop, Result, get_running_loop, sleep};

use crate::address::at;
use crate::connect::begin;
use crate::connection::Connection;
use crate::handle::{Handle, unexpected};
use crate::perform::perform;
use crate::reader::{DEFAULT_LIMIT, StreamReader, check_limit};
use crate::server::{Bound, Handler, Server, handler};
use crate::socket::Socket;
use crate::socket_file::{SocketFile, is_socket};
use crate::starting::Starting;
use crate::writer::StreamWriter;

/// The first and the longest pause between attempts to connect to a server whose line is full.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Connects to a socket of this machine: asyncio's `open_unix_connection`.
///
/// The address is the path of a socket file, or an abstract name, as text with a zero byte before it. Where so many connections wait
/// to be accepted that there is no room for another, this waits until there is. The value that this returns is a future; its methods
/// are options. A connected [`Socket`](crate::Socket) becomes streams with
/// [`OpenConnection::with_socket`](crate::OpenConnection::with_socket).
///
/// # Errors
/// Cancelled. `Io` from the operating system, with the address: `NotFound` if there is no such file, `ConnectionRefused` if nobody
/// listens, `InvalidInput` if the path is longer than 107 bytes. `Value` if the limit is 0. `Runtime` outside of a running loop.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::{open_unix_connection, start_unix_server};
///
/// let path = std::env::temp_dir().join(format!("aioli-doc-{}.sock", std::process::id()));
/// let server = start_unix_server(async |_reader, writer| writer.write(b"welcome"), &path).await?;
/// let (reader, _writer) = open_unix_connection(&path).await?;
/// assert_eq!(reader.read_to_end().await?, "welcome");
/// server.close();
/// assert!(!path.exists());
///
/// let error = open_unix_connection(&path).await.unwrap_err();
/// assert!(error.to_string().contains("aioli-doc-"));
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub fn open_unix_connection(address: impl Into<UnixAddress>) -> OpenUnixConnection {
    OpenUnixConnection { state: Starting::New((address.into(), DEFAULT_LIMIT)) }
}

/// The future of [`open_unix_connection`], and its options.
#[must_use = "a connection is not opened unless this is awaited"]
pub struct OpenUnixConnection {
    state: Starting<(UnixAddress, usize), (StreamReader, StreamWriter)>,
}

impl OpenUnixConnection {
    /// The limit of the reader, in bytes. The default is [`DEFAULT_LIMIT`].
    pub fn limit(mut self, limit: usize) -> Self {
        self.state.option(|options| options.1 = limit);
        self
    }
}

impl Future for OpenUnixConnection {
    type Output = Result<(StreamReader, StreamWriter)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.state.poll(cx, open, "the connection was opened already")
    }
}

async fn open((address, limit): (UnixAddress, usize)) -> Result<(StreamReader, StreamWriter)> {
    check_limit(limit)?;
    let event_loop = get_running_loop()?;
    let mut pause = PAUSES.0;
    let socket = loop {
        let (socket, result) = attempt(&event_loop, &address).await?;
        match result {
            Ok(()) => break socket,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(pause).await?,
            Err(error) => return Err(at("connect call failed", address, error).into()),
        }
        pause = PAUSES.1.min(pause * 2);
    };
    let connection = Connection::new(socket, Some(address.into()), limit);
    let streams = (StreamReader::over(&connection), StreamWriter::over(&connection));
    begin(connection).await?;
    Ok(streams)
}

async fn attempt(event_loop: &Loop, address: &UnixAddress) -> Result<(Handle, io::Result<()>)> {
    let socket = Handle::open(event_loop, Domain::Unix, SocketKind::Stream)?;
    let op = Op::Connect { socket: socket.resource(), address: address.clone().into() };
    match perform(event_loop, op).await? {
        Outcome::Done(result) => Ok((socket, result)),
        other => Err(unexpected(&other)),
    }
}

/// Listens on a socket of this machine, and calls `callback` for each connection: asyncio's `start_unix_server`.
///
/// The address is a path, at which a socket file is made, or an abstract name, as text with a zero byte before it. A socket file that
/// nobody listens on any more is replaced. When the server closes, the file is removed, unless another has taken its place.
///
/// What the callback returns is run as a task, as [`start_server`](crate::start_server) says. The value that this returns is a future;
/// its methods are options.
///
/// # Errors
/// Cancelled. `Io` from the operating system, with the address: `AddrInUse` if somebody listens on the file, or it is no socket;
/// `InvalidInput` if the path is longer than 107 bytes. `Value` if the limit is 0. `Runtime` outside of a running loop.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_io::{open_unix_connection, start_unix_server};
///
/// // An abstract name: there is no file.
/// start_unix_server(async |_reader, writer| writer.write(b"welcome"), "\0greeter").await?;
/// let (reader, _writer) = open_unix_connection("\0greeter").await?;
/// assert_eq!(reader.read_to_end().await?, "welcome");
/// # Ok(())
/// # }).unwrap();
/// ```
pub fn start_unix_server<C, F, T>(callback: C, address: impl Into<UnixAddress>) -> StartUnixServer
where
    C: Fn(StreamReader, StreamWriter) -> F + 'static,
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    StartUnixServer::new(callback, Target::Address(address.into()))
}

/// The future of [`start_unix_server`], and its options.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::{open_unix_connection, start_unix_server};
///
/// let path = std::env::temp_dir().join(format!("aioli-keep-{}.sock", std::process::id()));
/// let server = start_unix_server(async |reader, _writer| reader.readline().await, &path)
///     .limit(1024) // longer lines are an error
///     .cleanup_socket(false)
///     .await?;
/// server.close();
/// assert!(path.exists());
/// std::fs::remove_file(path)?;
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
#[must_use = "a server is not started unless this is awaited"]
pub struct StartUnixServer {
    state: Starting<(Handler, Options), Server>,
}

/// What a server is to listen on.
enum Target {
    Address(UnixAddress),
    Socket(Socket),
}

struct Options {
    target: Target,
    limit: usize,
    backlog: u32,
    start_serving: bool,
    cleanup_socket: bool,
}

impl StartUnixServer {
    fn new<C, F, T>(callback: C, target: Target) -> Self
    where
        C: Fn(StreamReader, StreamWriter) -> F + 'static,
        F: Future<Output = Result<T>> + 'static,
        T: 'static,
    {
        let options = Options { target, limit: DEFAULT_LIMIT, backlog: 100, start_serving: true, cleanup_socket: true };
        StartUnixServer { state: Starting::New((handler(callback), options)) }
    }

    /// Serves on a socket that is bound: asyncio's `start_unix_server(sock=…)`. Its file, too, is removed when the server closes, which
    /// [`StartServer::with_socket`](crate::StartServer::with_socket) does not do.
    ///
    /// # Errors
    /// As [`start_unix_server`]; `Value` if the socket is of another family.
    pub fn with_socket<C, F, T>(callback: C, socket: Socket) -> Self
    where
        C: Fn(StreamReader, StreamWriter) -> F + 'static,
        F: Future<Output = Result<T>> + 'static,
        T: 'static,
    {
        Self::new(callback, Target::Socket(socket))
    }

    fn option(mut self, set: impl FnOnce(&mut Options)) -> Self {
        self.state.option(|(_, options)| set(options));
        self
    }

    /// The limit of the connections' readers, in bytes. The default is [`DEFAULT_LIMIT`].
    pub fn limit(self, limit: usize) -> Self {
        self.option(|options| options.limit = limit)
    }

    /// How many connections may wait to be accepted, and how many are accepted in one turn. The default is 100.
    pub fn backlog(self, backlog: u32) -> Self {
        self.option(|options| options.backlog = backlog)
    }

    /// Whether to accept connections at once, and not only with [`Server::start_serving`]. On by default.
    pub fn start_serving(self, on: bool) -> Self {
        self.option(|options| options.start_serving = on)
    }

    /// Whether the socket file is removed when the server closes. On by default.
    pub fn cleanup_socket(self, on: bool) -> Self {
        self.option(|options| options.cleanup_socket = on)
    }
}

impl Future for StartUnixServer {
    type Output = Result<Server>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.state.poll(cx, start, "the server was started already")
    }
}

async fn start((handler, options): (Handler, Options)) -> Result<Server> {
    check_limit(options.limit)?;
    let event_loop = get_running_loop()?;
    let (socket, accepted, address) = match options.target {
        Target::Address(address) => (bind(&event_loop, &address).await?, None, address),
        Target::Socket(socket) => {
            let parts = socket.into_parts().await?;
            match parts.handle.local_addr()? {
                Address::Unix(address) => (parts.handle, parts.accepted, address),
                Address::Internet(_) => return Err(Error::value("a socket of the Unix domain was expected")),
            }
        }
    };
    let file = match &address {
        UnixAddress::Path(path) if options.cleanup_socket && event_loop.has_socket_files() => SocketFile::of(path),
        _ => None,
    };
    let server =
        Server::new(event_loop, handler, options.limit, options.backlog, vec![Bound { socket, file, accepted }])?;
    if options.start_serving { server.started().await } else { Ok(server) }
}

/// A socket bound to the address, in the place of one that nobody listens on.
async fn bind(event_loop: &Loop, address: &UnixAddress) -> Result<Handle> {
    let socket = Handle::open(event_loop, Domain::Unix, SocketKind::Stream)?;
    let mut bound = socket.bind(address.clone().into())?;
    if let (Err(error), UnixAddress::Path(path)) = (&bound, address)
        && error.kind() == io::ErrorKind::AddrInUse
        && event_loop.has_socket_files()
        && is_socket(path)
        && let (_, Err(error)) = attempt(event_loop, address).await?
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        bound = match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => socket.bind(address.clone().into())?,
        };
    }
    match bound {
        Ok(()) => Ok(socket),
        Err(error) => Err(at("error while attempting to bind on address", address.clone(), error).into()),
    }
}

impl fmt::Debug for OpenUnixConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenUnixConnection").field("begun", &self.state.has_begun()).finish_non_exhaustive()
    }
}

impl fmt::Debug for StartUnixServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartUnixServer").field("begun", &self.state.has_begun()).finish_non_exhaustive()
    }
}
