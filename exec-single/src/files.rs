//! [`Files`]: the operations on files, by threads.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use aioli_core::driver::{Completion, Completions, OpId, Submit};
use aioli_core::op::Outcome;
use aioli_exec_linux::file::{FileDone, FileWork, check_options, read_cached};
use aioli_exec_linux::{Flight, Kind, Wake};
use bytes::{Bytes, BytesMut};

use crate::reactor::Reactor;
use crate::workers::Workers;

/// What an op in flight is, and whether it was cancelled.
#[derive(Clone, Copy, Debug)]
struct Going {
    kind: What,
    cancelled: bool,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Open,
    Read,
    Write,
    Sync,
    Status,
}

impl What {
    fn of(work: &FileWork) -> Self {
        match work {
            FileWork::Open(..) => What::Open,
            FileWork::Read(..) => What::Read,
            FileWork::Write(..) => What::Write,
            FileWork::Sync(_) => What::Sync,
            FileWork::Status => What::Status,
        }
    }
}

fn canceled() -> io::Error {
    io::Error::from_raw_os_error(libc::ECANCELED)
}

/// The ops on files that are in flight, and the threads that work on them.
pub(crate) struct Files {
    workers: Workers,
    going: Flight<Going>,
    ids: Vec<OpId>,
}

impl Files {
    pub(crate) fn new(wake: Arc<Wake>) -> Self {
        Files { workers: Workers::new(wake), going: Flight::default(), ids: Vec::new() }
    }

    /// Starts an op on a file, or one that opens a file.
    pub(crate) fn start(&mut self, id: OpId, file: Option<Arc<File>>, mut work: FileWork) -> Submit {
        match (&mut work, &file) {
            (FileWork::Open(_, options), _) => {
                if let Err(error) = check_options(options) {
                    return Submit::Done(work.fail(error));
                }
            }
            (FileWork::Read(offset, buffer), Some(file)) => {
                if let Some(result) = read_cached(file.as_fd(), *offset, buffer) {
                    return Submit::Done(Outcome::Received { result, buffer: std::mem::take(buffer) });
                }
            }
            _ => (),
        }
        let kind = What::of(&work);
        if let Err((work, error)) = self.workers.give(id, file, work) {
            return Submit::Done(work.fail(error));
        }
        self.going.insert(id, Going { kind, cancelled: false });
        self.ids.push(id);
        Submit::Pending
    }

    fn end(&mut self, id: OpId) -> Option<Going> {
        let going = self.going.remove(id)?;
        let n = self.ids.iter().position(|known| *known == id)?;
        self.ids.swap_remove(n);
        Some(going)
    }

    /// Ends an op, if it was not begun; nothing happens if it is not in flight.
    pub(crate) fn cancel(&mut self, id: OpId, out: &mut Completions) {
        let Some(going) = self.going.find(id) else { return };
        if let Some(work) = self.workers.withdraw(id) {
            self.end(id);
            out.push_back(Completion { id, more: false, outcome: work.fail(canceled()) });
        } else if self.going.remove(id).is_some() {
            self.going.insert(id, Going { cancelled: true, ..going });
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.workers.is_idle()
    }

    /// Reports what is done.
    pub(crate) fn collect(&mut self, reactor: &mut Reactor, out: &mut Completions) {
        for (id, done) in self.workers.take() {
            let Some(going) = self.end(id) else { continue };
            let outcome = match done {
                FileDone::Other(outcome) => outcome,
                // A file that is opened for nobody is closed.
                FileDone::Opened(Ok(_)) if going.cancelled => Outcome::Opened(Err(canceled())),
                FileDone::Opened(opened) => Outcome::Opened(opened.map(|fd| reactor.open(fd, Kind::OTHER, true, out))),
            };
            out.push_back(Completion { id, more: false, outcome });
        }
    }

    /// Ends what was not begun, and waits for the rest.
    pub(crate) fn shut_down(&mut self, reactor: &mut Reactor, out: &mut Completions) {
        for id in self.ids.clone() {
            self.cancel(id, out);
        }
        self.workers.finish();
        self.collect(reactor, out);
        self.give_up(out);
    }

    /// In a fork, which has none of the threads: ends everything. What the threads own is theirs.
    pub(crate) fn abandon(mut self, out: &mut Completions) {
        self.give_up(out);
        std::mem::forget(self.workers);
    }

    /// Reports what will not be waited for.
    fn give_up(&mut self, out: &mut Completions) {
        for id in std::mem::take(&mut self.ids) {
            let Some(going) = self.going.remove(id) else { continue };
            let error = canceled();
            let outcome = match going.kind {
                What::Open => Outcome::Opened(Err(error)),
                What::Read => Outcome::Received { result: Err(error), buffer: BytesMut::new() },
                What::Write => Outcome::Sent { result: Err(error), data: Bytes::new() },
                What::Sync => Outcome::Done(Err(error)),
                What::Status => Outcome::Status(Err(error)),
            };
            out.push_back(Completion { id, more: false, outcome });
        }
    }
}
