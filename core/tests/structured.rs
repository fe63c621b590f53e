//! What combines tasks: timeouts, groups, gather, wait, shields; turn by turn, as CPython does it.

mod common;

use std::cell::RefCell;
use std::future::Future as StdFuture;
use std::rc::Rc;
use std::time::Duration;

use aioli_core::*;
use common::*;

/// Waits for ever; when cancelled it takes `turns` for its cleanup, and then returns `error` or the cancellation.
fn slow(
    name: &'static str,
    trace: &Trace,
    turns: u32,
    error: Option<&'static str>,
) -> impl StdFuture<Output = Result<()>> + use<> {
    let trace = trace.clone();
    async move {
        let interrupted = hang().await;
        trace.mark(format_args!("{name}:{}", message(&interrupted).unwrap_or_default()));
        pump(turns).await?;
        trace.mark(format_args!("{name}:done"));
        error.map_or(interrupted, |error| Err(Error::msg(error)))
    }
}

/// Starts a coroutine, calls `after` on its task some turns later, and tells how it ended and how many turns after that.
async fn ends<T: std::fmt::Debug + Clone + 'static>(
    coroutine: impl StdFuture<Output = Result<T>> + 'static,
    before: u32,
    after: impl FnOnce(&Task<T>),
) -> Result<(String, u64)> {
    let task = create_task(coroutine);
    pump(before).await?;
    after(&task);
    let trace = Trace::new();
    let turns = until_done(&task, &trace).await?;
    Ok((state(&task), turns))
}

fn cancel_with<T>(text: &'static str) -> impl FnOnce(&Task<T>) {
    move |task| assert!(task.cancel(Some(text)))
}

/// Moves a deadline into the past, so that it fires in the next turn.
fn expire_soon(deadline: &Timeout) {
    let deadline = deadline.clone();
    soon(move || {
        let past = event_loop().time() - Duration::from_secs(1);
        deadline.reschedule(Some(past)).unwrap();
    });
}

const CANCELLED: &str = "CANCELLED cancelling=1";

mod timeouts {
    use super::*;

    #[test]
    fn an_outer_one_that_fires_with_the_inner_wins() {
        sim(async {
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

    #[test]
    fn an_outer_one_passes_through_the_inner() {
        sim(async {
            let coroutine = async {
                let (outer, inner) = (Timeout::after(0.0), Timeout::after(10.0));
                let late =
                    outer.run(async { inner.run(hang()).await.inspect_err(|error| assert!(error.is_cancelled())) });
                assert!(late.await.unwrap_err().is_timeout());
                assert_eq!((outer.expired(), inner.expired(), me().cancelling()), (true, false, 0));
                Ok(())
            };
            assert_eq!(ends(coroutine, 0, |_| ()).await?, ("RESULT ()".into(), 3));
            Ok(())
        });
    }

    #[test]
    fn an_inner_one_leaves_the_outer_alone() {
        sim(async {
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

    #[test]
    fn a_request_before_the_deadline_is_a_cancellation() {
        sim(async {
            assert_eq!(ends(timeout(0.0, hang()), 1, cancel_with("ext")).await?, (CANCELLED.into(), 1));
            Ok(())
        });
    }

    #[test]
    fn a_request_and_the_deadline_in_one_turn_are_a_cancellation() {
        sim(async {
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

    #[test]
    fn another_error_of_the_body_is_returned() {
        sim(async {
            let body = async { hang().await.map_err(|_| Error::msg("instead")) };
            assert_eq!(ends(timeout(0.0, body), 0, |_| ()).await?, ("EXC instead".into(), 3));
            Ok(())
        });
    }

    #[test]
    fn a_body_that_swallows_gives_its_result() {
        sim(async {
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

    #[test]
    fn cleanup_after_the_deadline_is_not_cancelled_again() {
        sim(async {
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

    #[test]
    fn a_deadline_can_be_moved_only_while_it_runs() {
        sim(async {
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

    #[test]
    fn a_result_is_lost_to_a_deadline_in_the_same_turn() {
        sim(async {
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
            let late =
                timeout_at(due, async move { (&awaited).await.inspect_err(|error| assert!(error.is_cancelled())) });
            assert!(late.await.unwrap_err().is_timeout());
            assert_eq!(future.result()?, 1);
            Ok(())
        });
    }

    #[test]
    fn nested_deadlines_at_one_time_are_one_timeout() {
        sim(async {
            let result = timeout(1.0, async { timeout(1.0, sleep(9.0)).await }).await;
            assert!(result.unwrap_err().is_timeout());
            assert_eq!((seconds(), me().cancelling()), (1.0, 0));
            Ok(())
        });
    }

    #[test]
    fn a_cancelled_task_can_still_use_timeouts() {
        sim(async {
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

    #[test]
    fn what_the_body_takes_back_of_its_timeout_is_not_taken_back_twice() {
        sim(async {
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

    #[test]
    fn outside_of_a_task_it_is_an_error() {
        sim(async {
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

    #[test]
    fn delays_that_are_not_finite_are_refused() {
        sim(async {
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
}

mod wait_for {
    use super::*;
    use aioli_core::wait_for;

    #[test]
    fn cancelled_it_ends_with_the_cleanup_of_what_it_waits_for() {
        sim(async {
            let trace = Trace::new();
            let (turns, task) = cancel_after(3, &trace, wait_for(slow("c", &trace, 2, None), 10.0)).await?;
            assert_eq!((turns, state(&task).as_str()), (3, CANCELLED));
            assert_eq!(message(&task.await).as_deref(), Some("m"));
            assert_eq!(trace.take(), ["c:m+1", "c:done+3"]);

            let inner = slow("t", &trace, 2, None);
            let coroutine = async { wait_for(create_task(inner), 10.0).await };
            let (turns, task) = cancel_after(3, &trace, coroutine).await?;
            assert_eq!((turns, state(&task).as_str()), (4, CANCELLED));
            assert_eq!(trace.take(), ["t:m+1", "t:done+3"]);
            Ok(())
        });
    }

    #[test]
    fn a_shield_ends_it_at_once_and_the_task_runs_on() {
        sim(async {
            let trace = Trace::new();
            let inner = create_task(slow("i", &trace, 2, None));
            let protected = inner.view();
            let coroutine = async move { wait_for(shield(inner), 10.0).await };
            let (turns, task) = cancel_after(3, &trace, coroutine).await?;
            assert_eq!((turns, state(&task).as_str()), (1, CANCELLED));
            assert_eq!(message(&task.await).as_deref(), Some("m"));
            assert!(!protected.done() && protected.cancelling() == 0 && trace.take().is_empty());
            Ok(())
        });
    }

    #[test]
    fn it_waits_for_the_cleanup_after_the_deadline() {
        sim(async {
            let cleaning = async {
                let interrupted = hang().await;
                sleep(3.0).await?;
                interrupted
            };
            assert!(wait_for(cleaning, 1.0).await.unwrap_err().is_timeout());
            assert_eq!(seconds(), 4.0);
            let swallowing = async { Ok(if hang().await.is_err() { "swallowed" } else { "" }) };
            assert_eq!(wait_for(swallowing, 1.0).await?, "swallowed");
            let failing = async { hang().await.map_err(|_| Error::msg("in cleanup")) };
            assert_eq!(wait_for(failing, 1.0).await.unwrap_err().to_string(), "in cleanup");
            Ok(())
        });
    }

    #[test]
    fn a_cancellation_of_the_awaitable_itself_is_no_timeout() {
        sim(async {
            let result = wait_for(async { Err::<(), _>(Error::cancelled(Some("inner"))) }, 5.0).await;
            assert_eq!(message(&result).as_deref(), Some("inner"));
            Ok(())
        });
    }

    #[test]
    fn a_deadline_in_the_turn_of_the_result_wins() {
        sim(async {
            for shielded in [false, true] {
                let due = event_loop().time() + Duration::from_secs(1);
                let future = pending::<&str>();
                let setter = future.clone();
                event_loop().call_at(due, move || setter.set_result("value").unwrap())?;
                let late = if shielded {
                    wait_for(shield(future), 1.0).await
                } else {
                    wait_for(async { future.await }, 1.0).await
                };
                assert!(late.unwrap_err().is_timeout());
            }
            Ok(())
        });
    }

    #[test]
    fn too_late_for_a_future_it_cancels_it_and_takes_what_it_has() {
        sim(async {
            let future = pending::<()>();
            assert!(wait_for(&future, 0.0).await.unwrap_err().is_timeout());
            assert!(future.cancelled());
            let failed = pending::<()>();
            failed.set_exception(Error::msg("before"))?;
            assert_eq!(wait_for(failed, -1.0).await.unwrap_err().to_string(), "before");
            let task = create_task(async { hang().await.map_err(|_| Error::msg("in cleanup")) });
            pump(1).await?;
            assert_eq!(wait_for(task, 0.0).await.unwrap_err().to_string(), "in cleanup");
            Ok(())
        });
    }

    #[test]
    fn too_late_and_cancelled_it_is_a_cancellation() {
        sim(async {
            let trace = Trace::new();
            let inner = create_task(slow("t", &trace, 3, None));
            let view = inner.view();
            pump(1).await?;
            let (turns, task) = cancel_after(1, &trace, async move { wait_for(inner, 0.0).await }).await?;
            assert_eq!((turns, state(&task).as_str()), (1, CANCELLED));
            assert_eq!(view.cancelling(), 1, "the outer request goes to the wait, not to the task");
            pump(4).await?;
            assert!(view.cancelled());
            Ok(())
        });
    }
}

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

mod groups {
    use super::*;

    /// A worker that pumps `turns`, or waits for ever if that is `None`; then fails with `error`, if there is one. Cancelled, it
    /// takes `cleanup` turns.
    fn worker(
        trace: &Trace,
        name: &'static str,
        turns: Option<u32>,
        error: Option<&'static str>,
        cleanup: u32,
    ) -> impl StdFuture<Output = Result<()>> + use<> {
        let trace = trace.clone();
        async move {
            let waited = match turns {
                Some(turns) => pump(turns).await,
                None => hang().await,
            };
            if waited.is_err() {
                trace.log(format_args!("{name}:cancelled"));
                pump(cleanup).await?;
                return waited;
            }
            if let Some(error) = error {
                return fail(error).await;
            }
            trace.log(format_args!("{name}:ok"));
            Ok(())
        }
    }

    fn texts(error: &Error) -> Vec<String> {
        error.errors().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn errors_of_children_come_in_the_order_of_their_failure() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let task = create_task(task_group(async move |group| {
                group.create_task(worker(&t, "bad", Some(1), Some("v"), 0))?;
                group.create_task(worker(&t, "x", None, None, 2))?;
                group.create_task(worker(&t, "bad2", Some(1), Some("k"), 0))?;
                let interrupted = hang().await;
                t.log(format_args!("body cancelling {}", me().cancelling()));
                interrupted
            }));
            assert_eq!(until_done(&task, &Trace::new()).await?, 9);
            let error = task.exception()?.unwrap();
            assert_eq!((error.kind(), texts(&error)), (ErrorKind::Group, vec!["v".into(), "k".into()]));
            assert_eq!(trace.take(), ["x:cancelled", "body cancelling 1"]);
            assert_eq!(task.cancelling(), 0);
            Ok(())
        });
    }

    #[test]
    fn a_child_cancelled_by_itself_is_no_error() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let group = task_group(async move |group| {
                let child = group.create_task(worker(&t, "x", None, None, 0))?;
                soon(move || assert!(child.cancel(None)));
                group.create_task(worker(&t, "y", Some(3), None, 0))?;
                Ok("ok")
            });
            assert_eq!(ends(group, 0, |_| ()).await?, (r#"RESULT "ok""#.into(), 7));
            assert_eq!(trace.take(), ["x:cancelled", "y:ok"]);
            Ok(())
        });
    }

    #[test]
    fn a_request_in_the_body_or_the_exit_cancels_the_children_first() {
        sim(async {
            for in_body in [true, false] {
                let trace = Trace::new();
                let t = trace.clone();
                let task = create_task(task_group(async move |group| {
                    group.create_task(worker(&t, "x", None, None, 3))?;
                    if in_body { hang().await } else { Ok(()) }
                }));
                pump(2).await?;
                task.cancel(Some("ext"));
                let turns = until_done(&task, &Trace::new()).await?;
                assert_eq!((turns, state(&task).as_str()), (7, CANCELLED));
                assert_eq!(message(&task.await).as_deref(), Some("ext"));
                assert_eq!(trace.take(), ["x:cancelled"]);
            }
            Ok(())
        });
    }

    #[test]
    fn a_second_request_in_the_exit_changes_nothing_but_the_count() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let task =
                create_task(task_group(async move |group| group.create_task(worker(&t, "x", None, None, 3)).map(drop)));
            pump(2).await?;
            (task.cancel(Some("one")), task.cancel(Some("two")));
            assert_eq!(until_done(&task, &Trace::new()).await?, 7);
            assert_eq!(state(&task), "CANCELLED cancelling=2");
            assert_eq!(message(&task.await).as_deref(), Some("one"));
            Ok(())
        });
    }

    #[test]
    fn an_error_of_a_child_takes_the_place_of_a_request_from_outside() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let task = create_task(async move {
                let result = task_group(async move |group| {
                    let inside = group.clone();
                    group.create_task(worker(&t, "x", None, None, 0))?;
                    group.create_task(async move {
                        assert!(hang().await.is_err());
                        t.log(inside.create_task(ready(())).unwrap_err());
                        fail::<()>("child during cancel").await
                    })?;
                    hang().await
                })
                .await;
                assert_eq!(texts(&result.unwrap_err()), ["child during cancel"]);
                // The request from outside stands: the next await returns it.
                let next = hang().await;
                assert!(next.as_ref().is_err_and(Error::is_cancelled));
                next
            });
            pump(2).await?;
            task.cancel(Some("ext"));
            let turns = until_done(&task, &Trace::new()).await?;
            assert_eq!((turns, state(&task).as_str()), (5, CANCELLED));
            let lines = trace.take();
            assert_eq!(lines[0], "x:cancelled");
            assert!(lines[1].contains("shutting down"), "{lines:?}");
            Ok(())
        });
    }

    #[test]
    fn a_failed_body_cancels_what_never_started() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let task = create_task(task_group(async move |group| {
                group.create_task(worker(&t, "x", None, None, 0))?;
                fail::<()>("body").await
            }));
            assert_eq!(until_done(&task, &Trace::new()).await?, 4);
            assert_eq!(texts(&task.exception()?.unwrap()), ["body"]);
            assert!(trace.take().is_empty());
            Ok(())
        });
    }

    #[test]
    fn the_error_of_the_body_is_the_last() {
        sim(async {
            let failed = task_group(async |group| {
                group.create_task(async { hang().await.map_err(|_| Error::msg("child")) })?;
                sleep(0.0).await?;
                fail::<()>("body").await
            });
            assert_eq!(texts(&failed.await.unwrap_err()), ["child", "body"]);
            Ok(())
        });
    }

    #[test]
    fn a_body_that_cancels_itself_is_a_cancellation() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let task = create_task(task_group(async move |group| {
                group.create_task(worker(&t, "x", None, None, 0))?;
                Err::<(), _>(Error::cancelled(Some("own")))
            }));
            assert_eq!(until_done(&task, &Trace::new()).await?, 4);
            assert_eq!(state(&task), "CANCELLED");
            assert_eq!(message(&task.await).as_deref(), Some("own"));
            Ok(())
        });
    }

    #[test]
    fn children_may_spawn_while_the_parent_waits_but_not_afterwards() {
        sim(async {
            let trace = Trace::new();
            let (t, kept) = (trace.clone(), Rc::new(RefCell::new(None)));
            let keep = Rc::clone(&kept);
            let group = task_group(async move |group| {
                keep.replace(Some(group.clone()));
                let inside = group.clone();
                group
                    .create_task(async move {
                        pump(2).await?;
                        inside.create_task(worker(&t, "late", Some(1), None, 0))?;
                        t.log("spawned");
                        Ok(())
                    })
                    .map(drop)
            });
            assert_eq!(ends(group, 0, |_| ()).await?, ("RESULT ()".into(), 8));
            assert_eq!(trace.take(), ["spawned", "late:ok"]);
            let refused = kept.take().unwrap().create_task(ready(())).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Runtime);
            assert!(refused.to_string().contains("finished"));
            Ok(())
        });
    }

    #[test]
    fn after_a_failure_the_task_goes_on_uncancelled() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let coroutine = async move {
                let failed =
                    task_group(async |group| group.create_task(worker(&t, "b", Some(1), Some("1"), 0)).map(drop));
                assert!(failed.await.is_err());
                assert_eq!(me().cancelling(), 0);
                sleep(0.0).await.map(|()| "went on")
            };
            assert_eq!(ends(coroutine, 0, |_| ()).await?, (r#"RESULT "went on""#.into(), 6));
            Ok(())
        });
    }

    #[test]
    fn a_timeout_around_a_group_is_a_timeout() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let group = task_group(async move |group| group.create_task(worker(&t, "x", None, None, 1)).map(drop));
            assert_eq!(ends(timeout(0.0, group), 0, |_| ()).await?, ("EXC the deadline has passed".into(), 7));
            assert_eq!(trace.take(), ["x:cancelled"]);
            Ok(())
        });
    }

    #[test]
    fn a_timeout_around_a_group_whose_child_fails_is_a_group() {
        sim(async {
            let group = task_group(async |group| {
                group.create_task(async { hang().await.map_err(|_| Error::msg("x")) }).map(drop)
            });
            let task = create_task(timeout(0.0, group));
            assert_eq!(until_done(&task, &Trace::new()).await?, 6);
            assert_eq!(texts(&task.exception()?.unwrap()), ["x"]);
            assert_eq!(task.cancelling(), 0);
            Ok(())
        });
    }

    #[test]
    fn a_body_that_swallows_the_cancellation_goes_on() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let task = create_task(task_group(async move |group| {
                group.create_task(worker(&t, "b", Some(2), Some("1"), 0))?;
                assert!(hang().await.is_err());
                t.log("swallowed");
                pump(3).await?;
                t.log("body continues");
                Ok(())
            }));
            assert_eq!(until_done(&task, &Trace::new()).await?, 9);
            assert_eq!(texts(&task.exception()?.unwrap()), ["1"]);
            assert_eq!(trace.take(), ["swallowed", "body continues"]);
            Ok(())
        });
    }

    #[test]
    fn nested_groups_give_nested_errors() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let task = create_task(task_group(async move |group| {
                let inner = t.clone();
                group.create_task(task_group(async move |group| {
                    group.create_task(worker(&inner, "i", Some(1), Some("deep"), 0)).map(drop)
                }))?;
                group.create_task(worker(&t, "o", None, None, 0)).map(drop)
            }));
            assert_eq!(until_done(&task, &Trace::new()).await?, 10);
            let error = task.exception()?.unwrap();
            assert_eq!((error.errors().len(), texts(&error.errors()[0])), (1, vec!["deep".into()]));
            assert_eq!(trace.take(), ["o:cancelled"]);
            Ok(())
        });
    }

    #[test]
    fn an_error_and_a_request_in_one_turn_are_a_group() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let task = create_task(task_group(async move |group| {
                group.create_task(worker(&t, "b", Some(0), Some("v"), 0))?;
                pump(2).await?;
                let parent = me();
                soon(move || assert!(parent.cancel(Some("ext"))));
                hang().await
            }));
            let turns = until_done(&task, &Trace::new()).await?;
            assert_eq!((turns, texts(&task.exception()?.unwrap())), (3, vec!["v".into()]));
            Ok(())
        });
    }

    #[test]
    fn its_own_cancel_ends_it_without_an_error() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let left = cancellable_task_group(async move |group| {
                group.create_task(worker(&t, "x", None, None, 2))?;
                let inside = group.clone();
                group.create_task(async move {
                    pump(1).await?;
                    inside.cancel();
                    inside.cancel();
                    Ok(())
                })?;
                let interrupted = hang().await;
                t.log(format_args!("body cancelling {}", me().cancelling()));
                interrupted
            });
            assert_eq!(left.await?, None);
            assert_eq!(me().cancelling(), 0);
            assert_eq!(trace.take(), ["x:cancelled", "body cancelling 1"]);
            Ok(())
        });
    }

    #[test]
    fn its_own_cancel_leaves_a_value_that_the_body_has() {
        sim(async {
            let kept = cancellable_task_group(async |group| {
                group.create_task(hang())?;
                group.cancel();
                Ok("value")
            });
            assert_eq!(kept.await?, Some("value"));
            let last = cancellable_task_group(async |group| Ok(group)).await?.unwrap();
            last.cancel();
            Ok(())
        });
    }

    #[test]
    fn a_request_from_outside_after_its_own_cancel_is_a_cancellation() {
        sim(async {
            let group = cancellable_task_group(async |group| {
                group.create_task(async {
                    let interrupted = hang().await;
                    pump(3).await?;
                    interrupted
                })?;
                group.cancel();
                hang().await
            });
            let task = create_task(group);
            pump(3).await?;
            task.cancel(Some("ext"));
            until_done(&task, &Trace::new()).await?;
            assert_eq!(state(&task), CANCELLED);
            Ok(())
        });
    }

    #[test]
    fn an_eager_child_can_cancel_the_group_in_its_first_step() {
        sim(async {
            let group = cancellable_task_group(async |group| {
                let inside = group.clone();
                group.create_task_with(TaskBuilder::new().eager_start(true), async move {
                    inside.cancel();
                    sleep(1000.0).await
                })?;
                Ok(())
            });
            assert_eq!(group.await?, Some(()));
            assert_eq!(seconds(), 0.0);
            Ok(())
        });
    }

    #[test]
    fn eager_children_that_fail_do_so_one_turn_later() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let eager = TaskBuilder::new().eager_start(true);
            let failed = task_group(async move |group| {
                assert!(group.create_task_with(eager.clone(), fail::<()>("eager"))?.done());
                t.mark("body continues");
                group.create_task_with(eager, ready(()))?;
                let interrupted = hang().await;
                t.mark("cancelled");
                interrupted
            });
            assert_eq!(texts(&failed.await.unwrap_err()), ["eager"]);
            assert_eq!(trace.take(), ["body continues+0", "cancelled+2"]);
            Ok(())
        });
    }

    #[test]
    fn a_task_created_by_a_child_while_it_fails_is_cancelled() {
        sim(async {
            for eager in [false, true] {
                let trace = Trace::new();
                let t = trace.clone();
                let builder = TaskBuilder::new().eager_start(eager);
                let failed = task_group(async move |group| {
                    let inside = group.clone();
                    let third = builder.clone();
                    group.create_task_with(builder, async move {
                        inside.create_task_with(third, fail::<()>("third"))?;
                        let interrupted = pump(2).await;
                        t.log(if interrupted.is_err() { "cancelled" } else { "ran" });
                        interrupted
                    })?;
                    Ok(())
                });
                assert_eq!(texts(&failed.await.unwrap_err()), ["third"]);
                assert_eq!(trace.take(), ["cancelled"]);
            }
            Ok(())
        });
    }
}
