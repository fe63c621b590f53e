//! Wakers of other crates that call back into the loop.

use super::*;

cases! {
    ($) "reentrancy" in reentrancy_wakers as __cases_reentrancy_wakers;
    may_use_the_loop_when_woken_and_when_dropped: "L11";
    may_use_the_loop_when_a_request_wakes_them: "L11";
    that_panic_are_reported_and_the_others_are_woken: "L7 L11";
    that_panic_do_not_stop_a_request: "L7 L11";
}

/// A waker of another crate.
struct Foreign<F: Fn() + Send + Sync>(F, AtomicU32);

impl<F: Fn() + Send + Sync> Wake for Foreign<F> {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::Relaxed);
        (self.0)();
    }
}

impl<F: Fn() + Send + Sync> Drop for Foreign<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn waker(action: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Foreign(action, AtomicU32::new(0))))
}

/// Polls a future in the current task with another waker, as combinators do.
async fn touch_with(future: &mut (impl StdFuture<Output = Result<()>> + Unpin), waker: Waker) {
    let polled = poll_fn(|_| {
        let mut cx = PollContext::from_waker(&waker);
        Poll::Ready(std::pin::Pin::new(&mut *future).poll(&mut cx))
    });
    assert!(polled.await.is_pending());
}

fn may_use_the_loop_when_woken_and_when_dropped(on: &Machine) {
    on.run(async {
        let setter = pending::<()>();
        let mut waiting = setter.clone();
        touch_with(&mut waiting, waker(meddle)).await;
        assert_eq!(meddled(), 0);
        touch_with(&mut waiting, waker(meddle)).await;
        assert_eq!(meddled(), 1, "the first one was dropped");
        setter.set_result(())?;
        assert_eq!(meddled(), 2, "the second one was woken and dropped");
        waiting.await?;

        let mut slept = sleep(1.0);
        touch_with(&mut slept, waker(meddle)).await;
        sleep(2.0).await?;
        assert_eq!(meddled(), 2);
        drop(slept);
        let mut dropped = sleep(1.0);
        touch_with(&mut dropped, waker(meddle)).await;
        drop(dropped);
        assert_eq!(meddled(), 1);
        Ok(())
    });
}

fn may_use_the_loop_when_a_request_wakes_them(on: &Machine) {
    on.run(async {
        let task = create_task(async {
            let mut waits = [pending::<()>(), pending::<()>()];
            for wait in &mut waits {
                touch_with(wait, waker(meddle)).await;
            }
            let mut scoped = Box::pin(timeout(5.0, foreign()));
            touch_with(&mut scoped, waker(meddle)).await;
            hang().await
        });
        pump(1).await?;
        meddled();
        assert!(task.cancel(Some("m")));
        assert!(meddled() >= 4);
        assert_eq!(message(&task.await).as_deref(), Some("m"));
        Ok(())
    });
}

fn that_panic_are_reported_and_the_others_are_woken(on: &Machine) {
    let seen = on.reports(async {
        let setter = pending::<()>();
        let mut waits = [setter.clone(), setter.clone(), setter.clone()];
        for wait in &mut waits {
            let armed = std::sync::atomic::AtomicBool::new(true);
            let trap = move || assert!(!armed.swap(false, Ordering::Relaxed), "waker");
            touch_with(wait, waker(trap)).await;
        }
        let trace = Trace::new();
        let mark = trace.marker("callback");
        setter.add_done_callback(move |_| mark());
        setter.set_result(())?;
        pump(2).await?;
        assert_eq!(trace.take(), ["callback+1"]);
        let [first, ..] = waits;
        first.await
    });
    assert_eq!(messages(&seen), ["a waker panicked"; 3]);
}

fn that_panic_do_not_stop_a_request(on: &Machine) {
    let seen = on.reports(async {
        let task = create_task(async {
            let mut wait = sleep(9.0);
            let armed = std::sync::atomic::AtomicBool::new(true);
            touch_with(&mut wait, waker(move || assert!(!armed.swap(false, Ordering::Relaxed), "waker"))).await;
            hang().await
        });
        pump(1).await?;
        assert!(task.cancel(None));
        pump(2).await?;
        assert!(task.cancelled());
        Ok(())
    });
    assert_eq!(messages(&seen), ["a waker panicked"]);
}
