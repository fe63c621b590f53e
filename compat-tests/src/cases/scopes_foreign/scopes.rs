//! Scopes under combinators of other crates.

use super::*;

cases! {
    ($) "foreign" in scopes_foreign_scopes as __cases_scopes_foreign_scopes;
    beside_each_other_do_not_see_each_others_requests: "L3";
    are_each_cancelled_by_a_request_of_the_task: "L3";
    count_for_what_is_inside_and_from_outside_for_the_task: "L3";
    take_back_their_own_requests_only: "L3";
    that_were_polled_elsewhere_before_are_those_of_the_last_poll: "L3 L6";
    whose_body_was_polled_inside_another_one_are_not_cancelled_by_that_any_more: "L3 L6";
    that_are_dropped_by_a_select_take_their_request_along: "L3 L6";
    may_be_many_under_one_combinator: "L3";
    of_a_group_beside_a_sibling_cancel_the_group_alone: "L3 TG2";
}

fn beside_each_other_do_not_see_each_others_requests(on: &Machine) {
    on.run(async {
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

fn are_each_cancelled_by_a_request_of_the_task(on: &Machine) {
    on.run(async {
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

fn count_for_what_is_inside_and_from_outside_for_the_task(on: &Machine) {
    on.run(async {
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
            let (a, b, c) =
                futures::join!(timeout(1.0, timeout(1.0, cleaning("both"))), timeout(1.0, cleaning("one")), outside);
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

fn take_back_their_own_requests_only(on: &Machine) {
    on.run(async {
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

fn that_were_polled_elsewhere_before_are_those_of_the_last_poll(on: &Machine) {
    on.run(async {
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

fn whose_body_was_polled_inside_another_one_are_not_cancelled_by_that_any_more(on: &Machine) {
    on.run(async {
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

fn that_are_dropped_by_a_select_take_their_request_along(on: &Machine) {
    on.run(async {
        for _ in 0..3 {
            let now = event_loop().time();
            let gate = pending::<()>();
            let setter = gate.clone();
            event_loop().call_at(now + std::time::Duration::from_secs(1), move || setter.set_result(()).unwrap())?;
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

fn may_be_many_under_one_combinator(on: &Machine) {
    on.run(async {
        let sleepers = (1..=100_u32).map(|n| timeout(f64::from(n), sleep(50.5)));
        let results = join_all(sleepers).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 50);
        assert!(results.iter().take(50).all(|result| result.as_ref().is_err_and(Error::is_timeout)));
        assert_eq!((seconds(), me().cancelling()), (50.5, 0));
        Ok(())
    });
}

fn of_a_group_beside_a_sibling_cancel_the_group_alone(on: &Machine) {
    on.run(async {
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
