//! Handlers of signals, and streams of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use aioli_core::{ErrorKind, get_running_loop, sleep, timeout};
use aioli_io::{LoopSignals, Signal, signals};
use futures::StreamExt;
use rustix::process::{getpid, kill_process};

use super::support::{in_fork, raise, until, with_signals};
use crate::case::cases;
use crate::cases::net::support::{Reports, settle, turn};
use crate::machine::Machine;

cases! {
    ($) "signals" in signals_handlers as __cases_signals_handlers;
    a_handler_is_called_two_turns_later: "SG3 L2"
        = "test_events::EventLoopTestsMixin::test_add_signal_handler",
          "test_unix_events::SelectorEventLoopSignalTests::test_add_signal_handler";
    a_signal_ends_the_wait_of_the_loop: "SG3 D5"
        = "test_events::EventLoopTestsMixin::test_signal_handling_while_selecting",
          "test_events::EventLoopTestsMixin::test_signal_handling_args";
    signals_that_cannot_be_caught_are_errors: "SG3"
        = "test_unix_events::SelectorEventLoopSignalTests::test_check_signal",
          "test_events::EventLoopTestsMixin::test_add_signal_handler",
          "test_unix_events::SelectorEventLoopSignalTests::test_add_signal_handler_install_error",
          "test_unix_events::SelectorEventLoopSignalTests::test_add_signal_handler_install_error2",
          "test_unix_events::SelectorEventLoopSignalTests::test_add_signal_handler_install_error3";
    a_closed_loop_takes_no_handler: "SG3 LP13" = "test_events::EventLoopTestsMixin::test_close";
    a_handler_replaces_the_one_before: "SG3";
    a_handler_that_panics_is_reported_and_stays: "SG3 LP11 L7";
    a_stream_of_signals: "SG3 L4";
    each_of_several_loops_is_told: "SG3 L10";
    other_users_of_signals_are_told_too: "SG3";
    without_a_handler_the_default_is_back: "SG3 L9"
        = "test_unix_events::SelectorEventLoopSignalTests::test_remove_signal_handler",
          "test_unix_events::SelectorEventLoopSignalTests::test_close";
    handlers_leave_no_descriptor: "SG3 L9 D4";
}

fn a_handler_is_called_two_turns_later(on: &Machine) {
    // I10 of CPython's trace.
    with_signals(on, |on| {
        on.net_exact(|| async {
            let event_loop = get_running_loop()?;
            let calls = Rc::new(RefCell::new(Vec::new()));
            let called = Rc::clone(&calls);
            event_loop.add_signal_handler(Signal::USR1, move || called.borrow_mut().push(turn()))?;
            let before = turn();
            raise(Signal::USR1);
            raise(Signal::USR1);
            for _ in 0..3 {
                sleep(0.0).await?;
            }
            assert_eq!(*calls.borrow(), [before + 2, before + 2]);
            assert!(event_loop.remove_signal_handler(Signal::USR1));
            assert!(!event_loop.remove_signal_handler(Signal::USR1));
            Ok(())
        });
    });
}

fn a_signal_ends_the_wait_of_the_loop(on: &Machine) {
    with_signals(on, |on| {
        let sender = thread::spawn(|| {
            thread::sleep(Duration::from_millis(50));
            kill_process(getpid(), rustix::process::Signal::ALARM).unwrap();
        });
        let runner = on.plain_runner();
        let event_loop = runner.get_loop();
        let caught = Rc::new(Cell::new(0));
        let (stopping, counter, value) = (event_loop.clone(), Rc::clone(&caught), 42);
        runner
            .get_loop()
            .call_soon(move || {
                let handler = move || {
                    counter.set(counter.get() + value);
                    stopping.stop();
                };
                get_running_loop().unwrap().add_signal_handler(Signal::ALRM, handler).unwrap();
            })
            .unwrap();
        runner.run_forever().unwrap();
        assert_eq!(caught.get(), 42);
        sender.join().unwrap();
        runner.close().unwrap();
    });
}

fn signals_that_cannot_be_caught_are_errors(on: &Machine) {
    with_signals(on, |on| {
        on.net(|| async {
            let event_loop = get_running_loop()?;
            for signal in [Signal::KILL, Signal::STOP] {
                let error = event_loop.add_signal_handler(signal, || ()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Runtime);
                assert_eq!(error.to_string(), format!("{signal} cannot be caught"));
                assert_eq!(signals([signal]).unwrap_err().kind(), ErrorKind::Runtime);
                assert!(!event_loop.remove_signal_handler(signal));
            }
            for number in [-1, 0, 32, 65, 9999] {
                assert_eq!(Signal::new(number).unwrap_err().kind(), ErrorKind::Value);
            }
            // The loop goes on.
            sleep(0.001).await
        });
    });
}

fn a_closed_loop_takes_no_handler(on: &Machine) {
    with_signals(on, |on| {
        let runner = on.plain_runner();
        let event_loop = runner.get_loop();
        runner.close().unwrap();
        let refused = event_loop.add_signal_handler(Signal::TERM, || ());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Runtime);
    });
}

fn a_handler_replaces_the_one_before(on: &Machine) {
    with_signals(on, |on| {
        on.net(|| async {
            let event_loop = get_running_loop()?;
            let calls = Rc::new(RefCell::new(String::new()));
            for name in ["a", "b"] {
                let calls = Rc::clone(&calls);
                event_loop.add_signal_handler(Signal::USR1, move || calls.borrow_mut().push_str(name))?;
            }
            let other = Rc::clone(&calls);
            event_loop.add_signal_handler(Signal::USR2, move || other.borrow_mut().push('c'))?;
            raise(Signal::USR1);
            until(|| calls.borrow().len() == 1).await?;
            raise(Signal::USR2);
            until(|| calls.borrow().len() == 2).await?;
            assert_eq!(*calls.borrow(), "bc");
            Ok(())
        });
    });
}

fn a_handler_that_panics_is_reported_and_stays(on: &Machine) {
    with_signals(on, |on| {
        on.net(|| async {
            let reports = Reports::new();
            get_running_loop()?.add_signal_handler(Signal::USR1, || panic!("handler"))?;
            for _ in 0..2 {
                raise(Signal::USR1);
                settle().await?;
            }
            assert_eq!(reports.take().len(), 2);
            Ok(())
        });
    });
}

fn a_stream_of_signals(on: &Machine) {
    with_signals(on, |on| {
        on.net(|| async {
            let mut stream = signals([Signal::USR1, Signal::USR2])?;
            for _ in 0..3 {
                raise(Signal::USR1);
                assert_eq!(stream.recv().await?, Signal::USR1);
                raise(Signal::USR2);
                assert_eq!(stream.next().await, Some(Signal::USR2));
            }
            let late = timeout(Duration::from_millis(5), stream.recv()).await;
            assert!(late.unwrap_err().is_timeout());
            raise(Signal::USR1);
            settle().await?;
            assert_eq!(stream.recv().await?, Signal::USR1);
            Ok(())
        });
    });
}

fn each_of_several_loops_is_told(on: &Machine) {
    const LOOPS: usize = 4;
    with_signals(on, |on| {
        let backend = on.backend();
        let (heard, handled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ready = Arc::new(Barrier::new(LOOPS + 1));
        let threads: Vec<_> = (0..LOOPS)
            .map(|_| {
                let (heard, handled, ready) = (Arc::clone(&heard), Arc::clone(&handled), Arc::clone(&ready));
                thread::spawn(move || {
                    aioli_core::run(backend.driver()?, async move {
                        let counter = Arc::clone(&handled);
                        get_running_loop()?.add_signal_handler(Signal::USR1, move || {
                            counter.fetch_add(1, Ordering::SeqCst);
                        })?;
                        let signals = signals([Signal::USR1])?;
                        ready.wait();
                        for round in 1..=3 {
                            signals.recv().await?;
                            heard.fetch_add(1, Ordering::SeqCst);
                            until(|| handled.load(Ordering::SeqCst) >= round * LOOPS).await?;
                        }
                        Ok(())
                    })
                })
            })
            .collect();
        ready.wait();
        for round in 1..=3 {
            raise(Signal::USR1);
            while heard.load(Ordering::SeqCst) < LOOPS * round || handled.load(Ordering::SeqCst) < LOOPS * round {
                thread::sleep(Duration::from_millis(1));
            }
        }
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        assert_eq!(handled.load(Ordering::SeqCst), 3 * LOOPS);
    });
}

fn other_users_of_signals_are_told_too(on: &Machine) {
    with_signals(on, |on| {
        let others = Arc::new(AtomicUsize::new(0));
        signal_hook::flag::register_usize(Signal::USR1.number(), Arc::clone(&others), 1).unwrap();
        on.net(|| {
            let others = Arc::clone(&others);
            async move {
                others.store(0, Ordering::SeqCst);
                let stream = signals([Signal::USR1])?;
                raise(Signal::USR1);
                assert_eq!(stream.recv().await?, Signal::USR1);
                assert_eq!(others.swap(0, Ordering::SeqCst), 1);
                drop(stream);
                // It was handled before, and is again.
                raise(Signal::USR1);
                assert_eq!(others.load(Ordering::SeqCst), 1);
                Ok(())
            }
        });
    });
}

fn without_a_handler_the_default_is_back(on: &Machine) {
    with_signals(on, |on| {
        in_fork(|| {
            on.net(|| async {
                let event_loop = get_running_loop()?;
                event_loop.add_signal_handler(Signal::TERM, || ())?;
                raise(Signal::TERM);
                settle().await?;
                assert!(event_loop.remove_signal_handler(Signal::TERM));
                raise(Signal::TERM);
                Ok(())
            });
        })
        .by(Signal::TERM);
        in_fork(|| {
            on.net(|| async {
                get_running_loop()?.add_signal_handler(Signal::TERM, || ())?;
                raise(Signal::TERM);
                settle().await
            });
            // The loop is closed, and its handlers are gone.
            raise(Signal::TERM);
        })
        .by(Signal::TERM);
        in_fork(|| {
            on.net(|| async {
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
            });
        })
        .well();
    });
}

fn handlers_leave_no_descriptor(on: &Machine) {
    if !on.has_descriptors() {
        return with_signals(on, |_| unreachable!());
    }
    on.leaves_no_descriptor(|| async {
        let event_loop = get_running_loop()?;
        event_loop.add_signal_handler(Signal::USR1, || ())?;
        event_loop.add_signal_handler(Signal::USR1, || ())?;
        assert!(event_loop.add_signal_handler(Signal::KILL, || ()).is_err());
        let stream = signals([Signal::USR1, Signal::USR2])?;
        assert!(signals([Signal::USR1, Signal::STOP]).is_err());
        raise(Signal::USR1);
        settle().await?;
        drop(stream);
        assert!(event_loop.remove_signal_handler(Signal::USR1));
        settle().await
    });
}
