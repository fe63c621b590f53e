//! Awaits that are dropped, leaked or moved.

use super::*;

cases! {
    ($) "drop" in drop_laws_awaits as __cases_drop_laws_awaits;
    of_tasks_and_futures_go_and_what_they_waited_for_runs_on: "L6 GA4";
    dropped_after_the_result_came_leave_it_where_it_is: "L6 L4";
    dropped_after_a_request_reached_them_leave_it_open: "L6 L3";
    leaked_do_no_harm: "L6";
    leaked_in_a_cancelled_task_do_no_harm: "L6";
    move_to_another_task_with_what_they_wait_for: "L6";
    that_ended_before_they_moved_end_there: "L6";
    that_moved_are_cancelled_with_their_new_task_only: "L6 L3";
    that_moved_between_request_and_delivery_leave_the_request_with_the_task: "L6 L3";
}

fn of_tasks_and_futures_go_and_what_they_waited_for_runs_on(on: &Machine) {
    let seen = on.reports(async {
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
    assert_eq!(messages(&seen), ["gathering future exception was never retrieved"]);
}

fn dropped_after_the_result_came_leave_it_where_it_is(on: &Machine) {
    on.run(async {
        let future = pending::<u32>();
        let waiting = begun(future.clone()).await;
        future.set_result(5)?;
        drop(waiting);
        assert_eq!(future.await?, 5);
        Ok(())
    });
}

fn dropped_after_a_request_reached_them_leave_it_open(on: &Machine) {
    on.run(async {
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

fn leaked_do_no_harm(on: &Machine) {
    on.run(async {
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

fn leaked_in_a_cancelled_task_do_no_harm(on: &Machine) {
    on.run(async {
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

fn move_to_another_task_with_what_they_wait_for(on: &Machine) {
    on.run(async {
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

fn that_ended_before_they_moved_end_there(on: &Machine) {
    on.run(async {
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

fn that_moved_are_cancelled_with_their_new_task_only(on: &Machine) {
    on.run(async {
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

fn that_moved_between_request_and_delivery_leave_the_request_with_the_task(on: &Machine) {
    on.run(async {
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
