//! Readers that do not read, so many that they hold every buffer there can be.
#![allow(missing_docs)]

#[path = "../../exec-single/tests/common/mod.rs"]
mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use aioli_core::driver::Wait;
use aioli_core::op::Op;
use aioli_exec_uring::Config;
use bytes::BytesMut;
use common::{LONG, Rig, alone};

/// Their first 32 KiB come in fifteen pieces each. There are 65,535 buffers.
const SLOW: usize = 4_400;
const PIECE: usize = 2_100;
const PAUSE: Duration = Duration::from_millis(3);

/// May this process open so many descriptors?
fn may_open(count: u64) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the calls read and write `limit`, which outlives them.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    limit.rlim_max >= count
}

#[test]
fn they_leave_others_something_to_receive_with() {
    alone("they_leave_others_something_to_receive_with", || {
        let driver = match Config::new().build() {
            _ if !may_open(2 * SLOW as u64 + 100) => return eprintln!("skipped: too few descriptors are allowed"),
            Err(error) => return eprintln!("skipped: {error}"),
            Ok(driver) => driver,
        };
        let mut rig = Rig::over(Box::new(driver));
        let mut slow: Vec<_> = (0..SLOW).map(|_| rig.tcp()).collect();
        let (socket, mut peer) = rig.tcp();
        for (socket, peer) in &slow {
            peer.set_nonblocking(true).unwrap();
            rig.later(Op::Watch { socket: *socket });
        }
        rig.later(Op::Watch { socket });
        for _ in 0..15 {
            for (_, peer) in &mut slow {
                peer.write_all(&[1; PIECE]).unwrap();
            }
            // Until waits find nothing more.
            let mut quiet = 0;
            while quiet < 3 {
                let begin = Instant::now();
                rig.turn(Wait::Until(rig.driver.now() + PAUSE));
                quiet = if begin.elapsed() < PAUSE { 0 } else { quiet + 1 };
            }
        }

        peer.write_all(b"hello").unwrap();
        let mut buffer = BytesMut::with_capacity(100);
        let begin = Instant::now();
        while buffer.is_empty() {
            rig.turn(Wait::Until(rig.driver.now() + Duration::from_secs(1)));
            // There may be nothing yet.
            let _ = rig.driver.try_recv(socket, &mut buffer);
            assert!(begin.elapsed() < LONG, "nothing came");
        }
        assert_eq!(&buffer[..], b"hello");
    });
}
