//! The states of futures and tasks, as CPython has them.

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

cases! {
    ($) "futures" in futures as __cases_futures;
    are_reached_once: "FU1" = "test_futures::BaseFutureTests::test_initial_state", "test_futures::BaseFutureTests::test_result";
    a_value_is_taken_once_and_cloned_as_often_as_one_likes: "FU1 FU6";
    an_error_is_the_same_for_everybody: "FU6";
    a_cancellation_set_as_an_error_is_no_cancelled_state: "FU1";
    a_callback_is_removed_until_it_is_scheduled: "FU4"
        = "test_futures::BaseFutureDoneCallbackTests::test_remove_done_callback",
          "test_futures::BaseFutureDoneCallbackTests::test_callbacks_remove_first_callback",
          "test_futures::BaseFutureDoneCallbackTests::test_callbacks_remove_first_and_second_callback";
    a_future_of_another_loop_cannot_be_awaited: "FU9"
        = "test_tasks::BaseTaskTests::test_other_loop_future",
          "test_tasks::FutureGatherTests::test_constructor_heterogenous_futures";
    a_dropped_handle_detaches_a_task: "L6";
    names_are_given_or_counted: "TA1"
        = "test_tasks::BaseTaskTests::test_bare_create_named_task",
          "test_tasks::BaseTaskTests::test_bare_create_task",
          "test_base_events::BaseEventLoopTests::test_create_named_task_with_default_factory";
    upstream_cancel: "FU1 FU2" = "test_futures::BaseFutureTests::test_cancel";
    upstream_exception: "FU1 FU2" = "test_futures::BaseFutureTests::test_exception";
    upstream_callbacks_invoked_on_set_exception: "FU3"
        = "test_futures::BaseFutureDoneCallbackTests::test_callbacks_invoked_on_set_exception";
    upstream_callbacks_remove_third_callback: "FU4"
        = "test_futures::BaseFutureDoneCallbackTests::test_callbacks_remove_third_callback";
}

fn are_reached_once(on: &Machine) {
    on.run(async {
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
        assert!(cancelled.result().unwrap_err().is_cancelled() && cancelled.exception().unwrap_err().is_cancelled());
        Ok(())
    });
}

fn a_value_is_taken_once_and_cloned_as_often_as_one_likes(on: &Machine) {
    on.run(async {
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

fn an_error_is_the_same_for_everybody(on: &Machine) {
    on.run(async {
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

fn a_cancellation_set_as_an_error_is_no_cancelled_state(on: &Machine) {
    on.run(async {
        let future = pending::<u32>();
        future.set_exception(Error::cancelled(Some("given")))?;
        assert!(!future.cancelled());
        assert_eq!(message(&future.await).as_deref(), Some("given"));
        Ok(())
    });
}

fn upstream_cancel(on: &Machine) {
    on.run(async {
        let future = pending::<u32>();
        assert!(future.cancel(None));
        assert!(future.cancelled() && future.done());
        assert!(future.result().unwrap_err().is_cancelled() && future.exception().unwrap_err().is_cancelled());
        for refused in [future.set_result(1), future.set_exception(Error::msg("late"))] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidState);
        }
        assert!(!future.cancel(None));
        Ok(())
    });
}

fn upstream_exception(on: &Machine) {
    on.run(async {
        let future = pending::<u32>();
        assert_eq!(future.exception().unwrap_err().kind(), ErrorKind::InvalidState);
        let error = Error::msg("e");
        future.set_exception(error.clone())?;
        assert!(!future.cancelled() && future.done());
        assert!(future.result().unwrap_err().same(&error) && future.exception()?.unwrap().same(&error));
        for refused in [future.set_result(1), future.set_exception(Error::msg("late"))] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidState);
        }
        assert!(!future.cancel(None));
        Ok(())
    });
}

fn upstream_callbacks_invoked_on_set_exception(on: &Machine) {
    on.run(async {
        let (trace, future) = (Trace::new(), pending::<()>());
        let mark = trace.marker("called");
        future.add_done_callback(move |future| {
            assert_eq!(future.exception().unwrap().unwrap().to_string(), "e");
            mark();
        });
        future.set_exception(Error::msg("e"))?;
        assert_eq!(trace.take(), [""; 0]);
        pump(1).await?;
        assert_eq!(trace.take(), ["called+1"]);
        Ok(())
    });
}

fn upstream_callbacks_remove_third_callback(on: &Machine) {
    on.run(async {
        // The first, the first two, the third.
        for (removed, left) in [(&[0][..], &["1", "2"][..]), (&[0, 1], &["2"]), (&[2], &["0", "1"])] {
            let (trace, future) = (Trace::new(), pending::<()>());
            let ids = ["0", "1", "2"].map(|name| {
                let trace = trace.clone();
                future.add_done_callback(move |_| trace.log(name))
            });
            removed.iter().for_each(|n| assert!(future.remove_done_callback(ids[*n])));
            removed.iter().for_each(|n| assert!(!future.remove_done_callback(ids[*n])));
            future.set_result(())?;
            pump(1).await?;
            assert_eq!(trace.take(), left);
        }
        Ok(())
    });
}

fn a_callback_is_removed_until_it_is_scheduled(on: &Machine) {
    on.run(async {
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

fn a_future_of_another_loop_cannot_be_awaited(on: &Machine) {
    let other = on.runner();
    let stranger = other.get_loop().create_future::<()>();
    let done = other.get_loop().create_future::<u32>();
    done.set_result(3).unwrap();
    on.run(async move {
        let trace = Trace::new();
        assert_eq!((&stranger).await.unwrap_err().kind(), ErrorKind::Runtime);
        assert_eq!(trace.turns(), 1);
        assert!(gather([&stranger]).await.unwrap_err().kind() == ErrorKind::Value);
        assert_eq!(done.await?, 3, "awaiting what is done asks no loop");
        Ok(())
    });
}

fn a_dropped_handle_detaches_a_task(on: &Machine) {
    on.run(async {
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

fn names_are_given_or_counted(on: &Machine) {
    on.run(async {
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
