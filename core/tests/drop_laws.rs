//! Futures that are dropped, leaked or moved to another task, at any moment.

mod common;

use std::cell::RefCell;
use std::future::Future as StdFuture;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use aioli_core::*;
use common::*;

type Boxed<T> = Pin<Box<dyn StdFuture<Output = Result<T>>>>;

/// Boxes a coroutine and polls it once in the current task.
async fn begun<T>(coroutine: impl StdFuture<Output = Result<T>> + 'static) -> Boxed<T> {
    let mut boxed: Boxed<T> = Box::pin(coroutine);
    assert!(touch(boxed.as_mut()).await.is_pending());
    boxed
}

/// Moves a future that this task has polled to another one, and gives what comes of it there.
async fn moved<T: 'static>(future: Boxed<T>) -> Result<T> {
    create_task(future).await
}

/// Sleeps, and sees that no other timer fires meanwhile.
async fn quiet_for(time: f64) -> Result<()> {
    let turns = turn();
    sleep(time).await?;
    assert_eq!(turn() - turns, 2, "nothing but this sleep was scheduled");
    Ok(())
}

/// The requests of the current task and all its scopes, as other tasks see them.
fn counted() -> u32 {
    let view = me();
    TaskBuilder::new().eager_start(true).create_task(async move { Ok(view.cancelling()) }).take_result().unwrap()
}

/// Leaks a value, so that a leak checker finds it where leaks are meant to be.
fn leak<T>(value: T) {
    static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let leaked = std::ptr::from_mut(Box::leak(Box::new(value))).cast::<u8>();
    LEAKED.lock().unwrap().push(leaked.addr());
}

mod timeouts {
    use super::*;

    /// Begins a timeout of a second around something that waits for ever.
    async fn timed() -> Boxed<()> {
        begun(timeout(1.0, hang())).await
    }

    #[test]
    fn dropped_before_the_deadline_are_disarmed() {
        sim(async {
            drop(timed().await);
            quiet_for(2.0).await?;
            drop(timeout(1.0, hang()));
            drop(begun(wait_for(hang(), 1.0)).await);
            quiet_for(2.0).await?;
            assert_eq!(me().cancelling(), 0);
            Ok(())
        });
    }

    #[test]
    fn dropped_between_deadline_and_delivery_take_their_request_back() {
        sim(async {
            for wait in [true, false] {
                let task = create_task(async move {
                    let late = if wait { begun(wait_for(hang(), 1.0)).await } else { timed().await };
                    let gate = pending::<()>();
                    let opened = gate.clone();
                    let due = event_loop().time() + Duration::from_secs(1);
                    event_loop().call_at(due, move || opened.set_result(()).unwrap())?;
                    gate.await?;
                    // The deadline passed in the turn before; its request is not delivered yet.
                    assert_eq!(counted(), 1);
                    drop(late);
                    assert_eq!(counted(), 0);
                    sleep(1.0).await?;
                    pump(2).await
                });
                task.await?;
            }
            Ok(())
        });
    }

    #[test]
    fn dropped_during_the_cleanup_take_their_count_back() {
        sim(async {
            let deadline = Timeout::after(1.0);
            let inside = deadline.clone();
            let mut late = begun(async move {
                let cleaning = async {
                    assert!(hang().await.is_err());
                    sleep(50.0).await
                };
                inside.run(cleaning).await
            })
            .await;
            sleep(2.0).await?;
            assert!(touch(late.as_mut()).await.is_pending());
            assert_eq!((counted(), me().cancelling()), (1, 0));
            drop(late);
            assert_eq!(counted(), 0);
            assert_eq!(deadline.reschedule(None).unwrap_err().kind(), ErrorKind::Runtime);
            quiet_for(60.0).await
        });
    }

    #[test]
    fn leaked_leave_a_count_at_most() {
        sim(async {
            let task = create_task(async {
                leak(timed().await);
                sleep(2.0).await?;
                leak(begun(timeout(9.0, sleep(1.0))).await);
                pump(2).await
            });
            task.await?;
            leak(begun(wait_for(sleep(1.0), 2.0)).await);
            sleep(5.0).await
        });
    }

    #[test]
    fn move_before_the_deadline() {
        sim(async {
            let late = moved(begun(timeout(1.0, sleep(9.0))).await).await;
            assert!(late.unwrap_err().is_timeout());
            assert_eq!((seconds(), counted()), (1.0, 0));
            let early = moved(begun(wait_for(async { sleep(1.0).await.map(|()| 7) }, 5.0)).await).await;
            assert_eq!((early?, seconds()), (7, 2.0));
            quiet_for(9.0).await
        });
    }

    #[test]
    fn move_between_deadline_and_delivery() {
        sim(async {
            let late = timed().await;
            let gate = pending::<()>();
            let opened = gate.clone();
            event_loop().call_at(Instant::from_nanos(1_000_000_000), move || opened.set_result(()).unwrap())?;
            let other = create_task(async move {
                gate.await?;
                let view = me();
                let result = late.await;
                assert_eq!(view.cancelling(), 0);
                result
            });
            let (done, _) = wait([&other]).timeout(50.0).await?;
            assert_eq!((done.len(), seconds()), (1, 1.0));
            assert!(other.await.unwrap_err().is_timeout());
            assert_eq!(counted(), 0, "it took its count along");
            Ok(())
        });
    }

    #[test]
    fn move_with_inner_scopes_and_cleanup() {
        sim(async {
            let mut late = begun(timeout(1.0, async {
                let interrupted = timeout(50.0, hang()).await;
                timeout(50.0, sleep(3.0)).await?;
                interrupted
            }))
            .await;
            sleep(2.0).await?;
            assert!(touch(late.as_mut()).await.is_pending());
            let other = create_task(late);
            pump(2).await?;
            assert_eq!((counted(), other.cancelling()), (0, 1));
            assert!(other.await.unwrap_err().is_timeout());
            assert_eq!(seconds(), 5.0);
            Ok(())
        });
    }

    #[test]
    fn move_and_are_cancelled_with_their_new_task() {
        sim(async {
            let other = create_task(begun(timeout(50.0, sleep(40.0))).await);
            pump(1).await?;
            other.cancel(Some("m"));
            assert_eq!(message(&other.await).as_deref(), Some("m"));
            quiet_for(99.0).await
        });
    }

    #[test]
    fn are_no_longer_cancelled_with_the_task_before() {
        sim(async {
            let slot: Rc<RefCell<Option<Boxed<()>>>> = Rc::default();
            let keep = Rc::clone(&slot);
            let before = create_task(async move {
                keep.replace(Some(begun(timeout(50.0, sleep(5.0))).await));
                hang().await
            });
            pump(2).await?;
            let after = create_task(slot.take().unwrap());
            pump(1).await?;
            before.cancel(None);
            after.await?;
            assert!(before.cancelled() && seconds() == 5.0);
            Ok(())
        });
    }

    #[test]
    fn outlive_their_loop_without_harm() {
        let left: Rc<RefCell<Vec<Boxed<()>>>> = Rc::default();
        let keep = Rc::clone(&left);
        sim(async move {
            for wait in [begun(timeout(50.0, hang())).await, begun(sleep(50.0)).await] {
                keep.borrow_mut().push(wait);
            }
            let waited = async { wait([pending::<()>()]).timeout(50.0).await.map(drop) };
            let waiting = begun(waited).await;
            keep.borrow_mut().push(waiting);
            Ok(())
        });
        let again = Rc::clone(&left);
        sim(async move {
            // Timers of this loop have the same keys as those of the loop before.
            let sleepers: Vec<_> = (0..4).map(|_| create_task(sleep(10.0))).collect();
            let timed: Vec<_> = (0..4).map(|_| create_task(timeout(10.0, hang()))).collect();
            pump(1).await?;
            for future in again.take() {
                drop(future);
            }
            let (done, left) = wait(&sleepers).timeout(20.0).await?;
            assert_eq!((done.len(), left.len(), seconds()), (4, 0, 10.0));
            let (done, _) = wait(&timed).timeout(20.0).await?;
            assert_eq!((done.len(), seconds()), (4, 10.0));
            assert!(timed.iter().all(|task| task.result().is_err()));
            Ok(())
        });
    }

    #[test]
    fn polled_on_another_loop_are_errors_and_disturb_nobody() {
        let left: Rc<RefCell<Option<Boxed<()>>>> = Rc::default();
        let keep = Rc::clone(&left);
        sim(async move {
            keep.replace(Some(begun(sleep(50.0)).await));
            Ok(())
        });
        sim(async move {
            let sleeper = create_task(sleep(10.0));
            pump(1).await?;
            assert_eq!(left.take().unwrap().await.unwrap_err().kind(), ErrorKind::Runtime);
            sleeper.await?;
            assert_eq!(seconds(), 10.0);
            Ok(())
        });
    }
}

mod awaits {
    use super::*;

    #[test]
    fn of_tasks_and_futures_go_and_what_they_waited_for_runs_on() {
        sim(async {
            let (task, future) = (create_task(async { sleep(5.0).await.map(|()| 1) }), pending::<u32>());
            let (other, setter) = (task.view(), future.clone());
            drop(begun(task).await);
            drop(begun(future).await);
            drop(begun(shield(setter.clone())).await);
            drop(begun(gather([setter.clone()])).await);
            let waits = setter.clone();
            drop(begun(async move { wait([waits]).await.map(drop) }).await);
            assert!(!other.done() && other.cancelling() == 0 && !setter.done());
            setter.set_result(3)?;
            let turns = turn();
            sleep(9.0).await?;
            assert!(other.done() && !other.cancelled());
            assert!(turn() - turns < 9);
            Ok(())
        });
    }

    #[test]
    fn dropped_after_the_result_came_leave_it_where_it_is() {
        sim(async {
            let future = pending::<u32>();
            let waiting = begun(future.clone()).await;
            future.set_result(5)?;
            drop(waiting);
            assert_eq!(future.await?, 5);
            Ok(())
        });
    }

    #[test]
    fn dropped_after_a_request_reached_them_leave_it_open() {
        sim(async {
            let task = create_task(async {
                let waiting = begun(hang()).await;
                let gate = pending::<()>();
                let opened = gate.clone();
                let me_ = me();
                soon(move || {
                    opened.set_result(()).unwrap();
                    me_.cancel(Some("m"));
                });
                // The gate was open before the request: it is lost to it.
                assert_eq!(message(&gate.await).as_deref(), Some("m"));
                drop(waiting);
                sleep(1.0).await
            });
            task.await
        });
    }

    #[test]
    fn leaked_do_no_harm() {
        sim(async {
            let (future, task) = (pending::<u32>(), create_task(async { sleep(1.0).await.map(|()| 2) }));
            let view = task.view();
            let leaking = future.clone();
            let leaker = create_task(async move {
                leak(begun(leaking.clone()).await);
                leak(begun(sleep(1.0)).await);
                leak(begun(async move { wait([leaking]).await.map(drop) }).await);
                leak(begun(task).await);
                sleep(2.0).await.map(|()| "ended")
            });
            pump(2).await?;
            future.set_result(1)?;
            assert_eq!(leaker.await?, "ended");
            assert!(view.done());
            Ok(())
        });
    }

    #[test]
    fn leaked_in_a_cancelled_task_do_no_harm() {
        sim(async {
            let future = pending::<u32>();
            let leaking = future.clone();
            let leaker = create_task(async move {
                leak(begun(leaking).await);
                leak(begun(sleep(5.0)).await);
                sleep(2.0).await
            });
            pump(2).await?;
            leaker.cancel(Some("m"));
            assert_eq!(message(&leaker.await).as_deref(), Some("m"));
            assert!(future.cancelled(), "the request reached the leaked await too");
            sleep(9.0).await
        });
    }

    #[test]
    fn move_to_another_task_with_what_they_wait_for() {
        sim(async {
            let future = pending::<u32>();
            let (waiting, slept) = (begun(future.clone()).await, begun(sleep(2.0)).await);
            let several = future.clone();
            let waits = begun(async move { wait([several]).timeout(9.0).await.map(|(done, _)| done.len()) }).await;
            let tasks = [create_task(waiting), create_task(async move { slept.await.map(|()| 0) })];
            let waits = create_task(waits);
            pump(2).await?;
            future.set_result(5)?;
            pump(3).await?;
            assert_eq!((state(&tasks[0]), state(&waits)), ("RESULT 5".into(), "RESULT 1".into()));
            sleep(1.999).await?;
            assert!(!tasks[1].done());
            sleep(0.002).await?;
            assert!(tasks[1].done(), "a sleep keeps its deadline");
            Ok(())
        });
    }

    #[test]
    fn that_ended_before_they_moved_end_there() {
        sim(async {
            let future = pending::<u32>();
            let (waiting, slept) = (begun(future.clone()).await, begun(sleep(1.0)).await);
            let yielding = begun(sleep(0.0)).await;
            future.set_result(5)?;
            sleep(2.0).await?;
            let before = seconds();
            assert_eq!(moved(waiting).await?, 5);
            moved(slept).await?;
            moved(yielding).await?;
            assert_eq!(seconds(), before);
            Ok(())
        });
    }

    #[test]
    fn that_moved_are_cancelled_with_their_new_task_only() {
        sim(async {
            let futures = [pending::<()>(), pending::<()>()];
            let [one, other] = futures.clone();
            let slot: Rc<RefCell<Vec<Boxed<()>>>> = Rc::default();
            let keep = Rc::clone(&slot);
            let before = create_task(async move {
                for future in [begun(one).await, begun(other).await, begun(sleep(9.0)).await] {
                    keep.borrow_mut().push(future);
                }
                hang().await
            });
            pump(2).await?;
            let moved: Vec<_> = slot.take().into_iter().map(create_task).collect();
            pump(1).await?;
            before.cancel(None);
            pump(3).await?;
            assert!(before.cancelled() && moved.iter().all(|task| !task.done()));
            futures[1].set_result(())?;
            moved[0].cancel(None);
            moved[2].cancel(None);
            pump(2).await?;
            assert!(futures[0].cancelled() && moved[0].cancelled() && moved[2].cancelled());
            assert_eq!(state(&moved[1]), "RESULT ()");
            Ok(())
        });
    }

    #[test]
    fn that_moved_between_request_and_delivery_leave_the_request_with_the_task() {
        sim(async {
            let slot: Rc<RefCell<Option<Boxed<()>>>> = Rc::default();
            let keep = Rc::clone(&slot);
            let before = create_task(async move {
                keep.replace(Some(begun(sleep(5.0)).await));
                hang().await
            });
            pump(2).await?;
            before.cancel(Some("m"));
            let after = create_task(slot.take().unwrap());
            assert_eq!(message(&before.await).as_deref(), Some("m"));
            assert_eq!(after.cancelling(), 0);
            after.await?;
            assert_eq!(seconds(), 5.0);
            Ok(())
        });
    }
}

mod groups {
    use super::*;

    /// Begins a group with a child that waits for ever and takes a second for its cleanup.
    async fn group(trace: &Trace, body: impl StdFuture<Output = Result<()>> + 'static) -> Boxed<()> {
        let trace = trace.clone();
        let group = begun(task_group(async move |group| {
            group.create_task(async move {
                let interrupted = hang().await;
                sleep(1.0).await?;
                trace.log(format_args!("child cancelled {}", me().cancelling()));
                interrupted
            })?;
            body.await
        }))
        .await;
        pump(1).await.unwrap();
        group
    }

    #[test]
    fn dropped_in_the_body_cancel_their_children_which_run_to_their_end() {
        sim(async {
            let trace = Trace::new();
            drop(group(&trace, hang()).await);
            assert!(trace.take().is_empty());
            sleep(2.0).await?;
            assert_eq!(trace.take(), ["child cancelled 1"]);
            assert_eq!(counted(), 0);
            Ok(())
        });
    }

    #[test]
    fn dropped_in_the_exit_cancel_their_children() {
        sim(async {
            let trace = Trace::new();
            drop(group(&trace, ready(())).await);
            sleep(2.0).await?;
            assert_eq!(trace.take(), ["child cancelled 1"]);
            Ok(())
        });
    }

    #[test]
    fn dropped_while_they_cancel_themselves_take_their_request_back() {
        sim(async {
            let mut failing = begun(task_group(async |group| {
                group.create_task(fail::<()>("child"))?;
                let cleaning = hang().await;
                sleep(9.0).await?;
                cleaning
            }))
            .await;
            pump(3).await?;
            assert_eq!(counted(), 1);
            assert!(touch(failing.as_mut()).await.is_pending());
            drop(failing);
            assert_eq!(counted(), 0);
            quiet_for(20.0).await
        });
    }

    #[test]
    fn that_were_dropped_take_no_more_tasks() {
        sim(async {
            let slot: Rc<RefCell<Option<TaskGroup>>> = Rc::default();
            let keep = Rc::clone(&slot);
            drop(
                begun(task_group(async move |group| {
                    keep.replace(Some(group));
                    hang().await
                }))
                .await,
            );
            let group = slot.take().unwrap();
            assert_eq!(group.create_task(hang()).unwrap_err().kind(), ErrorKind::Runtime);
            group.cancel();
            Ok(())
        });
    }

    #[test]
    fn never_polled_do_nothing() {
        sim(async {
            drop(task_group(async |_| -> Result<()> { unreachable!("it was not polled") }));
            Ok(())
        });
    }

    #[test]
    fn leaked_leave_their_children_alone() {
        sim(async {
            let trace = Trace::new();
            leak(group(&trace, hang()).await);
            sleep(2.0).await?;
            assert!(trace.take().is_empty());
            Ok(())
        });
    }

    #[test]
    fn move_to_another_task_in_the_body_and_in_the_exit() {
        sim(async {
            for in_body in [true, false] {
                let body = async move {
                    match in_body {
                        true => hang().await,
                        false => Ok(()),
                    }
                };
                let trace = Trace::new();
                let other = create_task(group(&trace, body).await);
                pump(2).await?;
                assert!(!other.done());
                other.cancel(Some("m"));
                assert_eq!(message(&other.await).as_deref(), Some("m"));
                assert_eq!(trace.take(), ["child cancelled 1"]);
            }
            Ok(())
        });
    }

    #[test]
    fn that_moved_are_told_of_failures_there() {
        sim(async {
            let gate = pending::<()>();
            let opened = gate.clone();
            let failing = begun(task_group(async move |group| {
                group.create_task(async move {
                    gate.await?;
                    fail::<()>("child").await
                })?;
                hang().await
            }))
            .await;
            let other = create_task(failing);
            pump(2).await?;
            opened.set_result(())?;
            let error = other.await.unwrap_err();
            assert_eq!((error.kind(), error.errors().len()), (ErrorKind::Group, 1));
            assert_eq!(counted(), 0);
            Ok(())
        });
    }
}

mod handles {
    use super::*;

    #[test]
    fn of_shields_and_gathers_of_what_never_ends_are_freed_with_the_loop() {
        // The leak checker sees whether they are.
        let weak = sim(async {
            let value = Rc::new(());
            let weak = Rc::downgrade(&value);
            let future = pending::<()>();
            future.add_done_callback(move |_| drop(value));
            drop(shield(&future));
            drop(gather([&future]));
            drop(begun(wait([future.clone()])).await);
            let kept = future.clone();
            create_task(async move { shield(kept).await });
            pump(1).await?;
            Ok(weak)
        });
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn of_a_task_that_timed_out_hold_nothing_when_it_is_done() {
        let weak = sim(async {
            let value = Rc::new(());
            let weak = Rc::downgrade(&value);
            let task = create_task(async move {
                let _value = value;
                assert!(timeout(1.0, sleep(9.0)).await.unwrap_err().is_timeout());
                Ok(())
            });
            task.await?;
            Ok(weak)
        });
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn of_values_free_them_with_the_last_one() {
        sim(async {
            let value = Rc::new(());
            let future = done(Rc::clone(&value));
            let task = create_task(ready(Rc::clone(&value)));
            (&task).await?;
            // The clones that were awaited are gone.
            assert_eq!(Rc::strong_count(&value), 3);
            let view = task.view();
            drop((future.clone(), future, task));
            assert_eq!(Rc::strong_count(&value), 2);
            drop(view);
            assert_eq!(Rc::strong_count(&value), 1);
            Ok(())
        });
    }

    #[test]
    fn of_cancelled_callbacks_free_what_they_hold_at_once() {
        sim(async {
            let value = Rc::new(());
            let (one, other, third) = (Rc::clone(&value), Rc::clone(&value), Rc::clone(&value));
            let handle = event_loop().call_soon(move || drop(one))?;
            let timer = event_loop().call_later(5.0, move || drop(other))?;
            let future = pending::<()>();
            let id = future.add_done_callback(move |_| drop(third));
            assert_eq!(Rc::strong_count(&value), 4);
            handle.cancel();
            timer.cancel();
            assert!(future.remove_done_callback(id));
            assert_eq!(Rc::strong_count(&value), 1);
            Ok(())
        });
    }
}
