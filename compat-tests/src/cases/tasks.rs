//! Tasks: what they return, what they wait for, what they are asked to stop. CPython's tests of them that no other file has.

use std::cell::Cell;
use std::rc::Rc;

use aioli_core::*;

use super::support::*;
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "tasks" in tasks as __cases_tasks;
    a_task_awaits_coroutines_in_place: "TA2 TA3"
        = "test_tasks::BaseTaskTests::test_task_basics",
          "test_tasks::BaseTaskTests::test_create_task_with_async_function";
    a_task_that_yields_is_cancelled_at_its_yield: "CA0 L3" = "test_tasks::BaseTaskTests::test_cancel_yield";
    a_task_is_cancelled_in_its_await: "CA0 L3" = "test_tasks::BaseTaskTests::test_cancel";
    a_request_carries_its_message: "CA1 FU8" = "test_tasks::BaseTaskTests::test_task_cancel_message_getter";
    sleeps_end_at_their_time: "L5" = "test_tasks::BaseTaskTests::test_sleep";
    a_cancelled_sleep_leaves_no_timer: "LP2 L5"
        = "test_tasks::BaseTaskTests::test_sleep_cancel",
          "test_base_events::BaseEventLoopTests::test__run_once_cancelled_event_cleanup";
    a_sleeping_task_is_cancelled_by_a_timer: "L3 L5" = "test_tasks::BaseTaskTests::test_task_cancel_sleeping_task";
    ensure_future_of_a_coroutine_is_a_task: "GA8" = "test_tasks::BaseTaskTests::test_ensure_future_coroutine";
    ensure_future_of_a_future_is_that_future: "GA8"
        = "test_tasks::BaseTaskTests::test_ensure_future_future", "test_tasks::BaseTaskTests::test_ensure_future_task";
    wait_gives_what_is_done_and_takes_no_time_for_it_again: "GA6" = "test_tasks::BaseTaskTests::test_wait";
    wait_gives_also_what_ended_while_it_was_woken: "GA6" = "test_tasks::BaseTaskTests::test_wait_really_done";
    a_shielded_gather_survives_its_shield: "SH2 CA15" = "test_tasks::BaseTaskTests::test_shield_gather";
    a_gather_of_shields_is_cancelled_and_what_they_shield_is_not: "SH2 CA14"
        = "test_tasks::BaseTaskTests::test_gather_shield";
    a_loop_of_gathers_is_left_with_the_message_of_the_request: "CA14 FU8"
        = "test_tasks::BaseTaskTests::test_cancel_gather_2";
    cancelling_a_gather_cancels_every_child: "CA14" = "test_tasks::CoroutineGatherTests::test_cancellation_broadcast";
    a_gather_takes_what_differs: "GA1"
        = "test_tasks::GatherTestsBase::test_result_exception_success",
          "test_tasks::BaseTaskTests::test_shield_coroutine_use_running_loop";
    a_hundred_tasks_have_a_hundred_contexts: "CV1"
        = "test_tasks::BaseTaskTests::test_context_3", "test_context::DecimalContextTest::test_asyncio_task_decimal_context";
    tasks_share_the_context_that_they_are_given: "CV1"
        = "test_tasks::BaseTaskTests::test_context_4",
          "test_tasks::BaseTaskTests::test_context_5",
          "test_tasks::BaseTaskTests::test_context_6";
    a_task_tells_its_context: "CV1" = "test_tasks::BaseTaskTests::test_get_context";
    a_task_tells_its_context_to_what_runs_inside_its_step: "CV1 EA1";
    what_is_set_in_a_task_s_own_context_stays: "CV1";
    an_eager_task_that_blocks_goes_on_as_others: "EA1" = "test_eager_task_factory::EagerTaskFactoryLoopTests::test_block_after_eager_step";
    an_eager_task_is_among_all_tasks_while_it_steps: "EA2 TA6"
        = "test_eager_task_factory::EagerTaskFactoryLoopTests::test_all_tasks_with_eager_completion",
          "test_eager_task_factory::EagerTaskFactoryLoopTests::test_all_tasks_with_blocking";
    trees_of_groups_and_gathers_run_every_task: "EA1 TG3"
        = "test_eager_task_factory::BaseTaskCountingTests::test_recursive_taskgroups",
          "test_eager_task_factory::BaseTaskCountingTests::test_recursive_gather";
    an_eager_task_has_its_name_in_its_first_step: "EA5 EA6"
        = "test_eager_task_factory::EagerTaskFactoryLoopTests::test_name",
          "test_eager_task_factory::DefaultTaskFactoryEagerStart::test_eager_start_true_with_default_factory",
          "test_eager_task_factory::EagerTaskFactoryLoopTests::test_eager_start_false",
          "test_tasks::BaseTaskTests::test_eager_start_true",
          "test_tasks::BaseTaskTests::test_eager_start_false";
}

fn a_task_awaits_coroutines_in_place(on: &Machine) {
    on.run(async {
        let sum = async { Ok(ready(42).await? + ready(1000).await?) };
        assert_eq!(create_task(sum).await?, 1042);
        async fn named(value: u32) -> Result<u32> {
            sleep(0.0).await?;
            Ok(value)
        }
        assert_eq!(create_task(named(12)).await?, 12);
        Ok(())
    });
}

fn a_task_that_yields_is_cancelled_at_its_yield(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            sleep(0.0).await?;
            sleep(0.0).await?;
            Ok(12)
        });
        pump(1).await?;
        assert!(task.cancel(None));
        assert!((&task).await.unwrap_err().is_cancelled());
        assert!(task.done() && task.cancelled() && !task.cancel(None));
        Ok(())
    });
}

fn a_task_is_cancelled_in_its_await(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            sleep(10.0).await?;
            Ok(12)
        });
        pump(1).await?;
        assert!(task.cancel(None));
        assert!((&task).await.unwrap_err().is_cancelled());
        assert!(task.done() && task.cancelled() && !task.cancel(None));
        assert_eq!(seconds(), 0.0);
        Ok(())
    });
}

fn a_request_carries_its_message(on: &Machine) {
    on.run(async {
        let task = create_task(ready(()));
        task.cancel(Some("my message"));
        assert_eq!(message(&task.await).as_deref(), Some("my message"));
        Ok(())
    });
}

fn sleeps_end_at_their_time(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            sleep(0.0625).await?;
            assert_eq!(seconds(), 0.0625);
            sleep(0.0625).await?;
            Ok("yeah")
        });
        assert_eq!(task.await?, "yeah");
        assert_eq!(seconds(), 0.125);
        Ok(())
    });
}

fn a_cancelled_sleep_leaves_no_timer(on: &Machine) {
    on.run(async {
        for _ in 0..300 {
            let task = create_task(sleep(10.0));
            pump(1).await?;
            task.cancel(None);
            assert!(task.await.unwrap_err().is_cancelled());
        }
        let handles = [1.0, 2.0].map(|delay| event_loop().call_later(delay, || panic!("it was cancelled")).unwrap());
        for handle in &handles {
            handle.cancel();
            assert!(handle.cancelled());
        }
        // Nothing but this sleep wakes the loop.
        let before = turn();
        sleep(60.0).await?;
        assert_eq!((turn() - before, seconds()), (2, 60.0));
        Ok(())
    });
}

fn a_sleeping_task_is_cancelled_by_a_timer(on: &Machine) {
    on.run(async {
        let sleeper = Rc::new(create_task(sleep(5000.0)));
        let cancelled = Rc::clone(&sleeper);
        event_loop().call_later(0.125, move || assert!(cancelled.cancel(None)))?;
        assert!((&*sleeper).await.unwrap_err().is_cancelled());
        assert_eq!(seconds(), 0.125);
        Ok(())
    });
}

fn ensure_future_of_a_coroutine_is_a_task(on: &Machine) {
    on.run(async {
        let before = all_tasks().len();
        let future = ensure_future(async { Ok(me().name().to_string()) })?;
        assert!(!future.done() && all_tasks().len() == before + 1);
        assert!((&future).await?.starts_with("Task-"));
        assert!(future.done());
        Ok(())
    });
}

fn ensure_future_of_a_future_is_that_future(on: &Machine) {
    on.run(async {
        let future = pending::<u32>();
        let same = ensure_future(future.clone())?;
        assert!(same.same(&future));
        future.set_result(1)?;
        assert_eq!(turns_of(same).await?, (0, 1));
        let task = create_task(ready("ok"));
        let view = task.view();
        let future = ensure_future(task)?;
        assert_eq!((&future).await?, "ok");
        assert!(view.done() && future.done());
        Ok(())
    });
}

/// Awaits something and tells how many turns that took.
async fn turns_of<T>(awaited: impl std::future::IntoFuture<Output = Result<T>>) -> Result<(u64, T)> {
    let before = turn();
    let value = awaited.await?;
    Ok((turn() - before, value))
}

fn wait_gives_what_is_done_and_takes_no_time_for_it_again(on: &Machine) {
    on.run(async {
        let tasks = [create_task(sleep(0.125)), create_task(sleep(0.25))];
        for _ in 0..2 {
            let (done, left) = wait(&tasks).await?;
            assert_eq!((done.len(), left.len(), seconds()), (2, 0, 0.25));
        }
        Ok(())
    });
}

fn wait_gives_also_what_ended_while_it_was_woken(on: &Machine) {
    on.run(async {
        let tasks = [create_task(pump(2)), create_task(pump(1))];
        let (done, left) = wait(&tasks).return_when(ReturnWhen::FirstCompleted).await?;
        assert_eq!((done.len(), left.len()), (2, 0));
        tasks.iter().try_for_each(Task::result)
    });
}

fn a_shielded_gather_survives_its_shield(on: &Machine) {
    on.run(async {
        let (one, two) = (pending(), pending());
        let parent = gather((one.clone(), two.clone()));
        let outer = shield(parent.clone());
        pump(1).await?;
        outer.cancel(None);
        pump(1).await?;
        assert!(outer.cancelled());
        one.set_result(1)?;
        two.set_result(2)?;
        pump(1).await?;
        assert_eq!(parent.result()?, (1, 2));
        Ok(())
    });
}

fn a_gather_of_shields_is_cancelled_and_what_they_shield_is_not(on: &Machine) {
    on.run(async {
        let (one, two) = (pending(), pending());
        let (first, second) = (shield(one.clone()), shield(two.clone()));
        let parent = gather((first.clone(), second.clone()));
        pump(1).await?;
        parent.cancel(None);
        pump(1).await?;
        assert!(parent.exception()?.unwrap().is_cancelled());
        assert!(first.cancelled() && second.cancelled());
        assert!(!one.done() && !two.done());
        one.set_result(1)?;
        two.set_result(2)?;
        pump(1).await
    });
}

fn a_loop_of_gathers_is_left_with_the_message_of_the_request(on: &Machine) {
    on.run(async {
        for text in [None, Some("my message")] {
            let task = create_task(async {
                for _ in 0..20 {
                    gather_results([sleep(0.05)]).await?;
                }
                Ok(())
            });
            sleep(0.2).await?;
            task.cancel(text);
            assert_eq!(message(&task.await).as_deref(), text);
        }
        Ok(())
    });
}

fn cancelling_a_gather_cancels_every_child(on: &Machine) {
    on.run(async {
        let (waiter, proof) = (pending::<()>(), Rc::new(Cell::new(0)));
        let child = || {
            let (waiter, proof) = (waiter.clone(), Rc::clone(&proof));
            create_task(async move {
                (&waiter).await?;
                proof.set(proof.get() + 1);
                Ok(())
            })
        };
        let (one, two) = (child(), child());
        let (first, second) = (one.view(), two.view());
        let end = Rc::clone(&proof);
        let outer = create_task(async move {
            gather((one, two)).await?;
            end.set(end.get() + 100);
            Ok(())
        });
        pump(2).await?;
        assert!(outer.cancel(None));
        assert!(outer.await.unwrap_err().is_cancelled());
        assert!(waiter.cancelled() && first.cancelled() && second.cancelled());
        pump(1).await?;
        assert_eq!(proof.get(), 0);
        Ok(())
    });
}

fn a_gather_takes_what_differs(on: &Machine) {
    on.run(async {
        let (future, task) = (pending(), create_task(ready('t')));
        let setter = future.clone();
        soon(move || setter.set_result("f").unwrap());
        assert_eq!(gather((future, task, ready(1), shield(ready(2.5)))).await?, ("f", 't', 1, 2.5));
        let results = gather_results([ready(1), ready(2)]).await?;
        let values: Vec<_> = results.into_iter().map(Result::unwrap).collect();
        assert_eq!(values, [1, 2]);
        Ok(())
    });
}

fn a_hundred_tasks_have_a_hundred_contexts(on: &Machine) {
    on.run(async {
        let var = Rc::new(ContextVar::<u32>::new());
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                let var = Rc::clone(&var);
                create_task(async move {
                    for n in 0..10 {
                        var.set(number + n);
                        sleep(f64::from((number * 7 + n * 13) % 50 + 1) / 1000.0).await?;
                        assert_eq!(var.get(), Some(number + n));
                    }
                    Ok(())
                })
            })
            .collect();
        gather(tasks).await?;
        assert_eq!(var.get(), None);
        Ok(())
    });
}

fn tasks_share_the_context_that_they_are_given(on: &Machine) {
    on.run(async {
        let var = Rc::new(ContextVar::<u32>::new());
        let context = Context::copy_current();
        let seen = || context.run(|| var.get());
        assert_eq!(seen(), None);
        for value in [1, 2] {
            let inside = Rc::clone(&var);
            let setting = async move {
                sleep(0.0).await?;
                inside.set(value);
                Ok(())
            };
            TaskBuilder::new().context(context.clone()).create_task(setting).await?;
            assert_eq!(seen(), Some(value));
        }
        assert_eq!(var.get(), None);
        Ok(())
    });
}

fn a_task_tells_its_context(on: &Machine) {
    on.run(async {
        let var = Rc::new(ContextVar::<u32>::new());
        let given = Context::new();
        let task = TaskBuilder::new().context(given.clone()).create_task(async { Ok(()) });
        (&task).await?;
        task.context().run(|| var.set(1));
        assert_eq!(given.run(|| var.get()), Some(1), "it is the one that was given");

        var.set(2);
        let inside = Rc::clone(&var);
        let own = create_task(async move {
            let mine = current_task().unwrap().context();
            assert_eq!(mine.run(|| inside.get()), Some(2));
            inside.set(3);
            sleep(0.0).await?;
            Ok(inside.get())
        });
        let outside = own.context();
        assert_eq!(outside.run(|| var.get()), Some(2));
        sleep(0.0).await?;
        assert_eq!(outside.run(|| var.get()), Some(3));
        outside.run(|| var.set(4));
        assert_eq!(own.await?, Some(4));
        assert_eq!(var.get(), Some(2));
        Ok(())
    });
}

/// An eager child, and whoever runs in a context that was entered, was told that there is nothing in it.
fn a_task_tells_its_context_to_what_runs_inside_its_step(on: &Machine) {
    on.run(async {
        let var = Rc::new(ContextVar::<&str>::new());
        var.set("parent");
        let parent = current_task().unwrap();
        let child = |inherited: &'static str| {
            let (var, parent) = (Rc::clone(&var), parent.clone());
            TaskBuilder::new().eager_start(true).create_task(async move {
                assert_eq!(var.get(), Some(inherited));
                var.set("child");
                Ok(parent.context().run(|| var.get()))
            })
        };
        assert_eq!(child("parent").await?, Some("parent"));
        assert_eq!(var.get(), Some("parent"));

        let told = Context::new().run(|| {
            var.set("inside");
            assert_eq!(parent.context().run(|| var.get()), Some("parent"));
            child("inside")
        });
        assert_eq!(told.await?, Some("parent"));
        assert_eq!(var.get(), Some("parent"));
        Ok(())
    });
}

fn what_is_set_in_a_task_s_own_context_stays(on: &Machine) {
    on.run(async {
        let var = Rc::new(ContextVar::<u32>::new());
        let parent = current_task().unwrap();
        parent.context().run(|| var.set(1));
        assert_eq!(var.get(), Some(1));
        let set = {
            let var = Rc::clone(&var);
            async move {
                parent.context().run(|| var.set(2));
                Ok(())
            }
        };
        TaskBuilder::new().eager_start(true).create_task(set).await?;
        assert_eq!(var.get(), Some(2));
        sleep(0.0).await?;
        assert_eq!(var.get(), Some(2));
        Ok(())
    });
}

fn an_eager_task_that_blocks_goes_on_as_others(on: &Machine) {
    on.run(async {
        let task = TaskBuilder::new().eager_start(true).create_task(async {
            sleep(0.125).await?;
            Ok("finished after blocking")
        });
        assert!(!task.done());
        assert_eq!((&task).await?, "finished after blocking");
        assert!(task.done() && seconds() == 0.125);
        Ok(())
    });
}

fn an_eager_task_is_among_all_tasks_while_it_steps(on: &Machine) {
    on.run(async {
        let names = || all_tasks().iter().map(|task| task.name().to_string()).collect::<Vec<_>>();
        let task = TaskBuilder::new().name("eager").eager_start(true).create_task(async move { Ok(names()) });
        assert!((&task).await?.contains(&"eager".to_owned()));
        assert!(!names().contains(&"eager".to_owned()));

        let (go, gone) = (pending::<()>(), pending());
        let (awaited, told) = (go.clone(), gone.clone());
        let task = TaskBuilder::new().name("blocks").eager_start(true).create_task(async move {
            assert!(names().contains(&"blocks".to_owned()));
            awaited.await?;
            told.set_result(())
        });
        assert!(!task.done() && names().contains(&"blocks".to_owned()));
        go.set_result(())?;
        gone.await?;
        assert!(!names().contains(&"blocks".to_owned()));
        Ok(())
    });
}

fn trees_of_groups_and_gathers_run_every_task(on: &Machine) {
    type Tree = std::pin::Pin<Box<dyn std::future::Future<Output = Result<u32>>>>;

    fn gathered(width: u32, depth: u32, eager: bool) -> Tree {
        Box::pin(async move {
            if depth == 0 {
                return Ok(1);
            }
            let builder = || TaskBuilder::new().eager_start(eager);
            let children: Vec<_> =
                (0..width).map(|_| builder().create_task(gathered(width, depth - 1, eager))).collect();
            Ok(1 + gather(children).await?.into_iter().sum::<u32>())
        })
    }

    fn grouped(width: u32, depth: u32, eager: bool) -> Tree {
        Box::pin(async move {
            if depth == 0 {
                return Ok(1);
            }
            let children = task_group(async move |group| {
                let builder = || TaskBuilder::new().eager_start(eager);
                (0..width)
                    .map(|_| group.create_task_with(builder(), grouped(width, depth - 1, eager)))
                    .collect::<Result<Vec<_>>>()
            });
            let children = children.await?;
            children.iter().try_fold(1, |sum, child| Ok(sum + child.result()?))
        })
    }

    on.run(async {
        let expected = (0..=4).map(|depth| 5_u32.pow(depth)).sum::<u32>();
        for eager in [false, true] {
            assert_eq!(gathered(5, 4, eager).await?, expected);
            assert_eq!(grouped(5, 4, eager).await?, expected);
        }
        Ok(())
    });
}

fn an_eager_task_has_its_name_in_its_first_step(on: &Machine) {
    on.run(async {
        let name = async { Ok(me().name().to_string()) };
        let task = TaskBuilder::new().name("named").eager_start(true).create_task(name);
        assert_eq!((&*task.name(), task.result()?), ("named", "named".to_owned()));
        let name = async { Ok(me().name().to_string()) };
        let task = TaskBuilder::new().eager_start(true).create_task(name);
        assert_eq!(*task.name(), task.result()?);
        let task = TaskBuilder::new().eager_start(false).create_task(ready(()));
        assert!(!task.done());
        task.await
    });
}
