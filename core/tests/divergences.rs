//! What random programs did differently from CPython, each as the smallest case.

mod common;

use std::time::Duration;

use aioli_core::*;
use common::*;

/// A task that notes the turns in which `operation` began and ended.
fn timed<T: 'static>(operation: impl std::future::Future<Output = Result<T>> + 'static) -> Task<(u64, bool)> {
    create_task(async move {
        let began = turn();
        let failed = operation.await.is_err();
        Ok((turn() - began, failed))
    })
}

#[test]
fn a_wait_without_time_ends_behind_what_is_ready() {
    sim(async {
        let trace = Trace::new();
        let other = trace.clone();
        let waiting = create_task(async move {
            wait([pending::<()>()]).timeout(Duration::ZERO).await?;
            other.log("waited");
            Ok(())
        });
        let second = trace.clone();
        create_task(async move {
            // Its turn comes after the wait was armed, and yet its next step is before the timer.
            sleep(0.0).await?;
            sleep(0.0).await?;
            second.log("yielded twice");
            Ok(())
        });
        waiting.await?;
        assert_eq!(trace.take(), ["yielded twice", "waited"]);
        Ok(())
    });
}

#[test]
fn what_as_completed_gave_up_takes_no_turn_when_it_ends() {
    sim(async {
        let slow = create_task(async { pump(3).await });
        let completed = as_completed([&slow]).timeout(0.0);
        assert!(completed.next().await.unwrap().unwrap_err().is_timeout());
        let before = turn();
        sleep(1.0).await?;
        // Two more steps of the task, the timer, and the wake.
        assert_eq!((turn() - before, slow.done()), (4, true));
        Ok(())
    });
}

#[test]
fn a_late_wait_for_of_a_coroutine_waits_for_its_task() {
    sim(async {
        let late = timed(wait_for(async { Ok(()) }, 0.0));
        pump(1).await?;
        assert_eq!(all_tasks().len(), 3, "main, the one that waits, and the coroutine's");
        pump(3).await?;
        assert_eq!(late.result()?, (3, true));
        // A request that comes at once is one turn ahead of the task's own end.
        let cancelled = timed(timeout(0.0, wait_for(async { Ok(()) }, 0.0)));
        pump(5).await?;
        assert_eq!(cancelled.result()?, (2, true));
        Ok(())
    });
}

#[test]
fn a_shield_that_was_cancelled_takes_no_turn_when_the_inner_ends() {
    sim(async {
        let inner = create_task(async { pump(3).await });
        let outer = shield(&inner);
        outer.cancel(None);
        let before = turn();
        sleep(1.0).await?;
        // Four steps of the task, the timer, and the wake.
        assert_eq!((turn() - before, inner.done()), (6, true));
        Ok(())
    });
}

#[test]
fn what_is_gathered_twice_is_cancelled_twice() {
    sim(async {
        let child = create_task(async {
            assert!(hang().await.is_err());
            Ok(me().cancelling())
        });
        pump(1).await?;
        assert!(gather([&child, &child]).cancel(None));
        assert_eq!(child.await?, 2);
        Ok(())
    });
}

#[test]
fn a_cancelled_entry_of_gather_results_has_a_message_of_its_own() {
    sim(async {
        let child = create_task(hang());
        pump(1).await?;
        child.cancel(Some("lost"));
        let results = gather_results([&child]).await?;
        assert_eq!(results[0].as_ref().unwrap_err().cancel_message(), Some(""));
        assert_eq!(message(&(&child).await).as_deref(), Some("lost"));
        Ok(())
    });
}

#[test]
fn a_cancelled_task_gives_its_message_once() {
    sim(async {
        let task = create_task(async {
            me().cancel(Some("once"));
            sleep(0.0).await
        });
        pump(3).await?;
        assert_eq!(message(&(&task).await).as_deref(), Some("once"));
        assert_eq!(message(&(&task).await), None);
        // Unless the request took its value.
        let task = create_task(async { Ok(me().cancel(Some("kept"))) });
        pump(2).await?;
        assert_eq!(message(&(&task).await).as_deref(), Some("kept"));
        assert_eq!(message(&(&task).await).as_deref(), Some("kept"));
        Ok(())
    });
}

#[test]
fn a_cancelled_gather_has_the_message_of_its_last_argument() {
    sim(async {
        let first = create_task(async {
            let cancelled = hang().await;
            sleep(0.0).await?; // it ends last
            cancelled
        });
        let last = create_task(async { hang().await.or(Ok(())) });
        pump(1).await?;
        let all = gather_results([&first, &last]);
        all.cancel(Some("for the first"));
        assert_eq!(message(&all.await), None);
        Ok(())
    });
}

#[test]
fn a_request_that_finds_a_cancelled_gather_done_keeps_its_message() {
    sim(async {
        let future = pending::<()>();
        let inside = future.clone();
        let task = create_task(async move { gather([&inside]).await });
        pump(1).await?;
        future.cancel(Some("first"));
        task.cancel(None);
        assert_eq!(message(&task.await).as_deref(), Some("first"));
        Ok(())
    });
}

#[test]
fn the_last_message_counts_for_a_yield() {
    sim(async {
        let task = create_task(async { timeout(0.0, sleep(0.0)).await });
        pump(1).await?;
        // The timeout's own request has no message, and comes after this one.
        task.cancel(Some("early"));
        assert_eq!(message(&task.await), None);
        let task = create_task(sleep(0.0));
        create_task({
            let view = task.view();
            async move { Ok((view.cancel(Some("one")), view.cancel(Some("two")))) }
        });
        assert_eq!(message(&task.await).as_deref(), Some("two"));
        Ok(())
    });
}
