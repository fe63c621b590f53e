//! The states of futures and tasks, and tasks that start eagerly, as CPython has them.

mod common;

use std::rc::Rc;

use aioli_core::*;
use common::*;

mod states {
    use super::*;

    #[test]
    fn are_reached_once() {
        sim(async {
            let invalid = |result: Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidState);
            let future = pending::<u32>();
            invalid(future.result().map(drop));
            invalid(future.exception().map(drop));
            assert!(!future.done() && !future.cancelled());
            future.set_result(1)?;
            invalid(future.set_result(2));
            invalid(future.set_exception(Error::msg("late")));
            assert!(!future.cancel(None));
            assert_eq!((future.result()?, future.exception()?.is_none()), (1, true));

            let cancelled = pending::<u32>();
            assert!(cancelled.cancel(None));
            assert!(cancelled.done() && cancelled.cancelled());
            invalid(cancelled.set_result(2));
            assert!(
                cancelled.result().unwrap_err().is_cancelled() && cancelled.exception().unwrap_err().is_cancelled()
            );
            Ok(())
        });
    }

    #[test]
    fn a_value_is_taken_once_and_cloned_as_often_as_one_likes() {
        sim(async {
            let future = done(vec![1]);
            assert_eq!(((&future).await?, (&future).await?), (vec![1], vec![1]));
            assert_eq!(future.clone().await?, [1]);
            assert_eq!(future.take_result().unwrap_err().kind(), ErrorKind::InvalidState);
            assert_eq!(future.await.unwrap_err().kind(), ErrorKind::InvalidState);
            let task = create_task(ready(5));
            assert_eq!((&task).await?, 5);
            assert_eq!((task.take_result()?, task.take_result().is_err()), (5, true));
            Ok(())
        });
    }

    #[test]
    fn an_error_is_the_same_for_everybody() {
        sim(async {
            let (future, error) = (pending::<u32>(), Error::msg("x"));
            future.set_exception(error.clone())?;
            for _ in 0..2 {
                assert!((&future).await.unwrap_err().same(&error));
            }
            assert!(future.exception()?.unwrap().same(&error));
            assert!(!error.same(&Error::msg("x")));
            Ok(())
        });
    }

    #[test]
    fn a_cancellation_set_as_an_error_is_no_cancelled_state() {
        sim(async {
            let future = pending::<u32>();
            future.set_exception(Error::cancelled(Some("given")))?;
            assert!(!future.cancelled());
            assert_eq!(message(&future.await).as_deref(), Some("given"));
            Ok(())
        });
    }

    #[test]
    fn a_callback_is_removed_until_it_is_scheduled() {
        sim(async {
            let (trace, future) = (Trace::new(), pending::<()>());
            let add = |name: &'static str| {
                let trace = trace.clone();
                future.add_done_callback(move |_| trace.mark(name))
            };
            let ids = [add("0"), add("1"), add("2"), add("3")];
            assert!(future.remove_done_callback(ids[1]));
            assert!(!future.remove_done_callback(ids[1]));
            assert!(future.remove_done_callback(ids[0]));
            trace.start();
            future.set_result(())?;
            assert!(!future.remove_done_callback(ids[2]), "it is scheduled");
            let late = add("late");
            assert!(!future.remove_done_callback(late));
            pump(2).await?;
            assert_eq!(trace.take(), ["2+1", "3+1", "late+1"]);
            Ok(())
        });
    }

    #[test]
    fn a_future_of_another_loop_cannot_be_awaited() {
        let other = Runner::new(aioli_exec_sim::SimDriver::new());
        let stranger = other.get_loop().create_future::<()>();
        let done = other.get_loop().create_future::<u32>();
        done.set_result(3).unwrap();
        sim(async move {
            let trace = Trace::new();
            assert_eq!((&stranger).await.unwrap_err().kind(), ErrorKind::Runtime);
            assert_eq!(trace.turns(), 1);
            assert!(gather([&stranger]).await.unwrap_err().kind() == ErrorKind::Value);
            assert_eq!(done.await?, 3, "awaiting what is done asks no loop");
            Ok(())
        });
    }

    #[test]
    fn a_dropped_handle_detaches_a_task() {
        sim(async {
            let trace = Trace::new();
            let inside = trace.clone();
            drop(create_task(async move {
                sleep(5.0).await?;
                inside.log(seconds());
                Ok(())
            }));
            sleep(9.0).await?;
            assert_eq!(trace.take(), ["5"]);
            Ok(())
        });
    }

    #[test]
    fn names_are_given_or_counted() {
        sim(async {
            let number = |name: &str| name.strip_prefix("Task-").unwrap().parse::<u64>().unwrap();
            let (one, two) = (create_task(hang()), create_task(hang()));
            assert_eq!(number(&two.name()), number(&one.name()) + 1);
            one.set_name("given");
            assert_eq!((&*one.name(), &*one.view().name()), ("given", "given"));
            let built = TaskBuilder::new().name("built").create_task(async { Ok(me().name().to_string()) });
            assert_eq!(built.await?, "built");
            Ok(())
        });
    }
}

mod eager {
    use super::*;

    fn eager<T: 'static>(coroutine: impl std::future::Future<Output = Result<T>> + 'static) -> Task<T> {
        TaskBuilder::new().eager_start(true).create_task(coroutine)
    }

    #[test]
    fn the_first_step_runs_at_once_as_its_own_task_in_a_copy_of_the_context() {
        sim(async {
            let (trace, var) = (Trace::new(), Rc::new(ContextVar::<&str>::new()));
            var.set("parent");
            let (inside, inner) = (trace.clone(), Rc::clone(&var));
            let outer = me().name();
            let task = TaskBuilder::new().name("E").eager_start(true).create_task(async move {
                inside.log(format_args!("in {} {}", me().name(), inner.get().unwrap()));
                inner.set("child");
                sleep(0.0).await?;
                inside.mark(format_args!("resumed {}", inner.get().unwrap()));
                Ok(5)
            });
            trace.log(format_args!("after {} {}", var.get().unwrap(), task.done()));
            assert_eq!(me().name(), outer);
            assert_eq!(task.await?, 5);
            assert_eq!(trace.take(), ["in E parent", "after parent false", "resumed child+1"]);
            Ok(())
        });
    }

    #[test]
    fn one_that_does_not_suspend_is_done_on_return() {
        sim(async {
            let task = eager(async { Ok(all_tasks().len()) });
            assert_eq!((task.done(), task.result()?, all_tasks().len()), (true, 2, 1));
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

    #[test]
    fn what_is_done_at_once_takes_no_turn() {
        sim(async {
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

    #[test]
    fn one_that_cancels_itself_is_cancelled_at_its_end_or_its_next_await() {
        sim(async {
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

    #[test]
    fn eager_tasks_nest() {
        sim(async {
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

    #[test]
    fn a_scope_of_the_creator_is_not_around_an_eager_task() {
        sim(async {
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
}
