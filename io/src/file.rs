//! [`File`]: files whose disk is not waited for by the loop.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use aioli_core::op::{FileOptions, FileStatus, Op, Outcome};
use aioli_core::{Loop, Result, get_running_loop};
use bytes::{Buf, Bytes, BytesMut};

use crate::fairness::{Fairness, give_way};
use crate::handle::{Handle, explained, unexpected};
use crate::landing::fitting;
use crate::perform::perform;

/// The most that one read asks for, in bytes.
const MOST: usize = 256 * 1024;
/// What a read of everything asks for first where the file has no length: what the kernel makes up when it is read has none, and some
/// of that, such as what is in `/proc/sys`, is told to the first read only.
const WITHOUT_LENGTH: usize = 16 * 1024;

/// An open file. asyncio has none; programs there use a thread for each call, as the epoll backend does.
///
/// What is in memory is read at once, without suspending the task. Otherwise, and for everything else, the task waits while the loop
/// goes on. There is no position: each read and write says where. Calls may run at the same time; whether one sees what another writes is
/// then not said. Dropping the file closes it.
///
/// Cancelling: a read that is cancelled has read nothing. A write or a sync that is cancelled may be carried out, in part or as a whole.
/// An open that is cancelled leaves nothing open, but may have made the file.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::File;
///
/// let path = std::env::temp_dir().join(format!("aioli-example-{}", std::process::id()));
/// let file = File::create(&path).await?;
/// file.write_at(0, b"ciao mondo").await?;
/// file.sync_all().await?;
/// assert_eq!(File::open(&path).await?.read_to_end().await?, "ciao mondo");
/// # std::fs::remove_file(path)?;
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub struct File {
    handle: Handle,
    fairness: Fairness,
}

impl File {
    /// Opens a file to read from it.
    ///
    /// # Errors
    /// Cancelled; `Io` from the operating system, with the path; `Runtime` outside of a running loop.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, FileOptions::new().read(true)).await
    }

    /// Opens a file to write to it. One that exists is cut to length 0.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn create(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, FileOptions::new().write(true).create(true).truncate(true)).await
    }

    /// Opens a file.
    ///
    /// # Errors
    /// As [`open`](Self::open), and if the options do not go together.
    pub async fn open_with(path: impl AsRef<Path>, options: FileOptions) -> Result<Self> {
        let event_loop = get_running_loop()?;
        let path = path.as_ref();
        match perform(&event_loop, Op::OpenFile { path: path.to_owned(), options }).await? {
            Outcome::Opened(Ok(resource)) => Ok(Self::over(Handle::adopt(&event_loop, resource))),
            Outcome::Opened(Err(error)) => {
                let error = explained(error, "files");
                Err(io::Error::new(error.kind(), format!("cannot open {}: {error}", path.display())).into())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Takes over a descriptor of a file.
    ///
    /// # Errors
    /// `Io` from the operating system, or where the backend knows no descriptors; `Runtime` outside of a running loop.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let event_loop = get_running_loop()?;
        Ok(Self::over(Handle::from_fd(&event_loop, fd)?))
    }

    fn over(handle: Handle) -> Self {
        File { handle, fairness: Fairness::default() }
    }

    fn event_loop(&self) -> &Loop {
        self.handle.event_loop()
    }

    /// Reads at most `count` bytes from an offset: one read, which may bring less although there is more. Nothing means that the file
    /// ends there, or `count` is 0.
    ///
    /// # Errors
    /// Cancelled; `Io` from the operating system.
    pub async fn read_at(&self, offset: u64, count: usize) -> Result<Bytes> {
        if count == 0 {
            return Ok(Bytes::new());
        }
        let buffer = self.read_into(offset, BytesMut::with_capacity(count.min(MOST))).await?;
        Ok(fitting(buffer))
    }

    /// Reads `count` bytes from an offset.
    ///
    /// # Errors
    /// `IncompleteRead`, with what there is, if the file ends before; `Io` `OutOfMemory` if there is no room for so much; as
    /// [`read_at`](Self::read_at).
    pub async fn read_exact_at(&self, offset: u64, count: usize) -> Result<Bytes> {
        let mut all = room(count)?;
        while all.len() < count {
            let before = all.len();
            let mut part = all.split_off(before);
            part.reserve(count - before);
            let part = self.read_into(offset + before as u64, part).await?;
            if part.is_empty() {
                return Err(aioli_core::Error::incomplete_read(all.freeze(), Some(count)));
            }
            all.unsplit(part);
        }
        let rest = all.split_off(count);
        drop(rest);
        Ok(all.freeze())
    }

    /// Reads everything.
    ///
    /// # Errors
    /// `Io` `OutOfMemory` if there is no room for so much; as [`read_at`](Self::read_at).
    pub async fn read_to_end(&self) -> Result<Bytes> {
        let length = usize::try_from(self.metadata().await?.length).unwrap_or(usize::MAX);
        // One more, so that the read that finds the end needs no more memory.
        let mut all = room(if length == 0 { WITHOUT_LENGTH } else { length.saturating_add(1) })?;
        loop {
            if all.len() == all.capacity() {
                all.reserve(MOST);
            }
            let before = all.len();
            let part = all.split_off(before);
            let part = self.read_into(before as u64, part).await?;
            let at_end = part.is_empty();
            all.unsplit(part);
            if at_end {
                return Ok(fitting(all));
            }
        }
    }

    async fn read_into(&self, offset: u64, mut buffer: BytesMut) -> Result<BytesMut> {
        if self.fairness.is_spent(self.event_loop()) {
            give_way().await?;
        }
        if let Some(result) = self.event_loop().try_read(self.handle.resource(), offset, &mut buffer) {
            result?;
            return Ok(buffer);
        }
        let op = Op::ReadFile { file: self.handle.resource(), offset, buffer };
        match perform(self.event_loop(), op).await? {
            Outcome::Received { result, buffer } => {
                result?;
                Ok(buffer)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Writes all of the data at an offset; at the end, if the file was opened to append.
    ///
    /// # Errors
    /// Cancelled; `Io` from the operating system. How much was written is not known then. `NotSeekable` for a pipe, socket or terminal,
    /// which [`connect_write_pipe`](crate::connect_write_pipe) writes to.
    pub async fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.write_bytes_at(offset, Bytes::copy_from_slice(data)).await
    }

    /// Writes all of the data at an offset, without copying it.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub async fn write_bytes_at(&self, mut offset: u64, mut data: Bytes) -> Result<()> {
        while !data.is_empty() {
            let op = Op::WriteFile { file: self.handle.resource(), offset, data };
            match perform(self.event_loop(), op).await? {
                Outcome::Sent { result, data: all } => {
                    let count = result?;
                    if count == 0 {
                        return Err(io::Error::from(io::ErrorKind::WriteZero).into());
                    }
                    data = all;
                    data.advance(count);
                    offset += count as u64;
                }
                other => return Err(unexpected(&other)),
            }
        }
        Ok(())
    }

    /// Waits until the disk has stored everything that was written.
    ///
    /// # Errors
    /// Cancelled; `Io` from the operating system.
    pub async fn sync_all(&self) -> Result<()> {
        self.sync(false).await
    }

    /// As [`sync_all`](Self::sync_all), without what is not needed to find the data again, such as times.
    ///
    /// # Errors
    /// As [`sync_all`](Self::sync_all).
    pub async fn sync_data(&self) -> Result<()> {
        self.sync(true).await
    }

    async fn sync(&self, data_only: bool) -> Result<()> {
        let op = Op::SyncFile { file: self.handle.resource(), data_only };
        match perform(self.event_loop(), op).await? {
            Outcome::Done(result) => Ok(result?),
            other => Err(unexpected(&other)),
        }
    }

    /// Its length, kind, permissions and times.
    ///
    /// # Errors
    /// Cancelled; `Io` from the operating system.
    pub async fn metadata(&self) -> Result<FileStatus> {
        match perform(self.event_loop(), Op::FileStatus { file: self.handle.resource() }).await? {
            Outcome::Status(status) => Ok(status?),
            other => Err(unexpected(&other)),
        }
    }
}

/// A buffer for so many bytes, which somebody else may have chosen: that there is no room for them is an error, and not the end of the
/// program.
fn room(count: usize) -> Result<BytesMut> {
    if count > MOST {
        Vec::<u8>::new().try_reserve_exact(count).map_err(io::Error::from)?;
    }
    Ok(BytesMut::with_capacity(count))
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.handle).finish()
    }
}
