//! `wait_for`, turn by turn, as CPython does it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::wait_for;
use aioli_core::*;

cases! {
    ($) "timeouts" in wait_for as __cases_wait_for;
    cancelled_it_ends_with_the_cleanup_of_what_it_waits_for: "CA13"
        = "test_waitfor::AsyncioWaitForTest::test_cancel_wait_for",
          "test_waitfor::AsyncioWaitForTest::test_cancel_blocking_wait_for",
          "test_waitfor::AsyncioWaitForTest::test_asyncio_wait_for_cancelled";
    a_shield_ends_it_at_once_and_the_task_runs_on: "CA13 SH2";
    it_waits_for_the_cleanup_after_the_deadline: "W7"
        = "test_waitfor::AsyncioWaitForTest::test_wait_for_waits_for_task_cancellation";
    a_cancellation_of_the_awaitable_itself_is_no_timeout: "W9";
    a_deadline_in_the_turn_of_the_result_wins: "W8";
    too_late_for_a_future_it_cancels_it_and_takes_what_it_has: "W6"
        = "test_waitfor::AsyncioWaitForTest::test_wait_for_timeout_less_then_0_or_0_future_done";
    too_late_for_a_task_it_cancels_it: "W6"
        = "test_waitfor::AsyncioWaitForTest::test_wait_for_timeout_less_then_0_or_0";
    too_late_and_cancelled_it_is_a_cancellation: "W6";
}

fn cancelled_it_ends_with_the_cleanup_of_what_it_waits_for(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let (turns, task) = cancel_after(3, &trace, wait_for(slow("c", &trace, 2, None), 10.0)).await?;
        assert_eq!((turns, state(&task).as_str()), (3, CANCELLED));
        assert_eq!(message(&task.await).as_deref(), Some("m"));
        assert_eq!(trace.take(), ["c:m+1", "c:done+3"]);

        for limit in [Some(10.0), None] {
            let inner = create_task(slow("t", &trace, 2, None));
            let view = inner.view();
            let coroutine = async move { wait_for(inner, limit).await };
            let (turns, task) = cancel_after(3, &trace, coroutine).await?;
            assert_eq!((turns, state(&task).as_str()), (4, CANCELLED));
            assert_eq!(trace.take(), ["t:m+1", "t:done+3"]);
            assert!(view.cancelled());
        }
        Ok(())
    });
}

fn a_shield_ends_it_at_once_and_the_task_runs_on(on: &Machine) {
    on.run(async {
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

fn it_waits_for_the_cleanup_after_the_deadline(on: &Machine) {
    on.run(async {
        let cleaning = || async {
            let interrupted = hang().await;
            sleep(3.0).await?;
            interrupted
        };
        assert!(wait_for(cleaning(), 1.0).await.unwrap_err().is_timeout());
        assert_eq!(seconds(), 4.0);
        assert!(wait_for(create_task(cleaning()), 1.0).await.unwrap_err().is_timeout());
        assert_eq!(seconds(), 8.0);
        let swallowing = async { Ok(if hang().await.is_err() { "swallowed" } else { "" }) };
        assert_eq!(wait_for(swallowing, 1.0).await?, "swallowed");
        let failing = async { hang().await.map_err(|_| Error::msg("in cleanup")) };
        assert_eq!(wait_for(failing, 1.0).await.unwrap_err().to_string(), "in cleanup");
        Ok(())
    });
}

fn a_cancellation_of_the_awaitable_itself_is_no_timeout(on: &Machine) {
    on.run(async {
        let result = wait_for(async { Err::<(), _>(Error::cancelled(Some("inner"))) }, 5.0).await;
        assert_eq!(message(&result).as_deref(), Some("inner"));
        Ok(())
    });
}

fn a_deadline_in_the_turn_of_the_result_wins(on: &Machine) {
    on.run(async {
        for shielded in [false, true] {
            let due = event_loop().time() + Duration::from_secs(1);
            let future = pending::<&str>();
            let setter = future.clone();
            event_loop().call_at(due, move || setter.set_result("value").unwrap())?;
            let late = if shielded { wait_for(shield(future), 1.0).await } else { wait_for(future, 1.0).await };
            assert!(late.unwrap_err().is_timeout());
        }
        Ok(())
    });
}

fn too_late_for_a_future_it_cancels_it_and_takes_what_it_has(on: &Machine) {
    on.run(async {
        let future = pending::<()>();
        assert!(wait_for(&future, 0.0).await.unwrap_err().is_timeout());
        assert!(future.cancelled());
        let set = done("done");
        assert_eq!(wait_for(&set, 0.0).await?, "done");
        assert!(set.done() && !set.cancelled());
        let failed = pending::<()>();
        failed.set_exception(Error::msg("before"))?;
        assert_eq!(wait_for(failed, -1.0).await.unwrap_err().to_string(), "before");
        let task = create_task(async { hang().await.map_err(|_| Error::msg("in cleanup")) });
        pump(1).await?;
        assert_eq!(wait_for(task, 0.0).await.unwrap_err().to_string(), "in cleanup");
        Ok(())
    });
}

fn too_late_for_a_task_it_cancels_it(on: &Machine) {
    on.run(async {
        for limit in [0.0, -1.0] {
            let running = Rc::new(Cell::new(false));
            let inside = Rc::clone(&running);
            let task = create_task(async move {
                inside.set(true);
                let slept = sleep(10.0).await;
                inside.set(false);
                slept.map(|()| "done")
            });
            pump(1).await?;
            assert!(running.get());
            assert!(wait_for(&task, limit).await.unwrap_err().is_timeout());
            assert!(task.done() && task.cancelled() && !running.get());
        }
        Ok(())
    });
}

fn too_late_and_cancelled_it_is_a_cancellation(on: &Machine) {
    on.run(async {
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
