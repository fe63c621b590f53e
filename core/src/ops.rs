//! Operations in flight: how those who build on the loop submit them and learn what came of them.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

use slab::Slab;

use crate::context::Context;
use crate::driver::{Completion, Completions, OpId, Submit, TryReceived};
use crate::error::{Error, Result};
use crate::event_loop::LoopCore;
use crate::op::{Interest, Op, Outcome};
use crate::report::discard;
use crate::task::fetch::{fetch, prefetch};
use crate::task::home;

/// Whoever submitted an operation and takes its outcome. See [`Loop::submit`](crate::Loop::submit).
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::op::{Address, Domain, Op, Outcome, SocketKind};
/// use aioli_core::ops::{Owner, Submitted};
/// use aioli_core::{Future, get_running_loop};
/// use std::{io, rc::Rc};
///
/// /// Sets a future when a connection is there, or was refused.
/// struct Connecting(Future<io::Result<()>>);
///
/// impl Owner for Connecting {
///     fn complete(&self, _tag: u32, outcome: Outcome, _more: bool) {
///         if let Outcome::Done(result) = outcome {
///             let _ = self.0.set_result(result); // fails if it was cancelled
///         }
///     }
/// }
///
/// let running = get_running_loop()?;
/// let Outcome::Opened(socket) = running.submit_now(Op::Socket { domain: Domain::Ipv4, kind: SocketKind::Stream })? else {
///     unreachable!("a socket is opened")
/// };
/// let socket = socket?;
/// let connected = running.create_future();
/// let owner: Rc<dyn Owner> = Rc::new(Connecting(connected.clone()));
/// let address = Address::Internet("127.0.0.1:9".parse()?);
/// match running.submit(Op::Connect { socket, address }, &owner, 0)? {
///     Submitted::Done(outcome) => owner.complete(0, outcome, false),
///     Submitted::InFlight(_) => (), // the loop will call the owner
/// }
/// let refused = connected.await?.unwrap_err();
/// assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused); // nobody listens there
/// running.submit_now(Op::Close { resource: socket })?;
/// # Ok(())
/// # }).unwrap();
/// ```
pub trait Owner: 'static {
    /// One completion of an operation that was submitted with `tag`. `more`: others of the same operation follow.
    ///
    /// It is called as a handle of the loop, once in the turn in which the completion arrived. What it wakes runs in the next turn.
    fn complete(&self, tag: u32, outcome: Outcome, more: bool);

    /// A [completion](Self::complete) that tells what is ready, with others to follow: those of a [watch](Op::Watch). They are many and
    /// small, and whoever watches may take them without the others.
    fn ready(&self, tag: u32, found: Interest) {
        self.complete(tag, Outcome::Ready(Ok(found)), true);
    }
}

/// What became of an operation that was given to [`Loop::submit`](crate::Loop::submit). See [`Owner`].
#[derive(Debug)]
pub enum Submitted {
    /// It finished at once; its owner will not be called.
    Done(Outcome),
    /// It is in flight: its owner will be called.
    InFlight(OpId),
}

/// Owners are fetched so many completions ahead, and so much of each: the counts before it, and its beginning. What says where they
/// are is fetched twice as many ahead.
const AHEAD: usize = 4;
const OWNER_LINES: usize = 4;
const COUNTS: usize = 2 * size_of::<usize>();

/// Where the entry of an operation is.
fn place(id: OpId) -> usize {
    id.0 as u32 as usize
}

struct Entry {
    owner: Rc<dyn Owner>,
    tag: u32,
    generation: u32,
}

/// The operations of a loop.
#[derive(Default)]
pub(crate) struct Operations {
    entries: RefCell<Slab<Entry>>,
    arrived: RefCell<Completions>,
    /// What was posted in this turn.
    posted: RefCell<Completions>,
    /// There is some.
    has_posted: Cell<bool>,
    generation: Cell<u32>,
    /// The driver was given something to send that it may keep for the end of the turn, and the loop looks at its end.
    wrote: Cell<bool>,
}

impl Operations {
    /// Completions that were not handed to their owners yet.
    pub(crate) fn arrived(&self) -> RefMut<'_, Completions> {
        self.arrived.borrow_mut()
    }

    /// Whether the driver has none to work at.
    pub(crate) fn is_idle(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// Whether completions were posted, or something may be left to be sent, since the loop last looked.
    pub(crate) fn has_news(&self) -> bool {
        self.has_posted.get() || self.wrote.get()
    }

    /// Whether the driver may have something to send, unless it was asked to since.
    #[inline]
    pub(crate) fn take_wrote(&self) -> bool {
        self.wrote.replace(false)
    }

    /// Hands the oldest completions to their owners, this many.
    pub(crate) fn hand_over(&self, core: &LoopCore, count: usize) {
        // What owners post meanwhile comes after these, and lies elsewhere.
        let mut arrived = self.arrived.borrow_mut();
        let count = count.min(arrived.len());
        let batch = arrived.make_contiguous();
        let (mut next, mut known) = (0, true);
        while next < count {
            core.guard("the owner of an operation panicked", || {
                while next < count {
                    next += 1;
                    known &= self.hand_over_one(batch, next - 1);
                }
            });
        }
        for _ in 0..count {
            // What is left of it has nothing to be dropped.
            std::mem::forget(arrived.pop_front());
        }
        if arrived.is_empty() {
            // The next ones lie at the beginning of the memory, and so one beside the other.
            arrived.clear();
        }
        debug_assert!(known, "a driver completed an operation that is not in flight");
    }

    /// With many connections each owner has left the caches since the last turn.
    #[inline(always)]
    fn fetch_ahead(batch: &[Completion], n: usize, entries: &Slab<Entry>) {
        let entry = |ahead: usize| entries.get(place(batch.get(n + ahead)?.id));
        if let Some(entry) = entry(2 * AHEAD) {
            prefetch(entry);
        }
        if let Some(entry) = entry(AHEAD) {
            fetch::<OWNER_LINES>(Rc::as_ptr(&entry.owner).cast::<u8>().wrapping_sub(COUNTS));
        }
    }

    /// Hands a completion to its owner, and leaves one there that has nothing to be dropped. Returns whether it has an owner.
    #[inline(always)]
    fn hand_over_one(&self, batch: &mut [Completion], n: usize) -> bool {
        let entries = self.entries.borrow();
        Self::fetch_ahead(batch, n, &entries);
        let Completion { id, more, ref mut outcome } = batch[n];
        let entry = entries.get(place(id)).filter(|entry| u64::from(entry.generation) == id.0 >> 32);
        if let (Some(entry), true, &mut Outcome::Ready(Ok(found))) = (entry, more, &mut *outcome) {
            // As nearly all are. It has nothing to be moved.
            let (owner, tag) = (Rc::clone(&entry.owner), entry.tag);
            drop(entries);
            owner.ready(tag, found);
            return true;
        }
        let known = entry.is_some();
        drop(entries);
        self.hand_over_any(id, more, outcome, known);
        known
    }

    #[inline(never)]
    fn hand_over_any(&self, id: OpId, more: bool, outcome: &mut Outcome, known: bool) {
        let outcome = std::mem::replace(outcome, Outcome::Ready(Ok(Interest::default())));
        if !known {
            return;
        }
        let index = place(id);
        let (owner, tag) = if more {
            let entries = self.entries.borrow();
            (Rc::clone(&entries[index].owner), entries[index].tag)
        } else {
            let Entry { owner, tag, .. } = self.entries.borrow_mut().remove(index);
            (owner, tag)
        };
        owner.complete(tag, outcome, more);
    }

    /// The driver is shut down: every owner gets what is still owed.
    pub(crate) fn abandon(&self, core: &LoopCore) {
        self.take_posted();
        let count = self.arrived.borrow().len();
        self.hand_over(core, count);
        let left = std::mem::take(&mut *self.entries.borrow_mut());
        left.into_iter().for_each(|(_, entry)| discard(entry));
    }

    fn enter(&self, owner: &Rc<dyn Owner>, tag: u32) -> (usize, OpId) {
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        let index = self.entries.borrow_mut().insert(Entry { owner: Rc::clone(owner), tag, generation });
        (index, OpId(u64::from(generation) << 32 | u64::try_from(index).unwrap_or(u64::MAX)))
    }

    fn post(&self, core: &LoopCore, owner: &Rc<dyn Owner>, tag: u32, outcome: Outcome) {
        if core.is_closed() {
            return;
        }
        let (_, id) = self.enter(owner, tag);
        self.posted.borrow_mut().push_back(Completion { id, more: false, outcome });
        self.has_posted.set(true);
        core.look_soon();
    }

    /// How many completions were posted since this was last asked. They come after those that have arrived before.
    #[inline]
    pub(crate) fn take_posted(&self) -> usize {
        if self.has_posted.get() { self.line_up() } else { 0 }
    }

    #[cold]
    #[inline(never)]
    fn line_up(&self) -> usize {
        self.has_posted.set(false);
        let mut posted = self.posted.borrow_mut();
        let count = posted.len();
        self.arrived.borrow_mut().append(&mut posted);
        count
    }

    fn submit(&self, core: &LoopCore, op: Op, owner: &Rc<dyn Owner>, tag: u32) -> Result<Submitted> {
        let (index, id) = self.enter(owner, tag);
        let submitted = core.with_driver(|driver| driver.submit(id, op));
        if let Some(Submit::Pending) = submitted {
            return Ok(Submitted::InFlight(id));
        }
        let entry = self.entries.borrow_mut().remove(index);
        drop(entry);
        match submitted {
            Some(Submit::Done(outcome)) => Ok(Submitted::Done(outcome)),
            _ => Err(Error::runtime("the event loop is closed")),
        }
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").field("in_flight", &self.entries.borrow().len()).finish_non_exhaustive()
    }
}

impl crate::Loop {
    /// Submits an operation whose completions go to `owner` with `tag`, a number of the caller's choice. If it finished at once,
    /// its outcome is returned and the owner is not called. The loop keeps the owner until the last completion. See [`Owner`].
    ///
    /// # Errors
    /// `Runtime` if the loop is closed. An operation that fails is no error of this: its outcome says so.
    pub fn submit(&self, op: Op, owner: &Rc<dyn Owner>, tag: u32) -> Result<Submitted> {
        self.core().operations.submit(self.core(), op, owner, tag)
    }

    /// Submits an operation that completes at once; [`Op`] says of each whether it does.
    ///
    /// # Errors
    /// `Runtime` if the loop is closed, or if the driver did not complete the operation at once.
    pub fn submit_now(&self, op: Op) -> Result<Outcome> {
        struct Nobody;
        impl Owner for Nobody {
            fn complete(&self, _: u32, _: Outcome, _: bool) {}
        }
        let owner: Rc<dyn Owner> = Rc::new(Nobody);
        match self.submit(op, &owner, 0)? {
            Submitted::Done(outcome) => Ok(outcome),
            Submitted::InFlight(_) => Err(Error::runtime("the driver did not complete an immediate operation at once")),
        }
    }

    /// Hands an outcome to `owner` as a handle of the next turn, as if its operation had been in flight until then: after what is
    /// ready before, as all that completes.
    ///
    /// This is for operations that finished at once although those who wait for them expect a turn in between. A closed loop drops
    /// the outcome.
    pub fn post(&self, owner: &Rc<dyn Owner>, tag: u32, outcome: Outcome) {
        self.core().operations.post(self.core(), owner, tag, outcome);
    }

    /// Calls somebody's callback, in its context. A panic is reported to the exception handler, with where the callback was given.
    pub fn call_in(&self, context: &Context, location: &'static Location<'static>, callback: impl FnOnce()) {
        context.run(|| {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(callback)) {
                self.core().report_callback_panic(location, panic);
            }
        });
    }

    /// Asks that an operation in flight ends soon. Its owner is called with what came of it. If it has ended already, nothing happens.
    pub fn cancel_op(&self, id: OpId) {
        self.core().with_driver(|driver| driver.cancel(id));
    }

    /// Tries to send on a stream socket without waiting, see [`Driver::try_send`](crate::driver::Driver::try_send).
    #[inline(always)]
    pub fn try_send(&self, socket: crate::op::Resource, data: &[u8]) -> Option<std::io::Result<usize>> {
        let core = self.core();
        if !core.operations.wrote.get() {
            core.operations.wrote.set(true);
            core.look_soon();
        }
        core.driver().as_mut()?.try_send(socket, data)
    }

    /// Has the driver forget what it took of [`try_send`](Self::try_send) and could not send yet, see
    /// [`Driver::discard`](crate::driver::Driver::discard).
    pub fn discard(&self, socket: crate::op::Resource) {
        self.core().with_driver(|driver| driver.discard(socket));
    }

    /// Tries to receive on a stream socket without waiting, see [`Driver::try_recv`](crate::driver::Driver::try_recv).
    #[inline(always)]
    pub fn try_recv(
        &self,
        socket: crate::op::Resource,
        buffer: &mut bytes::BytesMut,
    ) -> Option<std::io::Result<TryReceived>> {
        self.core().driver().as_mut()?.try_recv(socket, buffer)
    }

    /// Whether more than data may have come for a stream socket, see
    /// [`Driver::may_have_ended`](crate::driver::Driver::may_have_ended).
    #[inline(always)]
    pub fn may_have_ended(&self, socket: crate::op::Resource) -> bool {
        self.core().driver().as_mut().is_none_or(|driver| driver.may_have_ended(socket))
    }

    /// Tries to read from a file without waiting, see [`Driver::try_read`](crate::driver::Driver::try_read).
    pub fn try_read(
        &self,
        file: crate::op::Resource,
        offset: u64,
        buffer: &mut bytes::BytesMut,
    ) -> Option<std::io::Result<usize>> {
        self.core().driver().as_mut().and_then(|driver| driver.try_read(file, offset, buffer))
    }

    /// Looks a host name up, see [`Driver::look_up`](crate::driver::Driver::look_up).
    pub fn look_up(&self, host: &str) -> Option<std::io::Result<Vec<std::net::IpAddr>>> {
        self.core().with_driver(|driver| driver.look_up(host)).flatten()
    }

    /// Whether Unix sockets have files, see [`Driver::has_socket_files`](crate::driver::Driver::has_socket_files).
    pub fn has_socket_files(&self) -> bool {
        self.core().with_driver(|driver| driver.has_socket_files()).unwrap_or(false)
    }

    /// Whether this loop is the one that runs on the current thread.
    pub fn is_current(&self) -> bool {
        home::home() == self.core().id()
    }
}
