//! Timeouts, turn by turn, as CPython does them.

use std::time::Duration;

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

cases! {
    ($) "timeouts" in timeouts as __cases_timeouts;
    a_timeout_made_outside_of_a_loop_counts_from_its_first_poll: "W1";
    an_outer_one_that_fires_with_the_inner_wins: "W4"
        = "test_timeouts::TimeoutTests::test_nested_timeouts_loop_busy",
          "test_timeouts::TimeoutTests::test_nested_timeouts";
    an_outer_one_passes_through_the_inner: "W4" = "test_timeouts::TimeoutTests::test_nested_timeouts_concurrent";
    an_inner_one_leaves_the_outer_alone: "W4";
    a_request_before_the_deadline_is_a_cancellation: "W2"
        = "test_timeouts::TimeoutTests::test_foreign_cancel_doesnt_timeout_if_not_expired";
    a_request_and_the_deadline_in_one_turn_are_a_cancellation: "W2";
    another_error_of_the_body_is_returned: "W3"
        = "test_timeouts::TimeoutTests::test_foreign_exception_on_timeout",
          "test_timeouts::TimeoutTests::test_foreign_exception_on_timeout_2";
    a_body_that_swallows_gives_its_result: "W3";
    cleanup_after_the_deadline_is_not_cancelled_again: "W5";
    a_deadline_can_be_moved_only_while_it_runs: "W1"
        = "test_timeouts::TimeoutTests::test_reschedule",
          "test_timeouts::TimeoutTests::test_timeout_not_entered",
          "test_timeouts::TimeoutTests::test_timeout_finished",
          "test_timeouts::TimeoutTests::test_timeout_expired";
    a_result_is_lost_to_a_deadline_in_the_same_turn: "W8";
    nested_deadlines_at_one_time_are_one_timeout: "W4";
    a_cancelled_task_can_still_use_timeouts: "W2" = "test_timeouts::TimeoutTests::test_timeout_after_cancellation";
    what_the_body_takes_back_of_its_timeout_is_not_taken_back_twice: "W2";
    outside_of_a_task_it_is_an_error: "W1" = "test_timeouts::TimeoutTests::test_timeout_without_task";
    delays_that_are_not_finite_are_refused: "L5" = "test_tasks::BaseTaskTests::test_sleep_when_delay_is_nan";
    delays_are_whole_seconds_too: "L5";
}

/// Moves a deadline into the past, so that it fires in the next turn.
fn expire_soon(deadline: &Timeout) {
    let deadline = deadline.clone();
    soon(move || {
        let past = event_loop().time() - Duration::from_secs(1);
        deadline.reschedule(Some(past)).unwrap();
    });
}

fn a_timeout_made_outside_of_a_loop_counts_from_its_first_poll(on: &Machine) {
    let late = timeout(Duration::from_secs(5), async { sleep(Duration::from_secs(3)).await });
    on.try_run(async move {
        sleep(Duration::from_secs(60)).await?;
        late.await
    })
    .unwrap();
}

fn an_outer_one_that_fires_with_the_inner_wins(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let inside = trace.clone();
        let (outer, inner) = (Timeout::after(0.0), Timeout::after(0.0));
        let (o, i) = (outer.clone(), inner.clone());
        let coroutine = async move {
            let body = async move {
                let result = hang().await;
                inside.log(format_args!("{} {} {}", me().cancelling(), o.expired(), i.expired()));
                result
            };
            outer.run(inner.run(body)).await
        };
        let ended = ends(coroutine, 0, |_| ()).await?;
        assert_eq!(ended, ("EXC the deadline has passed".into(), 3));
        assert_eq!(trace.take(), ["2 true true"]);
        Ok(())
    });
}

fn an_outer_one_passes_through_the_inner(on: &Machine) {
    on.run(async {
        let coroutine = async {
            let (outer, inner) = (Timeout::after(0.0), Timeout::after(10.0));
            let late = outer.run(async { inner.run(hang()).await.inspect_err(|error| assert!(error.is_cancelled())) });
            assert!(late.await.unwrap_err().is_timeout());
            assert_eq!((outer.expired(), inner.expired(), me().cancelling()), (true, false, 0));
            Ok(())
        };
        assert_eq!(ends(coroutine, 0, |_| ()).await?, ("RESULT ()".into(), 3));
        Ok(())
    });
}

fn an_inner_one_leaves_the_outer_alone(on: &Machine) {
    on.run(async {
        let coroutine = async {
            let outer = Timeout::after(10.0);
            let body = async {
                assert!(timeout(0.0, hang()).await.unwrap_err().is_timeout());
                sleep(0.0).await
            };
            outer.run(body).await?;
            assert_eq!((outer.expired(), me().cancelling()), (false, 0));
            Ok(())
        };
        assert_eq!(ends(coroutine, 0, |_| ()).await?, ("RESULT ()".into(), 4));
        Ok(())
    });
}

fn a_request_before_the_deadline_is_a_cancellation(on: &Machine) {
    on.run(async {
        assert_eq!(ends(timeout(0.0, hang()), 1, cancel_with("ext")).await?, (CANCELLED.into(), 1));
        Ok(())
    });
}

fn a_request_and_the_deadline_in_one_turn_are_a_cancellation(on: &Machine) {
    on.run(async {
        let requested_first = async {
            let deadline = Timeout::after(10.0);
            let (inside, task) = (deadline.clone(), me());
            let body = async move {
                expire_soon(&inside);
                soon(move || assert!(task.cancel(Some("user"))));
                hang().await
            };
            let result = deadline.run(body).await;
            assert!(deadline.expired());
            result
        };
        let task = create_task(requested_first);
        assert_eq!(until_done(&task, &Trace::new()).await?, 3);
        assert_eq!(state(&task), CANCELLED);
        assert_eq!(message(&task.await).as_deref(), Some("user"));

        let fired_first = async {
            let deadline = Timeout::after(10.0);
            let (inside, task) = (deadline.clone(), me());
            let body = async move {
                expire_soon(&inside);
                soon(move || soon(move || assert!(task.cancel(Some("user")))));
                hang().await
            };
            deadline.run(body).await
        };
        let task = create_task(fired_first);
        assert_eq!(until_done(&task, &Trace::new()).await?, 4);
        assert_eq!(state(&task), CANCELLED);
        assert_eq!(message(&task.await), None);
        Ok(())
    });
}

fn another_error_of_the_body_is_returned(on: &Machine) {
    on.run(async {
        let body = async { hang().await.map_err(|_| Error::msg("instead")) };
        assert_eq!(ends(timeout(0.0, body), 0, |_| ()).await?, ("EXC instead".into(), 3));
        Ok(())
    });
}

fn a_body_that_swallows_gives_its_result(on: &Machine) {
    on.run(async {
        let deadline = Timeout::after(0.0);
        let body = async {
            assert!(hang().await.is_err());
            assert_eq!(me().cancelling(), 1);
            Ok("fine")
        };
        assert_eq!(deadline.run(body).await?, "fine");
        assert!(deadline.expired());
        assert_eq!(me().cancelling(), 0);
        Ok(())
    });
}

fn cleanup_after_the_deadline_is_not_cancelled_again(on: &Machine) {
    on.run(async {
        let late = timeout(1.0, async {
            let interrupted = hang().await;
            sleep(5.0).await?;
            interrupted
        });
        assert!(late.await.unwrap_err().is_timeout());
        assert_eq!(seconds(), 6.0);
        Ok(())
    });
}

fn a_deadline_can_be_moved_only_while_it_runs(on: &Machine) {
    on.run(async {
        let runtime = |result: Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::Runtime);
        let deadline = Timeout::at(None);
        runtime(deadline.reschedule(Some(event_loop().time())));
        let inside = deadline.clone();
        let body = async move {
            assert_eq!(inside.when(), None);
            let soon = event_loop().time() + Duration::from_secs(5);
            inside.reschedule(Some(soon))?;
            assert_eq!(inside.when(), Some(soon));
            inside.reschedule(None)?;
            sleep(9.0).await
        };
        deadline.run(body).await?;
        assert!(!deadline.expired());
        runtime(deadline.reschedule(None));
        runtime(deadline.run(ready(())).await);

        let deadline = Timeout::after(0.0);
        let inside = deadline.clone();
        let body = async move {
            let interrupted = hang().await;
            runtime(inside.reschedule(None));
            interrupted
        };
        assert!(deadline.run(body).await.unwrap_err().is_timeout());
        runtime(deadline.reschedule(None));
        Ok(())
    });
}

fn a_result_is_lost_to_a_deadline_in_the_same_turn(on: &Machine) {
    on.run(async {
        let future = pending::<u32>();
        let deadline = Timeout::after(10.0);
        let (inside, setter, awaited) = (deadline.clone(), future.clone(), future.clone());
        let body = async move {
            soon(move || {
                setter.set_result(1).unwrap();
                let past = event_loop().time() - Duration::from_secs(1);
                inside.reschedule(Some(past)).unwrap();
            });
            // The deadline fires in the turn after the result was set, before this task.
            (&awaited).await
        };
        // The task was queued when the result was set, the deadline after it: the result comes first.
        assert_eq!(deadline.run(body).await?, 1);

        let future = pending::<u32>();
        let (setter, awaited) = (future.clone(), future.clone());
        let due = event_loop().time() + Duration::from_secs(1);
        event_loop().call_at(due, move || setter.set_result(1).unwrap())?;
        let late = timeout_at(due, async move { (&awaited).await.inspect_err(|error| assert!(error.is_cancelled())) });
        assert!(late.await.unwrap_err().is_timeout());
        assert_eq!(future.result()?, 1);
        Ok(())
    });
}

fn nested_deadlines_at_one_time_are_one_timeout(on: &Machine) {
    on.run(async {
        let result = timeout(1.0, async { timeout(1.0, sleep(9.0)).await }).await;
        assert!(result.unwrap_err().is_timeout());
        assert_eq!((seconds(), me().cancelling()), (1.0, 0));
        Ok(())
    });
}

fn a_cancelled_task_can_still_use_timeouts(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            assert!(hang().await.is_err());
            assert_eq!(me().cancelling(), 1);
            let late = timeout(1.0, async {
                let interrupted = hang().await;
                assert_eq!(me().cancelling(), 2);
                interrupted
            });
            assert!(late.await.unwrap_err().is_timeout());
            assert_eq!(me().cancelling(), 1);
            Ok(())
        });
        pump(1).await?;
        task.cancel(None);
        task.await
    });
}

fn what_the_body_takes_back_of_its_timeout_is_not_taken_back_twice(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            assert!(hang().await.is_err());
            let late = timeout(1.0, async {
                let interrupted = hang().await;
                assert_eq!(me().uncancel(), 1);
                interrupted
            });
            // As in CPython the timeout takes one back on its way out, whosever it was.
            assert!(late.await.unwrap_err().is_timeout());
            assert_eq!(me().cancelling(), 0);
            Ok(())
        });
        pump(1).await?;
        task.cancel(None);
        task.await
    });
}

fn outside_of_a_task_it_is_an_error(on: &Machine) {
    on.run(async {
        let result = futures::executor::block_on(async { Ok::<_, Error>(()) });
        assert!(result.is_ok());
        soon(|| {
            let mut timed = Box::pin(timeout(1.0, ready(())));
            let waker = futures::task::noop_waker();
            let polled = timed.as_mut().poll(&mut std::task::Context::from_waker(&waker));
            assert!(matches!(polled, std::task::Poll::Ready(Err(error)) if error.kind() == ErrorKind::Runtime));
        });
        pump(2).await
    });
}

fn delays_that_are_not_finite_are_refused(on: &Machine) {
    on.run(async {
        for delay in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let value = |error: Error| assert_eq!(error.kind(), ErrorKind::Value);
            value(timeout(delay, ready(())).await.unwrap_err());
            value(sleep(delay).await.unwrap_err());
            value(wait_for(ready(()), delay).await.unwrap_err());
            value(wait([pending::<()>()]).timeout(delay).await.unwrap_err());
        }
        Ok(())
    });
}

fn delays_are_whole_seconds_too(on: &Machine) {
    on.run(async {
        let start = event_loop().time();
        sleep(1).await?;
        sleep(2_u64).await?;
        sleep(-1).await?;
        sleep(i64::MIN).await?;
        assert_eq!(event_loop().time() - start, Duration::from_secs(3));
        assert!(timeout(0_u32, sleep(1)).await.unwrap_err().is_timeout());
        assert!(timeout(u64::MAX, sleep(1)).await.is_ok());
        Ok(())
    });
}
