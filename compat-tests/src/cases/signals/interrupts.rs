//! Ctrl-C. It cancels the main task of what `run` runs on a program's main thread, which the only thread of a fork is.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use aioli_core::{ErrorKind, Result, current_task, get_running_loop};
use aioli_io::{LoopSignals, Signal, signals};

use super::support::{in_fork, raise, until, with_signals};
use crate::backend::Backend;
use crate::case::cases;
use crate::cases::net::support::settle;
use crate::machine::Machine;

cases! {
    ($) "signals" in signals_interrupts as __cases_signals_interrupts;
    ctrl_c_cancels_main_which_may_clean_up: "SG1 SG2";
    ctrl_c_may_be_swallowed: "SG2";
    ctrl_c_at_the_end_of_main_is_an_interruption: "SG2";
    ctrl_c_taken_back_is_an_interruption: "SG2";
    ctrl_c_beside_another_request_is_a_cancellation: "SG2";
    the_second_ctrl_c_ends_the_program: "SG2";
    after_the_run_ctrl_c_is_deadly: "SG1";
    each_run_is_interrupted: "SG1 SG2"
        = "test_unix_events::SelectorEventLoopSignalTests::test_remove_signal_handler_2";
    who_handles_ctrl_c_already_keeps_it: "SG1";
    a_handler_takes_the_place_of_the_cancellation: "SG1 SG3";
    a_handler_on_another_thread_does_not: "SG1 SG3";
    off_the_main_thread_a_run_leaves_ctrl_c_alone: "SG1"
        = "test_runners::RunnerTests::test_signal_install_not_supported_ok";
}

/// Runs a program as `run` of the kernel's backends does.
fn run<T: 'static>(on: &Machine, main: impl Future<Output = Result<T>> + 'static) -> Result<T> {
    run_on(on.backend(), main)
}

fn run_on<T: 'static>(backend: &'static dyn Backend, main: impl Future<Output = Result<T>> + 'static) -> Result<T> {
    aioli_exec_linux::run(|| backend.driver(), main)
}

/// Whether Ctrl-C cancels the caller.
async fn is_cancelled_by_interrupt() -> bool {
    raise(Signal::INT);
    match settle().await {
        Ok(()) => false,
        Err(error) => error.is_cancelled(),
    }
}

/// Has a handler and then a stream, which take Ctrl-C.
async fn with_handler() -> Result<()> {
    let event_loop = get_running_loop()?;
    let calls = Rc::new(Cell::new(0));
    let counter = Rc::clone(&calls);
    event_loop.add_signal_handler(Signal::INT, move || counter.set(counter.get() + 1))?;
    for n in 1..=3 {
        assert!(!is_cancelled_by_interrupt().await);
        until(|| calls.get() == n).await?;
    }
    event_loop.remove_signal_handler(Signal::INT);
    let stream = signals([Signal::INT])?;
    for _ in 0..3 {
        assert!(!is_cancelled_by_interrupt().await);
        assert_eq!(stream.recv().await?, Signal::INT);
    }
    Ok(())
}

/// A run that Ctrl-C ends.
fn interrupted(on: &Machine) {
    let result = run(on, async {
        assert!(is_cancelled_by_interrupt().await);
        settle().await?;
        Err::<(), _>(aioli_core::Error::cancelled(None))
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
}

fn ctrl_c_cancels_main_which_may_clean_up(on: &Machine) {
    // I4 of CPython's trace.
    with_signals(on, |on| {
        let part = || {
            let result = run(on, async {
                raise(Signal::INT);
                let cancelled = settle().await.unwrap_err();
                assert!(cancelled.is_cancelled() && cancelled.cancel_message().is_none());
                assert_eq!(current_task().unwrap().cancelling(), 1);
                settle().await?;
                Err::<(), _>(cancelled)
            });
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
        };
        in_fork(part).well();
    });
}

fn ctrl_c_may_be_swallowed(on: &Machine) {
    // I5.
    with_signals(on, |on| {
        let part = || {
            let result = run(on, async { Ok(is_cancelled_by_interrupt().await) });
            assert!(result.unwrap());
        };
        in_fork(part).well();
    });
}

fn ctrl_c_at_the_end_of_main_is_an_interruption(on: &Machine) {
    with_signals(on, |on| {
        let part = || {
            // In its last step.
            let result = run(on, async {
                raise(Signal::INT);
                Ok(())
            });
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
            // Its error says more.
            let result = run(on, async {
                raise(Signal::INT);
                Err::<(), _>(aioli_core::Error::value("wrong"))
            });
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Value);
            // In the last turn of the run.
            let result = run(on, async move { get_running_loop()?.call_soon(|| raise(Signal::INT)).map(drop) });
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
            // What came before concerns no later run.
            assert_eq!(run(on, async { Ok(7) }).unwrap(), 7);
        };
        in_fork(part).well();
    });
}

fn ctrl_c_taken_back_is_an_interruption(on: &Machine) {
    // I5b.
    with_signals(on, |on| {
        let part = || {
            let result = run(on, async {
                raise(Signal::INT);
                let cancelled = settle().await.unwrap_err();
                assert_eq!(current_task().unwrap().uncancel(), 0);
                Err::<(), _>(cancelled)
            });
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
        };
        in_fork(part).well();
    });
}

fn ctrl_c_beside_another_request_is_a_cancellation(on: &Machine) {
    // I5c.
    with_signals(on, |on| {
        let part = || {
            let result = run(on, async {
                current_task().unwrap().cancel(Some("other"));
                assert!(settle().await.is_err());
                raise(Signal::INT);
                settle().await
            });
            assert!(result.unwrap_err().is_cancelled());
        };
        in_fork(part).well();
    });
}

fn the_second_ctrl_c_ends_the_program(on: &Machine) {
    // In the place of I6: no exception can be raised into running Rust code.
    with_signals(on, |on| {
        let part = || {
            let _ = run(on, async {
                assert!(is_cancelled_by_interrupt().await);
                with_handler().await?;
                // The first has not been answered.
                raise(Signal::INT);
                settle().await
            });
        };
        in_fork(part).by(Signal::INT);
    });
}

fn after_the_run_ctrl_c_is_deadly(on: &Machine) {
    with_signals(on, |on| {
        in_fork(|| {
            run(on, async { Ok(()) }).unwrap();
            raise(Signal::INT);
        })
        .by(Signal::INT);
        in_fork(|| {
            run(on, with_handler()).unwrap();
            raise(Signal::INT);
        })
        .by(Signal::INT);
    });
}

fn each_run_is_interrupted(on: &Machine) {
    with_signals(on, |on| {
        let part = || {
            for _ in 0..3 {
                interrupted(on);
                let result = run(on, async {
                    with_handler().await?;
                    raise(Signal::INT);
                    settle().await
                });
                assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted, "without the handler it cancels again");
            }
        };
        in_fork(part).well();
    });
}

fn who_handles_ctrl_c_already_keeps_it(on: &Machine) {
    // I7.
    with_signals(on, |on| {
        let part = || {
            let told = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(Signal::INT.number(), Arc::clone(&told)).unwrap();
            let result = run(on, async { Ok(is_cancelled_by_interrupt().await) });
            assert!(!result.unwrap());
            assert!(told.swap(false, Ordering::SeqCst));
            raise(Signal::INT);
            assert!(told.load(Ordering::SeqCst));
        };
        in_fork(part).well();
    });
}

fn a_handler_takes_the_place_of_the_cancellation(on: &Machine) {
    with_signals(on, |on| in_fork(|| run(on, with_handler()).unwrap()).well());
}

fn a_handler_on_another_thread_does_not(on: &Machine) {
    with_signals(on, |on| {
        let backend = on.backend();
        let part = || {
            let result = run(on, async move {
                let (tell, told) = mpsc::channel();
                let (ask, asked) = mpsc::channel::<()>();
                let other = thread::spawn(move || {
                    run_on(backend, async move {
                        let stream = signals([Signal::INT])?;
                        tell.send(()).unwrap();
                        asked.recv().unwrap();
                        assert_eq!(stream.recv().await?, Signal::INT);
                        Ok(())
                    })
                });
                told.recv().unwrap();
                assert!(is_cancelled_by_interrupt().await);
                ask.send(()).unwrap();
                other.join().unwrap()
            });
            // It was cancelled, and went on.
            result.unwrap();
        };
        in_fork(part).well();
    });
}

fn off_the_main_thread_a_run_leaves_ctrl_c_alone(on: &Machine) {
    with_signals(on, |on| {
        let backend = on.backend();
        let part = || {
            let running = thread::spawn(move || {
                run_on(backend, async {
                    settle().await?;
                    // Nothing but the default awaits it.
                    raise(Signal::INT);
                    Ok(())
                })
            });
            let _ = running.join();
        };
        in_fork(part).by(Signal::INT);
        thread::spawn(move || run_on(backend, settle())).join().unwrap().unwrap();
    });
}
