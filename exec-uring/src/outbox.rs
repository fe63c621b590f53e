//! [`Outbox`]: small sends of a turn, handed to the kernel together where there are many.
//!
//! A part is sent without waiting, so that the kernel is through with the memory when it has taken the queue. If it takes only some,
//! it is given the [rest](What::Rest), with memory of its own. So a part counts as sent, as what is in the socket's buffer does.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use aioli_core::op::ShutdownHow;
use aioli_exec_linux::{Direction, Parcel, Timeout, socket, syscall};
use bytes::Bytes;
use io_uring::{opcode, squeue, types};
use socket2::SockRef;

use crate::core::Core;
use crate::ring::Event;
use crate::rung::Rung;
use crate::table::{Request, What};
use crate::token::{Key, Token};

/// The sending side of an entry.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Where in the parcel its part is, if it has one.
    part: u32,
    /// The kernel did not take a part at once, and now has the rest of it.
    pub(crate) rest: Option<Key>,
    /// What became of a part, if it failed.
    pub(crate) error: Option<i32>,
    /// The user has ended the write side…
    is_shut: bool,
    /// …which is to be done after the rest.
    shut_down: bool,
}

impl Core {
    /// Tries to send at once, unless an op is before it.
    #[inline(always)]
    pub(crate) fn try_send(&mut self, n: usize, data: &[u8]) -> Option<io::Result<usize>> {
        let entry = &mut self.table[n];
        if entry.waiting.is_some() || entry.outbox.rest.is_some() || entry.outbox.error.is_some() {
            return self.try_send_rarely(n, data);
        }
        self.try_send_unhindered(n, data)
    }

    #[inline(never)]
    fn try_send_rarely(&mut self, n: usize, data: &[u8]) -> Option<io::Result<usize>> {
        let entry = &mut self.table[n];
        if entry.has_line(Direction::Write) || entry.outbox.rest.is_some() {
            return None;
        }
        if let Some(errno) = entry.send_error() {
            return Some(Err(io::Error::from_raw_os_error(errno)));
        }
        self.try_send_unhindered(n, data)
    }

    #[inline(always)]
    fn try_send_unhindered(&mut self, n: usize, data: &[u8]) -> Option<io::Result<usize>> {
        let entry = &mut self.table[n];
        // What becomes of it must reach whoever watches the connection.
        if Parcel::is_small(data.len())
            && entry.inbox.is_attended()
            && !entry.outbox.is_shut
            && self.rungs.has(Rung::BatchedSends)
            && self.burst.note(n)
        {
            return self.put_off(n, data);
        }
        if self.parcel.has(n, entry.outbox.part) {
            return self.send_after_part(n, data);
        }
        Some(self.send_now(n, data))
    }

    /// A small send waits for the end of the turn, if there is room for it.
    #[inline(never)]
    fn put_off(&mut self, n: usize, data: &[u8]) -> Option<io::Result<usize>> {
        let part = &mut self.table[n].outbox.part;
        if self.parcel.add(n, part, data) {
            return Some(Ok(data.len()));
        }
        if self.parcel.has(n, *part) {
            return self.send_after_part(n, data);
        }
        Some(self.send_now(n, data))
    }

    #[inline(never)]
    fn send_after_part(&mut self, n: usize, data: &[u8]) -> Option<io::Result<usize>> {
        self.send_part(n);
        self.try_send_directly(n, data)
    }

    #[inline(always)]
    fn send_now(&mut self, n: usize, data: &[u8]) -> io::Result<usize> {
        let entry = &self.table[n];
        match syscall::send(entry.fd.as_fd(), entry.kind.socket, data) {
            Ok(count) => Ok(count),
            Err(error) => Err(self.reason(n, error)),
        }
    }

    #[cold]
    #[inline(never)]
    fn reason(&mut self, n: usize, error: io::Error) -> io::Error {
        if error.raw_os_error() == Some(libc::EPIPE) { self.reason_of_pipe(n) } else { error }
    }

    /// The error of a connection that cannot be sent on. The receive that goes on may have taken it from the socket.
    #[cold]
    fn reason_of_pipe(&mut self, n: usize) -> io::Error {
        if self.table[n].inbox.is_attended() {
            // If this fails, so does the next turn.
            let _ = self.reap();
        }
        io::Error::from_raw_os_error(self.table[n].inbox.failure().unwrap_or(libc::EPIPE))
    }

    fn try_send_directly(&mut self, n: usize, data: &[u8]) -> Option<io::Result<usize>> {
        let entry = &self.table[n];
        match entry.send_error() {
            Some(errno) => Some(Err(io::Error::from_raw_os_error(errno))),
            None if entry.outbox.rest.is_some() => None,
            None => Some(self.send_now(n, data)),
        }
    }

    /// Sends the part of an entry now, since something else is to come after it.
    pub(crate) fn send_part(&mut self, n: usize) {
        let entry = &mut self.table[n];
        let Some(data) = self.parcel.take(n, entry.outbox.part) else { return };
        let sent = match syscall::send(entry.fd.as_fd(), entry.kind.socket, data) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return self.send_failed(n, error.raw_os_error().unwrap_or(libc::EIO)),
        };
        if sent < data.len() {
            let rest = Bytes::copy_from_slice(&data[sent..]);
            self.send_rest(n, rest, 0);
        }
    }

    /// Has the kernel send all parts now: the turn is over.
    pub(crate) fn send_parts(&mut self) -> io::Result<()> {
        self.burst.end_turn();
        if self.parcel.is_empty() {
            return Ok(());
        }
        self.post_parts();
        self.ring.enter(Timeout::Zero)?;
        self.finish_parts()
    }

    /// Forgets what was reported as sent and the kernel has not taken.
    pub(crate) fn discard(&mut self, n: usize) {
        self.send_part(n);
        if let Some(key) = self.table[n].outbox.rest {
            self.cancel_request(key);
        }
    }

    /// Whether closing an entry is to reset the connection, and not to send anything more.
    pub(crate) fn is_to_reset(&self, n: usize) -> bool {
        let entry = &self.table[n];
        entry.outbox.rest.is_some() && matches!(SockRef::from(&entry.fd).linger(), Ok(Some(Duration::ZERO)))
    }

    /// Hands all parts to the kernel's queue.
    pub(crate) fn post_parts(&mut self) {
        for (place, n, data) in self.parcel.parts() {
            // All of it, or a report.
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_WAITALL;
            let send = opcode::Send::new(types::Fd(self.table[n].raw()), data.as_ptr(), data.len() as u32);
            let send = send.flags(flags).build().flags(squeue::Flags::SKIP_SUCCESS);
            // SAFETY: the data is not touched before the parcel is cleared, which is when the kernel has taken the whole queue. Since
            // it does not wait to send, it is through with it then.
            unsafe { self.ring.push(send, Token::Part(place as u32)) };
        }
    }

    /// A part was not sent, or not all of it.
    pub(crate) fn part_failed(&mut self, place: usize, event: Event) {
        let (n, data) = self.parcel.part(place);
        match event.result {
            count if count >= 0 || matches!(-count, libc::EAGAIN | libc::EINTR) => {
                let rest = Bytes::copy_from_slice(&data[count.max(0) as usize..]);
                self.send_rest(n, rest, 0);
            }
            error => self.send_failed(n, -error),
        }
    }

    fn send_rest(&mut self, n: usize, data: Bytes, sent: usize) {
        if data.len() == sent {
            return;
        }
        let entry = &mut self.table[n];
        let left = &data[sent..];
        let send = opcode::Send::new(types::Fd(entry.raw()), left.as_ptr(), left.len() as u32);
        let send = send.flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).build();
        let key = self.requests.insert(Request::new(What::Rest { entry: n, data, sent }));
        // SAFETY: the request holds the data until it is completed; bytes do not move.
        unsafe { self.ring.push(send, Token::Request(key)) };
        entry.outbox.rest = Some(key);
        entry.held += 1;
    }

    /// The kernel sent some of a rest.
    pub(crate) fn rest_sent(&mut self, n: usize, data: Bytes, sent: usize, event: Event, cancelled: bool) {
        let entry = &mut self.table[n];
        entry.held -= 1;
        entry.outbox.rest = None;
        let again = matches!(-event.result, libc::EINTR | libc::EAGAIN) && !cancelled;
        match event.count() {
            // The kernel tells what was sent, and not that it was cancelled.
            Ok(count) if cancelled && sent + count < data.len() => self.send_failed(n, libc::ECANCELED),
            Ok(count) if count > 0 => self.send_rest(n, data, sent + count),
            Err(_) if again => self.send_rest(n, data, sent),
            Ok(_) => self.send_failed(n, libc::EPIPE),
            Err(error) => self.send_failed(n, error.raw_os_error().unwrap_or(libc::EIO)),
        }
        let entry = &mut self.table[n];
        if entry.outbox.rest.is_some() {
            return;
        }
        if std::mem::take(&mut entry.outbox.shut_down) {
            // It fails if the connection is gone.
            let _ = socket::shutdown(&SockRef::from(&entry.fd), ShutdownHow::Write);
        }
        if entry.closing {
            return self.release(n);
        }
        self.advance(n, Direction::Write);
    }

    /// What was reported as sent was not: the connection is broken.
    fn send_failed(&mut self, n: usize, errno: i32) {
        let entry = &mut self.table[n];
        entry.outbox.error = Some(errno);
        if !entry.closing {
            self.tell(n);
        }
    }

    /// Ends one or both directions of a connection, after what was sent before.
    pub(crate) fn shut_down(&mut self, n: usize, how: ShutdownHow) -> io::Result<()> {
        self.send_part(n);
        let entry = &mut self.table[n];
        entry.outbox.is_shut |= how != ShutdownHow::Read;
        if entry.outbox.rest.is_none() {
            return socket::shutdown(&SockRef::from(&entry.fd), how);
        }
        entry.outbox.shut_down |= how != ShutdownHow::Read;
        match how {
            ShutdownHow::Write => Ok(()),
            _ => socket::shutdown(&SockRef::from(&entry.fd), ShutdownHow::Read),
        }
    }
}
