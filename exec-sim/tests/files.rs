//! Files in memory.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use aioli_core::Instant;
use aioli_core::driver::{Driver, Wait};
use aioli_core::op::{FileOptions, Op, Outcome, Resource};
use aioli_exec_sim::Config;
use bytes::{Bytes, BytesMut};
use common::*;

fn open(rig: &mut Rig, path: &str, options: FileOptions) -> io::Result<Resource> {
    opened(rig.run(Op::OpenFile { path: PathBuf::from(path), options }))
}

fn write(file: Resource, offset: u64, data: &[u8]) -> Op {
    Op::WriteFile { file, offset, data: Bytes::copy_from_slice(data) }
}

fn read(file: Resource, offset: u64) -> Op {
    Op::ReadFile { file, offset, buffer: BytesMut::with_capacity(1000) }
}

fn new() -> FileOptions {
    FileOptions::new()
}

#[test]
fn what_is_written_is_read() {
    let mut rig = Rig::with(Config::new(1).file("/etc/motd", "ciao\n"));
    let motd = open(&mut rig, "/etc/motd", new().read(true)).unwrap();
    assert_eq!(received(rig.run(read(motd, 1))).unwrap(), b"iao\n");
    assert_eq!(received(rig.run(read(motd, 5))).unwrap(), b"");
    assert_eq!(received(rig.run(read(motd, i64::MAX as u64 - 1000))).unwrap(), b"");
    assert_eq!(errno(received(rig.run(read(motd, i64::MAX as u64)))), 22);
    assert_eq!(errno(received(rig.run(read(motd, u64::MAX)))), 22);
    assert_eq!(errno(sent(rig.run(write(motd, 0, b"x")))), 9);
    let file = open(&mut rig, "/tmp/new", new().read(true).write(true).create_new(true).mode(0o666)).unwrap();
    assert_eq!(sent(rig.run(write(file, 3, b"def"))).unwrap(), 3);
    assert_eq!(received(rig.run(read(file, 0))).unwrap(), b"\0\0\0def");
    let Outcome::Status(Ok(status)) = rig.run(Op::FileStatus { file }) else { panic!() };
    assert_eq!((status.length, status.mode & 0o777, status.is_file()), (6, 0o644, true));
    done(rig.run(Op::SyncFile { file, data_only: true })).unwrap();
    let append = open(&mut rig, "/tmp/new", new().append(true)).unwrap();
    sent(rig.run(write(append, 0, b"ghi"))).unwrap();
    rig.close(file);
    assert_eq!(errno(received(rig.run(read(file, 0)))), 9);
    let file = open(&mut rig, "/tmp/new", new().read(true)).unwrap();
    assert_eq!(received(rig.run(read(file, 6))).unwrap(), b"ghi");
    assert_eq!(errno(open(&mut rig, "/tmp/new", new().write(true).create_new(true))), 17);
    assert_eq!(errno(open(&mut rig, "/tmp/none", new().read(true))), 2);
    assert_eq!(open(&mut rig, "/tmp/none", new()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let cut = open(&mut rig, "/tmp/new", new().write(true).truncate(true)).unwrap();
    assert_eq!(received(rig.run(read(file, 0))).unwrap(), b"");
    assert_eq!(errno(sent(rig.run(write(cut, u64::MAX, b"x")))), 22);
    assert_eq!(errno(sent(rig.run(write(cut, i64::MAX as u64, b"x")))), 22);
    assert_eq!(errno(sent(rig.run(write(cut, i64::MAX as u64 - 1, b"x")))), 27);
}

#[test]
fn a_disk_takes_its_time_and_its_order() {
    let mut rig = Rig::with(Config::new(1).disk(Duration::from_millis(1), Duration::from_millis(50)));
    let file = open(&mut rig, "file", new().read(true).write(true).create(true)).unwrap();
    let before = rig.driver.now();
    assert!(before > Instant::default());
    let writes: Vec<_> = (0..20).map(|n| rig.later(write(file, n, &[n as u8]))).collect();
    let mut order = Vec::new();
    while order.len() < writes.len() {
        rig.turn(Wait::Forever);
        let come: Vec<_> = (0..writes.len()).filter(|n| !order.contains(n) && rig.has_arrived(writes[*n])).collect();
        order.extend(come);
    }
    assert!(!order.is_sorted(), "{order:?}");
    assert_eq!(received(rig.run(read(file, 0))).unwrap(), (0..20).collect::<Vec<u8>>());
}

#[test]
fn a_write_that_was_given_up_may_be_carried_out() {
    let mut rig = Rig::with(Config::new(1).disk(Duration::from_millis(1), Duration::from_millis(1)));
    let file = open(&mut rig, "file", new().read(true).write(true).create(true)).unwrap();
    let mut outcomes = BTreeSet::new();
    for _ in 0..20 {
        let writing = rig.later(write(file, 0, b"x"));
        rig.driver.cancel(writing);
        outcomes.insert(sent(rig.last(writing)).is_ok());
    }
    assert_eq!(outcomes.len(), 2);
    let reading = rig.later(read(file, 0));
    rig.close(file);
    assert_eq!(errno(received(rig.last(reading))), 125, "closing ends what is under way");
    let opening = rig.later(Op::OpenFile { path: "file".into(), options: new().read(true) });
    rig.shutdown();
    assert!(rig.has_arrived(opening));
}

#[test]
fn a_disk_fails_and_runs_out_of_descriptors() {
    let mut rig = Rig::with(Config::new(1).disk_errors(0.5).descriptors(1).partial_reads(0.5));
    let file = open(&mut rig, "file", new().read(true).write(true).create(true)).unwrap();
    assert_eq!(errno(open(&mut rig, "file", new().read(true))), 24);
    while sent(rig.run(write(file, 0, b"0123456789"))).is_err() {}
    let reads: Vec<_> = (0..100).map(|_| received(rig.run(read(file, 0)))).collect();
    let failed = reads.iter().filter(|read| read.is_err()).count();
    assert!((30..70).contains(&failed), "{failed}");
    assert!(reads.iter().flatten().all(|data| !data.is_empty() && b"0123456789".starts_with(data)));
    assert!(reads.iter().flatten().any(|data| data.len() < 10));
}
