//! [`open_connection`]: streams to a server.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use aioli_core::op::{Domain, Op, Outcome, SocketKind};
use aioli_core::{Error, Instant, Loop, Result, Task, create_task, get_running_loop, timeout_at, wait};

use crate::address::{Address, at};
use crate::connection::Connection;
use crate::descriptors::note_stream;
use crate::dns::resolve;
use crate::handle::{Handle, unexpected};
use crate::perform::perform;
use crate::reader::{DEFAULT_LIMIT, StreamReader, check_limit};
use crate::socket::Socket;
use crate::starting::Starting;
use crate::waiters::Waiters;
use crate::writer::StreamWriter;

/// Connects to a host and port: asyncio's `open_connection`.
///
/// The host is a name or an IP address. A name is looked up on a thread, and its addresses are tried one after the other. The value
/// that this returns is a future; its methods are options.
///
/// # Errors
/// Cancelled. `Io` if the name is not known, or if no address could be connected: the error of that address, or if there were
/// several with different texts, one that has them all. `Value` if the limit is 0. `Runtime` outside of a running loop.
///
/// ```no_run
/// # async fn example() -> aioli_core::Result<()> {
/// use aioli_io::open_connection;
/// use std::time::Duration;
///
/// let (reader, writer) =
///     open_connection("example.org", 80).limit(1024).happy_eyeballs_delay(Duration::from_millis(250)).await?;
/// # Ok(())
/// # }
/// ```
pub fn open_connection(host: impl Into<String>, port: u16) -> OpenConnection {
    OpenConnection::new(Target::Host(host.into(), port))
}

/// As [`open_connection`], with the host and the port in one text: `"example.org:80"`, `"[::1]:80"`.
///
/// # Errors
/// As [`open_connection`]; `Value` if the text is no such [`Address`].
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_core::ErrorKind;
/// use aioli_io::open_connection_to;
///
/// let error = open_connection_to("localhost:http").await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Value);
/// assert_eq!(error.to_string(), "invalid address \"localhost:http\": the port is not a number");
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub fn open_connection_to(address: &str) -> OpenConnection {
    OpenConnection::new(match address.parse::<Address>() {
        Ok(address) => Target::Host(address.host().to_owned(), address.port()),
        Err(error) => Target::Invalid(error),
    })
}

/// The future of [`open_connection`], and its options: the keyword arguments of asyncio's `open_connection`. Options that are set
/// after it was first polled change nothing. Dropped while it waits, it closes what it has opened.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_io::{OpenConnection, open_connection, start_server};
///
/// start_server(async |_reader, writer| writer.write(b"welcome"), "127.0.0.1", 80).await?;
/// let (reader, _writer) = open_connection("localhost", 80).limit(1024).local_addr("127.0.0.1", 0).await?;
/// assert_eq!(reader.read_to_end().await?, "welcome");
///
/// // Nobody listens at the first of these.
/// let (reader, writer) = OpenConnection::with_addresses(["127.0.0.1:9".parse()?, "127.0.0.1:80".parse()?]).await?;
/// assert_eq!(writer.peer_addr().unwrap().port(), 80);
/// assert_eq!(reader.read_to_end().await?, "welcome");
/// # Ok(())
/// # }).unwrap();
/// ```
#[must_use = "a connection is not opened unless this is awaited"]
pub struct OpenConnection {
    state: Starting<(Target, Options), (StreamReader, StreamWriter)>,
}

type Opened = Result<(StreamReader, StreamWriter)>;

enum Target {
    Host(String, u16),
    Addresses(Vec<SocketAddr>),
    Socket(Socket),
    Invalid(Error),
}

struct Options {
    limit: usize,
    family: Option<Domain>,
    local_addr: Option<(String, u16)>,
    happy_eyeballs_delay: Option<Duration>,
    all_errors: bool,
}

impl OpenConnection {
    fn new(target: Target) -> Self {
        let options = Options {
            limit: DEFAULT_LIMIT,
            family: None,
            local_addr: None,
            happy_eyeballs_delay: None,
            all_errors: false,
        };
        OpenConnection { state: Starting::New((target, options)) }
    }

    /// Connects to the first of several addresses that can be connected, as if they were those of a name.
    pub fn with_addresses(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self::new(Target::Addresses(addresses.into_iter().collect()))
    }

    /// Makes streams of a socket that is connected: asyncio's `open_connection(sock=…)`.
    pub fn with_socket(socket: Socket) -> Self {
        Self::new(Target::Socket(socket))
    }

    fn option(mut self, set: impl FnOnce(&mut Options)) -> Self {
        self.state.option(|(_, options)| set(options));
        self
    }

    /// The limit of the reader, in bytes. The default is [`DEFAULT_LIMIT`].
    pub fn limit(self, limit: usize) -> Self {
        self.option(|options| options.limit = limit)
    }

    /// Connects to addresses of this family only.
    pub fn family(self, family: Domain) -> Self {
        self.option(|options| options.family = Some(family))
    }

    /// Connects from this host and port, which are this machine's. Port 0 is any.
    pub fn local_addr(self, host: impl Into<String>, port: u16) -> Self {
        self.option(|options| options.local_addr = Some((host.into(), port)))
    }

    /// Does not wait for an attempt to fail before it begins the next, but only this long (RFC 8305 suggests 250 ms); the addresses
    /// of both families are tried in turns, and the first that answers is taken.
    pub fn happy_eyeballs_delay(self, delay: Duration) -> Self {
        self.option(|options| options.happy_eyeballs_delay = Some(delay))
    }

    /// If no address could be connected, returns a `Group` of all errors.
    pub fn all_errors(self, all: bool) -> Self {
        self.option(|options| options.all_errors = all)
    }
}

impl Future for OpenConnection {
    type Output = Opened;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Opened> {
        self.state.poll(cx, open, "the connection was opened already")
    }
}

async fn open((target, options): (Target, Options)) -> Opened {
    check_limit(options.limit)?;
    let event_loop = get_running_loop()?;
    let connection = match target {
        Target::Invalid(error) => return Err(error),
        Target::Socket(socket) => {
            let fd = socket.fd();
            let mut parts = socket.into_parts().await?;
            let connection = Connection::new(parts.handle, None, options.limit);
            if let Some(fd) = fd {
                note_stream(fd, &connection);
            }
            connection.feed(&mut parts.received);
            connection
        }
        Target::Host(host, port) => {
            let addresses = resolve(&host, port, options.family).await?;
            connect(&event_loop, addresses, &options).await?
        }
        Target::Addresses(mut addresses) => {
            addresses.retain(|address| options.family.is_none_or(|family| family == Domain::of(address)));
            connect(&event_loop, addresses, &options).await?
        }
    };
    let streams = (StreamReader::over(&connection), StreamWriter::over(&connection));
    begin(connection).await?;
    Ok(streams)
}

/// Has a connection start to receive, in a handle of its own, as asyncio's protocol is told of its transport.
pub(crate) async fn begin(connection: Rc<Connection>) -> Result<()> {
    let made = Rc::new(Waiters::default());
    let tell = Rc::clone(&made);
    connection.event_loop().clone().call_soon(move || {
        connection.start_reading();
        drop(connection);
        tell.wake_all();
    })?;
    made.wait().await
}

/// A connection to one of the addresses.
async fn connect(event_loop: &Loop, mut addresses: Vec<SocketAddr>, options: &Options) -> Result<Rc<Connection>> {
    if addresses.is_empty() {
        return Err(Error::value("there is no address to connect to"));
    }
    let local: Option<Rc<[SocketAddr]>> = match &options.local_addr {
        Some((host, port)) => Some(resolve(host, *port, options.family).await?.into()),
        None => None,
    };
    let mut errors = Vec::new();
    let connected = match options.happy_eyeballs_delay {
        None => one_by_one(event_loop, &addresses, local.as_deref(), &mut errors).await?,
        Some(delay) => {
            take_turns(&mut addresses);
            race(event_loop, &addresses, local, delay, &mut errors).await?
        }
    };
    match connected {
        Some((socket, peer)) => Ok(Connection::new(socket, Some(peer.into()), options.limit)),
        None => Err(failure(errors, options.all_errors)),
    }
}

type Connected = Option<(Handle, SocketAddr)>;

async fn one_by_one(
    event_loop: &Loop,
    addresses: &[SocketAddr],
    local: Option<&[SocketAddr]>,
    errors: &mut Vec<Error>,
) -> Result<Connected> {
    for &address in addresses {
        match attempt(event_loop, address, local).await? {
            Ok(socket) => return Ok(Some((socket, address))),
            Err(failed) => errors.extend(failed),
        }
    }
    Ok(None)
}

/// Why an attempt failed.
type Failed = Vec<Error>;

/// Connects to one address.
///
/// # Errors
/// The outer one is a cancellation, or that the loop is closed.
async fn attempt(
    event_loop: &Loop,
    address: SocketAddr,
    local: Option<&[SocketAddr]>,
) -> Result<Result<Handle, Failed>> {
    let socket = match Handle::open(event_loop, Domain::of(&address), SocketKind::Stream) {
        Ok(socket) => socket,
        Err(error) if error.as_io().is_some() => return Ok(Err(vec![error])),
        Err(error) => return Err(error),
    };
    if let Some(local) = local
        && let Err(failed) = bind_to_any(&socket, &address, local)?
    {
        return Ok(Err(failed));
    }
    match perform(event_loop, Op::Connect { socket: socket.resource(), address: address.into() }).await? {
        Outcome::Done(Ok(())) => Ok(Ok(socket)),
        Outcome::Done(Err(error)) => Ok(Err(vec![at("connect call failed", address, error).into()])),
        other => Err(unexpected(&other)),
    }
}

/// Binds a socket to the first local address that it can be bound to.
fn bind_to_any(socket: &Handle, address: &SocketAddr, local: &[SocketAddr]) -> Result<Result<(), Failed>> {
    let mut failed = Vec::new();
    for &local in local.iter().filter(|local| Domain::of(local) == Domain::of(address)) {
        match socket.bind(local.into())? {
            Ok(()) => return Ok(Ok(())),
            Err(error) => failed.push(at("error while attempting to bind on address", local, error).into()),
        }
    }
    if failed.is_empty() {
        let text = format!("no local address of the family of {address}");
        failed.push(io::Error::new(io::ErrorKind::AddrNotAvailable, text).into());
    }
    Ok(Err(failed))
}

/// Puts the addresses of the two families in turns.
fn take_turns(addresses: &mut Vec<SocketAddr>) {
    let Some(first) = addresses.first().map(Domain::of) else { return };
    let (a, b): (Vec<_>, Vec<_>) = addresses.drain(..).partition(|address| Domain::of(address) == first);
    let (mut a, mut b) = (a.into_iter(), b.into_iter());
    loop {
        let pair = (a.next(), b.next());
        addresses.extend(pair.0.into_iter().chain(pair.1));
        if pair == (None, None) {
            return;
        }
    }
}

/// Attempts that run at the same time.
#[derive(Default)]
struct Race {
    connected: Cell<Connected>,
    /// Why attempts failed, by their place.
    failed: RefCell<BTreeMap<usize, Failed>>,
    /// An attempt has ended.
    ended: Waiters,
}

/// The tasks of a race. Dropping this gives them up.
#[derive(Default)]
struct Runners(Vec<Task<()>>);

impl Drop for Runners {
    fn drop(&mut self) {
        for runner in &self.0 {
            runner.cancel(None);
        }
    }
}

/// Begins with one address, and goes on to the next whenever one has failed or nothing has happened for some time.
async fn race(
    event_loop: &Loop,
    addresses: &[SocketAddr],
    local: Option<Rc<[SocketAddr]>>,
    delay: Duration,
    errors: &mut Vec<Error>,
) -> Result<Connected> {
    let race = Rc::new(Race::default());
    let mut runners = Runners::default();
    loop {
        let place = runners.0.len();
        let runner = run(Rc::clone(&race), event_loop.clone(), place, addresses[place], local.clone());
        runners.0.push(create_task(runner));
        if !race.is_decided(place, addresses.len(), event_loop.time() + delay).await? {
            continue;
        }
        runners.0.iter().for_each(|runner| {
            runner.cancel(None);
        });
        wait(&runners.0).await?;
        errors.extend(race.failed.take().into_values().flatten());
        return Ok(race.connected.take());
    }
}

impl Race {
    /// Waits until one attempt has connected or all have failed, or until it is time to begin the attempt after `last`.
    async fn is_decided(&self, last: usize, count: usize, deadline: Instant) -> Result<bool> {
        loop {
            let ended =
                if last + 1 < count { timeout_at(deadline, self.ended.wait()).await } else { self.ended.wait().await };
            let late = matches!(&ended, Err(error) if error.is_timeout());
            if !late {
                ended?;
            }
            // Also if it is late: an attempt may have ended in the same turn.
            let connected = self.connected.take();
            let decided = connected.is_some() || self.failed.borrow().len() == count;
            self.connected.set(connected);
            // After the last address there is no next one to begin with.
            let next = last + 1 < count && self.failed.borrow().contains_key(&last);
            if decided || late || next {
                return Ok(decided);
            }
        }
    }
}

async fn run(
    race: Rc<Race>,
    event_loop: Loop,
    place: usize,
    address: SocketAddr,
    local: Option<Rc<[SocketAddr]>>,
) -> Result<()> {
    match attempt(&event_loop, address, local.as_deref()).await? {
        // A second one is too late, and is closed.
        Ok(socket) => {
            let first = race.connected.take();
            race.connected.set(first.or(Some((socket, address))));
        }
        Err(failed) => drop(race.failed.borrow_mut().insert(place, failed)),
    }
    race.ended.wake_all();
    Ok(())
}

/// The error of a connection that could not be opened.
fn failure(errors: Vec<Error>, all: bool) -> Error {
    if all {
        return Error::group("open_connection failed", errors);
    }
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    match errors.into_iter().next() {
        Some(first) if texts.iter().all(|text| *text == texts[0]) => first,
        _ => io::Error::other(format!("multiple errors: {}", texts.join(", "))).into(),
    }
}

impl fmt::Debug for OpenConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenConnection").field("begun", &self.state.has_begun()).finish_non_exhaustive()
    }
}
