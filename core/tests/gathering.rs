//! gather, wait and shield, turn by turn, as CPython does them.

mod common;

use std::rc::Rc;

use aioli_core::*;
use common::*;

mod gathering {
    use super::*;

    #[test]
    fn cancelled_it_ends_with_the_first_child() {
        sim(async {
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

    #[test]
    fn cancelled_with_results_it_waits_for_every_child() {
        sim(async {
            let trace = Trace::new();
            let (a, b) = (slow("a", &trace, 1, None), slow("b", &trace, 4, None));
            let (turns, task) = cancel_after(3, &trace, async { gather_results((a, b)).await.map(drop) }).await?;
            assert_eq!((turns, state(&task).as_str()), (7, CANCELLED));
            assert_eq!(message(&task.await).as_deref(), Some("m"));
            assert_eq!(trace.take(), ["a:m+1", "b:m+1", "a:done+2", "b:done+5"]);
            Ok(())
        });
    }

    #[test]
    fn children_that_swallow_leave_a_cancellation_without_message() {
        sim(async {
            let swallow = || async { Ok(hang().await.is_err()) };
            let trace = Trace::new();
            let (turns, task) = cancel_after(3, &trace, async move { gather([swallow(), swallow()]).await }).await?;
            assert_eq!((turns, state(&task).as_str()), (3, CANCELLED));
            assert_eq!(message(&task.await), None);
            Ok(())
        });
    }

    #[test]
    fn a_second_request_reaches_the_children_in_their_cleanup() {
        sim(async {
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

    #[test]
    fn after_the_first_error_the_others_run_on_and_their_errors_are_lost() {
        let seen = reports(async {
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

    #[test]
    fn a_cancelled_child_is_a_cancelled_await_without_a_request() {
        sim(async {
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

    #[test]
    fn with_results_a_cancelled_child_is_one_of_them() {
        sim(async {
            let child = create_task(hang());
            let view = child.view();
            soon(move || assert!(view.cancel(Some("kid"))));
            let (cancelled, value, error) = gather_results((child, ready(5), fail::<()>("e"))).await?;
            assert_eq!(message(&cancelled).as_deref(), Some("kid"));
            assert_eq!((value?, error.unwrap_err().to_string()), (5, "e".into()));
            Ok(())
        });
    }

    #[test]
    fn its_future_is_done_when_its_children_are() {
        sim(async {
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

    #[test]
    fn one_given_twice_is_waited_for_once() {
        sim(async {
            let task = create_task(ready(Rc::new(1)));
            let values = gather([&task, &task]).await?;
            assert!(Rc::ptr_eq(&values[0], &values[1]));
            assert!(gather(Vec::<Task<()>>::new()).done());
            Ok(())
        });
    }

    #[test]
    fn dropped_it_lets_the_children_run() {
        sim(async {
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

    #[test]
    fn values_come_in_the_order_of_the_arguments() {
        sim(async {
            let later = |seconds: f64| async move { sleep(seconds).await.map(|()| seconds) };
            assert_eq!(gather([later(3.0), later(1.0), later(2.0)]).await?, [3.0, 1.0, 2.0]);
            assert_eq!(gather((later(2.0), ready('x'), async { Ok(()) })).await?, (2.0, 'x', ()));
            Ok(())
        });
    }

    #[test]
    fn what_is_done_at_once_needs_no_turn() {
        sim(async {
            let failed = pending::<u32>();
            failed.set_exception(Error::msg("e"))?;
            assert_eq!(gather((done(1), failed)).result().unwrap_err().to_string(), "e");
            assert_eq!(gather((done(1), done(2))).result()?, (1, 2));
            Ok(())
        });
    }
}

mod waiting {
    use super::*;

    #[test]
    fn first_exception_is_not_a_cancellation() {
        sim(async {
            let (one, two) = (pending::<()>(), pending::<()>());
            let waited = [one.clone(), two.clone()];
            let task = create_task(async move {
                wait(waited).return_when(ReturnWhen::FirstException).await.map(|(done, left)| (done.len(), left.len()))
            });
            pump(1).await?;
            one.cancel(None);
            pump(3).await?;
            assert!(!task.done());
            two.set_result(())?;
            pump(3).await?;
            assert_eq!(state(&task), "RESULT (2, 0)");
            Ok(())
        });
    }

    #[test]
    fn first_exception_returns_with_the_first_error() {
        sim(async {
            let tasks = [create_task(sleep(1.0)), create_task(async { sleep(2.0).await.and(fail("e").await) })];
            let slow = create_task(sleep(9.0));
            let (done, left) = wait([&tasks[0], &tasks[1], &slow]).return_when(ReturnWhen::FirstException).await?;
            assert_eq!((done.len(), left.len(), seconds()), (2, 1, 2.0));
            assert!(tasks[1].result().is_err());
            Ok(())
        });
    }

    #[test]
    fn first_completed_gives_all_that_are_done_by_then() {
        sim(async {
            let futures = [pending::<u32>(), pending(), pending()];
            let waited = futures.clone();
            let task = create_task(async move {
                let (done, left) = wait(&waited).return_when(ReturnWhen::FirstCompleted).await?;
                Ok((done.len(), left.len()))
            });
            pump(1).await?;
            futures[2].set_result(3)?;
            futures[0].set_result(1)?;
            pump(3).await?;
            assert_eq!(state(&task), "RESULT (2, 1)");
            Ok(())
        });
    }

    #[test]
    fn its_timeout_is_no_error_and_cancels_nothing() {
        sim(async {
            let task = create_task(sleep(5.0));
            let (done, left) = wait([&task]).timeout(1.0).await?;
            assert_eq!((done.len(), left.len(), seconds()), (0, 1, 1.0));
            assert_eq!(task.cancelling(), 0);
            let (done, _) = wait([&task]).timeout(9.0).await?;
            assert_eq!((done.len(), seconds()), (1, 5.0));
            Ok(())
        });
    }

    #[test]
    fn nothing_to_wait_for_is_an_error() {
        sim(async {
            assert_eq!(wait(Vec::<Task<()>>::new()).await.unwrap_err().kind(), ErrorKind::Value);
            Ok(())
        });
    }

    #[test]
    fn the_same_future_twice_counts_once() {
        sim(async {
            let task = create_task(sleep(1.0));
            let (done, left) = wait([&task, &task]).await?;
            assert_eq!((done.len(), left.len(), seconds()), (2, 0, 1.0));
            Ok(())
        });
    }
}

mod shields {
    use super::*;

    #[test]
    fn the_waiter_is_cancelled_and_the_inner_task_ends() {
        sim(async {
            let trace = Trace::new();
            let inside = trace.clone();
            let inner = create_task(async move {
                pump(4).await?;
                inside.log("inner finished");
                Ok(())
            });
            let view = inner.view();
            let (turns, task) = cancel_after(2, &trace, async move { shield(inner).await }).await?;
            assert_eq!((turns, state(&task).as_str()), (1, CANCELLED));
            assert_eq!(message(&task.await).as_deref(), Some("m"));
            pump(6).await?;
            assert_eq!(trace.take(), ["inner finished"]);
            assert!(view.done() && !view.cancelled());
            Ok(())
        });
    }

    #[test]
    fn a_cancelled_inner_task_cancels_the_waiter() {
        sim(async {
            let inner = create_task(hang());
            let view = inner.view();
            let task = create_task(async move { shield(inner).await });
            pump(2).await?;
            view.cancel(Some("inner"));
            let turns = until_done(&task, &Trace::new()).await?;
            assert_eq!((turns, state(&task).as_str()), (3, "CANCELLED"));
            assert_eq!(message(&task.await), None);
            Ok(())
        });
    }

    #[test]
    fn an_error_after_the_waiter_left_is_reported_once() {
        let seen = reports(async {
            let inner = create_task(async { sleep(5.0).await.and(fail::<()>("lost").await) });
            for _ in 0..3 {
                assert!(wait_for(shield(&inner), 1.0).await.unwrap_err().is_timeout());
            }
            sleep(5.0).await
        });
        assert_eq!(messages(&seen), ["exception in shielded future"]);
        assert_eq!(seen[0].error.as_ref().unwrap().to_string(), "lost");
    }

    #[test]
    fn a_result_after_the_waiter_left_is_there_for_others() {
        sim(async {
            let inner = create_task(async { sleep(5.0).await.map(|()| "saved") });
            assert!(wait_for(shield(&inner), 1.0).await.unwrap_err().is_timeout());
            assert_eq!(inner.await?, "saved");
            Ok(())
        });
    }

    #[test]
    fn what_is_done_is_returned_as_it_is() {
        sim(async {
            let future = done(1);
            assert_eq!(shield(&future).result()?, 1);
            let failed = pending::<()>();
            failed.set_exception(Error::msg("e"))?;
            assert_eq!(shield(&failed).await.unwrap_err().to_string(), "e");
            failed.cancel(None);
            Ok(())
        });
    }

    #[test]
    fn the_inner_error_reaches_the_waiter() {
        sim(async {
            assert_eq!(shield(fail::<()>("inner")).await.unwrap_err().to_string(), "inner");
            Ok(())
        });
    }
}
