//! [`Ring`]: the two queues, and the one system call that serves both.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use aioli_exec_linux::Timeout;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};

use crate::token::Token;

const GETEVENTS: u32 = 1;
const EXT_ARG: u32 = 1 << 3;
const NO_IOWAIT: u32 = 1 << 7;

/// A completion as the kernel reports it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    token: u64,
    pub(crate) result: i32,
    flags: u32,
}

impl Event {
    /// What it belongs to.
    #[inline]
    pub(crate) fn token(&self) -> Token {
        Token::decode(self.token)
    }

    /// The entry of a stream that it belongs to.
    #[inline(always)]
    pub(crate) fn stream(&self) -> Option<usize> {
        Token::stream(self.token)
    }

    /// Whether further completions of the same request follow.
    pub(crate) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The buffer that the kernel took for it.
    pub(crate) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// # Errors
    /// The kernel's.
    pub(crate) fn count(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

/// An io_uring. Nothing that its requests refer to may be freed before they completed, or before it is dropped.
pub(crate) struct Ring {
    uring: IoUring,
    flags: u32,
    /// Some of what is in the queue are polls.
    pub(crate) polled: bool,
    /// Entries that come after a full queue of which the kernel takes nothing, as when memory is short.
    late: VecDeque<squeue::Entry>,
}

impl Ring {
    pub(crate) fn new(uring: IoUring, no_iowait: bool) -> Self {
        Ring { uring, flags: GETEVENTS | if no_iowait { NO_IOWAIT } else { 0 }, polled: false, late: VecDeque::new() }
    }

    /// In a fork, where nothing of the ring is mapped: closes the descriptor, and leaves alone what else may lie there now.
    pub(crate) fn forget(self) {
        let fd = self.uring.as_raw_fd();
        std::mem::forget(self.uring);
        // SAFETY: the descriptor was the ring's, which is forgotten.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }

    pub(crate) fn uring(&mut self) -> &mut IoUring {
        &mut self.uring
    }

    /// Queues an entry. A full queue is handed to the kernel first.
    ///
    /// # Safety
    /// What the entry refers to lives until the request has completed, or the ring is dropped.
    #[inline]
    pub(crate) unsafe fn push(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.encode());
        // SAFETY: as above.
        if !self.late.is_empty() || unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.push_late(entry);
        }
    }

    #[cold]
    fn push_late(&mut self, entry: squeue::Entry) {
        self.late.push_back(entry);
        // If this fails, so does the next turn.
        let _ = self.enter(Timeout::Zero);
    }

    /// Whether entries wait to be handed to the kernel.
    pub(crate) fn has_entries(&mut self) -> bool {
        !self.uring.submission().is_empty()
    }

    /// Whether the kernel has completions that it cannot show before it is entered.
    pub(crate) fn has_hidden(&mut self) -> bool {
        let queue = self.uring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Whether there are more completions than the queue could hold.
    pub(crate) fn has_overflown(&mut self) -> bool {
        self.uring.submission().cq_overflow()
    }

    /// Whether completions can be taken.
    pub(crate) fn has_events(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// Hands everything to the kernel, and waits for a completion. A wait may end early, and does if there are late entries.
    ///
    /// # Errors
    /// If the kernel finds fault with the ring.
    pub(crate) fn enter(&mut self, timeout: Timeout) -> io::Result<()> {
        let count = self.uring.submission().len() as u32;
        let submitter = self.uring.submitter();
        let result = match timeout {
            // SAFETY: the flags go without an argument.
            _ if !self.late.is_empty() => unsafe { submitter.enter::<libc::sigset_t>(count, 0, self.flags, None) },
            // SAFETY: the flags go without an argument.
            Timeout::Zero => unsafe { submitter.enter::<libc::sigset_t>(count, 0, self.flags, None) },
            // SAFETY: as above.
            Timeout::Forever => unsafe { submitter.enter::<libc::sigset_t>(count, 1, self.flags, None) },
            Timeout::For(duration) => {
                let time = Timespec::new().sec(duration.as_secs()).nsec(duration.subsec_nanos());
                let args = SubmitArgs::new().timespec(&time);
                // SAFETY: the flag says that the argument is of this kind, and it outlives the call.
                unsafe { submitter.enter(count, 1, self.flags | EXT_ARG, Some(&args)) }
            }
        };
        self.polled = false;
        while let Some(entry) = self.late.front() {
            // SAFETY: as whoever pushed it has promised.
            if unsafe { self.uring.submission().push(entry) }.is_err() {
                break;
            }
            self.late.pop_front();
        }
        benign(result)
    }

    /// Has the kernel bring forth the completions that it hides, without taking anything from the queue.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn unhide(&mut self) -> io::Result<()> {
        // SAFETY: the flags go without an argument.
        let result = unsafe { self.uring.submitter().enter::<libc::sigset_t>(0, 0, self.flags, None) };
        benign(result)
    }

    /// Takes the completions that are there.
    pub(crate) fn take(&mut self, events: &mut Vec<Event>) {
        events.extend(self.uring.completion().map(|entry| Event {
            token: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }
}

fn benign(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            // Out of time; a signal; no memory for requests at the moment; completions have to be taken first.
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
            _ => Err(error),
        },
    }
}

/// The length of a request. The kernel does not take more than 2 GiB at once anyway.
pub(crate) fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
