//! The cut between the loop and a backend: [`Driver`] and what passes through it.
//!
//! A driver executes a closed set of operations ([`Op`]) and reports each outcome exactly once. It knows nothing of tasks, and the
//! loop knows nothing of descriptors or system calls. The laws every driver keeps:
//!
//! - **D1** Every submitted op gives exactly one final completion. A multishot op gives any number of completions with
//!   [`more`](Completion::more) set, then one without.
//! - **D2** [`Driver::cancel`] completes nothing itself. The op's own final completion says what happened.
//! - **D3** Buffers and descriptors inside an op belong to the driver until they come back in a completion, also through
//!   [`Driver::shutdown`].
//! - **D4** A descriptor that the kernel returns is an owned resource from that instant.
//! - **D5** A wait does not outlast a completion, a kick or its deadline. It may return early with nothing.
//! - **D6** Nothing re-enters the loop from inside the driver.
//! - **D7** A multishot op has a credit. When it is used up the driver ends the op, and its owner arms it again.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use crate::op::{Op, Outcome};
pub use crate::task::fetch::prefetch;
use crate::task::home;
use crate::time::Instant;

/// The loop's name for an operation in flight, which the driver hands back in the [`Completion`].
///
/// The low 32 bits are a small index that no other operation in flight has, so that a driver can keep its own notes in a vector; the
/// high 32 bits change whenever an index is used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OpId(pub u64);

/// What [`Driver::submit`] did with an op.
///
/// A `Submit` is the driver's side; [`Submitted`](crate::ops::Submitted) is what the caller sees of it.
#[derive(Debug)]
pub enum Submit {
    /// The op finished at once; no completion follows.
    Done(Outcome),
    /// The op is in flight; its completions carry the id it was submitted with.
    Pending,
}

/// How long a [`Driver::turn`] may wait.
///
/// A task that waits is another thing: [`Wait`](crate::Wait) of the crate's root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Not at all: flush, reap what is there, return.
    No,
    /// Until something happens, or the driver's clock reaches this instant.
    Until(Instant),
    /// Until something happens.
    Forever,
}

/// The outcome of an op that was in flight.
///
/// ```
/// use aioli_core::driver::{Completion, Completions, OpId};
/// use aioli_core::op::Outcome;
///
/// /// What a driver does in its turn when an operation has ended.
/// fn finish(id: OpId, completions: &mut Completions) {
///     completions.push_back(Completion { id, more: false, outcome: Outcome::Done(Ok(())) });
/// }
///
/// let mut completions = Completions::new();
/// finish(OpId(7), &mut completions);
/// assert_eq!(completions[0].id, OpId(7));
/// ```
#[derive(Debug)]
pub struct Completion {
    /// The id the op was submitted with.
    pub id: OpId,
    /// Whether further completions of the same op follow.
    pub more: bool,
    /// What happened.
    pub outcome: Outcome,
}

/// Completions in the order in which they arrived.
pub type Completions = VecDeque<Completion>;

/// Interrupts a [`Driver::turn`] that waits, from any thread.
///
/// A kick that comes before the wait is not lost: the next wait returns at once. Kicking is async-signal-safe: it takes no lock and
/// allocates nothing.
///
/// A driver that waits in the kernel writes to an eventfd; one that never waits may do nothing.
///
/// ```
/// use aioli_core::driver::Kick;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// /// For a driver that looks at it before and while it waits.
/// #[derive(Debug, Default)]
/// struct Bell(AtomicU32);
///
/// impl Kick for Bell {
///     fn kick(&self) {
///         self.0.fetch_add(1, Ordering::Release);
///     }
/// }
///
/// let bell = Bell::default();
/// bell.kick();
/// assert_eq!(bell.0.load(Ordering::Acquire), 1);
/// ```
pub trait Kick: Send + Sync + fmt::Debug {
    /// Makes the current or the next wait return.
    fn kick(&self);
}

/// What a driver is and what it found, for a report to the user. [`Loop::report`](crate::Loop::report) gives it.
///
/// ```
/// use aioli_core::driver::DriverReport;
///
/// let report = DriverReport { name: "epoll", capabilities: vec![("epoll_pwait2".into(), "yes".into())] };
/// assert_eq!(report.to_string(), "epoll\n  epoll_pwait2  yes");
/// ```
#[derive(Clone, Debug)]
pub struct DriverReport {
    /// The backend's name, as in `AIOLI_BACKEND`: `"epoll"`, `"uring"`, `"sim"`.
    pub name: &'static str,
    /// One line for each capability that was probed: its name and what was found.
    pub capabilities: Vec<(String, String)>,
}

/// As text: the name, and a line for each capability.
impl fmt::Display for DriverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.capabilities.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        write!(f, "{}", self.name)?;
        self.capabilities.iter().try_for_each(|(name, found)| write!(f, "\n  {name:width$}  {found}"))
    }
}

/// What [`Driver::try_recv`] received. It is one word, so that the result of that travels in registers.
///
/// ```
/// use aioli_core::driver::TryReceived;
///
/// let received = TryReceived::new(64, false);
/// assert_eq!((received.count(), received.more()), (64, false));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TryReceived(usize);

impl TryReceived {
    /// So many bytes came, fewer than half of what an address space holds.
    #[inline(always)]
    pub fn new(count: usize, more: bool) -> Self {
        TryReceived(count << 1 | usize::from(more))
    }

    /// How many bytes came; 0 is the end of the stream.
    #[inline(always)]
    pub fn count(self) -> usize {
        self.0 >> 1
    }

    /// Whether there may be more at once. If not, an [`Op::Watch`] tells when there is.
    #[inline(always)]
    pub fn more(self) -> bool {
        self.0 & 1 != 0
    }
}

impl fmt::Debug for TryReceived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryReceived").field("count", &self.count()).field("more", &self.more()).finish()
    }
}

/// Tells this thread, the only one of a process that was just forked, that no loop runs on it: the one that did is the parent's, and
/// stops here, with an error, as soon as control returns to it. The fork handler of a driver calls this. Async-signal-safe.
pub fn forked() {
    home::with(|core| core.leave_to_parent());
    home::leave();
}

/// A backend: executes operations, waits for them, and owns the clock.
///
/// The loop calls a driver from one thread only. See the [module's laws](self).
///
/// A driver of one's own may wrap another: to count, to log, to fail on purpose. It then passes on the methods that have a default
/// answer as well, where it wants what the other one can.
///
/// ```
/// use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, Wait};
/// use aioli_core::op::Op;
/// use aioli_core::{Instant, sleep};
/// use aioli_exec_sim::SimDriver;
/// use std::{cell::Cell, io, rc::Rc, sync::Arc};
///
/// /// Counts the turns in which it had to wait.
/// struct Counting {
///     inner: SimDriver,
///     waits: Rc<Cell<u32>>,
/// }
///
/// impl Driver for Counting {
///     fn report(&self) -> DriverReport {
///         let mut report = self.inner.report();
///         report.capabilities.push(("waits".into(), "counted".into()));
///         report
///     }
///
///     fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
///         if wait != Wait::No {
///             self.waits.set(self.waits.get() + 1);
///         }
///         self.inner.turn(wait, completions)
///     }
///
///     fn now(&self) -> Instant {
///         self.inner.now()
///     }
///
///     fn is_virtual(&self) -> bool {
///         self.inner.is_virtual()
///     }
///
///     fn is_stuck(&self) -> bool {
///         self.inner.is_stuck()
///     }
///
///     fn submit(&mut self, id: OpId, op: Op) -> Submit {
///         self.inner.submit(id, op)
///     }
///
///     fn cancel(&mut self, id: OpId) {
///         self.inner.cancel(id);
///     }
///
///     fn kicker(&self) -> Arc<dyn Kick> {
///         self.inner.kicker()
///     }
///
///     fn shutdown(&mut self, completions: &mut Completions) {
///         self.inner.shutdown(completions);
///     }
/// }
///
/// let waits = Rc::new(Cell::new(0));
/// let driver = Counting { inner: SimDriver::new(), waits: Rc::clone(&waits) };
/// aioli_core::run(driver, async {
///     sleep(0.0).await?; // a bare yield: nothing to wait for
///     sleep(1.0).await?;
///     sleep(1.0).await
/// })
/// .unwrap();
/// assert_eq!(waits.get(), 2);
/// ```
pub trait Driver: 'static {
    /// What this driver is and what its probe found.
    fn report(&self) -> DriverReport;

    /// Whether this driver can be used here: not in a process that was forked from the one that it was made in.
    ///
    /// # Errors
    /// If not. The loop then does not run, and closing it drops the driver, without a [`shutdown`](Self::shutdown). It asks when it
    /// begins to run, when it is closed, and after [`forked`]; what is submitted there all the same the driver refuses.
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    /// The clock: monotonic, in nanoseconds from an origin of the driver's choice.
    fn now(&self) -> Instant;

    /// Whether the clock moves only inside [`turn`](Self::turn). The loop then asks the driver in every turn.
    fn is_virtual(&self) -> bool {
        false
    }

    /// Starts an op. It may complete at once; it never blocks.
    fn submit(&mut self, id: OpId, op: Op) -> Submit;

    /// Asks that an op in flight ends soon. An id that is not in flight is ignored.
    fn cancel(&mut self, id: OpId);

    /// Tries to send on a stream socket from borrowed memory, without waiting: `None` where this driver has no such path, or where
    /// a send of this resource is in flight, and the caller submits [`Op::Send`] instead. `WouldBlock` means nothing was sent.
    fn try_send(&mut self, resource: crate::op::Resource, data: &[u8]) -> Option<io::Result<usize>> {
        let _ = (resource, data);
        None
    }

    /// Hands the kernel what [`try_send`](Self::try_send) took and has not handed to it yet. The loop asks for it at the end of a turn in
    /// which that was called, unless it asks for a [`turn`](Self::turn), which has to do the same. Nothing to do for a driver that
    /// always sends at once.
    ///
    /// # Errors
    /// As those of a [`turn`](Self::turn).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Forgets what [`try_send`](Self::try_send) took and the kernel has not taken, since the connection is aborted. Nothing to do for a
    /// driver that keeps nothing.
    fn discard(&mut self, resource: crate::op::Resource) {
        let _ = resource;
    }

    /// Tries to receive on a stream socket into the spare capacity of a buffer, without waiting: `None` where this driver has no such
    /// path, or where a receive of this resource is in flight. `WouldBlock` means that there is nothing now. See [`Op::Watch`].
    fn try_recv(
        &mut self,
        resource: crate::op::Resource,
        buffer: &mut bytes::BytesMut,
    ) -> Option<io::Result<TryReceived>> {
        let _ = (resource, buffer);
        None
    }

    /// Whether more than data may have come for a stream socket that is watched, as far as this driver was told: its end, an error, a
    /// hang-up or urgent data. As long as only data has, those who receive may put it off until the data is wanted. `true` where this
    /// driver does not look.
    fn may_have_ended(&mut self, resource: crate::op::Resource) -> bool {
        let _ = resource;
        true
    }

    /// Tries to read from a file, at an offset, into the spare capacity of a buffer, which has some: `None` where this driver has no such
    /// path, or where the disk would have to be waited for, and the caller submits [`Op::ReadFile`] instead.
    fn try_read(
        &mut self,
        file: crate::op::Resource,
        offset: u64,
        buffer: &mut bytes::BytesMut,
    ) -> Option<io::Result<usize>> {
        let _ = (file, offset, buffer);
        None
    }

    /// One turn: hand what was submitted to the kernel, wait as told, and append what completed.
    ///
    /// A kick is used up only by a turn that waits: the loop looks at its inbox between a turn's return and the next wait.
    ///
    /// # Errors
    /// An error means that the backend itself is broken; the loop stops with it. An interrupted wait is no error.
    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()>;

    /// Whether nothing that this driver does can complete an operation any more, so that a wait without a deadline could be ended by
    /// other threads alone. The loop asks a driver with a virtual clock before it waits like that. If it does wait, the driver may
    /// end the wait, after a time of its choice, with an error of the kind [`Deadlock`](io::ErrorKind::Deadlock): the loop then stops
    /// with [`ErrorKind::Deadlock`](crate::ErrorKind::Deadlock), unless a thread works for it.
    fn is_stuck(&self) -> bool {
        false
    }

    /// The addresses of a host, where this driver has names of its own. `None`: the operating system is to be asked.
    fn look_up(&self, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        let _ = host;
        None
    }

    /// Whether names of Unix sockets are files of this machine. If not, they are the driver's own, and files of the same names are none
    /// of its business.
    fn has_socket_files(&self) -> bool {
        true
    }

    /// The handle by which other threads interrupt a wait. It may outlive the driver; kicks are then ignored.
    fn kicker(&self) -> Arc<dyn Kick>;

    /// Cancels everything in flight and appends every final completion still owed. Afterwards each submit answers with an error.
    fn shutdown(&mut self, completions: &mut Completions);
}

/// A boxed driver is one too, for those who choose it while running.
impl<D: Driver + ?Sized> Driver for Box<D> {
    fn report(&self) -> DriverReport {
        (**self).report()
    }

    fn check(&self) -> io::Result<()> {
        (**self).check()
    }

    fn now(&self) -> Instant {
        (**self).now()
    }

    fn is_virtual(&self) -> bool {
        (**self).is_virtual()
    }

    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        (**self).submit(id, op)
    }

    fn cancel(&mut self, id: OpId) {
        (**self).cancel(id);
    }

    fn try_send(&mut self, resource: crate::op::Resource, data: &[u8]) -> Option<io::Result<usize>> {
        (**self).try_send(resource, data)
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }

    fn discard(&mut self, resource: crate::op::Resource) {
        (**self).discard(resource);
    }

    fn try_recv(
        &mut self,
        resource: crate::op::Resource,
        buffer: &mut bytes::BytesMut,
    ) -> Option<io::Result<TryReceived>> {
        (**self).try_recv(resource, buffer)
    }

    fn may_have_ended(&mut self, resource: crate::op::Resource) -> bool {
        (**self).may_have_ended(resource)
    }

    fn try_read(
        &mut self,
        file: crate::op::Resource,
        offset: u64,
        buffer: &mut bytes::BytesMut,
    ) -> Option<io::Result<usize>> {
        (**self).try_read(file, offset, buffer)
    }

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        (**self).turn(wait, completions)
    }

    fn is_stuck(&self) -> bool {
        (**self).is_stuck()
    }

    fn look_up(&self, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        (**self).look_up(host)
    }

    fn has_socket_files(&self) -> bool {
        (**self).has_socket_files()
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        (**self).kicker()
    }

    fn shutdown(&mut self, completions: &mut Completions) {
        (**self).shutdown(completions);
    }
}
