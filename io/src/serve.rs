//! [`start_server`]: from hosts and options to a [`Server`].

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use aioli_core::op::{Domain, SocketKind, SocketOption};
use aioli_core::{Error, Loop, Result, gather, get_running_loop};

use crate::address::{Address, Hosts, at};
use crate::dns::resolve;
use crate::handle::Handle;
use crate::reader::{DEFAULT_LIMIT, StreamReader, check_limit};
use crate::server::{Bound, Handler, Server, handler};
use crate::socket::Socket;
use crate::starting::Starting;
use crate::writer::StreamWriter;

/// Listens on a host and port, and calls `callback` for each connection: asyncio's `start_server`.
///
/// What the callback returns is run as a task. If that ends with an error or is cancelled, the connection is closed, and the error
/// is reported to the loop's exception handler. The task has the context in which serving was started.
///
/// The host is a name, an IP address, several of either, or everything if it is `""` or `None`: all interfaces, with a socket for
/// IPv4 and one for IPv6. Port 0 is any free port, another for each socket. The value that this returns is a future; its methods are
/// options.
///
/// # Errors
/// Cancelled. `Io` if a name is not known, or an address cannot be bound; the text has the address. `Value` if the limit is
/// 0. `Runtime` outside of a running loop.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::start_server;
///
/// let server = start_server(async |_reader, writer| writer.write(b"welcome"), "127.0.0.1", 0).backlog(10).await?;
/// let (reader, _writer) = aioli_io::open_connection("127.0.0.1", server.local_addrs()[0].port()).await?;
/// assert_eq!(reader.read_to_end().await?, "welcome");
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub fn start_server<C, F, T>(callback: C, host: impl Hosts, port: u16) -> StartServer
where
    C: Fn(StreamReader, StreamWriter) -> F + 'static,
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    StartServer::new(callback, Target::Hosts(host.into_hosts(), port))
}

/// As [`start_server`], with the host and the port in one text: `"127.0.0.1:8080"`, `"[::1]:8080"`, `":8080"`.
///
/// # Errors
/// As [`start_server`]; `Value` if the text is no such [`Address`].
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_io::{open_connection_to, start_server_on};
///
/// start_server_on(async |_reader, writer| writer.write(b"welcome"), "127.0.0.1:8080").await?;
/// let (reader, _writer) = open_connection_to("127.0.0.1:8080").await?;
/// assert_eq!(reader.read_to_end().await?, "welcome");
/// # Ok(())
/// # }).unwrap();
/// ```
pub fn start_server_on<C, F, T>(callback: C, address: &str) -> StartServer
where
    C: Fn(StreamReader, StreamWriter) -> F + 'static,
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    let target = match address.parse::<Address>() {
        Ok(address) => Target::Hosts(address.host().into_hosts(), address.port()),
        Err(error) => Target::Invalid(error),
    };
    StartServer::new(callback, target)
}

/// The future of [`start_server`], and its options: the keyword arguments of asyncio's `start_server`. Options that are set after
/// it was first polled change nothing. Dropped while it waits, it closes the server.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_io::{Socket, StartServer, open_connection, start_server};
/// use aioli_core::op::Domain;
///
/// let server = start_server(async |reader, _writer| reader.readline().await, "127.0.0.1", 80)
///     .limit(1024) // longer lines are an error
///     .backlog(10)
///     .start_serving(false)
///     .await?;
/// assert!(!server.is_serving());
/// server.start_serving().await?;
///
/// // On a socket that was made elsewhere.
/// let socket = Socket::stream(Domain::Ipv4)?;
/// socket.bind("127.0.0.1:81".parse()?)?;
/// StartServer::with_socket(async |_reader, writer| writer.write(b"welcome"), socket).await?;
/// assert_eq!(open_connection("127.0.0.1", 81).await?.0.read_to_end().await?, "welcome");
/// # Ok(())
/// # }).unwrap();
/// ```
#[must_use = "a server is not started unless this is awaited"]
pub struct StartServer {
    state: Starting<(Handler, Target, Options), Server>,
}

enum Target {
    Hosts(Vec<Option<String>>, u16),
    Socket(Socket),
    Invalid(Error),
}

struct Options {
    limit: usize,
    backlog: u32,
    family: Option<Domain>,
    reuse_address: bool,
    reuse_port: bool,
    keep_alive: bool,
    start_serving: bool,
}

impl StartServer {
    fn new<C, F, T>(callback: C, target: Target) -> Self
    where
        C: Fn(StreamReader, StreamWriter) -> F + 'static,
        F: Future<Output = Result<T>> + 'static,
        T: 'static,
    {
        let options = Options {
            limit: DEFAULT_LIMIT,
            backlog: 100,
            family: None,
            reuse_address: true,
            reuse_port: false,
            keep_alive: false,
            start_serving: true,
        };
        StartServer { state: Starting::New((handler(callback), target, options)) }
    }

    /// Serves on a socket that is bound: asyncio's `start_server(sock=…)`.
    ///
    /// # Errors
    /// As [`start_server`].
    pub fn with_socket<C, F, T>(callback: C, socket: Socket) -> Self
    where
        C: Fn(StreamReader, StreamWriter) -> F + 'static,
        F: Future<Output = Result<T>> + 'static,
        T: 'static,
    {
        Self::new(callback, Target::Socket(socket))
    }

    fn option(mut self, set: impl FnOnce(&mut Options)) -> Self {
        self.state.option(|(_, _, options)| set(options));
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

    /// Listens on addresses of this family only.
    pub fn family(self, family: Domain) -> Self {
        self.option(|options| options.family = Some(family))
    }

    /// Whether an address can be bound that connections of an earlier server still linger on (`SO_REUSEADDR`). On by default.
    pub fn reuse_address(self, on: bool) -> Self {
        self.option(|options| options.reuse_address = on)
    }

    /// Whether several sockets can be bound to the address that all have this on (`SO_REUSEPORT`). Off by default.
    pub fn reuse_port(self, on: bool) -> Self {
        self.option(|options| options.reuse_port = on)
    }

    /// Whether idle connections are probed (`SO_KEEPALIVE`). Off by default.
    pub fn keep_alive(self, on: bool) -> Self {
        self.option(|options| options.keep_alive = on)
    }

    /// Whether to accept connections at once, and not only with [`Server::start_serving`]. On by default.
    pub fn start_serving(self, on: bool) -> Self {
        self.option(|options| options.start_serving = on)
    }
}

impl Future for StartServer {
    type Output = Result<Server>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.state.poll(cx, start, "the server was started already")
    }
}

async fn start((handler, target, options): (Handler, Target, Options)) -> Result<Server> {
    check_limit(options.limit)?;
    let event_loop = get_running_loop()?;
    let sockets = match target {
        Target::Invalid(error) => return Err(error),
        Target::Socket(socket) => {
            let parts = socket.into_parts().await?;
            vec![Bound { socket: parts.handle, file: None, accepted: parts.accepted }]
        }
        Target::Hosts(hosts, port) => bind(&event_loop, &addresses(hosts, port, options.family).await?, &options)?,
    };
    let server = Server::new(event_loop, handler, options.limit, options.backlog, sockets)?;
    if options.start_serving { server.started().await } else { Ok(server) }
}

/// The addresses to listen on, each once.
async fn addresses(hosts: Vec<Option<String>>, port: u16, family: Option<Domain>) -> Result<Vec<SocketAddr>> {
    let mut all = Vec::new();
    let found: Vec<_> = hosts.into_iter().map(|host| listen_on(host, port, family)).collect();
    for address in gather(found).await?.into_iter().flatten() {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    Ok(all)
}

async fn listen_on(host: Option<String>, port: u16, family: Option<Domain>) -> Result<Vec<SocketAddr>> {
    if let Some(host) = host {
        return resolve(&host, port, family).await;
    }
    let mut all = vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()];
    all.retain(|address| family.is_none_or(|family| family == Domain::of(address)));
    Ok(all)
}

/// Sockets bound to the addresses. Those of a family that this machine does not have are left out.
fn bind(event_loop: &Loop, addresses: &[SocketAddr], options: &Options) -> Result<Vec<Bound>> {
    let mut sockets = Vec::new();
    for &address in addresses {
        let domain = Domain::of(&address);
        let socket = match Handle::open(event_loop, domain, SocketKind::Stream) {
            Ok(socket) => socket,
            Err(error) if error.as_io().is_some_and(|error| !crate::server::is_out_of_resources(error)) => continue,
            Err(error) => return Err(error),
        };
        if options.reuse_address {
            socket.set_option(SocketOption::ReuseAddress(true))?;
        }
        if options.reuse_port {
            socket.set_option(SocketOption::ReusePort(true))?;
        }
        if options.keep_alive {
            socket.set_option(SocketOption::KeepAlive(true))?;
        }
        if domain == Domain::Ipv6 {
            // Otherwise it would take the address of the IPv4 socket too.
            socket.set_option(SocketOption::OnlyV6(true))?;
        }
        match socket.bind(address.into())? {
            Ok(()) => sockets.push(Bound { socket, file: None, accepted: None }),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => (),
            Err(error) => return Err(at("error while attempting to bind on address", address, error).into()),
        }
    }
    if sockets.is_empty() {
        let text = format!("could not bind on any address out of {addresses:?}");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text).into());
    }
    Ok(sockets)
}

impl fmt::Debug for StartServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartServer").field("begun", &self.state.has_begun()).finish_non_exhaustive()
    }
}
