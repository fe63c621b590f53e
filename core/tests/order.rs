//! The order in which things run, and in which turn, as CPython does it.

mod common;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aioli_core::driver::{Completion, Completions, Driver, DriverReport, Kick, OpId, Submit, Wait as DriverWait};
use aioli_core::op::{Op, Outcome, Resource};
use aioli_core::ops::{Owner, Submitted};
use aioli_core::*;
use aioli_exec_sim::SimDriver;
use common::*;

/// A simulated machine on which every operation completes when the driver is asked next.
#[derive(Default)]
struct Echo {
    machine: SimDriver,
    submitted: VecDeque<OpId>,
}

impl Driver for Echo {
    fn report(&self) -> DriverReport {
        self.machine.report()
    }
    fn now(&self) -> Instant {
        self.machine.now()
    }
    fn is_virtual(&self) -> bool {
        true
    }
    fn submit(&mut self, id: OpId, _: Op) -> Submit {
        self.submitted.push_back(id);
        Submit::Pending
    }
    fn cancel(&mut self, _: OpId) {}
    fn turn(&mut self, wait: DriverWait, completions: &mut Completions) -> io::Result<()> {
        let wait = if self.submitted.is_empty() { wait } else { DriverWait::No };
        let done = |id| Completion { id, more: false, outcome: Outcome::Done(Ok(())) };
        completions.extend(self.submitted.drain(..).map(done));
        self.machine.turn(wait, completions)
    }
    fn kicker(&self) -> Arc<dyn Kick> {
        self.machine.kicker()
    }
    fn shutdown(&mut self, _: &mut Completions) {}
}

/// Marks the turn in which an operation completes.
struct Marker(Trace);

impl Owner for Marker {
    fn complete(&self, tag: u32, _: Outcome, _: bool) {
        self.0.mark(format_args!("io{tag}"));
    }
}

fn submit(trace: &Trace, tag: u32) {
    let owner: Rc<dyn Owner> = Rc::new(Marker(trace.clone()));
    let submitted = event_loop().submit(Op::Close { resource: Resource(0) }, &owner, tag).unwrap();
    assert!(matches!(submitted, Submitted::InFlight(_)));
}

#[test]
fn callbacks_threads_and_timers_share_a_turn_in_this_order() {
    sim(async {
        sleep(10.0).await?;
        let trace = Trace::new();
        let again = |name: &'static str| {
            let (trace, mark) = (trace.clone(), trace.marker(name));
            move || {
                mark();
                soon(trace.marker(format!("{name}'")));
            }
        };
        let now = event_loop().time();
        event_loop().call_soon(again("a"))?;
        event_loop().call_later(0.0, trace.marker("t0"))?;
        event_loop().call_soon(again("b"))?;
        let (sent, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (set, seen) = (Arc::clone(&sent), Arc::clone(&arrived));
        event_loop().remote().call_soon_threadsafe(move || {
            set.store(true, Ordering::Relaxed);
            assert!(!seen.load(Ordering::Relaxed), "timers come after what threads sent");
        })?;
        let late = trace.marker("past");
        event_loop().call_at(now - Duration::from_secs(5), move || {
            assert!(sent.load(Ordering::Relaxed));
            arrived.store(true, Ordering::Relaxed);
            late();
        })?;
        pump(4).await?;
        assert_eq!(trace.take(), ["a+1", "b+1", "past+1", "t0+1", "a'+2", "b'+2"]);
        Ok(())
    });
}

#[test]
fn completions_come_after_what_was_ready_and_before_timers() {
    let trace = Trace::default();
    let inside = trace.clone();
    run(Echo::default(), async move {
        sleep(1.0).await?;
        inside.start();
        submit(&inside, 1);
        submit(&inside, 2);
        event_loop().call_later(0.0, inside.marker("timer"))?;
        soon(inside.marker("soon"));
        pump(3).await
    })
    .unwrap();
    assert_eq!(trace.take(), ["soon+1", "io1+1", "io2+1", "timer+1"]);
}

#[test]
fn a_loop_that_is_never_idle_asks_the_driver_all_the_same() {
    let trace = Trace::default();
    let inside = trace.clone();
    run(Echo::default(), async move {
        inside.start();
        let busy = create_task(pump(50));
        submit(&inside, 1);
        event_loop().call_later(0.0, inside.marker("timer"))?;
        busy.await
    })
    .unwrap();
    assert_eq!(trace.take(), ["io1+1", "timer+1"]);
}

#[test]
fn equal_deadlines_fire_in_the_order_of_arming() {
    sim(async {
        for n in 2..10_u32 {
            let fired = Rc::new(RefCell::new(Vec::new()));
            let when = event_loop().time() + Duration::from_millis(5);
            for index in 0..n {
                let fired = Rc::clone(&fired);
                event_loop().call_at(when, move || fired.borrow_mut().push(index))?;
            }
            sleep(1.0).await?;
            assert_eq!(*fired.borrow(), (0..n).collect::<Vec<_>>());
        }
        Ok(())
    });
}

#[test]
fn deadlines_fire_in_their_order_and_at_their_time() {
    sim(async {
        let trace = Trace::new();
        for delay in [3.0, 0.5, 100_000.0, 2.0, 0.000_000_001, 1e9] {
            let trace = trace.clone();
            event_loop().call_later(delay, move || trace.log(format_args!("{delay} {}", seconds() == delay)))?;
        }
        sleep(2e9).await?;
        let order = ["0.000000001 true", "0.5 true", "2 true", "3 true", "100000 true", "1000000000 true"];
        assert_eq!(trace.take(), order);
        Ok(())
    });
}

#[test]
fn stop_ends_the_turn_and_keeps_what_comes_after() {
    let runner = Runner::new(SimDriver::new());
    let running = runner.get_loop();
    let trace = Trace::default();
    let mark = |name: &'static str| {
        let (trace, running) = (trace.clone(), running.clone());
        move || trace.log(format_args!("{name}@{}", running.turn()))
    };
    running.call_soon(mark("1")).unwrap();
    let (stop, stopped, after) = (running.clone(), mark("stop"), mark("after-stop"));
    running
        .call_soon(move || {
            stopped();
            stop.stop();
            stop.call_soon(after).unwrap();
        })
        .unwrap();
    running.call_soon(mark("2")).unwrap();
    runner.run_forever().unwrap();
    assert_eq!(trace.take(), ["1@1", "stop@1", "2@1"]);

    let stop = running.clone();
    running.call_soon(move || stop.stop()).unwrap();
    runner.run_forever().unwrap();
    assert_eq!(trace.take(), ["after-stop@2"]);

    running.stop();
    running.call_soon(mark("x")).unwrap();
    running.call_later(10.0, mark("never")).unwrap();
    runner.run_forever().unwrap();
    assert_eq!(trace.take(), ["x@3"]);
    assert_eq!(running.time().as_nanos(), 0, "a stopped loop does not wait");
}

#[test]
fn a_run_takes_a_turn_more_than_its_coroutine() {
    let runner = Runner::new(SimDriver::new());
    let running = runner.get_loop();
    assert_eq!(runner.run(async { Ok(turn()) }).unwrap(), 1);
    assert_eq!(running.turn(), 2);

    let trace = Trace::default();
    let last = trace.clone();
    let left = async move {
        let (soon_, timer) = (last.clone(), last.clone());
        soon(move || soon_.log("left"));
        event_loop().call_later(0.0, move || timer.log("timer"))?;
        Ok(())
    };
    runner.run(left).unwrap();
    assert_eq!(trace.take(), ["left", "timer"]);
}

#[test]
fn what_was_scheduled_before_the_run_comes_before_main() {
    let runner = Runner::new(SimDriver::new());
    let trace = Trace::default();
    let (early, main) = (trace.clone(), trace.clone());
    runner.get_loop().call_soon(move || early.log("scheduled")).unwrap();
    runner.run(async move { Ok(main.log("main")) }).unwrap();
    assert_eq!(trace.take(), ["scheduled", "main"]);
}

#[test]
fn a_loop_that_is_stopped_before_main_is_done_is_an_error() {
    let runner = Runner::new(SimDriver::new());
    let stopped = runner.run(async {
        event_loop().stop();
        sleep(10.0).await
    });
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Runtime);
}

#[test]
fn a_loop_in_a_loop_is_an_error_and_the_outer_one_runs_on() {
    sim(async {
        let outer = event_loop();
        let inner = aioli_exec_sim::run(async { Ok(()) });
        assert_eq!(inner.unwrap_err().kind(), ErrorKind::Runtime);
        let runner = Runner::new(SimDriver::new());
        assert_eq!(runner.run(sleep(1.0)).unwrap_err().kind(), ErrorKind::Runtime);
        assert_eq!(runner.run_forever().unwrap_err().kind(), ErrorKind::Runtime);
        runner.close().unwrap();
        assert!(event_loop().same(&outer) && outer.is_running());
        sleep(1.0).await
    });
}

#[test]
fn a_closed_loop_takes_nothing() {
    let runner = Runner::new(SimDriver::new());
    let (running, remote) = (runner.get_loop(), runner.get_loop().remote());
    runner.close().unwrap();
    assert!(running.is_closed() && remote.is_closed() && !running.is_running());
    let closed = |error: Error| assert_eq!(error.kind(), ErrorKind::Runtime, "{error}");
    closed(running.call_soon(|| ()).unwrap_err());
    closed(running.call_later(1.0, || ()).unwrap_err());
    closed(running.call_at(Instant::default(), || ()).unwrap_err());
    closed(remote.call_soon_threadsafe(|| ()).unwrap_err());
    let refused = running.create_task(async { Ok(()) });
    closed(refused.exception().unwrap().unwrap());
    assert!(running.report().is_none());
}

#[test]
fn the_running_loop_is_the_threads_own() {
    assert_eq!(get_running_loop().unwrap_err().kind(), ErrorKind::Runtime);
    sim(async {
        let elsewhere = std::thread::spawn(|| get_running_loop().is_err() && current_task().is_none()).join().unwrap();
        assert!(elsewhere && get_running_loop().is_ok());
        Ok(())
    });
    assert!(get_running_loop().is_err() && current_task().is_none() && all_tasks().is_empty());
}

#[test]
fn tasks_are_created_in_a_running_loop_only() {
    let panic = std::panic::catch_unwind(|| drop(create_task(async { Ok(()) }))).unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("no running event loop"));
    assert!(std::panic::catch_unwind(|| drop(gather([async { Ok(()) }]))).is_err());
    assert!(std::panic::catch_unwind(|| drop(shield(async { Ok(()) }))).is_err());
    assert_eq!(ensure_future(async { Ok(()) }).unwrap_err().kind(), ErrorKind::Runtime);
}

#[test]
fn a_callback_cancelled_in_the_same_turn_is_not_called() {
    sim(async {
        let trace = Trace::new();
        let slot: Rc<RefCell<Option<Handle>>> = Rc::default();
        let canceller = Rc::clone(&slot);
        soon(move || canceller.take().unwrap().cancel());
        let handle = event_loop().call_soon(trace.marker("never"))?;
        slot.replace(Some(handle.clone()));
        pump(2).await?;
        assert!(handle.cancelled() && trace.take().is_empty());

        // A timer that is due in the same turn as the one that cancels it.
        let slot: Rc<RefCell<Option<TimerHandle>>> = Rc::default();
        let canceller = Rc::clone(&slot);
        event_loop().call_later(1.0, move || canceller.take().unwrap().cancel())?;
        slot.replace(Some(event_loop().call_later(1.0, trace.marker("never"))?));
        let turns = turn();
        sleep(1.0).await?;
        assert_eq!(
            (turn() - turns, trace.take().len()),
            (2, 0),
            "the cancelled one keeps its place, and the turn counts"
        );
        Ok(())
    });
}

#[test]
fn a_timer_handle_tells_when() {
    sim(async {
        sleep(1.0).await?;
        let handle = event_loop().call_later(5.0, || unreachable!("it was cancelled"))?;
        assert_eq!(handle.when() - event_loop().time(), Duration::from_secs(5));
        assert!(!handle.cancelled());
        handle.cancel();
        handle.cancel();
        assert!(handle.cancelled());
        sleep(9.0).await
    });
}

#[test]
fn a_timer_that_fired_can_still_be_cancelled_without_harm() {
    sim(async {
        let trace = Trace::new();
        let fired = event_loop().call_later(1.0, trace.marker("fired"))?;
        sleep(2.0).await?;
        let other = event_loop().call_later(1.0, trace.marker("other"))?;
        fired.cancel();
        sleep(2.0).await?;
        assert_eq!(trace.take().len(), 2);
        other.cancel();
        Ok(())
    });
}

#[test]
fn another_thread_wakes_a_loop_that_waits() {
    let runner = Runner::new(SimDriver::new());
    let remote = runner.get_loop().remote();
    let called = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&called);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        let cancelled = remote.call_soon_threadsafe(|| panic!("it was cancelled")).unwrap();
        cancelled.cancel();
        assert!(cancelled.cancelled());
        let handle = remote.call_soon_threadsafe(move || {
            set.store(true, Ordering::Relaxed);
            event_loop().stop();
        });
        assert!(!handle.unwrap().cancelled());
    });
    runner.run_forever().unwrap();
    thread.join().unwrap();
    assert!(called.load(Ordering::Relaxed));
}

#[test]
fn what_threads_send_comes_in_the_order_of_sending_and_none_is_lost() {
    let runner = Runner::new(SimDriver::new());
    let remote = runner.get_loop().remote();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let threads: Vec<_> = (0..4_u32)
        .map(|thread| {
            let (remote, seen) = (remote.clone(), Arc::clone(&seen));
            std::thread::spawn(move || {
                for n in 0..500_u32 {
                    let seen = Arc::clone(&seen);
                    let push = move || {
                        let mut seen = seen.lock().unwrap();
                        seen.push((thread, n));
                        if seen.len() == 2000 {
                            event_loop().stop();
                        }
                    };
                    remote.call_soon_threadsafe(push).unwrap();
                }
            })
        })
        .collect();
    runner.run_forever().unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let seen = seen.lock().unwrap();
    for thread in 0..4 {
        let own: Vec<u32> = seen.iter().filter(|(from, _)| *from == thread).map(|(_, n)| *n).collect();
        assert_eq!(own, (0..500).collect::<Vec<_>>());
    }
}

#[test]
fn a_callback_runs_in_the_context_of_its_scheduling() {
    sim(async {
        let (var, trace) = (Rc::new(ContextVar::<u32>::new()), Trace::new());
        let read = |name: &'static str| {
            let (var, trace) = (Rc::clone(&var), trace.clone());
            move || {
                trace.log(format_args!("{name} {:?}", var.get()));
                var.set(99);
            }
        };
        var.set(1);
        soon(read("soon"));
        event_loop().call_later(0.0, read("later"))?;
        let (future, callback) = (pending::<()>(), read("done"));
        future.add_done_callback(move |_| callback());
        var.set(2);
        soon(read("soon"));
        future.set_result(())?;
        pump(2).await?;
        assert_eq!(trace.take(), ["soon Some(1)", "soon Some(2)", "done Some(1)", "later Some(1)"]);
        assert_eq!(var.get(), Some(2));
        Ok(())
    });
}

#[test]
fn a_task_has_a_copy_of_the_context_or_shares_the_one_it_is_given() {
    sim(async {
        let var = Rc::new(ContextVar::<u32>::new());
        var.set(1);
        let inner = Rc::clone(&var);
        let task = create_task(async move {
            let inherited = inner.get();
            inner.set(10);
            sleep(0.0).await?;
            Ok((inherited, inner.get()))
        });
        var.set(2);
        assert_eq!(task.await?, (Some(1), Some(10)));
        assert_eq!(var.get(), Some(2));

        let shared = Context::copy_current();
        for n in 0..3 {
            let var = Rc::clone(&var);
            let next = async move { Ok(var.set(var.get().unwrap() + n)) };
            TaskBuilder::new().context(shared.clone()).create_task(next).await?;
        }
        assert_eq!(shared.run(|| var.get()), Some(5));
        assert_eq!(var.get(), Some(2));
        let inline = Rc::clone(&var);
        timeout(1.0, async move { Ok(inline.set(7)) }).await?;
        assert_eq!(var.get(), Some(7), "a timeout's body runs in its caller's context");
        Ok(())
    });
}

#[test]
fn tasks_that_yield_take_turns() {
    sim(async {
        let trace = Trace::new();
        let yields = |name: char| {
            let trace = trace.clone();
            async move {
                for n in 0..3 {
                    trace.log(format_args!("{name}{n}"));
                    sleep(0.0).await?;
                }
                Ok(())
            }
        };
        gather((yields('a'), yields('b'), yields('c'))).await?;
        assert_eq!(trace.take().join(" "), "a0 b0 c0 a1 b1 c1 a2 b2 c2");
        Ok(())
    });
}

#[test]
fn the_current_task_is_none_in_a_callback() {
    sim(async {
        soon(|| assert!(current_task().is_none()));
        let task = create_task(async { Ok(me().name()) });
        let own = task.name();
        assert_eq!(task.await?, own);
        assert_ne!(me().name(), own);
        Ok(())
    });
}

#[test]
fn all_tasks_are_those_not_done_in_the_order_of_creation() {
    sim(async {
        let tasks = [create_task(hang()), create_task(ready(())), create_task(hang())];
        let names = |tasks: Vec<AnyTask>| tasks.iter().map(AnyTask::name).collect::<Vec<_>>();
        assert_eq!(names(all_tasks()), [me().name(), tasks[0].name(), tasks[1].name(), tasks[2].name()]);
        (&tasks[1]).await?;
        assert_eq!(names(all_tasks()), [me().name(), tasks[0].name(), tasks[2].name()]);
        tasks[0].cancel(None);
        pump(2).await?;
        assert_eq!(names(all_tasks()), [me().name(), tasks[2].name()]);
        Ok(())
    });
}

#[test]
fn a_task_is_queued_once_at_its_first_wake() {
    sim(async {
        let trace = Trace::new();
        let future = pending::<u32>();
        let waits = |name: &'static str, futures: Vec<Future<u32>>| {
            let trace = trace.clone();
            create_task(async move {
                let all = futures::future::join_all(
                    futures.iter().map(|future| std::future::IntoFuture::into_future(future)),
                );
                all.await;
                trace.mark(name);
                Ok(())
            })
        };
        let tasks = [waits("twice", vec![future.clone(), future.clone()]), waits("once", vec![future.clone()])];
        pump(1).await?;
        trace.start();
        future.set_result(1)?;
        pump(3).await?;
        assert_eq!(trace.take(), ["twice+1", "once+1"]);
        drop(tasks);
        Ok(())
    });
}

mod futures_states {
    use super::*;

    #[test]
    fn are_reached_once() {
        sim(async {
            let invalid = |result: Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidState);
            let future = pending::<u32>();
            invalid(future.result().map(drop));
            invalid(future.exception().map(drop));
            assert!(!future.done() && !future.cancelled());
            future.set_result(1)?;
            invalid(future.set_result(2));
            invalid(future.set_exception(Error::msg("late")));
            assert!(!future.cancel(None));
            assert_eq!((future.result()?, future.exception()?.is_none()), (1, true));

            let cancelled = pending::<u32>();
            assert!(cancelled.cancel(None));
            assert!(cancelled.done() && cancelled.cancelled());
            invalid(cancelled.set_result(2));
            assert!(
                cancelled.result().unwrap_err().is_cancelled() && cancelled.exception().unwrap_err().is_cancelled()
            );
            Ok(())
        });
    }

    #[test]
    fn a_value_is_taken_once_and_cloned_as_often_as_one_likes() {
        sim(async {
            let future = done(vec![1]);
            assert_eq!(((&future).await?, (&future).await?), (vec![1], vec![1]));
            assert_eq!(future.clone().await?, [1]);
            assert_eq!(future.take_result().unwrap_err().kind(), ErrorKind::InvalidState);
            assert_eq!(future.await.unwrap_err().kind(), ErrorKind::InvalidState);
            let task = create_task(ready(5));
            assert_eq!((&task).await?, 5);
            assert_eq!((task.take_result()?, task.take_result().is_err()), (5, true));
            Ok(())
        });
    }

    #[test]
    fn an_error_is_the_same_for_everybody() {
        sim(async {
            let (future, error) = (pending::<u32>(), Error::msg("x"));
            future.set_exception(error.clone())?;
            for _ in 0..2 {
                assert!((&future).await.unwrap_err().same(&error));
            }
            assert!(future.exception()?.unwrap().same(&error));
            assert!(!error.same(&Error::msg("x")));
            Ok(())
        });
    }

    #[test]
    fn a_cancellation_set_as_an_error_is_no_cancelled_state() {
        sim(async {
            let future = pending::<u32>();
            future.set_exception(Error::cancelled(Some("given")))?;
            assert!(!future.cancelled());
            assert_eq!(message(&future.await).as_deref(), Some("given"));
            Ok(())
        });
    }

    #[test]
    fn a_callback_is_removed_until_it_is_scheduled() {
        sim(async {
            let (trace, future) = (Trace::new(), pending::<()>());
            let add = |name: &'static str| {
                let trace = trace.clone();
                future.add_done_callback(move |_| trace.mark(name))
            };
            let ids = [add("0"), add("1"), add("2"), add("3")];
            assert!(future.remove_done_callback(ids[1]));
            assert!(!future.remove_done_callback(ids[1]));
            assert!(future.remove_done_callback(ids[0]));
            trace.start();
            future.set_result(())?;
            assert!(!future.remove_done_callback(ids[2]), "it is scheduled");
            let late = add("late");
            assert!(!future.remove_done_callback(late));
            pump(2).await?;
            assert_eq!(trace.take(), ["2+1", "3+1", "late+1"]);
            Ok(())
        });
    }

    #[test]
    fn a_future_of_another_loop_cannot_be_awaited() {
        let other = Runner::new(SimDriver::new());
        let stranger = other.get_loop().create_future::<()>();
        let done = other.get_loop().create_future::<u32>();
        done.set_result(3).unwrap();
        sim(async move {
            let trace = Trace::new();
            assert_eq!((&stranger).await.unwrap_err().kind(), ErrorKind::Runtime);
            assert_eq!(trace.turns(), 1);
            assert!(gather([&stranger]).await.unwrap_err().kind() == ErrorKind::Value);
            assert_eq!(done.await?, 3, "awaiting what is done asks no loop");
            Ok(())
        });
    }

    #[test]
    fn a_dropped_handle_detaches_a_task() {
        sim(async {
            let trace = Trace::new();
            let inside = trace.clone();
            drop(create_task(async move {
                sleep(5.0).await?;
                inside.log(seconds());
                Ok(())
            }));
            sleep(9.0).await?;
            assert_eq!(trace.take(), ["5"]);
            Ok(())
        });
    }

    #[test]
    fn names_are_given_or_counted() {
        sim(async {
            let number = |name: &str| name.strip_prefix("Task-").unwrap().parse::<u64>().unwrap();
            let (one, two) = (create_task(hang()), create_task(hang()));
            assert_eq!(number(&two.name()), number(&one.name()) + 1);
            one.set_name("given");
            assert_eq!((&*one.name(), &*one.view().name()), ("given", "given"));
            let built = TaskBuilder::new().name("built").create_task(async { Ok(me().name().to_string()) });
            assert_eq!(built.await?, "built");
            Ok(())
        });
    }
}

mod eager {
    use super::*;

    fn eager<T: 'static>(coroutine: impl std::future::Future<Output = Result<T>> + 'static) -> Task<T> {
        TaskBuilder::new().eager_start(true).create_task(coroutine)
    }

    #[test]
    fn the_first_step_runs_at_once_as_its_own_task_in_a_copy_of_the_context() {
        sim(async {
            let (trace, var) = (Trace::new(), Rc::new(ContextVar::<&str>::new()));
            var.set("parent");
            let (inside, inner) = (trace.clone(), Rc::clone(&var));
            let outer = me().name();
            let task = TaskBuilder::new().name("E").eager_start(true).create_task(async move {
                inside.log(format_args!("in {} {}", me().name(), inner.get().unwrap()));
                inner.set("child");
                sleep(0.0).await?;
                inside.mark(format_args!("resumed {}", inner.get().unwrap()));
                Ok(5)
            });
            trace.log(format_args!("after {} {}", var.get().unwrap(), task.done()));
            assert_eq!(me().name(), outer);
            assert_eq!(task.await?, 5);
            assert_eq!(trace.take(), ["in E parent", "after parent false", "resumed child+1"]);
            Ok(())
        });
    }

    #[test]
    fn one_that_does_not_suspend_is_done_on_return() {
        sim(async {
            let task = eager(async { Ok(all_tasks().len()) });
            assert_eq!((task.done(), task.result()?, all_tasks().len()), (true, 2, 1));
            let failed = eager(fail::<()>("eager"));
            assert_eq!(failed.exception()?.unwrap().to_string(), "eager");
            let trace = Trace::new();
            let callback = trace.clone();
            task.add_done_callback(move |_| callback.mark("callback"));
            pump(2).await?;
            assert_eq!(trace.take(), ["callback+1"]);
            Ok(())
        });
    }

    #[test]
    fn what_is_done_at_once_takes_no_turn() {
        sim(async {
            let trace = Trace::new();
            assert_eq!(gather((eager(ready(1)), eager(ready(2)))).await?, (1, 2));
            assert_eq!(eager(ready(1)).await?, 1);
            assert_eq!(shield(eager(ready(1))).await?, 1);
            assert_eq!(trace.turns(), 0);
            let (done, left) = wait([eager(ready(1))]).await?;
            assert_eq!((done.len(), left.len(), trace.turns()), (1, 0, 2));
            trace.start();
            let child = |coroutine| {
                task_group(async move |group| {
                    group.create_task_with(TaskBuilder::new().eager_start(true), coroutine).map(drop)
                })
            };
            child(ready(())).await?;
            assert_eq!(trace.turns(), 2);
            Ok(())
        });
    }

    #[test]
    fn one_that_cancels_itself_is_cancelled_at_its_end_or_its_next_await() {
        sim(async {
            let task = eager(async {
                me().cancel(None);
                sleep(0.0).await
            });
            assert_eq!(state(&task), "PENDING cancelling=1");
            pump(3).await?;
            assert_eq!(state(&task), "CANCELLED cancelling=1");
            let task = eager(async { Ok(me().cancel(None)) });
            assert_eq!(state(&task), "CANCELLED cancelling=1");
            Ok(())
        });
    }

    #[test]
    fn eager_tasks_nest() {
        sim(async {
            let trace = Trace::new();
            let (outer, inner) = (trace.clone(), trace.clone());
            let name = |name| TaskBuilder::new().name(name).eager_start(true);
            let task = name("S1").create_task(async move {
                outer.log(me().name());
                let nested = name("S2").create_task(async move { Ok(inner.log(me().name())) });
                outer.log(me().name());
                nested.await
            });
            assert!(task.done());
            assert_eq!(trace.take(), ["S1", "S2", "S1"]);
            Ok(())
        });
    }

    #[test]
    fn a_scope_of_the_creator_is_not_around_an_eager_task() {
        sim(async {
            let task = timeout(1.0, async {
                Ok(eager(async {
                    sleep(5.0).await?;
                    Ok(seconds())
                }))
            })
            .await?;
            let late = timeout(1.0, async {
                let other = eager(sleep(9.0));
                let interrupted = hang().await;
                assert!(!other.done() && other.cancelling() == 0);
                interrupted
            });
            assert!(late.await.unwrap_err().is_timeout());
            assert_eq!(task.await?, 5.0);
            Ok(())
        });
    }
}
