//! Foreign futures as awaitables that can be cancelled.

use std::cell::Cell;
use std::future::Future as StdFuture;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::case::cases;
use crate::cases::support::{me, touch, turn};
use crate::machine::Machine;
use aioli_core::*;
use futures::channel::oneshot;

cases! {
    ($) "foreign" in cancellable as __cases_cancellable;
    it_gives_the_output: "L3";
    a_request_ends_the_await_one_turn_later_and_the_task_cleans_up: "L3";
    an_output_that_is_there_wins_and_the_request_stands_for_the_next_await: "L3 L4";
    a_task_that_was_cancelled_before_finds_the_request_at_this_await: "L3";
    scopes_cancel_it: "L3";
    each_of_several_under_a_join_is_cancelled: "L3";
    what_is_inside_may_be_aiolis_own: "L3";
    dropping_it_withdraws_it: "L6";
    it_moves_to_another_task: "L6";
    outside_of_a_task_it_cannot_wait: "L6";
    the_future_gets_one_more_poll_before_it_is_dropped: "L3";
}

fn it_gives_the_output(on: &Machine) {
    on.run(async {
        let before = turn();
        assert_eq!(std::future::ready(5).cancellable().await?, 5);
        assert_eq!(turn(), before);
        let (sender, receiver) = oneshot::channel();
        let task = create_task(receiver.cancellable());
        sleep(0.0).await?;
        let before = turn();
        sender.send(6).unwrap();
        assert_eq!(task.await?, Ok(6));
        assert_eq!(turn() - before, 2);
        Ok(())
    });
}

fn a_request_ends_the_await_one_turn_later_and_the_task_cleans_up(on: &Machine) {
    on.run(async {
        let (sender, receiver) = oneshot::channel::<()>();
        let sender = Rc::new(sender);
        let probe = Rc::clone(&sender);
        let task = create_task(async move {
            let mut waiting = std::pin::pin!(receiver.cancellable());
            let cut = waiting.as_mut().await.unwrap_err();
            // The future was dropped before this returned.
            assert!(probe.is_canceled());
            let at = turn();
            sleep(1.0).await?;
            Ok((cut.cancel_message().map(String::from), at))
        });
        sleep(0.0).await?;
        let before = turn();
        task.cancel(Some("enough"));
        assert!(!sender.is_canceled());
        let (message, at) = task.await?;
        assert_eq!((message.as_deref(), at - before), (Some("enough"), 1));
        Ok(())
    });
}

fn an_output_that_is_there_wins_and_the_request_stands_for_the_next_await(on: &Machine) {
    on.run(async {
        let (sender, receiver) = oneshot::channel();
        let task = create_task(async move {
            let received = receiver.cancellable().await;
            let next = sleep(1.0).await;
            Ok((received?, next.is_err(), me().cancelling()))
        });
        sleep(0.0).await?;
        task.cancel(None);
        sender.send("kept").unwrap();
        assert_eq!(task.await?, (Ok("kept"), true, 1));
        // Without another await the task ends as cancelled, as in asyncio.
        let (sender, receiver) = oneshot::channel();
        let task = create_task(receiver.cancellable());
        sleep(0.0).await?;
        sender.send(()).unwrap();
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        Ok(())
    });
}

fn a_task_that_was_cancelled_before_finds_the_request_at_this_await(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            me().cancel(None);
            assert_eq!(std::future::ready(1).cancellable().await?, 1);
            let before = turn();
            let cut = std::future::pending::<()>().cancellable().await;
            Ok((cut.is_err(), turn() - before))
        });
        assert_eq!(task.await?, (true, 1));
        Ok(())
    });
}

fn scopes_cancel_it(on: &Machine) {
    on.run(async {
        let cut = timeout(Duration::from_secs(1), std::future::pending::<()>().cancellable()).await;
        assert!(cut.unwrap_err().is_timeout());
        let token = CancelToken::new();
        let fire = async {
            sleep(1.0).await.unwrap();
            token.cancel(None);
        };
        let waiting = async {
            let cut = std::future::pending::<()>().cancellable().await;
            Ok((cut.is_err(), sleep(1.0).await.is_ok()))
        };
        let (cut, ()) = futures::join!(token.run(waiting), fire);
        assert_eq!(cut?, (true, true));
        assert_eq!(me().cancelling(), 0);
        Ok(())
    });
}

fn each_of_several_under_a_join_is_cancelled(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            let (a, b) =
                futures::join!(std::future::pending::<()>().cancellable(), std::future::pending::<()>().cancellable());
            Ok((a.is_err(), b.is_err(), sleep(0.0).await.is_ok()))
        });
        sleep(0.0).await?;
        task.cancel(None);
        assert_eq!(task.await?, (true, true, true));
        Ok(())
    });
}

fn what_is_inside_may_be_aiolis_own(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            let swallowed = async { sleep(9.0).await.is_err() }.cancellable().await?;
            Ok((swallowed, sleep(0.0).await.is_ok()))
        });
        sleep(0.0).await?;
        task.cancel(None);
        assert_eq!(task.await?, (true, true));
        Ok(())
    });
}

fn dropping_it_withdraws_it(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            let mut waiting = Box::pin(std::future::pending::<()>().cancellable());
            assert!(touch(waiting.as_mut()).await.is_pending());
            drop(waiting);
            let slept = sleep(1.0).await;
            Ok(slept.is_err())
        });
        sleep(0.0).await?;
        task.cancel(None);
        assert!(task.await?);
        Ok(())
    });
}

fn it_moves_to_another_task(on: &Machine) {
    on.run(async {
        let mut waiting = Box::pin(std::future::pending::<()>().cancellable());
        assert!(touch(waiting.as_mut()).await.is_pending());
        let task = create_task(waiting);
        sleep(0.0).await?;
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        sleep(0.0).await
    });
}

fn outside_of_a_task_it_cannot_wait(_: &Machine) {
    assert_eq!(futures::executor::block_on(std::future::ready(1).cancellable()).unwrap(), 1);
    let waiting = std::future::pending::<()>().cancellable();
    assert_eq!(futures::executor::block_on(waiting).unwrap_err().kind(), ErrorKind::Runtime);
}

/// Counts its polls, and is never ready.
struct Polled(Rc<Cell<u32>>);

impl StdFuture for Polled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        self.0.set(self.0.get() + 1);
        Poll::Pending
    }
}

fn the_future_gets_one_more_poll_before_it_is_dropped(on: &Machine) {
    on.run(async {
        let polls = Rc::new(Cell::new(0));
        let task = create_task(Polled(Rc::clone(&polls)).cancellable());
        sleep(0.0).await?;
        assert_eq!(polls.get(), 1);
        task.cancel(None);
        assert!(task.await.is_err());
        assert_eq!((polls.get(), Rc::strong_count(&polls)), (2, 1));
        Ok(())
    });
}
