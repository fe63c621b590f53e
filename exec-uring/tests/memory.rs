//! What the driver allocates while data comes.
#![allow(missing_docs)]

#[path = "../../exec-single/tests/common/mod.rs"]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

use aioli_core::driver::Wait;
use aioli_core::op::Op;
use aioli_exec_uring::{Config, Rung};
use bytes::BytesMut;
use common::Rig;

/// Buffers are at least this large.
const LARGE: usize = 16 * 1024;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// Counts the large allocations of each thread, and the bytes of those that are not freed.
struct Counting;

// SAFETY: it is the system's allocator; the counter has no destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            ALLOCATED.set(ALLOCATED.get() + 1);
            LIVE.set(LIVE.get() + layout.size() as isize);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() >= LARGE {
            LIVE.set(LIVE.get() - layout.size() as isize);
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Each burst allocated, and freed, a buffer for each message.
#[test]
fn bursts_of_small_messages_use_the_same_buffers_again() {
    const CONNECTIONS: usize = 60;
    // So that a turn brings all that has come.
    let driver = match Config::new().without(Rung::DeferTaskrun).build() {
        Ok(driver) => driver,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let mut rig = Rig::over(Box::new(driver));
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| rig.tcp()).collect();
    let watches: Vec<_> = connections.iter().map(|(socket, _)| rig.later(Op::Watch { socket: *socket })).collect();
    rig.turn(Wait::No);
    let mut buffer = BytesMut::with_capacity(100);
    let mut before = 0;
    for round in 0..20 {
        if round == 10 {
            before = ALLOCATED.get();
        }
        for (_, peer) in &mut connections {
            peer.write_all(&[round; 64]).unwrap();
        }
        for (id, (socket, _)) in watches.iter().zip(&connections) {
            assert!(rig.next(*id).more);
            buffer.clear();
            let received = rig.driver.try_recv(*socket, &mut buffer).unwrap().unwrap();
            assert_eq!((received.count(), received.more()), (64, false));
            assert_eq!(buffer, [round; 64].as_slice());
        }
    }
    assert_eq!(ALLOCATED.get() - before, 0, "large allocations in ten rounds");
}

/// `None` where there is no io_uring.
fn rig(config: Config) -> Option<Rig> {
    let driver = config.build().inspect_err(|error| eprintln!("skipped: {error}")).ok()?;
    Some(Rig::over(Box::new(driver)))
}

/// Large data changes places with the reader's buffer, which may be much larger than one of the driver's.
#[test]
fn large_buffers_of_readers_do_not_stay_with_the_driver() {
    let Some(mut rig) = rig(Config::new()) else { return };
    let (socket, mut peer) = rig.tcp();
    let watch = rig.later(Op::Watch { socket });
    rig.turn(Wait::No);
    let before = LIVE.get();
    for round in 0..100 {
        // Small ones in between, or large ones come in another way.
        for (count, size) in [(1, 9_000), (20, 100)] {
            for _ in 0..count {
                peer.write_all(&vec![round; size]).unwrap();
                let mut got = 0;
                while got < size {
                    assert!(rig.next(watch).more);
                    let mut buffer = BytesMut::with_capacity(1 << 20);
                    got += rig.driver.try_recv(socket, &mut buffer).unwrap().unwrap().count();
                }
            }
        }
    }
    let kept = LIVE.get() - before;
    assert!(kept < 4 << 20, "{kept} bytes");
}

/// compio#746: with data that nobody has read, and with data that the kernel has just told of.
#[test]
fn buffers_of_closed_connections_are_used_again() {
    for config in [Config::new(), Config::new().without(Rung::DeferTaskrun)] {
        let Some(mut rig) = rig(config) else { return };
        let mut before = 0;
        for round in 0..300 {
            if round == 100 {
                before = LIVE.get();
            }
            let (socket, mut peer) = rig.tcp();
            let watch = rig.later(Op::Watch { socket });
            rig.turn(Wait::No);
            peer.write_all(&[1; 20_000]).unwrap();
            if round % 2 == 0 {
                assert!(rig.next(watch).more);
            }
            rig.close(socket);
            while rig.next(watch).more {}
        }
        let kept = LIVE.get() - before;
        assert!(kept < 1 << 20, "{kept} bytes");
    }
}

/// Small data that comes before the last was read is added to that.
#[test]
fn buffers_of_small_data_that_piles_up_are_used_again() {
    let Some(mut rig) = rig(Config::new()) else { return };
    let (socket, mut peer) = rig.tcp();
    let watch = rig.later(Op::Watch { socket });
    let mut buffer = BytesMut::with_capacity(1000);
    let mut before = 0;
    for round in 0..300 {
        if round == 100 {
            before = LIVE.get();
        }
        peer.write_all(&[1; 10]).unwrap();
        assert!(rig.next(watch).more);
        peer.write_all(&[2; 10]).unwrap();
        rig.turn(Wait::No);
        buffer.clear();
        while buffer.len() < 20 {
            rig.turn(Wait::No);
            // It may not have come yet.
            let _ = rig.driver.try_recv(socket, &mut buffer).unwrap();
        }
    }
    let kept = LIVE.get() - before;
    assert!(kept < 1 << 20, "{kept} bytes");
}
