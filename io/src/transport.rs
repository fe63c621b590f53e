//! [`Transport`]: the connection under a stream.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use aioli_core::Result;
use aioli_core::op::{Address, SocketOption, UnixAddress};

use crate::connection::Connection;

/// The connection under a stream: what asyncio has as `writer.transport` and `get_extra_info`.
///
/// Clones are handles to the same connection. They do not keep it open.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_io::{open_connection, start_server};
///
/// start_server(async |reader, _writer| reader.read_to_end().await, "127.0.0.1", 80).await?;
/// let (_reader, writer) = open_connection("127.0.0.1", 80).await?;
/// let transport = writer.transport();
/// assert_eq!(transport.get_write_buffer_limits(), (16 * 1024, 64 * 1024));
/// transport.set_write_buffer_limits(Some(4096), None)?;
/// assert_eq!(transport.get_write_buffer_limits(), (1024, 4096));
/// transport.abort();
/// assert!(writer.is_closing());
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Transport {
    connection: Rc<Connection>,
}

impl Transport {
    pub(crate) fn new(connection: &Rc<Connection>) -> Self {
        Transport { connection: Rc::clone(connection) }
    }

    /// Stops receiving, sends what is queued, and then ends the connection: asyncio's `transport.close`.
    pub fn close(&self) {
        self.connection.close();
    }

    /// Ends the connection at once: asyncio's `transport.abort`. What is queued is not sent.
    pub fn abort(&self) {
        self.connection.abort();
    }

    /// Whether the connection is closed, is about to be, or broke: asyncio's `transport.is_closing`.
    pub fn is_closing(&self) -> bool {
        self.connection.is_closing()
    }

    /// Whether it receives: it is not closing, and the reader does not have too much. asyncio's `transport.is_reading`.
    pub fn is_reading(&self) -> bool {
        self.connection.is_reading()
    }

    /// How many bytes were written that the kernel has not taken yet: asyncio's `transport.get_write_buffer_size`.
    pub fn get_write_buffer_size(&self) -> usize {
        self.connection.output.size()
    }

    /// The limits of flow control, low and high, in bytes: asyncio's `transport.get_write_buffer_limits`.
    pub fn get_write_buffer_limits(&self) -> (usize, usize) {
        self.connection.output.limits()
    }

    /// Sets the limits of flow control, in bytes: with more than `high` queued, [`drain`](crate::StreamWriter::drain) waits until
    /// there is no more than `low`. The default is 64 KiB and 16 KiB; if only one is given, `high` is four times `low`. asyncio's
    /// `transport.set_write_buffer_limits`.
    ///
    /// # Errors
    /// `Value` if `low` is more than `high`.
    pub fn set_write_buffer_limits(&self, high: Option<usize>, low: Option<usize>) -> Result<()> {
        self.connection.output.set_limits(high, low)
    }

    /// The address of this end; asyncio's `get_extra_info('sockname')`. It is known also after the connection is lost. `None` if it
    /// is no internet socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.connection.addresses().local.as_ref().and_then(Address::internet)
    }

    /// The address of the other end; asyncio's `get_extra_info('peername')`.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.connection.addresses().peer.as_ref().and_then(Address::internet)
    }

    /// The address of this end, if it is a socket of the Unix domain.
    pub fn local_unix_addr(&self) -> Option<UnixAddress> {
        self.connection.addresses().local.as_ref().and_then(Address::unix).cloned()
    }

    /// The address of the other end, if it is a socket of the Unix domain. Clients mostly have none: they are unnamed.
    pub fn peer_unix_addr(&self) -> Option<UnixAddress> {
        self.connection.addresses().peer.as_ref().and_then(Address::unix).cloned()
    }

    /// Whether small writes are sent without waiting for the acknowledgement of those before (`TCP_NODELAY`). Streams start with this
    /// on.
    ///
    /// # Errors
    /// `Io` from the operating system, or if the connection is lost.
    pub fn set_nodelay(&self, on: bool) -> Result<()> {
        self.set_option(SocketOption::NoDelay(on))
    }

    /// Sets an option of the socket.
    ///
    /// # Errors
    /// `Io` from the operating system, or if the connection is lost.
    pub fn set_option(&self, option: SocketOption) -> Result<()> {
        self.connection.set_option(option)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connection.fmt(f)
    }
}
