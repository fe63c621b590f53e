//! The sending side of streams: small sends that wait for the end of the turn, and what the kernel then did not take.

use std::io;
use std::time::{Duration, Instant};

use aioli_core::driver::Completions;
use aioli_core::op::{Resource, ShutdownHow};
use aioli_exec_linux::{Parcel, Timeout, socket};
use bytes::Bytes;
use socket2::SockRef;

use crate::epoll::EDGES;
use crate::reactor::Reactor;
use crate::resource::{Rest, gone};

/// How long the end of the driver may take to send what is on its way.
const LINGER: Duration = Duration::from_secs(1);

impl Reactor {
    /// Tries to send at once, unless an op is before it.
    #[inline(always)]
    pub(crate) fn try_send(&mut self, id: Resource, data: &[u8], out: &mut Completions) -> Option<io::Result<usize>> {
        let Some((n, entry)) = self.table.find_mut(id) else { return gone() };
        if let Some(answer) = entry.may_send() {
            return answer;
        }
        if Parcel::is_small(data.len()) && entry.is_sound() && self.burst.note(n) {
            return self.put_off(n, data, out);
        }
        if self.parcel.has(n, entry.part) {
            return self.send_after_part(n, data, out);
        }
        Some(entry.send(data))
    }

    /// A small send waits for the end of the turn, if there is room for it.
    #[inline(never)]
    fn put_off(&mut self, n: usize, data: &[u8], out: &mut Completions) -> Option<io::Result<usize>> {
        let entry = &mut self.table[n];
        if self.parcel.add(n, &mut entry.part, data) {
            return Some(Ok(data.len()));
        }
        self.send_after_part(n, data, out)
    }

    #[inline(never)]
    fn send_after_part(&mut self, n: usize, data: &[u8], out: &mut Completions) -> Option<io::Result<usize>> {
        self.send_part(n, out);
        self.try_send_directly(n, data)
    }

    fn try_send_directly(&mut self, n: usize, data: &[u8]) -> Option<io::Result<usize>> {
        let entry = &mut self.table[n];
        entry.may_send().unwrap_or_else(|| Some(entry.send(data)))
    }

    /// Sends the part of an entry now, since something else is to come after it.
    pub(crate) fn send_part(&mut self, n: usize, out: &mut Completions) {
        let entry = &mut self.table[n];
        let Some(data) = self.parcel.take(n, entry.part) else { return };
        if let Some(rest) = rest(data, entry.send(data)) {
            self.keep(n, rest, out);
        }
    }

    /// Sends all parts: the turn is over.
    #[inline]
    pub(crate) fn send_parts(&mut self, out: &mut Completions) {
        self.burst.end_turn();
        if !self.parcel.is_empty() {
            self.send_all(out);
        }
    }

    fn send_all(&mut self, out: &mut Completions) {
        let mut parcel = std::mem::take(&mut self.parcel);
        for (_, n, data) in parcel.parts() {
            if let Some(rest) = rest(data, self.table[n].send(data)) {
                self.keep(n, rest, out);
            }
        }
        parcel.clear();
        self.parcel = parcel;
    }

    /// Keeps what the kernel did not take of a part. It has said so, and tells when it takes more.
    #[cold]
    fn keep(&mut self, n: usize, rest: io::Result<Bytes>, out: &mut Completions) {
        match rest {
            Ok(data) => {
                self.resting += 1;
                self.table[n].waiting().rest = Some(Rest { data, shut_down: false });
            }
            Err(error) => self.send_failed(n, &error, out),
        }
    }

    /// Sends what the kernel did not take before, as far as it takes it now.
    pub(crate) fn send_rest(&mut self, n: usize, out: &mut Completions) {
        let Some((rest, result)) = self.table[n].send_rest() else { return };
        self.resting -= 1;
        if let Err(error) = result {
            self.send_failed(n, &error, out);
        }
        if rest.shut_down
            && let Some(fd) = self.table[n].fd.ours()
        {
            // It fails if the connection is gone.
            let _ = socket::shutdown(&SockRef::from(&fd), ShutdownHow::Write);
        }
    }

    /// Forgets what was reported as sent and the kernel has not taken.
    pub(crate) fn discard(&mut self, n: usize, out: &mut Completions) {
        self.send_part(n, out);
        if self.table[n].waits().is_some_and(|waiting| waiting.rest.take().is_some()) {
            self.resting -= 1;
        }
    }

    /// Ends one or both directions of a connection, after what was sent before.
    pub(crate) fn shut_down(&mut self, n: usize, how: ShutdownHow, out: &mut Completions) -> io::Result<()> {
        self.send_part(n, out);
        let entry = &mut self.table[n];
        let mut how = how;
        entry.is_shut |= how != ShutdownHow::Read;
        if let Some(rest) = entry.rest() {
            rest.shut_down |= how != ShutdownHow::Read;
            if how == ShutdownHow::Write {
                return Ok(());
            }
            how = ShutdownHow::Read;
        }
        match entry.fd.ours() {
            Some(fd) => socket::shutdown(&SockRef::from(&fd), how),
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// Keeps an entry that is closed, if it has something left to send. Its user knows it no more.
    pub(crate) fn lingers(&mut self, n: usize) -> bool {
        if self.table[n].rest().is_none() {
            return false;
        }
        if self.table[n].is_to_reset() {
            self.resting -= 1;
            return false;
        }
        self.table.renew(n);
        let token = self.table.id(n).0;
        let entry = &mut self.table[n];
        if self.epoll.set(entry.fd.raw(), token, EDGES, entry.registered).is_err() {
            // Nobody would tell when it can go on.
            self.resting -= 1;
            return false;
        }
        entry.registered = true;
        entry.waiting().closed = true;
        true
    }

    /// Sends what was reported as sent, if the peers take it.
    pub(crate) fn linger(&mut self, out: &mut Completions) {
        let started = Instant::now();
        while self.resting > 0 && started.elapsed() < LINGER {
            let Ok(count) = self.epoll.wait(Timeout::For(LINGER / 10)) else { return };
            for event in 0..count {
                self.react(event, out);
            }
        }
    }
}

/// What is left of data to send, after an attempt; or the error.
#[inline]
fn rest(data: &[u8], sent: io::Result<usize>) -> Option<io::Result<Bytes>> {
    let sent = match sent {
        Ok(count) if count == data.len() => return None,
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Some(Err(error)),
    };
    Some(Ok(Bytes::copy_from_slice(&data[sent..])))
}
