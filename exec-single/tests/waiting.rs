//! How long a turn waits, and what interrupts it.
#![allow(missing_docs)]

mod common;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aioli_core::driver::{Driver, Wait};
use aioli_exec_single::Config;
use bytes::Bytes;
use common::*;

fn rigs() -> [Rig; 2] {
    [Rig::new(), Rig::with(Config::new().epoll_pwait2(false))]
}

#[test]
fn a_wait_never_ends_before_its_deadline() {
    for mut rig in rigs() {
        let (socket, _peer) = rig.unix();
        rig.later(recv(socket));
        for micros in [1, 50, 333, 999, 1000, 1001, 2500, 7777, 20_000] {
            let deadline = rig.driver.now() + Duration::from_micros(micros);
            assert_eq!(rig.turn(Wait::Until(deadline)), 0);
            assert!(rig.driver.now() >= deadline, "{micros} µs");
        }
    }
}

#[test]
fn a_wait_without_a_kernel_of_nanoseconds_is_said_so() {
    if !is_epoll() {
        // A ring always waits exactly.
        return;
    }
    let [exact, masked] = rigs();
    let found = |rig: &Rig| rig.driver.report().capabilities[0].1.clone();
    assert_eq!(exact.driver.report().name, "epoll");
    assert_eq!(found(&masked), "no (masked): waits are rounded up to whole milliseconds");
    assert_ne!(found(&exact), found(&masked));
}

#[test]
fn a_deadline_in_the_past_does_not_wait() {
    for mut rig in rigs() {
        let (socket, _peer) = rig.unix();
        rig.later(recv(socket));
        let start = Instant::now();
        for _ in 0..100 {
            let past = rig.driver.now() - Duration::from_secs(1);
            assert_eq!(rig.turn(Wait::Until(past)), 0);
            assert_eq!(rig.turn(Wait::No), 0);
        }
        assert!(start.elapsed() < LONG);
    }
}

#[test]
fn a_deadline_at_the_end_of_time_waits_for_events() {
    for mut rig in rigs() {
        let (socket, mut peer) = rig.unix();
        let id = rig.later(recv(socket));
        let writer = thread::spawn(move || {
            thread::sleep(SETTLE);
            peer.write_all(b"x").unwrap();
            peer
        });
        while rig.turn(Wait::Until(aioli_core::Instant::MAX)) == 0 {}
        assert_eq!(bytes_of(rig.last(id)).unwrap(), b"x");
        writer.join().unwrap();
    }
}

#[test]
fn a_completion_ends_a_wait() {
    for mut rig in rigs() {
        let (socket, mut peer) = rig.unix();
        let id = rig.later(recv(socket));
        let writer = thread::spawn(move || {
            thread::sleep(SETTLE);
            peer.write_all(b"x").unwrap();
            peer
        });
        while rig.turn(Wait::Forever) == 0 {}
        assert_eq!(bytes_of(rig.last(id)).unwrap(), b"x");
        writer.join().unwrap();
    }
}

#[test]
fn the_clock_is_monotonic_and_moves() {
    let rig = Rig::new();
    let first = rig.driver.now();
    thread::sleep(Duration::from_millis(2));
    assert!(rig.driver.now() >= first + Duration::from_millis(2));
    assert!(!rig.driver.is_virtual());
}

#[test]
fn a_turn_takes_no_more_events_than_it_has_room_for() {
    if !is_epoll() {
        // It is epoll's that has such a limit.
        return;
    }
    let mut rig = Rig::with(Config::new().events(1));
    let pairs: Vec<_> = (0..5).map(|_| rig.unix()).collect();
    let ids: Vec<_> = pairs.iter().map(|(socket, _)| rig.later(recv(*socket))).collect();
    rig.quiet();
    for (_, peer) in &pairs {
        { peer }.write_all(b"x").unwrap();
    }
    for _ in 0..5 {
        assert_eq!(rig.turn(Wait::Until(rig.driver.now() + LONG)), 1);
    }
    for id in ids {
        assert_eq!(bytes_of(rig.last(id)).unwrap(), b"x");
    }
}

#[test]
fn a_kick_before_the_wait_ends_it() {
    let mut rig = Rig::new();
    let kicker = rig.driver.kicker();
    for _ in 0..100 {
        kicker.kick();
        kicker.kick();
        // A turn that does not wait does not use the kick up.
        rig.turn(Wait::No);
        assert_eq!(rig.turn(Wait::Forever), 0);
        // Both kicks were answered by one turn, and none rang, since nobody slept.
        let deadline = rig.driver.now() + Duration::from_micros(100);
        rig.turn(Wait::Until(deadline));
        assert!(rig.driver.now() >= deadline);
    }
}

#[test]
fn no_kick_is_lost() {
    const ROUNDS: u64 = 10_000;
    let mut rig = Rig::new();
    let (socket, _peer) = rig.unix();
    rig.later(recv(socket));
    let asked = Arc::new(AtomicU64::new(0));
    let answered = Arc::new(AtomicU64::new(0));
    let kicker = rig.driver.kicker();
    let thread = thread::spawn({
        let (asked, answered) = (asked.clone(), answered.clone());
        move || {
            for round in 1..=ROUNDS {
                while asked.load(Ordering::Relaxed) < round {
                    std::hint::spin_loop();
                }
                // From well before the wait to within it.
                for _ in 0..(round * 7919) % 3000 {
                    std::hint::spin_loop();
                }
                answered.store(round, Ordering::Relaxed);
                kicker.kick();
            }
        }
    });
    for round in 1..=ROUNDS {
        asked.store(round, Ordering::Relaxed);
        let deadline = rig.driver.now() + LONG;
        while answered.load(Ordering::Relaxed) < round {
            rig.turn(Wait::Until(deadline));
            assert!(rig.driver.now() < deadline, "the kick of round {round} was lost");
        }
    }
    thread.join().unwrap();
}

#[test]
fn kicks_of_several_threads_are_not_lost() {
    const THREADS: u64 = 4;
    const EACH: u64 = 10_000;
    let mut rig = Rig::new();
    let published = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (published, kicker) = (published.clone(), rig.driver.kicker());
            thread::spawn(move || {
                for n in 0..EACH {
                    published.fetch_add(1, Ordering::Relaxed);
                    kicker.kick();
                    if n % 64 == 0 {
                        thread::sleep(Duration::from_micros(50));
                    }
                }
            })
        })
        .collect();
    let deadline = rig.driver.now() + LONG;
    while published.load(Ordering::Relaxed) < THREADS * EACH {
        rig.turn(Wait::Until(deadline));
        assert!(rig.driver.now() < deadline, "a kick was lost");
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_kick_outlives_the_driver() {
    let rig = Rig::new();
    let kicker = rig.driver.kicker();
    drop(rig);
    kicker.kick();
    kicker.kick();
}

extern "C" fn ignore(_signal: libc::c_int) {}

#[test]
fn a_signal_ends_a_wait_with_nothing() {
    // SAFETY: the handler does nothing. It does not ask for calls to be restarted.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    for mut rig in rigs() {
        let (socket, _peer) = rig.unix();
        rig.later(recv(socket));
        // SAFETY: has no preconditions.
        let waiting = unsafe { libc::pthread_self() };
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(SETTLE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                // SAFETY: the thread that waits joins this one before it ends.
                assert_eq!(unsafe { libc::pthread_kill(waiting, libc::SIGUSR1) }, 0);
            }
        });
        let deadline = rig.driver.now() + LONG;
        assert_eq!(rig.turn(Wait::Until(deadline)), 0);
        assert!(rig.driver.now() < deadline);
        assert_eq!(rig.turn(Wait::Forever), 0);
        drop(stop);
        thread.join().unwrap();
    }
}

/// The CPU time of this thread.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// After many short waits the driver looks for events before it sleeps: it must find all that can end a wait, and it must sleep when
/// there is nothing to be found.
#[test]
fn a_driver_that_looks_before_it_sleeps_misses_nothing_and_sleeps() {
    for mut rig in rigs() {
        let (socket, mut peer) = rig.tcp();
        peer.set_nodelay(true).unwrap();
        let partner = thread::spawn(move || {
            let mut byte = [0];
            while peer.read(&mut byte).unwrap() == 1 {
                peer.write_all(&byte).unwrap();
            }
        });
        let kicks = Arc::new(AtomicU64::new(0));
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let kicker = {
            let (kick, kicks) = (rig.driver.kicker(), Arc::clone(&kicks));
            thread::spawn(move || {
                for () in asked {
                    kicks.fetch_add(1, Ordering::Relaxed);
                    kick.kick();
                }
            })
        };
        for round in 0..3000 {
            let byte = round as u8;
            rig.send_all(socket, Bytes::from(vec![byte]));
            assert_eq!(bytes_of(rig.run(recv(socket))).unwrap(), [byte]);
            if round % 3 == 0 {
                let before = kicks.load(Ordering::Relaxed);
                ask.send(()).unwrap();
                let deadline = rig.driver.now() + LONG;
                while kicks.load(Ordering::Relaxed) == before {
                    rig.turn(Wait::Until(deadline));
                    assert!(rig.driver.now() < deadline, "a kick was lost");
                }
            }
        }
        rig.later(recv(socket));
        rig.turn(Wait::Until(rig.driver.now() + SETTLE));
        let before = cpu();
        for _ in 0..10 {
            let deadline = rig.driver.now() + SETTLE;
            while rig.driver.now() < deadline {
                rig.turn(Wait::Until(deadline));
            }
        }
        assert!(cpu() - before < SETTLE * 5, "it slept less than half of the time");
        drop(ask);
        kicker.join().unwrap();
        rig.close(socket);
        partner.join().unwrap();
    }
}

#[test]
fn on_uring_too() {
    again_on_uring();
}
