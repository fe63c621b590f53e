//! [`Catcher`]: brings a signal to a loop.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::{Rc, Weak};

use aioli_core::op::{Interest, Op, Outcome};
use aioli_core::ops::{Owner, Submitted};
use aioli_core::{Diversion, Error, Loop, Result};
use rustix::cmsg_space;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::getpid;
use signal_hook::SigId;
use signal_hook::consts::FORBIDDEN;
use signal_hook::low_level;

use crate::disposition::Handled;
use crate::handle::Handle;
use crate::signal::Signal;

/// As many bytes are taken in at once.
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
    id: SigId,
    /// What tells that there are bytes.
    socket: Handle,
    /// The same socket. Each byte comes with the number of the process that wrote it: a forked child has the handler too.
    bytes: OwnedFd,
    _handled: Handled,
    /// Ctrl-C is not to cancel the main task as well.
    _diversion: Option<Diversion>,
}

impl Drop for Catching {
    fn drop(&mut self) {
        low_level::unregister(self.id);
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
        let bytes = OwnedFd::from(ours.try_clone()?);
        let socket = Handle::from_fd(event_loop, ours.into())?;
        let handled = Handled::new(signal)?;
        let diversion = (signal == Signal::INT).then(|| event_loop.remote().divert_interrupts());
        set_socket_passcred(&bytes, true).map_err(io::Error::from)?;
        let id = low_level::pipe::register(signal.number(), theirs)?;
        let catching = Catching { id, socket, bytes, _handled: handled, _diversion: diversion };
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

    /// Takes the bytes that were written, and tells how many signals came to this process.
    fn take_in(&self) -> usize {
        let catching = self.catching.borrow();
        let Some(catching) = &*catching else { return 0 };
        let mut count = 0;
        loop {
            let (mut bytes, mut space) = ([0; ROOM], [MaybeUninit::uninit(); cmsg_space!(ScmCredentials(1))]);
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut bytes)];
            // Bytes of different processes never come together.
            match recvmsg(&catching.bytes, &mut into, &mut control, RecvFlags::DONTWAIT) {
                Ok(received) if received.bytes > 0 => {
                    let is_ours = |message| match message {
                        RecvAncillaryMessage::ScmCredentials(writer) => writer.pid == getpid(),
                        _ => false,
                    };
                    if control.drain().any(is_ours) {
                        count += received.bytes;
                    }
                }
                _ => return count,
            }
        }
    }

    fn listen(&self) {
        let Some(this) = self.this.upgrade() else { return };
        let owner: Rc<dyn Owner> = this;
        let socket = match &*self.catching.borrow() {
            Some(catching) => catching.socket.resource(),
            None => return,
        };
        let op = Op::Poll { resource: socket, interest: Interest { readable: true, writable: false } };
        if let Ok(Submitted::Done(outcome)) = self.event_loop.submit(op, &owner, 0) {
            self.event_loop.post(&owner, 0, outcome);
        }
    }
}

impl Owner for Catcher {
    fn complete(&self, _: u32, outcome: Outcome, _: bool) {
        match outcome {
            Outcome::Ready(Ok(_)) if self.catching.borrow().is_some() => {
                let count = self.take_in();
                (0..count).for_each(|_| (self.on_signal)(self.signal));
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
