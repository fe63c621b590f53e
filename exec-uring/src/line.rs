//! The operations that wait in a line for their direction of an entry, and the polls.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use aioli_core::driver::{Completion, OpId, Submit};
use aioli_core::op::{Address, Interest, Outcome};
use aioli_exec_linux::{Armed, Attempt, Direction, Work, syscall};
use io_uring::{opcode, types};

use crate::core::{Core, Place, canceled, owned};
use crate::ring::{Event, length};
use crate::rung::Rung;
use crate::table::{Entry, Request, What};
use crate::token::{Key, Token};

impl Entry {
    /// What is to be reported: the receive that goes on may have taken the connection's error from a send, which is left with EPIPE.
    ///
    /// And the other way round, where a send in flight has taken it, and the receive is left with what looks like the end.
    fn outcome(&mut self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Sent { result: Err(error), data } => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                if errno != libc::EPIPE {
                    self.broken = (errno != libc::ECANCELED).then_some(errno).or(self.broken);
                    return Outcome::Sent { result: Err(error), data };
                }
                let errno = self.inbox.failure().unwrap_or(errno);
                Outcome::Sent { result: Err(io::Error::from_raw_os_error(errno)), data }
            }
            Outcome::Received { result: Ok(0), buffer } => {
                let result = self.broken.map_or(Ok(0), |errno| Err(io::Error::from_raw_os_error(errno)));
                Outcome::Received { result, buffer }
            }
            outcome => outcome,
        }
    }
}

impl Core {
    /// Starts an op that may have to wait in a line.
    pub(crate) fn start(&mut self, id: OpId, n: usize, mut work: Work) -> Submit {
        let direction = work.direction();
        // Whether completions have gone out already.
        let mut more = false;
        if direction == Direction::Write {
            self.send_part(n);
        }
        let entry = &self.table[n];
        if let Some(errno) = entry.send_error() {
            return Submit::Done(work.fail(io::Error::from_raw_os_error(errno)));
        }
        let mut free = !entry.has_line(direction) && entry.asked(direction).is_none();
        while free {
            match self.attempt(n, &mut work, true) {
                Attempt::Blocked => free = false,
                Attempt::Done(outcome) => return self.end_new(n, id, more, outcome),
                Attempt::Accepted { socket, address, last } => {
                    let outcome = self.connection(n, socket, address);
                    if last {
                        return self.end_new(n, id, more, outcome);
                    }
                    self.owed.push_back(Completion { id, more: true, outcome });
                    more = true;
                }
            }
        }
        self.flight.insert(id, Place::Line(n, direction));
        self.table[n].waiting().line(direction).ops.push(Armed { id, work });
        self.advance(n, direction);
        Submit::Pending
    }

    /// Ends an op that is not in a line yet.
    fn end_new(&mut self, n: usize, id: OpId, more: bool, outcome: Outcome) -> Submit {
        let outcome = self.table[n].outcome(outcome);
        if !more {
            return Submit::Done(outcome);
        }
        self.owed.push_back(Completion { id, more: false, outcome });
        Submit::Pending
    }

    /// Carries out some of an op that is the first of its line: with what there is or, if it `tries`, by a system call, unless the kernel
    /// has been asked to do that by itself.
    fn attempt(&mut self, n: usize, work: &mut Work, tries: bool) -> Attempt {
        let entry = &mut self.table[n];
        match work {
            Work::Recv(buffer) => match entry.inbox.receive(&mut self.buffers, buffer) {
                Some(result) => return Attempt::Done(Outcome::Received { result, buffer: std::mem::take(buffer) }),
                None if entry.inbox.is_receiving() => return Attempt::Blocked,
                None => (),
            },
            Work::Accept { credit } => match entry.waits().and_then(|waiting| waiting.surplus.pop_front()) {
                Some(socket) => {
                    *credit -= 1;
                    let address = syscall::accepted_from(socket.as_fd());
                    return Attempt::Accepted { socket, address, last: *credit == 0 };
                }
                None if *credit > 1 && entry.kind.socket && self.rungs.has(Rung::MultishotAccept) => {
                    return Attempt::Blocked;
                }
                None => (),
            },
            Work::Send(_) if entry.outbox.rest.is_some() => return Attempt::Blocked,
            Work::Send(data) => {
                if let Some(errno) = entry.send_error() {
                    // What was to be sent before it was not.
                    let result = Err(io::Error::from_raw_os_error(errno));
                    return Attempt::Done(Outcome::Sent { result, data: std::mem::take(data) });
                }
            }
            Work::Connect(_) => (),
        }
        if tries { work.attempt(entry.fd.as_fd(), entry.kind) } else { Attempt::Blocked }
    }

    /// Makes a resource of a connection.
    fn connection(&mut self, listener: usize, socket: OwnedFd, address: Address) -> Outcome {
        let kind = self.table[listener].kind;
        Outcome::Accepted(Ok((self.open(socket, kind), address)))
    }

    /// Carries out the first op of a line as far as it goes: see [`attempt`](Self::attempt). Returns whether it has ended.
    fn serve(&mut self, n: usize, direction: Direction, tries: bool) -> bool {
        let Some(Armed { id, mut work }) = self.table[n].pop(direction) else { return false };
        let outcome = loop {
            match self.attempt(n, &mut work, tries) {
                Attempt::Blocked => {
                    self.table[n].waiting().line(direction).ops.put_back(Armed { id, work });
                    return false;
                }
                Attempt::Done(outcome) => break self.table[n].outcome(outcome),
                Attempt::Accepted { socket, address, last } => {
                    let outcome = self.connection(n, socket, address);
                    if last {
                        break outcome;
                    }
                    self.owed.push_back(Completion { id, more: true, outcome });
                }
            }
        };
        self.complete(id, outcome);
        true
    }

    /// Serves a line with what there is, and asks the kernel for its first op, unless it was asked.
    pub(crate) fn advance(&mut self, n: usize, direction: Direction) {
        while self.table[n].has_line(direction) && self.table[n].asked(direction).is_none() {
            if !self.serve(n, direction, false) {
                return self.ask(n, direction);
            }
        }
    }

    /// Ends the first op of a line.
    fn end_first(&mut self, n: usize, direction: Direction, outcome: Outcome) {
        let outcome = self.table[n].outcome(outcome);
        if let Some(Armed { id, .. }) = self.table[n].pop(direction) {
            self.complete(id, outcome);
        }
    }

    fn fail_first(&mut self, n: usize, direction: Direction, error: io::Error) {
        if let Some(Armed { id, work }) = self.table[n].pop(direction) {
            self.complete(id, work.fail(error));
        }
    }

    /// Asks the kernel for the first op of a line.
    fn ask(&mut self, n: usize, direction: Direction) {
        let entry = &mut self.table[n];
        let fd = types::Fd(entry.raw());
        let requests = entry.kind.socket;
        let multishot = self.rungs.has(Rung::MultishotAccept);
        let Some(line) = entry.waiting.as_deref_mut().map(|waiting| waiting.line(direction)) else { return };
        let Some(armed) = line.ops.first_mut() else { return };
        let request = match &mut armed.work {
            // What the kernel does already comes first.
            Work::Recv(_) if entry.inbox.is_receiving() => return,
            Work::Send(_) if entry.outbox.rest.is_some() => return,
            Work::Recv(buffer) if requests => {
                let room = buffer.spare_capacity_mut();
                Some(opcode::Recv::new(fd, room.as_mut_ptr().cast(), length(room.len())).build())
            }
            Work::Send(data) if requests => {
                Some(opcode::Send::new(fd, data.as_ptr(), length(data.len())).flags(libc::MSG_NOSIGNAL).build())
            }
            // One is polled for: kernels that know no better do not wait for one on a listener that does not block.
            Work::Accept { credit: 2.. } if requests && multishot => {
                Some(opcode::AcceptMulti::new(fd).flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC).build())
            }
            _ => None,
        };
        let poll = request.is_none();
        self.ring.polled |= poll;
        let request = request.unwrap_or_else(|| {
            let events = if direction == Direction::Read { libc::POLLIN | libc::POLLRDHUP } else { libc::POLLOUT };
            opcode::PollAdd::new(fd, events as u32).build()
        });
        let key = self.requests.insert(Request::new(What::Line { entry: n, direction, poll }));
        // SAFETY: the op owns the memory, and stays where it is until the request has completed: `asked` says so to all who take ops
        // out of a line. What a buffer or the data point to does not move with them.
        unsafe { self.ring.push(request, Token::Request(key)) };
        line.asked = Some(key);
        entry.held += 1;
    }

    /// The kernel reports on the request for the first op of a line.
    pub(crate) fn line_event(&mut self, n: usize, direction: Direction, poll: bool, cancelled: bool, event: Event) {
        let entry = &mut self.table[n];
        if !event.more() {
            entry.held -= 1;
            entry.waiting().line(direction).asked = None;
        }
        if poll {
            self.poll_of_line(n, direction, cancelled, event);
        } else {
            self.line_result(n, direction, cancelled, event);
        }
        if self.table[n].closing {
            return self.release(n);
        }
        self.advance(n, direction);
        if direction == Direction::Read {
            self.attend(n);
        }
    }

    /// The first op of a line may be tried.
    fn poll_of_line(&mut self, n: usize, direction: Direction, cancelled: bool, event: Event) {
        if cancelled {
            return self.fail_first(n, direction, canceled());
        }
        if let Err(error) = event.count() {
            if !is_temporary(event.result) {
                self.fail_first(n, direction, error);
            }
            return;
        }
        self.serve(n, direction, true);
    }

    /// The kernel has carried out the first op of a line, or could not.
    fn line_result(&mut self, n: usize, direction: Direction, cancelled: bool, event: Event) {
        let entry = &mut self.table[n];
        let closing = entry.closing;
        let waiting = entry.waiting();
        let Some(armed) = waiting.line(direction).ops.first_mut() else {
            // An accept that had all its connections before its request ended.
            if let Some(socket) = owned(event.result).filter(|_| !closing) {
                waiting.surplus.push_back(socket);
                self.settle_polls(n);
            }
            return;
        };
        let retries = !cancelled && is_temporary(event.result);
        match &mut armed.work {
            _ if retries => (),
            Work::Recv(buffer) => {
                let result = event.count();
                let mut buffer = std::mem::take(buffer);
                if let Ok(count) = result {
                    let length = buffer.len() + count;
                    // SAFETY: the kernel wrote so many bytes at the start of the spare capacity.
                    unsafe { buffer.set_len(length) };
                }
                let received = result.is_ok();
                self.end_first(n, direction, Outcome::Received { result, buffer });
                if received {
                    // A poll that came before finds nothing any more.
                    self.settle_polls(n);
                }
            }
            Work::Send(data) => {
                let outcome = Outcome::Sent { result: event.count(), data: std::mem::take(data) };
                self.end_first(n, direction, outcome);
            }
            Work::Accept { .. } => match owned(event.result) {
                Some(socket) if closing => drop(socket),
                Some(socket) => {
                    waiting.surplus.push_back(socket);
                    let ended = self.serve(n, direction, false);
                    match self.table[n].asked(direction) {
                        // It goes on otherwise. The op has ended, so that this is not its cancellation.
                        Some(key) if ended => self.cancel_token(Token::Request(key)),
                        None if cancelled && !ended => self.fail_first(n, direction, canceled()),
                        _ => (),
                    }
                }
                None => {
                    let error = io::Error::from_raw_os_error(-event.result);
                    // The request was for an accept before this one.
                    let stale = event.result == -libc::ECANCELED && !cancelled;
                    if cancelled || !(stale || syscall::concerns_connection(&error)) {
                        self.fail_first(n, direction, error);
                    }
                }
            },
            Work::Connect(_) => debug_assert!(false, "this is polled for"),
        }
        if closing {
            self.fail_first(n, direction, canceled());
        }
    }

    // --- polls ---------------------------------------------------------------------------------------------------------------

    /// Starts a poll of an entry.
    pub(crate) fn poll(&mut self, id: OpId, n: usize, interest: Interest) -> Submit {
        if self.table[n].inbox.is_receiving() && self.ring.has_events() {
            // What the kernel has taken out of the socket counts. If this fails, so does the next turn.
            let _ = self.reap();
        }
        let entry = &self.table[n];
        let has_surplus = entry.waiting.as_ref().is_some_and(|waiting| !waiting.surplus.is_empty());
        if interest.readable && (entry.inbox.has_some() || has_surplus) {
            let writable = interest.writable
                && syscall::ready(entry.raw(), Interest { readable: false, writable: true }).is_ok_and(|i| i.writable);
            return Submit::Done(Outcome::Ready(Ok(Interest { readable: true, writable })));
        }
        let fd = entry.raw();
        self.poll_raw(id, fd, interest, Some(n))
    }

    /// Starts a poll of a descriptor, which may be that of an entry.
    pub(crate) fn poll_raw(&mut self, id: OpId, fd: RawFd, interest: Interest, entry: Option<usize>) -> Submit {
        let ready = match interest {
            Interest { readable: false, writable: false } => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "a poll must wait for reading or writing"))
            }
            interest => syscall::ready(fd, interest),
        };
        if !matches!(ready, Ok(Interest { readable: false, writable: false })) {
            return Submit::Done(Outcome::Ready(ready));
        }
        let reading = if interest.readable { libc::POLLIN | libc::POLLRDHUP } else { 0 };
        let writing = if interest.writable { libc::POLLOUT } else { 0 };
        let key = self.requests.insert(Request::new(What::Poll { entry, id: Some(id), interest }));
        self.ring.polled = true;
        let poll = opcode::PollAdd::new(types::Fd(fd), (reading | writing) as u32).build();
        // SAFETY: it refers to nothing but the descriptor.
        unsafe { self.ring.push(poll, Token::Request(key)) };
        self.note_request(id, entry, key)
    }

    /// An op has a request of its own, which may be of an entry.
    pub(crate) fn note_request(&mut self, id: OpId, entry: Option<usize>, key: Key) -> Submit {
        self.flight.insert(id, Place::Request(key));
        if let Some(n) = entry {
            self.table[n].held += 1;
            self.table[n].waiting().requests.push(key);
        }
        Submit::Pending
    }

    /// The kernel reports on a poll.
    pub(crate) fn poll_event(
        &mut self,
        key: Key,
        n: Option<usize>,
        id: Option<OpId>,
        interest: Interest,
        event: Event,
    ) {
        if let Some(id) = id {
            let found = event.count().map(|_| {
                let has = |bits: i16| event.result & i32::from(bits | libc::POLLERR | libc::POLLHUP) != 0;
                Interest {
                    readable: interest.readable && has(libc::POLLIN | libc::POLLRDHUP),
                    writable: interest.writable && has(libc::POLLOUT),
                }
            });
            self.complete(id, Outcome::Ready(found));
        }
        if let Some(n) = n {
            let entry = &mut self.table[n];
            entry.held -= 1;
            entry.forget(key);
            self.release(n);
        }
    }

    /// The kernel has received for an entry: what polls for that need not find anything in the socket.
    pub(crate) fn settle_polls(&mut self, n: usize) {
        for key in self.table[n].requests().to_vec() {
            let Some((_, request)) = self.requests.find_mut(key) else { continue };
            let What::Poll { id, interest: Interest { readable: true, .. }, .. } = &mut request.what else { continue };
            if let Some(id) = id.take() {
                self.complete(id, Outcome::Ready(Ok(Interest { readable: true, writable: false })));
                self.cancel_request(key);
            }
        }
    }
}

/// Whether a request only has to be made again.
fn is_temporary(result: i32) -> bool {
    matches!(-result, libc::EINTR | libc::EAGAIN)
}
