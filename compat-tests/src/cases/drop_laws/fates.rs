//! Every kind of wait meets every fate at every moment.

use super::*;
use std::cell::Cell;

cases! {
    ($) "drop" in drop_laws_fates as __cases_drop_laws_fates;
    every_wait_ends_when_it_is_given_what_it_waits_for: "L6 L3";
    every_wait_may_be_dropped_before_a_request: "L6 L3";
    every_wait_may_be_leaked_before_a_request: "L6 L3";
    every_wait_may_move_before_a_request: "L6 L3";
    every_wait_may_be_dropped_between_request_and_delivery: "L6 L3";
    every_wait_may_be_leaked_between_request_and_delivery: "L6 L3";
    every_wait_may_move_between_request_and_delivery: "L6 L3";
    every_wait_may_be_dropped_by_another_task_between_request_and_delivery: "L6 L3";
    every_wait_returns_cancelled_once_and_cleanup_may_wait_again: "L6 L3";
}

/// A wait that suspends in its first poll, and what ends it.
struct Kind {
    name: &'static str,
    wait: Boxed<()>,
    give: Box<dyn Fn()>,
}

fn kind(name: &'static str, wait: impl StdFuture<Output = Result<()>> + 'static, give: impl Fn() + 'static) -> Kind {
    Kind { name, wait: Box::pin(wait), give: Box::new(give) }
}

/// A wait for a future, made by `make`, and ended by setting it.
fn over<F>(name: &'static str, make: impl FnOnce(Future<u32>) -> F) -> Kind
where
    F: StdFuture<Output = Result<()>> + 'static,
{
    let future = pending::<u32>();
    let setter = future.clone();
    kind(name, make(future), move || drop(setter.set_result(1)))
}

/// One of each kind, new. They are made by a function each, so that the ones that are not tried leave nothing.
fn kinds() -> Vec<fn() -> Kind> {
    vec![
        || over("future", |future| async { future.await.map(drop) }),
        || over("reference", |future| async move { (&future).await.map(drop) }),
        || over("task", |future| async { create_task(future).await.map(drop) }),
        || over("gather", |future| async { gather((future, ready(1))).await.map(drop) }),
        || over("gather_results", |future| async { gather_results([future]).await.map(drop) }),
        || over("shield", |future| async { shield(future).await.map(drop) }),
        || over("wait", |future| async { wait([future]).await.map(drop) }),
        || over("wait with a timeout", |future| async { wait([future]).timeout(50.0).await.map(drop) }),
        || over("as_completed", |future| async { as_completed([future]).next().await.unwrap().map(drop) }),
        || over("timeout", |future| async { timeout(50.0, future).await.map(drop) }),
        || over("wait_for", |future| async { wait_for(future, 50.0).await.map(drop) }),
        || over("token.run", |future| async { CancelToken::new().run(future).await.map(drop) }),
        || over("task_group's body", |future| task_group(async |_| future.await.map(drop))),
        || {
            over("task_group's exit", |future| {
                task_group(async |group| group.create_task(async { future.await.map(drop) }).map(drop))
            })
        },
        || {
            let token = CancelToken::new();
            let fired = token.clone();
            kind("token.cancelled", async move { token.cancelled().await }, move || assert!(fired.cancel(None)))
        },
        || {
            let (sender, receiver) = futures::channel::oneshot::channel::<()>();
            let sender = Cell::new(Some(sender));
            let give = move || {
                if let Some(sender) = sender.take() {
                    let _ = sender.send(());
                }
            };
            kind("cancellable", async { receiver.cancellable().await.map(drop) }, give)
        },
        || {
            let lock = Rc::new(Lock::new());
            let (waits, gives) = (lock.clone(), lock.clone());
            assert!(futures::FutureExt::now_or_never(async { lock.acquire().await }).unwrap().is_ok());
            kind("lock", async move { waits.acquire().await }, move || drop(gives.release()))
        },
        || {
            let event = Rc::new(Event::new());
            let gives = event.clone();
            kind("event", async move { event.wait().await }, move || gives.set())
        },
        || {
            let semaphore = Rc::new(Semaphore::new(0));
            let gives = semaphore.clone();
            kind("semaphore", async move { semaphore.acquire().await }, move || gives.release())
        },
        || {
            let condition = Rc::new(Condition::new());
            let gives = condition.clone();
            let wait = async move { condition.lock().await?.wait().await };
            kind("condition", wait, move || {
                let gives = gives.clone();
                create_task(async move { gives.lock().await?.notify_all() });
            })
        },
        || {
            let barrier = Rc::new(Barrier::new(2).unwrap());
            let gives = barrier.clone();
            kind("barrier", async move { barrier.wait().await.map(drop) }, move || {
                let gives = gives.clone();
                create_task(async move { timeout(1.0, gives.wait()).await.map(drop).or(Ok(())) });
            })
        },
        || {
            let queue = Rc::new(Queue::new(0));
            let gives = queue.clone();
            kind("queue.get", async move { queue.get().await }, move || drop(gives.put_nowait(())))
        },
        || {
            let queue = Rc::new(Queue::new(1));
            queue.put_nowait(1).unwrap();
            let gives = queue.clone();
            kind("queue.put", async move { queue.put(2).await }, move || drop(gives.get_nowait()))
        },
        || {
            let queue = Rc::new(Queue::new(0));
            queue.put_nowait(1).unwrap();
            let gives = queue.clone();
            kind("queue.join", async move { queue.join().await }, move || drop(gives.task_done()))
        },
        || {
            let gate = pending::<()>();
            let (opens, timer) = (gate.clone(), gate.clone());
            let wait = async move {
                let result = sleep(50.0).await;
                drop(timer);
                result
            };
            // Nothing but its time ends a sleep.
            kind("sleep", wait, move || drop(opens.set_result(())))
        },
    ]
}

/// Lets each kind meet its fate, in a loop and a task of its own, and sees that the loop has nothing left to say or do then.
fn each(on: &Machine, fate: impl AsyncFn(Kind) -> Result<()> + Copy + 'static) {
    for make in kinds() {
        let name = Rc::new(Cell::new(""));
        let inside = name.clone();
        let seen = on.reports(async move {
            let fated = create_task(async move {
                let kind = make();
                inside.set(kind.name);
                fate(kind).await
            });
            let others = create_task(async {
                // Whoever else runs is not disturbed.
                for _ in 0..4 {
                    sleep(20.0).await?;
                }
                Ok(me().cancelling())
            });
            assert_eq!(others.await?, 0);
            fated.await
        });
        // As in asyncio, a gather that was cancelled and then let go says so.
        let said: Vec<_> = messages(&seen).into_iter().filter(|text| !text.starts_with("gathering future")).collect();
        assert_eq!(said, [""; 0], "{}", name.get());
    }
}

/// Has the task ask itself to end, which reaches what it has polled.
fn ask_myself() {
    assert!(me().cancel(Some("asked")));
}

/// The request is open still: the next await returns it, and the task goes on.
async fn hear_the_request(name: &str) -> Result<()> {
    let heard = sleep(0.0).await;
    go_on_after(heard, name).await
}

/// What has heard the request goes on, and hears it no second time.
async fn go_on_after(heard: Result<()>, name: &str) -> Result<()> {
    assert_eq!(
        heard.err().and_then(|error| error.cancel_message().map(String::from)).as_deref(),
        Some("asked"),
        "{name}"
    );
    sleep(1.0).await?;
    assert_eq!((me().cancelling(), me().uncancel()), (1, 0), "{name}");
    pump(2).await
}

fn every_wait_ends_when_it_is_given_what_it_waits_for(on: &Machine) {
    each(on, async |kind| {
        let waiting = begun(kind.wait).await;
        (kind.give)();
        waiting.await
    });
}

fn every_wait_may_be_dropped_before_a_request(on: &Machine) {
    each(on, async |kind| {
        drop(begun(kind.wait).await);
        (kind.give)();
        sleep(1.0).await?;
        assert_eq!(counted(), 0, "{}", kind.name);
        ask_myself();
        hear_the_request(kind.name).await
    });
}

fn every_wait_may_be_leaked_before_a_request(on: &Machine) {
    each(on, async |kind| {
        leak(begun(kind.wait).await);
        (kind.give)();
        sleep(1.0).await?;
        // A scope that was leaked is open for ever, and may have its count.
        pump(2).await
    });
}

fn every_wait_may_move_before_a_request(on: &Machine) {
    each(on, async |kind| {
        let waiting = begun(kind.wait).await;
        let there = create_task(waiting);
        pump(3).await?;
        assert!(!there.done(), "{}", kind.name);
        ask_myself();
        hear_the_request(kind.name).await?;
        assert!(!there.done(), "{}: the request was not for the other task", kind.name);
        (kind.give)();
        there.await
    });
}

fn every_wait_may_be_dropped_between_request_and_delivery(on: &Machine) {
    each(on, async |kind| {
        let waiting = begun(kind.wait).await;
        ask_myself();
        drop(waiting);
        hear_the_request(kind.name).await?;
        (kind.give)();
        pump(3).await
    });
}

fn every_wait_may_be_leaked_between_request_and_delivery(on: &Machine) {
    each(on, async |kind| {
        leak(begun(kind.wait).await);
        ask_myself();
        // The request may stay with what was leaked. One that comes while the task waits is heard.
        let _ = sleep(1.0).await;
        let me = me();
        let ask = event_loop().call_later(0.5, move || assert!(me.cancel(Some("again"))))?;
        let heard = sleep(1.0).await;
        assert!(heard.expect_err(kind.name).is_cancelled());
        assert!(!ask.cancelled());
        (kind.give)();
        pump(3).await
    });
}

fn every_wait_may_move_between_request_and_delivery(on: &Machine) {
    each(on, async |kind| {
        let waiting = begun(kind.wait).await;
        ask_myself();
        let there = create_task(waiting);
        // The wait is this task's until the other one polls it.
        let mut heard = sleep(0.0).await;
        if heard.is_ok() {
            heard = sleep(1.0).await;
        }
        (kind.give)();
        let came = there.await;
        match heard {
            Err(_) => go_on_after(heard, kind.name).await?,
            // It has reached what is waited for, and so whoever waits for that now.
            Ok(()) => assert!(came.as_ref().is_err_and(Error::is_cancelled), "{}: nobody heard it", kind.name),
        }
        came.or_else(|error| if error.is_cancelled() { Ok(()) } else { Err(error) })
    });
}

fn every_wait_may_be_dropped_by_another_task_between_request_and_delivery(on: &Machine) {
    each(on, async |kind| {
        let waiting = begun(kind.wait).await;
        ask_myself();
        let there = create_task(async move {
            drop(waiting);
            Ok(())
        });
        // The request was the dropped one's, and is heard where this task waits by then.
        let mut heard = sleep(0.0).await;
        if heard.is_ok() {
            heard = sleep(1.0).await;
        }
        go_on_after(heard, kind.name).await?;
        (kind.give)();
        there.await?;
        pump(3).await
    });
}

fn every_wait_returns_cancelled_once_and_cleanup_may_wait_again(on: &Machine) {
    each(on, async |kind| {
        let waiting = begun(kind.wait).await;
        ask_myself();
        let cut = waiting.await.expect_err(kind.name);
        assert!(cut.is_cancelled(), "{}: {cut:?}", kind.name);
        // Cleanup: the request was delivered, and comes no second time.
        sleep(1.0).await?;
        gather((sleep(0.0), ready(()))).await?;
        assert_eq!((me().uncancel(), counted()), (0, 0), "{}", kind.name);
        (kind.give)();
        pump(3).await
    });
}
