//! Task groups that are dropped, leaked or moved.

use super::*;

cases! {
    ($) "drop" in drop_laws_groups as __cases_drop_laws_groups;
    dropped_in_the_body_cancel_their_children_which_run_to_their_end: "L6";
    dropped_in_the_exit_cancel_their_children: "L6";
    dropped_while_they_cancel_themselves_take_their_request_back: "L6";
    that_were_dropped_take_no_more_tasks: "L6 TG1";
    never_polled_do_nothing: "L6";
    leaked_leave_their_children_alone: "L6";
    move_to_another_task_in_the_body_and_in_the_exit: "L6";
    that_moved_are_told_of_failures_there: "L6";
}

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

fn dropped_in_the_body_cancel_their_children_which_run_to_their_end(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        drop(group(&trace, hang()).await);
        assert!(trace.take().is_empty());
        sleep(2.0).await?;
        assert_eq!(trace.take(), ["child cancelled 1"]);
        assert_eq!(counted(), 0);
        Ok(())
    });
}

fn dropped_in_the_exit_cancel_their_children(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        drop(group(&trace, ready(())).await);
        sleep(2.0).await?;
        assert_eq!(trace.take(), ["child cancelled 1"]);
        Ok(())
    });
}

fn dropped_while_they_cancel_themselves_take_their_request_back(on: &Machine) {
    on.run(async {
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

fn that_were_dropped_take_no_more_tasks(on: &Machine) {
    on.run(async {
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

fn never_polled_do_nothing(on: &Machine) {
    on.run(async {
        drop(task_group(async |_| -> Result<()> { unreachable!("it was not polled") }));
        Ok(())
    });
}

fn leaked_leave_their_children_alone(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        leak(group(&trace, hang()).await);
        sleep(2.0).await?;
        assert!(trace.take().is_empty());
        Ok(())
    });
}

fn move_to_another_task_in_the_body_and_in_the_exit(on: &Machine) {
    on.run(async {
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

fn that_moved_are_told_of_failures_there(on: &Machine) {
    on.run(async {
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
