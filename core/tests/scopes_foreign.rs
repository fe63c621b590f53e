//! Cancellation under combinators and futures of other crates.

mod common;

use std::future::Future as StdFuture;
use std::pin::Pin;
use std::task::Poll;

use aioli_core::*;
use common::*;
use futures::future::{Either, join_all, select};
use futures::stream::{FuturesUnordered, StreamExt};

/// A foreign channel: what is sent wakes the receiver.
fn channel<T>() -> (futures::channel::oneshot::Sender<T>, impl StdFuture<Output = Result<T>>) {
    let (sender, receiver) = futures::channel::oneshot::channel();
    (sender, async move { Ok(receiver.await?) })
}

/// Logs how a coroutine ended, and the number of the turn.
fn logged<F>(name: &'static str, trace: &Trace, coroutine: F) -> impl StdFuture<Output = Result<()>> + use<F>
where
    F: StdFuture<Output = Result<()>>,
{
    let trace = trace.clone();
    async move {
        let result = coroutine.await;
        match &result {
            Err(error) if error.is_cancelled() => trace.mark(format_args!("{name} cancelled {}", me().cancelling())),
            Err(error) if error.is_timeout() => trace.mark(format_args!("{name} timeout {}", me().cancelling())),
            result => trace.mark(format_args!("{name} {result:?}")),
        }
        result
    }
}

mod leaves {
    use super::*;

    #[test]
    fn under_a_join_are_all_cancelled_by_one_request() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let coroutine = async move {
                let inner = create_task(logged("inner", &t, hang()));
                let task = logged("task", &t, inner);
                let (a, b, c, d) = futures::join!(
                    logged("future", &t, hang()),
                    logged("sleep", &t, sleep(9.0)),
                    task,
                    logged("yield", &t, pump(100)),
                );
                a.and(b).and(c).and(d)
            };
            let (turns, task) = cancel_after(2, &trace, coroutine).await?;
            assert_eq!((turns, state(&task)), (2, "CANCELLED cancelling=1".into()));
            let lines = [
                "future cancelled 1+1",
                "sleep cancelled 1+1",
                "yield cancelled 1+1",
                "inner cancelled 1+1",
                "task cancelled 1+2",
            ];
            assert_eq!(trace.take(), lines);
            Ok(())
        });
    }

    #[test]
    fn under_unordered_futures_are_all_cancelled_by_one_request() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let coroutine = async move {
                let all = FuturesUnordered::<Pin<Box<dyn StdFuture<Output = Result<()>>>>>::new();
                all.push(Box::pin(logged("future", &t, hang())));
                all.push(Box::pin(logged("sleep", &t, sleep(9.0))));
                all.push(Box::pin(logged("cleanup", &t, async {
                    let interrupted = sleep(9.0).await;
                    pump(2).await?;
                    interrupted
                })));
                let results: Vec<_> = all.collect().await;
                assert_eq!(results.iter().filter(|result| result.is_err()).count(), 3);
                Ok(())
            };
            let (turns, task) = cancel_after(2, &trace, coroutine).await?;
            assert_eq!(state(&task), "RESULT () cancelling=1");
            let mut lines = trace.take();
            assert_eq!(lines.pop().unwrap(), format!("cleanup cancelled 1+{turns}"));
            lines.sort();
            assert_eq!(lines, ["future cancelled 1+1", "sleep cancelled 1+1"]);
            Ok(())
        });
    }

    #[test]
    fn of_which_some_are_done_are_cancelled_all_the_same() {
        sim(async {
            let (trace, future) = (Trace::new(), pending::<()>());
            let (t, awaited) = (trace.clone(), future.clone());
            let task = create_task(async move {
                let (done, waiting) = futures::join!(logged("done", &t, awaited), logged("waiting", &t, hang()));
                done.and(waiting)
            });
            pump(1).await?;
            trace.start();
            future.set_result(())?;
            task.cancel(None);
            pump(2).await?;
            assert_eq!(trace.take(), ["done cancelled 1+1", "waiting cancelled 1+1"]);
            Ok(())
        });
    }

    #[test]
    fn that_are_cancelled_and_dropped_by_a_select_leave_the_request_open() {
        sim(async {
            let trace = Trace::new();
            let (sender, receiver) = channel::<&str>();
            let t = trace.clone();
            let task = create_task(async move {
                let (mut first, mut second) = (Box::pin(receiver), Box::pin(hang()));
                // The channel is ready in the turn of the request, and wins: the cancelled await is dropped unasked.
                let won = futures::select_biased! {
                    value = futures::FutureExt::fuse(first.as_mut()) => value?,
                    _ = futures::FutureExt::fuse(second.as_mut()) => unreachable!("the first one is ready"),
                };
                drop(second);
                t.mark(won);
                logged("next", &t, hang()).await
            });
            pump(1).await?;
            trace.start();
            sender.send("won").unwrap();
            task.cancel(Some("m"));
            assert_eq!(until_done(&task, &trace).await?, 2);
            assert_eq!(trace.take(), ["won+1", "next cancelled 1+2"]);
            assert_eq!(message(&task.await).as_deref(), Some("m"));
            Ok(())
        });
    }

    #[test]
    fn that_were_dropped_with_the_request_open_and_none_after_end_the_task_cancelled() {
        sim(async {
            let (sender, receiver) = channel::<&str>();
            let task = create_task(async move {
                match select(Box::pin(receiver), Box::pin(hang())).await {
                    Either::Left((value, _)) => value,
                    Either::Right(_) => unreachable!("the first one is ready"),
                }
            });
            pump(1).await?;
            sender.send("lost").unwrap();
            task.cancel(Some("m"));
            pump(1).await?;
            assert_eq!(state(&task), "CANCELLED cancelling=1");
            assert_eq!(message(&task.await).as_deref(), Some("m"));
            Ok(())
        });
    }

    #[test]
    fn get_one_request_each_time_also_under_a_join() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let task = create_task(async move {
                let twice = |name: &'static str| {
                    let t = t.clone();
                    async move {
                        let first = logged(name, &t, hang()).await;
                        let second = logged(name, &t, hang()).await;
                        first.and(second)
                    }
                };
                let (a, b) = futures::join!(twice("a"), twice("b"));
                a.and(b)
            });
            pump(1).await?;
            trace.start();
            task.cancel(None);
            pump(2).await?;
            assert!(!task.done());
            task.cancel(None);
            pump(2).await?;
            let lines = ["a cancelled 1+1", "b cancelled 1+1", "a cancelled 2+3", "b cancelled 2+3"];
            assert_eq!(trace.take(), lines);
            assert_eq!(state(&task), "CANCELLED cancelling=2");
            Ok(())
        });
    }

    #[test]
    fn are_woken_by_the_waker_that_polled_them_last() {
        sim(async {
            for cancelled_in_combinator in [true, false] {
                let trace = Trace::new();
                let t = trace.clone();
                let coroutine = async move {
                    let mut wait = Box::pin(logged("wait", &t, hang()));
                    assert!(touch(wait.as_mut()).await.is_pending());
                    let mut all = FuturesUnordered::new();
                    all.push(wait.as_mut());
                    if let Either::Left((result, _)) = select(all.next(), Box::pin(sleep(1.0))).await {
                        return result.unwrap();
                    }
                    drop(all);
                    wait.await
                };
                let task = create_task(coroutine);
                sleep(if cancelled_in_combinator { 0.5 } else { 1.5 }).await?;
                trace.start();
                task.cancel(None);
                assert_eq!(until_done(&task, &trace).await?, 1);
                assert_eq!(trace.take(), ["wait cancelled 1+1"]);
            }
            Ok(())
        });
    }
}

mod scopes {
    use super::*;

    #[test]
    fn beside_each_other_do_not_see_each_others_requests() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let expires = logged("inside", &t, hang());
            let stays = async {
                sleep(2.0).await?;
                trace.log(format_args!("sibling {}", me().cancelling()));
                sleep(2.0).await
            };
            let cleans_up = timeout(1.0, async {
                let interrupted = expires.await;
                sleep(2.0).await?;
                trace.log(format_args!("cleaned up {}", me().cancelling()));
                interrupted
            });
            let (late, kept, other) = futures::join!(cleans_up, timeout(100.0, stays), sleep(4.0));
            assert!(late.unwrap_err().is_timeout());
            kept.and(other)?;
            assert_eq!(trace.take(), ["inside cancelled 1+2", "sibling 0", "cleaned up 1"]);
            assert_eq!((seconds(), me().cancelling()), (4.0, 0));
            Ok(())
        });
    }

    #[test]
    fn are_each_cancelled_by_a_request_of_the_task() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let coroutine = async move {
                let (a, b) = futures::join!(
                    logged("a", &t, timeout(5.0, logged("a inside", &t, hang()))),
                    logged("b", &t, timeout(5.0, logged("b inside", &t, sleep(3.0)))),
                );
                a.and(b)
            };
            let (turns, task) = cancel_after(2, &trace, coroutine).await?;
            assert_eq!((turns, state(&task)), (1, "CANCELLED cancelling=1".into()));
            let lines = ["a inside cancelled 1+1", "a cancelled 1+1", "b inside cancelled 1+1", "b cancelled 1+1"];
            assert_eq!(trace.take(), lines);
            Ok(())
        });
    }

    #[test]
    fn count_for_what_is_inside_and_from_outside_for_the_task() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let task = create_task(async move {
                let cleaning = |name: &'static str| {
                    let t = t.clone();
                    async move {
                        let interrupted = hang().await;
                        t.log(format_args!("{name} {}", me().cancelling()));
                        sleep(2.0).await?;
                        interrupted
                    }
                };
                let outside = async {
                    sleep(1.5).await?;
                    t.log(format_args!("outside {}", me().cancelling()));
                    Ok(())
                };
                let (a, b, c) = futures::join!(
                    timeout(1.0, timeout(1.0, cleaning("both"))),
                    timeout(1.0, cleaning("one")),
                    outside
                );
                assert!(a.unwrap_err().is_timeout() && b.unwrap_err().is_timeout());
                assert_eq!(me().cancelling(), 0);
                c
            });
            sleep(1.5).await?;
            assert_eq!(task.cancelling(), 3, "from outside: those of all its scopes");
            task.await?;
            assert_eq!(trace.take(), ["both 2", "one 1", "outside 0"]);
            Ok(())
        });
    }

    #[test]
    fn take_back_their_own_requests_only() {
        sim(async {
            let task = create_task(async {
                let body = async {
                    let interrupted = hang().await;
                    assert_eq!((me().cancelling(), me().uncancel()), (2, 1));
                    interrupted
                };
                let (late, other) = futures::join!(timeout(1.0, body), async {
                    sleep(0.5).await.unwrap_err();
                    sleep(5.0).await
                });
                assert!(late.unwrap_err().is_cancelled());
                other
            });
            pump(1).await?;
            let victim = task.view();
            event_loop().call_later(0.25, move || assert!(victim.cancel(None)))?;
            task.await.unwrap_or(());
            Ok(())
        });
    }

    #[test]
    fn that_were_polled_elsewhere_before_are_those_of_the_last_poll() {
        sim(async {
            let trace = Trace::new();
            let mut work = Box::pin(async {
                let interrupted = sleep(100.0).await;
                sleep(1.0).await?;
                trace.log("cleaned up");
                interrupted
            });
            assert!(matches!(select(work.as_mut(), Box::pin(sleep(1.0))).await, Either::Right(_)));
            assert!(timeout(1.0, work.as_mut()).await.unwrap_err().is_timeout());
            assert_eq!((trace.take(), seconds()), (vec!["cleaned up".into()], 3.0));

            let mut scoped = Box::pin(timeout(1000.0, logged("inside", &trace, sleep(100.0))));
            assert!(touch(scoped.as_mut()).await.is_pending());
            assert!(timeout(1.0, scoped).await.unwrap_err().is_timeout());
            assert_eq!(trace.take().len(), 1);
            Ok(())
        });
    }

    #[test]
    fn whose_body_was_polled_inside_another_one_are_not_cancelled_by_that_any_more() {
        sim(async {
            let mut work = Box::pin(sleep(3.0));
            let early = timeout(1.0, async {
                assert!(touch(work.as_mut()).await.is_pending());
                Ok(())
            });
            early.await?;
            let both = futures::join!(work, timeout(1.0, hang()));
            both.0?;
            assert!(both.1.unwrap_err().is_timeout());
            assert_eq!(seconds(), 3.0);
            Ok(())
        });
    }

    #[test]
    fn that_are_dropped_by_a_select_take_their_request_along() {
        sim(async {
            for _ in 0..3 {
                let now = event_loop().time();
                let gate = pending::<()>();
                let setter = gate.clone();
                event_loop()
                    .call_at(now + std::time::Duration::from_secs(1), move || setter.set_result(()).unwrap())?;
                // The deadline passes in the turn in which the other branch is ready.
                let won = select(gate, Box::pin(timeout(1.0, hang()))).await;
                assert!(matches!(won, Either::Left((Ok(()), _))));
                drop(won);
                assert_eq!(me().cancelling(), 0);
                pump(3).await?;
                sleep(1.0).await?;
            }
            Ok(())
        });
    }

    #[test]
    fn may_be_many_under_one_combinator() {
        sim(async {
            let sleepers = (1..=100_u32).map(|n| timeout(f64::from(n), sleep(50.5)));
            let results = join_all(sleepers).await;
            assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 50);
            assert!(results.iter().take(50).all(|result| result.as_ref().is_err_and(Error::is_timeout)));
            assert_eq!((seconds(), me().cancelling()), (50.5, 0));
            Ok(())
        });
    }

    #[test]
    fn of_a_group_beside_a_sibling_cancel_the_group_alone() {
        sim(async {
            let trace = Trace::new();
            let group = task_group(async |group| {
                group.create_task(async { sleep(1.0).await.and(fail::<()>("child").await) })?;
                logged("body", &trace, hang()).await
            });
            let (failed, slept) = futures::join!(group, logged("sibling", &trace, sleep(2.0)));
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Group);
            slept?;
            assert_eq!(me().cancelling(), 0);
            let lines = trace.take();
            assert!(lines[0].starts_with("body cancelled 1") && lines[1].starts_with("sibling Ok"), "{lines:?}");
            Ok(())
        });
    }
}

mod foreign_waits {
    use super::*;

    #[test]
    fn without_a_scope_end_with_the_task() {
        sim(async {
            struct Probe(Trace);
            impl Drop for Probe {
                fn drop(&mut self) {
                    self.0.mark(format_args!("dropped in {}", me().name()));
                }
            }
            let trace = Trace::new();
            let (probe, var) = (Probe(trace.clone()), ContextVar::<u32>::new());
            let task = TaskBuilder::new().name("T").create_task(async move {
                var.set(1);
                let _probe = probe;
                foreign().await
            });
            pump(1).await?;
            trace.start();
            task.cancel(Some("m"));
            assert!(!task.done(), "a request never drops");
            pump(1).await?;
            assert_eq!(trace.take(), ["dropped in T+1"]);
            assert_eq!(state(&task), "CANCELLED cancelling=1");
            assert_eq!(message(&task.await).as_deref(), Some("m"));
            Ok(())
        });
    }

    #[test]
    fn are_polled_once_more_and_may_be_ready_by_then() {
        sim(async {
            let trace = Trace::new();
            let (sender, receiver) = channel::<&str>();
            let t = trace.clone();
            let task = create_task(async move {
                t.log(receiver.await?);
                logged("next", &t, sleep(1.0)).await
            });
            pump(1).await?;
            trace.start();
            task.cancel(None);
            sender.send("came in time").unwrap();
            assert_eq!(until_done(&task, &trace).await?, 2);
            assert_eq!(trace.take(), ["came in time", "next cancelled 1+2"]);
            Ok(())
        });
    }

    #[test]
    fn that_follow_each_other_get_one_chance_together() {
        sim(async {
            let (sender, receiver) = channel::<()>();
            let task = create_task(async move {
                receiver.await?;
                foreign().await
            });
            pump(1).await?;
            task.cancel(None);
            sender.send(()).unwrap();
            pump(1).await?;
            assert_eq!(state(&task), "CANCELLED cancelling=1");
            Ok(())
        });
    }

    #[test]
    fn end_the_innermost_scope_and_the_task_goes_on() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let coroutine = async move {
                let body = logged("inner", &t, timeout(50.0, foreign()));
                let result = logged(
                    "outer",
                    &t,
                    timeout(100.0, async {
                        let interrupted = body.await;
                        sleep(1.0).await?;
                        t.log("cleaned up");
                        interrupted
                    }),
                );
                result.await
            };
            let task = create_task(coroutine);
            pump(1).await?;
            trace.start();
            task.cancel(Some("m"));
            sleep(2.0).await?;
            assert_eq!(trace.take(), ["inner cancelled 1+1", "cleaned up", "outer cancelled 1+3"]);
            assert_eq!(message(&task.await).as_deref(), Some("m"));
            Ok(())
        });
    }

    #[test]
    fn under_a_timeout_end_when_it_fires() {
        sim(async {
            let trace = Trace::new();
            let late = logged("late", &trace, timeout(1.0, foreign())).await;
            assert!(late.unwrap_err().is_timeout());
            assert_eq!((seconds(), me().cancelling()), (1.0, 0));
            let (sender, receiver) = channel::<u32>();
            event_loop().call_later(1.0, move || sender.send(5).unwrap())?;
            assert_eq!(timeout(2.0, receiver).await?, 5);
            Ok(())
        });
    }

    #[test]
    fn in_scopes_beside_each_other_end_each() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let coroutine = async move {
                let scope = |name| logged(name, &t, timeout(100.0, foreign()));
                let (a, b) = futures::join!(scope("a"), scope("b"));
                a.and(b)
            };
            let (turns, task) = cancel_after(1, &trace, coroutine).await?;
            assert_eq!((turns, state(&task)), (1, "CANCELLED cancelling=1".into()));
            assert_eq!(trace.take(), ["a cancelled 1+1", "b cancelled 1+1"]);
            Ok(())
        });
    }

    #[test]
    fn in_a_scope_beside_an_await_end_with_it() {
        sim(async {
            for scope_first in [true, false] {
                let trace = Trace::new();
                let t = trace.clone();
                let coroutine = async move {
                    let scope = logged("scope", &t, timeout(100.0, foreign()));
                    let leaf = logged("leaf", &t, sleep(50.0));
                    let (a, b) = match scope_first {
                        true => futures::join!(scope, leaf),
                        false => {
                            let (leaf, scope) = futures::join!(leaf, scope);
                            (scope, leaf)
                        }
                    };
                    a.and(b)
                };
                let (turns, task) = cancel_after(1, &trace, coroutine).await?;
                assert_eq!((turns, state(&task)), (1, "CANCELLED cancelling=1".into()));
                let mut lines = trace.take();
                lines.sort();
                assert_eq!(lines, ["leaf cancelled 1+1", "scope cancelled 1+1"]);
                assert_eq!(message(&task.await).as_deref(), Some("m"));
            }
            Ok(())
        });
    }

    #[test]
    fn in_scopes_under_unordered_futures_end_each() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let coroutine = async move {
                let mut all = FuturesUnordered::new();
                all.push(logged("a", &t, timeout(100.0, foreign())));
                all.push(logged("b", &t, timeout(200.0, foreign())));
                while let Some(result) = all.next().await {
                    assert!(result.unwrap_err().is_cancelled());
                    // Other awaits between do not keep the other scope from it.
                    sleep(1.0).await?;
                }
                Ok(())
            };
            let task = create_task(coroutine);
            pump(1).await?;
            trace.start();
            task.cancel(None);
            sleep(3.0).await?;
            assert_eq!(state(&task), "RESULT () cancelling=1");
            let mut lines = trace.take();
            lines.sort();
            assert!(lines[0].starts_with("a cancelled 1") && lines[1].starts_with("b cancelled 1"), "{lines:?}");
            Ok(())
        });
    }

    #[test]
    fn under_a_timeout_around_a_combinator_of_scopes_end_each() {
        sim(async {
            let trace = Trace::new();
            let scopes = async {
                let scope = |name| logged(name, &trace, timeout(100.0, foreign()));
                let (a, b) = futures::join!(scope("a"), scope("b"));
                a.and(b)
            };
            assert!(timeout(1.0, scopes).await.unwrap_err().is_timeout());
            assert_eq!(trace.take(), ["a cancelled 1+2", "b cancelled 1+2"]);

            let unordered = async {
                let mut all = FuturesUnordered::new();
                all.push(logged("c", &trace, timeout(100.0, foreign())));
                all.next().await.unwrap()
            };
            assert!(timeout(1.0, unordered).await.unwrap_err().is_timeout());
            assert!(trace.take()[0].starts_with("c cancelled 1"));
            assert_eq!((seconds(), me().cancelling()), (2.0, 0));
            Ok(())
        });
    }

    #[test]
    fn in_cleanup_are_left_alone() {
        sim(async {
            let (sender, receiver) = channel::<&str>();
            let trace = Trace::new();
            let t = trace.clone();
            let task = create_task(timeout(100.0, async move {
                let interrupted = sleep(50.0).await;
                t.log(receiver.await?);
                interrupted
            }));
            pump(1).await?;
            task.cancel(None);
            pump(5).await?;
            assert!(!task.done());
            sender.send("cleanup").unwrap();
            pump(2).await?;
            assert_eq!((trace.take(), state(&task)), (vec!["cleanup".into()], "CANCELLED cancelling=1".into()));
            Ok(())
        });
    }

    #[test]
    fn in_cleanup_after_a_bare_yield_are_left_alone() {
        sim(async {
            let (sender, receiver) = channel::<&str>();
            let task = create_task(timeout(100.0, async move {
                let interrupted = pump(50).await;
                receiver.await?;
                interrupted
            }));
            pump(1).await?;
            task.cancel(None);
            pump(5).await?;
            assert!(!task.done());
            sender.send("cleanup").unwrap();
            pump(2).await?;
            assert_eq!(state(&task), "CANCELLED cancelling=1");
            Ok(())
        });
    }

    #[test]
    fn whose_request_was_taken_back_are_left_alone() {
        sim(async {
            let (bare, scoped) = (channel::<u32>(), channel::<u32>());
            let tasks = [create_task(bare.1), create_task(timeout(100.0, scoped.1))];
            pump(1).await?;
            for task in &tasks {
                task.cancel(None);
                assert_eq!(task.uncancel(), 0);
            }
            pump(3).await?;
            bare.0.send(1).unwrap();
            scoped.0.send(2).unwrap();
            pump(2).await?;
            assert_eq!(tasks.each_ref().map(state), ["RESULT 1", "RESULT 2"]);
            Ok(())
        });
    }

    #[test]
    fn of_a_group_body_end_the_body() {
        sim(async {
            let trace = Trace::new();
            let failed = task_group(async |group| {
                group.create_task(async { sleep(1.0).await.and(fail::<()>("child").await) })?;
                foreign().await
            });
            let failed = logged("group", &trace, failed).await.unwrap_err();
            assert_eq!((failed.errors().len(), seconds()), (1, 1.0));
            let left = cancellable_task_group(async |group| {
                soon(move || group.cancel());
                foreign().await
            });
            assert_eq!(left.await?, None);
            Ok(())
        });
    }

    #[test]
    fn a_task_that_waits_in_both_is_cancelled_at_its_await() {
        sim(async {
            let trace = Trace::new();
            let t = trace.clone();
            let coroutine = async move {
                let mut other = Box::pin(foreign());
                let both = select(Box::pin(logged("leaf", &t, sleep(9.0))), other.as_mut()).await;
                match both {
                    Either::Left((result, _)) => result,
                    Either::Right((result, _)) => result,
                }
            };
            let (turns, task) = cancel_after(1, &trace, coroutine).await?;
            assert_eq!((turns, state(&task)), (1, "CANCELLED cancelling=1".into()));
            assert_eq!(trace.take(), ["leaf cancelled 1+1"]);
            Ok(())
        });
    }
}

#[test]
fn a_future_polled_outside_of_a_task_is_an_error() {
    sim(async {
        soon(|| {
            let mut cx = std::task::Context::from_waker(futures::task::noop_waker_ref());
            let mut refused = |future: Pin<Box<dyn StdFuture<Output = Result<()>>>>| {
                let mut future = future;
                let polled = future.as_mut().poll(&mut cx);
                assert!(matches!(polled, Poll::Ready(Err(error)) if error.kind() == ErrorKind::Runtime));
            };
            refused(Box::pin(sleep(1.0)));
            refused(Box::pin(sleep(0.0)));
            refused(Box::pin(pending::<()>()));
            refused(Box::pin(create_task(hang())));
            refused(Box::pin(async { wait([pending::<()>()]).await.map(drop) }));
            refused(Box::pin(wait_for(pending::<()>(), 0.0)));
            refused(Box::pin(task_group(async |_| Ok(()))));
        });
        pump(2).await
    });
}
