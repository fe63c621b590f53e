//! The operations on files. They are in no line: what is done with a file at the same time is its user's concern.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use aioli_core::driver::{OpId, Submit};
use aioli_core::op::{FileOptions, FileStatus, Outcome};
use aioli_exec_linux::Kind;
use aioli_exec_linux::file::{FileWork, check_options, check_position, open_flags, read_cached, time};
use bytes::{Bytes, BytesMut};
use io_uring::{opcode, squeue, types};

use crate::core::{Core, canceled, owned};
use crate::ring::{Event, length};
use crate::table::{Entry, Request, What};
use crate::token::Token;

/// The kernel's code for a call that a signal interrupted, which is not meant to leave it.
const ERESTARTSYS: i32 = 512;

/// What a request on a file owns.
#[derive(Debug)]
pub(crate) enum Job {
    /// The path.
    Open(#[expect(dead_code, reason = "the kernel reads it")] CString),
    Read(BytesMut),
    Write(Bytes),
    Sync,
    Status(Box<MaybeUninit<libc::statx>>),
}

impl Job {
    /// The outcome of a request that came to nothing.
    pub(crate) fn fail(self, error: io::Error) -> Outcome {
        match self {
            Job::Open(_) => Outcome::Opened(Err(error)),
            Job::Read(buffer) => Outcome::Received { result: Err(error), buffer },
            Job::Write(data) => Outcome::Sent { result: Err(error), data },
            Job::Sync => Outcome::Done(Err(error)),
            Job::Status(_) => Outcome::Status(Err(error)),
        }
    }
}

fn open(path: PathBuf, options: &FileOptions) -> io::Result<(squeue::Entry, Job)> {
    check_options(options)?;
    let path = CString::new(path.into_os_string().into_vec())?;
    let directory = types::Fd(libc::AT_FDCWD);
    let request = opcode::OpenAt::new(directory, path.as_ptr()).flags(open_flags(options)).mode(options.mode);
    // The kernel's first attempt would not wait for the other end of a FIFO: one that is read from opened at once, others failed.
    let request = request.build().flags(squeue::Flags::ASYNC);
    // The bytes of the path do not move with it.
    Ok((request, Job::Open(path)))
}

/// The request for what is done with an open file, and what it owns.
fn request(entry: &mut Entry, work: FileWork) -> Result<(squeue::Entry, Job), Outcome> {
    let fd = types::Fd(entry.raw());
    Ok(match work {
        FileWork::Open(..) => return Err(work.fail(io::ErrorKind::InvalidInput.into())),
        FileWork::Read(offset, mut buffer) => {
            if let Some(result) = read_cached(entry.fd.as_fd(), offset, &mut buffer) {
                return Err(Outcome::Received { result, buffer });
            }
            let room = buffer.spare_capacity_mut();
            let length = length(room.len());
            let request = opcode::Read::new(fd, room.as_mut_ptr().cast(), length).offset(offset).build();
            (request, Job::Read(buffer))
        }
        FileWork::Write(offset, data) => {
            // The ring takes the greatest offset for the position of the open file, and writes to what has no positions.
            if !entry.waiting().has_positions || i64::try_from(offset).is_err() {
                if let Err(error) = check_position(entry.fd.as_fd(), offset) {
                    return Err(Outcome::Sent { result: Err(error), data });
                }
                entry.waiting().has_positions = true;
            }
            let length = length(data.len());
            (opcode::Write::new(fd, data.as_ptr(), length).offset(offset).build(), Job::Write(data))
        }
        FileWork::Sync(data_only) => {
            let flags = if data_only { types::FsyncFlags::DATASYNC } else { types::FsyncFlags::empty() };
            (opcode::Fsync::new(fd).flags(flags).build(), Job::Sync)
        }
        FileWork::Status => {
            let mut status = Box::new(MaybeUninit::<libc::statx>::zeroed());
            let statx = opcode::Statx::new(fd, c"".as_ptr(), status.as_mut_ptr().cast());
            let statx = statx.flags(libc::AT_EMPTY_PATH).mask(libc::STATX_BASIC_STATS);
            (statx.build(), Job::Status(status))
        }
    })
}

impl Core {
    /// Starts an op on an open file, or one that opens one.
    pub(crate) fn file(&mut self, id: OpId, n: Option<usize>, work: FileWork) -> Submit {
        let made = match (work, n) {
            (FileWork::Open(path, options), _) => open(path, &options).map_err(|error| Outcome::Opened(Err(error))),
            (work, Some(n)) => request(&mut self.table[n], work),
            (work, None) => Err(work.fail(io::Error::from_raw_os_error(libc::EBADF))),
        };
        let (request, job) = match made {
            Ok(made) => made,
            Err(outcome) => return Submit::Done(outcome),
        };
        let key = self.requests.insert(Request::new(What::File { entry: n, id, job }));
        // SAFETY: the request holds all that the kernel reads and writes until it is completed, and none of that moves with it.
        unsafe { self.ring.push(request, Token::Request(key)) };
        self.note_request(id, n, key)
    }

    /// The kernel reports on an op on a file.
    pub(crate) fn file_event(&mut self, entry: Option<usize>, id: OpId, job: Job, cancelled: bool, event: Event) {
        let opened = if let Job::Open(_) = job { owned(event.result) } else { None };
        // What an open hung in was interrupted. The kernel leaves its own code for that.
        let interrupted = cancelled && matches!(-event.result, libc::EINTR | ERESTARTSYS);
        let outcome = match (job, event.count()) {
            (job, Err(_)) if interrupted => job.fail(canceled()),
            (job, Err(error)) => job.fail(error),
            // A file that is opened for nobody is closed.
            (Job::Open(_), Ok(_)) if cancelled => Outcome::Opened(Err(canceled())),
            (Job::Open(_), Ok(_)) => Outcome::Opened(match opened {
                Some(fd) => Ok(self.open(fd, Kind::OTHER)),
                None => Err(canceled()),
            }),
            (Job::Read(mut buffer), Ok(count)) => {
                let length = buffer.len() + count;
                // SAFETY: the kernel wrote so many bytes at the start of the spare capacity.
                unsafe { buffer.set_len(length) };
                Outcome::Received { result: Ok(count), buffer }
            }
            (Job::Write(data), Ok(count)) => Outcome::Sent { result: Ok(count), data },
            (Job::Sync, Ok(_)) => Outcome::Done(Ok(())),
            (Job::Status(status), Ok(_)) => {
                // SAFETY: it was zeroed, and the kernel filled it in: numbers, all of them.
                let found = unsafe { status.assume_init() };
                let [modified, accessed] =
                    [found.stx_mtime, found.stx_atime].map(|stamp| time(stamp.tv_sec, stamp.tv_nsec.into()));
                Outcome::Status(Ok(FileStatus::new(found.stx_size, found.stx_mode.into(), modified, accessed)))
            }
        };
        self.complete(id, outcome);
        if let Some(n) = entry {
            self.table[n].held -= 1;
            self.release(n);
        }
    }
}
