//! Trouble with a ring: full queues, no buffers, signals, forks, closed descriptors, and what other people's drivers have lost.
#![allow(missing_docs)]

#[path = "../../exec-single/tests/common/mod.rs"]
mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use aioli_core::driver::{Completions, Driver, OpId, Submit, Wait};
use aioli_core::op::{FileOptions, Op, Outcome, Resource};
use aioli_exec_uring::{Config, Rung, UringDriver};
use bytes::{Bytes, BytesMut};
use common::{READ, Rig, SETTLE, accepted, alone, bytes_of, errno, open_descriptors, opened, ready, received, recv};

/// A rig on io_uring; `None` where this machine has none.
fn rig(config: Config) -> Option<Rig> {
    match config.build() {
        Ok(driver) => Some(Rig::over(Box::new(driver))),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// Receives at once until nothing more comes; returns what came, and whether that was the end.
fn drain(rig: &mut Rig, socket: Resource) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    loop {
        let mut buffer = BytesMut::with_capacity(10_000);
        match rig.driver.try_recv(socket, &mut buffer) {
            Some(Ok(received)) if received.count() == 0 => return (all, true),
            Some(Ok(received)) => {
                all.extend_from_slice(&buffer);
                if !received.more() {
                    return (all, false);
                }
            }
            _ => return (all, false),
        }
    }
}

/// Receives what a watch tells of until so much is there.
#[track_caller]
fn watched(rig: &mut Rig, id: OpId, socket: Resource, count: usize) -> Vec<u8> {
    let mut all = drain(rig, socket).0;
    while all.len() < count {
        assert_eq!(ready(rig.next(id).outcome).unwrap(), READ);
        all.extend(drain(rig, socket).0);
    }
    all
}

/// tokio#8277, libuv#4598: more completions than the queue for them holds.
#[test]
fn upstream_a_completion_queue_that_overflows_loses_nothing() {
    let Some(mut rig) = rig(Config::new().entries(4).completions(8)) else { return };
    let mut pairs: Vec<_> = (0..200).map(|_| rig.unix()).collect();
    let ids: Vec<_> = pairs.iter().map(|(socket, _)| rig.later(recv(*socket))).collect();
    rig.turn(Wait::No);
    for (n, (_, peer)) in pairs.iter_mut().enumerate() {
        peer.write_all(&[n as u8; 3]).unwrap();
    }
    for (n, id) in ids.into_iter().enumerate() {
        assert_eq!(bytes_of(rig.last(id)).unwrap(), [n as u8; 3]);
    }
    // Multishot requests end when the queue overflows, and are made again.
    let mut connections: Vec<_> = (0..50).map(|_| rig.tcp()).collect();
    let watches: Vec<_> = connections.iter().map(|(socket, _)| rig.later(Op::Watch { socket: *socket })).collect();
    for round in 0..3u8 {
        for (_, peer) in &mut connections {
            peer.write_all(&[round; 100]).unwrap();
        }
        for (id, (socket, _)) in watches.iter().zip(&connections) {
            assert_eq!(watched(&mut rig, *id, *socket, 100), [round; 100]);
        }
    }
}

/// liburing#1275: no buffer is left for a receive that goes on.
#[test]
fn upstream_a_receive_that_finds_no_buffer_goes_on() {
    let Some(mut rig) = rig(Config::new()) else { return };
    let mut connections: Vec<_> = (0..150).map(|_| rig.tcp()).collect();
    let watches: Vec<_> = connections.iter().map(|(socket, _)| rig.later(Op::Watch { socket: *socket })).collect();
    rig.turn(Wait::No);
    for (n, (_, peer)) in connections.iter_mut().enumerate() {
        peer.write_all(&[n as u8; 20_000]).unwrap();
    }
    for (n, (id, (socket, _))) in watches.iter().zip(&connections).enumerate() {
        assert_eq!(watched(&mut rig, *id, *socket, 20_000), [n as u8; 20_000]);
    }
}

/// compio#746: a buffer that the kernel picked for a receive that was cancelled.
#[test]
fn upstream_buffers_of_cancelled_receives_come_back() {
    let Some(mut rig) = rig(Config::new()) else { return };
    let (socket, mut peer) = rig.tcp();
    let mut all = Vec::new();
    for round in 0..3000u32 {
        let id = rig.later(Op::Watch { socket });
        if round % 3 == 0 {
            rig.turn(Wait::No);
        }
        peer.write_all(&round.to_ne_bytes()).unwrap();
        rig.cancel(id);
        assert_eq!(
            errno(ready(loop {
                let completion = rig.next(id);
                if !completion.more {
                    break completion.outcome;
                }
            })),
            libc::ECANCELED
        );
        // What came nevertheless is kept for whoever receives next, in whichever way.
        match round % 2 {
            0 => all.extend(drain(&mut rig, socket).0),
            _ => all.extend(rig.recv(socket).unwrap()),
        }
    }
    while all.len() < 12_000 {
        all.extend(rig.recv(socket).unwrap());
    }
    let expected: Vec<u8> = (0..3000u32).flat_map(u32::to_ne_bytes).collect();
    assert!(all == expected);
}

/// compio#943: a driver that is dropped with everything in flight. (For sanitizers: the kernel must not write to freed memory.)
#[test]
fn upstream_a_driver_is_dropped_in_flight() {
    alone("upstream_a_driver_is_dropped_in_flight", || {
        let before = open_descriptors();
        for shut_down in [false, true] {
            let Some(mut rig) = rig(Config::new()) else { return };
            let (listener, address) = rig.listener(8);
            rig.later(Op::Accept { listener, credit: 8 });
            let (socket, mut peer) = rig.tcp();
            let (watched, mut watched_peer) = rig.tcp();
            rig.later(recv(socket));
            rig.later(Op::Watch { socket: watched });
            let (unix, mut unix_peer) = rig.unix();
            rig.later(Op::Poll { resource: unix, interest: READ });
            let path = std::env::temp_dir().join(format!("aioli-dropped-{}", std::process::id()));
            let options = FileOptions::new().write(true).create(true);
            rig.later(Op::OpenFile { path: path.clone(), options });
            rig.turn(Wait::No);
            let client = TcpStream::connect(address).unwrap();
            peer.write_all(&[1; 5000]).unwrap();
            watched_peer.write_all(&[2; 50_000]).unwrap();
            unix_peer.write_all(b"x").unwrap();
            if shut_down {
                rig.shutdown();
            }
            drop(rig);
            drop((client, peer, watched_peer, unix_peer));
            // The open may have been cancelled before it was begun.
            let _ = std::fs::remove_file(path);
            assert_eq!(open_descriptors(), before);
        }
    });
}

/// tokio#7979, monoio#318: a connection that arrives for an accept that is cancelled.
#[test]
fn upstream_a_connection_for_a_cancelled_accept_is_not_lost() {
    alone("upstream_a_connection_for_a_cancelled_accept_is_not_lost", || {
        let Some(mut rig) = rig(Config::new()) else { return };
        let before = open_descriptors();
        for credit in [1, 2, 8] {
            for close in [false, true] {
                let (listener, address) = rig.listener(8);
                let id = rig.later(Op::Accept { listener, credit });
                rig.turn(Wait::No);
                let peers = [(); 3].map(|()| TcpStream::connect(address).unwrap());
                rig.cancel(id);
                let mut found = 0;
                loop {
                    let completion = rig.next(id);
                    if let Ok((resource, _)) = accepted(completion.outcome) {
                        rig.close(resource);
                        found += 1;
                    }
                    if !completion.more {
                        break;
                    }
                }
                if !close {
                    // The others are served to whoever accepts next.
                    for _ in found..3 {
                        let (resource, _) = accepted(rig.run(Op::Accept { listener, credit: 1 })).unwrap();
                        rig.close(resource);
                    }
                }
                rig.close(listener);
                rig.turn(Wait::No);
                drop(peers);
                assert_eq!(open_descriptors(), before);
            }
        }
    });
}

/// Those that the kernel has told of already, and those that came beyond the credit.
#[test]
fn connections_for_a_listener_that_is_closed_are_closed() {
    alone("connections_for_a_listener_that_is_closed_are_closed", || {
        for config in [Config::new(), Config::new().without(Rung::DeferTaskrun)] {
            let Some(mut rig) = rig(config) else { return };
            let before = open_descriptors();
            for (credit, finished) in [(1, false), (2, false), (8, false), (1, true), (2, true)] {
                let (listener, address) = rig.listener(8);
                let id = rig.later(Op::Accept { listener, credit });
                rig.turn(Wait::No);
                let peers = [(); 4].map(|()| TcpStream::connect(address).unwrap());
                let mut more = finished;
                while more {
                    let completion = rig.next(id);
                    more = completion.more;
                    let (resource, _) = accepted(completion.outcome).unwrap();
                    rig.close(resource);
                }
                rig.close(listener);
                rig.turn(Wait::No);
                drop(peers);
                assert_eq!(open_descriptors(), before, "{credit} {finished}");
            }
        }
    });
}

/// zion#195: the number of a descriptor is used again while the ring still refers to it.
#[test]
fn upstream_a_number_that_is_used_again_is_another_descriptor() {
    let Some(mut rig) = rig(Config::new()) else { return };
    for _ in 0..500 {
        let (first, mut first_peer) = rig.unix();
        let stale = rig.later(recv(first));
        rig.close(first);
        let (second, mut second_peer) = rig.unix();
        let fresh = rig.later(recv(second));
        let _ = first_peer.write_all(b"wrong");
        second_peer.write_all(b"right").unwrap();
        assert_eq!(bytes_of(rig.last(fresh)).unwrap(), b"right");
        assert_eq!(errno(bytes_of(rig.last(stale))), libc::ECANCELED);
        rig.close(second);
        drop(first_peer);
    }
}

#[test]
fn more_in_flight_than_there_are_entries() {
    let Some(mut rig) = rig(Config::new().entries(2).completions(4)) else { return };
    let mut pairs: Vec<_> = (0..300).map(|_| rig.unix()).collect();
    let ids: Vec<_> = pairs.iter().map(|(socket, _)| rig.later(recv(*socket))).collect();
    for (_, peer) in &mut pairs {
        peer.write_all(b"x").unwrap();
    }
    let (odd, even): (Vec<_>, Vec<_>) = ids.into_iter().enumerate().partition(|(n, _)| n % 2 == 1);
    odd.iter().for_each(|(_, id)| rig.cancel(*id));
    for (_, id) in even {
        assert_eq!(bytes_of(rig.last(id)).unwrap(), b"x");
    }
    for (n, id) in odd {
        // Cancelled, or too late; then nothing is lost.
        let (result, buffer) = received(rig.last(id));
        let data = if result.is_ok() { buffer.to_vec() } else { rig.recv(pairs[n].0).unwrap() };
        assert_eq!(data, b"x");
    }
}

extern "C" fn ignore(_signal: libc::c_int) {}

#[test]
fn a_storm_of_signals_changes_nothing() {
    let Some(mut rig) = rig(Config::new()) else { return };
    // SAFETY: the handler does nothing. It does not ask for calls to be restarted.
    let waiting = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()), 0);
        libc::pthread_self()
    };
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let storm = thread::spawn(move || {
        while stopped
            .recv_timeout(Duration::from_micros(20))
            .is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            // SAFETY: the thread that waits joins this one before it ends.
            assert_eq!(unsafe { libc::pthread_kill(waiting, libc::SIGUSR2) }, 0);
        }
    });
    let (a, peer) = rig.tcp();
    let b = rig.adopt(peer);
    let id = rig.later(Op::Watch { socket: b });
    for round in 0..2000u32 {
        assert_eq!(rig.driver.try_send(a, &round.to_ne_bytes()).unwrap().unwrap(), 4);
        assert_eq!(watched(&mut rig, id, b, 4), round.to_ne_bytes());
    }
    drop(stop);
    storm.join().unwrap();
}

/// The receive that goes on may have taken the error of the connection from the socket, so that a send finds that it is broken only.
#[test]
fn a_send_after_a_reset_says_so() {
    for config in [Config::new(), Config::new().without(Rung::DeferTaskrun).without(Rung::CoopTaskrun)] {
        let Some(mut rig) = rig(config) else { return };
        let (socket, peer) = rig.tcp();
        rig.later(Op::Watch { socket });
        rig.turn(Wait::No);
        assert_eq!(rig.driver.try_send(socket, b"unread").unwrap().unwrap(), 6);
        drop(peer);
        thread::sleep(Duration::from_millis(30));
        assert_eq!(errno(rig.driver.try_send(socket, b"x").unwrap()), libc::ECONNRESET);
    }
}

/// A ring that is registered with its thread outlives its descriptor, until the thread ends. There are sixteen places for such.
#[test]
fn a_driver_that_is_dropped_leaves_no_ring() {
    let tried = thread::spawn(|| {
        let Ok(driver) = UringDriver::new() else { return };
        drop(driver);
        let rings: Vec<_> = (0..16).map(|_| io_uring::IoUring::new(4).unwrap()).collect();
        for ring in &rings {
            ring.submitter().register_ring_fd().expect("a place");
        }
    });
    tried.join().unwrap();
}

/// The driver goes by what it keeps of such sends until it has heard of all that failed.
#[test]
fn more_gathered_sends_fail_than_the_queues_hold() {
    let Some(mut rig) = rig(Config::new().busy_turns(0).entries(4).completions(8)) else { return };
    let connections: Vec<_> = (0..40).map(|_| rig.tcp()).collect();
    for (socket, _) in &connections {
        rig.later(Op::Watch { socket: *socket });
    }
    rig.turn(Wait::No);
    // Until the buffers of the peers are full, too.
    let (mut counts, mut quiet) = ([0; 40], 0);
    while quiet < 20 {
        thread::sleep(Duration::from_millis(2));
        quiet += 1;
        for (n, (socket, _)) in connections.iter().enumerate() {
            while let Ok(sent) = rig.driver.try_send(*socket, &[n as u8; 100_000]).unwrap() {
                counts[n] += sent;
                quiet = 0;
            }
        }
    }
    for (n, (socket, _)) in connections.iter().enumerate() {
        assert_eq!(rig.driver.try_send(*socket, &[n as u8; 1000]).unwrap().unwrap(), 1000);
    }
    rig.turn(Wait::No);
    let readers: Vec<_> = connections
        .iter()
        .zip(counts)
        .enumerate()
        .map(|(n, ((_, peer), count))| {
            let mut peer = peer.try_clone().unwrap();
            thread::spawn(move || {
                let mut all = vec![0; count + 1000];
                peer.read_exact(&mut all).unwrap();
                assert!(all.iter().all(|byte| *byte == n as u8));
            })
        })
        .collect();
    while !readers.iter().all(thread::JoinHandle::is_finished) {
        let soon = rig.driver.now() + Duration::from_millis(2);
        rig.turn(Wait::Until(soon));
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

/// A reader that does not read holds little.
#[test]
fn a_watch_that_nobody_serves_is_held_back() {
    for config in [Config::new(), Config::new().without(Rung::ReceiveCredit)] {
        let Some(mut rig) = rig(config) else { return };
        // Others that find no buffer have the driver keep more of them than one receive takes at once.
        let mut others: Vec<_> = (0..100).map(|_| rig.tcp()).collect();
        let watches: Vec<_> = others.iter().map(|(socket, _)| rig.later(Op::Watch { socket: *socket })).collect();
        for _ in 0..5 {
            rig.turn(Wait::No);
            others.iter_mut().for_each(|(_, peer)| peer.write_all(&[1; 4000]).unwrap());
            for ((socket, _), id) in others.iter().zip(&watches) {
                watched(&mut rig, *id, *socket, 4000);
            }
        }
        let (socket, peer) = rig.tcp();
        let id = rig.later(Op::Watch { socket });
        rig.turn(Wait::No);
        let mut writer = peer.try_clone().unwrap();
        let writing = thread::spawn(move || writer.write_all(&vec![7; 8 << 20]));
        rig.next(id);
        for _ in 0..20 {
            let soon = rig.driver.now() + Duration::from_millis(2);
            rig.turn(Wait::Until(soon));
        }
        let (first, _) = drain(&mut rig, socket);
        assert!((1..=200_000).contains(&first.len()), "{}", first.len());
        let mut count = first.len();
        while count < 8 << 20 {
            rig.next(id);
            count += drain(&mut rig, socket).0.len();
        }
        writing.join().unwrap().unwrap();
    }
}

/// One that the kernel is about, and one that it has not begun.
#[test]
fn a_cancelled_open_that_hangs_says_so() {
    let path = std::env::temp_dir().join(format!("aioli-hangs-{}", std::process::id()));
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the name ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let Some(mut rig) = rig(Config::new()) else { return };
    for begun in [true, false] {
        let id = rig.later(Op::OpenFile { path: path.clone(), options: FileOptions::new().read(true) });
        if begun {
            rig.turn(Wait::No);
            thread::sleep(SETTLE);
        }
        rig.cancel(id);
        assert_eq!(errno(opened(rig.last(id))), libc::ECANCELED, "{begun}");
    }
    std::fs::remove_file(path).unwrap();
}

/// A driver takes requests from the thread that made it only; each thread has its own.
#[test]
fn two_loops_on_two_threads() {
    let threads = [(); 2].map(|()| {
        thread::spawn(|| {
            let Some(mut rig) = rig(Config::new()) else { return };
            let (socket, mut peer) = rig.unix();
            for _ in 0..500 {
                let id = rig.later(recv(socket));
                peer.write_all(b"x").unwrap();
                assert_eq!(bytes_of(rig.last(id)).unwrap(), b"x");
            }
        })
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// The advice for those who asked for io_uring by name.
#[test]
fn without_descriptors_the_error_says_what_to_do() {
    alone("without_descriptors_the_error_says_what_to_do", || {
        if UringDriver::new().is_err() {
            return;
        }
        let set = |count| {
            let limit = libc::rlimit { rlim_cur: count, rlim_max: 4096 };
            // SAFETY: the limit is valid for reading.
            unsafe { assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0) };
        };
        set(3);
        let error = UringDriver::new().unwrap_err();
        set(4096);
        assert!(error.to_string().contains("oo many"), "{error}");
    });
}

/// Has the kernel refuse a system call to this process from here on, as a container's filter does.
fn forbid(call: i64, errno: i32) {
    let instruction =
        |code: u32, jump_true, jump_false, k| libc::sock_filter { code: code as u16, jt: jump_true, jf: jump_false, k };
    let filter = [
        // The number of the call; if it is that one: an error; else: allowed.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program and its filter outlive the call, which copies them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

/// Asks for a ring where a call is forbidden; returns what is said.
fn refused(test: &str, call: i64, errno: i32, expected: &str) {
    alone(test, || {
        if UringDriver::new().is_ok() {
            forbid(call, errno);
            let error = UringDriver::new().unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("AIOLI_BACKEND=epoll"), "{error}");
        }
    });
}

#[test]
fn a_filter_that_forbids_rings_is_named() {
    refused(
        "a_filter_that_forbids_rings_is_named",
        libc::SYS_io_uring_setup,
        libc::EPERM,
        "io_uring_setup: Operation not permitted",
    );
}

/// A ring that can be set up and not be entered: only a request that makes the trip shows it.
#[test]
fn a_filter_that_forbids_entering_is_found() {
    refused(
        "a_filter_that_forbids_entering_is_found",
        libc::SYS_io_uring_enter,
        libc::EPERM,
        "io_uring_enter: Operation not permitted",
    );
}

#[test]
fn a_kernel_without_rings_is_named() {
    refused("a_kernel_without_rings_is_named", libc::SYS_io_uring_setup, libc::ENOSYS, "no io_uring");
}

#[test]
fn a_limit_of_locked_memory_is_named() {
    refused("a_limit_of_locked_memory_is_named", libc::SYS_io_uring_setup, libc::ENOMEM, "ulimit -l");
}

/// Where nothing can be registered, the driver does without.
#[test]
fn a_filter_that_forbids_registering_is_done_without() {
    alone("a_filter_that_forbids_registering_is_done_without", || {
        if UringDriver::new().is_err() {
            return;
        }
        forbid(libc::SYS_io_uring_register, libc::EPERM);
        let Some(mut rig) = rig(Config::new()) else { panic!("there is no ring") };
        let (socket, mut peer) = rig.tcp();
        let id = rig.later(Op::Watch { socket });
        peer.write_all(b"ciao").unwrap();
        assert_eq!(watched(&mut rig, id, socket, 4), b"ciao");
    });
}

/// What the report says of a rung that is masked, and that the driver does without it.
#[test]
fn each_rung_can_be_done_without() {
    for rung in Rung::ALL {
        let Some(mut rig) = rig(Config::new().busy_turns(0).without(rung)) else { return };
        let found = rig.driver.report().capabilities;
        let (_, text) = found.iter().find(|(name, _)| *name == rung.to_string()).unwrap();
        assert_eq!(text, "no (masked)");
        assert_eq!(rung.to_string().parse::<Rung>().unwrap(), rung);
        let (socket, mut peer) = rig.tcp();
        let id = rig.later(Op::Watch { socket });
        peer.write_all(b"ciao").unwrap();
        assert_eq!(watched(&mut rig, id, socket, 4), b"ciao");
        assert_eq!(rig.driver.try_send(socket, b"mondo").unwrap().unwrap(), 5);
        rig.turn(Wait::No);
        let mut answer = [0; 5];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"mondo");
    }
}

/// A buffer with no room is refused, and comes back.
#[test]
fn a_receive_without_room_is_refused() {
    let Ok(mut driver) = UringDriver::new() else { return };
    let (ours, _peer) = UnixStream::pair().unwrap();
    let Submit::Done(Outcome::Opened(Ok(socket))) = driver.submit(OpId(0), Op::Adopt { fd: ours.into() }) else {
        panic!()
    };
    let Submit::Done(Outcome::Received { result, .. }) =
        driver.submit(OpId(0), Op::Recv { socket, buffer: BytesMut::new() })
    else {
        panic!()
    };
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    let mut completions = Completions::new();
    driver.shutdown(&mut completions);
    assert!(completions.is_empty());
    let Submit::Done(Outcome::Sent { result, .. }) = driver.submit(OpId(0), Op::Send { socket, data: Bytes::new() })
    else {
        panic!()
    };
    assert_eq!(errno(result), libc::ECANCELED);
}
