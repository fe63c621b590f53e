//! The traits of the `futures` crates, for readers and writers.
//!
//! Their polls have no object that lives as long as the await, so they leave a waker and not an await point. A task that is cancelled
//! while it is suspended there gets an `io::Error` made of the cancellation, which `?` turns back into it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use aioli_core::take_request;
use bytes::{Buf, BytesMut};
use futures::io::{AsyncBufRead, AsyncRead, AsyncWrite};

use crate::connection::lost_error;
use crate::reader::{StreamReader, awaited};
use crate::writer::StreamWriter;

/// What a poll takes of the data even if the queue is limited to less.
const WRITE_AT_LEAST: usize = 4096;

impl StreamReader {
    /// Ready when a read need not wait.
    fn poll_ready(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.connection().settle();
        let input = &self.connection().input;
        if let Some(cancelled) = take_request() {
            return Poll::Ready(Err(cancelled.into()));
        }
        input.check()?;
        if input.is_ready() {
            if self.must_give_way() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Ok(()));
        }
        if input.is_awaited() {
            return Poll::Ready(Err(awaited("poll_read").into()));
        }
        if input.has_to_resume() {
            self.connection().resume_reading();
        }
        input.wait_with(cx.waker());
        Poll::Pending
    }
}

impl AsyncRead for StreamReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.restore();
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        std::task::ready!(self.poll_ready(cx))?;
        let count = self.connection().input.copy_to(buffer);
        self.connection().maybe_resume_reading();
        Poll::Ready(Ok(count))
    }
}

impl AsyncBufRead for StreamReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.loan.get_mut().as_ref().is_none_or(|loan| loan.is_empty()) {
            std::task::ready!(this.poll_ready(cx))?;
            **this.loan.get_mut().get_or_insert_default() = this.connection().input.lend();
        }
        Poll::Ready(Ok(this.loan.get_mut().as_deref().map_or(&[], |loan| loan)))
    }

    fn consume(self: Pin<&mut Self>, count: usize) {
        let this = self.get_mut();
        let Some(loan) = this.loan.get_mut() else { return };
        let count = count.min(loan.len());
        loan.advance(count);
        if loan.is_empty() {
            // It would keep the buffer's memory.
            **loan = BytesMut::new();
        }
        this.connection().input.use_up(count);
        this.connection().maybe_resume_reading();
    }
}

impl AsyncWrite for StreamWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let connection = self.connection();
        if let Some(cancelled) = take_request() {
            return Poll::Ready(Err(cancelled.into()));
        }
        self.check()?;
        if connection.output.is_paused() {
            connection.output.wait_with(cx.waker());
            return Poll::Pending;
        }
        if connection.output.fairness.is_spent(connection.event_loop()) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let room = connection.output.room().max(WRITE_AT_LEAST);
        let data = &data[..data.len().min(room)];
        self.write(data)?;
        self.check()?;
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let connection = self.connection();
        if let Some(cancelled) = take_request() {
            return Poll::Ready(Err(cancelled.into()));
        }
        let sent = connection.output.size() == 0 && !connection.is_failing();
        if sent || connection.end().is_some() {
            return Poll::Ready(self.check_sent());
        }
        connection.output.wait_with(cx.waker());
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_eof();
        self.poll_flush(cx)
    }
}

impl StreamWriter {
    /// The error of a connection that did not send everything. One that was closed, as a pipe is by a close, may have.
    fn check_sent(&self) -> io::Result<()> {
        let output = &self.connection().output;
        self.connection().input.check()?;
        match self.connection().end() {
            Some(Err(error)) => Err(error.into()),
            _ if output.size() > 0 || output.is_cut() => Err(lost_error().into()),
            _ => Ok(()),
        }
    }

    /// The error of a connection that broke, or is lost.
    fn check(&self) -> io::Result<()> {
        self.connection().input.check()?;
        match self.connection().end() {
            Some(end) => Err(end.err().unwrap_or_else(lost_error).into()),
            None => Ok(()),
        }
    }
}
