//! Results in the order in which they come.

use std::cell::RefCell;
use std::future::Future as StdFuture;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::case::cases;
use crate::cases::support::{done, event_loop, hang, messages, pending, pump, ready, seconds, touch, turn};
use crate::machine::Machine;
use aioli_core::*;
use futures::{Stream, StreamExt};

cases! {
    ($) "as_completed" in as_completed as __cases_as_completed;
    it_takes_the_turns_that_it_takes_in_cpython: "L2 TA4 GA7";
    results_come_in_the_order_of_their_ends: "GA7" = "test_tasks::BaseTaskTests::test_as_completed";
    what_is_given_twice_counts_once: "GA7" = "test_tasks::BaseTaskTests::test_as_completed_duplicate_coroutines";
    references_clone_and_handles_take: "GA7";
    after_the_timeout_each_that_is_left_is_late: "GA7" = "test_tasks::BaseTaskTests::test_as_completed_with_timeout";
    a_timeout_that_is_not_needed_or_not_valid: "GA7" = "test_tasks::BaseTaskTests::test_as_completed_with_unused_timeout";
    handles_lead_to_what_has_completed: "GA7" = "test_tasks::BaseTaskTests::test_as_completed_same_tasks_in_as_out";
    a_timeout_ends_the_handles: "GA7" = "test_tasks::BaseTaskTests::test_as_completed_with_timeout";
    they_are_streams: "GA7";
    several_wait_at_once_and_are_served_in_the_order_in_which_they_came: "GA7"
        = "test_tasks::BaseTaskTests::test_as_completed_concurrent",
          "test_tasks::BaseTaskTests::test_as_completed_reverse_wait";
    cancelling_whoever_waits_leaves_the_children_and_loses_nothing: "CA22 GA7 L4";
    a_dropped_wait_passes_its_turn_on: "L6";
    a_wait_moves_to_another_task: "L6";
    iteration_is_resumed_after_a_break: "GA7" = "test_tasks::BaseTaskTests::test_as_completed_resume_iterator";
    dropping_it_leaves_everything_running_and_takes_the_callbacks_away: "L6 GA7";
    errors_that_nobody_takes_are_reported: "L8 X1";
    a_coroutine_that_the_closing_loop_leaves_pending_is_reported: "L8 L9 X2";
    a_future_of_another_loop_is_refused: "FU9";
    a_value_that_panics_in_its_clone_ends_the_task_that_asked: "L7";
    outside_of_a_loop_it_panics: "LP15";
    outside_of_a_task_it_cannot_wait: "L6";
}

async fn after(secs: u64) -> Result<u64> {
    sleep(Duration::from_secs(secs)).await.map(|()| secs)
}

/// The results and the turns in which they came, counted from now.
async fn all(completed: AsCompleted<u32>) -> Vec<(Result<u32, ErrorKind>, u64)> {
    let before = turn();
    let mut results = Vec::new();
    while let Some(result) = completed.next().await {
        results.push((result.map_err(|error| error.kind()), turn() - before));
    }
    results
}

const LATE: Result<u32, ErrorKind> = Err(ErrorKind::Timeout);

fn it_takes_the_turns_that_it_takes_in_cpython(on: &Machine) {
    on.run(async {
        assert_eq!(all(as_completed([ready(1)])).await, [(Ok(1), 3)]);
        assert_eq!(all(as_completed([done(2)])).await, [(Ok(2), 2)]);
        let fails = async { Err::<u32, _>(Error::value("v")) };
        assert_eq!(all(as_completed([fails])).await, [(Err(ErrorKind::Value), 3)]);
        let mixed = [create_task(ready(1)), create_task(ready(2))];
        let mixed: Vec<_> = mixed.iter().map(|task| ensure_future(task).unwrap()).chain([done(3)]).collect();
        assert_eq!(all(as_completed(mixed)).await, [(Ok(3), 2), (Ok(1), 2), (Ok(2), 2)]);
        assert_eq!(all(as_completed(Vec::<aioli_core::Future<u32>>::new())).await, []);
        Ok(())
    });
}

fn results_come_in_the_order_of_their_ends(on: &Machine) {
    on.run(async {
        let completed = as_completed([3, 1, 2].map(after));
        let mut seen = Vec::new();
        while let Some(secs) = completed.next().await {
            seen.push((secs?, seconds()));
        }
        assert_eq!(seen, [(1, 1.0), (2, 2.0), (3, 3.0)]);
        assert!(completed.next().await.is_none());
        Ok(())
    });
}

fn what_is_given_twice_counts_once(on: &Machine) {
    on.run(async {
        let future = pending();
        let completed = as_completed([future.clone(), future.clone(), done(1), future.clone()]);
        future.set_result(7)?;
        assert_eq!(all(completed).await, [(Ok(1), 2), (Ok(7), 2)]);
        Ok(())
    });
}

fn references_clone_and_handles_take(on: &Machine) {
    on.run(async {
        let task = create_task(async { Ok(String::from("cloned")) });
        assert_eq!(as_completed([&task]).next().await.unwrap()?, "cloned");
        assert_eq!(task.await?, "cloned");
        Ok(())
    });
}

fn after_the_timeout_each_that_is_left_is_late(on: &Machine) {
    on.run(async {
        let expected = [(Ok(2), 2), (LATE, 2), (LATE, 2)];
        assert_eq!(all(as_completed([done(2), pending(), pending()]).timeout(0.0)).await, expected);
        let completed = as_completed([1, 5, 9].map(after)).timeout(Duration::from_secs(2));
        assert_eq!(completed.next().await.unwrap()?, 1);
        assert!(completed.next().await.unwrap().unwrap_err().is_timeout());
        assert!(completed.next().await.unwrap().unwrap_err().is_timeout());
        assert!(completed.next().await.is_none());
        assert_eq!(event_loop().time().as_secs_f64(), 2.0);
        // The others run on.
        assert_eq!(all_tasks().len(), 3);
        sleep(8.0).await?;
        assert_eq!(all_tasks().len(), 1);
        Ok(())
    });
}

fn a_timeout_that_is_not_needed_or_not_valid(on: &Machine) {
    on.run(async {
        assert_eq!(all(as_completed([done(1)]).timeout(None::<Duration>)).await, [(Ok(1), 2)]);
        assert_eq!(all(as_completed([done(1), done(2)]).timeout(9.0)).await, [(Ok(1), 2), (Ok(2), 2)]);
        assert_eq!(all(as_completed([done(1), pending()]).timeout(f64::NAN)).await, [(Err(ErrorKind::Value), 0)]);
        // With all of them done the timer is gone, and where there are none there was none: the clock stands still while a thread
        // works.
        let completed = as_completed([done(1)]).timeout(9.0);
        let nothing = as_completed(Vec::<Future<u32>>::new()).timeout(9.0);
        assert_eq!(completed.next().await.unwrap()?, 1);
        to_thread(|| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(())
        })
        .await?;
        assert_eq!(event_loop().time(), Instant::default());
        drop((completed, nothing));
        Ok(())
    });
}

fn handles_lead_to_what_has_completed(on: &Machine) {
    on.run(async {
        let tasks = [3, 1].map(|secs| create_task(after(secs)));
        let handles = as_completed(&tasks).handles();
        let (position, handle) = handles.next().await.unwrap()?;
        assert_eq!((position, handle.done(), tasks[1].done(), tasks[0].done()), (1, true, true, false));
        assert!(handle.same(&ensure_future(&tasks[1])?));
        assert_eq!(handle.await?, 1);
        assert_eq!(handles.next().await.unwrap()?.0, 0);
        assert!(handles.next().await.is_none());
        // Positions count what was given twice where it came first.
        let (first, second) = (done(1), done(2));
        let twice = [&first, &first, &second];
        let positions: Vec<_> = as_completed(twice).handles().map(|handle| handle.unwrap().0).collect().await;
        assert_eq!(positions, [0, 2]);
        Ok(())
    });
}

fn a_timeout_ends_the_handles(on: &Machine) {
    on.run(async {
        let before = turn();
        let handles = as_completed([done(1), pending(), pending()]).timeout(0.0).handles();
        assert_eq!(handles.next().await.unwrap()?.1.result()?, 1);
        assert!(handles.next().await.unwrap().unwrap_err().is_timeout());
        assert_eq!(turn() - before, 2);
        assert!(handles.next().await.is_none());
        Ok(())
    });
}

fn they_are_streams(on: &Machine) {
    on.run(async {
        let stream = as_completed([2, 1].map(after));
        assert_eq!(stream.size_hint(), (2, Some(2)));
        let results: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert_eq!(results, [1, 2]);
        let mut stream = as_completed([ready(1)]);
        let next = StreamExt::next(&mut stream).await;
        assert_eq!((next.unwrap()?, StreamExt::next(&mut stream).await.is_none()), (1, true));
        assert_eq!(stream.size_hint(), (0, Some(0)));
        Ok(())
    });
}

fn several_wait_at_once_and_are_served_in_the_order_in_which_they_came(on: &Machine) {
    on.run(async {
        let completed = Rc::new(as_completed([2, 1].map(after)));
        let log = Rc::<RefCell<Vec<_>>>::default();
        let waiters: Vec<_> = ["first", "second", "third"]
            .map(|name| {
                let (completed, log) = (Rc::clone(&completed), Rc::clone(&log));
                create_task(async move {
                    let next = completed.next().await.transpose()?;
                    log.borrow_mut().push((name, next));
                    Ok(())
                })
            })
            .into();
        wait(waiters).await?;
        assert_eq!(*log.borrow(), [("third", None), ("first", Some(1)), ("second", Some(2))]);
        Ok(())
    });
}

fn cancelling_whoever_waits_leaves_the_children_and_loses_nothing(on: &Machine) {
    on.run(async {
        let (a, b) = (pending(), pending());
        let completed = Rc::new(as_completed([&a, &b]));
        let next = |completed: &Rc<AsCompleted<u32>>| {
            let completed = Rc::clone(completed);
            create_task(async move { completed.next().await.transpose() })
        };
        let (first, second) = (next(&completed), next(&completed));
        sleep(0.0).await?;
        a.set_result(1)?;
        sleep(0.0).await?;
        // The first one has been woken for the result, and leaves it to the second.
        first.cancel(None);
        assert_eq!(second.await?, Some(1));
        assert!(first.cancelled() && !b.done());
        // One that was not woken: its result is there for a later call.
        let third = next(&completed);
        sleep(0.0).await?;
        third.cancel(None);
        assert!(third.await.unwrap_err().is_cancelled());
        assert!(!b.done());
        b.set_result(2)?;
        assert_eq!(completed.next().await.unwrap()?, 2);
        assert!(completed.next().await.is_none());
        Ok(())
    });
}

fn a_dropped_wait_passes_its_turn_on(on: &Machine) {
    on.run(async {
        let future = pending();
        let completed = Rc::new(as_completed([&future, &pending()]));
        let mut dropped = Box::pin(completed.next());
        assert!(touch(dropped.as_mut()).await.is_pending());
        let other = Rc::clone(&completed);
        let second = create_task(async move { other.next().await.transpose() });
        sleep(0.0).await?;
        future.set_result(1)?;
        sleep(0.0).await?;
        assert!(!second.done());
        drop(dropped);
        assert_eq!(second.await?, Some(1));
        Ok(())
    });
}

fn a_wait_moves_to_another_task(on: &Machine) {
    on.run(async {
        let future = pending();
        let completed = as_completed([future.clone()]);
        let mut stream = Box::pin(completed);
        std::future::poll_fn(|cx| Poll::Ready(stream.as_mut().poll_next_unpin(cx).is_pending())).await;
        let task = create_task(async move { stream.next().await.transpose() });
        sleep(0.0).await?;
        future.set_result(3)?;
        assert_eq!(task.await?, Some(3));
        Ok(())
    });
}

fn iteration_is_resumed_after_a_break(on: &Machine) {
    on.run(async {
        let completed = as_completed([1, 2, 3].map(after));
        let mut seen = Vec::new();
        while let Some(secs) = completed.next().await {
            seen.push(secs?);
            if seen.len() == 1 {
                break;
            }
        }
        sleep(5.0).await?;
        while let Some(secs) = completed.next().await {
            seen.push(secs?);
        }
        assert_eq!(seen, [1, 2, 3]);
        Ok(())
    });
}

fn dropping_it_leaves_everything_running_and_takes_the_callbacks_away(on: &Machine) {
    on.run(async {
        let value = Rc::new(());
        let future = event_loop().create_future::<Rc<()>>();
        let task = create_task(after(1));
        let completed = as_completed([future.clone()]).timeout(60.0);
        drop(as_completed([&task]));
        drop(completed);
        future.set_result(Rc::clone(&value))?;
        assert_eq!(Rc::strong_count(&value), 2);
        drop(future);
        assert_eq!(Rc::strong_count(&value), 1);
        assert_eq!(task.await?, 1);
        Ok(())
    });
}

fn errors_that_nobody_takes_are_reported(on: &Machine) {
    on.run(async {
        let reports = Rc::<RefCell<Vec<_>>>::default();
        let log = Rc::clone(&reports);
        event_loop().set_exception_handler(Some(Box::new(move |report| log.borrow_mut().push(report.message.clone()))));
        let fails = || async { Err::<(), _>(Error::msg("lost")) };
        let completed = as_completed([fails(), fails()]);
        assert!(completed.next().await.unwrap().is_err());
        drop(completed);
        assert_eq!(*reports.borrow(), ["task exception was never retrieved"]);
        Ok(())
    });
}

fn a_coroutine_that_the_closing_loop_leaves_pending_is_reported(on: &Machine) {
    let reports = on.reports(async {
        create_task(async {
            let cancelled = hang().await;
            // Created while the runner leaves: nobody cancels it.
            drop(as_completed([hang()]));
            cancelled
        });
        pump(1).await
    });
    assert_eq!(messages(&reports), ["task was destroyed but it is pending"]);
    assert!(reports[0].location.unwrap().file().ends_with("as_completed.rs"));
}

fn a_future_of_another_loop_is_refused(on: &Machine) {
    let stranger = on.runner();
    let foreign = stranger.get_loop().create_future::<u32>();
    on.run(async move {
        let completed = as_completed([foreign, done(1)]);
        assert_eq!(completed.next().await.unwrap().unwrap_err().kind(), ErrorKind::Value);
        assert!(completed.next().await.is_none());
        Ok(())
    });
}

fn a_value_that_panics_in_its_clone_ends_the_task_that_asked(on: &Machine) {
    #[derive(Debug)]
    struct Fragile;
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            panic!("broken")
        }
    }
    on.run(async {
        let task = create_task(async { Ok(Fragile) });
        let completed = as_completed([&task]);
        let asking = create_task(async move { completed.next().await.unwrap().map(drop) });
        assert_eq!(asking.await.unwrap_err().kind(), ErrorKind::Panicked);
        task.await.map(drop)
    });
}

fn outside_of_a_loop_it_panics(_: &Machine) {
    let panic = std::panic::catch_unwind(|| drop(as_completed([ready(1)]))).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("no running event loop"));
}

fn outside_of_a_task_it_cannot_wait(on: &Machine) {
    on.run(async {
        let completed = as_completed([pending::<u32>()]);
        let (sender, result) = std::sync::mpsc::channel();
        event_loop().call_soon(move || {
            let polled = pin!(completed.next()).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            sender.send(matches!(polled, Poll::Ready(Some(Err(error))) if error.kind() == ErrorKind::Runtime)).unwrap();
        })?;
        sleep(0.0).await?;
        assert!(result.recv().unwrap());
        Ok(())
    });
}
