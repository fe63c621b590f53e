//! One final completion for each op, what a cancel does, whose buffers are, and how long a wait takes.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use aioli_core::driver::Wait;
use aioli_core::op::{Op, Outcome};
use aioli_core::ops::Owner;
use aioli_core::{Instant, get_running_loop};
use bytes::Bytes;

use super::{LONG, Rig, accepted, done, received, recv, send};
use crate::case::cases;
use crate::cases::support::pump;
use crate::machine::Machine;

cases! {
    ($) "driver" in driver_laws as __cases_driver_laws;
    an_op_completes_once: "D1";
    a_cancel_completes_nothing_itself: "D2 D1";
    an_op_that_is_not_in_flight_is_cancelled_in_vain: "D2";
    a_shutdown_gives_back_what_is_in_flight: "D1 D3";
    after_a_shutdown_ops_are_refused_and_give_back_what_they_have: "D1 D3";
    closing_ends_what_is_in_flight: "D1 D3";
    a_connection_that_was_accepted_is_owned: "D4";
    accepting_ends_with_its_credit: "D7";
    a_wait_ends_at_its_deadline_and_not_before: "D5 L5";
    a_deadline_in_the_past_does_not_wait: "D5";
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
    let kicker = rig.driver.kicker();
    let kicking = thread::spawn(move || {
        thread::sleep(Duration::from_millis(5));
        kicker.kick();
    });
    rig.turn(Wait::Forever);
    kicking.join().unwrap();
}

fn a_kick_before_the_wait_is_not_lost(on: &Machine) {
    let mut rig = Rig::new(on.plain_driver());
    for _ in 0..100 {
        rig.driver.kicker().kick();
        rig.turn(Wait::Forever);
    }
}

fn a_kick_is_used_up_by_a_wait_only(on: &Machine) {
    let mut rig = Rig::new(on.driver());
    for _ in 0..10 {
        rig.driver.kicker().kick();
        rig.turn(Wait::No);
        // What was kicked for may have been looked for before that turn.
        rig.turn(Wait::Forever);
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
