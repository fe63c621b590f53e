//! Task groups, turn by turn, as CPython does them.

use std::cell::RefCell;
use std::future::Future as StdFuture;
use std::rc::Rc;

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

cases! {
    ($) "groups" in groups as __cases_groups;
    errors_of_children_come_in_the_order_of_their_failure: "TG4";
    a_child_cancelled_by_itself_is_no_error: "TG2";
    a_request_in_the_body_or_the_exit_cancels_the_children_first: "TG3 L3"
        = "test_taskgroups::TestTaskGroup::test_taskgroup_17";
    a_second_request_in_the_exit_changes_nothing_but_the_count: "TG3 TG4";
    an_error_of_a_child_takes_the_place_of_a_request_from_outside: "TG4";
    a_failed_body_cancels_what_never_started: "TG2 TG3" = "test_taskgroups::TestTaskGroup::test_taskgroup_10";
    the_error_of_the_body_is_the_last: "TG4";
    a_body_that_cancels_itself_is_a_cancellation: "TG5 TG4";
    children_may_spawn_while_the_parent_waits_but_not_afterwards: "TG1"
        = "test_taskgroups::TestTaskGroup::test_taskgroup_finished";
    after_a_failure_the_task_goes_on_uncancelled: "TG5" = "test_taskgroups::TestTaskGroup::test_cancelling_level_preserved";
    a_timeout_around_a_group_is_a_timeout: "W3 TG4";
    a_timeout_around_a_group_whose_child_fails_is_a_group: "W3";
    a_body_that_swallows_the_cancellation_goes_on: "TG6";
    nested_groups_give_nested_errors: "TG6";
    an_error_and_a_request_in_one_turn_are_a_group: "TG4";
    its_own_cancel_ends_it_without_an_error: "TG8" = "test_taskgroups::BaseTestTaskGroup::test_taskgroup_cancel_idempotent";
    its_own_cancel_leaves_a_value_that_the_body_has: "TG8"
        = "test_taskgroups::BaseTestTaskGroup::test_taskgroup_cancel_after_exit";
    a_request_from_outside_after_its_own_cancel_is_a_cancellation: "TG8"
        = "test_taskgroups::BaseTestTaskGroup::test_taskgroup_external_cancel_after_cancel";
    an_eager_child_can_cancel_the_group_in_its_first_step: "TG7 TG8"
        = "test_taskgroups::BaseTestTaskGroup::test_taskgroup_cancel_from_child_before_first_suspension";
    a_group_that_is_cancelled_before_its_body_runs_ends_in_its_first_await: "TG8";
    eager_children_that_fail_do_so_one_turn_later: "TG7";
    a_task_created_by_a_child_while_it_fails_is_cancelled: "TG2 TG1";
}

/// A worker that pumps `turns`, or waits for ever if that is `None`; then fails with `error`, if there is one. Cancelled, it
/// takes `cleanup` turns.
fn worker(
    trace: &Trace,
    name: &'static str,
    turns: Option<u32>,
    error: Option<&'static str>,
    cleanup: u32,
) -> impl StdFuture<Output = Result<()>> + use<> {
    let trace = trace.clone();
    async move {
        let waited = match turns {
            Some(turns) => pump(turns).await,
            None => hang().await,
        };
        if waited.is_err() {
            trace.log(format_args!("{name}:cancelled"));
            pump(cleanup).await?;
            return waited;
        }
        if let Some(error) = error {
            return fail(error).await;
        }
        trace.log(format_args!("{name}:ok"));
        Ok(())
    }
}

fn texts(error: &Error) -> Vec<String> {
    error.errors().iter().map(ToString::to_string).collect()
}

fn errors_of_children_come_in_the_order_of_their_failure(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let task = create_task(task_group(async move |group| {
            group.create_task(worker(&t, "bad", Some(1), Some("v"), 0))?;
            group.create_task(worker(&t, "x", None, None, 2))?;
            group.create_task(worker(&t, "bad2", Some(1), Some("k"), 0))?;
            let interrupted = hang().await;
            t.log(format_args!("body cancelling {}", me().cancelling()));
            interrupted
        }));
        assert_eq!(until_done(&task, &Trace::new()).await?, 9);
        let error = task.exception()?.unwrap();
        assert_eq!((error.kind(), texts(&error)), (ErrorKind::Group, vec!["v".into(), "k".into()]));
        assert_eq!(trace.take(), ["x:cancelled", "body cancelling 1"]);
        assert_eq!(task.cancelling(), 0);
        Ok(())
    });
}

fn a_child_cancelled_by_itself_is_no_error(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let group = task_group(async move |group| {
            let child = group.create_task(worker(&t, "x", None, None, 0))?;
            soon(move || assert!(child.cancel(None)));
            group.create_task(worker(&t, "y", Some(3), None, 0))?;
            Ok("ok")
        });
        assert_eq!(ends(group, 0, |_| ()).await?, (r#"RESULT "ok""#.into(), 7));
        assert_eq!(trace.take(), ["x:cancelled", "y:ok"]);
        Ok(())
    });
}

fn a_request_in_the_body_or_the_exit_cancels_the_children_first(on: &Machine) {
    on.run(async {
        for in_body in [true, false] {
            let trace = Trace::new();
            let t = trace.clone();
            let task = create_task(task_group(async move |group| {
                group.create_task(worker(&t, "x", None, None, 3))?;
                if in_body { hang().await } else { Ok(()) }
            }));
            pump(2).await?;
            task.cancel(Some("ext"));
            let turns = until_done(&task, &Trace::new()).await?;
            assert_eq!((turns, state(&task).as_str()), (7, CANCELLED));
            assert_eq!(message(&task.await).as_deref(), Some("ext"));
            assert_eq!(trace.take(), ["x:cancelled"]);
        }
        Ok(())
    });
}

fn a_second_request_in_the_exit_changes_nothing_but_the_count(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let task =
            create_task(task_group(async move |group| group.create_task(worker(&t, "x", None, None, 3)).map(drop)));
        pump(2).await?;
        assert!(task.cancel(Some("one")) && task.cancel(Some("two")));
        assert_eq!(until_done(&task, &Trace::new()).await?, 7);
        assert_eq!(state(&task), "CANCELLED cancelling=2");
        assert_eq!(message(&task.await).as_deref(), Some("one"));
        Ok(())
    });
}

fn an_error_of_a_child_takes_the_place_of_a_request_from_outside(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let task = create_task(async move {
            let result = task_group(async move |group| {
                let inside = group.clone();
                group.create_task(worker(&t, "x", None, None, 0))?;
                group.create_task(async move {
                    assert!(hang().await.is_err());
                    t.log(inside.create_task(ready(())).unwrap_err());
                    fail::<()>("child during cancel").await
                })?;
                hang().await
            })
            .await;
            assert_eq!(texts(&result.unwrap_err()), ["child during cancel"]);
            // The request from outside stands: the next await returns it.
            let next = hang().await;
            assert_eq!(message(&next), None);
            next
        });
        pump(2).await?;
        task.cancel(Some("ext"));
        let turns = until_done(&task, &Trace::new()).await?;
        assert_eq!((turns, state(&task).as_str()), (5, CANCELLED));
        let lines = trace.take();
        assert_eq!(lines[0], "x:cancelled");
        assert!(lines[1].contains("shutting down"), "{lines:?}");
        Ok(())
    });
}

fn a_failed_body_cancels_what_never_started(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let task = create_task(task_group(async move |group| {
            group.create_task(worker(&t, "x", None, None, 0))?;
            fail::<()>("body").await
        }));
        assert_eq!(until_done(&task, &Trace::new()).await?, 4);
        assert_eq!(texts(&task.exception()?.unwrap()), ["body"]);
        assert!(trace.take().is_empty());
        Ok(())
    });
}

fn the_error_of_the_body_is_the_last(on: &Machine) {
    on.run(async {
        let failed = task_group(async |group| {
            group.create_task(async { hang().await.map_err(|_| Error::msg("child")) })?;
            sleep(0.0).await?;
            fail::<()>("body").await
        });
        assert_eq!(texts(&failed.await.unwrap_err()), ["child", "body"]);
        Ok(())
    });
}

fn a_body_that_cancels_itself_is_a_cancellation(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let task = create_task(task_group(async move |group| {
            group.create_task(worker(&t, "x", None, None, 0))?;
            Err::<(), _>(Error::cancelled(Some("own")))
        }));
        assert_eq!(until_done(&task, &Trace::new()).await?, 4);
        assert_eq!(state(&task), "CANCELLED");
        assert_eq!(message(&task.await).as_deref(), Some("own"));
        Ok(())
    });
}

fn children_may_spawn_while_the_parent_waits_but_not_afterwards(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let (t, kept) = (trace.clone(), Rc::new(RefCell::new(None)));
        let keep = Rc::clone(&kept);
        let group = task_group(async move |group| {
            keep.replace(Some(group.clone()));
            let inside = group.clone();
            group
                .create_task(async move {
                    pump(2).await?;
                    inside.create_task(worker(&t, "late", Some(1), None, 0))?;
                    t.log("spawned");
                    Ok(())
                })
                .map(drop)
        });
        assert_eq!(ends(group, 0, |_| ()).await?, ("RESULT ()".into(), 8));
        assert_eq!(trace.take(), ["spawned", "late:ok"]);
        let refused = kept.take().unwrap().create_task(ready(())).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Runtime);
        assert!(refused.to_string().contains("finished"));
        Ok(())
    });
}

fn after_a_failure_the_task_goes_on_uncancelled(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let coroutine = async move {
            let failed = task_group(async |group| group.create_task(worker(&t, "b", Some(1), Some("1"), 0)).map(drop));
            assert!(failed.await.is_err());
            assert_eq!(me().cancelling(), 0);
            sleep(0.0).await.map(|()| "went on")
        };
        assert_eq!(ends(coroutine, 0, |_| ()).await?, (r#"RESULT "went on""#.into(), 6));
        Ok(())
    });
}

fn a_timeout_around_a_group_is_a_timeout(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let group = task_group(async move |group| group.create_task(worker(&t, "x", None, None, 1)).map(drop));
        assert_eq!(ends(timeout(0.0, group), 0, |_| ()).await?, ("EXC the deadline has passed".into(), 7));
        assert_eq!(trace.take(), ["x:cancelled"]);
        Ok(())
    });
}

fn a_timeout_around_a_group_whose_child_fails_is_a_group(on: &Machine) {
    on.run(async {
        let group =
            task_group(async |group| group.create_task(async { hang().await.map_err(|_| Error::msg("x")) }).map(drop));
        let task = create_task(timeout(0.0, group));
        assert_eq!(until_done(&task, &Trace::new()).await?, 6);
        assert_eq!(texts(&task.exception()?.unwrap()), ["x"]);
        assert_eq!(task.cancelling(), 0);
        Ok(())
    });
}

fn a_body_that_swallows_the_cancellation_goes_on(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let task = create_task(task_group(async move |group| {
            group.create_task(worker(&t, "b", Some(2), Some("1"), 0))?;
            assert!(hang().await.is_err());
            t.log("swallowed");
            pump(3).await?;
            t.log("body continues");
            Ok(())
        }));
        assert_eq!(until_done(&task, &Trace::new()).await?, 9);
        assert_eq!(texts(&task.exception()?.unwrap()), ["1"]);
        assert_eq!(trace.take(), ["swallowed", "body continues"]);
        Ok(())
    });
}

fn nested_groups_give_nested_errors(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let task = create_task(task_group(async move |group| {
            let inner = t.clone();
            group.create_task(task_group(async move |group| {
                group.create_task(worker(&inner, "i", Some(1), Some("deep"), 0)).map(drop)
            }))?;
            group.create_task(worker(&t, "o", None, None, 0)).map(drop)
        }));
        assert_eq!(until_done(&task, &Trace::new()).await?, 10);
        let error = task.exception()?.unwrap();
        assert_eq!((error.errors().len(), texts(&error.errors()[0])), (1, vec!["deep".into()]));
        assert_eq!(trace.take(), ["o:cancelled"]);
        Ok(())
    });
}

fn an_error_and_a_request_in_one_turn_are_a_group(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let task = create_task(task_group(async move |group| {
            group.create_task(worker(&t, "b", Some(0), Some("v"), 0))?;
            pump(2).await?;
            let parent = me();
            soon(move || assert!(parent.cancel(Some("ext"))));
            hang().await
        }));
        let turns = until_done(&task, &Trace::new()).await?;
        assert_eq!((turns, texts(&task.exception()?.unwrap())), (3, vec!["v".into()]));
        Ok(())
    });
}

fn its_own_cancel_ends_it_without_an_error(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let left = cancellable_task_group(async move |group| {
            group.create_task(worker(&t, "x", None, None, 2))?;
            let inside = group.clone();
            group.create_task(async move {
                pump(1).await?;
                inside.cancel();
                inside.cancel();
                Ok(())
            })?;
            let interrupted = hang().await;
            t.log(format_args!("body cancelling {}", me().cancelling()));
            interrupted
        });
        assert_eq!(left.await?, None);
        assert_eq!(me().cancelling(), 0);
        assert_eq!(trace.take(), ["x:cancelled", "body cancelling 1"]);
        Ok(())
    });
}

fn a_group_that_is_cancelled_before_its_body_runs_ends_in_its_first_await(on: &Machine) {
    on.run(async {
        // By whoever makes the body, or by a child that starts eagerly.
        let left = cancellable_task_group(|group: TaskGroup| {
            group.cancel();
            hang()
        });
        assert_eq!(left.await?, None);
        let left = cancellable_task_group(|group: TaskGroup| {
            let inside = group.clone();
            let eager = TaskBuilder::new().eager_start(true);
            let child = group.create_task_with(eager, async move {
                inside.cancel();
                Ok(())
            });
            async move { child?.await.and(hang().await) }
        });
        assert_eq!(left.await?, None);
        assert_eq!(me().cancelling(), 0);

        // A request from outside that was heard, and not taken back, is none of the group's.
        let task = create_task(async {
            hang().await.unwrap_err();
            let left = cancellable_task_group(|group: TaskGroup| {
                group.cancel();
                ready(())
            });
            assert_eq!(left.await?, Some(()));
            Ok(me().cancelling())
        });
        pump(1).await?;
        task.cancel(None);
        assert_eq!(task.await?, 1);
        Ok(())
    });
}

fn its_own_cancel_leaves_a_value_that_the_body_has(on: &Machine) {
    on.run(async {
        let kept = cancellable_task_group(async |group| {
            group.create_task(hang())?;
            group.cancel();
            Ok("value")
        });
        assert_eq!(kept.await?, Some("value"));
        let last = cancellable_task_group(async |group| Ok(group)).await?.unwrap();
        last.cancel();
        Ok(())
    });
}

fn a_request_from_outside_after_its_own_cancel_is_a_cancellation(on: &Machine) {
    on.run(async {
        let group = cancellable_task_group(async |group| {
            group.create_task(async {
                let interrupted = hang().await;
                pump(3).await?;
                interrupted
            })?;
            group.cancel();
            hang().await
        });
        let task = create_task(group);
        pump(3).await?;
        task.cancel(Some("ext"));
        until_done(&task, &Trace::new()).await?;
        assert_eq!(state(&task), CANCELLED);
        Ok(())
    });
}

fn an_eager_child_can_cancel_the_group_in_its_first_step(on: &Machine) {
    on.run(async {
        let group = cancellable_task_group(async |group| {
            let inside = group.clone();
            group.create_task_with(TaskBuilder::new().eager_start(true), async move {
                inside.cancel();
                sleep(1000.0).await
            })?;
            Ok(())
        });
        assert_eq!(group.await?, Some(()));
        assert_eq!(seconds(), 0.0);
        Ok(())
    });
}

fn eager_children_that_fail_do_so_one_turn_later(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let eager = TaskBuilder::new().eager_start(true);
        let failed = task_group(async move |group| {
            assert!(group.create_task_with(eager.clone(), fail::<()>("eager"))?.done());
            t.mark("body continues");
            group.create_task_with(eager, ready(()))?;
            let interrupted = hang().await;
            t.mark("cancelled");
            interrupted
        });
        assert_eq!(texts(&failed.await.unwrap_err()), ["eager"]);
        assert_eq!(trace.take(), ["body continues+0", "cancelled+2"]);
        Ok(())
    });
}

fn a_task_created_by_a_child_while_it_fails_is_cancelled(on: &Machine) {
    on.run(async {
        for eager in [false, true] {
            let trace = Trace::new();
            let t = trace.clone();
            let builder = TaskBuilder::new().eager_start(eager);
            let failed = task_group(async move |group| {
                let inside = group.clone();
                let third = builder.clone();
                group.create_task_with(builder, async move {
                    inside.create_task_with(third, fail::<()>("third"))?;
                    let interrupted = pump(2).await;
                    t.log(if interrupted.is_err() { "cancelled" } else { "ran" });
                    interrupted
                })?;
                Ok(())
            });
            assert_eq!(texts(&failed.await.unwrap_err()), ["third"]);
            assert_eq!(trace.take(), ["cancelled"]);
        }
        Ok(())
    });
}
