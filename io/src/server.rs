//! [`Server`]: listens, and hands connections to tasks.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use aioli_core::op::{Address, Op, Outcome, UnixAddress};
use aioli_core::ops::{Owner, Submitted};
use aioli_core::{Context, Error, Loop, Report, Result, TimerHandle, create_task, sleep};
use slab::Slab;

use crate::connection::Connection;
use crate::handle::Handle;
use crate::home::check_home;
use crate::reader::StreamReader;
use crate::socket_file::SocketFile;
use crate::waiters::Waiters;
use crate::writer::StreamWriter;

/// How long a server that could not accept waits before it tries again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// What a server calls for each connection: creates its task.
pub(crate) type Handler = Box<dyn Fn(&Rc<Connection>)>;

/// The handler that runs what `callback` returns.
pub(crate) fn handler<C, F, T>(callback: C) -> Handler
where
    C: Fn(StreamReader, StreamWriter) -> F + 'static,
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    Box::new(move |connection| {
        let task = create_task(callback(StreamReader::over(connection), StreamWriter::over(connection)));
        let connection = Rc::clone(connection);
        task.add_done_callback(move |task| match task.exception() {
            Ok(None) => (),
            Ok(Some(error)) => {
                connection.close();
                let report = Report::new("unhandled exception in client_connected_cb").with_error(error);
                connection.event_loop().call_exception_handler(report);
            }
            // It was cancelled.
            Err(_) => connection.close(),
        });
    })
}

/// A server that [`start_server`](crate::start_server) or [`start_unix_server`](crate::start_unix_server) started: asyncio's `Server`.
///
/// Clones are handles to the same server. It goes on when all of them are dropped, until its loop closes.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::Result;
/// use aioli_io::{StreamReader, StreamWriter, open_connection, start_server};
///
/// async fn shout(reader: StreamReader, writer: StreamWriter) -> Result<()> {
///     let line = reader.readline().await?;
///     writer.write(&line.to_ascii_uppercase())?;
///     writer.close();
///     writer.wait_closed().await
/// }
///
/// let server = start_server(shout, "127.0.0.1", 80).await?;
/// let (reader, writer) = open_connection("127.0.0.1", 80).await?;
/// server.close(); // it accepts no more; the connection goes on
/// assert!(!server.is_serving());
/// writer.write(b"ciao\n")?;
/// assert_eq!(reader.readline().await?, "CIAO\n");
/// server.wait_closed().await?;
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Server {
    shared: Rc<Shared>,
}

pub(crate) struct Shared {
    this: Weak<Shared>,
    event_loop: Loop,
    handler: Handler,
    limit: usize,
    backlog: u32,
    /// `None` when the server is closed.
    listeners: RefCell<Option<Vec<Listener>>>,
    serving: Cell<bool>,
    /// The context in which serving was started: that of the connections' tasks.
    context: RefCell<Context>,
    clients: RefCell<Slab<Weak<Connection>>>,
    /// The server is closed and has no connection any more.
    finished: Cell<bool>,
    waiters: Waiters,
    /// Somebody awaits `serve_forever`.
    forever: Cell<bool>,
    forever_ends: Waiters,
}

/// A socket to serve on.
pub(crate) struct Bound {
    pub(crate) socket: Handle,
    pub(crate) file: Option<SocketFile>,
    /// A connection that was accepted before, for nobody.
    pub(crate) accepted: Option<(Handle, Address)>,
}

struct Listener {
    socket: Handle,
    /// To be served first.
    accepted: Cell<Option<(Handle, Address)>>,
    /// Removed after the socket is closed.
    _file: Option<SocketFile>,
    address: Address,
    /// Runs while accepting is paused.
    retry: Cell<Option<TimerHandle>>,
}

impl Server {
    /// A server over bound sockets. It does not serve yet.
    pub(crate) fn new(
        event_loop: Loop,
        handler: Handler,
        limit: usize,
        backlog: u32,
        sockets: Vec<Bound>,
    ) -> Result<Self> {
        let listeners = sockets.into_iter().map(|Bound { socket, file, accepted }| {
            let address = socket.local_addr()?;
            Ok(Listener { socket, accepted: Cell::new(accepted), _file: file, address, retry: Cell::new(None) })
        });
        let listeners = listeners.collect::<Result<Vec<_>>>()?;
        let shared = Rc::new_cyclic(|this| Shared {
            this: this.clone(),
            event_loop,
            handler,
            limit,
            backlog,
            listeners: RefCell::new(Some(listeners)),
            serving: Cell::new(false),
            context: RefCell::default(),
            clients: RefCell::default(),
            finished: Cell::new(false),
            waiters: Waiters::default(),
            forever: Cell::new(false),
            forever_ends: Waiters::default(),
        });
        Ok(Server { shared })
    }

    /// Begins to accept connections. If the turn that this takes is cancelled or dropped, nobody gets the server, and it closes.
    pub(crate) async fn started(self) -> Result<Self> {
        let mut starting = Starting(Some(self.clone()));
        self.start_serving().await?;
        starting.0 = None;
        Ok(self)
    }

    /// Begins to accept connections, if that was not begun: asyncio's `Server.start_serving`. One turn passes.
    ///
    /// # Errors
    /// Cancelled; `Io` from the operating system; `Runtime` if the server is closed.
    pub async fn start_serving(&self) -> Result<()> {
        self.shared.start_serving()?;
        sleep(0.0).await
    }

    /// Serves until it is cancelled or dropped, and then closes the server: asyncio's `Server.serve_forever`. When it is cancelled
    /// it also waits until all connections have ended.
    ///
    /// # Errors
    /// Cancelled, also when somebody [closes](Self::close) the server; `Runtime` if it is awaited already, or the server is closed;
    /// as [`start_serving`](Self::start_serving).
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_core::timeout;
    /// use aioli_io::start_server;
    /// use std::time::Duration;
    ///
    /// let server = start_server(async |_reader, writer| writer.write(b"hi"), "127.0.0.1", 80).start_serving(false).await?;
    /// let hour = timeout(Duration::from_secs(3600), server.serve_forever());
    /// assert!(hour.await.unwrap_err().is_timeout());
    /// assert!(server.local_addrs().is_empty()); // it is closed
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    pub async fn serve_forever(&self) -> Result<()> {
        let shared = &self.shared;
        check_home(&shared.event_loop)?;
        if shared.forever.get() {
            return Err(Error::runtime("the server is already being awaited on serve_forever()"));
        }
        if !shared.is_open() {
            return Err(Error::runtime("the server is closed"));
        }
        shared.start_serving()?;
        let forever = Forever(shared);
        shared.forever.set(true);
        let cancelled = shared.forever_ends.wait().await.err().unwrap_or_else(|| Error::cancelled(None));
        drop(forever);
        // A second request changes nothing.
        let _ = self.wait_closed().await;
        Err(cancelled)
    }

    /// Stops accepting, and closes the listening sockets: asyncio's `Server.close`. Connections go on.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Closes all connections, as [`StreamWriter::close`] does: asyncio's `Server.close_clients`.
    pub fn close_clients(&self) {
        self.shared.clients().iter().for_each(|client| client.close());
    }

    /// Ends all connections at once: asyncio's `Server.abort_clients`. What they have not sent is lost.
    pub fn abort_clients(&self) {
        self.shared.clients().iter().for_each(|client| client.abort());
    }

    /// Whether it accepts connections: asyncio's `Server.is_serving`.
    pub fn is_serving(&self) -> bool {
        self.shared.serving.get()
    }

    /// Waits until the server is closed and all of its connections have ended: asyncio's `Server.wait_closed`. It closes nothing
    /// itself.
    ///
    /// # Errors
    /// Cancelled; `Runtime` outside of a task.
    pub async fn wait_closed(&self) -> Result<()> {
        while !self.shared.finished.get() {
            check_home(&self.shared.event_loop)?;
            self.shared.waiters.wait().await?;
        }
        Ok(())
    }

    /// The internet addresses that it listens on; none when it is closed. asyncio has these as `server.sockets`.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.shared.listeners.borrow().iter().flatten().filter_map(|listener| listener.address.internet()).collect()
    }

    /// The addresses of the Unix domain that it listens on; none when it is closed.
    pub fn unix_addrs(&self) -> Vec<UnixAddress> {
        let listeners = self.shared.listeners.borrow();
        listeners.iter().flatten().filter_map(|listener| listener.address.unix().cloned()).collect()
    }
}

/// Closes a server that nobody gets.
struct Starting(Option<Server>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(server) = &self.0 {
            server.close();
        }
    }
}

/// Closes the server when it is not served any more.
struct Forever<'a>(&'a Rc<Shared>);

impl Drop for Forever<'_> {
    fn drop(&mut self) {
        self.0.forever.set(false);
        self.0.close();
    }
}

impl Shared {
    fn is_open(&self) -> bool {
        self.listeners.borrow().is_some()
    }

    fn clients(&self) -> Vec<Rc<Connection>> {
        self.clients.borrow().iter().filter_map(|(_, client)| client.upgrade()).collect()
    }

    fn start_serving(&self) -> Result<()> {
        // In the place of each listener.
        let early: Vec<_> = match &*self.listeners.borrow() {
            None => return Err(Error::runtime("the server is closed")),
            Some(_) if self.serving.get() => return Ok(()),
            Some(listeners) => {
                for listener in listeners {
                    listener.socket.listen(self.backlog)?;
                }
                listeners.iter().map(|listener| listener.accepted.take()).collect()
            }
        };
        self.context.replace(Context::copy_current());
        self.serving.set(true);
        for (place, early) in early.into_iter().enumerate() {
            if let Some((socket, peer)) = early {
                self.accepted(socket, peer);
            }
            self.accept(place);
        }
        Ok(())
    }

    /// Accepts up to a number of connections on a listener.
    fn accept(&self, place: usize) {
        let Some(this) = self.this.upgrade() else { return };
        let owner: Rc<dyn Owner> = this;
        let listener = match &*self.listeners.borrow() {
            Some(listeners) => listeners[place].socket.resource(),
            None => return,
        };
        let tag = u32::try_from(place).expect("a server has few listeners");
        let credit = self.backlog.saturating_add(1);
        if let Ok(Submitted::Done(outcome)) = self.event_loop.submit(Op::Accept { listener, credit }, &owner, tag) {
            self.event_loop.post(&owner, tag, outcome);
        }
    }

    /// A connection came in. As in asyncio, the third turn from here is the first of its task.
    fn accepted(&self, socket: Handle, peer: Address) {
        let Some(this) = self.this.upgrade() else { return };
        let context = self.context.borrow().clone();
        // If the loop takes no handle any more, the socket is closed.
        let _ = context.run(|| self.event_loop.call_soon(move || this.connect(socket, peer)));
    }

    fn connect(&self, socket: Handle, peer: Address) {
        let Some(this) = self.this.upgrade() else { return };
        if !self.is_open() {
            return;
        }
        let connection = Connection::new(socket, Some(peer), self.limit);
        let place = self.clients.borrow_mut().insert(Rc::downgrade(&connection));
        connection.join(Membership { server: self.this.clone(), place });
        let _ = self.event_loop.call_soon(move || this.connected(&connection));
    }

    fn connected(&self, connection: &Rc<Connection>) {
        connection.start_reading();
        (self.handler)(connection);
    }

    /// A listener cannot accept: has it pause.
    #[cold]
    fn accept_failed(&self, place: usize, error: io::Error) {
        let message = if is_out_of_resources(&error) {
            "socket.accept() out of system resource"
        } else {
            "socket.accept() failed"
        };
        self.event_loop.call_exception_handler(Report::new(message).with_error(error.into()));
        let Some(this) = self.this.upgrade() else { return };
        let retry = self.event_loop.call_later(RETRY_DELAY, move || this.accept(place));
        if let (Ok(retry), Some(listeners)) = (retry, &*self.listeners.borrow()) {
            listeners[place].retry.set(Some(retry));
        }
    }

    fn close(&self) {
        let Some(listeners) = self.listeners.take() else { return };
        self.serving.set(false);
        listeners.iter().filter_map(|listener| listener.retry.take()).for_each(|retry| retry.cancel());
        drop(listeners);
        self.forever_ends.wake_all();
        self.maybe_finish();
    }

    fn maybe_finish(&self) {
        if !self.is_open() && self.clients.borrow().is_empty() && !self.finished.replace(true) {
            self.waiters.wake_all();
        }
    }
}

/// The errors that asyncio pauses for: EMFILE, ENFILE, ENOBUFS, ENOMEM, as Linux numbers them.
pub(crate) fn is_out_of_resources(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

impl Owner for Shared {
    fn complete(&self, tag: u32, outcome: Outcome, more: bool) {
        let Outcome::Accepted(result) = outcome else {
            debug_assert!(false, "a server was handed the outcome of {outcome:?}");
            return;
        };
        let place = tag as usize;
        match result {
            Ok((resource, peer)) => {
                let socket = Handle::adopt(&self.event_loop, resource);
                if self.is_open() {
                    self.accepted(socket, peer);
                }
                if !more {
                    self.accept(place);
                }
            }
            Err(_) if self.event_loop.is_closed() => self.close(),
            Err(error) if self.is_open() => self.accept_failed(place, error),
            Err(_) => (),
        }
    }
}

/// That a connection is one of a server's.
pub(crate) struct Membership {
    server: Weak<Shared>,
    place: usize,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let Some(server) = self.server.upgrade() else { return };
        let client = server.clients.borrow_mut().remove(self.place);
        drop(client);
        server.maybe_finish();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (internet, unix) = (self.local_addrs(), self.unix_addrs());
        let addresses: &dyn fmt::Debug = if unix.is_empty() { &internet } else { &unix };
        f.debug_struct("Server")
            .field("serving", &self.is_serving())
            .field("addresses", addresses)
            .field("clients", &self.shared.clients.borrow().len())
            .finish_non_exhaustive()
    }
}
