//! The order in which things run, and in which turn, as CPython does it.

use std::cell::{Cell, RefCell};
use std::future::IntoFuture;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

cases! {
    ($) "loop" in order as __cases_order;
    callbacks_threads_and_timers_share_a_turn_in_this_order: "L1 LP1 LP6 LP7";
    equal_deadlines_fire_in_the_order_of_arming: "L1 LP8";
    deadlines_fire_in_their_order_and_at_their_time: "L1 L5 LP3 LP5";
    deadlines_a_nanosecond_apart_are_two: "L1 L5 LP5";
    stop_ends_the_turn_and_keeps_what_comes_after: "LP10"
        = "test_base_events::BaseEventLoopTests::test_run_forever_pre_stopped",
          "test_base_events::BaseEventLoopTests::test_single_selecter_event_callback_after_stopping",
          "test_base_events::BaseEventLoopTests::test_run_once";
    a_run_takes_a_turn_more_than_its_coroutine: "LP12";
    what_was_scheduled_before_the_run_comes_before_main: "TA7 LP7";
    a_stop_in_the_last_step_of_main_leaves_the_others_time_to_clean_up: "L9 LP12";
    a_loop_that_is_stopped_before_main_is_done_is_an_error: "LP12"
        = "test_events::EventLoopTestsMixin::test_run_until_complete_stopped",
          "test_tasks::BaseTaskTests::test_stop_while_run_in_complete";
    a_loop_in_a_loop_is_an_error_and_the_outer_one_runs_on: "LP13 LP14 RN3"
        = "test_events::EventLoopTestsMixin::test_run_until_complete_nesting",
          "test_base_events::RunningLoopTests::test_running_loop_within_a_loop",
          "test_runners::RunTests::test_asyncio_run_from_running_loop",
          "test_runners::RunnerTests::test_recursive_run",
          "test_events::GetEventLoopTestsMixin::test_get_running_loop_already_running";
    a_closed_loop_takes_nothing: "LP13 L9"
        = "test_base_events::BaseEventLoopTests::test_close",
          "test_events::EventLoopTestsMixin::test_close",
          "test_runners::RunnerTests::test_explicit_close";
    the_running_loop_is_the_threads_own: "LP15"
        = "test_events::GetEventLoopTestsMixin::test_get_event_loop_returns_running_loop",
          "test_events::GetEventLoopTestsMixin::test_get_event_loop_returns_running_loop2",
          "test_tasks::BaseCurrentLoopTests::test_current_task_no_running_loop";
    tasks_are_created_in_a_running_loop_only: "LP15" = "test_futures::BaseFutureTests::test_constructor_without_loop";
    a_callback_cancelled_in_the_same_turn_is_not_called: "LP9"
        = "test_base_events::BaseEventLoopTests::test__add_callback_cancelled_handle";
    a_timer_handle_tells_when: "LP16 CV2" = "test_events::TimerTests::test_when", "test_events::TimerTests::test_timer";
    a_timer_that_fired_can_still_be_cancelled_without_harm: "LP9 LP2";
    another_thread_wakes_a_loop_that_waits: "L10 LP17 D5" = "test_events::EventLoopTestsMixin::test_call_soon_threadsafe";
    what_a_thread_sent_can_be_cancelled: "LP17 L10";
    what_threads_send_comes_in_the_order_of_sending_and_none_is_lost: "L10 LP7 LP17";
    a_callback_runs_in_the_context_of_its_scheduling: "CV2 LP16";
    a_task_has_a_copy_of_the_context_or_shares_the_one_it_is_given: "CV1" = "test_tasks::BaseTaskTests::test_context_1";
    tasks_that_yield_take_turns: "TA5 LP18";
    the_current_task_is_none_in_a_callback: "TA6"
        = "test_tasks::BaseTaskTests::test_current_task",
          "test_tasks::BaseCurrentLoopTests::test_current_task_with_implicit_loop";
    all_tasks_are_those_not_done_in_the_order_of_creation: "TA6";
    a_task_is_queued_once_at_its_first_wake: "L2";
}

fn callbacks_threads_and_timers_share_a_turn_in_this_order(on: &Machine) {
    on.run(async {
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

fn equal_deadlines_fire_in_the_order_of_arming(on: &Machine) {
    on.run(async {
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

fn deadlines_fire_in_their_order_and_at_their_time(on: &Machine) {
    on.run(async {
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

/// None is early, by however little.
fn deadlines_a_nanosecond_apart_are_two(on: &Machine) {
    on.run(async {
        let running = get_running_loop()?;
        // Gathering them is another thing.
        running.set_timer_slack(Duration::ZERO);
        let (begun, seen) = (running.time(), Rc::new(RefCell::new(Vec::new())));
        for nanos in [1001, 1000, 1002] {
            let (seen, at) = (Rc::clone(&seen), running.clone());
            running.call_at(begun + Duration::from_nanos(nanos), move || {
                seen.borrow_mut().push((nanos, (at.time() - begun).as_nanos() as u64));
            })?;
        }
        sleep(Duration::from_nanos(1003)).await?;
        assert_eq!(*seen.borrow(), [(1000, 1000), (1001, 1001), (1002, 1002)]);
        assert_eq!((running.time() - begun).as_nanos(), 1003);
        Ok(())
    });
}

fn stop_ends_the_turn_and_keeps_what_comes_after(on: &Machine) {
    let runner = on.runner();
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

fn a_run_takes_a_turn_more_than_its_coroutine(on: &Machine) {
    let runner = on.runner();
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

fn what_was_scheduled_before_the_run_comes_before_main(on: &Machine) {
    let runner = on.runner();
    let trace = Trace::default();
    let (early, main) = (trace.clone(), trace.clone());
    runner.get_loop().call_soon(move || early.log("scheduled")).unwrap();
    let logging = async move {
        main.log("main");
        Ok(())
    };
    runner.run(logging).unwrap();
    assert_eq!(trace.take(), ["scheduled", "main"]);
}

fn a_stop_in_the_last_step_of_main_leaves_the_others_time_to_clean_up(on: &Machine) {
    let trace = Trace::new();
    let runner = on.runner();
    let t = trace.clone();
    let result = runner.run(async move {
        create_task(async move {
            let interrupted = sleep(60.0).await;
            t.log("cleanup begins");
            sleep(0.01).await?;
            t.log("cleanup ends");
            interrupted
        });
        pump(1).await?;
        event_loop().stop();
        Ok(7)
    });
    assert_eq!(result.unwrap(), 7);
    runner.close().unwrap();
    assert_eq!(trace.take(), ["cleanup begins", "cleanup ends"]);
}

fn a_loop_that_is_stopped_before_main_is_done_is_an_error(on: &Machine) {
    let runner = on.runner();
    let stopped = runner.run(async {
        event_loop().stop();
        sleep(10.0).await
    });
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Runtime);

    // What main waits for is left as it is, and the next run takes it up.
    let (count, counter) = (Rc::new(Cell::new(0)), Rc::default());
    let (counting, task): (_, Rc<RefCell<Option<Task<()>>>>) = (Rc::clone(&count), Rc::clone(&counter));
    let stopped = runner.run(async move {
        counter.replace(Some(create_task(async move {
            while counting.get() < 10 {
                sleep(0.1).await?;
                counting.set(counting.get() + 1);
                if counting.get() == 2 {
                    event_loop().stop();
                }
            }
            Ok(())
        })));
        hang().await
    });
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Runtime);
    let task = task.take().unwrap();
    assert_eq!((task.done(), count.get()), (false, 2));
    task.cancel(None);
    assert!(runner.run(task).unwrap_err().is_cancelled());
}

fn a_loop_in_a_loop_is_an_error_and_the_outer_one_runs_on(on: &Machine) {
    let machine = on.clone();
    on.run(async move {
        let on = machine;
        let outer = event_loop();
        let inner = on.try_run(async { Ok(()) });
        assert_eq!(inner.unwrap_err().kind(), ErrorKind::Runtime);
        let runner = on.runner();
        assert_eq!(runner.run(sleep(1.0)).unwrap_err().kind(), ErrorKind::Runtime);
        assert_eq!(runner.run_forever().unwrap_err().kind(), ErrorKind::Runtime);
        runner.close().unwrap();
        assert!(event_loop().same(&outer) && outer.is_running());
        sleep(1.0).await
    });
}

fn a_closed_loop_takes_nothing(on: &Machine) {
    let runner = on.runner();
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
    let refused = running.run_in_executor(None, || Ok(()));
    closed(refused.exception().unwrap().unwrap());
    assert!(running.report().is_none());
}

fn the_running_loop_is_the_threads_own(on: &Machine) {
    assert_eq!(get_running_loop().unwrap_err().kind(), ErrorKind::Runtime);
    on.run(async {
        let elsewhere = std::thread::spawn(|| get_running_loop().is_err() && current_task().is_none()).join().unwrap();
        assert!(elsewhere && get_running_loop().is_ok());
        Ok(())
    });
    assert!(get_running_loop().is_err() && current_task().is_none() && all_tasks().is_empty());
}

fn tasks_are_created_in_a_running_loop_only(_: &Machine) {
    let panic = std::panic::catch_unwind(|| drop(create_task(async { Ok(()) }))).unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("no running event loop"));
    assert!(std::panic::catch_unwind(|| drop(gather([async { Ok(()) }]))).is_err());
    assert!(std::panic::catch_unwind(|| drop(shield(async { Ok(()) }))).is_err());
    assert_eq!(ensure_future(async { Ok(()) }).unwrap_err().kind(), ErrorKind::Runtime);
}

fn a_callback_cancelled_in_the_same_turn_is_not_called(on: &Machine) {
    on.run(async {
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

fn a_timer_handle_tells_when(on: &Machine) {
    on.run(async {
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

fn a_timer_that_fired_can_still_be_cancelled_without_harm(on: &Machine) {
    on.run(async {
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

fn another_thread_wakes_a_loop_that_waits(on: &Machine) {
    let runner = on.runner();
    let remote = runner.get_loop().remote();
    let called = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&called);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        let stopping = move || {
            set.store(true, Ordering::Relaxed);
            event_loop().stop();
        };
        remote.call_soon_threadsafe(stopping).unwrap();
    });
    runner.run_forever().unwrap();
    thread.join().unwrap();
    assert!(called.load(Ordering::Relaxed));
}

fn what_a_thread_sent_can_be_cancelled(on: &Machine) {
    on.run(async {
        let remote = event_loop().remote();
        let sending = std::thread::spawn(move || {
            let sent = remote.call_soon_threadsafe(|| panic!("it was cancelled")).unwrap();
            assert!(!sent.cancelled());
            sent.cancel();
            sent.cancelled()
        });
        // The loop is kept from running it meanwhile.
        assert!(sending.join().unwrap());
        pump(2).await
    });
}

fn what_threads_send_comes_in_the_order_of_sending_and_none_is_lost(on: &Machine) {
    let runner = on.runner();
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

fn a_callback_runs_in_the_context_of_its_scheduling(on: &Machine) {
    on.run(async {
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

fn a_task_has_a_copy_of_the_context_or_shares_the_one_it_is_given(on: &Machine) {
    on.run(async {
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

fn tasks_that_yield_take_turns(on: &Machine) {
    on.run(async {
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

fn the_current_task_is_none_in_a_callback(on: &Machine) {
    on.run(async {
        soon(|| assert!(current_task().is_none()));
        let task = create_task(async { Ok(me().name()) });
        let own = task.name();
        assert_eq!(task.await?, own);
        assert_ne!(me().name(), own);
        Ok(())
    });
}

fn all_tasks_are_those_not_done_in_the_order_of_creation(on: &Machine) {
    on.run(async {
        let tasks = [create_task(hang()), create_task(ready(())), create_task(hang())];
        let names = |tasks: Vec<AnyTask>| tasks.iter().map(AnyTask::name).collect::<Vec<_>>();
        assert_eq!(names(all_tasks()), [me().name(), tasks[0].name(), tasks[1].name(), tasks[2].name()]);
        (&tasks[1]).await?;
        assert_eq!(names(all_tasks()), [me().name(), tasks[0].name(), tasks[2].name()]);
        tasks[0].cancel(None);
        pump(2).await?;
        assert_eq!(names(all_tasks()), [me().name(), tasks[2].name()]);
        // Where those that are gone were is no place in the order.
        let later = [create_task(hang()), create_task(hang()), create_task(hang())];
        let [a, b, c] = &later;
        assert_eq!(names(all_tasks()), [me().name(), tasks[2].name(), a.name(), b.name(), c.name()]);
        Ok(())
    });
}

fn a_task_is_queued_once_at_its_first_wake(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let future = pending::<u32>();
        let waits = |name: &'static str, futures: Vec<Future<u32>>| {
            let trace = trace.clone();
            create_task(async move {
                let all = futures::future::join_all(futures.iter().map(|future| future.into_future()));
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
