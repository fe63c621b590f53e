//! Panics in the code of users.

use super::*;

cases! {
    ($) "panics" in reentrancy_panics as __cases_reentrancy_panics;
    of_a_task_end_it_and_no_other: "L7 TA3";
    in_scopes_and_groups_leave_them: "L7";
    of_destructors_of_coroutines_are_reported_and_the_result_stays: "L7";
    of_destructors_of_results_are_reported: "L7";
    of_destructors_of_errors_callbacks_and_contexts_are_reported: "L7";
    of_a_handler_do_not_stop_the_loop: "L7 X3" = "test_base_events::BaseEventLoopTests::test_set_exc_handler_broken";
    of_main_end_the_run_and_the_loop_is_left_in_good_order: "L7 L9" = "test_runners::RunTests::test_asyncio_run_raises";
}

fn of_a_task_end_it_and_no_other(on: &Machine) {
    let seen = on.reports(async {
        let (task, other) = (create_task(async { panic!("in task") as Result<()> }), create_task(sleep(1.0)));
        let error = task.await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Panicked, "panicked: in task"));
        other.await?;
        drop(create_task(async {
            hang().await.ok();
            panic!("in cleanup") as Result<()>
        }));
        pump(1).await?;
        all_tasks()[1].cancel(None);
        pump(2).await
    });
    assert_eq!(messages(&seen), ["task exception was never retrieved"]);
}

fn in_scopes_and_groups_leave_them(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            timeout(1.0, async {
                pump(1).await?;
                panic!("in scope") as Result<()>
            })
            .await
        });
        assert_eq!(task.await.unwrap_err().kind(), ErrorKind::Panicked);
        let caught = create_task(async {
            let unwinding = std::panic::AssertUnwindSafe(timeout(50.0, async { panic!("caught") as Result<()> }));
            let result = futures::FutureExt::catch_unwind(unwinding).await;
            assert!(result.is_err());
            // The scope is gone: what comes now is outside of it.
            pump(2).await?;
            Ok(me().cancelling())
        });
        assert_eq!(caught.await?, 0);
        let group = task_group(async |group| {
            group.create_task(async { panic!("child") as Result<()> })?;
            hang().await
        });
        let error = group.await.unwrap_err();
        assert_eq!(error.errors()[0].kind(), ErrorKind::Panicked);
        let body = create_task(task_group(async |group| {
            group.create_task(hang())?;
            pump(1).await?;
            panic!("body") as Result<()>
        }));
        assert_eq!(body.await.unwrap_err().kind(), ErrorKind::Panicked);
        pump(3).await?;
        assert_eq!(all_tasks().len(), 1, "the group's child was cancelled");
        Ok(())
    });
}

fn of_destructors_of_coroutines_are_reported_and_the_result_stays(on: &Machine) {
    let seen = on.reports(async {
        let task = TaskBuilder::new().name("T").create_task(async {
            let _bomb = bomb();
            pump(1).await.map(|()| 5)
        });
        // What is dropped in the poll is the task's own panic.
        assert_eq!(task.await.unwrap_err().kind(), ErrorKind::Panicked);
        struct Kept(OnDrop<fn()>);
        impl StdFuture for Kept {
            type Output = Result<u32>;
            fn poll(self: std::pin::Pin<&mut Self>, _: &mut PollContext<'_>) -> Poll<Result<u32>> {
                let _ = &self.0;
                Poll::Ready(Ok(5))
            }
        }
        // What is dropped with the coroutine is not.
        assert_eq!(TaskBuilder::new().name("T").create_task(Kept(bomb())).await?, 5);
        let never_started = create_task(Kept(bomb()));
        never_started.cancel(None);
        pump(2).await?;
        assert!(never_started.cancelled());
        Ok(())
    });
    assert_eq!(messages(&seen), ["a destructor of a coroutine panicked"; 2]);
    assert_eq!(seen[0].task.as_deref(), Some("T"));
}

fn of_destructors_of_results_are_reported(on: &Machine) {
    let seen = on.reports(async {
        drop(create_task(ready(bomb())));
        pump(2).await?;
        let future = done(bomb());
        let held = Rc::new(());
        let other = done(Rc::clone(&held));
        drop(future);
        drop(other);
        assert_eq!(Rc::strong_count(&held), 1, "others are dropped after it as before");
        let cancelled = create_task(async {
            me().cancel(None);
            Ok(bomb())
        });
        pump(2).await?;
        assert!(cancelled.cancelled());
        Ok(())
    });
    assert_eq!(messages(&seen), ["a destructor of a result panicked"; 3]);
}

fn of_destructors_of_errors_callbacks_and_contexts_are_reported(on: &Machine) {
    #[derive(Clone)]
    struct Value(#[allow(dead_code)] Arc<OnDrop<fn()>>);
    let seen = on.reports(async {
        let hold = || {
            let held = bomb();
            move || drop(held)
        };
        drop(loaded(bomb()));
        let future = pending::<()>();
        let callback = hold();
        future.add_done_callback(move |_| callback());
        drop(future);
        let var = ContextVar::<Value>::new();
        create_task(async move {
            var.set(Value(Arc::new(bomb())));
            Ok(())
        })
        .await?;
        let held = Rc::new(());
        drop(done(Rc::clone(&held)));
        assert_eq!(Rc::strong_count(&held), 1);
        // For the end of the loop.
        event_loop().call_later(5.0, hold())?;
        event_loop().call_later(6.0, hold())?;
        let last = hold();
        pending::<()>().add_done_callback(move |_| last());
        Ok(())
    });
    assert_eq!(messages(&seen), ["a destructor panicked"; 6]);
}

fn of_a_handler_do_not_stop_the_loop(on: &Machine) {
    on.run(async {
        event_loop().set_exception_handler(Some(Box::new(|_| panic!("handler"))));
        drop(create_task(fail::<()>("v")));
        soon(|| panic!("callback"));
        pump(3).await?;
        event_loop().set_exception_handler(None);
        sleep(1.0).await
    });
}

fn of_main_end_the_run_and_the_loop_is_left_in_good_order(on: &Machine) {
    let dropped = Rc::new(Cell::new(false));
    let flag = Rc::clone(&dropped);
    let result = on.try_run(async move {
        let probe = OnDrop(move || flag.set(true));
        drop(create_task(keep(probe, hang())));
        pump(1).await?;
        panic!("main") as Result<()>
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Panicked);
    assert!(dropped.get() && get_running_loop().is_err());
    on.run(async { sleep(1.0).await });
}
