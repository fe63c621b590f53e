//! A cancellation that finds a task waiting for what knows none.

use super::*;

cases! {
    ($) "foreign" in scopes_foreign_foreign_waits as __cases_scopes_foreign_foreign_waits;
    without_a_scope_end_with_the_task: "L3";
    are_polled_once_more_and_may_be_ready_by_then: "L3";
    that_follow_each_other_get_one_chance_together: "L3";
    end_the_innermost_scope_and_the_task_goes_on: "L3";
    under_a_timeout_end_when_it_fires: "L3";
    in_scopes_beside_each_other_end_each: "L3";
    in_a_scope_beside_an_await_end_with_it: "L3";
    in_a_scope_that_is_polled_some_turns_after_the_request_end_then: "L3";
    in_scopes_under_unordered_futures_end_each: "L3";
    under_a_timeout_around_a_combinator_of_scopes_end_each: "L3";
    in_cleanup_are_left_alone: "L3";
    in_cleanup_after_a_bare_yield_are_left_alone: "L3";
    whose_request_was_taken_back_are_left_alone: "L3";
    of_a_group_body_end_the_body: "L3";
    a_task_that_waits_in_both_is_cancelled_at_its_await: "L3";
    beside_an_await_that_was_put_aside_end_with_the_task: "L3";
    beside_an_await_that_was_put_aside_end_in_their_scope: "L3";
    beside_a_scope_that_was_put_aside_end_in_their_scope: "L3";
    beside_a_scope_that_is_asked_in_the_same_turn_are_not_ended_by_its_answer: "L3";
    beside_a_combinator_that_was_put_aside_woken_end_with_the_task: "L3";
    beside_a_combinator_that_was_put_aside_woken_end_in_their_scope: "L3";
    that_end_beside_an_await_that_was_put_aside_leave_the_request_to_the_next: "L3";
    beside_a_task_that_was_put_aside_end_once_that_has_ended: "L3";
}

fn without_a_scope_end_with_the_task(on: &Machine) {
    on.run(async {
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

fn are_polled_once_more_and_may_be_ready_by_then(on: &Machine) {
    on.run(async {
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

fn that_follow_each_other_get_one_chance_together(on: &Machine) {
    on.run(async {
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

fn end_the_innermost_scope_and_the_task_goes_on(on: &Machine) {
    on.run(async {
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

fn under_a_timeout_end_when_it_fires(on: &Machine) {
    on.run(async {
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

fn in_scopes_beside_each_other_end_each(on: &Machine) {
    on.run(async {
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

fn in_a_scope_beside_an_await_end_with_it(on: &Machine) {
    on.run(async {
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

fn in_scopes_under_unordered_futures_end_each(on: &Machine) {
    on.run(async {
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

fn under_a_timeout_around_a_combinator_of_scopes_end_each(on: &Machine) {
    on.run(async {
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

fn in_cleanup_are_left_alone(on: &Machine) {
    on.run(async {
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

fn in_cleanup_after_a_bare_yield_are_left_alone(on: &Machine) {
    on.run(async {
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

fn whose_request_was_taken_back_are_left_alone(on: &Machine) {
    on.run(async {
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

fn of_a_group_body_end_the_body(on: &Machine) {
    on.run(async {
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

fn a_task_that_waits_in_both_is_cancelled_at_its_await(on: &Machine) {
    on.run(async {
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

fn in_a_scope_that_is_polled_some_turns_after_the_request_end_then(on: &Machine) {
    on.run(async {
        for turns in 0..5 {
            let token = CancelToken::new();
            let mut run = Box::pin(token.run(foreign()));
            assert!(touch(run.as_mut()).await.is_pending());
            token.cancel(Some("enough"));
            pump(turns).await?;
            let error = run.await.unwrap_err();
            assert_eq!(error.cancel_message(), Some("enough"), "polled {turns} turns later");

            let mut limit = Box::pin(timeout(1.0, foreign()));
            assert!(touch(limit.as_mut()).await.is_pending());
            sleep(1.0).await?;
            pump(turns).await?;
            assert!(limit.await.unwrap_err().is_timeout(), "polled {turns} turns later");
        }
        assert_eq!(me().cancelling(), 0);
        Ok(())
    });
}

fn beside_an_await_that_was_put_aside_end_with_the_task(on: &Machine) {
    on.run(async {
        for kind in 0..6 {
            let trace = Trace::new();
            let coroutine = async move {
                let aside: Boxed<()> = match kind {
                    0 => Box::pin(sleep(50.0)),
                    1 => Box::pin(hang()),
                    2 => Box::pin(FuturesUnordered::from_iter([sleep(50.0)]).collect::<Vec<_>>().map(|_| Ok(()))),
                    3 => Box::pin(async { futures::join!(sleep(50.0), hang()).0 }),
                    4 => Box::pin(FuturesUnordered::from_iter([pump(50)]).collect::<Vec<_>>().map(|_| Ok(()))),
                    _ => Box::pin(sleep(0.5)),
                };
                let aside = begun(aside).await;
                foreign().await?;
                aside.await
            };
            let task = create_task(coroutine);
            sleep(1.0).await?;
            trace.start();
            task.cancel(Some("m"));
            let turns = until_done(&task, &trace).await?;
            assert_eq!((kind, turns, state(&task)), (kind, 2, CANCELLED.into()));
            assert_eq!(message(&task.await).as_deref(), Some("m"));
        }
        Ok(())
    });
}

fn beside_an_await_that_was_put_aside_end_in_their_scope(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let inside = timeout(1.0, async {
            let aside = begun(sleep(50.0)).await;
            foreign().await?;
            aside.await
        });
        logged("inside", &trace, inside).await.unwrap_err();
        let around = begun(sleep(2.0)).await;
        logged("around", &trace, timeout(0.5, foreign())).await.unwrap_err();
        around.await?;
        assert_eq!(seconds(), 3.0);

        let t = trace.clone();
        let task = create_task(async move {
            let scope = timeout(9.0, async {
                let aside = begun(sleep(50.0)).await;
                foreign().await?;
                aside.await
            });
            let around = begun(hang()).await;
            let result = logged("scope", &t, scope).await;
            drop(around);
            logged("next", &t, sleep(1.0)).await?;
            result
        });
        sleep(0.0).await?;
        assert_eq!(trace.take(), ["inside timeout 0+3", "around timeout 0+5"]);
        trace.start();
        task.cancel(Some("m"));
        sleep(5.0).await?;
        assert_eq!(trace.take(), ["scope cancelled 1+2", "next Ok(())+4"]);
        assert_eq!(message(&task.await).as_deref(), Some("m"));
        Ok(())
    });
}

fn beside_a_scope_that_was_put_aside_end_in_their_scope(on: &Machine) {
    on.run(async {
        let body = |kind| async move {
            let aside: Boxed<()> = match kind {
                0 => Box::pin(timeout(50.0, sleep(50.0))),
                1 => Box::pin(timeout(50.0, foreign())),
                2 => Box::pin(CancelToken::new().run(timeout(50.0, foreign()))),
                _ => Box::pin(FuturesUnordered::from_iter([timeout(50.0, hang())]).collect::<Vec<_>>().map(|_| Ok(()))),
            };
            let aside = begun(aside).await;
            foreign().await?;
            aside.await
        };
        for (kind, under) in (0..4).flat_map(|kind| [(kind, false), (kind, true)]) {
            let since = seconds();
            let scope = timeout(1.0, body(kind));
            let ended = if under { FuturesUnordered::from_iter([scope]).next().await.unwrap() } else { scope.await };
            assert!(ended.unwrap_err().is_timeout());
            assert_eq!((seconds() - since, me().cancelling()), (1.0, 0), "{kind}, {under}");

            let trace = Trace::new();
            let t = trace.clone();
            let task = create_task(async move {
                let scope = logged("scope", &t, timeout(50.0, body(kind)));
                let result =
                    if under { FuturesUnordered::from_iter([scope]).next().await.unwrap() } else { scope.await };
                logged("next", &t, sleep(1.0)).await?;
                result
            });
            sleep(1.0).await?;
            trace.start();
            task.cancel(Some("m"));
            assert_eq!(message(&task.await).as_deref(), Some("m"));
            let seen = trace.take();
            assert!(seen[0].starts_with("scope cancelled 1+") && seen[1].starts_with("next Ok(())"), "{seen:?}");
        }
        Ok(())
    });
}

fn beside_a_scope_that_is_asked_in_the_same_turn_are_not_ended_by_its_answer(on: &Machine) {
    on.run(async {
        for (yields, inner) in (0..5).flat_map(|yields| [(yields, false), (yields, true)]) {
            let trace = Trace::new();
            let (t, token) = (trace.clone(), CancelToken::new());
            let inside = token.clone();
            let task = create_task(async move {
                let body =
                    async {
                        let scope = timeout(50.0, async move {
                            if inner { timeout(60.0, foreign()).await } else { foreign().await }
                        });
                        let scope: Boxed<()> = Box::pin(logged("scope", &t, scope));
                        let others = (0..yields).map(|_| -> Boxed<()> { Box::pin(yields_for(20)) });
                        let mut all: FuturesUnordered<_> = others.chain([scope]).collect();
                        while let Some(result) = all.next().await {
                            result?;
                        }
                        Ok(())
                    };
                logged("around", &t, inside.run(body)).await
            });
            pump(3).await?;
            trace.start();
            token.cancel(None);
            task.await.unwrap_err();
            let seen = trace.take();
            assert!(seen.len() == 2 && seen[0].starts_with("scope cancelled 1+"), "{yields}, {inner}: {seen:?}");
        }
        Ok(())
    });
}

/// Something of another crate that yields a number of times.
async fn yields_for(times: u32) -> Result<()> {
    for _ in 0..times {
        let mut yielded = false;
        std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    Ok(())
}

/// A combinator that was woken and is not polled any more: it does not pass on that it is woken again.
async fn woken(inside: u32) -> Boxed<Vec<Result<()>>> {
    let inside: Boxed<()> = match inside {
        0 => Box::pin(sleep(50.0)),
        1 => Box::pin(hang()),
        2 => Box::pin(async { create_task(hang()).await }),
        _ => Box::pin(async { Event::new().wait().await }),
    };
    let (wake, woken) = channel::<()>();
    let waits: Boxed<()> = Box::pin(woken);
    let all = begun(FuturesUnordered::from_iter([waits, inside]).collect::<Vec<_>>().map(Ok)).await;
    wake.send(()).unwrap();
    all
}

fn beside_a_combinator_that_was_put_aside_woken_end_with_the_task(on: &Machine) {
    on.run(async {
        for (kind, scope) in (0..4).flat_map(|kind| [(kind, false), (kind, true)]) {
            let task = create_task(async move {
                let aside = woken(kind).await;
                if scope {
                    timeout(50.0, foreign()).await?
                } else {
                    foreign().await?
                }
                aside.await
            });
            sleep(1.0).await?;
            task.cancel(Some("m"));
            pump(6).await?;
            assert!(task.done(), "{kind}, in a scope: {scope}");
            assert_eq!(message(&task.await).as_deref(), Some("m"));
        }
        Ok(())
    });
}

fn beside_a_combinator_that_was_put_aside_woken_end_in_their_scope(on: &Machine) {
    on.run(async {
        for kind in 0..4 {
            let ended = timeout(1.0, async move {
                let aside = woken(kind).await;
                foreign().await?;
                aside.await
            });
            assert!(wait_for(create_task(ended), 20.0).await.unwrap_err().is_timeout());
            assert_eq!(seconds(), f64::from(kind + 1), "{kind}");
        }
        Ok(())
    });
}

fn that_end_beside_an_await_that_was_put_aside_leave_the_request_to_the_next(on: &Machine) {
    on.run(async {
        let (trace, (sender, receiver)) = (Trace::new(), channel::<()>());
        let t = trace.clone();
        let task = create_task(async move {
            let aside = begun(sleep(50.0)).await;
            receiver.await?;
            let next = logged("next", &t, hang()).await;
            drop(aside);
            next
        });
        pump(2).await?;
        trace.start();
        task.cancel(Some("m"));
        sender.send(()).unwrap();
        assert_eq!(until_done(&task, &trace).await?, 2);
        assert_eq!((trace.take(), message(&task.await).as_deref()), (vec!["next cancelled 1+2".into()], Some("m")));
        Ok(())
    });
}

fn beside_a_task_that_was_put_aside_end_once_that_has_ended(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let t = trace.clone();
        let task = create_task(async move {
            let aside = begun(create_task(slow("slow", &t, 3, None))).await;
            foreign().await?;
            aside.await
        });
        pump(3).await?;
        trace.start();
        task.cancel(Some("m"));
        until_done(&task, &trace).await?;
        assert_eq!((trace.take(), state(&task)), (vec!["slow:m+1".into(), "slow:done+4".into()], CANCELLED.into()));
        Ok(())
    });
}
