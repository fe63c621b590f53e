//! Tests that CPython 3.14 and 3.15 added to those of 3.13.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use aioli_core::*;

use super::support::*;
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "newer" in newer as __cases_newer;
    upstream_call_soon_threadsafe_handle_cancel_other_thread: "LP17 L10"
        = "test_events::EventLoopTestsMixin::test_call_soon_threadsafe_handle_cancel_other_thread";
    upstream_call_soon_threadsafe_handle_cancel_same_thread: "LP17"
        = "test_events::EventLoopTestsMixin::test_call_soon_threadsafe_handle_cancel_same_thread";
    upstream_all_tasks_race: "LP15 TA6" = "test_free_threading::TestFreeThreading::test_all_tasks_race";
    upstream_run_coroutine_threadsafe: "TH4 L10"
        = "test_free_threading::TestFreeThreading::test_run_coroutine_threadsafe",
          "test_free_threading::TestFreeThreading::test_run_coroutine_threadsafe_exception";
    upstream_run_coroutine_threadsafe_and_cancel: "TH4 L10"
        = "test_tasks::RunCoroutineThreadsafeTests::test_run_coroutine_threadsafe_and_cancel";
    upstream_run_awaitable: "RN1 TA7" = "test_runners::RunnerTests::test_run_awaitable";
    upstream_cancels_task_if_created_during_creation: "TG2 TG7"
        = "test_taskgroups::BaseTestTaskGroup::test_cancels_task_if_created_during_creation";
    upstream_cancellation_does_not_leak_out_of_tg: "TG5 TG7"
        = "test_taskgroups::BaseTestTaskGroup::test_cancellation_does_not_leak_out_of_tg";
    upstream_name: "TG1 EA5" = "test_taskgroups::BaseTestTaskGroup::test_name";
    upstream_shield_cancel_outer_result: "SH3 CA15" = "test_tasks::BaseTaskTests::test_shield_cancel_outer_result";
    upstream_shield_cancel_outer_exception: "SH3 CA15"
        = "test_tasks::BaseTaskTests::test_shield_cancel_outer_exception",
          "test_tasks::BaseTaskTests::test_shield_duplicate_log_once";
    upstream_taskgroup_cancel_children: "TG8" = "test_taskgroups::BaseTestTaskGroup::test_taskgroup_cancel_children";
    upstream_taskgroup_cancel_body: "TG8" = "test_taskgroups::BaseTestTaskGroup::test_taskgroup_cancel_body";
    upstream_taskgroup_cancel_nested: "TG8 TG6" = "test_taskgroups::BaseTestTaskGroup::test_taskgroup_cancel_nested";
}

fn upstream_call_soon_threadsafe_handle_cancel_other_thread(on: &Machine) {
    on.run(async {
        let (called, remote) = (Arc::new(AtomicBool::new(false)), event_loop().remote());
        let calling = Arc::clone(&called);
        let cancelling = thread::spawn(move || {
            let handle = remote.call_soon_threadsafe(move || calling.store(true, Ordering::SeqCst)).unwrap();
            // The loop stands still until this thread has ended.
            handle.cancel();
            assert!(handle.cancelled());
        });
        cancelling.join().unwrap();
        pump(3).await?;
        assert!(!called.load(Ordering::SeqCst));
        Ok(())
    });
}

fn upstream_call_soon_threadsafe_handle_cancel_same_thread(on: &Machine) {
    on.run(async {
        let (ended, remote) = (Arc::new(AtomicBool::new(false)), event_loop().remote());
        let (give, take) = mpsc::channel();
        let ending = Arc::clone(&ended);
        let callback = move || {
            let handle: RemoteHandle = take.recv().unwrap();
            // It is called already, so this changes nothing.
            handle.cancel();
            ending.store(true, Ordering::SeqCst);
        };
        let calling = thread::spawn(move || {
            let handle = remote.call_soon_threadsafe(callback).unwrap();
            give.send(handle).unwrap();
        });
        calling.join().unwrap();
        pump(3).await?;
        assert!(ended.load(Ordering::SeqCst));
        Ok(())
    });
}

fn upstream_all_tasks_race(on: &Machine) {
    let threads: Vec<_> = (0..10)
        .map(|_| {
            let make = on.maker();
            thread::spawn(move || {
                make().run(async {
                    let gate = pending::<()>();
                    task_group(async |group| {
                        for _ in 0..100 {
                            let gate = gate.clone();
                            group.create_task(async move { (&gate).await })?;
                        }
                        let all = all_tasks();
                        assert_eq!(all.len(), 101);
                        assert!(all.iter().all(|task| !task.done()));
                        assert!(all.iter().any(|task| task.name() == me().name()));
                        gate.set_result(())
                    })
                    .await
                })
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn upstream_run_coroutine_threadsafe(on: &Machine) {
    on.run(async {
        let jobs = (0..10).map(|n| {
            let remote = event_loop().remote();
            to_thread(move || {
                let future = remote.run_coroutine_threadsafe(async move || {
                    sleep(0.1).await?;
                    if n % 2 == 0 { Ok(42) } else { fail("no").await }
                });
                match future.result() {
                    Ok(value) => assert_eq!((n % 2, value), (0, 42)),
                    Err(error) => assert_eq!((n % 2, error.to_string().as_str()), (1, "no")),
                }
                Ok(())
            })
        });
        gather(jobs.collect::<Vec<_>>()).await.map(drop)
    });
}

fn upstream_run_coroutine_threadsafe_and_cancel(on: &Machine) {
    on.run(async {
        let remote = event_loop().remote();
        let (begun, has_begun) = mpsc::channel();
        let (told, cancelled) = mpsc::channel();
        to_thread(move || {
            let future = remote.run_coroutine_threadsafe(async move || {
                begun.send(()).unwrap();
                told.send(hang().await.unwrap_err().is_cancelled()).unwrap();
                Ok(())
            });
            has_begun.recv()?;
            assert!(!future.done() && future.cancel());
            assert!(future.cancelled() && future.result().unwrap_err().is_cancelled());
            assert!(cancelled.recv()?);
            Ok(())
        })
        .await?;
        sleep(0.01).await?;
        assert_eq!(all_tasks().len(), 1);
        Ok(())
    });
}

/// What is awaited need not be an `async` block.
fn upstream_run_awaitable(on: &Machine) {
    assert_eq!(on.try_run(std::future::ready(Ok("done"))).unwrap(), "done");
    let runner = on.runner();
    let future = runner.get_loop().create_future();
    future.set_result(7).unwrap();
    assert_eq!(runner.run(future).unwrap(), 7);
    assert_eq!(runner.run(sleep(0.5)).map(|()| runner.get_loop().time().as_secs_f64()).unwrap(), 0.5);
}

fn upstream_cancels_task_if_created_during_creation(on: &Machine) {
    on.run(async {
        for eager in [false, true] {
            let ran = Rc::new(Cell::new(false));
            let flag = Rc::clone(&ran);
            let builder = TaskBuilder::new().eager_start(eager);
            let failed = task_group(async move |group| {
                let (inside, third) = (group.clone(), builder.clone());
                let second = async move {
                    inside.create_task_with(third, fail::<()>("third task failed"))?;
                    // Eager tasks are cancelled at the first, others at the second.
                    assert!(pump(2).await.unwrap_err().is_cancelled());
                    flag.set(true);
                    Ok(())
                };
                group.create_task_with(builder, second).map(drop)
            });
            let error = failed.await.unwrap_err();
            assert_eq!(error.errors().iter().map(ToString::to_string).collect::<Vec<_>>(), ["third task failed"]);
            assert!(ran.get());
        }
        Ok(())
    });
}

fn upstream_cancellation_does_not_leak_out_of_tg(on: &Machine) {
    on.run(async {
        for eager in [false, true] {
            let builder = TaskBuilder::new().eager_start(eager);
            let failed =
                task_group(async move |group| group.create_task_with(builder, fail::<()>("e")).map(drop)).await;
            assert_eq!(failed.unwrap_err().errors().len(), 1);
            assert_eq!(me().cancelling(), 0);
            // This would be cancelled.
            sleep(0.0).await?;
        }
        Ok(())
    });
}

fn upstream_name(on: &Machine) {
    on.run(async {
        for eager in [false, true] {
            let name = Rc::new(RefCell::new(String::new()));
            let note = Rc::clone(&name);
            let builder = TaskBuilder::new().name("example name").eager_start(eager);
            task_group(async move |group| {
                let noting = async move {
                    note.replace(me().name().to_string());
                    Ok(())
                };
                group.create_task_with(builder, noting).map(drop)
            })
            .await?;
            assert_eq!(*name.borrow(), "example name");
        }
        Ok(())
    });
}

fn upstream_shield_cancel_outer_result(on: &Machine) {
    let seen = on.reports(async {
        let inner = pending();
        let outer = shield(inner.clone());
        pump(1).await?;
        outer.cancel(None);
        pump(1).await?;
        inner.set_result(1)?;
        pump(1).await
    });
    assert!(seen.is_empty(), "{seen:?}");
}

fn upstream_shield_cancel_outer_exception(on: &Machine) {
    for shields in [1, 2] {
        let seen = on.reports(async move {
            let inner = pending::<()>();
            for _ in 0..shields {
                let outer = shield(inner.clone());
                pump(1).await?;
                outer.cancel(None);
                pump(1).await?;
            }
            inner.set_exception(Error::msg("foo"))?;
            pump(1).await
        });
        assert_eq!(messages(&seen), ["exception in shielded future"]);
    }
}

fn upstream_taskgroup_cancel_children(on: &Machine) {
    on.run(async {
        // More than one may wait, and be cancelled.
        let left = cancellable_task_group(async |group| {
            group.create_task(sleep(10.0))?;
            group.create_task(sleep(10.0))?;
            sleep(0.0).await?;
            group.cancel();
            Ok(())
        });
        assert_eq!(left.await?, Some(()));
        assert_eq!((me().cancelling(), seconds()), (0, 0.0));
        sleep(0.0).await
    });
}

fn upstream_taskgroup_cancel_body(on: &Machine) {
    on.run(async {
        let count = Rc::new(Cell::new(0));
        let counting = Rc::clone(&count);
        let left = cancellable_task_group(async move |group| {
            group.cancel();
            counting.set(counting.get() + 1);
            sleep(0.0).await?;
            counting.set(counting.get() + 1);
            Ok(())
        });
        assert_eq!(left.await?, None);
        assert_eq!((count.get(), me().cancelling()), (1, 0));
        Ok(())
    });
}

fn upstream_taskgroup_cancel_nested(on: &Machine) {
    on.run(async {
        // The outer one is cancelled by a child of the inner one, and takes it along.
        let trace = Trace::new();
        let inside = trace.clone();
        let left = cancellable_task_group(async move |outer| {
            let inner_trace = inside.clone();
            let inner = cancellable_task_group(async move |inner| {
                inner.create_task(async move {
                    outer.cancel();
                    Ok(())
                })?;
                let interrupted = hang().await;
                inner_trace.log("the inner body is cancelled");
                interrupted
            });
            let interrupted = inner.await;
            assert!(interrupted.unwrap_err().is_cancelled());
            inside.log("and so is the outer one");
            Err::<(), _>(Error::cancelled(None))
        });
        assert_eq!(left.await?, None);
        assert_eq!(trace.take(), ["the inner body is cancelled", "and so is the outer one"]);
        assert_eq!(me().cancelling(), 0);
        // The inner one is cancelled, and the outer one goes on.
        let left = cancellable_task_group(async |_| {
            let inner = cancellable_task_group(async |inner| {
                inner.cancel();
                hang().await
            });
            assert_eq!(inner.await?, None);
            sleep(0.0).await.map(|()| "went on")
        });
        assert_eq!(left.await?, Some("went on"));
        Ok(())
    });
}
