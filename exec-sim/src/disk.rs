//! [`Disk`]: files in memory, and those of them that are open.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aioli_core::Instant;
use aioli_core::driver::OpId;
use aioli_core::op::{FileOptions, FileStatus, Outcome, Resource};
use bytes::{Bytes, BytesMut};
use slab::Slab;

use crate::errno::Errno;

/// The ids of files have this bit, those of sockets do not.
const FILE: u64 = 1 << 63;
/// The most that a file holds, in bytes: it lies in memory, holes included.
const LARGEST: usize = 1 << 30;
/// What the permissions of new files lack.
const UMASK: u32 = 0o022;
/// The kind of a regular file, in its mode.
const REGULAR: u32 = 0o100_000;

/// What is to be done with a file.
#[derive(Debug)]
pub(crate) enum FileWork {
    Open(PathBuf, FileOptions),
    Read(u64, BytesMut),
    Write(u64, Bytes),
    Sync,
    Status,
}

impl FileWork {
    pub(crate) fn fail(self, error: impl Into<io::Error>) -> Outcome {
        let error = error.into();
        match self {
            FileWork::Open(..) => Outcome::Opened(Err(error)),
            FileWork::Read(_, buffer) => Outcome::Received { result: Err(error), buffer },
            FileWork::Write(_, data) => Outcome::Sent { result: Err(error), data },
            FileWork::Sync => Outcome::Done(Err(error)),
            FileWork::Status => Outcome::Status(Err(error)),
        }
    }

    /// Whether it may have been carried out although it was cancelled.
    pub(crate) fn may_outlive_its_op(&self) -> bool {
        matches!(self, FileWork::Write(..))
    }
}

/// Offsets are signed, also that of the end.
fn check_range(offset: u64, length: usize) -> Result<(), Errno> {
    let end = offset.checked_add(length as u64);
    if end.is_some_and(|end| i64::try_from(end).is_ok()) { Ok(()) } else { Err(Errno::INVAL) }
}

/// A file, as it lies on the disk.
#[derive(Debug, Default)]
struct Inode {
    data: Vec<u8>,
    mode: u32,
    modified: Instant,
    accessed: Instant,
}

/// A file that is open.
#[derive(Debug)]
struct OpenFile {
    generation: u32,
    inode: usize,
    read: bool,
    write: bool,
    append: bool,
}

/// The files of a machine. There are no directories: a path is a name.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    names: HashMap<PathBuf, usize>,
    inodes: Slab<Inode>,
    open: Slab<OpenFile>,
    generation: u32,
    /// The work that takes its time, with its file unless that is to be opened.
    pub(crate) under_way: BTreeMap<OpId, (Option<Resource>, FileWork)>,
}

impl Disk {
    /// Puts a file there.
    pub(crate) fn place(&mut self, path: PathBuf, data: Vec<u8>) {
        let inode = self.inodes.insert(Inode { data, mode: REGULAR | 0o644, ..Inode::default() });
        self.names.insert(path, inode);
    }

    /// How many files are open.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    fn find(&self, file: Resource) -> Result<&OpenFile, Errno> {
        let found = self.open.get(file.0 as u32 as usize);
        found.filter(|open| FILE | u64::from(open.generation) << 32 == file.0 & !0xffff_ffff).ok_or(Errno::BADF)
    }

    pub(crate) fn is_open(&self, file: Resource) -> bool {
        self.find(file).is_ok()
    }

    /// Closes a file. Returns the work on it that is under way.
    pub(crate) fn close(&mut self, file: Resource) -> Vec<(OpId, FileWork)> {
        self.open.remove(file.0 as u32 as usize);
        let concerned: Vec<_> =
            self.under_way.iter().filter(|(_, (of, _))| *of == Some(file)).map(|(id, _)| *id).collect();
        concerned.into_iter().filter_map(|id| Some((id, self.under_way.remove(&id)?.1))).collect()
    }

    /// Closes everything. Returns the work that is under way.
    pub(crate) fn close_all(&mut self) -> Vec<(OpId, FileWork)> {
        self.open.clear();
        std::mem::take(&mut self.under_way).into_iter().map(|(id, (_, work))| (id, work)).collect()
    }

    pub(crate) fn open(&mut self, path: PathBuf, options: &FileOptions, now: Instant) -> io::Result<Resource> {
        let writes = options.write || options.append;
        let changes = options.truncate || options.create || options.create_new;
        let sound =
            (writes || options.read && !changes) && !(options.append && options.truncate && !options.create_new);
        if !sound {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "these options do not go together"));
        }
        let inode = match self.names.get(&path) {
            Some(_) if options.create_new => return Err(Errno::EXIST.into()),
            Some(&inode) => inode,
            None if options.create || options.create_new => {
                let mode = REGULAR | options.mode & 0o7777 & !UMASK;
                let inode = self.inodes.insert(Inode { data: Vec::new(), mode, modified: now, accessed: now });
                self.names.insert(path, inode);
                inode
            }
            None => return Err(Errno::NOENT.into()),
        };
        if options.truncate {
            self.inodes[inode].data.clear();
            self.inodes[inode].modified = now;
        }
        self.generation = self.generation.wrapping_add(1) & 0x7fff_ffff;
        let generation = self.generation;
        let open = OpenFile { generation, inode, read: options.read, write: writes, append: options.append };
        let place = self.open.insert(open);
        Ok(Resource(FILE | u64::from(generation) << 32 | place as u64))
    }

    /// How much there is to read from an offset, for one who has so much room.
    pub(crate) fn readable(&self, file: Resource, offset: u64, room: usize) -> Result<usize, Errno> {
        let open = self.find(file)?;
        if !open.read {
            return Err(Errno::BADF);
        }
        check_range(offset, room)?;
        let length = self.inodes[open.inode].data.len();
        Ok(length.saturating_sub(usize::try_from(offset).unwrap_or(usize::MAX)))
    }

    /// Reads so many bytes, which are there.
    pub(crate) fn read(&mut self, file: Resource, offset: u64, count: usize, buffer: &mut BytesMut, now: Instant) {
        let Ok(inode) = self.find(file).map(|open| open.inode) else { return };
        let inode = &mut self.inodes[inode];
        inode.accessed = now;
        let there = inode.data.get(offset as usize..).unwrap_or_default();
        buffer.extend_from_slice(&there[..count.min(there.len())]);
    }

    /// Writes everything. What lies between the end and the offset is filled with zeros.
    pub(crate) fn write(&mut self, file: Resource, offset: u64, data: &[u8], now: Instant) -> Result<(), Errno> {
        let open = self.find(file)?;
        if !open.write {
            return Err(Errno::BADF);
        }
        check_range(offset, data.len())?;
        let (append, inode) = (open.append, open.inode);
        let inode = &mut self.inodes[inode];
        let from = if append { inode.data.len() } else { usize::try_from(offset).map_err(|_| Errno::FBIG)? };
        if data.is_empty() {
            // Past the end, too: that stays where it is.
            return Ok(());
        }
        let end = from.checked_add(data.len()).filter(|end| *end <= LARGEST).ok_or(Errno::FBIG)?;
        if end > inode.data.len() {
            let more = end - inode.data.len();
            inode.data.try_reserve(more).map_err(|_| Errno::NOSPC)?;
            inode.data.resize(end, 0);
        }
        inode.data[from..end].copy_from_slice(data);
        inode.modified = now;
        Ok(())
    }

    pub(crate) fn status(&self, file: Resource) -> Result<FileStatus, Errno> {
        let inode = &self.inodes[self.find(file)?.inode];
        // The machine's time of day begins with its clock.
        let time = |at: Instant| SystemTime::UNIX_EPOCH + Duration::from_nanos(at.as_nanos());
        Ok(FileStatus::new(inode.data.len() as u64, inode.mode, time(inode.modified), time(inode.accessed)))
    }
}
