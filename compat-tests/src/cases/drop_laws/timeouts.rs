//! Scopes that are dropped, leaked or moved.

use super::*;

cases! {
    ($) "drop" in drop_laws_timeouts as __cases_drop_laws_timeouts;
    dropped_before_the_deadline_are_disarmed: "L6";
    dropped_between_deadline_and_delivery_take_their_request_back: "L6";
    dropped_during_the_cleanup_take_their_count_back: "L6";
    leaked_leave_a_count_at_most: "L6";
    move_before_the_deadline: "L6";
    move_between_deadline_and_delivery: "L6";
    move_with_inner_scopes_and_cleanup: "L6";
    move_and_are_cancelled_with_their_new_task: "L6 L3";
    are_no_longer_cancelled_with_the_task_before: "L6 L3";
    outlive_their_loop_without_harm: "L6 L9";
    polled_on_another_loop_are_errors_and_disturb_nobody: "L6 FU9";
}

/// Begins a timeout of a second around something that waits for ever.
async fn timed() -> Boxed<()> {
    begun(timeout(1.0, hang())).await
}

fn dropped_before_the_deadline_are_disarmed(on: &Machine) {
    on.run(async {
        drop(timed().await);
        quiet_for(2.0).await?;
        drop(timeout(1.0, hang()));
        drop(begun(wait_for(hang(), 1.0)).await);
        quiet_for(2.0).await?;
        assert_eq!(me().cancelling(), 0);
        Ok(())
    });
}

fn dropped_between_deadline_and_delivery_take_their_request_back(on: &Machine) {
    on.run(async {
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

fn dropped_during_the_cleanup_take_their_count_back(on: &Machine) {
    on.run(async {
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

fn leaked_leave_a_count_at_most(on: &Machine) {
    on.run(async {
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

fn move_before_the_deadline(on: &Machine) {
    on.run(async {
        let late = moved(begun(timeout(1.0, sleep(9.0))).await).await;
        assert!(late.unwrap_err().is_timeout());
        assert_eq!((seconds(), counted()), (1.0, 0));
        let early = moved(begun(wait_for(async { sleep(1.0).await.map(|()| 7) }, 5.0)).await).await;
        assert_eq!((early?, seconds()), (7, 2.0));
        quiet_for(9.0).await
    });
}

fn move_between_deadline_and_delivery(on: &Machine) {
    on.run(async {
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

fn move_with_inner_scopes_and_cleanup(on: &Machine) {
    on.run(async {
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

fn move_and_are_cancelled_with_their_new_task(on: &Machine) {
    on.run(async {
        let other = create_task(begun(timeout(50.0, sleep(40.0))).await);
        pump(1).await?;
        other.cancel(Some("m"));
        assert_eq!(message(&other.await).as_deref(), Some("m"));
        quiet_for(99.0).await
    });
}

fn are_no_longer_cancelled_with_the_task_before(on: &Machine) {
    on.run(async {
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

fn outlive_their_loop_without_harm(on: &Machine) {
    let left: Rc<RefCell<Vec<Boxed<()>>>> = Rc::default();
    let keep = Rc::clone(&left);
    on.run(async move {
        for wait in [begun(timeout(50.0, hang())).await, begun(sleep(50.0)).await] {
            keep.borrow_mut().push(wait);
        }
        let waited = async { wait([pending::<()>()]).timeout(50.0).await.map(drop) };
        let waiting = begun(waited).await;
        keep.borrow_mut().push(waiting);
        Ok(())
    });
    let again = Rc::clone(&left);
    on.run(async move {
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

fn polled_on_another_loop_are_errors_and_disturb_nobody(on: &Machine) {
    let left: Rc<RefCell<Option<Boxed<()>>>> = Rc::default();
    let keep = Rc::clone(&left);
    on.run(async move {
        keep.replace(Some(begun(sleep(50.0)).await));
        Ok(())
    });
    on.run(async move {
        let sleeper = create_task(sleep(10.0));
        pump(1).await?;
        assert_eq!(left.take().unwrap().await.unwrap_err().kind(), ErrorKind::Runtime);
        sleeper.await?;
        assert_eq!(seconds(), 10.0);
        Ok(())
    });
}
