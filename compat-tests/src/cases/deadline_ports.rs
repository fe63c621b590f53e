//! CPython's tests of timeouts and `wait_for`, where they do not stand with the traces.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use aioli_core::*;

use super::support::*;
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "timeouts" in deadline_ports as __cases_deadline_ports;
    a_deadline_ends_its_body: "W1 W2"
        = "test_timeouts::TimeoutTests::test_timeout_basic",
          "test_timeouts::TimeoutTests::test_timeout_at_basic",
          "test_timeouts::TimeoutTests::test_waiter_cancelled";
    a_body_that_is_faster_is_left_alone: "W1 W2" = "test_timeouts::TimeoutTests::test_timeout_not_called";
    there_may_be_no_deadline: "W1"
        = "test_timeouts::TimeoutTests::test_timeout_disabled", "test_timeouts::TimeoutTests::test_timeout_at_disabled";
    a_deadline_in_the_cleanup_of_another: "W4 W5" = "test_timeouts::TimeoutTests::test_nested_timeout_in_finally";
    a_deadline_that_has_passed_cannot_be_moved: "W1" = "test_timeouts::TimeoutTests::test_timeout_expiring";
    wait_for_ends_what_is_too_slow: "W6 W7"
        = "test_waitfor::AsyncioWaitForTest::test_asyncio_wait_for_timeout",
          "test_waitfor::AsyncioWaitForTest::test_wait_for",
          "test_waitfor::AsyncioWaitForTest::test_wait_for_blocking";
    wait_for_gives_the_value_of_one_that_swallows: "W7"
        = "test_waitfor::AsyncioWaitForTest::test_wait_for_cancellation_race_condition",
          "test_waitfor::AsyncioWaitForTest::test_wait_for_cancel_suppressed";
    wait_for_without_time_waits_for_the_cleanup: "W6 W7"
        = "test_waitfor::AsyncioWaitForTest::test_wait_for_waits_for_task_cancellation_w_timeout_0";
    wait_for_gives_the_error_of_the_cleanup: "W7"
        = "test_waitfor::AsyncioWaitForTest::test_wait_for_reraises_exception_during_cancellation";
    wait_for_is_cancelled_though_its_task_has_ended: "CA6 CA13"
        = "test_waitfor::AsyncioWaitForTest::test_wait_for_issue86296";
    wait_for_without_time_leaves_what_is_shielded: "W6 SH2" = "test_waitfor::WaitForShieldTests::test_zero_timeout";
    wait_for_without_a_deadline_waits_for_what_is_shielded: "W6 SH1"
        = "test_waitfor::WaitForShieldTests::test_none_timeout";
    wait_for_ends_in_time_and_what_is_shielded_runs_on: "W7 SH2"
        = "test_waitfor::WaitForShieldTests::test_shielded_timeout";
    wait_for_takes_a_result_that_comes_in_time: "W6 W8"
        = "test_waitfor::AsyncioWaitForTest::test_wait_for_race_condition";
    an_error_before_the_deadline_is_returned: "W3"
        = "test_timeouts::TimeoutTests::test_foreign_exception_passed";
    who_waits_for_a_timeout_is_not_cancelled: "W2"
        = "test_timeouts::TimeoutTests::test_outer_task_is_not_cancelled";
    a_cancelled_task_is_cancelled_again_in_a_timeout: "W2"
        = "test_timeouts::TimeoutTests::test_cancel_in_timeout_after_cancellation";
    errors_of_a_group_are_no_timeout: "W3 TG4"
        = "test_timeouts::TimeoutTests::test_timeout_taskgroup";
}

fn a_deadline_ends_its_body(on: &Machine) {
    on.run(async {
        let deadline = Timeout::after(0.01);
        let cancelled = Rc::new(Cell::new(false));
        let seen = Rc::clone(&cancelled);
        let body = async move {
            let interrupted = sleep(10.0).await;
            seen.set(message(&interrupted).is_none());
            interrupted
        };
        assert!(deadline.run(body).await.unwrap_err().is_timeout());
        assert!(deadline.expired() && cancelled.get());
        assert_eq!(event_loop().time().as_nanos(), 10_000_000);

        let when = event_loop().time() + Duration::from_millis(10);
        let deadline = Timeout::at(Some(when));
        assert!(deadline.run(sleep(10.0)).await.unwrap_err().is_timeout());
        assert!(deadline.expired());
        assert_eq!((deadline.when(), event_loop().time()), (Some(when), when));
        assert!(timeout_at(when, hang()).await.unwrap_err().is_timeout());
        Ok(())
    });
}

fn a_body_that_is_faster_is_left_alone(on: &Machine) {
    on.run(async {
        let deadline = Timeout::after(10.0);
        assert_eq!(deadline.run(async { sleep(0.01).await.map(|()| 7) }).await?, 7);
        assert!(!deadline.expired() && deadline.when() > Some(event_loop().time()));
        // Its timer is gone.
        sleep(20.0).await
    });
}

fn there_may_be_no_deadline(on: &Machine) {
    on.run(async {
        let deadline = Timeout::at(None);
        deadline.run(sleep(0.01)).await?;
        assert!(!deadline.expired());
        assert_eq!(deadline.when(), None);
        Ok(())
    });
}

fn a_deadline_in_the_cleanup_of_another(on: &Machine) {
    on.run(async {
        let body = async {
            let interrupted = sleep(1.0).await;
            assert!(timeout(0.01, sleep(10.0)).await.unwrap_err().is_timeout());
            interrupted
        };
        assert!(timeout(0.01, body).await.unwrap_err().is_timeout());
        assert_eq!((event_loop().time().as_nanos(), me().cancelling()), (20_000_000, 0));
        Ok(())
    });
}

fn a_deadline_that_has_passed_cannot_be_moved(on: &Machine) {
    on.run(async {
        let deadline = Timeout::after(0.01);
        let inside = deadline.clone();
        let body = async move {
            assert!(sleep(1.0).await.unwrap_err().is_cancelled());
            let moved = inside.reschedule(Some(event_loop().time() + Duration::from_secs(1)));
            let error = moved.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Runtime);
            assert!(error.to_string().contains("expiring"), "{error}");
            Ok(())
        };
        deadline.run(body).await
    });
}

fn wait_for_ends_what_is_too_slow(on: &Machine) {
    on.run(async {
        let running = Rc::new(Cell::new(false));
        let inside = Rc::clone(&running);
        let slow = async move {
            inside.set(true);
            let slept = sleep(60.0).await;
            inside.set(false);
            slept.map(|()| "done")
        };
        let task = create_task(slow);
        assert!(wait_for(&task, 0.1).await.unwrap_err().is_timeout());
        assert!(task.done() && task.cancelled() && !running.get());
        assert_eq!(seconds(), 0.1);
        assert_eq!(wait_for(ready("done"), None::<f64>).await?, "done");
        Ok(())
    });
}

fn wait_for_gives_the_value_of_one_that_swallows(on: &Machine) {
    on.run(async {
        let swallowing = async {
            assert!(sleep(1.0).await.unwrap_err().is_cancelled());
            Ok(42)
        };
        assert_eq!(wait_for(swallowing, 0.01).await?, 42);
        assert_eq!(me().cancelling(), 0);
        Ok(())
    });
}

fn wait_for_without_time_waits_for_the_cleanup(on: &Machine) {
    on.run(async {
        let done = Rc::new(Cell::new(false));
        let inside = Rc::clone(&done);
        let task = create_task(async move {
            let interrupted = sleep(10.0).await;
            sleep(0.125).await?;
            inside.set(true);
            interrupted
        });
        sleep(0.125).await?;
        assert!(wait_for(task, 0.0).await.unwrap_err().is_timeout());
        assert!(done.get() && seconds() == 0.25);
        Ok(())
    });
}

fn wait_for_gives_the_error_of_the_cleanup(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            let _ = sleep(0.2).await;
            fail::<()>("foo").await
        });
        assert_eq!(wait_for(task, 0.1).await.unwrap_err().to_string(), "foo");
        Ok(())
    });
}

fn wait_for_is_cancelled_though_its_task_has_ended(on: &Machine) {
    on.run(async {
        let inner = Rc::new(create_task(ready("done")));
        let (waited, end) = (Rc::clone(&inner), Rc::new(Cell::new(false)));
        let reached = Rc::clone(&end);
        let task = create_task(async move {
            wait_for(&*waited, 100.0).await?;
            sleep(1.0).await?;
            reached.set(true);
            Ok(())
        });
        pump(1).await?;
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(inner.done() && !end.get());
        assert_eq!((&*inner).await?, "done");
        Ok(())
    });
}

fn wait_for_without_time_leaves_what_is_shielded(on: &Machine) {
    on.run(async {
        let task = create_task(async { sleep(0.01).await.map(|()| "done") });
        let view = task.view();
        let shielded = shield(task);
        assert!(wait_for(&shielded, 0.0).await.unwrap_err().is_timeout());
        assert!(!view.done() && shielded.cancelled());
        sleep(0.1).await?;
        assert!(view.done() && !view.cancelled());
        Ok(())
    });
}

fn wait_for_ends_in_time_and_what_is_shielded_runs_on(on: &Machine) {
    on.run(async {
        let task = Rc::new(create_task(async { sleep(0.1).await.map(|()| "done") }));
        let inner = Rc::clone(&task);
        let shielded = shield(async move { (&*inner).await });
        assert!(wait_for(shielded, 0.01).await.unwrap_err().is_timeout());
        assert!(!task.done() && task.cancelling() == 0 && seconds() == 0.01);
        assert_eq!((&*task).await?, "done");
        Ok(())
    });
}

fn wait_for_takes_a_result_that_comes_in_time(on: &Machine) {
    on.run(async {
        let future = pending();
        let setter = future.clone();
        let waiting = wait_for(future, 0.2);
        soon(move || setter.set_result("ok").unwrap());
        assert_eq!(waiting.await?, "ok");
        assert_eq!(seconds(), 0.0);
        Ok(())
    });
}

fn wait_for_without_a_deadline_waits_for_what_is_shielded(on: &Machine) {
    on.run(async {
        let task = create_task(async { sleep(0.1).await.map(|()| "done") });
        assert_eq!(wait_for(shield(task), None::<f64>).await?, "done");
        assert_eq!(seconds(), 0.1);
        Ok(())
    });
}

fn an_error_before_the_deadline_is_returned(on: &Machine) {
    on.run(async {
        let deadline = Timeout::after(0.01);
        assert_eq!(deadline.run(fail::<()>("key")).await.unwrap_err().to_string(), "key");
        assert!(!deadline.expired());
        Ok(())
    });
}

fn who_waits_for_a_timeout_is_not_cancelled(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            assert!(timeout(0.001, sleep(10.0)).await.unwrap_err().is_timeout());
            Ok(())
        });
        (&task).await?;
        assert!(!task.cancelled() && task.done());
        assert_eq!(task.cancelling(), 0);
        Ok(())
    });
}

fn a_cancelled_task_is_cancelled_again_in_a_timeout(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            me().cancel(None);
            assert!(sleep(1.0).await.unwrap_err().is_cancelled());
            let deadline = Timeout::after(1.0);
            let cleanup = async {
                me().cancel(None);
                sleep(2.0).await
            };
            assert!(deadline.run(cleanup).await.unwrap_err().is_cancelled());
            assert!(!deadline.expired());
            Ok(())
        });
        task.await?;
        assert_eq!(seconds(), 0.0);
        Ok(())
    });
}

fn errors_of_a_group_are_no_timeout(on: &Machine) {
    on.run(async {
        let group = task_group(async |group| {
            group.create_task(async {
                assert!(sleep(2.0).await.unwrap_err().is_cancelled());
                fail::<()>("cleanup").await
            })?;
            sleep(1.0).await
        });
        let error = timeout(0.01, group).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Group);
        assert_eq!(error.errors().iter().map(ToString::to_string).collect::<Vec<_>>(), ["cleanup"]);
        assert_eq!((seconds(), me().cancelling()), (0.01, 0));
        Ok(())
    });
}
