//! Things of one loop that are used while another one runs on the thread, after their loop has closed, or outside of any: a clear
//! error or what was meant, and never a timer, a task or a waiter that is not theirs.

mod common;

use std::future::Future as StdFuture;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use aioli_core::*;
use aioli_exec_sim::SimDriver;

use common::*;

fn runner() -> Runner {
    Runner::new(SimDriver::new())
}

type Begun<T> = Pin<Box<dyn StdFuture<Output = T>>>;

/// Polls a future once in a task of a loop, which then ends or, if `lives`, waits for ever.
fn begin<T: 'static>(runner: &Runner, lives: bool, future: impl StdFuture<Output = T> + 'static) -> Begun<T> {
    let begun = Rc::new(std::cell::RefCell::new(None));
    let slot = begun.clone();
    let task = async move {
        let mut future: Begun<T> = Box::pin(future);
        assert!(touch(future.as_mut()).await.is_pending());
        slot.replace(Some(future));
        if lives { hang().await } else { Ok(()) }
    };
    runner
        .run(async {
            create_task(task);
            pump(2).await
        })
        .unwrap();
    begun.take().unwrap()
}

/// A run with nothing but a thread to wait for: a timer that is left would move the clock.
fn assert_no_timer(runner: &Runner) {
    let moved = runner.run(async {
        let before = event_loop().time();
        let nap = to_thread(|| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(())
        });
        nap.await?;
        Ok(event_loop().time() - before)
    });
    assert_eq!(moved.unwrap(), Duration::ZERO, "a timer was left behind");
}

/// Runs a program in another loop, with a timer of its own that has the keys that the first loop gave out too.
fn elsewhere(main: impl StdFuture<Output = Result<()>> + 'static) {
    sim(async {
        let mine = create_task(sleep(3.0));
        pump(2).await?;
        main.await?;
        mine.await?;
        assert_eq!(seconds(), 3.0, "the timer of this loop fires when it is due");
        Ok(())
    });
}

#[track_caller]
fn assert_strange<T>(result: Result<T>) {
    let error = result.err().expect("an error");
    let text = error.to_string();
    assert!(text.contains("different event loop") || text.contains("another event loop"), "{text}");
    assert!(matches!(error.kind(), ErrorKind::Runtime | ErrorKind::Value), "{error:?}");
}

mod timers {
    use super::*;

    #[test]
    fn a_sleep_that_is_polled_outside_of_a_task_is_over_and_leaves_no_timer() {
        let runner = runner();
        let ran = runner.run(async {
            let mut nap = Box::pin(sleep(100.0));
            assert!(touch(nap.as_mut()).await.is_pending());
            let (back, polled) = (pending(), Rc::new(std::cell::Cell::new(None)));
            let (give, seen) = (back.clone(), Rc::clone(&polled));
            soon(move || {
                let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
                if let std::task::Poll::Ready(result) = nap.as_mut().poll(cx) {
                    seen.set(Some(result));
                }
                give.set_result(std::cell::Cell::new(Some(nap))).unwrap();
            });
            let mut nap = back.await?.take().unwrap();
            assert_eq!(polled.take().unwrap().unwrap_err().kind(), ErrorKind::Runtime);
            // By its task again: no panic.
            assert!(touch(nap.as_mut()).await.is_ready());
            Ok(())
        });
        ran.unwrap();
        assert_no_timer(&runner);
    }

    #[test]
    fn a_deadline_moved_from_another_loop_is_moved_in_its_own() {
        for (when, expected) in [(Some(5.0), 5.0), (None, 30.0)] {
            let first = runner();
            let deadline = Timeout::after(10.0);
            let inside = deadline.clone();
            let task = first.get_loop().create_task(async move {
                let late = inside.run(sleep(30.0)).await;
                Ok((late.is_err(), seconds()))
            });
            first.run(pump(2)).unwrap();
            elsewhere(async move {
                // The loops' clocks both began at zero.
                deadline.reschedule(when.map(|secs| Instant::default() + Duration::from_secs_f64(secs)))?;
                sleep(1.0).await
            });
            assert_eq!(first.run(task).unwrap(), (when.is_some(), expected));
        }
    }

    #[test]
    fn what_is_dropped_in_another_loop_disarms_its_timer_in_its_own() {
        let begun: [fn() -> Begun<()>; 6] = [
            || Box::pin(async { drop(sleep(5.0).await) }),
            || Box::pin(async { drop(timeout(5.0, hang()).await) }),
            || Box::pin(async { drop(wait_for(pending::<()>(), 5.0).await) }),
            || Box::pin(async { drop(wait([pending::<()>()]).timeout(5.0).await) }),
            || Box::pin(async { drop(as_completed([pending::<()>()]).timeout(5.0).next().await) }),
            || Box::pin(async { drop(CancelToken::new().run(sleep(5.0)).await) }),
        ];
        for lives in [false, true] {
            for (n, begun) in begun.into_iter().enumerate() {
                println!("{n}");
                let first = runner();
                let future = begin(&first, lives, async move { begun().await });
                elsewhere(async move {
                    drop(future);
                    Ok(())
                });
                assert_no_timer(&first);
            }
        }
    }

    #[test]
    fn what_is_dropped_outside_of_a_loop_or_after_its_own_has_closed() {
        for close in [false, true] {
            let first = runner();
            let sleeping = begin(&first, true, sleep(5.0));
            let timed = begin(&first, true, timeout(5.0, hang()));
            if close {
                first.close().unwrap();
                drop((sleeping, timed));
            } else {
                drop((sleeping, timed));
                assert_no_timer(&first);
            }
        }
    }

    #[test]
    fn a_timer_handle_is_cancelled_from_another_loop() {
        let first = runner();
        let called = Rc::new(std::cell::Cell::new(0));
        let (inside, kept) = (called.clone(), called.clone());
        let handle = first.get_loop().call_later(5.0, move || inside.set(1)).unwrap();
        let other = first.get_loop().call_later(6.0, move || kept.set(kept.get() + 10)).unwrap();
        elsewhere(async move {
            handle.cancel();
            assert!(handle.cancelled());
            Ok(())
        });
        first.run(sleep(9.0)).unwrap();
        assert_eq!(called.get(), 10, "the other one was called");
        first.close().unwrap();
        other.cancel();
        assert!(other.cancelled());
    }

    #[test]
    fn a_sleep_or_scope_of_another_loop_cannot_be_awaited() {
        for lives in [false, true] {
            let first = runner();
            let sleeping = begin(&first, lives, sleep(5.0));
            let timed = begin(&first, lives, timeout(5.0, hang()));
            let under = begin(&first, lives, CancelToken::new().run(hang()));
            let group = begin(&first, lives, task_group(async |_| hang().await));
            elsewhere(async move {
                assert_strange(sleeping.await);
                assert_strange(timed.await);
                assert_strange(under.await);
                assert_strange(group.await);
                Ok(())
            });
            assert_no_timer(&first);
        }
    }

    #[test]
    fn a_yield_that_was_begun_in_another_loop_ends() {
        let first = runner();
        let mut yielding = None;
        for turns in 0..4 {
            let mut fresh: Begun<Result<()>> = Box::pin(sleep(0.0));
            let begun = first.run(async move {
                pump(turns).await?;
                assert!(touch(fresh.as_mut()).await.is_pending());
                Ok(fresh)
            });
            let before = yielding.replace(begun.unwrap());
            sim(async { if let Some(before) = before { before.await } else { Ok(()) } });
        }
        drop(first);
        sim(yielding.unwrap());
    }
}

mod futures_and_tasks {
    use super::*;

    #[test]
    fn of_another_loop_cannot_be_awaited() {
        let first = runner();
        let future = first.get_loop().create_future::<u32>();
        let (setter, awaited) = (future.clone(), future.clone());
        let task = first.get_loop().create_task(async move { (&awaited).await });
        let witness = task.view();
        first.run(pump(2)).unwrap();
        elsewhere(async move {
            assert_strange((&future).await);
            assert_strange((&task).await);
            assert_strange(future.clone().await);
            assert_strange(shield(&task).await);
            assert_strange(gather((&task, &future)).await);
            assert_strange(gather_results([&task]).await);
            assert_strange(wait([&task]).await.map(drop));
            assert_strange(wait([&future]).timeout(1.0).await.map(drop));
            assert_strange(as_completed([&task]).next().await.unwrap());
            for delay in [0.0, 1.0] {
                assert_strange(wait_for(&task, delay).await);
            }
            assert_strange(timeout(1.0, &task).await);
            assert_strange(ensure_future(&task)?.await);
            assert_strange(CancelToken::new().run(&task).await);
            Ok(())
        });
        assert!(!witness.done() && witness.cancelling() == 0, "nothing of this was a request");
        setter.set_result(7).unwrap();
        first.run(pump(2)).unwrap();
        assert!(witness.done() && !witness.cancelled());
    }

    #[test]
    fn are_set_and_cancelled_from_another_loop() {
        let first = runner();
        let [one, two] = [(); 2].map(|()| first.get_loop().create_future::<u32>());
        let (set, cancelled) = (one.clone(), two.clone());
        let waiting = first.get_loop().create_task(one);
        let stopped = first.get_loop().create_task(two);
        let asked = first.get_loop().create_task(async {
            let interrupted = sleep(60.0).await;
            sleep(1.0).await?;
            interrupted
        });
        first.run(pump(2)).unwrap();
        let view = asked.view();
        elsewhere(async move {
            set.set_result(1)?;
            assert!(cancelled.cancel(Some("from elsewhere")));
            assert!(view.cancel(None));
            pump(3).await?;
            assert!(!view.done(), "its loop does not run");
            Ok(())
        });
        assert_eq!(first.run(waiting).unwrap(), 1);
        assert_eq!(first.run(stopped).unwrap_err().cancel_message(), Some("from elsewhere"));
        assert!(first.run(async { Ok(asked.await.unwrap_err().is_cancelled() && seconds() == 1.0) }).unwrap());
    }

    #[test]
    fn are_created_from_another_loop() {
        let first = runner();
        let remote = first.get_loop();
        let variable = Rc::new(ContextVar::<u32>::new());
        let log = Trace::new();
        let (lines, inside) = (log.clone(), variable.clone());
        elsewhere(async move {
            variable.set(5);
            for name in ["call_soon", "call_later"] {
                let (lines, inside) = (lines.clone(), inside.clone());
                let call = move || lines.log(format_args!("{name} {:?}", inside.get()));
                if name == "call_soon" { drop(remote.call_soon(call)?) } else { drop(remote.call_later(4.0, call)?) }
            }
            remote.create_task(async move {
                lines.log(format_args!("task {:?}", inside.get()));
                Ok(())
            });
            pump(3).await
        });
        assert_eq!(log.take(), [""; 0]);
        first.run(sleep(5.0)).unwrap();
        assert_eq!(log.take(), ["call_soon Some(5)", "task Some(5)", "call_later Some(5)"]);
    }

    #[test]
    fn a_group_takes_no_tasks_of_another_loop() {
        let first = runner();
        let outside = Rc::new(std::cell::RefCell::new(None));
        let inside = outside.clone();
        let grouped = first.get_loop().create_task(task_group(async move |group| {
            inside.replace(Some(group.clone()));
            sleep(1.0).await
        }));
        first.run(pump(2)).unwrap();
        let group = outside.take().unwrap();
        elsewhere(async move {
            assert_strange(group.create_task(hang()));
            assert_eq!(all_tasks().len(), 2);
            Ok(())
        });
        first.run(grouped).unwrap();
    }

    #[test]
    fn grants_dropped_in_another_loop_wake_those_who_wait_in_their_own() {
        let first = runner();
        let (lock, semaphore, queue) = (Rc::new(Lock::new()), Rc::new(Semaphore::new(1)), Rc::new(Queue::new(0)));
        let held = (lock.clone(), semaphore.clone());
        first.run(async move { held.0.acquire().await.and(held.1.acquire().await) }).unwrap();
        let waits = (lock.clone(), semaphore.clone(), queue.clone());
        let served = first.get_loop().create_task(async move {
            waits.0.acquire().await?;
            waits.1.acquire().await?;
            waits.2.get().await
        });
        first.run(pump(2)).unwrap();
        elsewhere(async move {
            lock.release()?;
            semaphore.release();
            queue.put_nowait("item").map_err(Error::from)?;
            pump(3).await
        });
        assert_eq!(first.run(served).unwrap(), "item");
    }

    #[test]
    fn a_token_fires_across_loops() {
        let first = runner();
        let token = CancelToken::new();
        let (above, inside) = (token.clone(), token.child());
        let stopped = first.get_loop().create_task(async move { inside.run(sleep(60.0)).await });
        first.run(pump(2)).unwrap();
        elsewhere(async move {
            assert!(above.cancel(Some("all of you")));
            Ok(())
        });
        assert_eq!(first.run(stopped).unwrap_err().cancel_message(), Some("all of you"));
    }

    #[test]
    fn a_result_that_did_not_come_in_time_lets_its_futures_go() {
        let kept = Rc::new(());
        for handles in [false, true] {
            let held = kept.clone();
            sim(async move {
                let never = pending::<()>();
                never.add_done_callback(move |_| drop(held));
                let late = as_completed([never]).timeout(1.0);
                let error = if handles {
                    late.handles().next().await.unwrap().map(drop).unwrap_err()
                } else {
                    late.next().await.unwrap().unwrap_err()
                };
                assert!(error.is_timeout());
                Ok(())
            });
        }
        assert_eq!(Rc::strong_count(&kept), 1, "the future is still held by what waited for it");
    }
}

mod after_the_loop_closed {
    use super::*;

    /// Handles of a loop that is closed.
    fn closed() -> (Loop, Future<u32>, Task<u32>) {
        let runner = runner();
        let current = runner.get_loop();
        let future = current.create_future::<u32>();
        let awaited = future.clone();
        let task = current.create_task(awaited);
        runner.run(pump(1)).unwrap();
        runner.close().unwrap();
        (current, future, task)
    }

    #[test]
    fn it_takes_nothing_and_says_so() {
        let (current, ..) = closed();
        let runtime = |error: Error| assert_eq!(error.kind(), ErrorKind::Runtime, "{error}");
        runtime(current.call_soon(|| ()).unwrap_err());
        runtime(current.call_later(1.0, || ()).unwrap_err());
        runtime(current.call_at(Instant::default(), || ()).unwrap_err());
        runtime(current.remote().call_soon_threadsafe(|| ()).unwrap_err());
        runtime(current.remote().run_coroutine_threadsafe(async || Ok(())).result().unwrap_err());
        runtime(current.run_in_executor(None, || Ok(())).exception().unwrap().unwrap());
        runtime(current.create_task(async { Ok(()) }).exception().unwrap().unwrap());
        assert!(current.is_closed() && !current.is_running() && !current.is_current());
        assert!(current.report().is_none() && current.time() == Instant::default() && current.turn() > 0);
        current.stop();
        current.remote().interrupt();
        current.call_exception_handler(Report::new("said after the loop closed, on purpose"));
    }

    #[test]
    fn its_handles_are_what_they_were() {
        let (_, future, task) = closed();
        assert!(task.cancelled() && task.cancelling() == 1);
        assert!(task.result().unwrap_err().is_cancelled());
        assert!(future.cancelled(), "the task that waited passed its request on");
        assert!(!task.cancel(None) && !future.cancel(None));
        let (current, ..) = closed();
        let future = current.create_future();
        future.add_done_callback(|_: &Future<u32>| unreachable!("no loop calls it"));
        future.set_result(1).unwrap();
        elsewhere(async move {
            assert_eq!((&future).await?, 1, "awaiting what is done asks no loop");
            assert_eq!(gather_results([&future]).await.unwrap_err().kind(), ErrorKind::Value);
            assert!(task.await.unwrap_err().is_cancelled());
            assert_strange(current.create_future::<()>().await);
            Ok(())
        });
    }

    #[test]
    fn deadlines_and_awaits_that_outlive_it_do_nothing() {
        let first = runner();
        let deadline = Timeout::after(5.0);
        let inside = deadline.clone();
        let timed = begin(&first, true, async move { inside.run(hang()).await });
        let leaked = Timeout::after(5.0);
        let inside = leaked.clone();
        leak(begin(&first, true, async move { inside.run(hang()).await }));
        let (sleeping, locking) = (begin(&first, true, sleep(5.0)), Rc::new(Lock::new()));
        let waits = locking.clone();
        let waiting = begin(&first, true, async move {
            waits.acquire().await?;
            waits.acquire().await
        });
        first.close().unwrap();
        deadline.reschedule(Some(Instant::default())).unwrap();
        leaked.reschedule(None).unwrap();
        locking.release().unwrap();
        elsewhere(async move {
            assert_strange(timed.await);
            assert_strange(sleeping.await);
            assert_strange(waiting.await);
            Ok(())
        });
    }
}

mod outside_of_any_loop {
    use super::*;
    use ::futures::executor::block_on;

    #[track_caller]
    fn assert_outside<T>(result: Result<T>) {
        assert_eq!(result.err().expect("an error").kind(), ErrorKind::Runtime);
    }

    #[test]
    fn awaits_are_errors() {
        let first = runner();
        let future = first.get_loop().create_future::<()>();
        let task = first.get_loop().create_task(async { Ok(()) });
        assert_outside(get_running_loop());
        assert_outside(block_on(sleep(1.0)));
        assert_outside(block_on(sleep(0.0)));
        assert_outside(block_on(timeout(1.0, ready(()))));
        assert_outside(block_on(wait_for(ready(()), 1.0)));
        assert_outside(block_on(wait_for(future.clone(), 0.0)));
        assert_outside(block_on(task_group(async |_| Ok(()))));
        assert_outside(block_on(CancelToken::new().run(ready(()))));
        assert_outside(block_on(CancelToken::new().cancelled()));
        assert_outside(CancelToken::new().remote());
        assert_outside(block_on(future.clone()));
        assert_outside(block_on(async { (&future).await }));
        assert_outside(block_on(async { (&task).await }));
        assert_outside(block_on(wait([&future])).map(drop));
        assert_outside(block_on(to_thread(|| Ok(()))));
        assert_outside(block_on(Event::new().wait()));
        assert_outside(block_on(Semaphore::new(0).acquire()));
        assert_outside(block_on(Queue::<()>::new(0).get()));
        assert_outside(block_on(std::future::pending::<()>().cancellable()));
        assert_eq!((current_task(), all_tasks()), (None, Vec::new()));
        assert!(!task.done() && !future.done());
    }

    #[test]
    fn what_makes_tasks_or_futures_panics_with_a_clear_text() {
        let calls: [(&str, fn()); 5] = [
            ("tasks are created", || drop(create_task(ready(())))),
            ("tasks are created", || drop(TaskBuilder::new().create_task(ready(())))),
            ("gather is called", || drop(gather((ready(()),)))),
            ("shield is called", || drop(shield(ready(())))),
            ("as_completed is called", || drop(as_completed([ready(())]))),
        ];
        for (text, call) in calls {
            let panic = std::panic::catch_unwind(call).unwrap_err();
            let said = panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(|s| s.to_string()));
            let said = said.unwrap();
            assert!(said.starts_with("no running event loop") && said.contains(text), "{said}");
        }
    }

    #[test]
    fn a_runner_inside_of_a_loop_does_not_run() {
        sim(async {
            let inner = runner();
            assert_eq!(inner.run(ready(())).unwrap_err().kind(), ErrorKind::Runtime);
            assert_eq!(inner.run_forever().unwrap_err().kind(), ErrorKind::Runtime);
            assert_eq!(run(SimDriver::new(), ready(())).unwrap_err().kind(), ErrorKind::Runtime);
            assert!(event_loop().is_running(), "this loop goes on");
            let task = inner.get_loop().create_task(hang());
            assert_eq!(inner.close().unwrap_err().kind(), ErrorKind::Runtime, "its tasks had no chance to clean up");
            assert!(task.cancelled(), "and are gone nevertheless");
            sleep(1.0).await
        });
    }
}

mod other_threads {
    use super::*;

    /// Whether a type is `Send`: the trait is implemented for it once if not, and twice, which is ambiguous, if it is.
    trait NotSend<A> {
        fn check() {}
    }
    impl<T: ?Sized> NotSend<()> for T {}
    impl<T: ?Sized + Send> NotSend<u8> for T {}

    #[test]
    fn no_handle_of_a_loop_can_go_there() {
        macro_rules! stays {
            ($($type:ty),* $(,)?) => { $(<$type as NotSend<_>>::check();)* };
        }
        stays!(Future<u8>, Task<u8>, AnyTask, AwaitRef<'static, u8>, Loop, Runner, Handle, TimerHandle, Timeout);
        stays!(Sleep, Timed<Sleep>, WaitFor<Sleep>, WaitAll<Task<u8>>, TaskGroup, CancelToken, TokenRun<Sleep>);
        stays!(
            TokenCancelled,
            AsCompleted<u8>,
            CompletedHandles<u8>,
            CancellableFuture<Sleep>,
            Token,
            Wait,
            TaskBuilder
        );
        stays!(Lock, LockGuard<'static>, Event, Condition, ConditionGuard<'static>, Semaphore, BoundedSemaphore);
        stays!(SemaphorePermit<'static>, Barrier, Queue<u8>, LifoQueue<u8>, PriorityQueue<u8>, Context);
    }

    #[test]
    fn what_is_meant_for_them_can() {
        fn check<T: Send + Sync>() {}
        check::<RemoteLoop>();
        check::<RemoteHandle>();
        check::<RemoteCancelToken>();
        check::<ConcurrentFuture<u8>>();
        check::<ThreadPool>();
        check::<Error>();
        check::<Report>();
        check::<std::task::Waker>();
        check::<ContextVar<u8>>();
        check::<CallbackId>();
        check::<Instant>();
    }

    #[test]
    fn two_loops_on_two_threads_work_for_each_other() {
        let there = std::thread::spawn(|| {
            sim(async {
                let remote = event_loop().remote();
                let answers = (0..50u32).map(|n| to_thread(move || Ok(n)));
                let sum: u32 = gather(answers.collect::<Vec<_>>()).await?.into_iter().sum();
                assert_eq!(sum, 1225);
                Ok((remote, sum))
            })
        });
        let (remote, sum) = there.join().unwrap();
        assert_eq!(sum, 1225);
        sim(async move {
            let gone = remote.run_coroutine_threadsafe(async || Ok(1));
            assert_eq!(gone.await.unwrap_err().kind(), ErrorKind::Runtime);
            Ok(())
        });
    }
}
