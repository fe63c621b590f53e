//! [`Catcher`]: brings a signal to a loop.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::unix::net::UnixStream;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aioli_core::op::{Op, Outcome};
use aioli_core::ops::{Owner, Submitted};
use aioli_core::{Diversion, Error, Loop, Result};
use bytes::BytesMut;
use signal_hook::SigId;
use signal_hook::consts::FORBIDDEN;
use signal_hook::low_level;

use crate::disposition::Handled;
use crate::handle::{Handle, opened};
use crate::signal::Signal;

/// As many signals are taken in at once.
const ROOM: usize = 64;

/// What is called for each signal that comes, in a handle of the loop.
pub(crate) type OnSignal = Box<dyn Fn(Signal)>;

/// Brings a signal to a loop: its handler writes a byte to a socket, which the loop reads.
pub(crate) struct Catcher {
    this: Weak<Catcher>,
    event_loop: Loop,
    signal: Signal,
    on_signal: OnSignal,
    catching: RefCell<Option<Catching>>,
    /// The loop is closed, and what was set up for the signal on it goes.
    on_closed: Cell<Option<Box<dyn FnOnce()>>>,
}

/// What is there while the signal is caught.
struct Catching {
    ids: [SigId; 2],
    /// Set before a byte is written. A forked child has the handler and the socket too: it writes bytes, but sets a flag of its own.
    came: Arc<AtomicBool>,
    socket: Handle,
    _handled: Handled,
    /// Ctrl-C is not to cancel the main task as well.
    _diversion: Option<Diversion>,
}

impl Drop for Catching {
    fn drop(&mut self) {
        for id in self.ids {
            low_level::unregister(id);
        }
    }
}

impl Catcher {
    /// Catches a signal until [`stop`](Self::stop), or until the loop is closed.
    ///
    /// # Errors
    /// `Runtime` if the signal cannot be caught; `Io` from the operating system.
    pub(crate) fn start(event_loop: &Loop, signal: Signal, on_signal: OnSignal) -> Result<Rc<Self>> {
        if FORBIDDEN.contains(&signal.number()) {
            return Err(Error::runtime(format!("{signal} cannot be caught")));
        }
        let (ours, theirs) = UnixStream::pair()?;
        let resource = opened(event_loop.submit_now(Op::Adopt { fd: ours.into() })?)?;
        let socket = Handle::adopt(event_loop, resource);
        let handled = Handled::new(signal)?;
        let diversion = (signal == Signal::INT).then(|| event_loop.remote().divert_interrupts());
        let came = Arc::new(AtomicBool::new(false));
        // Handlers are called in the order of their registration.
        let flag = signal_hook::flag::register(signal.number(), Arc::clone(&came))?;
        let pipe = low_level::pipe::register(signal.number(), theirs).inspect_err(|_| {
            low_level::unregister(flag);
        })?;
        let catching = Catching { ids: [flag, pipe], came, socket, _handled: handled, _diversion: diversion };
        let catcher = Rc::new_cyclic(|this| Catcher {
            this: this.clone(),
            event_loop: event_loop.clone(),
            signal,
            on_signal,
            catching: RefCell::new(Some(catching)),
            on_closed: Cell::new(None),
        });
        catcher.listen();
        Ok(catcher)
    }

    pub(crate) fn event_loop(&self) -> &Loop {
        &self.event_loop
    }

    pub(crate) fn signal(&self) -> Signal {
        self.signal
    }

    /// Has a function called if the loop closes first.
    pub(crate) fn on_closed(&self, function: impl FnOnce() + 'static) {
        self.on_closed.set(Some(Box::new(function)));
    }

    /// Catches the signal no more.
    pub(crate) fn stop(&self) {
        let catching = self.catching.take();
        drop(catching);
    }

    /// Whether the signal has come to this process since this was last asked.
    fn has_come(&self) -> bool {
        self.catching.borrow().as_ref().is_some_and(|catching| catching.came.swap(false, Ordering::SeqCst))
    }

    fn listen(&self) {
        let Some(this) = self.this.upgrade() else { return };
        let owner: Rc<dyn Owner> = this;
        let socket = match &*self.catching.borrow() {
            Some(catching) => catching.socket.resource(),
            None => return,
        };
        let buffer = BytesMut::with_capacity(ROOM);
        if let Ok(Submitted::Done(outcome)) = self.event_loop.submit(Op::Recv { socket, buffer }, &owner, 0) {
            self.event_loop.post(&owner, 0, outcome);
        }
    }
}

impl Owner for Catcher {
    fn complete(&self, _: u32, outcome: Outcome, _: bool) {
        match outcome {
            Outcome::Received { result: Ok(count), .. } if self.catching.borrow().is_some() => {
                if self.has_come() {
                    (0..count).for_each(|_| (self.on_signal)(self.signal));
                }
                self.listen();
            }
            // It was stopped, or the loop is closed.
            _ => {
                self.stop();
                if let Some(function) = self.on_closed.take() {
                    function();
                }
            }
        }
    }
}

impl fmt::Debug for Catcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catcher")
            .field("signal", &self.signal)
            .field("catching", &self.catching.borrow().is_some())
            .finish_non_exhaustive()
    }
}
