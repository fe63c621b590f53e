//! Safe code that tries to break the loop: from destructors, at the end of threads, while the loop closes, with what it leaked.
//! Much of it is of worth under the sanitizers only, see docs/testing.md.

mod common;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::thread;

use aioli_core::*;
use aioli_exec_sim::SimDriver;

use common::*;

/// Calls a function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The waker of the current task.
async fn my_waker() -> Waker {
    poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
}

mod at_the_end_of_a_thread {
    use super::*;

    thread_local! {
        /// Made first, so destroyed last: what its value does is done when other variables of the thread are gone.
        static LAST: RefCell<Vec<Box<dyn std::any::Any>>> = const { RefCell::new(Vec::new()) };
    }

    /// Keeps a value until the thread ends.
    fn keep<T: 'static>(value: T) {
        LAST.with_borrow_mut(|kept| kept.push(Box::new(value)));
    }

    fn on_a_thread(f: impl FnOnce() + Send + 'static) {
        thread::spawn(f).join().unwrap();
    }

    #[test]
    fn wakers_and_handles_are_dropped_and_woken() {
        on_a_thread(|| {
            keep(());
            let outlived = sim(async {
                let waker = my_waker().await;
                let task = create_task(async { Err::<(), _>(Error::msg("nobody retrieves it, on purpose")) });
                let (future, current) = (pending::<Rc<str>>(), event_loop());
                pump(2).await?;
                Ok((waker, task, future, current))
            });
            let (waker, task, future, current) = outlived;
            let woken = waker.clone();
            keep(OnDrop(move || woken.wake_by_ref()));
            keep(OnDrop(move || drop(future.set_result("late".into()))));
            keep(OnDrop(move || assert!(current.call_soon(|| ()).is_err())));
            keep((waker, task));
        });
    }

    #[test]
    fn contexts_are_gone_without_a_panic() {
        let called = Arc::new(AtomicUsize::new(0));
        let remote_called = called.clone();
        on_a_thread(move || {
            keep(());
            let variable = ContextVar::<u32>::new();
            drop(variable.set(7));
            let called = called.clone();
            keep(OnDrop(move || {
                assert_eq!(variable.get(), None);
                drop(variable.set(8));
                // What is sent from here carries the context that holds here: none.
                sim(async move { event_loop().remote().call_soon_threadsafe(|| ()).map(drop) });
                called.fetch_add(1, Ordering::Relaxed);
            }));
        });
        assert_eq!(remote_called.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_runner_is_closed_with_its_tasks_and_threads() {
        let cleaned = Arc::new(AtomicUsize::new(0));
        let seen = cleaned.clone();
        on_a_thread(move || {
            keep(());
            let runner = Runner::new(SimDriver::new());
            let cleaned = cleaned.clone();
            let task = runner.get_loop().create_task(async move {
                let interrupted = sleep(60.0).await;
                sleep(1.0).await?;
                to_thread(|| Ok(())).await?;
                cleaned.fetch_add(1, Ordering::Relaxed);
                interrupted
            });
            runner.run(pump(2)).unwrap();
            drop(task);
            keep(runner);
        });
        assert_eq!(seen.load(Ordering::Relaxed), 1, "it cleaned up with awaits");
    }
}

mod in_destructors {
    use super::*;

    #[test]
    fn a_task_wakes_and_cancels_itself_while_its_coroutine_is_dropped() {
        for cancelled in [false, true] {
            sim(async move {
                let task = create_task(async move {
                    let (waker, me) = (my_waker().await, me());
                    let _last = OnDrop(move || {
                        waker.wake_by_ref();
                        me.cancel(None);
                        me.set_name("dying");
                        drop(waker.clone());
                    });
                    if cancelled { foreign().await } else { pump(1).await }
                });
                pump(2).await?;
                if cancelled {
                    task.cancel(None);
                }
                // As in asyncio, a task that cancels itself on its way out is cancelled.
                assert!((&task).await.unwrap_err().is_cancelled());
                assert_eq!(&*task.name(), "dying");
                pump(2).await
            });
        }
    }

    #[test]
    fn a_result_that_holds_its_own_task_and_waker_goes() {
        struct Own {
            _task: RefCell<Option<Task<Rc<Own>>>>,
            waker: Waker,
            dropped: Rc<Cell<u32>>,
        }
        impl Drop for Own {
            fn drop(&mut self) {
                self.waker.wake_by_ref();
                self.dropped.set(self.dropped.get() + 1);
            }
        }
        let dropped = Rc::new(Cell::new(0));
        let count = dropped.clone();
        sim(async move {
            let task = create_task(async move {
                Ok(Rc::new(Own { _task: RefCell::new(None), waker: my_waker().await, dropped: count }))
            });
            let value = (&task).await?;
            *value._task.borrow_mut() = Some(task);
            let task = value._task.borrow_mut().take().unwrap();
            drop(value);
            let last = task.take_result()?;
            *last._task.borrow_mut() = Some(task);
            drop(last);
            Ok(())
        });
        assert_eq!(dropped.get(), 1);
    }

    #[test]
    fn a_loop_is_run_while_another_one_closes() {
        let said = Rc::new(RefCell::new(Vec::new()));
        let (inside, log) = (said.clone(), said.clone());
        let runner = Runner::new(SimDriver::new());
        let nested = move || {
            let result = aioli_exec_sim::run(async { Ok(()) });
            log.borrow_mut().push(result.err().map(|error| error.kind()));
        };
        runner
            .run(async move {
                // Cancelled by the closing loop, it goes on for ever: nothing but its destructor ends it.
                create_task::<_, ()>(async move {
                    let _last = OnDrop(nested);
                    loop {
                        let _ = hang().await;
                        create_task(hang());
                        event_loop().stop();
                    }
                });
                pump(2).await
            })
            .unwrap();
        let second =
            OnDrop(move || inside.borrow_mut().push(aioli_exec_sim::run(async { Ok(()) }).err().map(|e| e.kind())));
        runner.get_loop().call_soon(move || drop(second)).unwrap();
        drop(runner);
        assert_eq!(*said.borrow(), [Some(ErrorKind::Runtime), Some(ErrorKind::Runtime)]);
        sim(async { Ok(()) });
    }

    #[test]
    fn what_is_made_while_the_loop_closes_is_gone_with_it() {
        let alive = Rc::new(());
        let held = alive.clone();
        let runner = Runner::new(SimDriver::new());
        let stopped: Result<()> = runner.run(async move {
            let future = pending::<Rc<()>>();
            let inside = future.clone();
            create_task(async move {
                let _last = OnDrop(move || {
                    let current = event_loop();
                    let token = held.clone();
                    drop(current.call_later(1.0, move || drop(token)));
                    let token = held.clone();
                    drop(create_task(async move { ready(token).await.map(drop) }));
                    let token = held.clone();
                    drop(gather((hang(), async move { ready(token).await.map(drop) })));
                    let token = held.clone();
                    inside.add_done_callback(move |_| drop(token));
                    let _ = inside.set_result(held.clone());
                    drop(shield(inside.clone()));
                    let token = held.clone();
                    current.set_exception_handler(Some(Box::new(move |_| drop(token.clone()))));
                });
                foreign().await
            });
            pump(2).await?;
            drop(future);
            event_loop().stop();
            hang().await
        });
        assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Runtime);
        drop(runner);
        assert_eq!(Rc::strong_count(&alive), 1);
    }
}

mod that_panic {
    use super::*;

    /// Panics when it is dropped.
    struct Mine;

    impl Drop for Mine {
        fn drop(&mut self) {
            panic!("in a destructor, on purpose");
        }
    }

    #[derive(Debug)]
    struct Shy;

    impl fmt::Display for Shy {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("to display it, on purpose");
        }
    }

    impl std::error::Error for Shy {}

    #[test]
    fn an_error_that_cannot_be_displayed_is_reported_and_the_loop_goes_on() {
        sim(async {
            drop(create_task(async { Err::<(), _>(Error::from(Shy)) }));
            pump(3).await?;
            create_task(async { Ok(()) }).await
        });
    }

    #[test]
    fn a_handler_that_replaces_itself_may_panic_as_it_goes() {
        let alive = Rc::new(());
        let held = alive.clone();
        sim(async move {
            let mine = Mine;
            event_loop().set_exception_handler(Some(Box::new(move |_| {
                let _mine = &mine;
                event_loop().set_exception_handler(Some(Box::new(|_| ())));
            })));
            drop(create_task(async { Err::<(), _>(Error::msg("unheard")) }));
            pump(3).await?;
            // Cells are still buried: a panic has not left that half done.
            let value = create_task(async move { Ok(held) });
            pump(2).await?;
            drop(value);
            Ok(())
        });
        assert_eq!(Rc::strong_count(&alive), 1);
    }

    #[test]
    fn values_errors_and_callbacks_that_panic_as_they_go() {
        let alive = Rc::new(());
        let held = alive.clone();
        let seen = reports(async move {
            drop(done(Mine));
            let future = pending::<()>();
            let mine = Mine;
            future.add_done_callback(move |_| drop(mine));
            drop(future);
            let bytes = bytes::Bytes::from_owner(Owner(Mine));
            drop(done(()).set_exception(Error::incomplete_read(bytes, None)));
            drop(create_task(async { Ok(Mine) }));
            pump(3).await?;
            let value = create_task(async move { Ok(held) });
            pump(2).await?;
            drop(value);
            Ok(())
        });
        assert_eq!(Rc::strong_count(&alive), 1, "cells are still buried");
        assert_eq!(seen.len(), 4, "{seen:?}");
    }

    #[test]
    fn bodies_of_timeouts_and_tokens_leave_no_timer_and_no_place_behind() {
        sim(async {
            let token = CancelToken::new();
            let inside = token.clone();
            let task = create_task(async move {
                let (one, other) = (Mine, Mine);
                let mut limit = Box::pin(timeout(1.0, async move {
                    let _one = one;
                    hang().await
                }));
                let mut run = Box::pin(inside.run(async move {
                    let _other = other;
                    hang().await
                }));
                assert!(touch(limit.as_mut()).await.is_pending());
                assert!(touch(run.as_mut()).await.is_pending());
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(limit))).unwrap_err();
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(run))).unwrap_err();
                hang().await
            });
            sleep(2.0).await?;
            token.cancel(None);
            pump(3).await?;
            assert_eq!((task.cancelling(), task.done()), (0, false));
            task.cancel(None);
            assert!(task.await.unwrap_err().is_cancelled());
            Ok(())
        });
    }

    /// The owner of an operation that panics as it goes, with the last outcome or with the loop.
    #[test]
    fn owners_of_operations_are_reported_and_the_loop_goes_on() {
        use aioli_core::op::{Interest, Outcome};
        use aioli_core::ops::Owner;

        struct Panics(#[allow(dead_code)] Mine, #[allow(dead_code)] Rc<()>);

        impl Owner for Panics {
            fn complete(&self, _: u32, _: Outcome, _: bool) {}
        }

        let alive = Rc::new(());
        let (held, waits) = (Rc::clone(&alive), Rc::clone(&alive));
        let seen = reports(async move {
            create_task(async move {
                let _waits = waits;
                hang().await
            });
            let owner: Rc<dyn Owner> = Rc::new(Panics(Mine, held));
            event_loop().post(&owner, 0, Outcome::Ready(Ok(Interest { readable: true, writable: false })));
            drop(owner);
            sleep(1.0).await
        });
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(Rc::strong_count(&alive), 1, "the loop was not closed");
    }

    struct Owner(#[allow(dead_code)] Mine);

    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            b"partial"
        }
    }
}

mod leaks {
    use super::*;

    #[test]
    fn references_without_end_are_counted() {
        sim(async {
            let future = pending::<u32>();
            for _ in 0..10_000 {
                leak(future.clone());
            }
            future.set_result(1)?;
            assert_eq!((&future).await?, 1);
            // A cell that is never buried keeps its loop's memory: that is all.
            Ok(())
        });
    }

    /// A task's own memory has room for 65,535.
    #[test]
    fn cancellations_without_end_are_counted() {
        const REQUESTS: u32 = 70_000;
        sim(async {
            let task = create_task(async {
                assert!(sleep(1.0).await.unwrap_err().is_cancelled());
                let me = current_task().expect("a task runs");
                for left in (0..REQUESTS).rev() {
                    assert_eq!(me.uncancel(), left);
                }
                assert_eq!(me.uncancel(), 0);
                sleep(1.0).await
            });
            sleep(0.0).await?;
            for count in 1..=REQUESTS {
                assert!(task.cancel(None));
                assert_eq!(task.cancelling(), count);
            }
            task.await
        });
    }

    #[test]
    fn awaits_that_were_leaked_wake_nobody() {
        sim(async {
            let future = pending::<u32>();
            let inside = future.clone();
            let task = create_task(async move {
                let mut awaited: Pin<Box<dyn std::future::Future<Output = Result<u32>>>> =
                    Box::pin(async move { (&inside).await });
                assert!(touch(awaited.as_mut()).await.is_pending());
                leak(awaited);
                pump(3).await
            });
            pump(2).await?;
            future.set_result(1)?;
            task.await
        });
    }
}
