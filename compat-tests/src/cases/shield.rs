//! `shield`, turn by turn, as CPython does it.

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

cases! {
    ($) "shield" in shield as __cases_shield;
    the_waiter_is_cancelled_and_the_inner_task_ends: "CA15 SH2"
        = "test_tasks::BaseTaskTests::test_shield_cancel_outer",
          "test_tasks::BaseTaskTests::test_shield_effect";
    a_cancelled_inner_task_cancels_the_waiter: "CA15 SH1" = "test_tasks::BaseTaskTests::test_shield_cancel_inner";
    an_error_after_the_waiter_left_is_reported_once: "CA15 SH3";
    a_result_after_the_waiter_left_is_there_for_others: "SH2";
    what_is_done_is_returned_as_it_is: "SH1" = "test_tasks::BaseTaskTests::test_shield_shortcut";
    the_inner_end_reaches_the_waiter: "SH1"
        = "test_tasks::BaseTaskTests::test_shield_exception",
          "test_tasks::BaseTaskTests::test_shield_result";
}

fn the_waiter_is_cancelled_and_the_inner_task_ends(on: &Machine) {
    on.run(async {
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

fn a_cancelled_inner_task_cancels_the_waiter(on: &Machine) {
    on.run(async {
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

fn an_error_after_the_waiter_left_is_reported_once(on: &Machine) {
    let seen = on.reports(async {
        let inner = create_task(async { sleep(5.0).await.and(fail::<()>("lost").await) });
        for _ in 0..3 {
            assert!(wait_for(shield(&inner), 1.0).await.unwrap_err().is_timeout());
        }
        sleep(5.0).await
    });
    assert_eq!(messages(&seen), ["exception in shielded future"]);
    assert_eq!(seen[0].error.as_ref().unwrap().to_string(), "lost");
}

fn a_result_after_the_waiter_left_is_there_for_others(on: &Machine) {
    on.run(async {
        let inner = create_task(async { sleep(5.0).await.map(|()| "saved") });
        assert!(wait_for(shield(&inner), 1.0).await.unwrap_err().is_timeout());
        assert_eq!(inner.await?, "saved");
        Ok(())
    });
}

fn what_is_done_is_returned_as_it_is(on: &Machine) {
    on.run(async {
        let future = done(1);
        assert_eq!(shield(&future).result()?, 1);
        let failed = pending::<()>();
        failed.set_exception(Error::msg("e"))?;
        assert_eq!(shield(&failed).await.unwrap_err().to_string(), "e");
        failed.cancel(None);
        Ok(())
    });
}

fn the_inner_end_reaches_the_waiter(on: &Machine) {
    on.run(async {
        let inner = pending();
        let outer = shield(inner.clone());
        inner.set_result(42)?;
        assert_eq!(outer.await?, 42);
        assert_eq!(shield(fail::<()>("inner")).await.unwrap_err().to_string(), "inner");
        Ok(())
    });
}
