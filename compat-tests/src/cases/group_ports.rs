//! CPython's tests of task groups, where they do not stand with the traces. Each runs with children that start eagerly as well.

use std::cell::{Cell, RefCell};
use std::future::Future as StdFuture;
use std::rc::Rc;

use aioli_core::*;

use super::support::*;
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "groups" in group_ports as __cases_group_ports;
    children_give_their_values: "TG3" = "test_taskgroups::TestTaskGroup::test_taskgroup_01";
    an_error_cancels_the_siblings_and_the_body: "TG2 TG4"
        = "test_taskgroups::TestTaskGroup::test_cancel_children_on_child_error";
    a_request_in_the_exit_cancels_every_child: "TG3"
        = "test_taskgroups::TestTaskGroup::test_cancellation", "test_taskgroups::TestTaskGroup::test_taskgroup_22";
    a_request_in_the_body_cancels_every_child: "TG3" = "test_taskgroups::TestTaskGroup::test_taskgroup_07";
    errors_of_cancelled_children_are_a_group: "TG4" = "test_taskgroups::TestTaskGroup::test_taskgroup_08";
    an_error_of_the_body_cancels_the_children: "TG2" = "test_taskgroups::TestTaskGroup::test_taskgroup_09";
    the_body_fails_while_it_is_cancelled_by_a_child: "TG4"
        = "test_taskgroups::TestTaskGroup::test_taskgroup_20a",
          "test_taskgroups::TestTaskGroup::test_taskgroup_21a",
          "test_taskgroups::TestTaskGroup::test_taskgroup_context_manager_exit_raises",
          "test_taskgroups::TestTaskGroup::test_taskgroup_19";
    children_that_ended_are_forgotten: "TG3" = "test_taskgroups::TestTaskGroup::test_taskgroup_23";
    a_hydra_is_beaten: "TG1 TG2" = "test_taskgroups::TestTaskGroup::test_taskgroup_25";
    children_have_the_names_that_they_are_given: "TA1 TG1" = "test_taskgroups::TestTaskGroup::test_taskgroup_task_name";
    what_a_finished_group_refuses_is_dropped: "TG1"
        = "test_taskgroups::TestTaskGroup::test_coro_closed_when_tg_closed";
    groups_in_each_other_that_both_fail: "TG6 TG5"
        = "test_taskgroups::TestTaskGroup::test_nested_groups_both_cancelled";
    a_child_created_later_or_cancelled_by_hand: "TG1 TG2"
        = "test_taskgroups::TestTaskGroup::test_taskgroup_02",
          "test_taskgroups::TestTaskGroup::test_taskgroup_03";
    an_error_of_a_child_cancels_its_sibling: "TG2"
        = "test_taskgroups::TestTaskGroup::test_taskgroup_04";
    a_group_in_a_group_is_cancelled_from_outside: "TG4 TG6"
        = "test_taskgroups::TestTaskGroup::test_taskgroup_11",
          "test_taskgroups::TestTaskGroup::test_taskgroup_12";
    a_child_fails_while_the_body_cleans_up: "TG4"
        = "test_taskgroups::TestTaskGroup::test_taskgroup_15",
          "test_taskgroups::TestTaskGroup::test_taskgroup_16";
    a_body_that_fails_when_it_is_cancelled_is_a_group: "TG4"
        = "test_taskgroups::TestTaskGroup::test_taskgroup_18";
    an_outer_child_fails_while_an_inner_group_waits: "TG6"
        = "test_taskgroups::TestTaskGroup::test_taskgroup_13",
          "test_taskgroups::TestTaskGroup::test_taskgroup_14";
    a_child_creates_children_in_its_group: "TG1 TG3"
        = "test_taskgroups::TestTaskGroup::test_taskgroup_24";
    upstream_no_create_task_after_failure: "TG1 TG2"
        = "test_taskgroups::TestTaskGroup::test_taskgroup_no_create_task_after_failure";
    upstream_error_and_cancel: "TG4 TG5"
        = "test_taskgroups::TestTaskGroup::test_error_and_cancel";
    upstream_task_context: "TG1 CV1"
        = "test_taskgroups::TestTaskGroup::test_taskgroup_task_context";
}

/// Runs a case with children of both kinds.
fn each<F>(on: &Machine, case: impl Fn(Spawn) -> F)
where
    F: StdFuture<Output = Result<()>> + 'static,
{
    on.run(case(Spawn { eager: false }));
    on.run(case(Spawn { eager: true }));
}

/// How children start.
#[derive(Clone, Copy)]
struct Spawn {
    eager: bool,
}

impl Spawn {
    fn child<T: 'static>(
        self,
        group: &TaskGroup,
        coroutine: impl StdFuture<Output = Result<T>> + 'static,
    ) -> Result<Task<T>> {
        group.create_task_with(TaskBuilder::new().eager_start(self.eager), coroutine)
    }
}

/// Sleeps, and counts if it is cancelled.
async fn counting(seconds: f64, count: Rc<Cell<u32>>, by: u32) -> Result<()> {
    sleep(seconds).await.inspect_err(|_| count.set(count.get() + by))
}

async fn failing(seconds: f64, text: &'static str) -> Result<()> {
    sleep(seconds).await?;
    fail(text).await
}

/// Fails with a text however its sleep ends.
async fn failing_anyhow(seconds: f64, text: &'static str) -> Result<()> {
    let _ = sleep(seconds).await;
    fail(text).await
}

fn texts(error: &Error) -> Vec<String> {
    assert_eq!(error.kind(), ErrorKind::Group, "{error}");
    error.errors().iter().map(ToString::to_string).collect()
}

fn children_give_their_values(on: &Machine) {
    each(on, |spawn| async move {
        let (one, two) = task_group(async move |group| {
            let value = |seconds, value| async move { sleep(seconds).await.map(|()| value) };
            Ok((spawn.child(&group, value(0.1, 42))?, spawn.child(&group, value(0.2, 11))?))
        })
        .await?;
        assert_eq!((one.result()?, two.result()?), (42, 11));
        Ok(())
    });
}

fn an_error_cancels_the_siblings_and_the_body(on: &Machine) {
    each(on, |spawn| async move {
        let count = Rc::new(Cell::new(0));
        let inside = Rc::clone(&count);
        let runner = create_task(task_group(async move |group| {
            for _ in 0..3 {
                spawn.child(&group, failing(0.1, "division"))?;
            }
            spawn.child(&group, counting(5.0, Rc::clone(&inside), 1))?;
            counting(10.0, inside, 10).await
        }));
        let error = runner.await.unwrap_err();
        assert_eq!(texts(&error), ["division"; 3]);
        assert_eq!((count.get(), seconds()), (11, 0.1));
        Ok(())
    });
}

fn a_request_in_the_exit_cancels_every_child(on: &Machine) {
    each(on, |spawn| async move {
        let count = Rc::new(Cell::new(0));
        let inside = Rc::clone(&count);
        let runner = create_task(task_group(async move |group| {
            for _ in 0..5 {
                spawn.child(&group, counting(5.0, Rc::clone(&inside), 1))?;
            }
            Ok(())
        }));
        sleep(0.1).await?;
        assert!(!runner.done());
        runner.cancel(None);
        assert!(runner.await.unwrap_err().is_cancelled());
        assert_eq!(count.get(), 5);
        Ok(())
    });
}

fn a_request_in_the_body_cancels_every_child(on: &Machine) {
    each(on, |spawn| async move {
        let count = Rc::new(Cell::new(0));
        let inside = Rc::clone(&count);
        let runner = create_task(task_group(async move |group| {
            for _ in 0..5 {
                spawn.child(&group, counting(5.0, Rc::clone(&inside), 1))?;
            }
            counting(10.0, inside, 10).await
        }));
        sleep(0.1).await?;
        assert!(!runner.done());
        runner.cancel(None);
        assert!(runner.await.unwrap_err().is_cancelled());
        assert_eq!(count.get(), 15);
        Ok(())
    });
}

fn errors_of_cancelled_children_are_a_group(on: &Machine) {
    each(on, |spawn| async move {
        let runner = create_task(task_group(async move |group| {
            for _ in 0..5 {
                spawn.child(&group, failing_anyhow(10.0, "division"))?;
            }
            sleep(10.0).await
        }));
        sleep(0.1).await?;
        assert!(!runner.done());
        runner.cancel(None);
        assert_eq!(texts(&runner.await.unwrap_err()), ["division"; 5]);
        Ok(())
    });
}

fn an_error_of_the_body_cancels_the_children(on: &Machine) {
    each(on, |spawn| async move {
        let children = Rc::new(RefCell::new(Vec::new()));
        let inside = Rc::clone(&children);
        let group = task_group(async move |group| {
            for seconds in [1.0, 2.0] {
                inside.borrow_mut().push(spawn.child(&group, sleep(seconds))?);
            }
            failing(0.1, "division").await
        });
        assert_eq!(texts(&group.await.unwrap_err()), ["division"]);
        assert!(children.borrow().iter().all(Task::cancelled) && children.borrow().len() == 2);
        Ok(())
    });
}

fn the_body_fails_while_it_is_cancelled_by_a_child(on: &Machine) {
    each(on, |spawn| async move {
        let group = task_group(async move |group| {
            spawn.child(&group, failing(0.1, "crash"))?;
            failing_anyhow(10.0, "nested").await
        });
        assert_eq!(texts(&group.await.unwrap_err()), ["crash", "nested"]);
        assert_eq!((me().cancelling(), seconds()), (0, 0.1));
        Ok(())
    });
}

fn children_that_ended_are_forgotten(on: &Machine) {
    each(on, |spawn| async move {
        task_group(async move |group| {
            for count in 0..10 {
                sleep(0.1).await?;
                spawn.child(&group, sleep(0.3))?;
                if count == 5 {
                    assert!(all_tasks().len() < 1 + 5);
                }
            }
            sleep(1.35).await?;
            assert_eq!(all_tasks().len(), 1);
            Ok(())
        })
        .await
    });
}

fn a_hydra_is_beaten(on: &Machine) {
    type Head = std::pin::Pin<Box<dyn StdFuture<Output = Result<()>>>>;

    fn hydra(spawn: Spawn, group: TaskGroup, heads: Rc<Cell<u32>>) -> Head {
        Box::pin(async move {
            heads.set(heads.get() + 1);
            sleep(0.01).await?;
            for _ in 0..2 {
                spawn.child(&group, hydra(spawn, group.clone(), Rc::clone(&heads)))?;
            }
            Ok(())
        })
    }

    each(on, |spawn| async move {
        let heads = Rc::new(Cell::new(0));
        let inside = Rc::clone(&heads);
        let group = task_group(async move |group| {
            spawn.child(&group, hydra(spawn, group.clone(), Rc::clone(&inside)))?;
            let hercules = async move {
                while inside.get() < 10 {
                    sleep(0.015).await?;
                }
                fail::<()>("beaten").await
            };
            spawn.child(&group, hercules)?;
            Ok(())
        });
        assert_eq!(texts(&group.await.unwrap_err()), ["beaten"]);
        assert!(heads.get() >= 10);
        assert_eq!(all_tasks().len(), 1);
        Ok(())
    });
}

fn children_have_the_names_that_they_are_given(on: &Machine) {
    each(on, |spawn| async move {
        task_group(async move |group| {
            let name = async { Ok(me().name().to_string()) };
            let builder = TaskBuilder::new().name("yolo").eager_start(spawn.eager);
            let task = group.create_task_with(builder, name)?;
            assert_eq!(&*task.name(), "yolo");
            assert_eq!(task.await?, "yolo");
            Ok(())
        })
        .await
    });
}

fn what_a_finished_group_refuses_is_dropped(on: &Machine) {
    struct Dropped(Rc<Cell<bool>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    each(on, |spawn| async move {
        let finished = task_group(async |group| Ok(group)).await?;
        let gone = Rc::new(Cell::new(false));
        let probe = Dropped(Rc::clone(&gone));
        let coroutine = async move {
            sleep(0.0).await?;
            drop(probe);
            Ok(())
        };
        assert_eq!(spawn.child(&finished, coroutine).unwrap_err().kind(), ErrorKind::Runtime);
        assert!(gone.get());
        Ok(())
    });
}

fn groups_in_each_other_that_both_fail(on: &Machine) {
    each(on, |spawn| async move {
        let outer = task_group(async move |outer| {
            let within = outer.clone();
            let inner = task_group(async move |inner| {
                spawn.child(&inner, failing(0.0, "runtime"))?;
                spawn.child(&within, failing(0.0, "value")).map(drop)
            });
            assert_eq!(texts(&inner.await.unwrap_err()), ["runtime"]);
            assert_eq!(me().cancelling(), 1);
            Ok(())
        });
        assert_eq!(texts(&outer.await.unwrap_err()), ["value"]);
        assert_eq!(me().cancelling(), 0);
        Ok(())
    });
}

fn a_child_created_later_or_cancelled_by_hand(on: &Machine) {
    each(on, |spawn| async move {
        for cancelled in [false, true] {
            let value = |seconds, value| async move { sleep(seconds).await.map(|()| value) };
            let (one, two) = task_group(async move |group| {
                let one = spawn.child(&group, value(if cancelled { 1.0 } else { 0.1 }, 42))?;
                sleep(0.15).await?;
                if cancelled {
                    one.cancel(None);
                }
                Ok((one, spawn.child(&group, value(0.2, 11))?))
            })
            .await?;
            assert_eq!((one.cancelled(), two.result()?), (cancelled, 11));
            assert_eq!(one.result().ok(), (!cancelled).then_some(42));
        }
        Ok(())
    });
}

fn an_error_of_a_child_cancels_its_sibling(on: &Machine) {
    each(on, |spawn| async move {
        let (count, kept) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
        let (inside, keep) = (Rc::clone(&count), Rc::clone(&kept));
        let group = task_group(async move |group| {
            spawn.child(&group, failing(0.1, "division"))?;
            keep.replace(Some(spawn.child(&group, counting(1.0, inside, 1))?));
            Ok(())
        });
        assert_eq!(texts(&create_task(group).await.unwrap_err()), ["division"]);
        assert!(kept.take().unwrap().cancelled());
        assert_eq!((count.get(), seconds()), (1, 0.1));
        Ok(())
    });
}

fn a_group_in_a_group_is_cancelled_from_outside(on: &Machine) {
    each(on, |spawn| async move {
        for outer_has_a_child in [false, true] {
            let runner = create_task(task_group(async move |outer| {
                if outer_has_a_child {
                    spawn.child(&outer, sleep(10.0))?;
                }
                task_group(async move |inner| {
                    for _ in 0..5 {
                        spawn.child(&inner, failing_anyhow(10.0, "division"))?;
                    }
                    sleep(10.0).await
                })
                .await
            }));
            sleep(0.1).await?;
            assert!(!runner.done());
            runner.cancel(None);
            let error = runner.await.unwrap_err();
            assert_eq!(error.errors().len(), 1);
            assert_eq!(texts(&error.errors()[0]), ["division"; 5]);
        }
        Ok(())
    });
}

fn a_child_fails_while_the_body_cleans_up(on: &Machine) {
    each(on, |spawn| async move {
        for in_a_task_of_its_own in [false, true] {
            let group = task_group(async move |group| {
                spawn.child(&group, failing(0.3, "division"))?;
                let interrupted = sleep(10.0).await;
                sleep(0.5).await?;
                interrupted
            });
            let runner = match in_a_task_of_its_own {
                false => create_task(group),
                true => create_task(async { create_task(group).await }),
            };
            sleep(0.1).await?;
            assert!(!runner.done());
            runner.cancel(None);
            assert_eq!(texts(&runner.await.unwrap_err()), ["division"]);
        }
        Ok(())
    });
}

fn a_body_that_fails_when_it_is_cancelled_is_a_group(on: &Machine) {
    on.run(async {
        let runner = create_task(task_group(async |_| failing_anyhow(10.0, "instead").await));
        sleep(0.1).await?;
        assert!(!runner.done());
        runner.cancel(None);
        assert_eq!(texts(&runner.await.unwrap_err()), ["instead"]);
        Ok(())
    });
}

fn an_outer_child_fails_while_an_inner_group_waits(on: &Machine) {
    each(on, |spawn| async move {
        let runner = create_task(task_group(async move |outer| {
            spawn.child(&outer, failing(0.1, "early"))?;
            task_group(async move |inner| spawn.child(&inner, failing(10.0, "late")).map(drop)).await
        }));
        assert_eq!(texts(&runner.await.unwrap_err()), ["early"]);
        assert_eq!(seconds(), 0.1);

        let runner = create_task(task_group(async move |outer| {
            spawn.child(&outer, failing(10.0, "late"))?;
            task_group(async move |inner| spawn.child(&inner, failing(0.1, "early")).map(drop)).await
        }));
        let error = runner.await.unwrap_err();
        assert_eq!(error.errors().len(), 1);
        assert_eq!(texts(&error.errors()[0]), ["early"]);
        Ok(())
    });
}

fn a_child_creates_children_in_its_group(on: &Machine) {
    each(on, |spawn| async move {
        task_group(async move |group| {
            let inside = group.clone();
            let root = async move {
                sleep(0.1).await?;
                spawn.child(&inside, sleep(0.1))?;
                spawn.child(&inside, sleep(0.2)).map(drop)
            };
            spawn.child(&group, root).map(drop)
        })
        .await?;
        assert!((seconds() - 0.3).abs() < 1e-6);
        Ok(())
    });
}

fn upstream_no_create_task_after_failure(on: &Machine) {
    each(on, |spawn| async move {
        let refused = Rc::new(Cell::new(None));
        let note = Rc::clone(&refused);
        let failed = task_group(async move |group| {
            spawn.child(&group, failing(0.001, "division"))?;
            let inside = group.clone();
            let second = async move {
                assert!(sleep(1.0).await.unwrap_err().is_cancelled());
                note.set(spawn.child(&inside, failing(0.001, "division")).err().map(|error| error.kind()));
                Ok(())
            };
            spawn.child(&group, second).map(drop)
        });
        assert_eq!(texts(&failed.await.unwrap_err()), ["division"]);
        assert_eq!(refused.get(), Some(ErrorKind::Runtime));
        Ok(())
    });
}

fn upstream_error_and_cancel(on: &Machine) {
    each(on, |spawn| async move {
        let event = Rc::new(Event::new());
        let set = Rc::clone(&event);
        let inner = create_task(async move {
            let failed = task_group(async move |group| {
                let raise = async move {
                    set.set();
                    sleep(0.0).await?;
                    fail::<()>("runtime").await
                };
                spawn.child(&group, raise)?;
                sleep(1.0).await?;
                panic!("the sleep in the group is cancelled")
            });
            let failed: Result<()> = failed.await;
            assert_eq!(texts(&failed.unwrap_err()), ["runtime"]);
            assert_eq!(me().cancelling(), 1);
            sleep(1.0).await?;
            panic!("the sleep after the group is cancelled") as Result<()>
        });
        event.wait().await?;
        assert_eq!(inner.cancelling(), 0);
        inner.cancel(None);
        assert_eq!(inner.cancelling(), 1);
        assert!((&inner).await.unwrap_err().is_cancelled());
        assert!(inner.cancelled());
        Ok(())
    });
}

fn upstream_task_context(on: &Machine) {
    each(on, |spawn| async move {
        task_group(async move |group| {
            let (var, context) = (Rc::new(ContextVar::<u32>::new()), Context::copy_current());
            assert_eq!(context.run(|| var.get()), None);
            for value in [1, 2] {
                let inside = Rc::clone(&var);
                let builder = TaskBuilder::new().context(context.clone()).eager_start(spawn.eager);
                let setting = async move {
                    sleep(0.0).await?;
                    inside.set(value);
                    Ok(())
                };
                group.create_task_with(builder, setting)?.await?;
                assert_eq!(context.run(|| var.get()), Some(value));
            }
            assert_eq!(var.get(), None);
            Ok(())
        })
        .await
    });
}
