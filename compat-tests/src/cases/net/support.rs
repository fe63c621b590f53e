//! What cases with connections share: an event log with turns, and connections.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use aioli_core::op::Domain;
use aioli_core::{Report, Result, get_running_loop, sleep};
use aioli_io::{Server, Socket, StreamReader, StreamWriter, open_connection, start_server};

/// What the loop's exception handler was told.
#[derive(Clone, Default)]
pub struct Reports(Rc<RefCell<Vec<String>>>);

impl Reports {
    /// Takes all reports of the running loop from now on.
    pub fn install(&self) {
        let reports = self.clone();
        let handler = move |report: &Report| {
            let error = report.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            reports.0.borrow_mut().push(format!("{}{error}", report.message));
        };
        get_running_loop().unwrap().set_exception_handler(Some(Box::new(handler)));
    }

    /// A handler of a test's own. The end of the test does not look at what it was told.
    pub fn new() -> Self {
        let reports = Reports::default();
        reports.install();
        reports
    }

    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// Events, each with the turn since the log was last started.
#[derive(Clone, Default)]
pub struct Log(Rc<(RefCell<Vec<String>>, Cell<u64>)>);

impl Log {
    pub fn start(&self) {
        self.0.0.take();
        self.0.1.set(turn());
    }

    pub fn add(&self, event: &str) {
        self.0.0.borrow_mut().push(format!("{event}@{}", turn() - self.0.1.get()));
    }

    /// The events, with their turns.
    pub fn take(&self) -> Vec<String> {
        self.0.0.take()
    }
}

pub fn turn() -> u64 {
    get_running_loop().unwrap().turn()
}

/// Lets everything run until nothing is left to do but wait.
pub async fn settle() -> Result<()> {
    sleep(Duration::from_millis(5)).await
}

/// A server that hands each connection's streams to the test.
pub struct Peer {
    pub server: Server,
    arrived: Rc<RefCell<Vec<(StreamReader, StreamWriter)>>>,
}

impl Peer {
    pub async fn start() -> Result<Self> {
        Self::with_limit(aioli_io::DEFAULT_LIMIT).await
    }

    pub async fn with_limit(limit: usize) -> Result<Self> {
        let arrived = Rc::new(RefCell::new(Vec::new()));
        let arriving = Rc::clone(&arrived);
        let take = move |reader, writer| {
            arriving.borrow_mut().push((reader, writer));
            async { Ok(()) }
        };
        let server = start_server(take, "127.0.0.1", 0).limit(limit).await?;
        Ok(Peer { server, arrived })
    }

    pub fn port(&self) -> u16 {
        self.server.local_addrs()[0].port()
    }

    /// A connection: the client's streams, and the server's.
    pub async fn connect(&self) -> Result<((StreamReader, StreamWriter), (StreamReader, StreamWriter))> {
        self.connect_with_limit(aioli_io::DEFAULT_LIMIT).await
    }

    pub async fn connect_with_limit(
        &self,
        limit: usize,
    ) -> Result<((StreamReader, StreamWriter), (StreamReader, StreamWriter))> {
        let client = open_connection("127.0.0.1", self.port()).limit(limit).await?;
        Ok((client, self.accept().await?))
    }

    /// The server's streams of the next connection.
    pub async fn accept(&self) -> Result<(StreamReader, StreamWriter)> {
        loop {
            let arrived = self.arrived.borrow_mut().pop();
            if let Some(streams) = arrived {
                return Ok(streams);
            }
            sleep(0.0).await?;
        }
    }
}

/// A connection between two ends, whose server does not listen any more.
pub async fn pair() -> Result<((StreamReader, StreamWriter), (StreamReader, StreamWriter))> {
    let peer = Peer::start().await?;
    let pair = peer.connect().await?;
    peer.server.close();
    Ok(pair)
}

/// Writes until the kernel takes no more, and then `extra` bytes; returns how many were written.
pub fn fill(writer: &StreamWriter, extra: usize) -> Result<usize> {
    let chunk = vec![b'x'; 65536];
    let mut count = 0;
    while writer.transport().get_write_buffer_size() == 0 {
        writer.write(&chunk)?;
        count += chunk.len();
    }
    writer.write(&vec![b'x'; extra])?;
    Ok(count + extra)
}

/// An address at which every connection is refused, for as long as the socket lives: it is bound, but does not listen.
pub fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::stream(Domain::Ipv4).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A listener that answers no connection attempt any more, and the connections that keep it busy.
pub fn unresponsive(host: impl Into<std::net::IpAddr>, port: u16) -> io::Result<(TcpListener, Vec<Socket>)> {
    let listener = TcpListener::bind((host.into(), port))?;
    let address = listener.local_addr()?;
    // The standard library asks for a queue of 128 or more; this makes it one of a single place.
    rustix::net::listen(&listener, 0)?;
    let mut busy = Vec::new();
    for _ in 0..4 {
        let socket = Socket::stream(Domain::of(&address)).unwrap();
        let mut connect = Box::pin(socket.connect(address));
        let _ = futures::FutureExt::now_or_never(&mut connect);
        drop(connect);
        busy.push(socket);
    }
    Ok((listener, busy))
}
