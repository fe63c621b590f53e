//! Cancel tokens: trees, scopes, and what happens to those who wait.

use std::cell::RefCell;
use std::future::Future as StdFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use crate::case::cases;
use crate::cases::support::{Trace, event_loop, foreign, hang, me, pump, touch, turn};
use crate::machine::Machine;
use aioli_core::*;

cases! {
    ($) "tokens" in token as __cases_token;
    firing_cancels_what_runs_under_the_token_one_turn_later: "L3";
    a_body_may_clean_up_or_refuse_and_is_asked_once: "L3";
    a_token_that_has_fired_cancels_the_first_await_that_suspends: "L3";
    children_fire_with_their_parent_and_not_the_other_way: "L3";
    what_waits_is_told_parents_first_and_in_the_order_in_which_it_came: "L3";
    dropping_a_token_cancels_nothing_and_its_ancestors_still_reach_it: "L3";
    a_chain_of_tokens_of_any_length_fires_and_drops: "L3";
    awaiting_a_token_returns_when_it_fires_or_the_task_is_cancelled: "L3";
    a_request_to_the_task_passes_through_and_is_told_apart_by_the_token: "L3";
    requests_of_nested_scopes_are_counted_together_and_taken_back_one_by_one: "L3";
    a_request_that_the_body_took_back_is_not_taken_back_twice: "L3";
    as_with_a_timeout_one_request_is_taken_back_in_place_of_one_that_the_body_took: "L3";
    siblings_under_a_join_do_not_see_it: "L3";
    a_body_that_waits_for_something_foreign_is_dropped: "L3";
    a_dropped_body_takes_its_request_along: "L3 L6";
    a_body_that_is_dropped_while_its_token_fires_is_not_cancelled: "L6";
    a_body_that_moves_to_another_task_takes_its_count_along: "L6";
    tokens_work_before_and_after_a_loop: "L9";
    another_thread_fires_a_token: "L10";
    a_function_in_a_thread_notices_a_token: "L10";
    a_remote_token_outlives_its_token_and_its_loop: "L9 L10";
    a_token_is_remote_in_one_loop_after_the_other: "L10";
    threads_race_to_fire_a_token: "L10";
}

fn firing_cancels_what_runs_under_the_token_one_turn_later(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let under = token.clone();
        let task = create_task(async move {
            let cut = under.run(hang()).await.unwrap_err();
            let at = turn();
            // The task itself was not cancelled.
            assert_eq!(me().cancelling(), 0);
            sleep(0.0).await?;
            Ok((cut.cancel_message().map(String::from), at))
        });
        pump(1).await?;
        assert!(!token.is_cancelled());
        let before = turn();
        assert!(token.cancel(Some("stop")));
        assert!(token.is_cancelled());
        let (message, at) = task.await?;
        assert_eq!((message.as_deref(), at - before), (Some("stop"), 1));
        Ok(())
    });
}

fn a_body_may_clean_up_or_refuse_and_is_asked_once(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let (cleans, refuses) = (token.clone(), token.clone());
        let cleans = create_task(async move {
            cleans
                .run(async {
                    let interrupted = hang().await;
                    assert_eq!(me().cancelling(), 1);
                    sleep(1.0).await?;
                    interrupted
                })
                .await
        });
        let refuses = create_task(async move {
            let refused = refuses.run(async { Ok((hang().await.is_err(), sleep(2.0).await.is_ok())) }).await?;
            Ok((refused, me().cancelling()))
        });
        pump(1).await?;
        assert!(token.cancel(None));
        pump(2).await?;
        assert!(!token.cancel(Some("again")));
        assert!(cleans.await.unwrap_err().is_cancelled());
        assert_eq!(refuses.await?, ((true, true), 0));
        Ok(())
    });
}

fn a_token_that_has_fired_cancels_the_first_await_that_suspends(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        token.cancel(Some("before"));
        let done = event_loop().create_future::<u32>();
        done.set_result(4)?;
        let before = turn();
        let cut = token.run(async { Ok(((&done).await?, hang().await)) }).await?;
        assert_eq!((cut.0, cut.1.unwrap_err().cancel_message(), turn() - before), (4, Some("before"), 1));
        let before = turn();
        assert!(token.run(sleep(0.0)).await.unwrap_err().is_cancelled());
        assert_eq!(turn() - before, 1);
        // What does not suspend is not cancelled, nor is what comes after.
        assert_eq!(token.run(async { Ok(1) }).await?, 1);
        assert_eq!(token.run(&done).await?, 4);
        assert_eq!(me().cancelling(), 0);
        sleep(0.0).await
    });
}

fn children_fire_with_their_parent_and_not_the_other_way(on: &Machine) {
    on.run(async {
        let root = CancelToken::new();
        let (left, right) = (root.child(), root.child());
        let leaf = left.child();
        assert!(left.cancel(None));
        assert_eq!([&root, &left, &right, &leaf].map(CancelToken::is_cancelled), [false, true, false, true]);
        let late = left.child();
        assert!(late.is_cancelled());
        assert!(root.cancel(None));
        assert!(right.is_cancelled());
        assert!(root.same(&root.clone()) && !root.same(&right));
        Ok(())
    });
}

fn what_waits_is_told_parents_first_and_in_the_order_in_which_it_came(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let root = CancelToken::new();
        let first = root.child();
        let second = root.child();
        let leaf = first.child();
        for (name, token) in
            [("leaf", &leaf), ("second", &second), ("first", &first), ("root", &root), ("root again", &root)]
        {
            for way in ["awaits", "runs"] {
                let (token, trace) = (token.clone(), trace.clone());
                create_task(async move {
                    match way {
                        "awaits" => token.cancelled().await?,
                        _ => assert!(token.run(hang()).await.is_err()),
                    }
                    trace.log(format_args!("{name} {way}"));
                    Ok(())
                });
            }
        }
        pump(1).await?;
        root.cancel(None);
        pump(1).await?;
        let order = ["root", "root again", "first", "leaf", "second"];
        let expected: Vec<_> =
            order.iter().flat_map(|name| ["awaits", "runs"].map(|way| format!("{name} {way}"))).collect();
        assert_eq!(trace.take(), expected);
        Ok(())
    });
}

fn dropping_a_token_cancels_nothing_and_its_ancestors_still_reach_it(on: &Machine) {
    on.run(async {
        let root = CancelToken::new();
        let middle = root.child();
        let leaf = middle.child();
        drop(middle);
        assert!(!leaf.is_cancelled());
        root.cancel(None);
        assert!(leaf.is_cancelled());
        let root = CancelToken::new();
        let child = root.child();
        drop(root);
        let task = create_task(async move { timeout(Duration::from_secs(1), child.cancelled()).await });
        assert!(task.await.unwrap_err().is_timeout());
        Ok(())
    });
}

fn a_chain_of_tokens_of_any_length_fires_and_drops(on: &Machine) {
    on.run(async {
        let root = CancelToken::new();
        let mut last = root.child();
        for _ in 0..200_000 {
            last = last.child();
        }
        root.cancel(None);
        assert!(last.is_cancelled());
        let mut last = CancelToken::new();
        for _ in 0..200_000 {
            last = last.child();
        }
        drop(last);
        Ok(())
    });
}

fn awaiting_a_token_returns_when_it_fires_or_the_task_is_cancelled(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let under = token.clone();
        let watch = create_task(async move { Ok((under.cancelled().await.is_ok(), turn())) });
        let cut = create_task(token.cancelled());
        let both = create_task(token.cancelled());
        pump(1).await?;
        cut.cancel(Some("only this one"));
        assert_eq!(cut.await.unwrap_err().cancel_message(), Some("only this one"));
        let before = turn();
        token.cancel(None);
        both.cancel(None);
        let (fired, at) = watch.await?;
        assert_eq!((fired, at - before), (true, 1));
        // As in asyncio, a request that comes before the wake is delivered.
        assert!(both.await.unwrap_err().is_cancelled());
        let before = turn();
        token.cancelled().await?;
        assert_eq!(turn(), before);
        Ok(())
    });
}

fn a_request_to_the_task_passes_through_and_is_told_apart_by_the_token(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let under = token.clone();
        let task = create_task(async move {
            let cut = under.run(hang()).await;
            assert_eq!((under.is_cancelled(), me().cancelling()), (false, 1));
            cut
        });
        pump(1).await?;
        task.cancel(Some("task"));
        assert_eq!(task.await.unwrap_err().cancel_message(), Some("task"));
        Ok(())
    });
}

fn requests_of_nested_scopes_are_counted_together_and_taken_back_one_by_one(on: &Machine) {
    on.run(async {
        let outer = CancelToken::new();
        let inner = outer.child();
        let (a, b) = (outer.clone(), inner.clone());
        let task = create_task(async move {
            let nested = a.run(async {
                let cut = b
                    .run(async {
                        let cut = hang().await.unwrap_err();
                        assert_eq!(me().cancelling(), 3);
                        // Each scope was asked, and it was delivered once.
                        sleep(0.0).await?;
                        Err::<(), _>(cut)
                    })
                    .await;
                assert_eq!(me().cancelling(), 2);
                cut
            });
            let cut = timeout(Duration::from_secs(60), nested).await;
            assert_eq!(me().cancelling(), 1);
            cut
        });
        pump(1).await?;
        outer.cancel(Some("outer"));
        task.cancel(Some("task"));
        assert_eq!(task.await.unwrap_err().cancel_message(), Some("outer"));
        Ok(())
    });
}

fn a_request_that_the_body_took_back_is_not_taken_back_twice(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let under = token.clone();
        let task = create_task(async move {
            let body = async {
                let cut = hang().await;
                assert_eq!((me().cancelling(), me().uncancel()), (1, 0));
                cut
            };
            assert!(under.run(body).await.is_err());
            assert_eq!(me().cancelling(), 0);
            sleep(0.0).await
        });
        pump(1).await?;
        token.cancel(None);
        task.await
    });
}

fn as_with_a_timeout_one_request_is_taken_back_in_place_of_one_that_the_body_took(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let under = token.clone();
        let task = create_task(async move {
            let body = async {
                assert!(hang().await.is_err());
                assert_eq!(me().uncancel(), 0);
                let second = hang().await;
                assert_eq!(me().cancelling(), 1);
                second
            };
            assert!(under.run(body).await.is_err());
            assert_eq!(me().cancelling(), 0);
            sleep(0.0).await
        });
        pump(1).await?;
        token.cancel(None);
        pump(2).await?;
        task.cancel(None);
        task.await
    });
}

fn siblings_under_a_join_do_not_see_it(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let fire = async {
            sleep(1.0).await?;
            token.cancel(None);
            sleep(1.0).await?;
            Ok::<_, Error>(me().cancelling())
        };
        let (cut, sibling) = futures::join!(token.run(hang()), fire);
        assert!(cut.unwrap_err().is_cancelled());
        assert_eq!(sibling?, 0);
        Ok(())
    });
}

fn a_body_that_waits_for_something_foreign_is_dropped(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let (sender, receiver) = futures::channel::oneshot::channel::<()>();
        let under = token.clone();
        let task = create_task(async move {
            let cut = under.run(async { Ok(receiver.await?) }).await.unwrap_err();
            Ok((cut.is_cancelled(), me().cancelling()))
        });
        pump(1).await?;
        token.cancel(None);
        assert_eq!(task.await?, (true, 0));
        assert!(sender.is_canceled());
        // Also where the token fires from inside, or has fired before.
        for fire in [true, false] {
            let token = CancelToken::new();
            token.cancel(None);
            let inside = if fire { CancelToken::new() } else { token };
            let cut = inside.run(async {
                inside.cancel(None);
                foreign().await
            });
            assert!(cut.await.unwrap_err().is_cancelled());
        }
        sleep(0.0).await
    });
}

fn a_dropped_body_takes_its_request_along(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let under = token.clone();
        let task = create_task(async move {
            let mut body = Box::pin(under.run(async {
                let _ = hang().await;
                hang().await
            }));
            let mut polls = 0;
            std::future::poll_fn(|cx| {
                polls += 1;
                match body.as_mut().poll(cx) {
                    Poll::Pending if polls < 2 => Poll::Pending,
                    polled => {
                        assert!(polled.is_pending());
                        Poll::Ready(())
                    }
                }
            })
            .await;
            drop(body);
            assert_eq!(me().cancelling(), 0);
            sleep(0.0).await
        });
        pump(1).await?;
        token.cancel(None);
        task.await?;
        // One that is dropped in the step in which it was asked, and one that is dropped before the token fires.
        let mut body = Box::pin(token.child().run(hang()));
        assert!(touch(body.as_mut()).await.is_pending());
        drop(body);
        let live = CancelToken::new();
        let mut body = Box::pin(live.run(hang()));
        assert!(touch(body.as_mut()).await.is_pending());
        drop(body);
        live.cancel(None);
        assert_eq!(me().cancelling(), 0);
        let dropper = me();
        assert_eq!(create_task(async move { Ok(dropper.cancelling()) }).await?, 0);
        sleep(0.0).await
    });
}

type Hanging = Pin<Box<dyn StdFuture<Output = Result<()>>>>;

thread_local! {
    static VICTIM: RefCell<Option<Pin<Box<TokenRun<Hanging>>>>> = const { RefCell::new(None) };
}

/// A waker that drops the victim.
struct Axe;

impl Wake for Axe {
    fn wake(self: Arc<Self>) {
        VICTIM.take();
    }
}

fn a_body_that_is_dropped_while_its_token_fires_is_not_cancelled(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let mut first = Box::pin(token.run(hang()));
        let axe = Waker::from(Arc::new(Axe));
        assert!(first.as_mut().poll(&mut Context::from_waker(&axe)).is_pending());
        let hanging: Hanging = Box::pin(hang());
        let mut second = Box::pin(token.run(hanging));
        assert!(touch(second.as_mut()).await.is_pending());
        VICTIM.set(Some(second));
        token.cancel(None);
        assert!(VICTIM.take().is_none());
        drop(first);
        let holder = me();
        assert_eq!(create_task(async move { Ok(holder.cancelling()) }).await?, 0);
        sleep(0.0).await
    });
}

fn a_body_that_moves_to_another_task_takes_its_count_along(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let mut body = Box::pin(token.run(async {
            let first = sleep(9.0).await.is_err();
            let second = sleep(1.0).await.is_ok();
            Ok((first, second, me().cancelling()))
        }));
        assert!(touch(body.as_mut()).await.is_pending());
        token.cancel(None);
        assert_eq!(me().cancelling(), 0);
        // The request was handed to what the body waits for in this task. In the other one it is applied afresh.
        let task = create_task(async move { Ok((body.await?, me().cancelling())) });
        assert_eq!(task.await?, ((true, true, 1), 0));
        sleep(0.0).await
    });
}

fn tokens_work_before_and_after_a_loop(on: &Machine) {
    let token = CancelToken::default();
    let child = token.child();
    assert_eq!(token.remote().unwrap_err().kind(), ErrorKind::Runtime);
    assert_eq!(futures::executor::block_on(token.cancelled()).unwrap_err().kind(), ErrorKind::Runtime);
    let run = token.run(foreign());
    assert_eq!(futures::executor::block_on(run).unwrap_err().kind(), ErrorKind::Runtime);
    let inside = child.clone();
    let remote = on.run(async move { inside.remote() });
    assert!(!remote.is_cancelled());
    assert!(token.cancel(None));
    assert!(child.is_cancelled() && remote.is_cancelled());
}

fn another_thread_fires_a_token(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let child = token.child();
        let remote = token.remote()?;
        let copy = token.remote()?;
        let under = child.clone();
        let cut = create_task(async move { under.run(hang()).await });
        let fired =
            to_thread(move || Ok((remote.cancel(Some("from a thread")), remote.is_cancelled(), remote.cancel(None))));
        assert_eq!(fired.await?, (true, true, false));
        assert_eq!(cut.await.unwrap_err().cancel_message(), Some("from a thread"));
        assert!(token.is_cancelled() && child.is_cancelled() && copy.is_cancelled());
        assert!(!copy.cancel(None) && !token.remote()?.cancel(None));
        Ok(())
    });
}

fn a_function_in_a_thread_notices_a_token(on: &Machine) {
    on.run(async {
        let token = CancelToken::new();
        let remote = token.child().remote()?;
        let kept = token.child();
        let noticing = kept.remote()?;
        let rounds = event_loop().run_in_executor(None, move || {
            while !noticing.is_cancelled() {
                thread::yield_now();
            }
            Ok(remote.is_cancelled())
        });
        pump(3).await?;
        token.cancel(None);
        // Nobody kept the other child, so the token did not reach it.
        assert!(!rounds.await?);
        Ok(())
    });
}

fn a_remote_token_outlives_its_token_and_its_loop(on: &Machine) {
    let (dropped, outlived) = on.run(async {
        let token = CancelToken::new();
        let dropped = CancelToken::new().remote()?;
        assert!(dropped.cancel(None));
        pump(2).await?;
        Ok((dropped, (token.remote()?, token)))
    });
    assert!(dropped.is_cancelled());
    let (remote, token) = outlived;
    assert!(remote.cancel(None));
    assert!(!token.is_cancelled());
    // The same token in another loop.
    on.run(async move {
        let again = token.remote()?;
        assert!(!again.cancel(None), "it was fired, though nobody heard");
        assert!(token.cancel(None));
        token.cancelled().await
    });
}

fn a_token_is_remote_in_one_loop_after_the_other(on: &Machine) {
    let token = CancelToken::new();
    for round in [false, true] {
        let token = token.clone();
        on.run(async move {
            let remote = token.remote()?;
            if round {
                assert!(to_thread(move || Ok(remote.cancel(None))).await?);
                token.cancelled().await?;
            }
            Ok(())
        });
    }
    assert!(token.is_cancelled());
}

fn threads_race_to_fire_a_token(on: &Machine) {
    on.run(async {
        for _ in 0..100 {
            let token = CancelToken::new();
            let firing: Vec<_> = (0..3)
                .map(|_| {
                    let remote = token.remote().unwrap();
                    event_loop().run_in_executor(None, move || Ok(remote.cancel(None)))
                })
                .collect();
            let won = gather(firing);
            token.run(hang()).await.unwrap_err();
            assert_eq!(won.await?.into_iter().filter(|won| *won).count(), 1);
        }
        Ok(())
    });
}
