//! Operations on files, which know no position: each says where.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use aioli_core::op::{FileOptions, FileStatus, Op, Outcome, Resource};
use bytes::{Bytes, BytesMut};
use rustix::io::Errno;

use super::{Rig, done};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "files" in driver_files as __cases_driver_files;
    what_is_written_is_read_where_it_was_written: "D1 D3";
    what_is_appended_comes_last: "D1";
    a_file_is_cut_when_it_is_opened_so: "D1";
    files_are_opened_as_asked: "D1";
    a_read_appends_to_its_buffer: "D3";
    a_file_of_another_direction_or_closed_is_refused: "D1 D3";
    an_offset_that_is_none_is_refused: "D1";
    a_cancelled_operation_on_a_file_completes_once: "D1 D2 D3";
}

/// The path of a file that is gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        Scratch(std::env::temp_dir().join(format!("aioli-case-{}-{number}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // On a simulated machine there never was one.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A driver with files. One without must say so.
fn rig(on: &Machine) -> Option<Rig> {
    let mut rig = Rig::new(on.plain_driver());
    if on.backend().capabilities().files {
        return Some(rig);
    }
    let refused = open(&mut rig, &Scratch::new(), new().read(true)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::Unsupported, "{refused}");
    None
}

fn new() -> FileOptions {
    FileOptions::new()
}

fn open(rig: &mut Rig, path: &Scratch, options: FileOptions) -> io::Result<Resource> {
    let Outcome::Opened(opened) = rig.run(Op::OpenFile { path: path.0.clone(), options }) else {
        panic!("not the outcome of an open")
    };
    opened
}

fn write(rig: &mut Rig, file: Resource, offset: u64, text: &'static str) -> io::Result<usize> {
    let outcome = rig.run(Op::WriteFile { file, offset, data: Bytes::from_static(text.as_bytes()) });
    let Outcome::Sent { result, data } = outcome else { panic!("{outcome:?}") };
    assert_eq!(data, text, "D3: the data comes back whole");
    result
}

fn read(rig: &mut Rig, file: Resource, offset: u64) -> io::Result<Vec<u8>> {
    let outcome = rig.run(Op::ReadFile { file, offset, buffer: BytesMut::with_capacity(100) });
    let Outcome::Received { result, buffer } = outcome else { panic!("{outcome:?}") };
    assert!(buffer.capacity() >= 100, "D3: the buffer comes back");
    result.map(|count| {
        assert_eq!(count, buffer.len());
        buffer.to_vec()
    })
}

fn status(rig: &mut Rig, file: Resource) -> FileStatus {
    let outcome = rig.run(Op::FileStatus { file });
    let Outcome::Status(Ok(status)) = outcome else { panic!("{outcome:?}") };
    status
}

#[track_caller]
fn assert_errno<T: std::fmt::Debug>(result: io::Result<T>, errno: Errno) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(errno.raw_os_error()));
}

fn what_is_written_is_read_where_it_was_written(on: &Machine) {
    let Some(mut rig) = rig(on) else { return };
    let path = Scratch::new();
    let file = open(&mut rig, &path, new().read(true).write(true).create_new(true)).unwrap();
    assert_eq!(write(&mut rig, file, 3, "def").unwrap(), 3);
    assert_eq!(read(&mut rig, file, 0).unwrap(), b"\0\0\0def");
    assert_eq!(write(&mut rig, file, 4, "E").unwrap(), 1);
    assert_eq!(write(&mut rig, file, 0, "abc").unwrap(), 3);
    assert_eq!(read(&mut rig, file, 0).unwrap(), b"abcdEf");
    assert_eq!(read(&mut rig, file, 5).unwrap(), b"f");
    for beyond in [6, 7, 1_000_000, i64::MAX as u64 - 100] {
        assert_eq!(read(&mut rig, file, beyond).unwrap(), b"", "{beyond}");
    }
    // Nothing written past the end leaves the end where it is.
    assert_eq!(write(&mut rig, file, 1000, "").unwrap(), 0);
    assert_eq!(status(&mut rig, file).length, 6);
    assert_eq!(write(&mut rig, file, 1000, "x").unwrap(), 1);
    let found = status(&mut rig, file);
    assert!(found.length == 1001 && found.is_file() && !found.is_dir(), "{found:?}");
    assert_eq!(read(&mut rig, file, 998).unwrap(), b"\0\0x");
    for data_only in [true, false] {
        done(rig.run(Op::SyncFile { file, data_only }));
    }
    rig.shutdown();
}

fn what_is_appended_comes_last(on: &Machine) {
    let Some(mut rig) = rig(on) else { return };
    let path = Scratch::new();
    let file = open(&mut rig, &path, new().read(true).append(true).create(true)).unwrap();
    let other = open(&mut rig, &path, new().write(true)).unwrap();
    assert_eq!(write(&mut rig, file, 0, "one").unwrap(), 3);
    assert_eq!(write(&mut rig, file, 0, "two").unwrap(), 3);
    assert_eq!(write(&mut rig, other, 8, "three").unwrap(), 5);
    assert_eq!(write(&mut rig, file, 100, "four").unwrap(), 4);
    assert_eq!(read(&mut rig, file, 0).unwrap(), b"onetwo\0\0threefour");
}

fn a_file_is_cut_when_it_is_opened_so(on: &Machine) {
    let Some(mut rig) = rig(on) else { return };
    let path = Scratch::new();
    let file = open(&mut rig, &path, new().read(true).write(true).create(true)).unwrap();
    write(&mut rig, file, 0, "some text").unwrap();
    let cut = open(&mut rig, &path, new().write(true).truncate(true)).unwrap();
    assert_eq!(read(&mut rig, file, 0).unwrap(), b"");
    write(&mut rig, cut, 2, "x").unwrap();
    assert_eq!(read(&mut rig, file, 0).unwrap(), b"\0\0x");
    // To make it, if there is none, leaves one that is there as it is.
    let same = open(&mut rig, &path, new().write(true).create(true)).unwrap();
    write(&mut rig, same, 0, "y").unwrap();
    assert_eq!(read(&mut rig, file, 0).unwrap(), b"y\0x");
}

fn files_are_opened_as_asked(on: &Machine) {
    let Some(mut rig) = rig(on) else { return };
    let path = Scratch::new();
    assert_errno(open(&mut rig, &path, new().read(true)), Errno::NOENT);
    assert_errno(open(&mut rig, &path, new().write(true).truncate(true)), Errno::NOENT);
    let file = open(&mut rig, &path, new().write(true).create_new(true).mode(0o600)).unwrap();
    assert_eq!(status(&mut rig, file).mode & 0o777, 0o600);
    assert_errno(open(&mut rig, &path, new().write(true).create_new(true)), Errno::EXIST);
    let senseless = [
        new(),
        new().create(true),
        new().read(true).create(true),
        new().read(true).truncate(true),
        new().append(true).truncate(true),
    ];
    for options in senseless {
        let refused = open(&mut rig, &path, options.clone()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{options:?}");
    }
}

fn a_read_appends_to_its_buffer(on: &Machine) {
    let Some(mut rig) = rig(on) else { return };
    let path = Scratch::new();
    let file = open(&mut rig, &path, new().read(true).write(true).create(true)).unwrap();
    write(&mut rig, file, 0, "new").unwrap();
    let mut buffer = BytesMut::with_capacity(100);
    buffer.extend_from_slice(b"kept, ");
    let outcome = rig.run(Op::ReadFile { file, offset: 0, buffer });
    let Outcome::Received { result: Ok(3), buffer } = outcome else { panic!("{outcome:?}") };
    assert_eq!(buffer, "kept, new");
}

fn a_file_of_another_direction_or_closed_is_refused(on: &Machine) {
    let Some(mut rig) = rig(on) else { return };
    let path = Scratch::new();
    let writing = open(&mut rig, &path, new().write(true).create(true)).unwrap();
    let reading = open(&mut rig, &path, new().read(true)).unwrap();
    assert_errno(read(&mut rig, writing, 0), Errno::BADF);
    assert_errno(write(&mut rig, reading, 0, "x"), Errno::BADF);
    done(rig.now(Op::Close { resource: writing }));
    assert_errno(write(&mut rig, writing, 0, "x"), Errno::BADF);
    assert_eq!(read(&mut rig, reading, 0).unwrap(), b"");
    rig.shutdown();
    read(&mut rig, reading, 0).unwrap_err();
    open(&mut rig, &path, new().read(true)).unwrap_err();
}

/// To the kernel an offset is a signed number, and to a ring -1 is none.
fn an_offset_that_is_none_is_refused(on: &Machine) {
    let Some(mut rig) = rig(on) else { return };
    let path = Scratch::new();
    let file = open(&mut rig, &path, new().read(true).write(true).create(true)).unwrap();
    for offset in [i64::MAX as u64, 1 << 63, u64::MAX] {
        assert_errno(read(&mut rig, file, offset), Errno::INVAL);
        assert_errno(write(&mut rig, file, offset, "x"), Errno::INVAL);
    }
    assert_eq!(status(&mut rig, file).length, 0);
}

fn a_cancelled_operation_on_a_file_completes_once(on: &Machine) {
    let Some(mut rig) = rig(on) else { return };
    let path = Scratch::new();
    let file = open(&mut rig, &path, new().read(true).write(true).create(true)).unwrap();
    let cancelled = |error: io::Error| assert_eq!(error.raw_os_error(), Some(Errno::CANCELED.raw_os_error()));
    for _ in 0..20 {
        let ops = [
            Op::OpenFile { path: path.0.clone(), options: new().read(true) },
            Op::WriteFile { file, offset: 0, data: Bytes::from_static(b"x") },
            Op::ReadFile { file, offset: 0, buffer: BytesMut::with_capacity(100) },
            Op::SyncFile { file, data_only: true },
        ];
        let begun = ops.map(|op| rig.submit(op));
        for id in begun.iter().filter_map(|begun| begun.as_ref().err()) {
            rig.driver.cancel(*id);
        }
        for begun in begun {
            match begun.unwrap_or_else(|id| rig.last(id)) {
                Outcome::Opened(Ok(resource)) => done(rig.now(Op::Close { resource })),
                Outcome::Sent { result, data } => {
                    assert_eq!(data, "x");
                    result.map(drop).unwrap_or_else(cancelled);
                }
                Outcome::Received { result, buffer } => {
                    assert!(buffer.capacity() >= 100);
                    result.map(drop).unwrap_or_else(cancelled);
                }
                Outcome::Done(result) => result.unwrap_or_else(cancelled),
                Outcome::Opened(Err(error)) => cancelled(error),
                other => panic!("{other:?}"),
            }
        }
    }
    rig.settle();
    assert!(rig.arrived.is_empty());
    assert!(matches!(&read(&mut rig, file, 0).unwrap()[..], b"" | b"x"));
}
