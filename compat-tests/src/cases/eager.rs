//! Tasks that start eagerly, as CPython has them.

use std::rc::Rc;

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

cases! {
    ($) "eager" in eager as __cases_eager;
    the_first_step_runs_at_once_as_its_own_task_in_a_copy_of_the_context: "EA1 EA3"
        = "test_eager_task_factory::EagerTaskFactoryLoopTests::test_current_task",
          "test_eager_task_factory::EagerTaskFactoryLoopTests::test_context_vars";
    one_that_does_not_suspend_is_done_on_return: "EA2"
        = "test_eager_task_factory::EagerTaskFactoryLoopTests::test_eager_completion",
          "test_eager_task_factory::EagerTaskFactoryLoopTests::test_cancellation_after_eager_completion";
    what_is_done_at_once_takes_no_turn: "EA2 TA4";
    what_the_first_step_sets_is_there_on_return: "EA1 EA2"
        = "test_eager_task_factory::EagerTaskFactoryLoopTests::test_await_future_during_eager_step";
    one_that_cancels_itself_is_cancelled_at_its_end_or_its_next_await: "EA4";
    one_that_waits_is_cancelled_as_others: "EA1 CA1"
        = "test_eager_task_factory::EagerTaskFactoryLoopTests::test_cancellation_after_eager_step_blocks";
    eager_tasks_nest: "EA1";
    a_chain_of_coroutines_is_one_step: "EA1 EA2" = "test_eager_task_factory::BaseTaskCountingTests::test_awaitables_chain";
    a_scope_of_the_creator_is_not_around_an_eager_task: "EA1 L3";
}

fn eager<T: 'static>(coroutine: impl std::future::Future<Output = Result<T>> + 'static) -> Task<T> {
    TaskBuilder::new().eager_start(true).create_task(coroutine)
}

fn the_first_step_runs_at_once_as_its_own_task_in_a_copy_of_the_context(on: &Machine) {
    on.run(async {
        let (trace, var) = (Trace::new(), Rc::new(ContextVar::<&str>::new()));
        var.set("parent");
        let (inside, inner) = (trace.clone(), Rc::clone(&var));
        let outer = me().name();
        let task = TaskBuilder::new().name("E").eager_start(true).create_task(async move {
            inside.log(format_args!("in {} {}", me().name(), inner.get().unwrap()));
            inner.set("child");
            sleep(0.0).await?;
            inside.mark(format_args!("resumed {} {}", me().name(), inner.get().unwrap()));
            Ok(5)
        });
        trace.log(format_args!("after {} {}", var.get().unwrap(), task.done()));
        assert_eq!(me().name(), outer);
        assert_eq!(task.await?, 5);
        assert_eq!(trace.take(), ["in E parent", "after parent false", "resumed E child+1"]);
        Ok(())
    });
}

fn one_that_does_not_suspend_is_done_on_return(on: &Machine) {
    on.run(async {
        let task = eager(async { Ok(all_tasks().len()) });
        assert_eq!((task.done(), task.result()?, all_tasks().len()), (true, 2, 1));
        assert!(!task.cancel(None) && !task.cancelled());
        let failed = eager(fail::<()>("eager"));
        assert_eq!(failed.exception()?.unwrap().to_string(), "eager");
        let trace = Trace::new();
        let callback = trace.clone();
        task.add_done_callback(move |_| callback.mark("callback"));
        pump(2).await?;
        assert_eq!(trace.take(), ["callback+1"]);
        Ok(())
    });
}

fn what_is_done_at_once_takes_no_turn(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        assert_eq!(gather((eager(ready(1)), eager(ready(2)))).await?, (1, 2));
        assert_eq!(eager(ready(1)).await?, 1);
        assert_eq!(shield(eager(ready(1))).await?, 1);
        assert_eq!(trace.turns(), 0);
        let (done, left) = wait([eager(ready(1))]).await?;
        assert_eq!((done.len(), left.len(), trace.turns()), (1, 0, 2));
        trace.start();
        let child = |coroutine| {
            task_group(async move |group| {
                group.create_task_with(TaskBuilder::new().eager_start(true), coroutine).map(drop)
            })
        };
        child(ready(())).await?;
        assert_eq!(trace.turns(), 2);
        Ok(())
    });
}

fn one_that_cancels_itself_is_cancelled_at_its_end_or_its_next_await(on: &Machine) {
    on.run(async {
        let task = eager(async {
            me().cancel(None);
            sleep(0.0).await
        });
        assert_eq!(state(&task), "PENDING cancelling=1");
        pump(3).await?;
        assert_eq!(state(&task), "CANCELLED cancelling=1");
        let task = eager(async { Ok(me().cancel(None)) });
        assert_eq!(state(&task), "CANCELLED cancelling=1");
        Ok(())
    });
}

fn what_the_first_step_sets_is_there_on_return(on: &Machine) {
    on.run(async {
        let (trace, future) = (Trace::new(), pending());
        let setter = future.clone();
        let task = eager(async move { setter.set_result("my message") });
        assert!(task.done());
        assert_eq!(future.await?, "my message");
        assert_eq!(trace.turns(), 0);
        Ok(())
    });
}

fn one_that_waits_is_cancelled_as_others(on: &Machine) {
    on.run(async {
        let task = eager(sleep(0.1));
        assert!(task.cancel(Some("message")));
        assert_eq!(task.cancelling(), 1);
        assert_eq!(message(&task.await).as_deref(), Some("message"));
        assert_eq!(seconds(), 0.0);
        Ok(())
    });
}

fn a_chain_of_coroutines_is_one_step(on: &Machine) {
    async fn chain(depth: u32) -> Result<u32> {
        match depth {
            0 => Ok(0),
            _ => Ok(1 + Box::pin(chain(depth - 1)).await?),
        }
    }
    on.run(async {
        let trace = Trace::new();
        let task = eager(chain(100));
        assert!(task.done());
        assert_eq!((task.await?, trace.turns()), (100, 0));
        assert_eq!((create_task(chain(100)).await?, trace.turns()), (100, 2));
        Ok(())
    });
}

fn eager_tasks_nest(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let (outer, inner) = (trace.clone(), trace.clone());
        let name = |name| TaskBuilder::new().name(name).eager_start(true);
        let task = name("S1").create_task(async move {
            outer.log(me().name());
            let nested = name("S2").create_task(async move {
                inner.log(me().name());
                Ok(())
            });
            outer.log(me().name());
            nested.await
        });
        assert!(task.done());
        assert_eq!(trace.take(), ["S1", "S2", "S1"]);
        Ok(())
    });
}

fn a_scope_of_the_creator_is_not_around_an_eager_task(on: &Machine) {
    on.run(async {
        let task = timeout(1.0, async {
            Ok(eager(async {
                sleep(5.0).await?;
                Ok(seconds())
            }))
        })
        .await?;
        let late = timeout(1.0, async {
            let other = eager(sleep(9.0));
            let interrupted = hang().await;
            assert!(!other.done() && other.cancelling() == 0);
            interrupted
        });
        assert!(late.await.unwrap_err().is_timeout());
        assert_eq!(task.await?, 5.0);
        Ok(())
    });
}
