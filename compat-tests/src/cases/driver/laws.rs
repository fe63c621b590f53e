//! One final completion for each op, what a cancel does, whose buffers are, and how long a wait takes.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use aioli_core::driver::{Completion, OpId, Wait};
use aioli_core::op::{Interest, Op, Outcome};
use aioli_core::ops::Owner;
use aioli_core::{Instant, get_running_loop};
use bytes::{Bytes, BytesMut};

use super::{LONG, Rig, accepted, done, received, recv, send};
use crate::case::cases;
use crate::cases::support::pump;
use crate::machine::Machine;

cases! {
    ($) "driver" in driver_laws as __cases_driver_laws;
    an_op_completes_once: "D1";
    a_cancel_completes_nothing_itself: "D2 D1";
    an_op_that_is_not_in_flight_is_cancelled_in_vain: "D2";
    a_cancel_is_for_the_whole_id: "D2";
    a_cancel_ends_its_op_alone: "D2 D1";
    what_arrived_before_a_cancel_is_not_lost: "D2 L4";
    what_a_cancelled_send_reports_is_what_was_sent: "D2 L4";
    a_receive_appends: "D3";
    an_empty_send_is_done: "D1";
    an_attempt_to_receive_without_room_from_a_pipe_comes_back: "D1";
    a_poll_tells_all_that_was_asked_for: "D1";
    a_shutdown_gives_back_what_is_in_flight: "D1 D3";
    after_a_shutdown_ops_are_refused_and_give_back_what_they_have: "D1 D3";
    closing_ends_what_is_in_flight: "D1 D3";
    what_the_driver_had_is_closed_with_it: "D3 D4";
    a_connection_that_was_accepted_is_owned: "D4";
    accepting_ends_with_its_credit: "D7";
    a_wait_ends_at_its_deadline_and_not_before: "D5 L5";
    a_deadline_in_the_past_does_not_wait: "D5";
    a_wait_is_hardly_longer_than_its_deadline: "D5";
    the_clock_never_goes_back: "D5 L5";
    a_completion_ends_a_wait: "D5";
    a_kick_ends_a_wait: "D5 L10";
    a_kick_before_the_wait_is_not_lost: "D5 L10";
    a_kick_is_used_up_by_a_wait_only: "D5 L10";
    a_kick_after_the_end_is_ignored: "D5 L10";
    what_is_dropped_with_an_outcome_may_use_the_loop: "D6 L11";
}

fn an_op_completes_once(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    let reading = rig.later(recv(server));
    for text in ["one", "two", "three"] {
        let Outcome::Sent { result: Ok(count), data } = rig.run(send(client, text)) else { panic!("not sent") };
        assert_eq!((count, &data[..]), (text.len(), text.as_bytes()));
    }
    let first = rig.last(reading);
    assert!(received(first).unwrap().starts_with(b"one"));
    rig.quiet();
    done(rig.now(Op::Close { resource: client }));
    loop {
        let outcome = rig.run(recv(server));
        if received(outcome).unwrap().is_empty() {
            break;
        }
    }
    done(rig.now(Op::Close { resource: server }));
    rig.shutdown();
}

fn a_cancel_completes_nothing_itself(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    let (reading, (listener, _)) = (rig.later(recv(server)), rig.listener());
    let accepting = rig.later(Op::Accept { listener, credit: 4 });
    rig.driver.cancel(reading);
    rig.driver.cancel(accepting);
    assert!(rig.arrived.is_empty());
    let outcome = rig.last(reading);
    assert!(is_cancelled(&received(outcome).unwrap_err()));
    let Outcome::Accepted(Err(error)) = rig.last(accepting) else { panic!("accepted") };
    assert!(is_cancelled(&error));
    // The socket is as good as before.
    let Outcome::Sent { result: Ok(1), .. } = rig.run(send(client, "x")) else { panic!("not sent") };
    let outcome = rig.run(recv(server));
    assert_eq!(received(outcome).unwrap(), b"x");
}

fn an_op_that_is_not_in_flight_is_cancelled_in_vain(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    let reading = rig.later(recv(server));
    rig.run(send(client, "x"));
    let outcome = rig.last(reading);
    assert_eq!(received(outcome).unwrap(), b"x");
    rig.driver.cancel(reading);
    rig.quiet();
}

fn a_cancel_is_for_the_whole_id(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    let reading = rig.later(recv(server));
    // An op that is over had the same index, or another one of its round.
    rig.driver.cancel(OpId(reading.0 ^ 1 << 63));
    rig.driver.cancel(OpId(reading.0 ^ 1 << 32));
    rig.driver.cancel(OpId(reading.0 ^ 1));
    rig.quiet();
    rig.run(send(client, "x"));
    let outcome = rig.last(reading);
    assert_eq!(received(outcome).unwrap(), b"x");
}

fn a_cancel_ends_its_op_alone(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    let reading = [(); 3].map(|()| rig.later(recv(server)));
    rig.driver.cancel(reading[1]);
    let outcome = rig.last(reading[1]);
    assert!(is_cancelled(&received(outcome).unwrap_err()));
    rig.quiet();
    for (id, text) in [(reading[0], "one"), (reading[2], "two")] {
        rig.run(send(client, text));
        let outcome = rig.last(id);
        assert_eq!(received(outcome).unwrap(), text.as_bytes());
    }
}

/// The driver may know nothing of it yet: it was not asked in between.
fn what_arrived_before_a_cancel_is_not_lost(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    for text in ["a", "some bytes"] {
        let reading = rig.later(recv(server));
        rig.run(send(client, text));
        rig.driver.cancel(reading);
        let outcome = rig.last(reading);
        let first = received(outcome).unwrap_or_else(|error| {
            assert!(is_cancelled(&error), "{error}");
            Vec::new()
        });
        let rest = if first.is_empty() { received(rig.run(recv(server))).unwrap() } else { Vec::new() };
        assert_eq!([first, rest].concat(), text.as_bytes());
    }
    let (listener, address) = rig.listener();
    for credit in [1, 4] {
        let accepting = rig.later(Op::Accept { listener, credit });
        let socket = rig.socket();
        let connecting = rig.submit(Op::Connect { socket, address: address.clone() });
        rig.driver.cancel(accepting);
        let mut accepted = 0;
        loop {
            let Completion { more, outcome, .. } = rig.next(accepting);
            match outcome {
                Outcome::Accepted(Ok(_)) => accepted += 1,
                Outcome::Accepted(Err(error)) => assert!(is_cancelled(&error), "{error}"),
                other => panic!("{other:?}"),
            }
            if !more {
                break;
            }
        }
        done(connecting.unwrap_or_else(|id| rig.last(id)));
        if accepted == 0 {
            super::accepted(rig.run(Op::Accept { listener, credit: 1 }));
        }
        let accepting = rig.later(Op::Accept { listener, credit: 1 });
        rig.driver.cancel(accepting);
        assert!(matches!(rig.last(accepting), Outcome::Accepted(Err(_))), "there was one connection");
    }
}

fn what_a_cancelled_send_reports_is_what_was_sent(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    let data = Bytes::from(vec![b'x'; 1 << 20]);
    let (mut sent, mut got) = (0, 0);
    let sending = loop {
        match rig.submit(send(client, data.clone())) {
            Ok(Outcome::Sent { result, .. }) => sent += result.unwrap(),
            Ok(other) => panic!("{other:?}"),
            Err(id) => {
                // It waits for room, unless that is how this driver sends.
                rig.settle();
                match rig.arrived.iter().position(|completion| completion.id == id) {
                    None => break id,
                    Some(_) => {
                        let Outcome::Sent { result, .. } = rig.last(id) else { panic!("not sent") };
                        sent += result.unwrap();
                    }
                }
            }
        }
    };
    // There is room, of which the driver need not know.
    while got < sent / 2 {
        got += received(rig.run(recv(server))).unwrap().len();
    }
    rig.driver.cancel(sending);
    let Outcome::Sent { result, data: back } = rig.last(sending) else { panic!("not sent") };
    assert_eq!(back.len(), data.len());
    match result {
        Ok(count) => sent += count,
        Err(error) => assert!(is_cancelled(&error), "{error}"),
    }
    done(rig.now(Op::Close { resource: client }));
    loop {
        match received(rig.run(recv(server))).unwrap().len() {
            0 => break,
            count => got += count,
        }
    }
    assert_eq!(got, sent);
}

fn a_receive_appends(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    for waits in [true, false] {
        let mut buffer = BytesMut::with_capacity(4096);
        buffer.extend_from_slice(b"kept, ");
        let op = Op::Recv { socket: server, buffer };
        let outcome = if waits {
            let reading = rig.later(op);
            rig.run(send(client, "new"));
            rig.last(reading)
        } else {
            rig.run(send(client, "new"));
            rig.quiet();
            rig.run(op)
        };
        let Outcome::Received { result: Ok(3), buffer } = outcome else { panic!("{outcome:?}") };
        assert_eq!(buffer, "kept, new");
    }
}

fn an_empty_send_is_done(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    let outcome = rig.run(send(client, ""));
    assert!(matches!(outcome, Outcome::Sent { result: Ok(0), .. }), "{outcome:?}");
    // The peer does not hear of it.
    rig.run(send(client, "x"));
    assert_eq!(received(rig.run(recv(server))).unwrap(), b"x");
}

/// It looked for ever what the kernel's "nothing" meant.
fn an_attempt_to_receive_without_room_from_a_pipe_comes_back(on: &Machine) {
    if !on.has_descriptors() {
        return;
    }
    let mut rig = Rig::new(on.plain_driver());
    let (ours, mut theirs) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&ours, true).unwrap();
    let Outcome::Opened(Ok(pipe)) = rig.now(Op::Adopt { fd: ours.into() }) else { panic!("not adopted") };
    theirs.write_all(b"x").unwrap();
    drop(theirs);
    let tried = rig.driver.try_recv(pipe, &mut BytesMut::new());
    assert!(tried.is_none_or(|tried| tried.map_or(true, |tried| tried.count() == 0)));
    assert_eq!(received(rig.run(recv(pipe))).unwrap(), b"x");
    assert_eq!(received(rig.run(recv(pipe))).unwrap(), b"");
}

fn a_poll_tells_all_that_was_asked_for(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    let poll = |resource, readable, writable| Op::Poll { resource, interest: Interest { readable, writable } };
    let found = |outcome| match outcome {
        Outcome::Ready(Ok(Interest { readable, writable })) => (readable, writable),
        other => panic!("{other:?}"),
    };
    assert_eq!(found(rig.run(poll(server, true, true))), (false, true));
    let waiting = rig.later(poll(server, true, false));
    rig.run(send(client, "x"));
    assert_eq!(found(rig.last(waiting)), (true, false));
    // It is the state that is told, each time, and not what is new.
    for _ in 0..2 {
        assert_eq!(found(rig.run(poll(server, true, true))), (true, true));
        assert_eq!(found(rig.run(poll(server, true, false))), (true, false));
        assert_eq!(found(rig.run(poll(server, false, true))), (false, true));
    }
    assert_eq!(received(rig.run(recv(server))).unwrap(), b"x");
    assert_eq!(found(rig.run(poll(server, true, true))), (false, true));
}

fn a_shutdown_gives_back_what_is_in_flight(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    let (one, other) = (rig.later(recv(server)), rig.later(recv(client)));
    let (listener, _) = rig.listener();
    let accepting = rig.later(Op::Accept { listener, credit: 4 });
    rig.shutdown();
    for id in [one, other] {
        let outcome = rig.last(id);
        assert!(is_cancelled(&received(outcome).unwrap_err()));
    }
    assert!(matches!(rig.last(accepting), Outcome::Accepted(Err(_))));
}

fn after_a_shutdown_ops_are_refused_and_give_back_what_they_have(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    rig.shutdown();
    let outcome = rig.now(recv(server));
    received(outcome).unwrap_err();
    let Outcome::Sent { result: Err(_), data } = rig.now(send(client, "kept")) else { panic!("sent") };
    assert_eq!(data, "kept");
}

fn closing_ends_what_is_in_flight(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    let reading = rig.later(recv(server));
    done(rig.now(Op::Close { resource: server }));
    let outcome = rig.last(reading);
    assert!(is_cancelled(&received(outcome).unwrap_err()));
    let outcome = rig.run(recv(client));
    assert!(received(outcome).is_ok_and(|rest| rest.is_empty()), "the peer sees the end");
}

fn what_the_driver_had_is_closed_with_it(on: &Machine) {
    if on.network().is_none() || !on.has_descriptors() {
        return;
    }
    for shut_down in [true, false] {
        let mut rig = Rig::new(on.plain_driver());
        let (listener, address) = rig.listener();
        let connect = || TcpStream::connect(address.internet().unwrap());
        let waits = Duration::from_secs(10);
        let (mut accepted_one, mut waiting_one) = (connect().unwrap(), connect().unwrap());
        accepted(rig.run(Op::Accept { listener, credit: 1 }));
        let (mut adopted_one, adopted) = UnixStream::pair().unwrap();
        let Outcome::Opened(Ok(adopted)) = rig.now(Op::Adopt { fd: adopted.into() }) else { panic!("not adopted") };
        rig.later(recv(adopted));
        if shut_down {
            rig.shutdown();
            // Nobody owns what is left of it any more.
            let (mut other, fd) = UnixStream::pair().unwrap();
            assert!(matches!(rig.now(Op::Adopt { fd: fd.into() }), Outcome::Opened(Err(_))));
            other.set_read_timeout(Some(waits)).unwrap();
            assert_eq!(other.read(&mut [0]).unwrap(), 0, "the descriptor that was refused");
        }
        drop(rig);
        accepted_one.set_read_timeout(Some(waits)).unwrap();
        assert_eq!(accepted_one.read(&mut [0]).unwrap(), 0, "the connection that was accepted");
        adopted_one.set_read_timeout(Some(waits)).unwrap();
        assert_eq!(adopted_one.read(&mut [0]).unwrap(), 0, "the descriptor that was adopted");
        waiting_one.set_read_timeout(Some(waits)).unwrap();
        let error = waiting_one.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "the listener");
    }
}

fn a_connection_that_was_accepted_is_owned(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (listener, address) = rig.listener();
    let accepting = rig.later(Op::Accept { listener, credit: 1 });
    let client = rig.socket();
    done(rig.run(Op::Connect { socket: client, address }));
    let server = accepted(rig.last(accepting));
    // It outlives its listener, and closing it is seen.
    done(rig.now(Op::Close { resource: listener }));
    rig.run(send(server, "hello"));
    let outcome = rig.run(recv(client));
    assert_eq!(received(outcome).unwrap(), b"hello");
    done(rig.now(Op::Close { resource: server }));
    let outcome = rig.run(recv(client));
    assert_eq!(received(outcome).unwrap(), b"");
}

fn accepting_ends_with_its_credit(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (listener, address) = rig.listener();
    for credit in 1..4 {
        let accepting = rig.later(Op::Accept { listener, credit });
        for _ in 0..=credit {
            let socket = rig.socket();
            done(rig.run(Op::Connect { socket, address: address.clone() }));
        }
        for n in 1..=credit {
            let completion = rig.next(accepting);
            assert_eq!(completion.more, n < credit, "{n} of {credit}");
            accepted(completion.outcome);
        }
        rig.quiet();
        // The one that was left over is the next one's.
        accepted(rig.run(Op::Accept { listener, credit: 1 }));
    }
}

fn a_wait_ends_at_its_deadline_and_not_before(on: &Machine) {
    let mut rig = Rig::new(on.plain_driver());
    for micros in [1, 50, 333, 1000, 2500, 7777] {
        let deadline = rig.driver.now() + Duration::from_micros(micros);
        while rig.driver.now() < deadline {
            assert_eq!(rig.turn(Wait::Until(deadline)), 0);
        }
        assert!(rig.driver.now() < deadline + LONG);
    }
}

fn a_deadline_in_the_past_does_not_wait(on: &Machine) {
    let mut rig = Rig::new(on.plain_driver());
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(rig.turn(Wait::Until(Instant::default())), 0);
        assert_eq!(rig.turn(Wait::No), 0);
    }
    assert!(begun.elapsed() < LONG);
    // A machine that is busy holds up some of them, and not all.
    let took = |rig: &mut Rig| {
        let begun = std::time::Instant::now();
        rig.turn(Wait::Until(Instant::default()));
        begun.elapsed()
    };
    assert!((0..100).map(|_| took(&mut rig)).min() < Some(Duration::from_micros(500)));
}

/// Whole milliseconds, rounded up, are as much as an old kernel can do.
fn a_wait_is_hardly_longer_than_its_deadline(on: &Machine) {
    let mut rig = Rig::new(on.plain_driver());
    let late = |rig: &mut Rig| {
        let deadline = rig.driver.now() + Duration::from_micros(100);
        while rig.driver.now() < deadline {
            rig.turn(Wait::Until(deadline));
        }
        rig.driver.now() - deadline
    };
    let least = (0..50).map(|_| late(&mut rig)).min().unwrap();
    assert!(least < Duration::from_millis(2), "each is late, by {least:?} or more");
}

fn the_clock_never_goes_back(on: &Machine) {
    let mut rig = Rig::new(on.plain_driver());
    let mut last = rig.driver.now();
    for n in 0..1000 {
        if n % 100 == 0 {
            rig.turn(Wait::Until(last + Duration::from_micros(10)));
        }
        let now = rig.driver.now();
        assert!(now >= last, "{now:?} after {last:?}");
        last = now;
    }
}

fn a_completion_ends_a_wait(on: &Machine) {
    let Some(mut rig) = on.network().map(|on| Rig::new(on.plain_driver())) else { return };
    let (client, server) = rig.pair();
    let reading = rig.later(recv(server));
    let begun = rig.driver.now();
    rig.run(send(client, "x"));
    let outcome = rig.last(reading);
    assert_eq!(received(outcome).unwrap(), b"x");
    assert!(rig.driver.now() < begun + LONG);
}

fn a_kick_ends_a_wait(on: &Machine) {
    let mut rig = Rig::new(on.plain_driver());
    let kicking = |rig: &Rig| {
        let kicker = rig.driver.kicker();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            kicker.kick();
        })
    };
    let kicked = kicking(&rig);
    rig.turn(Wait::Forever);
    kicked.join().unwrap();
    if rig.driver.is_virtual() {
        // Its clock does not wait for threads.
        return;
    }
    let deadline = rig.driver.now() + LONG;
    let kicked = kicking(&rig);
    rig.turn(Wait::Until(deadline));
    assert!(rig.driver.now() < deadline, "the wait outlasts the kick");
    kicked.join().unwrap();
}

fn a_kick_before_the_wait_is_not_lost(on: &Machine) {
    let mut rig = Rig::new(on.plain_driver());
    for _ in 0..100 {
        rig.driver.kicker().kick();
        rig.turn(Wait::Forever);
    }
}

fn a_kick_is_used_up_by_a_wait_only(on: &Machine) {
    // A virtual clock over the driver keeps count of its own.
    for driver in [on.driver(), on.plain_driver()] {
        let mut rig = Rig::new(driver);
        for _ in 0..10 {
            rig.driver.kicker().kick();
            rig.turn(Wait::No);
            // What was kicked for may have been looked for before that turn.
            rig.turn(Wait::Forever);
        }
    }
}

fn a_kick_after_the_end_is_ignored(on: &Machine) {
    let mut rig = Rig::new(on.plain_driver());
    let kicker = rig.driver.kicker();
    rig.shutdown();
    kicker.kick();
    drop(rig);
    kicker.kick();
}

fn what_is_dropped_with_an_outcome_may_use_the_loop(on: &Machine) {
    /// Data that uses the loop when it is dropped.
    struct Busy(Rc<Cell<u32>>);
    struct Sendable(Vec<u8>, std::sync::mpsc::Sender<()>);
    impl AsRef<[u8]> for Sendable {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Sendable {
        fn drop(&mut self) {
            let running = get_running_loop().expect("dropped by the loop");
            running.call_soon(|| ()).unwrap();
            running.call_later(1.0, || ()).unwrap();
            self.1.send(()).unwrap();
        }
    }
    impl Owner for Busy {
        fn complete(&self, _: u32, outcome: Outcome, _: bool) {
            self.0.set(self.0.get() + 1);
            drop(outcome);
        }
    }
    let (sender, dropped) = std::sync::mpsc::channel();
    let completed = Rc::new(Cell::new(0));
    let owner: Rc<dyn Owner> = Rc::new(Busy(Rc::clone(&completed)));
    on.run(async move {
        // There is no such resource: the op fails, at once or later, and its data comes back.
        let data = Bytes::from_owner(Sendable(vec![0; 64], sender));
        let gone = aioli_core::op::Resource(u64::from(u32::MAX));
        drop(get_running_loop()?.submit(Op::Send { socket: gone, data }, &owner, 0)?);
        pump(3).await
    });
    dropped.recv().unwrap();
    assert!(completed.get() <= 1);
}

fn is_cancelled(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::CANCELED.raw_os_error())
}
