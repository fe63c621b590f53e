//! A fork in the middle of a run.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aioli_core::{ErrorKind, Event, create_task, current_task, get_running_loop, sleep, timeout};
use aioli_io::{LoopSignals, Signal, signals};
use fork::Fork;
use rustix::process::{Pid, kill_process};

use super::support::{child, raise, until, wait, with_signals};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "forks" in signals_forks as __cases_signals_forks;
    the_child_has_no_loop_and_may_run_its_own: "SG4 L12"
        = "test_unix_events::TestFork::test_fork_not_share_event_loop",
          "test_unix_events::TestFork::test_fork_asyncio_run",
          "test_unix_events::TestFork::test_fork_not_share_current_task";
    a_signal_to_the_child_is_not_the_parents: "SG4 SG3" = "test_unix_events::TestFork::test_fork_signal_handling";
}

fn the_child_has_no_loop_and_may_run_its_own(on: &Machine) {
    on.apart("fork", || {
        let parent = std::process::id();
        let here = move || std::process::id() == parent;
        let shares = on.has_descriptors();
        let event = Rc::new(Event::new());
        let forked = Rc::new(Cell::new(0));
        let (wake, pid, own) = (event.clone(), forked.clone(), on.clone());
        let runner = on.plain_runner();
        let result = runner.run(async move {
            let tasks: Vec<_> = (0..3)
                .map(|_| {
                    let event = event.clone();
                    create_task(async move {
                        event.wait().await?;
                        assert!(here() || !shares, "a task of the parent goes on in the child");
                        sleep(0.01).await?;
                        Ok(42)
                    })
                })
                .collect();
            sleep(0.0).await?;
            wake.set();
            match fork::fork()? {
                Fork::Parent(child) => pid.set(child),
                // Nothing of the simulated machine is shared: the child has a copy of its own, which goes on.
                Fork::Child if !shares => (),
                Fork::Child => {
                    assert!(get_running_loop().is_err() && current_task().is_none());
                    let own = own.try_run(async {
                        let naps: Vec<_> = (0..3).map(|_| create_task(sleep(0.001))).collect();
                        for nap in naps {
                            nap.await?;
                        }
                        Ok("the child's")
                    });
                    assert_eq!(own?, "the child's");
                    // Back into the loop of the parent, which has ended here.
                }
            }
            let mut sum = 0;
            for task in tasks {
                sum += task.await?;
            }
            Ok(sum)
        });
        if !here() {
            child(|| match result {
                Ok(sum) => assert!(!shares && sum == 126),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
            });
        }
        assert_eq!(result.unwrap(), 126);
        wait(forked.get()).well();
        runner.close().unwrap();
    });
}

fn a_signal_to_the_child_is_not_the_parents(on: &Machine) {
    with_signals(on, |on| {
        on.net(|| async {
            let event_loop = get_running_loop()?;
            let told = Rc::new(Cell::new(0));
            let counter = Rc::clone(&told);
            event_loop.add_signal_handler(Signal::TERM, move || counter.set(counter.get() + 1))?;
            let stream = signals([Signal::TERM])?;
            for (round, at_once) in [(1, false), (2, true)] {
                let child = forked_child_that_handles(Signal::TERM)?;
                kill_process(Pid::from_raw(child).expect("a child"), rustix::process::Signal::TERM)?;
                wait(child).well();
                if !at_once {
                    sleep(0.02).await?;
                    assert_eq!(told.get(), round - 1, "a signal of the child");
                }
                // The parent's loop goes on, and gets its own.
                raise(Signal::TERM);
                assert_eq!(stream.recv().await?, Signal::TERM);
                until(|| told.get() >= round).await?;
                let late = timeout(0.01, stream.recv()).await;
                assert!(late.unwrap_err().is_timeout());
                assert_eq!(told.get(), round, "a signal of the child");
            }
            Ok(())
        });
    });
}

/// Forks a child that sends itself a signal, and then waits for the next one.
fn forked_child_that_handles(signal: Signal) -> io::Result<i32> {
    let (mut answers, mut asked) = io::pipe()?;
    match fork::fork()? {
        Fork::Child => child(|| {
            let came = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal.number(), Arc::clone(&came)).unwrap();
            raise(signal);
            assert!(came.swap(false, Ordering::SeqCst));
            asked.write_all(b"!").unwrap();
            while !came.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }),
        Fork::Parent(child) => {
            answers.read_exact(&mut [0])?;
            Ok(child)
        }
    }
}
