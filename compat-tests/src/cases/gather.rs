//! `gather`, turn by turn, as CPython does it.

use std::rc::Rc;

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

cases! {
    ($) "gather" in gather as __cases_gather;
    cancelled_it_ends_with_the_first_child: "CA14";
    cancelled_with_results_it_waits_for_every_child: "CA14";
    cancelled_with_results_the_errors_of_its_children_are_lost: "CA14 X1";
    a_gather_in_it_has_no_message_for_it: "CA14";
    children_that_swallow_leave_a_cancellation_without_message: "CA14";
    a_second_request_reaches_the_children_in_their_cleanup: "CA14 CA10";
    after_the_first_error_the_others_run_on_and_their_errors_are_lost: "GA2"
        = "test_tasks::CoroutineGatherTests::test_exception_marking";
    a_cancelled_child_is_a_cancelled_await_without_a_request: "GA3";
    with_results_a_cancelled_child_is_one_of_them: "GA3";
    with_results_it_is_done_with_its_last_child: "GA3"
        = "test_tasks::FutureGatherTests::test_result_exception_one_cancellation",
          "test_tasks::GatherTestsBase::test_return_exceptions";
    after_the_first_failure_nothing_changes_it: "GA2 GA3"
        = "test_tasks::GatherTestsBase::test_one_exception", "test_tasks::FutureGatherTests::test_one_cancellation";
    its_future_is_done_when_its_children_are: "CA14 GA1";
    one_given_twice_is_waited_for_once: "GA1"
        = "test_tasks::CoroutineGatherTests::test_duplicate_coroutines",
          "test_tasks::FutureGatherTests::test_constructor_empty_sequence_use_running_loop";
    dropped_it_lets_the_children_run: "GA4 L6";
    values_come_in_the_order_of_the_arguments: "GA1"
        = "test_tasks::GatherTestsBase::test_success",
          "test_tasks::FutureGatherTests::test_constructor_homogenous_futures",
          "test_tasks::CoroutineGatherTests::test_constructor_use_running_loop";
    what_is_done_at_once_needs_no_turn: "GA5 TA4";
}

fn cancelled_it_ends_with_the_first_child(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let (a, b) = (slow("a", &trace, 1, None), slow("b", &trace, 4, None));
        let (turns, task) = cancel_after(3, &trace, async { gather((a, b)).await }).await?;
        assert_eq!((turns, state(&task).as_str()), (4, CANCELLED));
        assert_eq!(message(&task.await).as_deref(), Some("m"));
        pump(3).await?;
        assert_eq!(trace.take(), ["a:m+1", "b:m+1", "a:done+2", "b:done+5"]);
        Ok(())
    });
}

fn cancelled_with_results_it_waits_for_every_child(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let (a, b) = (slow("a", &trace, 1, None), slow("b", &trace, 4, None));
        let (turns, task) = cancel_after(3, &trace, async { gather_results((a, b)).await.map(drop) }).await?;
        assert_eq!((turns, state(&task).as_str()), (7, CANCELLED));
        assert_eq!(message(&task.await).as_deref(), Some("m"));
        assert_eq!(trace.take(), ["a:m+1", "b:m+1", "a:done+2", "b:done+5"]);
        Ok(())
    });
}

fn children_that_swallow_leave_a_cancellation_without_message(on: &Machine) {
    on.run(async {
        let swallow = || async { Ok(hang().await.is_err()) };
        let trace = Trace::new();
        let (turns, task) = cancel_after(3, &trace, async move { gather([swallow(), swallow()]).await }).await?;
        assert_eq!((turns, state(&task).as_str()), (3, CANCELLED));
        assert_eq!(message(&task.await), None);
        Ok(())
    });
}

fn a_second_request_reaches_the_children_in_their_cleanup(on: &Machine) {
    on.run(async {
        let cleaning = || async {
            let interrupted = hang().await;
            pump(2).await?;
            interrupted
        };
        let children = [create_task(cleaning()), create_task(cleaning())];
        let views = [children[0].view(), children[1].view()];
        let task = create_task(async move { gather(children).await });
        pump(2).await?;
        task.cancel(Some("a"));
        pump(1).await?;
        task.cancel(Some("b"));
        assert_eq!(views.each_ref().map(AnyTask::cancelling), [2, 2]);
        pump(6).await?;
        assert_eq!(state(&task), "CANCELLED cancelling=2");
        assert_eq!(message(&task.await).as_deref(), Some("b"));
        assert!(views.iter().all(AnyTask::cancelled));
        Ok(())
    });
}

fn after_the_first_error_the_others_run_on_and_their_errors_are_lost(on: &Machine) {
    let seen = on.reports(async {
        let trace = Trace::new();
        let inside = trace.clone();
        let sibling = async move {
            pump(4).await?;
            inside.log("sibling continued");
            fail::<()>("second").await
        };
        let result = gather((fail::<()>("first"), sibling)).await;
        trace.log(result.unwrap_err());
        pump(6).await?;
        assert_eq!(trace.take(), ["first", "sibling continued"]);
        Ok(())
    });
    assert!(seen.is_empty(), "{seen:?}");
}

fn a_cancelled_child_is_a_cancelled_await_without_a_request(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            let child = create_task(hang());
            let view = child.view();
            let all = gather((child, pending::<()>()));
            soon(move || assert!(view.cancel(Some("kid"))));
            let result = (&all).await;
            assert_eq!((all.cancelled(), me().cancelling()), (false, 0));
            result
        });
        pump(8).await?;
        assert_eq!(state(&task), "CANCELLED");
        assert_eq!(message(&task.await).as_deref(), Some("kid"));
        Ok(())
    });
}

fn with_results_it_is_done_with_its_last_child(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let children: Vec<Future<u32>> = (0..6).map(|_| pending()).collect();
        let gathered = gather_results(children.clone());
        let mark = trace.marker("called");
        gathered.add_done_callback(move |_| mark());
        children[0].set_result(1)?;
        children[1].set_exception(Error::msg("division"))?;
        children[2].cancel(None);
        pump(2).await?;
        assert!(!gathered.done());
        children[3].set_result(3)?;
        children[4].cancel(None);
        children[5].set_exception(Error::msg("runtime"))?;
        let told = |result: Result<u32>| match result {
            Ok(value) => value.to_string(),
            Err(error) if error.is_cancelled() => "cancelled".into(),
            Err(error) => error.to_string(),
        };
        let results: Vec<_> = (&gathered).await?.into_iter().map(told).collect();
        assert_eq!(results, ["1", "division", "cancelled", "3", "cancelled", "runtime"]);
        pump(1).await?;
        assert_eq!(trace.take().len(), 1);
        Ok(())
    });
}

fn after_the_first_failure_nothing_changes_it(on: &Machine) {
    on.run(async {
        for cancelled in [false, true] {
            let trace = Trace::new();
            let children: Vec<Future<u32>> = (0..5).map(|_| pending()).collect();
            let gathered = gather(children.clone());
            let mark = trace.marker("called");
            gathered.add_done_callback(move |_| mark());
            children[0].set_result(1)?;
            match cancelled {
                false => children[1].set_exception(Error::msg("division"))?,
                true => assert!(children[1].cancel(None)),
            }
            pump(2).await?;
            assert!(gathered.done() && !gathered.cancelled());
            children[2].set_result(3)?;
            children[3].cancel(None);
            children[4].set_exception(Error::msg("late"))?;
            assert!(children[4].exception()?.is_some());
            pump(2).await?;
            let error = gathered.exception()?.unwrap();
            assert!(if cancelled { error.is_cancelled() } else { error.to_string() == "division" });
            assert_eq!(trace.take().len(), 1);
        }
        Ok(())
    });
}

fn with_results_a_cancelled_child_is_one_of_them(on: &Machine) {
    on.run(async {
        let child = create_task(hang());
        let view = child.view();
        soon(move || assert!(view.cancel(Some("kid"))));
        let (cancelled, value, error) = gather_results((child, ready(5), fail::<()>("e"))).await?;
        // CPython tells no message here: the task's own error had it.
        assert_eq!(message(&cancelled).as_deref(), Some(""));
        assert_eq!((value?, error.unwrap_err().to_string()), (5, "e".into()));
        Ok(())
    });
}

fn its_future_is_done_when_its_children_are(on: &Machine) {
    on.run(async {
        let all = gather((pending::<()>(), pending::<()>()));
        assert!(all.cancel(None));
        assert!(!all.done());
        pump(3).await?;
        assert!(all.done() && !all.cancelled());
        assert_eq!(message(&all.result()), None);
        assert!(!all.cancel(None));
        Ok(())
    });
}

fn one_given_twice_is_waited_for_once(on: &Machine) {
    on.run(async {
        let task = create_task(ready(Rc::new(1)));
        let values = gather([&task, &task]).await?;
        assert!(Rc::ptr_eq(&values[0], &values[1]));
        assert!(gather(Vec::<Task<()>>::new()).done());
        Ok(())
    });
}

fn dropped_it_lets_the_children_run(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let inside = trace.clone();
        drop(gather([async move {
            pump(2).await?;
            inside.log("done");
            Ok(())
        }]));
        pump(5).await?;
        assert_eq!(trace.take(), ["done"]);
        Ok(())
    });
}

fn cancelled_with_results_the_errors_of_its_children_are_lost(on: &Machine) {
    on.run(async {
        let failing = || async { sleep(9.0).await.or(fail::<()>("in cleanup").await) };
        let all = gather_results((failing(), gather((failing(), failing())), failing()));
        pump(1).await?;
        all.cancel(None);
        assert!(all.await.unwrap_err().is_cancelled());
        pump(2).await
    });
}

fn a_gather_in_it_has_no_message_for_it(on: &Machine) {
    on.run(async {
        let nested = gather_results((hang(), gather_results([hang()])));
        let plain = gather_results((gather_results([hang()]), hang()));
        pump(1).await?;
        assert!(nested.cancel(Some("m")) && plain.cancel(Some("m")));
        assert_eq!(message(&nested.await), None);
        assert_eq!(message(&plain.await).as_deref(), Some("m"));
        Ok(())
    });
}

fn values_come_in_the_order_of_the_arguments(on: &Machine) {
    on.run(async {
        let later = |seconds: f64| async move { sleep(seconds).await.map(|()| seconds) };
        assert_eq!(gather([later(3.0), later(1.0), later(2.0)]).await?, [3.0, 1.0, 2.0]);
        assert_eq!(gather((later(2.0), ready('x'), async { Ok(()) })).await?, (2.0, 'x', ()));
        let children = [pending::<()>(), pending(), pending()];
        for _ in 0..2 {
            let all = gather(children.clone());
            pump(2).await?;
            assert!(!all.done());
        }
        Ok(())
    });
}

fn what_is_done_at_once_needs_no_turn(on: &Machine) {
    on.run(async {
        let failed = pending::<u32>();
        failed.set_exception(Error::msg("e"))?;
        assert_eq!(gather((done(1), failed)).result().unwrap_err().to_string(), "e");
        assert_eq!(gather((done(1), done(2))).result()?, (1, 2));
        Ok(())
    });
}
