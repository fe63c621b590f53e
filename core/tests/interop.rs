//! Futures of aioli's under combinators of other crates, futures of other crates in tasks, and wakers that go everywhere.

mod common;

use std::cell::RefCell;
use std::collections::HashSet;
use std::future::{Future as StdFuture, IntoFuture, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use aioli_core::*;
use common::*;
use futures::FutureExt;
use futures::future::{AbortHandle, Abortable, Either, join_all, select, select_all, try_join_all};
use futures::stream::{FuturesOrdered, FuturesUnordered, StreamExt};

async fn after<T>(seconds: f64, value: T) -> Result<T> {
    sleep(seconds).await.map(|()| value)
}

mod combinators {
    use super::*;

    #[test]
    fn join_waits_for_all() {
        sim(async {
            let (future, setter) = (pending::<char>(), pending::<char>());
            let clone = future.clone();
            event_loop().call_later(2.0, move || clone.set_result('c').unwrap())?;
            setter.set_result('d')?;
            let all = futures::join!(after(3.0, 'a'), create_task(after(1.0, 'b')), future, setter, sleep(0.0));
            assert_eq!((all.0?, all.1?, all.2?, all.3?), ('a', 'b', 'c', 'd'));
            assert_eq!(seconds(), 3.0);
            Ok(())
        });
    }

    #[test]
    fn try_join_ends_with_the_first_error_and_drops_the_rest() {
        sim(async {
            let task = create_task(after(9.0, ()));
            let failing = async { after(1.0, ()).await.and(fail::<()>("e").await) };
            let failed = futures::try_join!(failing, async { (&task).await }).unwrap_err();
            assert_eq!((failed.to_string(), seconds(), task.done()), ("e".into(), 1.0, false));
            task.await
        });
    }

    #[test]
    fn select_gives_the_first_and_leaves_the_other() {
        sim(async {
            let task = create_task(after(2.0, "slow"));
            let Either::Left((first, slow)) = select(Box::pin(after(1.0, "fast")), task).await else {
                panic!("the slow one came first")
            };
            assert_eq!((first?, seconds()), ("fast", 1.0));
            assert_eq!((slow.await?, seconds()), ("slow", 2.0));
            Ok(())
        });
    }

    #[test]
    fn select_macros_poll_handles_by_reference() {
        sim(async {
            let mut seen = Vec::new();
            let mut ticks = Box::pin(after(1.0, ()).fuse());
            let mut work = create_task(after(2.5, "work")).fuse();
            let result = loop {
                futures::select! {
                    tick = ticks => {
                        tick?;
                        seen.push(seconds());
                        ticks.set(after(1.0, ()).fuse());
                    }
                    result = work => break result?,
                }
            };
            assert_eq!((result, seen), ("work", vec![1.0, 2.0]));
            futures::select_biased! {
                first = Box::pin(after(1.0, 1)).fuse() => assert_eq!(first?, 1),
                _ = Box::pin(after(1.0, 2)).fuse() => panic!("the first one is asked first"),
            }
            Ok(())
        });
    }

    #[test]
    fn unordered_futures_give_results_as_they_come() {
        sim(async {
            let mut all: FuturesUnordered<_> = [3, 1, 2].into_iter().map(|n| after(f64::from(n), n)).collect();
            let mut seen = Vec::new();
            while let Some(value) = all.next().await {
                seen.push((value?, seconds()));
            }
            assert_eq!(seen, [(1, 1.0), (2, 2.0), (3, 3.0)]);
            let tasks: FuturesUnordered<_> = (0..100_u32).map(|n| create_task(after(f64::from(n % 7), n))).collect();
            let values: HashSet<u32> = tasks.map(|value| value.unwrap()).collect().await;
            assert_eq!((values.len(), seconds()), (100, 9.0));
            let ordered: FuturesOrdered<_> = [3, 1, 2].into_iter().map(|n| after(f64::from(n), n)).collect();
            assert_eq!(ordered.map(|value| value.unwrap()).collect::<Vec<_>>().await, [3, 1, 2]);
            Ok(())
        });
    }

    #[test]
    fn many_can_be_joined() {
        sim(async {
            // Few are polled in turn, many by a set that polls what was woken.
            for count in [5_u32, 500] {
                let future = pending::<u32>();
                let waits = (0..count).map(|_| (&future).into_future());
                let setter = future.clone();
                event_loop().call_later(1.0, move || setter.set_result(7).unwrap())?;
                let values = join_all(waits).await;
                assert!(values.iter().all(|value| matches!(value, Ok(7))) && values.len() == count as usize);
                let slept = try_join_all((0..count).map(|n| after(f64::from(n) / 100.0, n))).await?;
                assert_eq!(slept, (0..count).collect::<Vec<_>>());
            }
            let (first, index, rest) = select_all([3.0, 1.0, 2.0].map(|n| Box::pin(after(n, ())))).await;
            assert_eq!((first.is_ok(), index, rest.len()), (true, 1, 2));
            Ok(())
        });
    }

    #[test]
    fn aborted_futures_are_dropped() {
        sim(async {
            let (handle, registration) = AbortHandle::new_pair();
            let task = create_task(after(9.0, ()));
            let view = task.view();
            let aborted = create_task(async { Ok(Abortable::new(task, registration).await.is_err()) });
            pump(2).await?;
            handle.abort();
            assert!(aborted.await?);
            assert_eq!((view.done(), seconds()), (false, 0.0));
            Ok(())
        });
    }

    #[test]
    fn shared_and_remote_futures_pass_results_on() {
        sim(async {
            let shared = create_task(after(1.0, 5)).map(|result| result.map_err(|error| error.to_string())).shared();
            let tasks: Vec<_> = (0..3).map(|_| create_task(shared.clone().map(Ok))).collect();
            assert!(gather(tasks).await?.iter().all(|value| value == &Ok(5)));
            Ok(())
        });
    }

    #[test]
    fn blocking_executors_are_no_loops() {
        let slept = futures::executor::block_on(sleep(1.0));
        assert_eq!(slept.unwrap_err().kind(), ErrorKind::Runtime);
        sim(async {
            // Inside a task they block the loop, but what is ready is ready.
            assert_eq!(futures::executor::block_on(done(5))?, 5);
            Ok(())
        });
    }

    #[test]
    fn take_a_turn_as_plain_awaits_do() {
        sim(async {
            let turns = |future: Pin<Box<dyn StdFuture<Output = Result<()>>>>| async move {
                let before = turn();
                future.await?;
                Ok::<_, Error>(turn() - before)
            };
            assert_eq!(turns(Box::pin(async { futures::join!(sleep(0.0), sleep(0.0)).0 })).await?, 1);
            assert_eq!(
                turns(Box::pin(async { futures::join!(create_task(ready(())), create_task(ready(()))).0 })).await?,
                2
            );
            assert_eq!(
                turns(Box::pin(async { select(sleep(0.0), hang().boxed_local()).await.factor_first().0 })).await?,
                1
            );
            assert_eq!(turns(Box::pin(async { futures::try_join!(async { Ok(()) }, done(())).map(drop) })).await?, 0);
            Ok(())
        });
    }
}

mod channels {
    use super::*;

    const MESSAGES: u32 = 1000;

    #[test]
    fn of_tokio_work_between_tasks() {
        sim(async {
            let (sender, mut receiver) = tokio::sync::mpsc::channel::<u32>(3);
            let produce = create_task(async move {
                for n in 0..MESSAGES {
                    sender.send(n).await?;
                }
                Ok(())
            });
            for n in 0..MESSAGES {
                assert_eq!(receiver.recv().await, Some(n));
            }
            produce.await?;
            assert_eq!(receiver.recv().await, None);

            let (answer, question) = tokio::sync::oneshot::channel();
            event_loop().call_later(1.0, move || answer.send(42).unwrap())?;
            assert_eq!((question.await?, seconds()), (42, 1.0));

            let (watched, mut watcher) = tokio::sync::watch::channel(0);
            let seen = create_task(async move {
                while *watcher.borrow_and_update() < 5 {
                    watcher.changed().await?;
                }
                Ok(seconds())
            });
            for n in 1..=5 {
                sleep(1.0).await?;
                watched.send(n)?;
            }
            assert_eq!(seen.await?, 6.0);
            Ok(())
        });
    }

    #[test]
    fn of_tokio_that_synchronize_work_between_tasks() {
        sim(async {
            let notify = Rc::new(tokio::sync::Notify::new());
            let order = Rc::new(RefCell::new(Vec::new()));
            let mutex = Rc::new(tokio::sync::Mutex::new(0));
            let semaphore = Rc::new(tokio::sync::Semaphore::new(2));
            let tasks: Vec<_> = (0..10_u32)
                .map(|n| {
                    let (notify, order) = (Rc::clone(&notify), Rc::clone(&order));
                    let (mutex, semaphore) = (Rc::clone(&mutex), Rc::clone(&semaphore));
                    create_task(async move {
                        notify.notified().await;
                        let _permit = semaphore.acquire().await?;
                        sleep(1.0).await?;
                        *mutex.lock().await += 1;
                        order.borrow_mut().push(n);
                        Ok(())
                    })
                })
                .collect();
            pump(1).await?;
            notify.notify_waiters();
            gather(tasks).await?;
            assert_eq!((*mutex.lock().await, seconds()), (10, 5.0));
            assert_eq!(*order.borrow(), (0..10).collect::<Vec<_>>());
            let (sender, _) = tokio::sync::broadcast::channel(4);
            let (mut one, mut two) = (sender.subscribe(), sender.subscribe());
            let listening = create_task(async move { Ok((one.recv().await?, two.recv().await?)) });
            pump(1).await?;
            sender.send('x')?;
            assert_eq!(listening.await?, ('x', 'x'));
            Ok(())
        });
    }

    #[test]
    fn that_wait_are_ended_by_requests_and_lose_nothing() {
        sim(async {
            let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<u32>();
            let receiver = Rc::new(tokio::sync::Mutex::new(receiver));
            for n in 0..20 {
                let receiver = Rc::clone(&receiver);
                let task = create_task(async move { Ok(receiver.lock().await.recv().await) });
                pump(1).await?;
                if n % 2 == 0 {
                    assert!(task.cancel(None));
                    pump(2).await?;
                    assert!(task.cancelled());
                } else {
                    sender.send(n)?;
                    assert_eq!(task.await?, Some(n));
                }
            }
            let mut receiver = receiver.lock().await;
            assert!(timeout(1.0, async { Ok(receiver.recv().await) }).await.unwrap_err().is_timeout());
            assert!(receiver.try_recv().is_err());
            Ok(())
        });
    }

    #[test]
    fn from_threads_lose_no_wake_up() {
        sim(async {
            let (tokio_sender, mut tokio_receiver) = tokio::sync::mpsc::channel::<u32>(8);
            let (sender, receiver) = async_channel::bounded::<u32>(8);
            let (future_sender, mut future_receiver) = futures::channel::mpsc::channel::<u32>(8);
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let (one, two, mut three) = (tokio_sender.clone(), sender.clone(), future_sender.clone());
                    thread::spawn(move || {
                        for n in 0..MESSAGES {
                            one.blocking_send(n).unwrap();
                            two.send_blocking(n).unwrap();
                            futures::executor::block_on(futures::SinkExt::send(&mut three, n)).unwrap();
                        }
                    })
                })
                .collect();
            drop((tokio_sender, sender, future_sender));
            let sums = gather((
                async move {
                    let mut sum = 0;
                    while let Some(n) = tokio_receiver.recv().await {
                        sum += n;
                    }
                    Ok(sum)
                },
                async move {
                    let mut sum = 0;
                    while let Ok(n) = receiver.recv().await {
                        sum += n;
                    }
                    Ok(sum)
                },
                async move {
                    let mut sum = 0;
                    while let Some(n) = future_receiver.next().await {
                        sum += n;
                    }
                    Ok(sum)
                },
            ));
            let expected = MESSAGES * (MESSAGES - 1);
            assert_eq!(sums.await?, (expected, expected, expected));
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            Ok(())
        });
    }

    #[test]
    fn to_threads_and_back_lose_no_wake_up() {
        sim(async {
            let (question, questions) = async_channel::unbounded::<(u32, tokio::sync::oneshot::Sender<u32>)>();
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let questions = questions.clone();
                    thread::spawn(move || {
                        while let Ok((n, answer)) = questions.recv_blocking() {
                            answer.send(n * 2).unwrap();
                        }
                    })
                })
                .collect();
            let asking = (0..50_u32).map(|n| {
                let question = question.clone();
                async move {
                    for round in 0..20 {
                        let (answer, answered) = tokio::sync::oneshot::channel();
                        question.send((n + round, answer)).await?;
                        assert_eq!(answered.await?, (n + round) * 2);
                    }
                    Ok(())
                }
            });
            gather(asking.collect::<Vec<_>>()).await?;
            drop((question, questions));
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            Ok(())
        });
    }
}

mod wakers {
    use super::*;

    /// The waker that the current task is polled with.
    async fn own() -> Waker {
        poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
    }

    /// Pending until `done`; keeps the waker of the last poll in `slot` and counts polls.
    async fn until(done: Arc<AtomicBool>, slot: Arc<Mutex<Option<Waker>>>, polls: Arc<AtomicU32>) -> Result<()> {
        poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            *slot.lock().unwrap() = Some(cx.waker().clone());
            if done.load(Ordering::Acquire) { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    #[test]
    fn of_a_task_stay_the_same() {
        sim(async {
            let first = own().await;
            sleep(1.0).await?;
            let later = own().await;
            assert!(first.will_wake(&later) && later.will_wake(&first.clone()));
            let other = create_task(async { Ok(own().await) }).await?;
            assert!(!first.will_wake(&other));
            poll_fn(|cx| {
                assert!(cx.waker().will_wake(&first), "after the first clone the task is polled with it");
                Poll::Ready(())
            })
            .await;
            Ok(())
        });
    }

    #[test]
    fn woken_twice_poll_once_in_the_next_turn() {
        sim(async {
            let (done, slot, polls) = <(Arc<AtomicBool>, Arc<Mutex<Option<Waker>>>, Arc<AtomicU32>)>::default();
            let task = create_task(until(Arc::clone(&done), Arc::clone(&slot), Arc::clone(&polls)));
            pump(2).await?;
            let waker = slot.lock().unwrap().clone().unwrap();
            (0..5).for_each(|_| waker.wake_by_ref());
            pump(3).await?;
            assert_eq!(polls.load(Ordering::Relaxed), 2);
            done.store(true, Ordering::Release);
            let before = turn();
            waker.wake();
            task.await?;
            assert_eq!(turn() - before, 2);
            Ok(())
        });
    }

    #[test]
    fn of_a_task_that_wakes_itself_poll_it_in_the_next_turn() {
        sim(async {
            let mut left = 5;
            let before = turn();
            poll_fn(|cx| {
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            assert_eq!(turn() - before, 5);
            Ok(())
        });
    }

    #[test]
    fn from_threads_are_never_lost() {
        sim(async {
            const ROUNDS: u32 = 2000;
            let (ticks, waiter) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(None::<Waker>)));
            let (told, tell) = mpsc::channel::<()>();
            let (counted, registered) = (Arc::clone(&ticks), Arc::clone(&waiter));
            let waking = thread::spawn(move || {
                for _ in 0..ROUNDS {
                    tell.recv().unwrap();
                    counted.fetch_add(1, Ordering::Release);
                    let waker = registered.lock().unwrap().take();
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
            });
            for round in 1..=ROUNDS {
                told.send(())?;
                poll_fn(|cx| {
                    *waiter.lock().unwrap() = Some(cx.waker().clone());
                    if ticks.load(Ordering::Acquire) >= round { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            waking.join().unwrap();
            Ok(())
        });
    }

    #[test]
    fn may_be_cloned_woken_and_dropped_by_threads_during_a_poll() {
        sim(async {
            for first_clone_at_home in [false, true] {
                let polls = create_task(async move {
                    let mut polls = 0;
                    poll_fn(move |cx| {
                        if first_clone_at_home {
                            drop(cx.waker().clone());
                        }
                        polls += 1;
                        let waker = cx.waker();
                        thread::scope(|scope| {
                            for _ in 0..4 {
                                scope.spawn(move || {
                                    let clones: Vec<Waker> = (0..10).map(|_| waker.clone()).collect();
                                    clones[0].wake_by_ref();
                                    clones.into_iter().for_each(Waker::wake);
                                    waker.wake_by_ref();
                                });
                            }
                        });
                        if polls < 10 { Poll::Pending } else { Poll::Ready(polls) }
                    })
                    .await;
                    Ok(polls)
                });
                polls.await?;
            }
            Ok(())
        });
    }

    #[test]
    fn outlive_their_task_and_their_loop() {
        let (send, wakers) = mpsc::channel::<Waker>();
        let waking = thread::spawn(move || {
            for waker in wakers {
                (0..50).for_each(|_| waker.wake_by_ref());
                let clone = waker.clone();
                waker.wake();
                thread::sleep(Duration::from_micros(100));
                clone.wake();
            }
        });
        let kept: Rc<RefCell<Vec<Waker>>> = Rc::default();
        let keep = Rc::clone(&kept);
        for _ in 0..20 {
            let (send, keep) = (send.clone(), Rc::clone(&keep));
            sim(async move {
                let task = create_task(async { Ok(own().await) });
                let dead = task.await?;
                dead.wake_by_ref();
                send.send(dead.clone())?;
                send.send(own().await)?;
                let waiting = create_task(async {
                    let waker = own().await;
                    hang().await.ok();
                    Ok(waker)
                });
                pump(2).await?;
                waiting.cancel(None);
                send.send(waiting.await?)?;
                let alive = own().await;
                keep.borrow_mut().extend([dead, alive]);
                Ok(())
            });
        }
        drop((send, keep));
        let kept = Rc::into_inner(kept).unwrap().into_inner();
        for waker in &kept {
            waker.wake_by_ref();
        }
        sim(async move {
            // Those of other loops do nothing to this one.
            let before = turn();
            kept.into_iter().for_each(Waker::wake);
            pump(2).await?;
            assert_eq!(turn() - before, 2);
            Ok(())
        });
        waking.join().unwrap();
    }

    #[test]
    fn sent_while_the_loop_closes_are_swallowed() {
        for _ in 0..50 {
            let (send, wakers) = mpsc::channel::<(Waker, RemoteLoop)>();
            let waking = thread::spawn(move || {
                let (waker, remote) = wakers.recv().unwrap();
                while !remote.is_closed() {
                    waker.wake_by_ref();
                    drop(remote.call_soon_threadsafe(|| ()));
                }
                for _ in 0..20 {
                    waker.wake_by_ref();
                    assert!(remote.call_soon_threadsafe(|| ()).is_err());
                }
            });
            sim(async move {
                send.send((own().await, event_loop().remote()))?;
                pump(3).await
            });
            waking.join().unwrap();
        }
    }

    #[test]
    fn of_a_task_that_is_done_keep_nothing_alive() {
        sim(async {
            let value = Rc::new(());
            let held = Rc::clone(&value);
            let task = create_task(async move {
                let _held = held;
                Ok(own().await)
            });
            let waker = task.await?;
            assert_eq!(Rc::strong_count(&value), 1);
            waker.wake();
            pump(1).await
        });
    }

    #[test]
    fn between_runs_of_a_runner_are_kept() {
        let runner = Runner::new(aioli_exec_sim::SimDriver::new());
        let (done, slot, polls) = <(Arc<AtomicBool>, Arc<Mutex<Option<Waker>>>, Arc<AtomicU32>)>::default();
        let waiting = until(Arc::clone(&done), Arc::clone(&slot), polls);
        let task = runner
            .run(async {
                let task = create_task(waiting);
                pump(2).await?;
                Ok(task)
            })
            .unwrap();
        done.store(true, Ordering::Release);
        slot.lock().unwrap().take().unwrap().wake();
        runner.run(async move { timeout(1.0, task).await }).unwrap();
    }
}
