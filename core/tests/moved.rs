//! What one task has begun under a combinator that polls only what was woken, and another goes on with.

mod common;

use std::cell::{Cell, RefCell};
use std::future::Future as StdFuture;
use std::rc::Rc;
use std::task::Poll;

use aioli_core::*;
use common::*;
use futures::future::{FutureExt, join_all};
use futures::stream::{FuturesOrdered, FuturesUnordered, StreamExt};

/// Logs how a coroutine ended, and lets a turn pass before it does.
async fn logged(name: &'static str, trace: Trace, coroutine: impl StdFuture<Output = Result<()>>) -> Result<()> {
    let result = coroutine.await;
    if let Err(error) = &result {
        trace.log(format_args!("{name} {}", if error.is_cancelled() { "cancelled" } else { "failed" }));
        pump(1).await?;
        trace.log(format_args!("{name} cleaned up"));
    }
    result
}

/// Awaits of many kinds.
fn several(trace: &Trace) -> Vec<Boxed<()>> {
    let (lock, event, queue) = (Lock::new(), Event::new(), Queue::<()>::new(0));
    let mut all: Vec<(&'static str, Boxed<()>)> = vec![
        ("sleep", Box::pin(sleep(50.0))),
        ("future", Box::pin(hang())),
        ("task", Box::pin(async { create_task(hang()).await })),
        ("event", Box::pin(async move { event.wait().await })),
        ("queue", Box::pin(async move { queue.get().await })),
        ("wait", Box::pin(async { wait([pending::<()>()]).timeout(50.0).await.map(drop) })),
        ("scope", Box::pin(timeout(50.0, hang()))),
        ("foreign", Box::pin(timeout(50.0, foreign()))),
        ("group", Box::pin(task_group(async |_| foreign().await))),
    ];
    all.push((
        "lock",
        Box::pin(async move {
            let _held = lock.lock().await?;
            lock.lock().await.map(drop)
        }),
    ));
    all.into_iter().map(|(name, coroutine)| -> Boxed<()> { Box::pin(logged(name, trace.clone(), coroutine)) }).collect()
}

const NAMES: [&str; 10] = ["event", "foreign", "future", "group", "lock", "queue", "scope", "sleep", "task", "wait"];

/// Whether each of [`several`] was cancelled, once, and cleaned up.
fn check(trace: &Trace) {
    let mut seen = trace.take();
    seen.sort();
    let wanted: Vec<_> =
        NAMES.iter().flat_map(|name| [format!("{name} cancelled"), format!("{name} cleaned up")]).collect();
    assert_eq!(seen, wanted);
}

/// Combinators that poll only what was woken.
fn combined(kind: u32, all: Vec<Boxed<()>>) -> Boxed<()> {
    match kind {
        0 => Box::pin(all.into_iter().collect::<FuturesUnordered<_>>().collect::<Vec<_>>().map(|_| Ok(()))),
        1 => Box::pin(all.into_iter().collect::<FuturesOrdered<_>>().collect::<Vec<_>>().map(|_| Ok(()))),
        2 => {
            let many = (0..30).map(|_| -> Boxed<()> { Box::pin(ready(())) });
            Box::pin(join_all(all.into_iter().chain(many)).map(|_| Ok(())))
        }
        3 => Box::pin(futures::stream::iter(all).buffer_unordered(99).collect::<Vec<_>>().map(|_| Ok(()))),
        // One in another.
        4 => combined(0, vec![combined(1, all), Box::pin(ready(()))]),
        // When everything in it was woken it yields before it has polled all of it.
        _ => {
            let yields = (0..2).map(|_| combined(0, vec![Box::pin(hang())]));
            combined(0, yields.chain(all).collect())
        }
    }
}

const KINDS: u32 = 6;

/// A combinator that has polled all that is in it, in the current task.
async fn started(coroutine: Boxed<()>) -> Boxed<()> {
    let mut coroutine = begun(coroutine).await;
    assert!(touch(coroutine.as_mut()).await.is_pending());
    coroutine
}

#[test]
fn is_reached_by_a_request_of_the_task_that_has_it() {
    sim(async {
        for (kind, beside) in (0..KINDS).flat_map(|kind| [(kind, false), (kind, true)]) {
            let trace = Trace::new();
            let all = started(combined(kind, several(&trace))).await;
            let task = create_task(async move {
                if !beside {
                    return all.await.and(Err(Error::msg("the end")));
                }
                let (one, other) = futures::join!(all, hang());
                one.and(other)
            });
            pump(3).await?;
            task.cancel(None);
            pump(10).await?;
            check(&trace);
            assert!(task.done(), "kind {kind}, beside {beside}: {task:?}");
            assert_eq!(me().cancelling(), 0);
        }
        Ok(())
    });
}

#[test]
fn is_reached_by_a_request_of_a_scope_around_it() {
    sim(async {
        for (kind, token) in (0..KINDS).flat_map(|kind| [(kind, false), (kind, true)]) {
            let trace = Trace::new();
            let all = started(combined(kind, several(&trace))).await;
            let around = async move { futures::join!(all, hang()).1 };
            let tokens = CancelToken::new();
            let inside = tokens.clone();
            let beside = Rc::new(Cell::new(false));
            let ended = Rc::clone(&beside);
            let task = create_task(async move {
                let scope = async { if token { inside.run(around).await } else { timeout(1.0, around).await } };
                let sibling = async {
                    sleep(3.0).await?;
                    ended.set(true);
                    Ok::<_, Error>(())
                };
                let (scope, sibling) = futures::join!(scope, sibling);
                sibling?;
                assert_eq!(me().cancelling(), 0);
                scope
            });
            sleep(1.0).await?;
            tokens.cancel(None);
            sleep(1.0).await?;
            check(&trace);
            sleep(2.0).await?;
            assert!(task.done() && beside.get(), "kind {kind}, token {token}: {task:?}");
        }
        Ok(())
    });
}

#[test]
fn is_reached_where_the_task_before_ends_in_the_turn_of_the_request() {
    sim(async {
        for (kind, order) in (0..KINDS).flat_map(|kind| (0..3).map(move |order| (kind, order))) {
            let (trace, slot) = (Trace::new(), Rc::new(RefCell::new(None)));
            let (t, s, gate) = (trace.clone(), Rc::clone(&slot), pending::<()>());
            let opened = gate.clone();
            let before = create_task(async move {
                let all = started(combined(kind, several(&t))).await;
                s.replace(Some(all));
                gate.await
            });
            pump(2).await?;
            let all = slot.take().unwrap();
            let task = create_task(async move { futures::join!(all, hang()).1 });
            pump(2).await?;
            if order == 0 {
                task.cancel(None);
            }
            opened.set_result(())?;
            pump(1).await?;
            if order == 1 {
                task.cancel(None);
            }
            pump(1).await?;
            if order == 2 {
                task.cancel(None);
            }
            pump(10).await?;
            check(&trace);
            assert!(task.done() && before.done(), "kind {kind}, order {order}: {task:?}");
        }
        Ok(())
    });
}

#[test]
fn is_not_reached_by_a_request_that_came_before_it() {
    sim(async {
        for kind in 0..KINDS {
            let trace = Trace::new();
            let all = started(combined(kind, several(&trace))).await;
            let task = create_task(async move {
                hang().await.unwrap_err();
                all.await
            });
            pump(2).await?;
            task.cancel(None);
            pump(9).await?;
            assert_eq!((trace.take(), task.done()), (vec![], false));
            task.cancel(None);
            pump(9).await?;
            check(&trace);
            assert!(task.done());
        }
        Ok(())
    });
}

#[test]
fn is_not_reached_by_requests_of_others() {
    sim(async {
        for (kind, others) in (0..KINDS).flat_map(|kind| [(kind, true), (kind, false)]) {
            let (trace, kept, slot) = (Trace::new(), Trace::new(), Rc::new(RefCell::new(None)));
            let (t, k, s) = (trace.clone(), kept.clone(), Rc::clone(&slot));
            let before = create_task(async move {
                let (all, mine) = (started(combined(kind, several(&t))).await, combined(kind, several(&k)));
                s.replace(Some(all));
                mine.await
            });
            pump(2).await?;
            let all = slot.take().unwrap();
            let after = create_task(all);
            // One that polls for others, too, and one that has lost nothing.
            let other = create_task(combined(0, vec![Box::pin(hang())]));
            pump(3).await?;
            if others {
                other.cancel(None);
                pump(3).await?;
                assert!(other.done() && !before.done() && !after.done());
                assert_eq!((trace.take(), kept.take()), (vec![], vec![]));
            }
            before.cancel(None);
            pump(9).await?;
            check(&kept);
            assert_eq!((trace.take(), before.done(), after.done()), (vec![], true, false), "kind {kind}, {others}");
            after.cancel(None);
            pump(9).await?;
            check(&trace);
            assert!(after.done());
        }
        Ok(())
    });
}

#[test]
fn in_a_timeout_is_ended_by_it_if_it_was_begun_there() {
    sim(async {
        let trace = Trace::new();
        let awaits = || -> FuturesUnordered<Boxed<()>> {
            ["one", "other"]
                .map(|name| -> Boxed<()> { Box::pin(logged(name, trace.clone(), sleep(50.0))) })
                .into_iter()
                .collect()
        };
        let mut begun_before = awaits();
        assert!(begun_before.next().now_or_never().is_none());
        for _ in 0..2 {
            let late = timeout(1.0, async { Ok(begun_before.next().await) }).await;
            assert!(late.unwrap_err().is_timeout());
        }
        assert_eq!((trace.take(), begun_before.len()), (vec![], 2));
        let mut begun_inside = awaits();
        let ended = timeout(1.0, async { Ok(begun_inside.next().await) }).await?;
        assert!(ended.unwrap().unwrap_err().is_cancelled());
        assert_eq!(seconds(), 3.0);
        Ok(())
    });
}

#[test]
fn a_sleep_that_several_tasks_poll_ends() {
    sim(async {
        for delay in [0.0, 1.0] {
            let shared = sleep(delay).shared();
            let tasks: Vec<_> = (0..3).map(|_| create_task(shared.clone())).collect();
            let before = turn();
            gather(tasks).await?;
            assert!(turn() - before < 10);
        }
        Ok(())
    });
}

/// The same, which fails the test where a loop spins.
fn polled_rarely(mut deed: Boxed<()>) -> Boxed<()> {
    let mut polls = 0;
    Box::pin(std::future::poll_fn(move |cx| {
        polls += 1;
        assert!(polls < 20);
        deed.as_mut().poll(cx)
    }))
}

#[test]
fn a_wait_that_several_tasks_poll_ends_with_its_time() {
    sim(async {
        for delay in [0.0, 1.0] {
            let never = async move { wait([pending::<()>()]).timeout(delay).await.map(drop) };
            let shared = polled_rarely(Box::pin(never)).shared();
            let tasks: Vec<_> = (0..3).map(|_| create_task(shared.clone())).collect();
            let before = turn();
            gather(tasks).await?;
            assert!(turn() - before < 10);
        }
        Ok(())
    });
}

#[test]
fn a_task_that_awaits_itself_beside_others_is_told() {
    sim(async {
        for late in [false, true] {
            let slot = Rc::new(RefCell::new(None));
            let own = Rc::clone(&slot);
            let itself = create_task(async move {
                sleep(0.0).await?;
                let shared: futures::future::Shared<Boxed<()>> = own.take().unwrap();
                shared.await
            });
            let view = itself.view();
            let awaits: Boxed<()> = if late { Box::pin(wait_for(itself, 50.0)) } else { Box::pin(itself) };
            let shared = polled_rarely(awaits).shared();
            slot.replace(Some(shared.clone()));
            let others: Vec<_> = (0..2).map(|_| create_task(shared.clone())).collect();
            pump(30).await?;
            for task in others {
                assert_eq!(task.await.unwrap_err().kind(), ErrorKind::Runtime);
            }
            assert!(view.done());
        }
        Ok(())
    });
}

#[test]
fn what_several_tasks_poll_is_left_by_one_that_is_cancelled() {
    sim(async {
        for (kind, whose) in (0..3).flat_map(|kind| (0..3).map(move |whose| (kind, whose))) {
            let deed: Boxed<()> = match kind {
                0 => Box::pin(sleep(50.0)),
                1 => Box::pin(async { Event::new().wait().await }),
                _ => Box::pin(timeout(60.0, sleep(50.0))),
            };
            let shared = deed.shared();
            let tasks: Vec<_> = (0..3).map(|_| create_task(shared.clone())).collect();
            pump(3).await?;
            let before = turn();
            tasks[whose].cancel(None);
            sleep(1.0).await?;
            assert!(tasks[whose].done() && turn() - before < 20, "{kind} {whose}");
            tasks.iter().for_each(|task| _ = task.cancel(None));
            sleep(1.0).await?;
            assert!(tasks.iter().all(Task::done), "{kind} {whose}");
        }
        Ok(())
    });
}

/// Begins something under a combinator that goes to another task, and stays there.
async fn lose(inside: Boxed<()>) -> Task<Vec<Result<()>>> {
    let mut one: FuturesUnordered<_> = [inside].into_iter().collect();
    assert!(touch(Box::pin(one.next()).as_mut()).await.is_pending());
    create_task(one.collect::<Vec<_>>().map(Ok))
}

#[test]
fn beside_what_another_task_has_is_reached() {
    sim(async {
        for (kind, scope) in (0..KINDS).flat_map(|kind| [(kind, false), (kind, true)]) {
            let trace = Trace::new();
            let all = combined(kind, several(&trace));
            let task = create_task(async move {
                let lost = lose(Box::pin(hang())).await;
                let around = async { futures::join!(hang(), all).0 };
                let result = if scope { timeout(1.0, around).await } else { around.await };
                assert!(!lost.done());
                lost.cancel(None);
                result
            });
            if scope {
                sleep(2.0).await?;
            } else {
                sleep(0.5).await?;
                task.cancel(None);
                pump(12).await?;
            }
            check(&trace);
            assert!(task.done(), "kind {kind}, scope {scope}: {task:?}");
        }
        Ok(())
    });
}

#[test]
fn in_a_timeout_is_left_alone_by_it_if_it_was_begun_before_also_beside_what_another_task_has() {
    sim(async {
        let trace = Trace::new();
        let mut all: FuturesUnordered<Boxed<()>> =
            [Box::pin(logged("one", trace.clone(), sleep(50.0))) as Boxed<()>].into_iter().collect();
        assert!(touch(Box::pin(all.next()).as_mut()).await.is_pending());
        for _ in 0..3 {
            let lost = lose(Box::pin(sleep(50.0))).await;
            pump(2).await?;
            let late = timeout(1.0, async { Ok(all.next().await) }).await;
            assert!(late.unwrap_err().is_timeout());
            lost.cancel(None);
            pump(2).await?;
        }
        assert_eq!((trace.take(), all.len()), (vec![], 1));
        Ok(())
    });
}

#[test]
fn beside_what_another_task_has_is_reached_also_if_it_goes_on_in_that_turn() {
    sim(async {
        for (turns, joined) in (0..6).flat_map(|turns| [(turns, false), (turns, true)]) {
            let task = create_task(async move {
                let begun: Boxed<()> = Box::pin(async { create_task(begun(sleep(50.0)).await).await });
                let mut yields: Boxed<()> = Box::pin(pump(5000));
                if joined {
                    yields = Box::pin(async { futures::try_join!(pump(5000), sleep(50.0)).map(drop) });
                }
                let mut all: FuturesUnordered<_> = [yields, begun].into_iter().collect();
                while all.next().await.is_some() {}
                Ok(())
            });
            pump(turns).await?;
            task.cancel(Some("enough"));
            pump(20).await?;
            assert!(task.done(), "{turns}");
        }
        Ok(())
    });
}

/// Something of another crate that yields again and again.
async fn busy() -> Result<()> {
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[test]
fn beside_what_yields_is_reached_before_foreign_awaits_are_given_up() {
    sim(async {
        for (moved, scope) in [(false, 0), (false, 1), (false, 2), (true, 0), (true, 1), (true, 2)] {
            let trace = Trace::new();
            let make = |t: Trace| async {
                let lost = lose(Box::pin(hang())).await;
                let awaits: [Boxed<()>; 3] =
                    [Box::pin(busy()), Box::pin(busy()), Box::pin(logged("one", t, sleep(50.0)))];
                let all = awaits.into_iter().collect::<FuturesUnordered<_>>();
                let mut first: Boxed<()> = Box::pin(all.into_future().map(|(first, _)| first.unwrap()));
                for _ in 0..2 {
                    assert!(touch(first.as_mut()).await.is_pending());
                }
                (first, lost)
            };
            let made = if moved { Some(make(trace.clone()).await) } else { None };
            let t = trace.clone();
            let tokens = CancelToken::new();
            let inside = tokens.clone();
            let task = create_task(async move {
                let body = async {
                    let (first, lost) = if let Some(made) = made { made } else { make(t).await };
                    let result = first.await;
                    lost.cancel(None);
                    result
                };
                match scope {
                    0 => body.await,
                    1 => inside.run(body).await,
                    _ => futures::join!(timeout(50.0, body), hang()).0,
                }
            });
            pump(4).await?;
            if scope == 1 {
                tokens.cancel(Some("enough"));
            } else {
                task.cancel(Some("enough"));
            }
            pump(12).await?;
            assert_eq!(trace.take(), ["one cancelled", "one cleaned up"], "moved {moved}, scope {scope}");
            assert_eq!(message(&task.await).as_deref(), Some("enough"));
        }
        Ok(())
    });
}

#[test]
fn what_has_ended_in_the_turn_of_the_request_is_reached_before_it_was_polled_there() {
    sim(async {
        for (kind, order, last) in (0..6).flat_map(|kind| (0..4).map(move |n| (kind, n / 2, n % 2 == 1))) {
            let (trace, future) = (Trace::new(), pending::<()>());
            let (lock, semaphore) = (Rc::new(Lock::new()), Rc::new(Semaphore::new(0)));
            let (event, queue) = (Rc::new(Event::new()), Rc::new(Queue::new(0)));
            let held = lock.lock().await?;
            let (f, e, l, s, q) =
                (future.clone(), Rc::clone(&event), Rc::clone(&lock), Rc::clone(&semaphore), Rc::clone(&queue));
            let awaits: Boxed<()> = match kind {
                0 => Box::pin(f),
                1 => Box::pin(async move { e.wait().await }),
                2 => Box::pin(async move { l.lock().await.map(drop) }),
                3 => Box::pin(async move { s.acquire().await }),
                4 => Box::pin(async move { q.get().await }),
                _ => Box::pin(timeout(50.0, f)),
            };
            let (body, t) = (logged("one", trace.clone(), awaits), trace.clone());
            let body: Boxed<()> = Box::pin(async move {
                body.await?;
                logged("next", t, hang()).await
            });
            let mut both: Vec<Boxed<()>> = vec![body, Box::pin(hang())];
            if last {
                both.reverse();
            }
            let all = started(Box::pin(FuturesUnordered::from_iter(both).collect::<Vec<_>>().map(|_| Ok(())))).await;
            let task = create_task(all);
            pump(3).await?;
            let ask = || assert!(task.cancel(None));
            if order == 0 {
                ask();
            }
            future.set_result(())?;
            event.set();
            drop(held);
            semaphore.release();
            queue.put_nowait(())?;
            if order == 1 {
                ask();
            }
            pump(9).await?;
            assert_eq!(
                (trace.take(), task.done()),
                (vec!["one cancelled".into(), "one cleaned up".into()], true),
                "{kind} {order}"
            );
            // What it had been given is the next one's.
            assert!(!lock.locked() && !semaphore.locked());
            queue.get_nowait()?;
        }
        Ok(())
    });
}

/// What a combinator holds beside something else, after its task was asked to end.
async fn ends_all(trace: &Trace, all: impl StdFuture + 'static, names: usize) -> Result<()> {
    let task = create_task(all.map(|_| Ok(())));
    pump(3).await?;
    task.cancel(None);
    pump(9).await?;
    assert_eq!((trace.take().len(), task.done()), (2 * names, true));
    Ok(())
}

#[test]
fn is_reached_also_if_it_was_woken_before_it_moved() {
    for (thread, several_turns) in [(false, false), (false, true), (true, true)] {
        sim(async move {
            let trace = Trace::new();
            let (sender, receiver) = futures::channel::oneshot::channel::<()>();
            let mut awaits = several(&trace);
            awaits.push(Box::pin(async { Ok(receiver.await?) }));
            let mut all: FuturesUnordered<_> = awaits.into_iter().collect();
            assert!(touch(Box::pin(all.next()).as_mut()).await.is_pending());
            let send = || sender.send(()).unwrap();
            if thread {
                std::thread::scope(|scope| scope.spawn(send).join().unwrap())
            } else {
                send()
            }
            if several_turns {
                sleep(0.1).await?;
            }
            ends_all(&trace, all.collect::<Vec<_>>(), NAMES.len()).await
        });
    }
}

#[test]
fn is_reached_also_if_it_was_first_polled_with_another_waker() {
    for (kind, own_first) in (0..KINDS).flat_map(|kind| [(kind, false), (kind, true)]) {
        sim(async move {
            let trace = Trace::new();
            let mut all = combined(kind, several(&trace));
            if own_first {
                all = started(all).await;
            }
            for _ in 0..3 {
                assert!(all.as_mut().now_or_never().is_none());
            }
            ends_all(&trace, all, NAMES.len()).await
        });
    }
}

/// What its task has polled without a combinator came to one that the task never saw.
#[test]
fn is_reached_also_if_it_was_first_polled_alone_and_then_with_another_waker() {
    for at in 0..NAMES.len() {
        sim(async move {
            let trace = Trace::new();
            let mut alone = several(&trace).swap_remove(at);
            assert!(touch(alone.as_mut()).await.is_pending());
            let mut all = combined(0, vec![alone]);
            assert!(all.as_mut().now_or_never().is_none());
            ends_all(&trace, all, 1).await
        });
    }
}
