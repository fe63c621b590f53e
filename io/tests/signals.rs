//! Signals that come to the program. What a signal does is the whole program's, so each test runs in a process of its own.

mod common;

use std::cell::RefCell;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use aioli_core::{ErrorKind, get_running_loop, sleep, timeout};
use aioli_io::{LoopSignals, Signal, signals};
use common::{Reports, alone, leaves_nothing, run, run_exact, settle, turn};
use futures::StreamExt;
use signal_hook::low_level::raise;

const PLAY: &str = "AIOLI_TEST_PLAY";

/// Runs the program of the tests as a child that plays a part, to which signals are deadly.
fn play(part: &str) -> ExitStatus {
    let program = std::env::current_exe().unwrap();
    Command::new(program).args(["--exact", "parts", "--test-threads=1"]).env(PLAY, part).output().unwrap().status
}

#[test]
fn a_handler_is_called_two_turns_later() {
    if !alone("a_handler_is_called_two_turns_later") {
        return;
    }
    // I10 of CPython's trace.
    run_exact(|| async {
        let event_loop = get_running_loop()?;
        let calls = Rc::new(RefCell::new(Vec::new()));
        let called = Rc::clone(&calls);
        event_loop.add_signal_handler(Signal::USR1, move || called.borrow_mut().push(turn()))?;
        let before = turn();
        raise(Signal::USR1.number())?;
        raise(Signal::USR1.number())?;
        for _ in 0..3 {
            sleep(0.0).await?;
        }
        assert_eq!(*calls.borrow(), [before + 2, before + 2]);
        assert!(event_loop.remove_signal_handler(Signal::USR1));
        assert!(!event_loop.remove_signal_handler(Signal::USR1));
        Ok(())
    });
}

#[test]
fn signals_that_cannot_be_caught_are_errors() {
    if !alone("signals_that_cannot_be_caught_are_errors") {
        return;
    }
    run(|| async {
        let event_loop = get_running_loop()?;
        for signal in [Signal::KILL, Signal::STOP] {
            let error = event_loop.add_signal_handler(signal, || ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Runtime);
            assert_eq!(error.to_string(), format!("{signal} cannot be caught"));
            assert_eq!(signals([signal]).unwrap_err().kind(), ErrorKind::Runtime);
        }
        for number in [-1, 0, 32, 65, 9999] {
            assert_eq!(Signal::new(number).unwrap_err().kind(), ErrorKind::Value);
        }
        sleep(0.0).await
    });
}

#[test]
fn a_handler_replaces_the_one_before() {
    if !alone("a_handler_replaces_the_one_before") {
        return;
    }
    run(|| async {
        let event_loop = get_running_loop()?;
        let calls = Rc::new(RefCell::new(String::new()));
        for name in ["a", "b"] {
            let calls = Rc::clone(&calls);
            event_loop.add_signal_handler(Signal::USR1, move || calls.borrow_mut().push_str(name))?;
        }
        let other = Rc::clone(&calls);
        event_loop.add_signal_handler(Signal::USR2, move || other.borrow_mut().push('c'))?;
        raise(Signal::USR1.number())?;
        settle().await?;
        raise(Signal::USR2.number())?;
        settle().await?;
        assert_eq!(*calls.borrow(), "bc");
        Ok(())
    });
}

#[test]
fn a_handler_that_panics_is_reported_and_stays() {
    if !alone("a_handler_that_panics_is_reported_and_stays") {
        return;
    }
    run(|| async {
        let reports = Reports::new();
        get_running_loop()?.add_signal_handler(Signal::USR1, || panic!("handler"))?;
        for _ in 0..2 {
            raise(Signal::USR1.number())?;
            settle().await?;
        }
        assert_eq!(reports.take().len(), 2);
        Ok(())
    });
}

#[test]
fn a_stream_of_signals() {
    if !alone("a_stream_of_signals") {
        return;
    }
    run(|| async {
        let mut stream = signals([Signal::USR1, Signal::USR2])?;
        for _ in 0..3 {
            raise(Signal::USR1.number())?;
            assert_eq!(stream.recv().await?, Signal::USR1);
            raise(Signal::USR2.number())?;
            assert_eq!(stream.next().await, Some(Signal::USR2));
        }
        let late = timeout(Duration::from_millis(5), stream.recv()).await;
        assert!(late.unwrap_err().is_timeout());
        raise(Signal::USR1.number())?;
        settle().await?;
        assert_eq!(stream.recv().await?, Signal::USR1);
        Ok(())
    });
}

#[test]
fn each_of_several_loops_is_told() {
    if !alone("each_of_several_loops_is_told") {
        return;
    }
    let told = Arc::new(AtomicUsize::new(0));
    let ready = Arc::new(Barrier::new(5));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (told, ready) = (Arc::clone(&told), Arc::clone(&ready));
            thread::spawn(move || {
                aioli_exec_single::run(async move {
                    let signals = signals([Signal::USR1])?;
                    ready.wait();
                    for _ in 0..3 {
                        signals.recv().await?;
                        told.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(())
                })
            })
        })
        .collect();
    ready.wait();
    for round in 1..=3 {
        raise(Signal::USR1.number()).unwrap();
        while told.load(Ordering::SeqCst) < 4 * round {
            thread::sleep(Duration::from_millis(1));
        }
    }
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
}

#[test]
fn other_users_of_signals_are_told_too() {
    if !alone("other_users_of_signals_are_told_too") {
        return;
    }
    let others = Arc::new(AtomicUsize::new(0));
    signal_hook::flag::register_usize(Signal::USR1.number(), Arc::clone(&others), 1).unwrap();
    run(move || {
        let others = Arc::clone(&others);
        async move {
            others.store(0, Ordering::SeqCst);
            let stream = signals([Signal::USR1])?;
            raise(Signal::USR1.number())?;
            assert_eq!(stream.recv().await?, Signal::USR1);
            assert_eq!(others.swap(0, Ordering::SeqCst), 1);
            drop(stream);
            // It was handled before, and is again.
            raise(Signal::USR1.number())?;
            assert_eq!(others.load(Ordering::SeqCst), 1);
            Ok(())
        }
    });
}

#[test]
fn handlers_leave_no_descriptor() {
    if !alone("handlers_leave_no_descriptor") {
        return;
    }
    run(|| {
        leaves_nothing(async || {
            let event_loop = get_running_loop()?;
            event_loop.add_signal_handler(Signal::USR1, || ())?;
            event_loop.add_signal_handler(Signal::USR1, || ())?;
            assert!(event_loop.add_signal_handler(Signal::KILL, || ()).is_err());
            let stream = signals([Signal::USR1, Signal::USR2])?;
            assert!(signals([Signal::USR1, Signal::STOP]).is_err());
            raise(Signal::USR1.number())?;
            settle().await?;
            drop(stream);
            assert!(event_loop.remove_signal_handler(Signal::USR1));
            settle().await
        })
    });
    let before = common::descriptors();
    // What is left at the end goes with the loop.
    run(|| async { get_running_loop()?.add_signal_handler(Signal::USR1, || ()) });
    assert_eq!(common::descriptors(), before);
}

// --- where signals are deadly ------------------------------------------------------------------------------------------------------

/// The parts that children of the tests below play.
#[test]
fn parts() {
    let Some(part) = std::env::var_os(PLAY) else { return };
    let raise = |signal: Signal| raise(signal.number()).unwrap();
    let result = match part.to_str().unwrap() {
        "removed" => aioli_exec_single::run(async move {
            let event_loop = get_running_loop()?;
            event_loop.add_signal_handler(Signal::TERM, || ())?;
            raise(Signal::TERM);
            settle().await?;
            event_loop.remove_signal_handler(Signal::TERM);
            raise(Signal::TERM);
            Ok(())
        }),
        "closed" => aioli_exec_single::run(async move {
            get_running_loop()?.add_signal_handler(Signal::TERM, || ())?;
            raise(Signal::TERM);
            settle().await
        })
        .map(|()| raise(Signal::TERM)),
        "added again" => aioli_exec_single::run(async move {
            let event_loop = get_running_loop()?;
            for _ in 0..3 {
                event_loop.add_signal_handler(Signal::TERM, || ())?;
                raise(Signal::TERM);
                settle().await?;
                event_loop.remove_signal_handler(Signal::TERM);
            }
            let stream = signals([Signal::TERM])?;
            raise(Signal::TERM);
            stream.recv().await?;
            Ok(())
        }),
        other => panic!("no part {other}"),
    };
    result.unwrap();
}

#[test]
fn without_a_handler_the_default_is_back() {
    assert_eq!(play("removed").signal(), Some(Signal::TERM.number()));
    assert_eq!(play("closed").signal(), Some(Signal::TERM.number()));
    assert!(play("added again").success());
}
