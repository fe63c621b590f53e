//! What goes wrong unseen reaches the loop's exception handler; and how a runner leaves.

mod common;

use std::cell::{Cell, RefCell};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use aioli_core::*;
use aioli_exec_sim::SimDriver;
use common::*;

fn text(report: &Report) -> String {
    report.error.as_ref().map_or_else(String::new, ToString::to_string)
}

mod errors {
    use super::*;

    #[test]
    fn of_a_task_that_nobody_retrieves_are_reported_with_its_name_and_origin() {
        let line = line!() + 2;
        let seen = reports(async {
            let task = TaskBuilder::new().name("lonely").create_task(fail::<()>("v"));
            pump(2).await?;
            assert!(task.done() && !task.cancelled());
            drop(task);
            Ok(())
        });
        assert_eq!(messages(&seen), ["task exception was never retrieved"]);
        assert_eq!((text(&seen[0]).as_str(), seen[0].task.as_deref()), ("v", Some("lonely")));
        let location = seen[0].location.unwrap();
        assert_eq!((location.file(), location.line()), (file!(), line));
        let shown = seen[0].to_string();
        assert!(shown.contains("never retrieved: v") && shown.contains("lonely") && shown.contains(file!()), "{shown}");
        assert!(!shown.contains('\n'));
    }

    #[test]
    fn of_a_task_without_a_handle_are_reported_when_it_ends() {
        let seen = reports(async {
            drop(create_task(fail::<()>("v")));
            pump(2).await
        });
        assert_eq!(messages(&seen), ["task exception was never retrieved"]);
    }

    #[test]
    fn of_a_future_that_nobody_retrieves_are_reported_when_the_last_handle_goes() {
        let seen = reports(async {
            let future = pending::<()>();
            let other = future.clone();
            future.set_exception(Error::msg("f"))?;
            drop(future);
            pump(2).await?;
            drop(other);
            Ok(())
        });
        assert_eq!(messages(&seen), ["future exception was never retrieved"]);
        assert_eq!((text(&seen[0]).as_str(), &seen[0].task), ("f", &None));
    }

    #[test]
    fn that_were_retrieved_or_waived_are_not_reported() {
        let seen = reports(async {
            let failed = || {
                let future = pending::<u32>();
                future.set_exception(Error::msg("f")).unwrap();
                future
            };
            assert!(failed().await.is_err());
            assert!((&failed()).await.is_err());
            assert!(failed().result().is_err());
            assert!(failed().take_result().is_err());
            assert!(failed().exception()?.is_some());
            let waived = failed();
            assert!(!waived.cancel(None));
            assert!(gather([failed()]).await.is_err());
            assert!(shield(failed()).await.is_err());
            create_task(async { Err::<(), _>(Error::cancelled(None)) });
            let retrieved = create_task(fail::<()>("t"));
            pump(2).await?;
            assert!(retrieved.view().exception()?.is_some());
            Ok(())
        });
        assert!(seen.is_empty(), "{seen:?}");
    }

    #[test]
    fn that_are_lost_to_a_request_are_not_reported() {
        let seen = reports(async {
            let future = pending::<()>();
            let task = create_task(future.clone());
            pump(1).await?;
            future.set_exception(Error::msg("x"))?;
            task.cancel(Some("late"));
            drop(future);
            assert_eq!(message(&task.await).as_deref(), Some("late"));
            Ok(())
        });
        assert!(seen.is_empty(), "{seen:?}");
    }

    #[test]
    fn only_looked_at_are_reported() {
        let seen = reports(async {
            let future = pending::<()>();
            future.set_exception(Error::msg("f"))?;
            assert!(future.done() && !future.cancelled());
            let (waited, _) = wait([future]).await?;
            drop(waited);
            Ok(())
        });
        assert_eq!(messages(&seen), ["future exception was never retrieved"]);
    }

    #[test]
    fn of_a_dropped_gather_are_reported_once_and_the_second_is_lost() {
        let seen = reports(async {
            let all = gather((fail::<()>("first"), fail::<()>("second")));
            pump(4).await?;
            drop(all);
            Ok(())
        });
        assert_eq!(messages(&seen), ["gathering future exception was never retrieved"]);
        assert_eq!(text(&seen[0]), "first");
    }

    #[test]
    fn of_waited_for_tasks_are_their_owners() {
        let seen = reports(async {
            let (done, _) = wait([create_task(fail::<()>("w"))]).await?;
            drop(done);
            let tasks = [create_task(fail::<()>("x")), create_task(hang())];
            wait(&tasks).return_when(ReturnWhen::FirstException).await?;
            Ok(())
        });
        assert_eq!(seen.iter().map(text).collect::<Vec<_>>(), ["w"]);
    }

    #[test]
    fn of_the_children_of_a_dropped_group_are_reported() {
        let seen = reports(async {
            let mut group = Box::pin(task_group(async |group| {
                group.create_task(async { hang().await.map_err(|_| Error::msg("child")) })?;
                hang().await
            }));
            assert!(touch(group.as_mut()).await.is_pending());
            pump(1).await?;
            drop(group);
            pump(3).await
        });
        assert_eq!(messages(&seen), ["task of an abandoned group failed"]);
        assert_eq!(text(&seen[0]), "child");
    }
}

mod handler {
    use super::*;

    #[test]
    fn hears_of_callbacks_that_panic_and_the_loop_goes_on() {
        let line = Rc::new(Cell::new(0));
        let at = Rc::clone(&line);
        let seen = reports(async move {
            let trace = Trace::new();
            at.set(line!() + 1);
            event_loop().call_soon(|| panic!("in callback"))?;
            event_loop().call_later(0.0, || panic!("in timer"))?;
            soon(trace.marker("next"));
            let future = pending::<()>();
            future.add_done_callback(|_| panic!("in done callback"));
            let mark = trace.marker("second ran");
            future.add_done_callback(move |_| mark());
            future.set_result(())?;
            pump(2).await?;
            assert_eq!(trace.take(), ["next+1", "second ran+1"]);
            Ok(())
        });
        assert_eq!(messages(&seen), ["exception in callback"; 3]);
        let texts: Vec<_> = seen.iter().map(text).collect();
        assert_eq!(texts, ["panicked: in callback", "panicked: in done callback", "panicked: in timer"]);
        assert_eq!((seen[0].location.unwrap().line(), &seen[0].task), (line.get(), &None));
        assert!(seen[0].to_string().contains("scheduled at"));
        assert_eq!(seen[0].error.as_ref().unwrap().kind(), ErrorKind::Panicked);
    }

    #[test]
    fn is_called_by_hand_and_can_be_replaced() {
        sim(async {
            let trace = Trace::new();
            let install = |name: &'static str| {
                let trace = trace.clone();
                let handler = move |report: &Report| trace.log(format_args!("{name}: {report}"));
                event_loop().set_exception_handler(Some(Box::new(handler)));
            };
            install("one");
            event_loop().call_exception_handler(Report::new("msg").with_error(Error::msg("x")));
            install("two");
            event_loop().call_exception_handler(Report::new("again"));
            assert_eq!(trace.take(), ["one: msg: x", "two: again"]);
            Ok(())
        });
    }

    #[test]
    fn may_use_the_loop_and_even_replace_itself() {
        sim(async {
            let count = Rc::new(Cell::new(0));
            let seen = Rc::clone(&count);
            event_loop().set_exception_handler(Some(Box::new(move |_| {
                seen.set(seen.get() + 1);
                event_loop().set_exception_handler(Some(Box::new(|_| ())));
                create_task(fail::<()>("from the handler"));
                soon(|| panic!("from the handler"));
            })));
            create_task(fail::<()>("v"));
            pump(5).await?;
            assert_eq!(count.get(), 1);
            Ok(())
        });
    }
}

/// Runs one of this program's tests in a process of its own, as `name`, and gives what it wrote to stderr.
fn stderr_of(name: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program).args(["--exact", name, "--nocapture"]).env("ALONE", "1").output().unwrap();
    assert!(child.status.success(), "{child:?}");
    String::from_utf8(child.stderr).unwrap()
}

fn is_alone() -> bool {
    std::env::var_os("ALONE").is_some()
}

#[test]
fn without_a_handler_a_report_is_one_line_on_stderr() {
    if !is_alone() {
        let lines = stderr_of("without_a_handler_a_report_is_one_line_on_stderr");
        let line = lines.lines().find(|line| line.starts_with("aioli: ")).unwrap();
        assert!(line.starts_with("aioli: task exception was never retrieved: v (task \"T\", created at "), "{line}");
        assert_eq!(lines.lines().filter(|line| line.starts_with("aioli: ")).count(), 1, "{lines}");
        return;
    }
    sim(async {
        TaskBuilder::new().name("T").create_task(fail::<()>("v"));
        pump(2).await
    });
}

#[test]
fn a_handler_that_panics_is_reported_with_what_it_was_given() {
    if !is_alone() {
        let lines = stderr_of("a_handler_that_panics_is_reported_with_what_it_was_given");
        assert!(
            lines.contains("aioli: unhandled error in exception handler: panicked: handler broke\naioli: msg\n"),
            "{lines}"
        );
        return;
    }
    sim(async {
        event_loop().set_exception_handler(Some(Box::new(|_| panic!("handler broke"))));
        event_loop().call_exception_handler(Report::new("msg"));
        event_loop().set_exception_handler(None);
        Ok(())
    });
}

mod runner {
    use super::*;

    #[test]
    fn cancels_what_is_left_awaits_it_and_reports_what_failed() {
        let trace = Trace::default();
        let inside = trace.clone();
        let seen = reports(async move {
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

    #[test]
    fn says_nothing_of_the_tasks_that_a_gather_made() {
        let seen = reports(async {
            create_task(async {
                assert!(hang().await.is_err());
                drop(gather([hang(), hang()]));
                Ok(())
            });
            pump(1).await
        });
        assert!(seen.is_empty(), "{seen:?}");
    }

    #[test]
    fn leaves_in_good_order_when_main_fails() {
        let trace = Trace::default();
        let inside = trace.clone();
        let failed = aioli_exec_sim::run(async move {
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

    #[test]
    fn leaves_in_good_order_when_main_panics() {
        let trace = Trace::default();
        let inside = trace.clone();
        let failed = aioli_exec_sim::run(async move {
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

    #[test]
    fn runs_several_coroutines_in_one_context_with_one_clock() {
        let (runner, var) = (Runner::new(SimDriver::new()), Rc::new(ContextVar::<u32>::new()));
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

    #[test]
    fn keeps_its_tasks_between_runs() {
        let runner = Runner::new(SimDriver::new());
        let task = runner.run(async { Ok(create_task(async { sleep(5.0).await.map(|()| seconds()) })) }).unwrap();
        runner.run(async { sleep(1.0).await }).unwrap();
        assert!(!task.done());
        assert_eq!(runner.run(task).unwrap(), 5.0);
        runner.close().unwrap();
    }

    #[test]
    fn that_is_dropped_leaves_too() {
        let (runner, trace) = (Runner::new(SimDriver::new()), Trace::default());
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

    #[test]
    fn tells_main_cancelled_by_itself_from_interrupted() {
        let result = aioli_exec_sim::run(async {
            me().cancel(None);
            hang().await
        });
        assert!(result.unwrap_err().is_cancelled());
    }

    /// Runs a main that is interrupted after a second, as by Ctrl-C.
    fn interrupted<T: 'static>(main: impl AsyncFnOnce(&dyn Fn()) -> Result<T> + 'static) -> Result<T> {
        aioli_exec_sim::run(async move {
            let interrupt = || {
                let remote = event_loop().remote();
                event_loop().call_later(1.0, move || remote.interrupt()).unwrap();
            };
            main(&interrupt).await
        })
    }

    #[test]
    fn is_interrupted_by_cancelling_main_which_may_clean_up() {
        let trace = Trace::default();
        let inside = trace.clone();
        let result = interrupted(async move |interrupt| {
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

    #[test]
    fn an_interruption_may_be_swallowed() {
        let result = interrupted(async |interrupt| {
            interrupt();
            Ok(if sleep(5.0).await.is_err() { "swallowed" } else { "slept" })
        });
        assert_eq!(result.unwrap(), "swallowed");
    }

    #[test]
    fn an_interruption_taken_back_and_returned_is_an_interruption() {
        let result = interrupted(async |interrupt| {
            interrupt();
            let cancelled = sleep(5.0).await;
            assert_eq!(me().uncancel(), 0);
            cancelled
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
    }

    #[test]
    fn an_interruption_beside_another_request_is_a_cancellation() {
        let result = interrupted(async |interrupt| {
            me().cancel(Some("other"));
            assert!(sleep(5.0).await.is_err());
            interrupt();
            sleep(5.0).await
        });
        assert!(result.unwrap_err().is_cancelled());
    }

    #[test]
    fn handles_outlive_the_loop() {
        let (task, future, never) = aioli_exec_sim::run(async {
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
        let late = pending_after(&task);
        late.set_result(3).unwrap();
        assert_eq!((late.result().unwrap(), late.take_result().unwrap()), (3, 3));
        future.add_done_callback(|_| unreachable!("the loop is closed"));
        assert!(!task.cancel(None));
    }

    /// A future made by a loop that is closed by now.
    fn pending_after(_: &Task<i32>) -> Future<u32> {
        aioli_exec_sim::run(async { Ok(pending()) }).unwrap()
    }

    #[test]
    fn coroutines_left_at_close_are_dropped_as_their_task_and_end_cancelled() {
        struct Probe(Rc<RefCell<Vec<String>>>);
        impl Drop for Probe {
            fn drop(&mut self) {
                self.0.borrow_mut().push(me().name().to_string());
            }
        }
        let names: Rc<RefCell<Vec<String>>> = Rc::default();
        let (probe, view) = (Probe(Rc::clone(&names)), Rc::new(RefCell::new(None)));
        let keep = Rc::clone(&view);
        let seen = reports(async move {
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

    #[test]
    fn a_task_that_is_created_while_the_loop_closes_has_failed() {
        struct Spawner(Rc<RefCell<Option<Task<()>>>>);
        impl Drop for Spawner {
            fn drop(&mut self) {
                self.0.replace(Some(create_task(hang())));
            }
        }
        let slot: Rc<RefCell<Option<Task<()>>>> = Rc::default();
        let spawner = Spawner(Rc::clone(&slot));
        sim(async move {
            event_loop().call_later(100.0, move || drop(spawner))?;
            Ok(())
        });
        let refused = slot.take().unwrap();
        assert!(refused.done());
        assert_eq!(refused.exception().unwrap().unwrap().kind(), ErrorKind::Runtime);
    }

    #[test]
    fn stops_at_once_when_nothing_is_left() {
        let runner = Runner::new(SimDriver::new());
        let running = runner.get_loop();
        running.call_later(Duration::from_secs(100), || unreachable!("nobody waits for a timer")).unwrap();
        runner.run(async { Ok(()) }).unwrap();
        runner.close().unwrap();
        assert_eq!((running.turn(), running.time().as_nanos()), (2, 0));
    }
}
