//! [`RemoteLoop`]: a loop as other threads see it.

use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::callback::Call;
use crate::context::{self, ContextMap};
use crate::diversion::Diversion;
use crate::error::{Error, Result};
use crate::event_loop::LoopCore;
use crate::inbox::{LoopShared, Message};
use crate::report::discard;
use crate::shared::{Arc, Mutex};
use crate::task::home;

/// A function that another thread wants the loop to call.
pub(crate) struct RemoteCall {
    function: Mutex<State>,
    context: Option<ContextMap>,
    location: &'static Location<'static>,
}

enum State {
    Waiting(Box<dyn FnOnce() + Send>),
    Taken,
    Cancelled,
}

impl RemoteCall {
    fn take(&self, leave: State) -> State {
        let mut state = self.function.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Waiting(_) => std::mem::replace(&mut state, leave),
            State::Taken => State::Taken,
            State::Cancelled => State::Cancelled,
        }
    }

    /// The handle that calls it.
    pub(crate) fn into_call(this: Arc<Self>, core: &LoopCore) -> Rc<Call> {
        let (context, location) = (this.context.clone(), this.location);
        Call::new(core, context, location, move |_| {
            if let State::Waiting(function) = this.take(State::Taken) {
                function();
            }
        })
    }
}

impl Drop for RemoteCall {
    fn drop(&mut self) {
        discard(self.take(State::Taken));
    }
}

/// A loop as other threads see it: what can be sent to it. Clones are the same loop; they may outlive it, and do not keep it. In
/// asyncio the loop itself is used, by its methods whose names end in `_threadsafe`.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Result, get_running_loop, to_thread};
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
///
/// fn count_lines(text: &str, found: impl Fn() -> Result<()>) -> Result<()> {
///     text.lines().try_for_each(|_| found())
/// }
///
/// let remote = get_running_loop()?.remote();
/// let lines = Arc::new(AtomicUsize::new(0));
/// let shown = Arc::clone(&lines);
/// to_thread(move || {
///     count_lines("one\ntwo\n", || {
///         let shown = Arc::clone(&shown);
///         // This runs on the loop's thread.
///         remote.call_soon_threadsafe(move || drop(shown.fetch_add(1, Ordering::Relaxed))).map(drop)
///     })
/// })
/// .await?;
/// assert_eq!(lines.load(Ordering::Relaxed), 2);
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct RemoteLoop {
    shared: Arc<LoopShared>,
}

impl RemoteLoop {
    pub(crate) fn new(shared: Arc<LoopShared>) -> Self {
        RemoteLoop { shared }
    }

    /// The loop's number.
    pub(crate) fn id(&self) -> u64 {
        self.shared.id()
    }

    /// Has the loop call a function, from any thread: asyncio's `call_soon_threadsafe`. It is called in the context that holds
    /// here, and functions of one thread are called in the order in which they were sent. If it panics, that is reported to the
    /// loop's exception handler.
    ///
    /// # Errors
    /// `Runtime` if the loop is closed. If it closes before it got to the function, the function is dropped.
    #[track_caller]
    pub fn call_soon_threadsafe(&self, function: impl FnOnce() + Send + 'static) -> Result<RemoteHandle> {
        let call = Arc::new(RemoteCall {
            function: Mutex::new(State::Waiting(Box::new(function))),
            context: context::current(),
            location: Location::caller(),
        });
        if !self.send(Message::Call(Arc::clone(&call))) {
            return Err(Error::runtime("the event loop is closed"));
        }
        Ok(RemoteHandle { call })
    }

    /// Sends something to the loop; at home it keeps its place among what `call_soon` schedules. Returns whether the loop was open.
    fn send(&self, message: Message) -> bool {
        if home::home() != self.shared.id() || self.shared.is_closed() {
            return self.shared.send(message);
        }
        home::with(|core| core.receive_at_home(message)).is_some()
    }

    /// Whether the loop is closed.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Has interrupts do nothing to this loop while what this returns lives, because somebody else handles the signal.
    pub fn divert_interrupts(&self) -> Diversion {
        Diversion::new(Arc::clone(&self.shared))
    }

    /// Whether interrupts are diverted. Async-signal-safe.
    pub fn has_diverted_interrupts(&self) -> bool {
        self.shared.diversions.load(Ordering::SeqCst) > 0
    }

    /// What a handler of SIGINT calls: the main task of the loop is cancelled. Async-signal-safe.
    pub fn interrupt(&self) {
        self.shared.interrupt();
    }
}

impl fmt::Debug for RemoteLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

/// A function that [`call_soon_threadsafe`](RemoteLoop::call_soon_threadsafe) scheduled: the `Handle` that asyncio's returns. It
/// may be cancelled from any thread. Dropping it changes nothing.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{get_running_loop, sleep};
///
/// let remote = get_running_loop()?.remote();
/// let handle = remote.call_soon_threadsafe(|| panic!("it was cancelled"))?;
/// handle.cancel();
/// assert!(handle.cancelled());
/// sleep(0.0).await?;
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct RemoteHandle {
    call: Arc<RemoteCall>,
}

impl RemoteHandle {
    /// Keeps the function from being called, unless the loop has begun to call it.
    pub fn cancel(&self) {
        drop(self.call.take(State::Cancelled));
    }

    /// Whether [`cancel`](Self::cancel) came before the call.
    pub fn cancelled(&self) -> bool {
        matches!(*self.call.function.lock().unwrap_or_else(PoisonError::into_inner), State::Cancelled)
    }
}

impl fmt::Debug for RemoteHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteHandle").field("cancelled", &self.cancelled()).finish()
    }
}
