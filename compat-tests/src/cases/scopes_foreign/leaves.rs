//! Several leaves of one task, under combinators of other crates.

use super::*;

cases! {
    ($) "foreign" in scopes_foreign_leaves as __cases_scopes_foreign_leaves;
    under_a_join_are_all_cancelled_by_one_request: "L3";
    under_unordered_futures_are_all_cancelled_by_one_request: "L3";
    of_which_some_are_done_are_cancelled_all_the_same: "L3";
    that_are_cancelled_and_dropped_by_a_select_leave_the_request_open: "L3";
    that_were_dropped_with_the_request_open_and_none_after_end_the_task_cancelled: "L3";
    get_one_request_each_time_also_under_a_join: "L3";
    are_woken_by_the_waker_that_polled_them_last: "L6 L10";
    of_a_combinator_that_outlives_its_first_task_are_the_next_ones: "L6 L3";
    of_a_shared_future_are_those_of_whoever_waits_still: "L6 L3";
}

fn under_a_join_are_all_cancelled_by_one_request(on: &Machine) {
    on.run(async {
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

fn under_unordered_futures_are_all_cancelled_by_one_request(on: &Machine) {
    on.run(async {
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

fn of_which_some_are_done_are_cancelled_all_the_same(on: &Machine) {
    on.run(async {
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

fn that_are_cancelled_and_dropped_by_a_select_leave_the_request_open(on: &Machine) {
    on.run(async {
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

fn that_were_dropped_with_the_request_open_and_none_after_end_the_task_cancelled(on: &Machine) {
    on.run(async {
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

fn get_one_request_each_time_also_under_a_join(on: &Machine) {
    on.run(async {
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

fn are_woken_by_the_waker_that_polled_them_last(on: &Machine) {
    on.run(async {
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

fn of_a_combinator_that_outlives_its_first_task_are_the_next_ones(on: &Machine) {
    on.run(async {
        for cancelled in [false, true] {
            let trace = Trace::new();
            let (future, event, queue) = (pending::<()>(), Rc::new(Event::new()), Rc::new(Queue::new(0)));
            let (f, e, q, t) = (future.clone(), Rc::clone(&event), Rc::clone(&queue), trace.clone());
            let begun = create_task(async move {
                let all = FuturesUnordered::<Pin<Box<dyn StdFuture<Output = Result<()>>>>>::new();
                all.push(Box::pin(logged("sleep", &t, sleep(5.0))));
                all.push(Box::pin(logged("future", &t, f)));
                all.push(Box::pin(logged("event", &t, async move { e.wait().await })));
                all.push(Box::pin(logged("queue", &t, async move { q.get().await })));
                all.push(Box::pin(logged("task", &t, create_task(sleep(4.0)))));
                all.push(Box::pin(logged("late", &t, timeout(3.0, hang()))));
                all.push(Box::pin(logged("scope", &t, timeout(8.0, foreign()))));
                let mut all = Box::pin(all.collect::<Vec<_>>());
                assert!(touch(all.as_mut()).await.is_pending());
                Ok(all)
            });
            let all = begun.await?;
            let rest = create_task(async move { Ok(all.await.len()) });
            sleep(1.0).await?;
            if cancelled {
                rest.cancel(None);
            } else {
                future.set_result(())?;
                event.set();
                queue.put_nowait(())?;
            }
            sleep(9.0).await?;
            assert_eq!(rest.await?, 7);
            let mut ends = trace.take();
            ends.iter_mut().for_each(|line| line.truncate(line.find('+').unwrap()));
            ends.sort();
            let wanted = if cancelled {
                ["event", "future", "late", "queue", "scope", "sleep", "task"].map(|name| format!("{name} cancelled 1"))
            } else {
                [
                    "event Ok(())",
                    "future Ok(())",
                    "late timeout 0",
                    "queue Ok(())",
                    "scope timeout 0",
                    "sleep Ok(())",
                    "task Ok(())",
                ]
                .map(String::from)
            };
            assert_eq!(ends, wanted);
        }
        Ok(())
    });
}

fn of_a_shared_future_are_those_of_whoever_waits_still(on: &Machine) {
    on.run(async {
        let shared = Box::pin(async { sleep(5.0).await.map(|()| seconds()) }).shared();
        let (one, other) = (shared.clone(), shared);
        let leaves = create_task(async move {
            drop(select(one, Box::pin(sleep(1.0))).await);
            Ok(())
        });
        let stays = create_task(other);
        leaves.await?;
        assert_eq!(stays.await?, 5.0);
        Ok(())
    });
}
