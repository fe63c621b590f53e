//! What other threads send to a loop.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::driver::Kick;
use crate::remote::RemoteCall;
use crate::shared::{Arc, AtomicBool, Injector, Steal, fence};
use crate::task::waker::BackingRef;

/// Something another thread sent.
pub(crate) enum Message {
    /// A task is to be woken.
    Wake(BackingRef),
    /// A function is to be called.
    Call(Arc<RemoteCall>),
    /// The program was interrupted: the main task is to be cancelled.
    Interrupt,
}

/// The part of a loop that other threads know. It may outlive the loop.
pub(crate) struct LoopShared {
    id: u64,
    inbox: Injector<Message>,
    /// Something may be in the inbox that the loop has not been told of.
    pending: AtomicBool,
    interrupted: AtomicBool,
    /// Handlers of Ctrl-C that take the place of an interrupt.
    pub(crate) diversions: AtomicU32,
    closed: AtomicBool,
    kick: std::sync::Arc<dyn Kick>,
}

impl LoopShared {
    pub(crate) fn new(kick: std::sync::Arc<dyn Kick>) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        LoopShared {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            inbox: Injector::new(),
            pending: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            diversions: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            kick,
        }
    }

    /// The loop's number, which no other loop ever has.
    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Puts a message into the inbox; a closed loop's swallows it. Returns whether the loop was open.
    pub(crate) fn send(&self, message: Message) -> bool {
        if self.closed.load(Ordering::Acquire) {
            return false;
        }
        self.inbox.push(message);
        // Pairs with the fence of `close`: either that finds the message, or this finds the loop closed. A message that stayed here
        // would keep the inbox, and the inbox it.
        fence(Ordering::SeqCst);
        if self.closed.load(Ordering::Acquire) {
            self.drain(drop);
            return false;
        }
        self.announce();
        true
    }

    /// Tells the loop that the program was interrupted. Async-signal-safe.
    pub(crate) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Release);
        self.announce();
    }

    /// Takes an interrupt that the loop was not told of yet.
    pub(crate) fn take_interrupt(&self) -> bool {
        self.interrupted.swap(false, Ordering::AcqRel)
    }

    fn announce(&self) {
        // The first one since the loop last looked kicks it; the loop clears the flag before it empties the inbox.
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.kick.kick();
        }
    }

    /// Whether anything may have come since the last [`drain`](Self::drain).
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Hands over everything that was sent before this call, in order. What comes meanwhile waits, however fast it comes.
    pub(crate) fn drain(&self, mut receive: impl FnMut(Message)) {
        self.pending.swap(false, Ordering::AcqRel);
        if self.take_interrupt() {
            receive(Message::Interrupt);
        }
        // What comes from now on has announced itself again. It is left: threads that send without end are not to hold the loop here.
        let mut left = self.inbox.len();
        while left > 0 {
            match self.inbox.steal() {
                Steal::Success(message) => {
                    left -= 1;
                    receive(message);
                }
                Steal::Retry => continue,
                Steal::Empty => break,
            }
        }
    }

    /// The loop is closed: nothing is received any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        let mut late = Vec::new();
        self.drain(|message| late.push(message));
        drop(late);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl fmt::Debug for LoopShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopShared").field("id", &self.id).field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}
