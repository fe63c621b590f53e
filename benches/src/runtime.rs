//! What a workload needs of a runtime.

use std::future::{Future, poll_fn};
use std::mem;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::aioli::{Aioli, Epoll};
#[cfg(any(feature = "tokio", feature = "monoio", feature = "glommio", feature = "smol"))]
use crate::peers;
use crate::promise::{Kept, Taken};
use crate::slot::Slot;

/// A single-threaded runtime, as far as the workloads use one.
///
/// Every method is the runtime's own call, to be inlined: what a user of that runtime would write at that place. The value is
/// the handle that tasks are spawned with; it is passed to the main function by [`run`](Self::run).
pub trait Runtime: Copy + 'static {
    /// How it is called in the tables: the runtime, then what distinguishes this use of it.
    const NAME: &'static str;
    /// Whether it has a yield of its own. If not, [`yield_now`](Self::yield_now) is [`wake_yield`].
    const HAS_YIELD: bool = true;

    /// What the future of a task returns for a `T`.
    type Output<T: 'static>: 'static;
    /// A spawned task, to be awaited.
    type Handle<T: 'static>: Future + 'static;

    /// Whether it works on this machine: the reason, if it does not.
    ///
    /// # Errors
    ///
    /// What the runtime said when it failed to start.
    fn available() -> Result<(), String> {
        Ok(())
    }

    /// Starts a fresh runtime, runs `main` in it to its end, and closes it.
    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> T;

    /// Wraps what a task returns.
    fn ok<T: 'static>(value: T) -> Self::Output<T>;

    /// Starts a task.
    fn spawn<T: 'static>(self, future: impl Future<Output = Self::Output<T>> + 'static) -> Self::Handle<T>;

    /// Takes a task's value out of what awaiting its handle gave.
    ///
    /// # Panics
    ///
    /// If the task failed.
    fn value<T: 'static>(joined: <Self::Handle<T> as Future>::Output) -> T;

    /// Lets go of a task, which runs on.
    fn detach<T: 'static>(handle: Self::Handle<T>);

    /// Lets the other ready tasks run.
    fn yield_now() -> impl Future;

    /// Sleeps.
    fn sleep(delay: Duration) -> impl Future + 'static;

    /// A value that one task sets, once, and another waits for: the runtime's own, or else one without any synchronisation.
    fn promise<T: 'static>() -> (impl FnOnce(T) + 'static, impl Future<Output = T> + 'static) {
        let slot = Rc::new(Slot::default());
        let setter = Rc::clone(&slot);
        (move |value| setter.put(value), Taken(slot))
    }

    /// The same as users have it, with an error where the other half is dropped: the runtime's own, or else that of `futures`.
    fn oneshot<T: 'static>() -> (impl FnOnce(T) + 'static, impl Future<Output = T> + 'static) {
        let (sender, receiver) = futures_channel::oneshot::channel();
        let send = move |value| sender.send(value).ok().expect("somebody waits for it");
        (send, Kept(receiver))
    }

    /// A future that may poll as many of the runtime's own futures as it likes without being made to yield. The same future, for
    /// runtimes that ration nothing.
    fn unrationed<F: Future>(future: F) -> impl Future<Output = F::Output> {
        future
    }
}

/// The yield that works everywhere: the task wakes itself and returns.
pub fn wake_yield() -> impl Future<Output = ()> {
    let mut yielded = false;
    poll_fn(move |cx| {
        if mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Something to do with each runtime.
pub trait Visitor {
    /// Does it with `R`.
    fn visit<R: Runtime>(&mut self);
}

/// Shows each runtime that is built in to `visitor`, without starting any.
pub fn visit_all(visitor: &mut impl Visitor) {
    visitor.visit::<Aioli<Epoll>>();
    #[cfg(feature = "tokio")]
    {
        visitor.visit::<peers::tokio::Local>();
        visitor.visit::<peers::tokio::LocalRt>();
    }
    #[cfg(feature = "monoio")]
    {
        visitor.visit::<peers::monoio::Uring>();
        visitor.visit::<peers::monoio::Legacy>();
    }
    #[cfg(feature = "glommio")]
    visitor.visit::<peers::glommio::Glommio>();
    #[cfg(feature = "smol")]
    {
        visitor.visit::<peers::smol::Local>();
        visitor.visit::<peers::smol::Static>();
    }
}

/// Shows each runtime that is built in and works on this machine to `visitor`. Those that do not work are named on stderr.
pub fn visit_available(visitor: &mut impl Visitor) {
    visit_all(&mut Available(visitor));
}

struct Available<'v, V>(&'v mut V);

impl<V: Visitor> Visitor for Available<'_, V> {
    fn visit<R: Runtime>(&mut self) {
        match R::available() {
            Ok(()) => self.0.visit::<R>(),
            Err(reason) => eprintln!("{} left out: {reason}", R::NAME),
        }
    }
}
