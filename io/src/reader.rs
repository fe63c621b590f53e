//! [`StreamReader`]: the receiving half of a stream.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use aioli_core::{Awaited, Error, ErrorKind, Result, Wait, WaitPoll, get_running_loop};
use bytes::{Bytes, BytesMut};

use crate::connection::Connection;
use crate::home::check_home;
use crate::input::{Input, Search, sorted};
use crate::transport::Transport;

/// The limit of a reader, in bytes, if none is given: asyncio's 64 KiB.
pub const DEFAULT_LIMIT: usize = 64 * 1024;

/// Reads from a stream: asyncio's `StreamReader`.
///
/// The connection receives in the background and the reader buffers. When more than twice the *limit* is buffered, receiving pauses;
/// it goes on when no more than the limit is left, or when a read needs more than is there. The limit also bounds what
/// [`readuntil`](Self::readuntil) and [`readline`](Self::readline) accept.
///
/// One task may wait for data at a time. A read that is cancelled or dropped has taken nothing: its data stays in the buffer. After an
/// error of the connection every read returns that error, even if there is data left in the buffer.
///
/// The data comes as [`Bytes`]. More than 512 bytes are a part of the buffer and not copied; they keep the whole piece of memory that
/// they are a part of, usually 8 KiB or more.
///
/// Reads that find their data in the buffer do not suspend the task; the 65th in one turn first lets everything else run that is
/// ready.
///
/// Dropping the reader of a [pipe](crate::connect_read_pipe) closes the pipe; that of a socket is closed with its writer.
///
/// Readers also implement `AsyncRead` and `AsyncBufRead` of the `futures` crates, which read from the same buffer. A task that is
/// cancelled there gets an `io::Error` that `?` makes the cancellation again. Codecs and other wrappers have errors of their own, in
/// which it is not found: await those with [`cancellable`](aioli_core::Cancellable::cancellable).
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::StreamReader;
///
/// // Fed by hand; those of `open_connection` are fed by a socket.
/// let reader = StreamReader::new(1024)?;
/// reader.feed_data(b"GET /\nrest");
/// reader.feed_eof();
/// assert_eq!(reader.readline().await?, "GET /\n");
/// assert_eq!(reader.read(2).await?, "re");
/// assert_eq!(reader.read_to_end().await?, "st");
/// assert!(reader.at_eof());
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub struct StreamReader {
    connection: Rc<Connection>,
    /// What a poll of `AsyncBufRead` has borrowed from the buffer. Few do, and readers lie in their coroutines.
    pub(crate) loan: Cell<Option<Box<BytesMut>>>,
}

impl StreamReader {
    /// A reader that is fed by hand, with [`feed_data`](Self::feed_data) and [`feed_eof`](Self::feed_eof). It does not pause.
    ///
    /// # Errors
    /// `Value` if the limit is 0; `Runtime` outside of a running loop.
    pub fn new(limit: usize) -> Result<Self> {
        check_limit(limit)?;
        Ok(Self::over(&Connection::detached(get_running_loop()?, limit)))
    }

    pub(crate) fn over(connection: &Rc<Connection>) -> Self {
        StreamReader { connection: Rc::clone(connection), loan: Cell::default() }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The connection under the stream.
    pub fn transport(&self) -> Transport {
        Transport::new(&self.connection)
    }

    #[inline]
    fn input(&self) -> &Input {
        &self.connection.input
    }

    /// Reads at most `count` bytes: what is there, or what comes first. Nothing means that the stream has ended, or `count` is 0.
    /// asyncio's `read(n)`. Cancelling it loses nothing: what comes is for the next read.
    ///
    /// # Errors
    /// Cancelled; the error of the connection; `Runtime` if another task waits for data.
    #[inline]
    pub fn read(&self, count: usize) -> impl Future<Output = Result<Bytes>> + use<'_> {
        Read::new(self, || "read", move |input: &Input, _| input.read(count).map(Ok))
    }

    /// Reads into memory of the caller's, as much as is there and fits, or what comes first, and returns how many bytes. 0 means that
    /// the stream has ended, or `buffer` is empty. As [`read`](Self::read) without memory of its own for the data. Cancelling it loses
    /// nothing: what comes is for the next read.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_io::{open_connection, start_server};
    ///
    /// start_server(async |_reader, writer| writer.write(b"ciao"), "127.0.0.1", 80).await?;
    /// let (reader, _writer) = open_connection("127.0.0.1", 80).await?;
    /// let mut buffer = [0; 3];
    /// let mut whole = Vec::new();
    /// loop {
    ///     match reader.read_into(&mut buffer).await? {
    ///         0 => break,
    ///         count => whole.extend_from_slice(&buffer[..count]),
    ///     }
    /// }
    /// assert_eq!(whole, b"ciao");
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    #[inline]
    pub fn read_into<'a>(&'a self, buffer: &'a mut [u8]) -> impl Future<Output = Result<usize>> + use<'a> {
        Read::new(self, || "read_into", move |input: &Input, _| input.read_into(buffer).map(Ok))
    }

    /// Hands what is there, or what comes first, to `f` where it lies: a read that neither copies nor allocates. Nothing means that the
    /// stream has ended. What `f` was given counts as read, also if `f` panics. Cancelling it loses nothing: `f` was not called.
    ///
    /// # Errors
    /// As [`read`](Self::read). Then `f` is not called.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_io::{StreamReader, StreamWriter, open_connection, start_server};
    ///
    /// async fn echo(reader: StreamReader, writer: StreamWriter) -> aioli_core::Result<()> {
    ///     while reader.read_with(|data| writer.write(data).map(|()| !data.is_empty())).await?? {
    ///         writer.drain().await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// start_server(echo, "127.0.0.1", 80).await?;
    /// let (reader, writer) = open_connection("127.0.0.1", 80).await?;
    /// writer.write(b"ciao")?;
    /// assert_eq!(reader.read_with(<[u8]>::to_vec).await?, b"ciao");
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    #[inline]
    pub fn read_with<R, F>(&self, f: F) -> impl Future<Output = Result<R>> + use<'_, R, F>
    where
        F: FnOnce(&[u8]) -> R,
    {
        let mut f = Some(f);
        Read::new(
            self,
            || "read_with",
            move |input: &Input, ready| {
                if !ready {
                    return None;
                }
                // Once it is done it is called no more.
                f.take().map(|f| Ok(input.take_with(f)))
            },
        )
    }

    /// Reads everything until the stream ends: asyncio's `read(-1)`. The limit does not bound it. What has come when it is cancelled
    /// stays unread.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_to_end(&self) -> impl Future<Output = Result<Bytes>> + use<'_> {
        Read::new(self, || "read_to_end", |input: &Input, _| input.is_eof().then(|| Ok(input.take(usize::MAX))))
    }

    /// Reads exactly `count` bytes, which may be more than the limit: asyncio's `readexactly`. What has come when it is cancelled
    /// stays unread.
    ///
    /// # Errors
    /// `IncompleteRead`, with what there was, if the stream ends before; and as [`read`](Self::read).
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_core::ErrorKind;
    /// use aioli_io::{open_connection, start_server};
    ///
    /// start_server(async |_reader, writer| writer.write(b"\x00\x05ciao"), "127.0.0.1", 80).await?;
    /// let (reader, _writer) = open_connection("127.0.0.1", 80).await?;
    /// let length = reader.readexactly(2).await?;
    /// let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    /// let short = reader.readexactly(length).await.unwrap_err();
    /// assert_eq!(short.kind(), ErrorKind::IncompleteRead);
    /// assert_eq!(short.partial().unwrap(), "ciao");
    /// assert_eq!(short.expected(), Some(5));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    pub fn readexactly(&self, count: usize) -> impl Future<Output = Result<Bytes>> + use<'_> {
        Read::new(
            self,
            || "readexactly",
            move |input: &Input, _| {
                if input.len() >= count {
                    return Some(Ok(input.take(count)));
                }
                input.is_eof().then(|| Err(Error::incomplete_read(input.take(usize::MAX), Some(count))))
            },
        )
    }

    /// Reads until `separator`, and returns the data with the separator: asyncio's `readuntil`. What has come when it is cancelled
    /// stays unread.
    ///
    /// # Errors
    /// - `LimitOverrun` if the data, without the separator, is longer than the limit. It stays in the buffer, and
    ///   [`consumed`](Error::consumed) bytes can be read off to go on.
    /// - `IncompleteRead`, with what there was, if the stream ends before.
    /// - `Value` if the separator is empty; and as [`read`](Self::read).
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_io::StreamReader;
    ///
    /// let reader = StreamReader::new(8)?;
    /// reader.feed_data(b"a=1;long=123456;");
    /// assert_eq!(reader.readuntil(";").await?, "a=1;");
    /// let overrun = reader.readuntil(";").await.unwrap_err();
    /// let part = reader.readexactly(overrun.consumed().unwrap()).await?;
    /// assert_eq!(part, "long=123456");
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    pub async fn readuntil(&self, separator: impl AsRef<[u8]>) -> Result<Bytes> {
        self.read_separated(&[separator.as_ref()], "readuntil").await
    }

    /// Reads until the first of several separators ends, and returns the data with that separator: asyncio's `readuntil` with a tuple.
    ///
    /// # Errors
    /// As [`readuntil`](Self::readuntil); `Value` also if there is no separator.
    pub async fn readuntil_any<S: AsRef<[u8]>>(&self, separators: &[S]) -> Result<Bytes> {
        self.read_separated(separators, "readuntil_any").await
    }

    /// Reads a line, with its `\n`: asyncio's `readline`. At the end of the stream that is the rest, which may be nothing. What has
    /// come when it is cancelled stays unread.
    ///
    /// # Errors
    /// `Value` if the line is longer than the limit. Such a line is dropped if its end has come already, otherwise everything in
    /// the buffer is. And as [`read`](Self::read).
    pub async fn readline(&self) -> Result<Bytes> {
        let error = match self.read_separated(&[b"\n"], "readline").await {
            Ok(line) => return Ok(line),
            Err(error) => error,
        };
        match (error.kind(), error.partial(), error.consumed()) {
            (ErrorKind::IncompleteRead, Some(partial), _) => Ok(partial.clone()),
            (ErrorKind::LimitOverrun, _, Some(consumed)) => {
                self.input().skip_line(consumed);
                self.connection.maybe_resume_reading();
                Err(Error::value(error.to_string()))
            }
            _ => Err(error),
        }
    }

    async fn read_separated<S: AsRef<[u8]>>(&self, separators: &[S], name: &'static str) -> Result<Bytes> {
        let separators = sorted(separators)?;
        let mut offset = 0;
        Read::new(
            self,
            move || name,
            |input: &Input, _| match input.search(&separators, offset) {
                Search::Found(data) => Some(Ok(data)),
                Search::Failed(error) => Some(Err(error)),
                Search::Missing(searched) => {
                    offset = searched;
                    None
                }
            },
        )
        .await
    }

    /// Puts back what a poll of `AsyncBufRead` borrowed.
    #[inline]
    pub(crate) fn restore(&self) {
        if self.input().has_lent() {
            self.input().restore(self.loan.take().map_or_else(BytesMut::new, |loan| *loan));
        }
    }

    #[inline]
    pub(crate) fn must_give_way(&self) -> bool {
        self.input().fairness.is_spent(self.connection.event_loop())
    }

    /// Whether the stream has ended and everything was read: asyncio's `at_eof`.
    pub fn at_eof(&self) -> bool {
        self.connection.settle();
        self.input().is_eof() && self.input().len() == 0
    }

    /// The error that every read returns now, if there is one: asyncio's `exception`.
    pub fn exception(&self) -> Option<Error> {
        self.connection.settle();
        self.input().error()
    }

    /// Has every read return this error, also one that waits now: asyncio's `set_exception`.
    pub fn set_exception(&self, error: Error) {
        self.connection.settle();
        self.input().set_error(error);
    }

    /// Adds data as if it had been received: asyncio's `feed_data`. At the end of the stream there is no more, and it is ignored.
    pub fn feed_data(&self, data: &[u8]) {
        self.connection.settle();
        if data.is_empty() || self.input().is_eof() {
            return;
        }
        self.connection.feed(&mut BytesMut::from(data));
        self.input().wake();
    }

    /// Ends the stream as if the peer had: asyncio's `feed_eof`.
    pub fn feed_eof(&self) {
        self.connection.settle();
        self.input().feed_eof();
        self.input().wake();
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> usize {
        self.input().limit()
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        // There is no writer whose drop would.
        if self.connection.is_read_only() {
            self.connection.close();
        }
    }
}

/// The future of every read: attempts it, and waits for more, until that succeeds.
struct Read<'a, N, F> {
    reader: &'a StreamReader,
    /// What it is called.
    name: N,
    /// Is told whether there is anything, or an end.
    attempt: F,
    /// Has nothing to be dropped but what [`give_up`](Self::give_up) does.
    wait: ManuallyDrop<Wait>,
}

impl<'a, N, F> Read<'a, N, F> {
    #[inline]
    fn new<T>(reader: &'a StreamReader, name: N, attempt: F) -> Self
    where
        N: Fn() -> &'static str,
        F: FnMut(&Input, bool) -> Option<Result<T>>,
    {
        Read { reader, name, attempt, wait: ManuallyDrop::new(Wait::new()) }
    }

    /// It does not wait any more.
    #[cold]
    #[inline(never)]
    fn give_up(&mut self) {
        self.wait.release();
        self.reader.input().forget();
        self.reader.connection.settle_soon();
    }
}

impl<N, F> Unpin for Read<'_, N, F> {}

impl<T, N: Fn() -> &'static str, F: FnMut(&Input, bool) -> Option<Result<T>>> Future for Read<'_, N, F> {
    type Output = Result<T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = &mut *self;
        let (reader, input) = (this.reader, this.reader.input());
        let ready;
        if this.wait.is_registered() {
            match this.wait.poll(cx) {
                WaitPoll::Pending => return Poll::Pending,
                WaitPoll::Fired => {
                    input.take_failure()?;
                    reader.connection.settle_here();
                }
                WaitPoll::Cancelled(error) => {
                    reader.connection.settle();
                    input.forget();
                    return Poll::Ready(Err(error));
                }
                WaitPoll::Moved(_) => {
                    reader.connection.settle();
                    input.forget();
                }
            }
            ready = input.is_ready();
        } else {
            reader.restore();
            reader.connection.settle();
            input.check()?;
            ready = input.is_ready();
            // Only what is ready counts.
            if ready && reader.must_give_way() {
                this.wait.register(cx)?.fire();
                return Poll::Pending;
            }
        }
        if let Some(result) = (this.attempt)(input, ready) {
            // Nothing panics here, so the result need not lie where it could be dropped.
            let result = ManuallyDrop::new(result);
            reader.connection.maybe_resume_reading();
            return Poll::Ready(ManuallyDrop::into_inner(result));
        }
        if input.is_awaited() {
            return Poll::Ready(Err(awaited((this.name)())));
        }
        if input.has_to_resume() {
            reader.connection.resume_reading();
        }
        check_home(reader.connection.event_loop())?;
        let token = this.wait.register_for(cx, Awaited::Data)?;
        input.wait(token);
        Poll::Pending
    }
}

impl<N, F> Drop for Read<'_, N, F> {
    #[inline]
    fn drop(&mut self) {
        if self.wait.is_registered() {
            self.give_up();
        }
    }
}

#[cold]
pub(crate) fn awaited(name: &str) -> Error {
    Error::runtime(format!("{name}() called while another task is already waiting for incoming data"))
}

/// # Errors
/// `Value` if the limit is 0.
pub(crate) fn check_limit(limit: usize) -> Result<()> {
    if limit == 0 { Err(Error::value("the limit must not be 0")) } else { Ok(()) }
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader")
            .field("bytes", &self.input().len())
            .field("eof", &self.input().is_eof())
            .field("limit", &self.input().limit())
            .field("error", &self.exception())
            .field("paused", &self.input().is_paused())
            .finish_non_exhaustive()
    }
}
