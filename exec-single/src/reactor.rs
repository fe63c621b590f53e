//! [`Reactor`]: carries operations from submit to their completions.

use std::io;
use std::os::fd::{OwnedFd, RawFd};

use aioli_core::driver::{Completion, Completions, OpId, Submit};
use aioli_core::op::{Interest, Outcome, Resource};
use aioli_exec_linux::{Armed, Attempt, Burst, Direction, Flight, Kind, Parcel, Work, syscall};

use crate::children::Children;
use crate::epoll::{EDGES, ERR, Epoll, HUP, IN, Known, ONE_SHOT, OUT, RDHUP};
use crate::resource::{Descriptor, Entry, Polling};
use crate::table::Table;

/// What events are of is fetched so many ahead.
const AHEAD: usize = 4;

/// Where in an entry an op waits. Entries are fewer than descriptors, so that 32 bits number them.
#[derive(Clone, Copy, Debug)]
enum Side {
    Line(Direction),
    Polls,
    Watch,
}

/// The epoll set, the entries in it, and the operations in flight.
///
/// A resource is registered once, edge-triggered, when an op first has to wait. A watched descriptor is the caller's: its registration
/// is one-shot and made afresh for each poll, since the file behind the number may have changed.
pub(crate) struct Reactor {
    pub(crate) epoll: Epoll,
    pub(crate) table: Table,
    pub(crate) children: Children,
    pub(crate) burst: Burst,
    pub(crate) parcel: Parcel,
    /// So many entries have something left to send that was reported as sent.
    pub(crate) resting: usize,
    flight: Flight<(u32, Side)>,
}

impl Reactor {
    pub(crate) fn new(epoll: Epoll, burst: Burst) -> Self {
        Reactor {
            epoll,
            table: Table::default(),
            children: Children::default(),
            burst,
            parcel: Parcel::default(),
            resting: 0,
            flight: Flight::default(),
        }
    }

    /// Whether no op is in flight, so that no event could complete one, and nothing is left to send.
    pub(crate) fn is_idle(&self) -> bool {
        self.flight.is_empty() && self.children.is_idle() && self.resting == 0
    }

    /// Makes a resource of a descriptor.
    pub(crate) fn open(&mut self, fd: OwnedFd, kind: Kind, readable: bool, out: &mut Completions) -> Resource {
        let fd = Descriptor::Owned(fd);
        if let Some(n) = self.table.holder(fd.raw()).filter(|&n| self.table[n].is_watched()) {
            // The number is ours now, so the file that was watched under it is gone.
            abandon(&mut self.table.remove(n), &mut self.flight, libc::EBADF, out);
        }
        let n = self.table.insert(Entry::new(fd, kind, readable));
        self.table.id(n)
    }

    /// Starts an op that may have to wait in a line.
    pub(crate) fn start(&mut self, id: OpId, n: usize, mut work: Work, out: &mut Completions) -> Submit {
        if work.direction() == Direction::Write {
            self.send_part(n, out);
        }
        if let Some(error) = self.table[n].failure() {
            return Submit::Done(work.fail(error));
        }
        let mut reported = false;
        let end = |outcome, reported: bool, out: &mut Completions| {
            if !reported {
                return Submit::Done(outcome);
            }
            out.push_back(Completion { id, more: false, outcome });
            Submit::Pending
        };
        while self.table[n].may_try(&work) {
            match self.table[n].attempt(&mut work) {
                Attempt::Blocked => break,
                Attempt::Done(outcome) => return end(outcome, reported, out),
                Attempt::Accepted { socket, address, last } => {
                    let resource = self.accepted(n, socket, out);
                    let outcome = Outcome::Accepted(Ok((resource, address)));
                    if last {
                        return end(outcome, reported, out);
                    }
                    out.push_back(Completion { id, more: true, outcome });
                    reported = true;
                }
            }
        }
        if let Err(error) = self.register(n) {
            return end(work.fail(error), reported, out);
        }
        let direction = work.direction();
        self.table[n].waiting().line(direction).push(Armed { id, work });
        self.flight.insert(id, (n as u32, Side::Line(direction)));
        Submit::Pending
    }

    /// Starts a poll of a resource.
    pub(crate) fn poll(&mut self, id: OpId, n: usize, interest: Interest, out: &mut Completions) -> Submit {
        match test(self.table[n].fd.raw(), interest) {
            None => self.await_ready(id, n, interest, out),
            Some(found) => {
                found.iter().for_each(|found| self.table[n].note_found(*found));
                Submit::Done(Outcome::Ready(found))
            }
        }
    }

    /// Starts a poll of a descriptor of the caller's.
    pub(crate) fn poll_fd(&mut self, id: OpId, fd: RawFd, interest: Interest, out: &mut Completions) -> Submit {
        // A descriptor is registered once: one that is a resource is polled through the resource.
        let n = self.table.holder(fd);
        if n.is_some_and(|n| self.table[n].is_closed()) {
            return Submit::Done(Outcome::Ready(Err(io::Error::from_raw_os_error(libc::EBADF))));
        }
        if let Some(found) = test(fd, interest) {
            return Submit::Done(Outcome::Ready(found));
        }
        let n = n.unwrap_or_else(|| self.table.insert(Entry::new(Descriptor::Watched(fd), Kind::OTHER, true)));
        self.await_ready(id, n, interest, out)
    }

    fn await_ready(&mut self, id: OpId, n: usize, interest: Interest, out: &mut Completions) -> Submit {
        let watched = self.table[n].is_watched();
        match if watched { self.watch(n, Some(interest), out) } else { self.register(n) } {
            Ok(()) => {
                self.table[n].waiting().polls.push(Polling { id, interest });
                self.flight.insert(id, (n as u32, Side::Polls));
                Submit::Pending
            }
            Err(error) => {
                if watched {
                    self.table.remove(n);
                }
                Submit::Done(Outcome::Ready(Err(error)))
            }
        }
    }

    /// Starts an op that tells whenever a resource may have become readable.
    pub(crate) fn watch_reads(&mut self, id: OpId, n: usize, out: &mut Completions) -> Submit {
        if self.table[n].watch.is_some() {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, "the resource is watched already");
            return Submit::Done(Outcome::Ready(Err(error)));
        }
        if let Err(error) = self.register(n) {
            return Submit::Done(Outcome::Ready(Err(error)));
        }
        self.table[n].watch = Some(id);
        self.flight.insert(id, (n as u32, Side::Watch));
        self.table[n].tell(false, out);
        Submit::Pending
    }

    /// Ends an op; nothing happens if it is not in flight.
    pub(crate) fn cancel(&mut self, id: OpId, out: &mut Completions) {
        let Some((n, side)) = self.flight.remove(id) else { return self.children.cancel(id, out) };
        let entry = &mut self.table[n as usize];
        let canceled = io::Error::from_raw_os_error(libc::ECANCELED);
        let outcome = match side {
            Side::Line(direction) => {
                let armed = entry.waits().and_then(|waiting| waiting.line(direction).remove(id));
                armed.map(|armed| armed.work.fail(canceled))
            }
            Side::Watch => {
                entry.watch = None;
                Some(Outcome::Ready(Err(canceled)))
            }
            Side::Polls => {
                if let Some(waiting) = entry.waits() {
                    waiting.polls.retain(|polling| polling.id != id);
                }
                Some(Outcome::Ready(Err(canceled)))
            }
        };
        out.extend(outcome.map(|outcome| Completion { id, more: false, outcome }));
    }

    /// Closes a resource.
    pub(crate) fn close(&mut self, n: usize, out: &mut Completions) {
        self.send_part(n, out);
        abandon(&mut self.table[n], &mut self.flight, libc::ECANCELED, out);
        if !self.lingers(n) {
            self.release(n);
        }
    }

    /// Removes an entry on which no op waits.
    fn release(&mut self, n: usize) {
        let entry = self.table.remove(n);
        if entry.registered {
            // A duplicate of the descriptor would keep the registration alive.
            self.epoll.delete(entry.fd.raw());
        }
    }

    /// Sends what was reported as sent, and closes everything.
    pub(crate) fn close_all(&mut self, out: &mut Completions) {
        self.send_parts(out);
        for entry in self.table.iter_mut() {
            abandon(entry, &mut self.flight, libc::ECANCELED, out);
        }
        self.linger(out);
        self.abandon_all(out);
    }

    /// Closes everything. The epoll set is left alone: another process may share it.
    pub(crate) fn abandon_all(&mut self, out: &mut Completions) {
        for mut entry in self.table.drain() {
            abandon(&mut entry, &mut self.flight, libc::ECANCELED, out);
        }
        self.resting = 0;
        self.children.abandon(out);
    }

    /// Works off the events of the last wait, of which there are so many.
    #[inline(always)]
    pub(crate) fn react_to(&mut self, count: usize, out: &mut Completions) {
        for event in 0..count {
            // Has the processor fetch what an event will need.
            if let Some(token) = self.epoll.token(event + AHEAD) {
                self.table.prefetch(Resource(token));
            }
            let (token, flags) = self.epoll.event(event);
            match self.table.find_mut(Resource(token)) {
                // A stream whose owner receives at once.
                Some((_, entry)) if entry.is_bare() => entry.react(flags, out),
                _ => self.react(event, out),
            }
        }
    }

    /// Works off an event of the last wait.
    #[inline(never)]
    pub(crate) fn react(&mut self, event: usize, out: &mut Completions) {
        let (token, flags) = self.epoll.event(event);
        // The token may also be that of an entry which is gone, while its file lives on in a duplicate.
        let Some((n, entry)) = self.table.find_mut(Resource(token)) else { return self.children.react(token, out) };
        let silent = entry.is_readable();
        if entry.is_idle() {
            entry.forget_lines();
            entry.note(flags);
            entry.tell(silent, out);
            return;
        }
        let broken = flags & (ERR | HUP) != 0;
        let found = Interest { readable: broken || flags & (IN | RDHUP) != 0, writable: broken || flags & OUT != 0 };
        self.settle(n, found, out);
        let entry = &mut self.table[n];
        if entry.is_watched() {
            if entry.has_polls() {
                // On an error the polls were told.
                let _ = self.watch(n, None, out);
            }
            return;
        }
        entry.note(flags);
        entry.tell(silent, out);
        self.send_rest(n, out);
        let entry = &mut self.table[n];
        if entry.is_closed() && entry.rest().is_none() {
            return self.release(n);
        }
        self.advance(n, Direction::Read, out);
        self.advance(n, Direction::Write, out);
    }

    /// Completes the polls that found what they wait for.
    fn settle(&mut self, n: usize, found: Interest, out: &mut Completions) {
        let flight = &mut self.flight;
        let Some(waiting) = self.table[n].waits() else { return };
        waiting.polls.retain(|&Polling { id, interest }| {
            let found = Interest {
                readable: found.readable && interest.readable,
                writable: found.writable && interest.writable,
            };
            let waits = found == Interest::default();
            if !waits {
                flight.remove(id);
                out.push_back(Completion { id, more: false, outcome: Outcome::Ready(Ok(found)) });
            }
            waits
        });
    }

    /// What was reported as sent was not: the connection is broken.
    pub(crate) fn send_failed(&mut self, n: usize, error: &io::Error, out: &mut Completions) {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        let entry = &mut self.table[n];
        abandon_lines(entry, &mut self.flight, errno, out);
        entry.fail_sends(errno);
        entry.tell(false, out);
    }

    /// Tries the ops in a line until one would block.
    fn advance(&mut self, n: usize, direction: Direction, out: &mut Completions) {
        while let Some((id, attempt)) = self.table[n].advance(direction) {
            let (more, outcome) = match attempt {
                Attempt::Blocked => break,
                Attempt::Done(outcome) => (false, outcome),
                Attempt::Accepted { socket, address, last } => {
                    (!last, Outcome::Accepted(Ok((self.accepted(n, socket, out), address))))
                }
            };
            if !more {
                self.flight.remove(id);
            }
            out.push_back(Completion { id, more, outcome });
        }
    }

    /// Makes a resource of what a listener accepted.
    fn accepted(&mut self, listener: usize, socket: OwnedFd, out: &mut Completions) -> Resource {
        let kind = self.table[listener].kind;
        // The first receive on a new connection mostly comes too early to find data, and the registration, which is due anyway,
        // reports data that is there. Elsewhere a receive may well be the only one.
        self.open(socket, kind, !kind.tcp, out)
    }

    /// Registers a resource, once.
    fn register(&mut self, n: usize) -> io::Result<()> {
        let token = self.table.id(n).0;
        let entry = &mut self.table[n];
        if !entry.registered {
            self.epoll.set(entry.fd.raw(), token, EDGES, false)?;
            entry.registered = true;
        }
        Ok(())
    }

    /// Arms the registration of a watched descriptor for its polls and one `more`. If the file of the polls is gone, they end.
    fn watch(&mut self, n: usize, more: Option<Interest>, out: &mut Completions) -> io::Result<()> {
        let entry = &mut self.table[n];
        let mut flags = ONE_SHOT;
        let polls = entry.waits().map_or(&[][..], |waiting| &waiting.polls);
        for interest in polls.iter().map(|polling| polling.interest).chain(more) {
            flags |= if interest.readable { IN | RDHUP } else { 0 };
            flags |= if interest.writable { OUT } else { 0 };
        }
        let (fd, registered) = (entry.fd.raw(), entry.registered);
        let known = self.epoll.set(fd, self.table.id(n).0, flags, registered);
        let entry = &mut self.table[n];
        entry.registered = known.is_ok();
        if let Ok(Known::Same) = known {
            return Ok(());
        }
        abandon(entry, &mut self.flight, libc::EBADF, out);
        known?;
        // Another file has the number now. The one before may live on in a duplicate, and must not be heard any more.
        self.table.renew(n);
        self.epoll.set(fd, self.table.id(n).0, flags, true).map(|_| ())
    }
}

/// Ends the ops in the lines of an entry.
fn abandon_lines(entry: &mut Entry, flight: &mut Flight<(u32, Side)>, errno: i32, out: &mut Completions) {
    let Some(waiting) = entry.waits() else { return };
    for direction in [Direction::Read, Direction::Write] {
        while let Some(Armed { id, work }) = waiting.line(direction).pop() {
            flight.remove(id);
            let outcome = work.fail(io::Error::from_raw_os_error(errno));
            out.push_back(Completion { id, more: false, outcome });
        }
    }
}

/// Ends every op on an entry.
fn abandon(entry: &mut Entry, flight: &mut Flight<(u32, Side)>, errno: i32, out: &mut Completions) {
    abandon_lines(entry, flight, errno, out);
    let mut end = |id, outcome| {
        flight.remove(id);
        out.push_back(Completion { id, more: false, outcome });
    };
    let error = || io::Error::from_raw_os_error(errno);
    if let Some(waiting) = entry.waits() {
        for Polling { id, .. } in waiting.polls.drain(..) {
            end(id, Outcome::Ready(Err(error())));
        }
    }
    if let Some(id) = entry.watch.take() {
        end(id, Outcome::Ready(Err(error())));
    }
}

/// What a descriptor is ready for now, of what is asked; `None` if nothing.
fn test(fd: RawFd, interest: Interest) -> Option<io::Result<Interest>> {
    if interest == Interest::default() {
        return Some(Err(io::Error::new(io::ErrorKind::InvalidInput, "a poll must wait for reading or writing")));
    }
    syscall::ready(fd, interest).map(|found| (found != Interest::default()).then_some(found)).transpose()
}
