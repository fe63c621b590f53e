//! More of CPython's tests of tasks, and of what is awaited through threads: each as it is written there.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aioli_core::*;

use super::support::*;
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "tasks" in task_ports as __cases_task_ports;
    upstream_uncancel_basic: "CA7" = "test_tasks::BaseTaskTests::test_uncancel_basic";
    upstream_uncancel_structured_blocks: "CA7 W2" = "test_tasks::BaseTaskTests::test_uncancel_structured_blocks";
    upstream_cancel_with_message_then_future_result: "FU8 CA22"
        = "test_tasks::BaseTaskTests::test_cancel_with_message_then_future_result",
          "test_tasks::BaseTaskTests::test_cancel_with_message_then_future_exception";
    upstream_cancel_inner_future: "FU10 CA9" = "test_tasks::BaseTaskTests::test_cancel_inner_future";
    upstream_cancel_both_task_and_inner_future: "CA0 FU2" = "test_tasks::BaseTaskTests::test_cancel_both_task_and_inner_future";
    upstream_yield_future_passes_cancel: "CA2 L3" = "test_tasks::BaseTaskTests::test_yield_future_passes_cancel";
    upstream_cancel_awaited_task: "CA4 CA3" = "test_tasks::BaseTaskTests::test_cancel_awaited_task";
    upstream_cancel_gather_1: "CA14 CA0" = "test_tasks::BaseTaskTests::test_cancel_gather_1";
    upstream_context_2: "CV1 CV2" = "test_tasks::BaseTaskTests::test_context_2";
    upstream_current_task_with_interleaving_tasks: "TA6"
        = "test_tasks::BaseTaskTests::test_current_task_with_interleaving_tasks";
    upstream_wait_with_exception: "GA6" = "test_tasks::BaseTaskTests::test_wait_with_exception";
    upstream_wait_with_timeout: "GA6 L5" = "test_tasks::BaseTaskTests::test_wait_with_timeout";
    upstream_wait_concurrent_complete: "GA6 LP8 L5" = "test_tasks::BaseTaskTests::test_wait_concurrent_complete";
    upstream_as_completed_coroutine_use_running_loop: "GA7"
        = "test_tasks::BaseTaskTests::test_as_completed_coroutine_use_running_loop";
    upstream_run_coroutine_threadsafe_with_timeout: "TH4"
        = "test_tasks::RunCoroutineThreadsafeTests::test_run_coroutine_threadsafe_with_timeout";
    upstream_wrap_future: "TH1 TH3" = "test_futures::BaseFutureTests::test_wrap_future";
    upstream_wrap_future_cancel2: "TH3 CA23" = "test_futures::BaseFutureTests::test_wrap_future_cancel2";
    upstream_set_default_executor: "TH1" = "test_base_events::BaseEventLoopTests::test_set_default_executor";
    upstream_time_and_call_at: "L5 LP5" = "test_base_events::BaseEventLoopTests::test_time_and_call_at";
}

fn upstream_uncancel_basic(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            if sleep(10.0).await.unwrap_err().is_cancelled() {
                me().uncancel();
                sleep(10.0).await?;
            }
            Ok(())
        });
        sleep(0.01).await?;
        assert!(task.cancel(None));
        assert_eq!((task.cancelling(), task.cancelled()), (1, false));
        sleep(0.01).await?;
        assert_eq!((task.cancelling(), task.cancelled()), (0, false));
        assert!(task.cancel(None));
        assert_eq!((task.cancelling(), task.cancelled()), (1, false));
        assert!((&task).await.unwrap_err().is_cancelled());
        assert!(task.cancelled() && task.done());
        // It has no effect any more.
        task.uncancel();
        assert!(task.cancelled() && task.done());
        assert_eq!(seconds(), 0.02);
        Ok(())
    });
}

/// A timeout that is made of `cancel` and `uncancel`: whether it came, and how far its caller got.
async fn with_timeout_by_hand(sleeps: f64, limit: f64) -> Result<(bool, bool, bool)> {
    let (timed_out, task) = (Rc::new(Cell::new(false)), me());
    let (came, victim) = (Rc::clone(&timed_out), task.clone());
    let handle = event_loop().call_later(limit, move || {
        came.set(true);
        victim.cancel(None);
    })?;
    let body = sleep(sleeps).await;
    handle.cancel();
    let finished = body.is_ok();
    match body {
        Err(error) if timed_out.get() && task.uncancel() == 0 && error.is_cancelled() => (),
        body => body?,
    }
    sleep(0.0).await?;
    Ok((timed_out.get(), finished, true))
}

fn upstream_uncancel_structured_blocks(on: &Machine) {
    on.run(async {
        let task = create_task(with_timeout_by_hand(10.0, 0.1));
        assert_eq!((&task).await?, (true, false, true));
        assert_eq!((task.cancelling(), seconds()), (0, 0.1));
        let task = create_task(with_timeout_by_hand(0.0, 10.0));
        assert_eq!((&task).await?, (false, true, true));
        assert_eq!((task.cancelling(), seconds()), (0, 0.1));
        Ok(())
    });
}

fn upstream_cancel_with_message_then_future_result(on: &Machine) {
    on.run(async {
        for text in [None, Some("my message")] {
            for by_exception in [false, true] {
                let outer = create_task(async move {
                    let task = create_task(sleep(10.0));
                    sleep(0.0).await?;
                    task.cancel(text);
                    wait([&task]).await?;
                    if by_exception { task.exception().map(drop) } else { task.result() }
                });
                assert_eq!(message(&outer.await).as_deref(), text);
            }
        }
        Ok(())
    });
}

fn upstream_cancel_inner_future(on: &Machine) {
    on.run(async {
        let future = pending::<()>();
        let awaited = future.clone();
        let task = create_task(async move { awaited.await.map(|()| 12) });
        pump(1).await?;
        assert!(future.cancel(None));
        assert!((&task).await.unwrap_err().is_cancelled());
        assert!(future.cancelled() && task.cancelled());
        assert_eq!(task.cancelling(), 0);
        Ok(())
    });
}

fn upstream_cancel_both_task_and_inner_future(on: &Machine) {
    on.run(async {
        let future = pending::<()>();
        let awaited = future.clone();
        let task = create_task(async move { awaited.await.map(|()| 12) });
        pump(1).await?;
        assert!(future.cancel(None));
        assert!(task.cancel(None));
        assert!((&task).await.unwrap_err().is_cancelled());
        assert!(task.done() && future.cancelled() && task.cancelled());
        Ok(())
    });
}

fn upstream_yield_future_passes_cancel(on: &Machine) {
    on.run(async {
        let (waiter, proof) = (pending::<()>(), Rc::new(Cell::new(0)));
        let (awaited, inner_proof, outer_proof) = (waiter.clone(), Rc::clone(&proof), Rc::clone(&proof));
        let inner = async move {
            let interrupted = awaited.await;
            assert!(interrupted.as_ref().unwrap_err().is_cancelled());
            inner_proof.set(inner_proof.get() + 1);
            interrupted
        };
        let outer = create_task(async move {
            assert!(inner.await.unwrap_err().is_cancelled());
            outer_proof.set(outer_proof.get() + 100);
            Ok(())
        });
        pump(1).await?;
        outer.cancel(None);
        outer.await?;
        assert_eq!(proof.get(), 101);
        assert!(waiter.cancelled());
        Ok(())
    });
}

fn upstream_cancel_awaited_task(on: &Machine) {
    on.run(async {
        let (future, nested) = (pending::<()>(), Rc::new(RefCell::new(None)));
        let (awaited, keep) = (future.clone(), Rc::clone(&nested));
        let task = create_task(async move {
            let nested = create_task(awaited);
            keep.replace(Some(nested.view()));
            sleep(0.0).await?;
            // What it awaits next is cancelled, although it did not wait when the request was made.
            me().cancel(None);
            nested.await
        });
        assert!((&task).await.unwrap_err().is_cancelled());
        assert!(task.cancelled() && nested.take().unwrap().cancelled() && future.cancelled());
        Ok(())
    });
}

fn upstream_cancel_gather_1(on: &Machine) {
    on.run(async {
        let (future, refused) = (pending(), Rc::new(Cell::new(None)));
        let awaited = future.clone();
        let gathered = gather([create_task(awaited)]);
        pump(1).await?;
        let (late, answer) = (gathered.clone(), Rc::clone(&refused));
        // It is called after the child has ended, and before the gather has.
        future.add_done_callback(move |_| answer.set(Some((late.done(), late.cancel(None)))));
        future.set_result(42)?;
        assert_eq!((&gathered).await?, [42]);
        assert_eq!(refused.get(), Some((false, false)));
        assert!(!gathered.cancelled());
        Ok(())
    });
}

fn upstream_context_2(on: &Machine) {
    on.run(async {
        let var = Rc::new(ContextVar::<String>::new());
        assert_eq!(var.get(), None);
        for j in 0..2 {
            let (future, inside) = (pending::<()>(), Rc::clone(&var));
            // This change is not seen by the task.
            future.add_done_callback(move |_| drop(inside.set("something else".into())));
            var.set(format!("yes{j}"));
            let setter = future.clone();
            soon(move || setter.set_result(()).unwrap());
            future.await?;
            assert_eq!(var.get(), Some(format!("yes{j}")));
            for i in 0..3 {
                var.set(format!("yes{i}-{j}"));
                sleep(0.001).await?;
                assert_eq!(var.get(), Some(format!("yes{i}-{j}")));
            }
        }
        Ok(())
    });
}

fn upstream_current_task_with_interleaving_tasks(on: &Machine) {
    assert!(current_task().is_none());
    on.run(async {
        let (one, two) = (pending(), pending());
        let is_me = |name: &'static str| assert_eq!(&*me().name(), name);
        let first = {
            let (one, two) = (one.clone(), two.clone());
            async move {
                is_me("first");
                one.await?;
                is_me("first");
                two.set_result(true)
            }
        };
        let second = async move {
            is_me("second");
            one.set_result(true)?;
            two.await?;
            is_me("second");
            Ok(())
        };
        let first = TaskBuilder::new().name("first").create_task(first);
        let second = TaskBuilder::new().name("second").create_task(second);
        wait([&first, &second]).await?;
        first.result().and(second.result())
    });
    assert!(current_task().is_none());
}

fn upstream_wait_with_exception(on: &Machine) {
    on.run(async {
        let tasks = [create_task(async { sleep(0.15).await.and(fail("really").await) }), create_task(sleep(0.1))];
        for _ in 0..2 {
            let (done, left) = wait(&tasks).await?;
            assert_eq!((done.len(), left.len(), seconds()), (2, 0, 0.15));
            let failed = tasks.iter().filter(|task| task.exception().unwrap().is_some()).count();
            assert_eq!(failed, 1);
        }
        Ok(())
    });
}

fn upstream_wait_with_timeout(on: &Machine) {
    on.run(async {
        let [b, a] = [0.15, 0.1].map(|seconds| create_task(sleep(seconds)));
        let (done, left) = wait([&b, &a]).timeout(0.11).await?;
        assert_eq!((done.len(), left.len(), seconds()), (1, 1, 0.11));
        assert!(a.done() && !b.done());
        b.await
    });
}

fn upstream_wait_concurrent_complete(on: &Machine) {
    on.run(async {
        // The timer of the first task is armed before that of the wait, for the same time.
        let tasks = Rc::new([0.1, 0.15].map(|seconds| create_task(sleep(seconds))));
        let waited = Rc::clone(&tasks);
        let waiting = create_task(async move {
            let (done, left) = wait([&waited[1], &waited[0]]).timeout(0.1).await?;
            Ok((done.len(), left.len(), seconds()))
        });
        assert_eq!(waiting.await?, (1, 1, 0.1));
        assert!(tasks[0].done() && !tasks[1].done());
        (&tasks[1]).await
    });
}

fn upstream_as_completed_coroutine_use_running_loop(on: &Machine) {
    on.run(async {
        let completed = as_completed([ready(42)]);
        assert_eq!(completed.next().await.unwrap()?, 42);
        assert!(completed.next().await.is_none());
        Ok(())
    });
}

fn upstream_run_coroutine_threadsafe_with_timeout(on: &Machine) {
    on.run(async {
        let remote = event_loop().remote();
        to_thread(move || {
            let future = remote.run_coroutine_threadsafe(hang);
            assert!(future.result_timeout(Duration::ZERO).unwrap_err().is_timeout());
            assert!(!future.done() && future.cancel());
            Ok(())
        })
        .await?;
        sleep(0.01).await?;
        assert_eq!(all_tasks().len(), 1, "the coroutine was cancelled");
        Ok(())
    });
}

fn upstream_wrap_future(on: &Machine) {
    on.run(async {
        let pool = ThreadPool::builder().max_workers(1).build()?;
        let job = event_loop().run_in_executor(Some(&pool), || Ok(("oi", thread::current().id())));
        let (value, thread) = job.await?;
        assert_eq!(value, "oi");
        assert_ne!(thread, std::thread::current().id());
        Ok(())
    });
}

fn upstream_wrap_future_cancel2(on: &Machine) {
    on.run(async {
        let (ended, is_ended) = mpsc::channel();
        let future = event_loop().run_in_executor(None, move || {
            ended.send(()).unwrap();
            Ok(42)
        });
        // The loop stands still meanwhile, and does not learn of it.
        is_ended.recv()?;
        assert!(!future.done() && future.cancel(None));
        event_loop().shutdown_default_executor(None::<Duration>).await?;
        pump(2).await?;
        assert!(future.cancelled());
        Ok(())
    });
}

fn upstream_set_default_executor(on: &Machine) {
    on.run(async {
        event_loop().set_default_executor(ThreadPool::builder().thread_name_prefix("chosen").build()?);
        let name = || Ok(thread::current().name().unwrap_or_default().to_owned());
        for name in [event_loop().run_in_executor(None, name).await?, to_thread(name).await?] {
            assert!(name.starts_with("chosen"), "{name}");
        }
        Ok(())
    });
}

fn upstream_time_and_call_at(on: &Machine) {
    let runner = on.runner();
    let running = runner.get_loop();
    let begin = running.time();
    let stopping = running.clone();
    running.call_at(begin + Duration::from_millis(100), move || stopping.stop()).unwrap();
    runner.run_forever().unwrap();
    assert_eq!(running.time() - begin, Duration::from_millis(100));
    runner.close().unwrap();
}
