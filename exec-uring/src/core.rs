//! [`Core`]: the turn, and what the kernel reports.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use aioli_core::driver::{Completion, Completions, OpId};
use aioli_core::op::{Outcome, Resource};
use aioli_exec_linux::{Burst, Direction, Flight, Kind, Parcel, Spin, Timeout, Wake};
use io_uring::{opcode, squeue, types};

use crate::buffers::Buffers;
use crate::ring::{Event, Ring};
use crate::rung::{Rung, Rungs};
use crate::table::{Entry, Request, Requests, Table, What};
use crate::token::{Key, Token};

/// How long the end of the driver may take to send what is on its way.
const LINGER: Duration = Duration::from_secs(1);

/// What events are of is fetched so many ahead.
const AHEAD: usize = 4;

/// Where an op is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Line(usize, Direction),
    Watch(usize),
    Request(Key),
}

/// The ring, and all that its requests refer to. The ring comes first, so that it is dropped first.
pub(crate) struct Core {
    pub(crate) ring: Ring,
    pub(crate) buffers: Option<Buffers>,
    pub(crate) parcel: Parcel,
    pub(crate) burst: Burst,
    spin: Spin,
    pub(crate) requests: Requests,
    pub(crate) table: Table,
    pub(crate) rungs: Rungs,
    pub(crate) flight: Flight<Place>,
    /// Completions that were not handed to the loop yet.
    pub(crate) owed: Completions,
    /// Entries of which much is unread.
    pub(crate) heavy: Vec<u32>,
    /// The kernel polls the bell.
    listening: bool,
    /// The memory for the events of a turn.
    events: Vec<Event>,
}

pub(crate) fn canceled() -> io::Error {
    io::Error::from_raw_os_error(libc::ECANCELED)
}

impl Core {
    pub(crate) fn new(ring: Ring, buffers: Option<Buffers>, rungs: Rungs, burst: Burst, spin: Spin) -> Self {
        Core {
            ring,
            buffers,
            parcel: Parcel::default(),
            burst,
            spin,
            requests: Requests::default(),
            table: Table::default(),
            rungs,
            flight: Flight::default(),
            owed: Completions::new(),
            heavy: Vec::new(),
            listening: false,
            events: Vec::new(),
        }
    }

    pub(crate) fn complete(&mut self, id: OpId, outcome: Outcome) {
        self.flight.remove(id);
        self.owed.push_back(Completion { id, more: false, outcome });
    }

    // --- the turn ------------------------------------------------------------------------------------------------------------

    /// Hands everything to the kernel, waits, and works off what it reports.
    pub(crate) fn turn(&mut self, timeout: Timeout, wake: &Wake) -> io::Result<()> {
        if !self.listening {
            self.listen(wake.bell());
        }
        self.hold_back();
        self.burst.end_turn();
        if self.ring.polled && self.ring.has_hidden() {
            // What happened before a poll is reported before what the poll finds at once.
            self.ring.unhide()?;
        }
        self.post_parts();
        if let Some(buffers) = &mut self.buffers {
            buffers.top_up();
        }
        match timeout {
            // What is there already need not be waited for.
            _ if self.ring.has_events() => self.flush()?,
            Timeout::Zero => self.flush()?,
            timeout => self.wait(timeout, wake)?,
        }
        if !self.parcel.is_empty() {
            self.finish_parts()?;
        }
        self.reap()
    }

    /// Hands everything to the kernel, and waits until there are completions.
    fn wait(&mut self, mut timeout: Timeout, wake: &Wake) -> io::Result<()> {
        if self.spin.is_on(timeout) {
            self.flush()?;
            let ring = &mut self.ring;
            match self.spin.look(timeout, || Ok(ring.has_events() || ring.has_hidden() || wake.take_kick()))? {
                None => return self.flush(),
                Some(left) => timeout = left,
            }
        }
        if !wake.sleep() {
            return self.ring.enter(Timeout::Zero);
        }
        let before = self.spin.before_sleep();
        let entered = self.ring.enter(timeout);
        wake.wake();
        entered?;
        self.spin.after_sleep(before, self.ring.has_events());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.ring.has_entries() || self.ring.has_hidden() { self.ring.enter(Timeout::Zero) } else { Ok(()) }
    }

    /// Waits until the kernel has taken the whole queue, which it does at once unless memory is short, and has told of all parts that
    /// failed. What is asked for meanwhile may bring forth more of its reports.
    pub(crate) fn finish_parts(&mut self) -> io::Result<()> {
        loop {
            self.reap()?;
            if self.ring.has_entries() {
                self.ring.enter(Timeout::Zero)?;
            } else if !self.ring.has_events() {
                break;
            }
        }
        self.parcel.clear();
        Ok(())
    }

    /// Works off what the kernel reports.
    pub(crate) fn reap(&mut self) -> io::Result<()> {
        loop {
            let mut events = std::mem::take(&mut self.events);
            self.ring.take(&mut events);
            for n in 0..events.len() {
                if let Some(entry) = events.get(n + AHEAD).and_then(Event::stream) {
                    self.table.prefetch(entry);
                }
                let event = &events[n];
                if event.stream().is_none_or(|entry| !self.stream_on(entry, event)) {
                    self.dispatch(*event);
                }
            }
            events.clear();
            self.events = events;
            if !self.ring.has_overflown() {
                return Ok(());
            }
            self.ring.enter(Timeout::Zero)?;
        }
    }

    #[inline(never)]
    fn dispatch(&mut self, event: Event) {
        match event.token() {
            Token::Nobody => (),
            Token::Bell => self.listening &= event.more(),
            Token::Stream(n) => self.streamed(n as usize, event),
            Token::Part(number) => self.part_failed(number as usize, event),
            Token::Request(key) if event.more() => {
                if let Some((_, &Request { what: What::Line { entry, direction, poll }, cancelled })) =
                    self.requests.find(key)
                {
                    self.line_event(entry, direction, poll, cancelled, event);
                }
            }
            Token::Request(key) => {
                let Some(Request { what, cancelled }) = self.requests.take(key) else { return };
                match what {
                    What::Line { entry, direction, poll } => {
                        self.line_event(entry, direction, poll, cancelled, event);
                    }
                    What::Poll { entry, id, interest } => self.poll_event(key, entry, id, interest, event),
                    What::Rest { entry, data, sent } => self.rest_sent(entry, data, sent, event, cancelled),
                    What::Process(process) => self.process_event(process, cancelled, event),
                    What::File { entry, id, job } => {
                        if let Some(n) = entry {
                            self.table[n].forget(key);
                        }
                        self.file_event(entry, id, job, cancelled, event);
                    }
                }
            }
        }
    }

    /// Has the kernel poll the bell, which is told with each ring.
    fn listen(&mut self, bell: RawFd) {
        let poll = opcode::PollAdd::new(types::Fd(bell), libc::POLLIN as u32).multi(true).build();
        // SAFETY: it refers to nothing but the descriptor.
        unsafe { self.ring.push(poll, Token::Bell) };
        self.listening = true;
    }

    /// Makes a resource of a descriptor.
    pub(crate) fn open(&mut self, fd: OwnedFd, kind: Kind) -> Resource {
        Resource(self.table.insert(Entry::new(fd, kind)))
    }

    // --- the end of ops ------------------------------------------------------------------------------------------------------

    /// Asks the kernel to end something. Whether it could is said by the completion of that.
    pub(crate) fn cancel_token(&mut self, token: Token) {
        let cancel = opcode::AsyncCancel::new(token.encode()).build();
        let silent = self.rungs.has(Rung::BatchedSends);
        let cancel = if silent { cancel.flags(squeue::Flags::SKIP_SUCCESS) } else { cancel };
        // SAFETY: it refers to no memory.
        unsafe { self.ring.push(cancel, Token::Nobody) };
    }

    pub(crate) fn cancel_request(&mut self, key: Key) {
        if let Some((_, request)) = self.requests.find_mut(key)
            && !request.cancelled
        {
            request.cancelled = true;
            self.cancel_token(Token::Request(key));
        }
    }

    /// Ends an op; nothing happens if it is not in flight.
    pub(crate) fn cancel(&mut self, id: OpId) {
        match self.flight.find(id) {
            None => (),
            Some(Place::Watch(n)) => self.unwatch(n),
            Some(Place::Request(key)) => self.cancel_request(key),
            Some(Place::Line(n, direction)) => {
                let entry = &mut self.table[n];
                let Some(line) = entry.line(direction) else { return };
                let first = line.ops.first().is_some_and(|armed| armed.id == id);
                match line.asked {
                    Some(key) if first => self.cancel_request(key),
                    _ => {
                        if let Some(armed) = line.ops.remove(id) {
                            self.complete(id, armed.work.fail(canceled()));
                        }
                    }
                }
            }
        }
    }

    /// Closes an entry. The descriptor is closed when nothing refers to it any more: mostly that is before this returns.
    pub(crate) fn close(&mut self, n: usize) {
        if !self.begin_close(n) {
            // The peer is to see the end now, not only when the loop comes round.
            let _ = self.ring.enter(Timeout::Zero).and_then(|()| self.reap());
        }
    }

    /// Ends what goes on with an entry. Returns whether that was all, and the entry is removed.
    fn begin_close(&mut self, n: usize) -> bool {
        self.send_part(n);
        if self.is_to_reset(n) {
            self.discard(n);
        }
        self.table[n].closing = true;
        for direction in [Direction::Read, Direction::Write] {
            // The kernel may still use what the first op owns.
            let asked = self.table[n].asked(direction);
            let first = asked.and_then(|_| self.table[n].pop(direction));
            while let Some(armed) = self.table[n].pop(direction) {
                self.complete(armed.id, armed.work.fail(canceled()));
            }
            if let Some(first) = first {
                self.table[n].waiting().line(direction).ops.push(first);
            }
            if let Some(key) = asked {
                self.cancel_request(key);
            }
        }
        self.unwatch(n);
        self.discard_kept(n);
        for key in self.table[n].requests().to_vec() {
            self.cancel_request(key);
        }
        if let Some(waiting) = self.table[n].waits() {
            waiting.surplus.clear();
        }
        let closed = self.table[n].held == 0;
        self.release(n);
        closed
    }

    /// Removes an entry that was closed, when nothing refers to its descriptor any more.
    pub(crate) fn release(&mut self, n: usize) {
        let entry = &self.table[n];
        if entry.closing && entry.held == 0 {
            drop(self.table.remove(n));
        }
    }

    /// Ends everything, and waits until the kernel is through with it.
    pub(crate) fn shutdown(&mut self) -> io::Result<()> {
        for n in self.table.ids().into_iter().map(Table::place) {
            if !self.table[n].closing {
                self.begin_close(n);
            }
        }
        if self.listening {
            self.cancel_token(Token::Bell);
        }
        let started = Instant::now();
        let mut lingers = true;
        while !self.table.is_empty() || !self.requests.is_empty() || self.listening {
            lingers &= started.elapsed() < LINGER;
            for key in self.requests.ids() {
                // What was reported as sent is sent, if the peer takes it.
                let is_rest = |(_, request): (_, &Request)| matches!(request.what, What::Rest { .. });
                if !(lingers && self.requests.find(key).is_some_and(is_rest)) {
                    self.cancel_request(key);
                }
            }
            self.ring.enter(Timeout::For(LINGER / 10))?;
            self.reap()?;
        }
        Ok(())
    }

    /// In a fork: gives back what the ops own. The kernel knows the memory of the other process, not this copy of it.
    pub(crate) fn abandon(mut self) -> Completions {
        let mut owed = std::mem::take(&mut self.owed);
        let mut end = |id, outcome| owed.push_back(Completion { id, more: false, outcome });
        for mut entry in self.table.drain() {
            for direction in [Direction::Read, Direction::Write] {
                while let Some(armed) = entry.pop(direction) {
                    end(armed.id, armed.work.fail(canceled()));
                }
            }
            entry.inbox.watch.into_iter().for_each(|id| end(id, Outcome::Ready(Err(canceled()))));
        }
        for request in self.requests.drain() {
            match request.what {
                What::Poll { id: Some(id), .. } => end(id, Outcome::Ready(Err(canceled()))),
                What::File { id, job, .. } => end(id, job.fail(canceled())),
                What::Process(process) => end(process.id, Outcome::Exited(Err(canceled()))),
                What::Line { .. } | What::Poll { .. } | What::Rest { .. } => (),
            }
        }
        self.ring.forget();
        self.buffers.into_iter().for_each(Buffers::forget);
        owed
    }
}

/// A descriptor that the kernel returned, owned from here on.
pub(crate) fn owned(result: i32) -> Option<OwnedFd> {
    // SAFETY: the result of an accept that succeeded is a descriptor, which is ours alone.
    (result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(result) })
}
