//! Wakers of other crates' combinators that do something of their own when they are cloned, dropped or woken, or panic then.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future as StdFuture, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

use aioli_core::*;

use common::*;

thread_local! {
    /// What the next clone of a [`peculiar`] waker does.
    static ON_CLONE: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

/// A waker whose clone does something, once.
fn peculiar() -> Waker {
    const TABLE: RawWakerVTable = RawWakerVTable::new(
        |_| {
            if let Some(action) = ON_CLONE.take() {
                action();
            }
            raw()
        },
        |_| (),
        |_| (),
        |_| (),
    );
    fn raw() -> RawWaker {
        RawWaker::new(std::ptr::null(), &TABLE)
    }
    // SAFETY: the functions refer to no data.
    unsafe { Waker::from_raw(raw()) }
}

fn on_clone(action: impl FnOnce() + 'static) {
    ON_CLONE.set(Some(Box::new(action)));
}

/// A waker that counts, and calls a function when the last clone goes.
struct Watched {
    woken: AtomicU32,
    gone: fn(),
}

impl Wake for Watched {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        (self.gone)();
    }
}

fn watched(gone: fn()) -> Arc<Watched> {
    Arc::new(Watched { woken: AtomicU32::new(0), gone })
}

fn poll<F: StdFuture + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(waker))
}

#[test]
fn a_waker_that_sets_the_future_as_it_is_replaced_loses_no_wake() {
    thread_local! {
        static AWAITED: RefCell<Option<Future<()>>> = const { RefCell::new(None) };
    }
    sim(async {
        let mut future = pending::<()>();
        AWAITED.set(Some(future.clone()));
        let first = Waker::from(watched(|| AWAITED.take().unwrap().set_result(()).unwrap()));
        assert!(poll(&mut future, &first).is_pending());
        drop(first);
        // The last count of the first one goes as the second takes its place.
        let second = watched(|| ());
        let polled = poll(&mut future, &Waker::from(Arc::clone(&second)));
        assert!(future.done());
        assert!(polled.is_ready() || second.woken.load(Ordering::Relaxed) > 0, "nobody was told");
        Ok(())
    });
}

#[test]
fn a_waker_whose_clone_sets_the_future_loses_no_wake() {
    sim(async {
        let mut future = pending::<()>();
        // First by the task itself, then under a combinator.
        assert!(touch(std::pin::Pin::new(&mut future)).await.is_pending());
        let setter = future.clone();
        on_clone(move || setter.set_result(()).unwrap());
        assert!(poll(&mut future, &peculiar()).is_ready());

        let mut future = pending::<()>();
        assert!(poll(&mut future, &Waker::from(watched(|| ()))).is_pending());
        let setter = future.clone();
        on_clone(move || setter.set_result(()).unwrap());
        assert!(poll(&mut future, &peculiar()).is_ready());
        Ok(())
    });
}

#[test]
fn a_waker_whose_clone_panics_ends_no_sleep() {
    sim(async {
        let mut nap = sleep(100.0);
        assert!(touch(std::pin::Pin::new(&mut nap)).await.is_pending());
        on_clone(|| panic!("the clone of a waker, on purpose"));
        catch_unwind(AssertUnwindSafe(|| poll(&mut nap, &peculiar()))).unwrap_err();
        assert!(poll(&mut nap, &peculiar()).is_pending());
        nap.await?;
        assert_eq!(seconds(), 100.0);
        Ok(())
    });
}

#[test]
fn a_waker_whose_clone_panics_ends_no_await_of_a_future() {
    sim(async {
        let future = pending::<u32>();
        let setter = future.clone();
        create_task(async move {
            sleep(1.0).await?;
            setter.set_result(7)
        });
        let mut awaited = future.clone();
        let mut polls = 0;
        let value = poll_fn(move |cx| {
            polls += 1;
            if polls == 1 {
                assert!(std::pin::Pin::new(&mut awaited).poll(cx).is_pending());
                on_clone(|| panic!("the clone of a waker, on purpose"));
                catch_unwind(AssertUnwindSafe(|| poll(&mut awaited, &peculiar()))).unwrap_err();
                // The task itself polled it before, and that is who is to go on.
                return Poll::Pending;
            }
            std::pin::Pin::new(&mut awaited).poll(cx)
        });
        assert_eq!(value.await?, 7);
        Ok(())
    });
}

#[test]
fn a_waker_whose_clone_panics_leaves_nothing_with_the_future_that_is_awaited() {
    sim(async {
        let future = pending::<u32>();
        let dropped = Rc::new(());
        let mine = Rc::clone(&dropped);
        let awaited = future.clone();
        let task = create_task(async move {
            let mut awaited = awaited;
            assert!(touch(std::pin::Pin::new(&mut awaited)).await.is_pending());
            on_clone(|| panic!("the clone of a waker, on purpose"));
            catch_unwind(AssertUnwindSafe(|| poll(&mut awaited, &peculiar()))).unwrap_err();
            Ok(mine)
        });
        sleep(1.0).await?;
        assert!(task.done());
        drop(task);
        assert_eq!(Rc::strong_count(&dropped), 1, "what the task returned is still there");
        drop(future);
        Ok(())
    });
}

#[test]
fn a_waker_whose_clone_panics_in_another_task_leaves_no_timer() {
    sim(async {
        for again in [true, false] {
            let mut nap = sleep(100.0);
            assert!(touch(std::pin::Pin::new(&mut nap)).await.is_pending());
            let elsewhere = create_task(async move {
                on_clone(|| panic!("the clone of a waker, on purpose"));
                catch_unwind(AssertUnwindSafe(|| poll(&mut nap, &peculiar()))).unwrap_err();
                if again { nap.await } else { Ok(()) }
            });
            assert_eq!(elsewhere.await.is_err(), again);
        }
        let nothing = to_thread(|| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            Ok(())
        });
        nothing.await?;
        assert_eq!(seconds(), 0.0, "a timer was left behind");
        Ok(())
    });
}

#[test]
fn a_scope_clones_no_waker_to_wake_it() {
    sim(async {
        let expired = create_task(async {
            let mut limit = Box::pin(timeout(1.0, foreign()));
            assert!(poll(&mut limit, &peculiar()).is_pending());
            on_clone(|| panic!("the clone of a waker, on purpose"));
            sleep(5.0).await?;
            ON_CLONE.take();
            limit.await
        });
        assert!(expired.await.unwrap_err().is_timeout());

        let token = CancelToken::new();
        let cancelled = create_task(async move {
            let mut run = Box::pin(token.run(foreign()));
            assert!(poll(&mut run, &peculiar()).is_pending());
            on_clone(|| panic!("the clone of a waker, on purpose"));
            token.cancel(None);
            pump(3).await?;
            ON_CLONE.take();
            run.await
        });
        assert!(cancelled.await.unwrap_err().is_cancelled());
        Ok(())
    });
}

#[test]
fn a_waker_whose_destructor_panics_is_reported_and_ends_no_task() {
    let seen = reports(async {
        let mut nap = sleep(1.0);
        assert!(poll(&mut nap, &Waker::from(watched(|| panic!("the drop of a waker, on purpose")))).is_pending());
        drop(nap);

        // Neither does it end the process when the task is panicking anyway.
        let failed = create_task(async {
            let mut nap = sleep(1.0);
            assert!(poll(&mut nap, &Waker::from(watched(|| panic!("the drop of a waker, on purpose")))).is_pending());
            if nap_is_over() { Ok(nap) } else { panic!("the task, on purpose") }
        });
        assert_eq!(failed.await.unwrap_err().kind(), ErrorKind::Panicked);

        let mut limit = Box::pin(timeout(1.0, foreign()));
        assert!(poll(&mut limit, &Waker::from(watched(|| panic!("the drop of a waker, on purpose")))).is_pending());
        assert!(limit.await.unwrap_err().is_timeout());
        Ok(())
    });
    assert_eq!(seen.len(), 3, "{seen:?}");
}

fn nap_is_over() -> bool {
    seconds() > 0.0
}

/// A long await beside as many others as there are numbers for them: takes a minute with optimisation, and an hour without.
#[test]
#[ignore = "4,300,000,000 awaits"]
fn an_await_keeps_its_number_however_many_others_there_are_meanwhile() {
    sim(async {
        let fired = Rc::new(Cell::new(false));
        let seen = Rc::clone(&fired);
        let (mut first, mut long) = (Wait::new(), Wait::new());
        poll_fn(move |cx| {
            first.register(cx)?;
            // Beyond the numbers that are given out once.
            for _ in 0..(1_u32 << 31) {
                first.register(cx)?;
            }
            let token = long.register(cx)?;
            for _ in 0..u32::MAX {
                let other = first.register(cx)?;
                seen.set(seen.get() || other == token);
            }
            assert!(token.is_pending() && token.fire());
            assert!(matches!(long.poll(cx), WaitPoll::Fired));
            assert!(matches!(first.poll(cx), WaitPoll::Pending));
            Poll::Ready(Ok::<_, Error>(()))
        })
        .await?;
        assert!(!fired.get(), "two await points had one number");
        Ok(())
    });
}
