//! Errors that nobody retrieves.

use super::*;

cases! {
    ($) "exceptions" in reports_errors as __cases_reports_errors;
    of_a_task_that_nobody_retrieves_are_reported_with_its_name_and_origin: "L8 X1 DB3"
        = "test_base_events::BaseEventLoopTests::test_default_exc_handler_coro";
    of_a_task_without_a_handle_are_reported_when_it_ends: "L8 X1";
    of_a_future_that_nobody_retrieves_are_reported_when_the_last_handle_goes: "L8 X1"
        = "test_futures::BaseFutureTests::test_tb_logger_exception_unretrieved",
          "test_futures::BaseFutureTests::test_future_exception_never_retrieved";
    that_were_retrieved_or_waived_are_not_reported: "L8 X1"
        = "test_futures::BaseFutureTests::test_tb_logger_abandoned",
          "test_futures::BaseFutureTests::test_tb_logger_result_unretrieved",
          "test_futures::BaseFutureTests::test_tb_logger_result_retrieved",
          "test_futures::BaseFutureTests::test_tb_logger_exception_retrieved",
          "test_futures::BaseFutureTests::test_tb_logger_exception_result_retrieved",
          "test_tasks::BaseTaskTests::test_tb_logger_not_called_after_cancel",
          "test_futures::BaseFutureTests::test_tb_logger_not_called_after_cancel";
    that_are_lost_to_a_request_are_not_reported: "X1 CA6 FU2";
    only_looked_at_are_reported: "X1";
    of_a_dropped_gather_are_reported_once_and_the_second_is_lost: "GA4 GA2";
    of_waited_for_tasks_are_their_owners: "GA6 X1";
    of_the_children_of_a_dropped_group_are_reported: "L6 L8";
}

fn of_a_task_that_nobody_retrieves_are_reported_with_its_name_and_origin(on: &Machine) {
    let line = line!() + 2;
    let seen = on.reports(async {
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

fn of_a_task_without_a_handle_are_reported_when_it_ends(on: &Machine) {
    let seen = on.reports(async {
        drop(create_task(fail::<()>("v")));
        pump(2).await
    });
    assert_eq!(messages(&seen), ["task exception was never retrieved"]);
}

fn of_a_future_that_nobody_retrieves_are_reported_when_the_last_handle_goes(on: &Machine) {
    let seen = on.reports(async {
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

fn that_were_retrieved_or_waived_are_not_reported(on: &Machine) {
    let seen = on.reports(async {
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
        let waived = create_task(fail::<()>("t"));
        pump(1).await?;
        assert!(!waived.cancel(None));
        drop(waived);
        // There is nothing to retrieve, or no error.
        drop(pending::<()>());
        drop(done(42));
        assert_eq!(done(42).result()?, 42);
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

fn that_are_lost_to_a_request_are_not_reported(on: &Machine) {
    let seen = on.reports(async {
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

fn only_looked_at_are_reported(on: &Machine) {
    let seen = on.reports(async {
        let future = pending::<()>();
        future.set_exception(Error::msg("f"))?;
        assert!(future.done() && !future.cancelled());
        let (waited, _) = wait([future]).await?;
        drop(waited);
        Ok(())
    });
    assert_eq!(messages(&seen), ["future exception was never retrieved"]);
}

fn of_a_dropped_gather_are_reported_once_and_the_second_is_lost(on: &Machine) {
    let seen = on.reports(async {
        let all = gather((fail::<()>("first"), fail::<()>("second")));
        pump(4).await?;
        drop(all);
        Ok(())
    });
    assert_eq!(messages(&seen), ["gathering future exception was never retrieved"]);
    assert_eq!(text(&seen[0]), "first");
}

fn of_waited_for_tasks_are_their_owners(on: &Machine) {
    let seen = on.reports(async {
        let (done, _) = wait([create_task(fail::<()>("w"))]).await?;
        drop(done);
        let tasks = [create_task(fail::<()>("x")), create_task(hang())];
        wait(&tasks).return_when(ReturnWhen::FirstException).await?;
        Ok(())
    });
    assert_eq!(seen.iter().map(text).collect::<Vec<_>>(), ["w"]);
}

fn of_the_children_of_a_dropped_group_are_reported(on: &Machine) {
    let seen = on.reports(async {
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
