//! How operations on files are carried out: in their time, in parts, and with the failures that were asked for.

use aioli_core::driver::{Completion, OpId, Submit};
use aioli_core::op::{Outcome, Resource};

use crate::disk::FileWork;
use crate::errno::Errno;
use crate::machine::{Event, Machine};

impl Machine {
    /// Starts work on a file. Where the disk takes no time it is done at once.
    pub(crate) fn start_file(&mut self, id: OpId, file: Option<Resource>, work: FileWork) -> Submit {
        if file.is_some_and(|file| !self.disk.is_open(file)) {
            return Submit::Done(work.fail(Errno::BADF));
        }
        let delay = self.random.between(self.config.disk);
        if delay.is_zero() {
            return Submit::Done(self.do_file(file, work));
        }
        self.disk.under_way.insert(id, (file, work));
        self.agenda.enter(self.now + delay, Event::File(id));
        Submit::Pending
    }

    /// The disk has got to some work, unless that was given up.
    pub(crate) fn finish_file(&mut self, id: OpId) {
        let Some((file, work)) = self.disk.under_way.remove(&id) else { return };
        let outcome = self.do_file(file, work);
        self.owed.push_back(Completion { id, more: false, outcome });
    }

    /// Gives work up. Whether the disk had got to it is drawn.
    pub(crate) fn cancel_file(&mut self, id: OpId) {
        let Some((file, work)) = self.disk.under_way.remove(&id) else { return };
        let outcome = if work.may_outlive_its_op() && self.random.chance(0.5) {
            self.do_file(file, work)
        } else {
            work.fail(Errno::CANCELED)
        };
        self.owed.push_back(Completion { id, more: false, outcome });
    }

    /// Closes a file. Work that is under way ends first.
    pub(crate) fn close_file(&mut self, file: Resource) {
        for (id, work) in self.disk.close(file) {
            self.owed.push_back(Completion { id, more: false, outcome: work.fail(Errno::CANCELED) });
        }
    }

    fn do_file(&mut self, file: Option<Resource>, work: FileWork) -> Outcome {
        let now = self.now;
        if !matches!(work, FileWork::Open(..)) && self.random.chance(self.config.disk_errors) {
            return work.fail(Errno::IO);
        }
        let file = match (file, work) {
            (_, FileWork::Open(path, options)) => {
                let opened = self.check_descriptors().map_err(Into::into);
                return Outcome::Opened(opened.and_then(|()| self.disk.open(path, &options, now)));
            }
            (Some(file), work) => (file, work),
            (None, work) => return work.fail(Errno::BADF),
        };
        match file {
            (file, FileWork::Read(offset, mut buffer)) => {
                let room = buffer.capacity() - buffer.len();
                let result = self.disk.readable(file, offset, room).map(|there| {
                    let most = there.min(room);
                    let count = if most > 1 { self.random.some_of(most, self.config.partial_reads) } else { most };
                    self.disk.read(file, offset, count, &mut buffer, now);
                    count
                });
                Outcome::Received { result: result.map_err(Into::into), buffer }
            }
            (file, FileWork::Write(offset, data)) => {
                let most = data.len();
                let count = if most > 1 { self.random.some_of(most, self.config.partial_writes) } else { most };
                let result = self.disk.write(file, offset, &data[..count], now).map(|()| count);
                Outcome::Sent { result: result.map_err(Into::into), data }
            }
            (file, FileWork::Status) => Outcome::Status(self.disk.status(file).map_err(Into::into)),
            (_, FileWork::Sync) => Outcome::Done(Ok(())),
            (_, work @ FileWork::Open(..)) => work.fail(Errno::BADF),
        }
    }
}
