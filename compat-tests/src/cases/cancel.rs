//! The cancellation of tasks, turn by turn, as CPython does it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

cases! {
    ($) "cancel" in cancel as __cases_cancel;
    before_its_first_step_a_task_never_starts: "L3 CA1"
        = "test_tasks::BaseTaskTests::test_cancel_with_message_before_starting_task";
    a_task_that_waits_for_a_future_has_it_cancelled_at_once: "L3 CA2 CA0"
        = "test_tasks::BaseTaskTests::test_task_cancel_waiter_future";
    every_task_on_the_way_takes_a_turn: "L3 CA3";
    cancelling_oneself_takes_effect_at_the_next_suspension: "CA4"
        = "test_tasks::BaseTaskTests::test_cancel_current_task",
          "test_tasks::BaseTaskTests::test_cancel_at_end";
    what_is_done_cannot_be_cancelled: "CA0 FU2";
    of_two_requests_the_last_message_wins_before_the_start: "CA5";
    of_two_requests_the_last_message_wins_in_a_bare_yield: "CA5";
    of_two_requests_the_first_message_wins_while_waiting: "CA5";
    each_delivery_is_one_error_for_all_requests_made_till_then: "CA5 CA7" = "test_tasks::BaseTaskTests::test_cancelling";
    a_result_that_came_first_is_lost_to_a_request_before_the_wake_up: "CA6";
    a_sleep_that_ended_is_lost_to_a_request_before_the_wake_up: "CA6";
    a_result_that_comes_after_the_request_is_refused: "CA6 FU1";
    a_task_that_swallows_the_request_goes_on: "L3 CA7"
        = "test_tasks::BaseTaskTests::test_cancel_task_catching",
          "test_tasks::BaseTaskTests::test_cancel_task_ignoring";
    the_awaiter_of_one_that_swallows_is_not_cancelled: "CA8";
    awaiting_a_cancelled_task_cancels_the_awaiter_without_a_request: "CA9";
    a_task_may_end_as_cancelled_by_itself_and_tells_its_message_once: "CA9 FU8";
    a_request_that_is_taken_back_before_a_suspension_is_not_delivered: "CA7";
    one_of_two_requests_taken_back_leaves_one: "CA7";
    a_request_taken_back_lets_a_result_through_that_came_before_it: "CA7"
        = "test_tasks::BaseTaskTests::test_uncancel_resets_must_cancel";
    a_request_that_reached_a_future_is_delivered_though_it_was_taken_back: "CA7";
    a_second_request_interrupts_the_cleanup: "CA10";
    an_error_takes_the_place_of_the_cancellation: "CA11" = "test_tasks::BaseTaskTests::test_baseexception_during_cancel";
    cleanup_may_await_and_ends_before_the_task_does: "CA13 L3";
    a_cancelled_future_tells_its_message_every_time: "FU8" = "test_futures::BaseFutureTests::test_future_cancel_message_getter";
    a_cancelled_await_that_is_repeated_waits_again: "L3";
    awaiting_oneself_is_an_error: "FU9 L3" = "test_tasks::BaseTaskTests::test_task_awaits_on_itself";
    a_circle_of_tasks_is_cut_by_a_request: "L3";
    a_circle_through_gathers_is_cut_by_a_request: "L3";
    two_branches_that_lead_to_one_task_request_twice: "CA3 CA14";
    cancelling_a_wait_leaves_what_it_waits_for: "CA22" = "test_tasks::BaseTaskTests::test_yield_wait_does_not_shield_cancel";
    one_of_two_awaiters_cancels_the_future_for_both: "FU10";
    main_that_cancels_itself_ends_the_run_as_cancelled: "RN4";
    a_task_is_cancelled_by_its_future_handle_too: "CA0";
}

fn before_its_first_step_a_task_never_starts(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let inside = trace.clone();
        let task = create_task(async move {
            inside.log("started");
            hang().await
        });
        let callback = trace.clone();
        task.add_done_callback(move |task| callback.mark(format_args!("callback {}", task.cancelled())));
        trace.start();
        assert!(task.cancel(Some("m")));
        assert!(!task.cancelled());
        assert_eq!(state(&task), "PENDING cancelling=1");
        pump(1).await?;
        assert_eq!(state(&task), "CANCELLED cancelling=1");
        assert!(trace.take().is_empty());
        pump(1).await?;
        assert_eq!(trace.take(), ["callback true+2"]);
        assert_eq!(message(&(&task).await).as_deref(), Some("m"));
        Ok(())
    });
}

fn a_task_that_waits_for_a_future_has_it_cancelled_at_once(on: &Machine) {
    on.run(async {
        let (trace, future) = (Trace::new(), pending::<()>());
        let (inside, awaited) = (trace.clone(), future.clone());
        let task = create_task(async move {
            let result = awaited.await;
            inside.mark(message(&result).unwrap());
            result
        });
        pump(1).await?;
        trace.start();
        assert!(task.cancel(Some("msg")));
        assert!(future.cancelled());
        assert_eq!(state(&task), "PENDING cancelling=1");
        pump(3).await?;
        assert_eq!(trace.take(), ["msg+1"]);
        assert_eq!(state(&task), "CANCELLED cancelling=1");
        assert_eq!(message(&future.result()).as_deref(), Some("msg"));
        Ok(())
    });
}

fn every_task_on_the_way_takes_a_turn(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let (inner_trace, outer_trace) = (trace.clone(), trace.clone());
        let outer = create_task(async move {
            let inner = create_task(async move { hang().await.inspect_err(|_| inner_trace.mark("inner")) });
            let view = inner.view();
            let result = inner.await.inspect_err(|_| outer_trace.mark("outer"));
            assert_eq!(view.cancelling(), 1);
            result
        });
        pump(3).await?;
        trace.start();
        outer.cancel(Some("far"));
        pump(6).await?;
        assert_eq!(trace.take(), ["inner+1", "outer+2"]);
        assert_eq!(state(&outer), "CANCELLED cancelling=1");
        assert_eq!(message(&outer.await).as_deref(), Some("far"));
        Ok(())
    });
}

/// A task that cancels itself and goes on with `rest`: when it was done, how, and what awaiting it gives.
async fn cancel_self(
    rest: impl std::future::Future<Output = Result<&'static str>> + 'static,
) -> Result<(u64, String, String)> {
    let trace = Trace::new();
    let task = create_task(async move {
        me().cancel(Some("self"));
        rest.await
    });
    let turns = until_done(&task, &trace).await?;
    Ok((turns, state(&task), task.await.unwrap_err().to_string()))
}

fn cancelling_oneself_takes_effect_at_the_next_suspension(on: &Machine) {
    on.run(async {
        let cancelled = |turns| (turns, "CANCELLED cancelling=1".to_owned(), "cancelled: self".to_owned());
        assert_eq!(cancel_self(async { Ok("the value is lost") }).await?, cancelled(1));
        assert_eq!(cancel_self(async { done("v").await }).await?, cancelled(1));
        assert_eq!(cancel_self(async { sleep(0.0).await.map(|()| "v") }).await?, cancelled(2));
        assert_eq!(cancel_self(async { sleep(1.0).await.map(|()| "v") }).await?, cancelled(2));
        assert_eq!(cancel_self(async { hang().await.map(|()| "v") }).await?, cancelled(2));
        let own = cancel_self(async { Err(Error::cancelled(Some("own"))) }).await?;
        assert_eq!(own, (1, "CANCELLED cancelling=1".into(), "cancelled: own".into()));
        assert_eq!(cancel_self(fail("e")).await?, (1, "EXC e cancelling=1".into(), "e".into()));
        Ok(())
    });
}

fn what_is_done_cannot_be_cancelled(on: &Machine) {
    on.run(async {
        let task = create_task(sleep(0.0));
        (&task).await?;
        assert!(!task.cancel(None));
        assert_eq!(state(&task), "RESULT ()");
        let future = pending::<()>();
        assert!(future.cancel(None));
        assert!(!future.cancel(None));
        Ok(())
    });
}

fn of_two_requests_the_last_message_wins_before_the_start(on: &Machine) {
    on.run(async {
        let task = create_task(hang());
        task.cancel(Some("one"));
        task.cancel(Some("two"));
        assert_eq!(message(&(&task).await).as_deref(), Some("two"));
        assert_eq!(task.cancelling(), 2);
        Ok(())
    });
}

fn of_two_requests_the_last_message_wins_in_a_bare_yield(on: &Machine) {
    on.run(async {
        let task = create_task(pump(9));
        pump(1).await?;
        task.cancel(Some("one"));
        task.cancel(Some("two"));
        assert_eq!(message(&(&task).await).as_deref(), Some("two"));
        Ok(())
    });
}

fn of_two_requests_the_first_message_wins_while_waiting(on: &Machine) {
    on.run(async {
        for wait in [hang_boxed(), Box::pin(async { sleep(9.0).await })] {
            let task = create_task(wait);
            pump(1).await?;
            task.cancel(Some("one"));
            task.cancel(Some("two"));
            assert_eq!(message(&(&task).await).as_deref(), Some("one"));
            assert_eq!(task.cancelling(), 2);
        }
        Ok(())
    });
}

fn hang_boxed() -> std::pin::Pin<Box<dyn std::future::Future<Output = Result<()>>>> {
    Box::pin(hang())
}

fn each_delivery_is_one_error_for_all_requests_made_till_then(on: &Machine) {
    on.run(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&seen);
        let task = create_task(async move {
            for _ in 0..3 {
                let text = message(&hang().await).unwrap();
                log.borrow_mut().push(text);
            }
            Ok(())
        });
        pump(1).await?;
        task.cancel(Some("1"));
        task.cancel(Some("2"));
        pump(6).await?;
        assert_eq!(*seen.borrow(), ["1"]);
        assert_eq!(state(&task), "PENDING cancelling=2");
        task.cancel(Some("3"));
        pump(6).await?;
        task.cancel(Some("4"));
        pump(6).await?;
        assert_eq!(*seen.borrow(), ["1", "3", "4"]);
        assert_eq!(state(&task), "RESULT () cancelling=4");
        Ok(())
    });
}

fn a_result_that_came_first_is_lost_to_a_request_before_the_wake_up(on: &Machine) {
    on.run(async {
        let future = pending::<&str>();
        let awaited = future.clone();
        let task = create_task(async move { (&awaited).await });
        pump(1).await?;
        future.set_result("data")?;
        assert!(task.cancel(Some("late")));
        pump(3).await?;
        assert_eq!(state(&task), "CANCELLED cancelling=1");
        assert_eq!(message(&task.await).as_deref(), Some("late"));
        assert_eq!(future.result()?, "data");
        Ok(())
    });
}

fn a_sleep_that_ended_is_lost_to_a_request_before_the_wake_up(on: &Machine) {
    on.run(async {
        let task = create_task(sleep(1.0));
        let late = task.view();
        pump(1).await?;
        // The sleep's timer runs first in its turn, then this one; the task is queued by then.
        event_loop().call_at(Instant::from_nanos(1_000_000_000), move || assert!(late.cancel(Some("late"))))?;
        sleep(2.0).await?;
        assert_eq!(message(&task.await).as_deref(), Some("late"));
        Ok(())
    });
}

fn a_result_that_comes_after_the_request_is_refused(on: &Machine) {
    on.run(async {
        let future = pending::<()>();
        let task = create_task(future.clone());
        pump(1).await?;
        task.cancel(Some("x"));
        assert_eq!(future.set_result(()).unwrap_err().kind(), ErrorKind::InvalidState);
        pump(2).await?;
        assert_eq!(state(&task), "CANCELLED cancelling=1");
        Ok(())
    });
}

fn a_task_that_swallows_the_request_goes_on(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            assert!(hang().await.is_err());
            sleep(0.0).await?;
            Ok("alive")
        });
        pump(1).await?;
        task.cancel(None);
        pump(6).await?;
        assert_eq!(state(&task), r#"RESULT "alive" cancelling=1"#);
        assert_eq!((task.uncancel(), task.uncancel()), (0, 0));
        Ok(())
    });
}

fn the_awaiter_of_one_that_swallows_is_not_cancelled(on: &Machine) {
    on.run(async {
        let outer = create_task(async {
            let inner = create_task(async {
                assert!(hang().await.is_err());
                sleep(0.0).await?;
                Ok("alive")
            });
            sleep(0.0).await?;
            Ok(format!("got {}", inner.await?))
        });
        pump(3).await?;
        outer.cancel(None);
        pump(8).await?;
        assert_eq!(state(&outer), r#"RESULT "got alive" cancelling=1"#);
        Ok(())
    });
}

fn awaiting_a_cancelled_task_cancels_the_awaiter_without_a_request(on: &Machine) {
    on.run(async {
        let inner = create_task(hang());
        let view = inner.view();
        let outer = create_task(inner);
        pump(2).await?;
        view.cancel(Some("inner"));
        pump(4).await?;
        assert_eq!(state(&outer), "CANCELLED");
        assert_eq!(message(&outer.await).as_deref(), Some("inner"));
        Ok(())
    });
}

fn a_task_may_end_as_cancelled_by_itself_and_tells_its_message_once(on: &Machine) {
    on.run(async {
        let task = create_task(async { Err::<(), _>(Error::cancelled(Some("mine"))) });
        pump(2).await?;
        assert_eq!(task.cancelling(), 0);
        assert!(task.cancelled());
        assert_eq!(message(&(&task).await).as_deref(), Some("mine"));
        assert_eq!(message(&(&task).await), None);
        Ok(())
    });
}

fn a_request_that_is_taken_back_before_a_suspension_is_not_delivered(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            me().cancel(None);
            assert_eq!(me().uncancel(), 0);
            sleep(0.0).await?;
            done(()).await?;
            Ok("not cancelled")
        });
        pump(6).await?;
        assert_eq!(state(&task), r#"RESULT "not cancelled""#);
        Ok(())
    });
}

fn one_of_two_requests_taken_back_leaves_one(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            me().cancel(None);
            me().cancel(None);
            assert_eq!(me().uncancel(), 1);
            sleep(0.0).await
        });
        pump(6).await?;
        assert_eq!(state(&task), "CANCELLED cancelling=1");
        Ok(())
    });
}

fn a_request_taken_back_lets_a_result_through_that_came_before_it(on: &Machine) {
    on.run(async {
        let future = pending::<u32>();
        let task = create_task(future.clone());
        let yielding = create_task(pump(3));
        pump(1).await?;
        future.set_result(7)?;
        for victim in [task.view(), yielding.view()] {
            victim.cancel(Some("late"));
            assert_eq!(victim.uncancel(), 0);
        }
        pump(6).await?;
        assert_eq!(state(&task), "RESULT 7");
        assert_eq!(state(&yielding), "RESULT ()");
        Ok(())
    });
}

fn a_request_that_reached_a_future_is_delivered_though_it_was_taken_back(on: &Machine) {
    on.run(async {
        for wait in [hang_boxed(), Box::pin(async { sleep(9.0).await })] {
            let task = create_task(wait);
            pump(1).await?;
            task.cancel(Some("m"));
            assert_eq!(task.uncancel(), 0);
            pump(2).await?;
            assert_eq!(state(&task), "CANCELLED");
        }
        Ok(())
    });
}

fn a_second_request_interrupts_the_cleanup(on: &Machine) {
    on.run(async {
        let seen = Rc::new(Cell::new(0));
        let count = Rc::clone(&seen);
        let task = create_task(async move {
            let first = hang().await;
            hang().await.inspect_err(|_| count.set(2))?;
            first
        });
        pump(2).await?;
        task.cancel(None);
        pump(2).await?;
        assert_eq!(state(&task), "PENDING cancelling=1");
        task.cancel(None);
        pump(3).await?;
        assert_eq!((seen.get(), state(&task)), (2, "CANCELLED cancelling=2".into()));
        Ok(())
    });
}

fn an_error_takes_the_place_of_the_cancellation(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            hang().await.map_err(|_| Error::msg("during"))?;
            Ok(())
        });
        pump(2).await?;
        task.cancel(None);
        pump(3).await?;
        assert_eq!(state(&task), "EXC during cancelling=1");
        Ok(())
    });
}

fn cleanup_may_await_and_ends_before_the_task_does(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let inside = trace.clone();
        let coroutine = async move {
            let interrupted = sleep(100.0).await;
            pump(3).await?;
            inside.mark("cleaned up");
            interrupted
        };
        let (turns, task) = cancel_after(1, &trace, coroutine).await?;
        assert_eq!(turns, 4);
        assert_eq!(trace.take(), ["cleaned up+4"]);
        assert_eq!(message(&task.await).as_deref(), Some("m"));
        assert_eq!(seconds(), 0.0);
        Ok(())
    });
}

fn a_cancelled_future_tells_its_message_every_time(on: &Machine) {
    on.run(async {
        let future = pending::<()>();
        future.cancel(Some("fm"));
        for _ in 0..2 {
            assert_eq!(message(&future.result()).as_deref(), Some("fm"));
            assert_eq!(message(&future.exception()).as_deref(), Some("fm"));
            assert_eq!(message(&(&future).await).as_deref(), Some("fm"));
        }
        Ok(())
    });
}

fn a_cancelled_await_that_is_repeated_waits_again(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            let inner = create_task(async {
                assert!(hang().await.is_err());
                sleep(5.0).await?;
                Ok("second")
            });
            // The inner task swallows its request, so there is a value to wait for after all.
            let first = timeout(1.0, &inner).await;
            Ok((first?, seconds()))
        });
        assert_eq!(task.await?, ("second", 6.0));
        Ok(())
    });
}

fn awaiting_oneself_is_an_error(on: &Machine) {
    on.run(async {
        let slot: Rc<RefCell<Option<Task<()>>>> = Rc::default();
        let own = Rc::clone(&slot);
        let trace = Trace::new();
        let view = {
            let task = create_task(async move {
                let me = own.take().unwrap();
                me.await
            });
            let view = task.view();
            slot.replace(Some(task));
            view
        };
        while !view.done() {
            pump(1).await?;
        }
        assert_eq!(trace.turns(), 2);
        assert_eq!(view.exception()?.unwrap().kind(), ErrorKind::Runtime);
        Ok(())
    });
}

fn a_circle_of_tasks_is_cut_by_a_request(on: &Machine) {
    on.run(async {
        for length in [2, 3, 50] {
            let slots: Rc<RefCell<Vec<Option<Task<()>>>>> = Rc::default();
            let views: Vec<_> = (0..length)
                .map(|n| {
                    let slots = Rc::clone(&slots);
                    let task = create_task(async move {
                        let next = slots.borrow_mut()[(n + 1) % length].take().unwrap();
                        next.await
                    });
                    let view = task.view();
                    (view, task)
                })
                .collect();
            let (views, tasks): (Vec<_>, Vec<_>) = views.into_iter().unzip();
            *slots.borrow_mut() = tasks.into_iter().map(Some).collect();
            pump(2).await?;
            assert!(views.iter().all(|view| !view.done()));
            views[0].cancel(Some("cut"));
            assert!(views.iter().all(|view| view.cancelling() == 1));
            pump(length as u32 + 1).await?;
            assert!(views.iter().all(AnyTask::cancelled), "{length}: {views:?}");
        }
        Ok(())
    });
}

fn a_circle_through_gathers_is_cut_by_a_request(on: &Machine) {
    let seen = on.reports(async {
        let slot: Rc<RefCell<Option<Task<()>>>> = Rc::default();
        let later = Rc::clone(&slot);
        let one = create_task(async move {
            let other = later.take().unwrap();
            gather([other]).await.map(drop)
        });
        let first = one.view();
        let other = create_task(async move { gather((one, ready(1))).await.map(drop) });
        let second = other.view();
        slot.replace(Some(other));
        pump(3).await?;
        assert!(first.cancel(None));
        pump(8).await?;
        assert!(first.cancelled() && second.cancelled());
        Ok(())
    });
    assert_eq!(messages(&seen), ["gathering future exception was never retrieved"]);
}

fn two_branches_that_lead_to_one_task_request_twice(on: &Machine) {
    let seen = on.reports(async {
        let shared = create_task(hang());
        let view = shared.view();
        let future = ensure_future(shared)?;
        let waiters = [future.clone(), future].map(create_task);
        let [one, other] = waiters;
        let all = gather((one, other));
        pump(1).await?;
        assert!(all.cancel(Some("both")));
        assert_eq!(view.cancelling(), 2);
        pump(4).await?;
        assert!(view.cancelled() && all.done());
        Ok(())
    });
    assert_eq!(messages(&seen), ["gathering future exception was never retrieved"]);
}

fn cancelling_a_wait_leaves_what_it_waits_for(on: &Machine) {
    on.run(async {
        let (future, task) = (pending::<()>(), create_task(hang()));
        let (other, view) = (future.clone(), task.view());
        let one = create_task(async move { wait([future]).await.map(drop) });
        let two = create_task(async move { wait([task]).timeout(50.0).await.map(drop) });
        pump(2).await?;
        let trace = Trace::new();
        assert!(one.cancel(Some("m")) && two.cancel(None));
        assert_eq!(until_done(&one, &trace).await?, 1);
        assert_eq!((state(&one), state(&two)), ("CANCELLED cancelling=1".into(), "CANCELLED cancelling=1".into()));
        assert_eq!(message(&one.await).as_deref(), Some("m"));
        assert!(!other.done() && !view.done() && view.cancelling() == 0);
        Ok(())
    });
}

fn one_of_two_awaiters_cancels_the_future_for_both(on: &Machine) {
    on.run(async {
        let future = pending::<()>();
        let [one, other] = [future.clone(), future].map(create_task);
        pump(1).await?;
        one.cancel(Some("m"));
        pump(2).await?;
        assert_eq!(state(&one), "CANCELLED cancelling=1");
        assert_eq!(state(&other), "CANCELLED");
        assert_eq!(message(&other.await).as_deref(), Some("m"));
        Ok(())
    });
}

fn main_that_cancels_itself_ends_the_run_as_cancelled(on: &Machine) {
    let result = on.try_run(async {
        me().cancel(Some("enough"));
        sleep(0.0).await
    });
    assert_eq!(message(&result).as_deref(), Some("enough"));
}

fn a_task_is_cancelled_by_its_future_handle_too(on: &Machine) {
    on.run(async {
        let future = ensure_future(hang())?;
        pump(1).await?;
        assert!(future.cancel(Some("m")));
        assert!(!future.done(), "a request is not an end");
        pump(1).await?;
        assert!(future.cancelled());
        assert_eq!(future.set_result(()).unwrap_err().kind(), ErrorKind::Runtime);
        assert_eq!(future.set_exception(Error::msg("no")).unwrap_err().kind(), ErrorKind::Runtime);
        Ok(())
    });
}
