//! How a runner leaves.

use super::*;

cases! {
    ($) "runner" in reports_runner as __cases_reports_runner;
    cancels_what_is_left_awaits_it_and_reports_what_failed: "RN1 RN2 L9"
        = "test_runners::RunTests::test_asyncio_run_cancels_hanging_tasks",
          "test_runners::RunTests::test_asyncio_run_reports_hanging_tasks_errors";
    says_nothing_of_the_tasks_that_a_gather_made: "GA4 RN1";
    leaves_in_good_order_when_main_fails: "RN1 L9" = "test_runners::RunTests::test_asyncio_run_raises";
    leaves_in_good_order_when_main_panics: "RN1 L9 L7";
    runs_several_coroutines_in_one_context_with_one_clock: "CV3 RN1"
        = "test_runners::RunnerTests::test_run_keeps_context";
    keeps_its_tasks_between_runs: "RN1 LP10" = "test_runners::RunnerTests::test_run";
    that_is_dropped_leaves_too: "RN1 L9";
    tells_main_cancelled_by_itself_from_interrupted: "RN4 SG2";
    is_interrupted_by_cancelling_main_which_may_clean_up: "SG2";
    an_interruption_cancels_what_main_waits_for: "SG2" = "test_runners::RunnerTests::test_interrupt_wait";
    a_main_that_never_waits_is_interrupted: "SG2" = "test_runners::RunnerTests::test_interrupt_call_soon";
    an_interruption_may_be_swallowed: "SG2";
    an_interruption_taken_back_and_returned_is_an_interruption: "SG2";
    an_interruption_beside_another_request_is_a_cancellation: "SG2";
    an_interruption_after_a_request_of_a_task_is_a_cancellation: "SG2"
        = "test_runners::RunnerTests::test_interrupt_cancelled_task";
    handles_outlive_the_loop: "L9 L6";
    coroutines_left_at_close_are_dropped_as_their_task_and_end_cancelled: "L9 X2 RN2"
        = "test_tasks::BaseTaskTests::test_log_destroyed_pending_task";
    a_task_that_is_created_while_the_loop_closes_has_failed: "L9"
        = "test_base_events::BaseEventLoopTests::test_create_task_error_closes_coro";
    stops_at_once_when_nothing_is_left: "L9 RN1";
    gives_what_main_returns: "RN1" = "test_runners::RunTests::test_asyncio_run_return";
    a_main_that_panicked_leaves_no_stop_behind: "RN1 LP10"
        = "test_base_events::BaseEventLoopTests::test_run_until_complete_baseexception";
}

fn cancels_what_is_left_awaits_it_and_reports_what_failed(on: &Machine) {
    let trace = Trace::default();
    let inside = trace.clone();
    let seen = on.reports(async move {
        let background = |name: u32, error: Option<&'static str>| {
            let trace = inside.clone();
            async move {
                let interrupted = sleep(100.0).await;
                trace.log(format_args!("{name} {}", message(&interrupted).is_none()));
                sleep(50.0).await?;
                trace.log(format_args!("{name} done {}", me().cancelling()));
                error.map_or(interrupted, |error| Err(Error::msg(error)))
            }
        };
        create_task(background(1, None));
        TaskBuilder::new().name("two").create_task(background(2, Some("in shutdown")));
        create_task(async {
            assert!(sleep(100.0).await.is_err());
            TaskBuilder::new().name("late").create_task(sleep(500.0));
            Ok(())
        });
        pump(1).await?;
        inside.log("main returns");
        Ok(())
    });
    assert_eq!(trace.take(), ["main returns", "1 true", "2 true", "1 done 1", "2 done 1"]);
    assert_eq!(messages(&seen), ["unhandled exception during shutdown", "task was destroyed but it is pending"]);
    assert_eq!((text(&seen[0]).as_str(), seen[0].task.as_deref()), ("in shutdown", Some("two")));
    assert_eq!(seen[1].task.as_deref(), Some("late"));
}

fn says_nothing_of_the_tasks_that_a_gather_made(on: &Machine) {
    let seen = on.reports(async {
        create_task(async {
            assert!(hang().await.is_err());
            drop(gather([hang(), hang()]));
            Ok(())
        });
        pump(1).await
    });
    assert!(seen.is_empty(), "{seen:?}");
}

fn leaves_in_good_order_when_main_fails(on: &Machine) {
    let trace = Trace::default();
    let inside = trace.clone();
    let failed = on.try_run(async move {
        create_task(async move {
            let interrupted = sleep(100.0).await;
            pump(3).await?;
            inside.log("cleaned up");
            interrupted
        });
        pump(1).await?;
        fail::<()>("main").await
    });
    assert_eq!(failed.unwrap_err().to_string(), "main");
    assert_eq!(trace.take(), ["cleaned up"]);
}

fn leaves_in_good_order_when_main_panics(on: &Machine) {
    let trace = Trace::default();
    let inside = trace.clone();
    let failed = on.try_run(async move {
        create_task(async move {
            let interrupted = sleep(100.0).await;
            inside.log("cancelled");
            interrupted
        });
        pump(1).await?;
        if true {
            panic!("main");
        }
        Ok(())
    });
    let error = failed.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Panicked, "panicked: main"));
    assert_eq!(*error.take_panic().unwrap().downcast::<&str>().unwrap(), "main");
    assert!(error.take_panic().is_none());
    assert_eq!(trace.take(), ["cancelled"]);
}

fn runs_several_coroutines_in_one_context_with_one_clock(on: &Machine) {
    let (runner, var) = (on.runner(), Rc::new(ContextVar::<u32>::new()));
    let count = || {
        let var = Rc::clone(&var);
        async move {
            sleep(1.0).await?;
            var.set(var.get().unwrap_or(0) + 1);
            Ok((var.get().unwrap(), seconds()))
        }
    };
    assert_eq!(runner.run(count()).unwrap(), (1, 1.0));
    assert_eq!(runner.run(count()).unwrap(), (2, 2.0));
    assert_eq!(var.get(), None);
}

fn keeps_its_tasks_between_runs(on: &Machine) {
    let runner = on.runner();
    let task = runner.run(async { Ok(create_task(async { sleep(5.0).await.map(|()| seconds()) })) }).unwrap();
    runner.run(async { sleep(1.0).await }).unwrap();
    assert!(!task.done());
    assert_eq!(runner.run(task).unwrap(), 5.0);
    let running = runner.get_loop();
    assert!(!running.is_closed());
    runner.close().unwrap();
    assert!(running.is_closed());
}

fn that_is_dropped_leaves_too(on: &Machine) {
    let (runner, trace) = (on.runner(), Trace::default());
    let inside = trace.clone();
    runner
        .run(async {
            create_task(async move {
                let interrupted = hang().await;
                sleep(1.0).await?;
                inside.log("cleaned up");
                interrupted
            });
            pump(1).await
        })
        .unwrap();
    let handle = runner.get_loop();
    drop(runner);
    assert!(handle.is_closed());
    assert_eq!(trace.take(), ["cleaned up"]);
}

fn tells_main_cancelled_by_itself_from_interrupted(on: &Machine) {
    let result = on.try_run(async {
        me().cancel(None);
        hang().await
    });
    assert!(result.unwrap_err().is_cancelled());
}

/// Runs a main that is interrupted after a second, as by Ctrl-C.
fn interrupted<T: 'static>(on: &Machine, main: impl AsyncFnOnce(&dyn Fn()) -> Result<T> + 'static) -> Result<T> {
    on.try_run(async move {
        let interrupt = || {
            let remote = event_loop().remote();
            event_loop().call_later(1.0, move || remote.interrupt()).unwrap();
        };
        main(&interrupt).await
    })
}

fn is_interrupted_by_cancelling_main_which_may_clean_up(on: &Machine) {
    let trace = Trace::default();
    let inside = trace.clone();
    let result = interrupted(on, async move |interrupt| {
        interrupt();
        let cancelled = sleep(5.0).await;
        inside.log(format_args!("{:?} {}", message(&cancelled), me().cancelling()));
        sleep(1.0).await?;
        inside.log("cleanup awaited");
        cancelled
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(trace.take(), ["None 1", "cleanup awaited"]);
}

fn an_interruption_may_be_swallowed(on: &Machine) {
    let result = interrupted(on, async |interrupt| {
        interrupt();
        Ok(if sleep(5.0).await.is_err() { "swallowed" } else { "slept" })
    });
    assert_eq!(result.unwrap(), "swallowed");
}

fn an_interruption_taken_back_and_returned_is_an_interruption(on: &Machine) {
    let result = interrupted(on, async |interrupt| {
        interrupt();
        let cancelled = sleep(5.0).await;
        assert_eq!(me().uncancel(), 0);
        cancelled
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
}

fn an_interruption_beside_another_request_is_a_cancellation(on: &Machine) {
    let result = interrupted(on, async |interrupt| {
        me().cancel(Some("other"));
        assert!(sleep(5.0).await.is_err());
        interrupt();
        sleep(5.0).await
    });
    assert!(result.unwrap_err().is_cancelled());
}

fn an_interruption_cancels_what_main_waits_for(on: &Machine) {
    let awaited: Rc<RefCell<Option<Future<()>>>> = Rc::default();
    let keep = Rc::clone(&awaited);
    let result = interrupted(on, async move |interrupt| {
        interrupt();
        let future = pending::<()>();
        keep.replace(Some(future.clone()));
        assert!(future.await.unwrap_err().is_cancelled());
        Err::<(), _>(Error::cancelled(None))
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(awaited.take().unwrap().cancelled());
}

fn a_main_that_never_waits_is_interrupted(on: &Machine) {
    let result = on.try_run(async {
        let remote = event_loop().remote();
        create_task(async move {
            pump(3).await?;
            remote.interrupt();
            Ok(())
        });
        // Each turn finds it ready.
        while sleep(0.0).await.is_ok() {}
        Err::<(), _>(Error::cancelled(None))
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
}

fn an_interruption_after_a_request_of_a_task_is_a_cancellation(on: &Machine) {
    let result = on.try_run(async {
        let (main, remote) = (me(), event_loop().remote());
        create_task(async move {
            pump(1).await?;
            main.cancel(None);
            remote.interrupt();
            Ok(())
        });
        sleep(10.0).await
    });
    assert!(result.unwrap_err().is_cancelled());
}

fn handles_outlive_the_loop(on: &Machine) {
    let (task, future, never) = on
        .try_run(async {
            let task = create_task(async { sleep(5.0).await.map(|()| 1) });
            let (future, never) = (done(2), pending::<u32>());
            let waits = never.clone();
            create_task(async move { waits.await.map(drop) });
            pump(1).await?;
            Ok((task, future, never))
        })
        .unwrap();
    assert!(task.cancelled() && task.result().unwrap_err().is_cancelled());
    assert_eq!(future.result().unwrap(), 2);
    assert!(never.cancelled(), "what waited for it was cancelled");
    let late = pending_after(on);
    late.set_result(3).unwrap();
    assert_eq!((late.result().unwrap(), late.take_result().unwrap()), (3, 3));
    future.add_done_callback(|_| unreachable!("the loop is closed"));
    assert!(!task.cancel(None));
}

/// A future made by a loop that is closed by now.
fn pending_after(on: &Machine) -> Future<u32> {
    on.try_run(async { Ok(pending()) }).unwrap()
}

fn coroutines_left_at_close_are_dropped_as_their_task_and_end_cancelled(on: &Machine) {
    struct Probe(Rc<RefCell<Vec<String>>>);
    impl Drop for Probe {
        fn drop(&mut self) {
            self.0.borrow_mut().push(me().name().to_string());
        }
    }
    let names: Rc<RefCell<Vec<String>>> = Rc::default();
    let (probe, view) = (Probe(Rc::clone(&names)), Rc::new(RefCell::new(None)));
    let keep = Rc::clone(&view);
    let seen = on.reports(async move {
        create_task(async move {
            assert!(hang().await.is_err());
            let late = TaskBuilder::new().name("late").create_task(async move {
                let _probe = probe;
                hang().await
            });
            pump(2).await?;
            keep.replace(Some(late.view()));
            Ok(())
        });
        pump(1).await
    });
    assert_eq!(messages(&seen), ["task was destroyed but it is pending"]);
    assert_eq!(*names.borrow(), ["late"]);
    assert!(view.take().unwrap().cancelled());
}

fn a_task_that_is_created_while_the_loop_closes_has_failed(on: &Machine) {
    struct Spawner(Rc<RefCell<Option<Task<()>>>>);
    impl Drop for Spawner {
        fn drop(&mut self) {
            self.0.replace(Some(create_task(hang())));
        }
    }
    let slot: Rc<RefCell<Option<Task<()>>>> = Rc::default();
    let spawner = Spawner(Rc::clone(&slot));
    on.run(async move {
        event_loop().call_later(100.0, move || drop(spawner))?;
        Ok(())
    });
    let refused = slot.take().unwrap();
    assert!(refused.done());
    assert_eq!(refused.exception().unwrap().unwrap().kind(), ErrorKind::Runtime);
}

fn gives_what_main_returns(on: &Machine) {
    let main = async {
        sleep(0.0).await?;
        Ok(42)
    };
    assert_eq!(on.try_run(main).unwrap(), 42);
}

fn a_main_that_panicked_leaves_no_stop_behind(on: &Machine) {
    let runner = on.runner();
    let failed = runner.run(async { panic!("main") as Result<()> });
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Panicked);
    let (running, called) = (runner.get_loop(), Rc::new(Cell::new(false)));
    let (flag, soon) = (Rc::clone(&called), running.clone());
    let stop = move || {
        soon.stop();
        flag.set(true);
    };
    let again = running.clone();
    running.call_soon(move || drop(again.call_soon(stop).unwrap())).unwrap();
    runner.run_forever().unwrap();
    assert!(called.get());
    runner.close().unwrap();
}

fn stops_at_once_when_nothing_is_left(on: &Machine) {
    let runner = on.runner();
    let running = runner.get_loop();
    running.call_later(Duration::from_secs(100), || unreachable!("nobody waits for a timer")).unwrap();
    runner.run(async { Ok(()) }).unwrap();
    runner.close().unwrap();
    assert_eq!((running.turn(), running.time().as_nanos()), (2, 0));
}
