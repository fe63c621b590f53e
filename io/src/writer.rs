//! [`StreamWriter`]: the sending half of a stream.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use aioli_core::{Result, sleep};
use bytes::{Bytes, BytesMut};

use crate::connection::{Connection, lost_error};
use crate::home::check_home;
use crate::transport::Transport;

/// Writes to a stream: asyncio's `StreamWriter`.
///
/// A write is sent at once as far as the kernel takes it; the rest is queued and sent in the background. [`drain`](Self::drain) after
/// writes is what keeps the queue short. Dropping a writer closes the connection, after what was written is sent.
///
/// Writers also implement `AsyncWrite` of the `futures` crates. There a flush waits until everything is sent, and a close is that and
/// [`write_eof`](Self::write_eof).
///
/// ```no_run
/// # async fn example() -> aioli_core::Result<()> {
/// let (reader, writer) = aioli_io::open_connection("example.org", 80).await?;
/// writer.write(b"GET / HTTP/1.0\r\nHost: example.org\r\n\r\n")?;
/// writer.drain().await?;
/// let page = reader.read_to_end().await?;
/// writer.close();
/// writer.wait_closed().await
/// # }
/// ```
pub struct StreamWriter {
    connection: Rc<Connection>,
}

impl StreamWriter {
    pub(crate) fn over(connection: &Rc<Connection>) -> Self {
        StreamWriter { connection: Rc::clone(connection) }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Writes data: asyncio's `StreamWriter.write`. It never waits: what the kernel does not take is copied to the queue.
    ///
    /// The data leaves at once, so the peer's answer to it may be waited for in whichever way. Over TCP a small write leaves at the end
    /// of the loop's turn while eight or more connections have been writing in every turn: a task that blocks its thread then,
    /// which it should not, holds it up.
    ///
    /// On a connection that broke it does nothing, and [`drain`](Self::drain) tells of the error; the fifth such write and those after
    /// are reported to the loop's exception handler.
    ///
    /// # Errors
    /// `Runtime` after [`write_eof`](Self::write_eof) and after the stream was closed or aborted; nothing of this data is sent then.
    #[inline]
    pub fn write(&self, data: &[u8]) -> Result<()> {
        self.connection.write(data, None)
    }

    /// Writes data that is given away. What the kernel does not take is queued, from 4 KiB on without copying it.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_bytes(&self, data: Bytes) -> Result<()> {
        self.connection.write(&data, Some(&data))
    }

    /// Writes several pieces of data, as one: asyncio's `writelines`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn writelines<I>(&self, lines: I) -> Result<()>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let mut lines = lines.into_iter();
        let Some(first) = lines.next() else { return self.write(b"") };
        let Some(second) = lines.next() else { return self.write(first.as_ref()) };
        let mut data = BytesMut::from(first.as_ref());
        data.extend_from_slice(second.as_ref());
        lines.for_each(|line| data.extend_from_slice(line.as_ref()));
        self.write_bytes(data.freeze())
    }

    /// Waits until the queue is short enough to write more: if it has grown beyond the high limit, until it is down to the low one.
    /// asyncio's `drain`. Cancelling it leaves the queue as it is.
    ///
    /// Several tasks may wait at once. It does not wait until everything is sent. The 65th drain in one turn that need not wait
    /// first lets everything else run that is ready.
    ///
    /// # Errors
    /// Cancelled; the error of the connection; `Io` "connection lost" if it has ended already, whose error, if there was one,
    /// [`wait_closed`](Self::wait_closed) tells.
    #[inline]
    pub async fn drain(&self) -> Result<()> {
        let (input, output) = (&self.connection.input, &self.connection.output);
        input.check()?;
        let inline = !self.connection.is_closing() && !output.is_paused();
        if inline && !output.fairness.is_spent(self.connection.event_loop()) {
            return Ok(());
        }
        self.drain_in_turns(inline).await
    }

    async fn drain_in_turns(&self, inline: bool) -> Result<()> {
        check_home(self.connection.event_loop())?;
        if inline || self.connection.is_closing() {
            // A task that writes and drains in turns is to see, at some time, that the connection is lost.
            sleep(0.0).await?;
        }
        self.not_lost()?;
        if inline || !self.connection.output.is_paused() || self.connection.output.wait().await? {
            return Ok(());
        }
        self.connection.end().unwrap_or(Ok(()))
    }

    /// # Errors
    /// "Connection lost", if it is.
    fn not_lost(&self) -> Result<()> {
        if self.connection.end().is_some() { Err(lost_error()) } else { Ok(()) }
    }

    /// Tells the peer that nothing more comes, once what was written is sent: asyncio's `write_eof`. Reading goes on.
    pub fn write_eof(&self) {
        self.connection.write_eof();
    }

    /// Whether the stream can tell the peer that nothing more comes while reading goes on: asyncio's `can_write_eof`. True for
    /// every stream there is yet.
    pub fn can_write_eof(&self) -> bool {
        true
    }

    /// Closes the stream: stops receiving, sends what was written, and then ends the connection. asyncio's `close`. It returns at
    /// once; [`wait_closed`](Self::wait_closed) waits.
    pub fn close(&self) {
        self.connection.close();
    }

    /// Whether the stream is closed, is about to be, or broke: asyncio's `is_closing`.
    pub fn is_closing(&self) -> bool {
        self.connection.is_closing()
    }

    /// Waits until the connection has ended: asyncio's `wait_closed`. Cancelling it changes nothing for the connection.
    ///
    /// # Errors
    /// Cancelled; the error that the connection ended with.
    pub async fn wait_closed(&self) -> Result<()> {
        self.connection.wait_closed().await
    }

    /// The connection under the stream: asyncio's `StreamWriter.transport`.
    pub fn transport(&self) -> Transport {
        Transport::new(&self.connection)
    }

    /// The address of this end: asyncio's `get_extra_info('sockname')`.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.transport().local_addr()
    }

    /// The address of the other end: asyncio's `get_extra_info('peername')`.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.transport().peer_addr()
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.connection.close();
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamWriter").field(&self.connection).finish()
    }
}
