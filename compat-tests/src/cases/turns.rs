//! How many turns each operation takes, as measured on CPython.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

cases! {
    ($) "turns" in turns as __cases_turns;
    awaiting_what_is_done_takes_none: "L2 TA4 FU6";
    a_bare_yield_takes_one: "L2 L5 TA4" = "test_tasks::SleepTests::test_sleep_zero";
    a_task_starts_in_the_next_turn_and_its_awaiter_runs_one_later: "L2 TA1 TA2 TA4";
    a_future_set_in_the_next_turn_takes_two: "L2 TA2 TA4";
    gather_takes_three_or_none: "L2 TA4 GA5";
    wait_takes_two_or_three: "L2 TA4";
    wait_for_is_inline: "L2 TA4 W6";
    wait_for_too_late_takes_two_or_three: "L2 TA4 W6"
        = "test_waitfor::AsyncioWaitForTest::test_wait_for_timeout_less_then_0_or_0_coroutine_do_not_started",
          "test_waitfor::AsyncioWaitForTest::test_wait_for_timeout_less_then_0_or_0",
          "test_waitfor::AsyncioWaitForTest::test_wait_for_timeout_less_then_0_or_0_future_done";
    timeouts_take_none_one_or_two: "L2 TA4 W1"
        = "test_timeouts::TimeoutTests::test_timeout_zero",
          "test_timeouts::TimeoutTests::test_timeout_zero_sleep_zero",
          "test_timeouts::TimeoutTests::test_timeout_in_the_past_sleep_zero";
    task_groups_take_none_or_three: "L2 TA4";
    shield_takes_three_or_none: "L2 TA4 SH1";
    an_eager_task_that_does_not_suspend_takes_none: "L2 TA4 EA2";
    callbacks_run_in_the_order_of_their_registration: "L2 FU3"
        = "test_futures::BaseFutureDoneCallbackTests::test_callbacks_invoked_on_set_result";
}

/// The turns that awaiting `operation` takes, and its result.
async fn span<T>(operation: impl Future<Output = Result<T>>) -> (u64, Result<T>) {
    let before = turn();
    let result = operation.await;
    (turn() - before, result)
}

async fn turns<T>(operation: impl Future<Output = Result<T>>) -> u64 {
    span(operation).await.0
}

fn awaiting_what_is_done_takes_none(on: &Machine) {
    on.run(async {
        assert_eq!(turns(ready(1)).await, 0);
        assert_eq!(turns(done(1)).await, 0);
        let task = create_task(ready(1));
        sleep(0.0).await?;
        sleep(0.0).await?;
        assert_eq!(turns(task).await, 0);
        Ok(())
    });
}

fn a_bare_yield_takes_one(on: &Machine) {
    on.run(async {
        assert_eq!(turns(sleep(0.0)).await, 1);
        assert_eq!(turns(sleep(-1.0)).await, 1);
        let called = Rc::new(Cell::new(false));
        let call = Rc::clone(&called);
        soon(move || call.set(true));
        assert!(!called.get());
        sleep(0.0).await?;
        assert!(called.get(), "what was scheduled before comes before");
        Ok(())
    });
}

fn a_task_starts_in_the_next_turn_and_its_awaiter_runs_one_later(on: &Machine) {
    on.run(async {
        let before = turn();
        let task = create_task(async { Ok(turn()) });
        assert_eq!(task.await? - before, 1);
        assert_eq!(turns(async { create_task(ready(1)).await }).await, 2);
        Ok(())
    });
}

fn a_future_set_in_the_next_turn_takes_two(on: &Machine) {
    on.run(async {
        let set = async {
            let future = pending();
            let setter = future.clone();
            soon(move || setter.set_result(5).unwrap());
            future.await
        };
        assert!(matches!(span(set).await, (2, Ok(5))));
        let fail = async {
            let future = pending::<u32>();
            let setter = future.clone();
            soon(move || setter.set_exception(Error::msg("x")).unwrap());
            future.await
        };
        assert!(matches!(span(fail).await, (2, Err(_))));
        Ok(())
    });
}

fn gather_takes_three_or_none(on: &Machine) {
    on.run(async {
        assert_eq!(turns(async { gather(Vec::<Task<u32>>::new()).await }).await, 0);
        assert_eq!(turns(async { gather((done(1), done(2))).await }).await, 0);
        assert_eq!(turns(async { gather((ready(1), ready(2), ready(3))).await }).await, 3);
        assert_eq!(turns(async { gather([ready(1)]).await }).await, 3);
        assert_eq!(turns(async { gather((done(1), ready(2))).await }).await, 3);
        let failing = async { gather((fail::<u32>("v"), sleep(10.0))).await };
        assert!(matches!(span(failing).await, (3, Err(_))));
        Ok(())
    });
}

fn wait_takes_two_or_three(on: &Machine) {
    on.run(async {
        let tasks: Vec<_> = (0..3).map(|n| create_task(ready(n))).collect();
        assert_eq!(turns(wait(&tasks)).await, 3);
        assert_eq!(turns(wait([done(1), done(2)])).await, 2);
        let mixed = [done(1), pending()];
        let first = span(wait(&mixed).return_when(ReturnWhen::FirstCompleted)).await;
        assert_eq!((first.0, first.1?.0.len()), (2, 1));
        let none = span(wait([pending::<u32>()]).timeout(Duration::ZERO)).await;
        assert_eq!((none.0, none.1?.0.len()), (2, 0));
        Ok(())
    });
}

fn wait_for_is_inline(on: &Machine) {
    on.run(async {
        assert_eq!(turns(wait_for(ready(1), None::<f64>)).await, 0);
        assert_eq!(turns(wait_for(ready(1), 1.0)).await, 0);
        assert_eq!(turns(wait_for(done(1), 1.0)).await, 0);
        assert_eq!(turns(wait_for(done(1), 0.0)).await, 0);
        assert_eq!(turns(async { wait_for(create_task(ready(1)), 1.0).await }).await, 2);
        Ok(())
    });
}

fn wait_for_too_late_takes_two_or_three(on: &Machine) {
    on.run(async {
        let ran = Rc::new(Cell::new(false));
        let flag = Rc::clone(&ran);
        let setting = async move {
            flag.set(true);
            Ok(())
        };
        let late = span(wait_for(setting, 0.0)).await;
        assert!(late.0 == 3 && late.1.unwrap_err().is_timeout() && !ran.get());
        let late = span(wait_for(pending::<u32>(), 0.0)).await;
        assert!(late.0 == 2 && late.1.unwrap_err().is_timeout());
        let task = create_task(ready(7));
        let late = span(wait_for(task, 0.0)).await;
        assert!(late.0 == 3 && late.1.unwrap_err().is_timeout());
        let task = create_task(async { Ok(if sleep(10.0).await.is_err() { "swallowed" } else { "slept" }) });
        sleep(0.0).await?;
        let late = span(wait_for(&task, 0.0)).await;
        assert!(matches!(late, (3, Ok("swallowed"))));
        Ok(())
    });
}

fn timeouts_take_none_one_or_two(on: &Machine) {
    on.run(async {
        assert!(matches!(span(timeout(0.0, ready(1))).await, (0, Ok(1))));
        let late = span(timeout(0.0, sleep(0.0))).await;
        assert!(late.0 == 1 && late.1.unwrap_err().is_timeout());
        let late = span(timeout(-11.0, sleep(0.0))).await;
        assert!(late.0 == 1 && late.1.unwrap_err().is_timeout());
        let late = span(timeout(0.0, pending::<u32>())).await;
        assert!(late.0 == 2 && late.1.unwrap_err().is_timeout());
        let deadline = Timeout::after(10.0);
        let inside = deadline.clone();
        let past = async move {
            inside.reschedule(Some(get_running_loop()?.time() - Duration::from_secs(1)))?;
            pending::<u32>().await
        };
        let late = span(deadline.run(past)).await;
        assert!(late.0 == 2 && late.1.unwrap_err().is_timeout());
        assert_eq!(turns(Timeout::at(None).run(sleep(0.0))).await, 1);
        Ok(())
    });
}

fn task_groups_take_none_or_three(on: &Machine) {
    on.run(async {
        assert_eq!(turns(task_group(async |_| Ok(()))).await, 0);
        let spawn = |n: u32| {
            task_group(async move |group| {
                for value in 0..n {
                    group.create_task(ready(value))?;
                }
                Ok(())
            })
        };
        assert_eq!(turns(spawn(1)).await, 3);
        assert_eq!(turns(spawn(5)).await, 3);
        let body = |sleeps: u32| {
            task_group(async move |group| {
                group.create_task(ready(1))?;
                for _ in 0..sleeps {
                    sleep(0.0).await?;
                }
                Ok(())
            })
        };
        assert_eq!(turns(body(1)).await, 3);
        assert_eq!(turns(body(2)).await, 2);
        let in_exit = span(task_group(async |group| group.create_task(fail::<u32>("v")).map(drop))).await;
        assert!(in_exit.0 == 3 && in_exit.1.unwrap_err().kind() == ErrorKind::Group);
        let in_body = span(task_group(async |group| {
            group.create_task(fail::<u32>("v"))?;
            pending::<u32>().await
        }))
        .await;
        assert!(in_body.0 == 3 && in_body.1.unwrap_err().kind() == ErrorKind::Group);
        Ok(())
    });
}

fn shield_takes_three_or_none(on: &Machine) {
    on.run(async {
        assert_eq!(turns(async { shield(ready(1)).await }).await, 3);
        assert_eq!(turns(async { shield(done(1)).await }).await, 0);
        Ok(())
    });
}

fn an_eager_task_that_does_not_suspend_takes_none(on: &Machine) {
    on.run(async {
        let eager = async { TaskBuilder::new().eager_start(true).create_task(ready(1)).await };
        assert_eq!(turns(eager).await, 0);
        let task = TaskBuilder::new().eager_start(true).create_task(ready(1));
        assert_eq!(turns(wait([task])).await, 2);
        Ok(())
    });
}

fn callbacks_run_in_the_order_of_their_registration(on: &Machine) {
    on.run(async {
        let trace = Rc::new(RefCell::new(Vec::new()));
        let log = |text: String| {
            let trace = Rc::clone(&trace);
            move || trace.borrow_mut().push(text)
        };
        let future = pending::<()>();
        for n in 0..3 {
            let note = log(n.to_string());
            future.add_done_callback(move |_| note());
        }
        let tasks: Vec<_> = (0..2)
            .map(|n| {
                let (note, future) = (log(format!("w{n}")), future.clone());
                create_task(async move { (&future).await.map(|()| note()) })
            })
            .collect();
        sleep(0.0).await?;
        let note = log("late".into());
        future.add_done_callback(move |_| note());
        future.set_result(())?;
        let note = log("after-done".into());
        future.add_done_callback(move |_| note());
        log("sync".into())();
        soon(log("soon".into()));
        sleep(0.0).await?;
        assert_eq!(trace.take(), ["sync", "0", "1", "2", "w0", "w1", "late", "after-done", "soon"]);
        drop(tasks);
        Ok(())
    });
}
