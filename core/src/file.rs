//! What the operations on files say: [`FileOptions`] and [`FileStatus`].

use std::time::SystemTime;

/// How a file is opened. As with the standard library's `OpenOptions`, nothing is wanted at first.
///
/// ```
/// use aioli_core::op::FileOptions;
///
/// let log = FileOptions::new().append(true).create(true).mode(0o600);
/// assert!(log.append && log.create && !log.read);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// To read from it.
    pub read: bool,
    /// To write to it.
    pub write: bool,
    /// To write at its end always, whatever the offset.
    pub append: bool,
    /// To cut it to length 0.
    pub truncate: bool,
    /// To make it, if there is none.
    pub create: bool,
    /// To make it, and fail if there is one.
    pub create_new: bool,
    /// The permissions of one that is made, less the process's umask.
    pub mode: u32,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl FileOptions {
    /// Nothing, and permissions for all to read and write.
    pub fn new() -> Self {
        FileOptions {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            mode: 0o666,
        }
    }

    /// Whether to read from it.
    pub fn read(mut self, yes: bool) -> Self {
        self.read = yes;
        self
    }

    /// Whether to write to it.
    pub fn write(mut self, yes: bool) -> Self {
        self.write = yes;
        self
    }

    /// Whether to write at its end always, whatever the offset.
    pub fn append(mut self, yes: bool) -> Self {
        self.append = yes;
        self
    }

    /// Whether to cut it to length 0.
    pub fn truncate(mut self, yes: bool) -> Self {
        self.truncate = yes;
        self
    }

    /// Whether to make it, if there is none.
    pub fn create(mut self, yes: bool) -> Self {
        self.create = yes;
        self
    }

    /// Whether to make it, and fail if there is one.
    pub fn create_new(mut self, yes: bool) -> Self {
        self.create_new = yes;
        self
    }

    /// The permissions of one that is made, less the process's umask.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }
}

/// What is known of a file without reading it.
///
/// ```
/// use aioli_core::op::FileStatus;
/// use std::time::SystemTime;
///
/// let status = FileStatus::new(42, 0o100644, SystemTime::now(), SystemTime::now());
/// assert!(status.is_file() && !status.is_dir());
/// assert_eq!(status.mode & 0o777, 0o644);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileStatus {
    /// Its length in bytes.
    pub length: u64,
    /// Its kind and its permissions, as stat(2) has them.
    pub mode: u32,
    /// When it was written to last.
    pub modified: SystemTime,
    /// When it was read last, as far as the file system keeps count.
    pub accessed: SystemTime,
}

impl FileStatus {
    /// What was found.
    pub fn new(length: u64, mode: u32, modified: SystemTime, accessed: SystemTime) -> Self {
        FileStatus { length, mode, modified, accessed }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}
