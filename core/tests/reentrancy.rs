//! User code that runs in the middle of things: destructors, clones, wakers, handlers; those that use the loop, and those that panic.

mod common;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future as StdFuture, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as PollContext, Poll, Wake, Waker};

use aioli_core::*;
use common::*;

thread_local! {
    /// How often [`meddle`] was called and came to its end.
    static MEDDLED: Cell<u32> = const { Cell::new(0) };
}

/// How often [`meddle`] was called since this was asked last.
fn meddled() -> u32 {
    MEDDLED.take()
}

/// Uses everything that a loop offers. While it closes, most of that is refused.
fn meddle() {
    let running = event_loop();
    let future = pending::<u32>();
    let setter = future.clone();
    let handle = running.call_soon(move || drop(setter.set_result(1)));
    handle.into_iter().for_each(|handle| handle.cancel());
    drop(running.call_later(1.0, || ()).map(|timer| timer.cancel()));
    let waiting = create_task(hang());
    drop((gather((ready(1), ready(2))), gather_results([&future]), shield(&future)));
    future.add_done_callback(|_| ());
    drop(TaskBuilder::new().eager_start(true).create_task(async { pump(1).await }));
    waiting.cancel(Some("meddling"));
    drop(future.set_result(1));
    all_tasks().iter().for_each(|task| drop(task.name()));
    let var = ContextVar::<u32>::new();
    var.reset(var.set(1));
    MEDDLED.set(MEDDLED.get() + 1);
}

/// Something whose destructor does what it is told.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Something whose destructor meddles.
fn meddler() -> OnDrop<fn()> {
    OnDrop(meddle)
}

/// Something whose destructor panics.
fn bomb() -> OnDrop<fn()> {
    OnDrop(|| {
        if !std::thread::panicking() {
            panic!("bomb")
        }
    })
}

/// An error with something in it.
struct Loaded<T>(#[allow(dead_code)] T);

impl<T> fmt::Debug for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loaded")
    }
}
impl<T> fmt::Display for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("loaded")
    }
}
impl<T> std::error::Error for Loaded<T> {}

fn loaded<T: Send + Sync + 'static>(load: T) -> Error {
    Error::new(Loaded(load))
}

/// Keeps something until dropped.
async fn keep<T>(kept: T, coroutine: impl StdFuture<Output = Result<()>>) -> Result<()> {
    let result = coroutine.await;
    drop(kept);
    result
}

mod destructors {
    use super::*;

    #[test]
    fn of_coroutines_may_use_the_loop() {
        let seen = reports(async {
            create_task(keep(meddler(), pump(1))).await?;
            assert_eq!(meddled(), 1);
            let never_started = create_task(keep(meddler(), hang()));
            never_started.cancel(None);
            let (waiting, foreign_) = (create_task(keep(meddler(), hang())), create_task(keep(meddler(), foreign())));
            let scoped = create_task(timeout(1.0, keep(meddler(), foreign())));
            pump(1).await?;
            for task in [waiting.view(), foreign_.view()] {
                task.cancel(None);
            }
            sleep(2.0).await?;
            assert!(never_started.cancelled() && waiting.cancelled() && foreign_.cancelled());
            assert!(scoped.await.unwrap_err().is_timeout());
            assert_eq!(meddled(), 4);
            // Some are left for the runner, and one for the end of the loop.
            create_task(keep(meddler(), hang()));
            create_task(async {
                assert!(hang().await.is_err());
                create_task(keep(meddler(), hang()));
                Ok(())
            });
            pump(1).await
        });
        assert_eq!(meddled(), 2);
        // The closing loop refuses the coroutines of the meddler's gather.
        let expected = ["task was destroyed but it is pending", "gathering future exception was never retrieved"];
        assert_eq!(messages(&seen), expected);
    }

    #[test]
    fn of_coroutines_run_as_their_task_before_its_result_is_there() {
        sim(async {
            let trace = Trace::new();
            let slot: Rc<RefCell<Option<Task<u32>>>> = Rc::default();
            let (t, own) = (trace.clone(), Rc::clone(&slot));
            let probe = OnDrop(move || {
                let task = own.take().unwrap();
                t.log(format_args!("{} {}", me().name() == task.name(), task.done()));
                let t = t.clone();
                task.add_done_callback(move |task| t.log(format_args!("callback {:?}", task.result())));
            });
            slot.replace(Some(create_task(async move {
                let _probe = &probe;
                pump(1).await.map(|()| 5)
            })));
            drop(slot);
            pump(4).await?;
            assert_eq!(trace.take(), ["true false", "callback Ok(5)"]);
            Ok(())
        });
    }

    #[test]
    fn of_a_coroutine_may_cancel_it_and_its_value_is_dropped() {
        sim(async {
            let dropped = Rc::new(Cell::new(false));
            let flag = Rc::clone(&dropped);
            let value = OnDrop(move || {
                flag.set(true);
                meddle();
                me().cancel(None);
                me().uncancel();
            });
            let task = create_task(async move {
                let _canceller = OnDrop(|| assert!(me().cancel(Some("in destructor"))));
                Ok(value)
            });
            pump(2).await?;
            assert!(dropped.get() && task.cancelled());
            assert_eq!(message(&task.await.map(drop)).as_deref(), Some("in destructor"));
            assert_eq!(meddled(), 1);
            Ok(())
        });
    }

    #[test]
    fn of_results_may_use_the_loop() {
        let seen = reports(async {
            drop(create_task(ready(meddler())));
            let future = pending();
            future.set_result(meddler())?;
            assert!(future.set_result(meddler()).is_err());
            drop(future);
            drop(gather((ready(meddler()), ready(meddler()))));
            drop(gather((ready(meddler()), fail::<()>("e"))));
            let task = create_task(ready(meddler()));
            let inner = task.view();
            drop(shield(task));
            pump(5).await?;
            assert!(inner.done());
            Ok(())
        });
        assert_eq!(meddled(), 7);
        assert_eq!(messages(&seen), ["gathering future exception was never retrieved"]);
    }

    #[test]
    fn of_results_may_drop_others_in_turn() {
        sim(async {
            let order = Rc::new(RefCell::new(Vec::new()));
            let mut next: Option<Future<Box<dyn std::any::Any>>> = None;
            for n in 0..5 {
                let (order, held) = (Rc::clone(&order), RefCell::new(next.take()));
                let value = OnDrop(move || {
                    order.borrow_mut().push(n);
                    drop(held.take());
                    meddle();
                });
                next = Some(done(Box::new(value) as Box<dyn std::any::Any>));
            }
            drop(next);
            assert_eq!((order.take(), meddled()), (vec![4, 3, 2, 1, 0], 5));
            Ok(())
        });
    }

    #[test]
    fn of_errors_may_use_the_loop() {
        sim(async {
            event_loop().set_exception_handler(Some(Box::new(|report| assert!(report.error.is_some()))));
            drop(create_task(async { Err::<(), _>(loaded(meddler())) }));
            let future = pending::<()>();
            future.set_exception(loaded(meddler()))?;
            drop(future);
            assert_eq!(meddled(), 1);
            drop(gather((async { Err::<(), _>(loaded(meddler())) }, async { Err::<(), _>(loaded(meddler())) })));
            pump(5).await?;
            assert_eq!(meddled(), 3);
            Ok(())
        });
    }

    #[test]
    fn of_callbacks_may_use_the_loop() {
        sim(async {
            let hold = || {
                let held = meddler();
                move || drop(held)
            };
            event_loop().call_soon(hold())?;
            event_loop().call_soon(hold())?.cancel();
            event_loop().call_later(1.0, hold())?.cancel();
            let future = pending::<()>();
            let (first, second, third) = (hold(), hold(), hold());
            let id = future.add_done_callback(move |_| first());
            future.add_done_callback(move |_| second());
            future.remove_done_callback(id);
            drop(future);
            let future = pending::<()>();
            future.add_done_callback(move |_| third());
            future.set_result(())?;
            pump(1).await?;
            assert_eq!(meddled(), 6);
            // For the end of the loop.
            event_loop().call_later(1.0, hold())?;
            event_loop().call_soon(|| ())?;
            let last = hold();
            pending::<()>().add_done_callback(move |_| last());
            Ok(())
        });
        assert_eq!(meddled(), 2);
    }

    #[test]
    fn of_context_values_may_use_the_loop() {
        #[derive(Clone)]
        struct Value(#[allow(dead_code)] Arc<OnDrop<fn()>>);
        sim(async {
            let var = Rc::new(ContextVar::<Value>::new());
            let value = || Value(Arc::new(meddler()));
            let own = Rc::clone(&var);
            create_task(async move {
                own.set(value());
                own.set(value());
                pump(1).await
            })
            .await?;
            assert_eq!(meddled(), 2);
            let own = Rc::clone(&var);
            soon(move || drop(own.set(value())));
            let shared = Context::new();
            for _ in 0..2 {
                let own = Rc::clone(&var);
                let setting = async move {
                    own.set(value());
                    Ok(())
                };
                TaskBuilder::new().context(shared.clone()).create_task(setting).await?;
            }
            drop(shared);
            assert_eq!(meddled(), 3);
            Ok(())
        });
    }

    #[test]
    fn may_stop_the_loop() {
        let runner = Runner::new(aioli_exec_sim::SimDriver::new());
        let stop = OnDrop(|| event_loop().stop());
        runner.run(keep(stop, ready(()))).unwrap();
        let stop = OnDrop(|| event_loop().stop());
        let stopped = runner.run(async move {
            drop(create_task(async move { Ok(stop) }));
            hang().await
        });
        assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Runtime);
        runner.close().unwrap();
    }

    #[test]
    fn of_the_handler_may_use_the_loop() {
        sim(async {
            let held = meddler();
            event_loop().set_exception_handler(Some(Box::new(move |_| _ = &held)));
            event_loop().set_exception_handler(None);
            assert_eq!(meddled(), 1);
            let held = meddler();
            event_loop().set_exception_handler(Some(Box::new(move |_| _ = &held)));
            Ok(())
        });
        assert_eq!(meddled(), 1);
    }
}

mod clones {
    use super::*;

    /// A value whose clone does what it is told.
    struct OnClone(Rc<dyn Fn()>);

    impl Clone for OnClone {
        fn clone(&self) -> Self {
            (self.0)();
            OnClone(Rc::clone(&self.0))
        }
    }

    fn on_clone(action: impl Fn() + 'static) -> Future<OnClone> {
        done(OnClone(Rc::new(action)))
    }

    #[test]
    fn may_use_the_loop() {
        sim(async {
            let future = on_clone(meddle);
            drop(future.result()?);
            drop((&future).await?);
            drop(gather([&future, &future]).await?);
            let later = pending::<OnClone>();
            let waiting = shield(&later);
            later.set_result(OnClone(Rc::new(meddle)))?;
            drop(waiting.await?);
            assert_eq!(meddled(), 5);
            Ok(())
        });
    }

    #[test]
    fn may_take_the_value_meanwhile_which_is_refused() {
        sim(async {
            let slot: Rc<RefCell<Option<Future<OnClone>>>> = Rc::default();
            let (own, refused) = (Rc::clone(&slot), Rc::new(Cell::new(0)));
            let count = Rc::clone(&refused);
            let future = on_clone(move || {
                let Some(future) = own.take() else { return };
                assert_eq!(future.take_result().map(drop).unwrap_err().kind(), ErrorKind::InvalidState);
                // A clone of the clone is fine.
                drop(future.result().unwrap());
                count.set(count.get() + 1);
            });
            slot.replace(Some(future.clone()));
            drop(future.result()?);
            slot.replace(Some(future.clone()));
            drop((&future).await?);
            assert_eq!(refused.get(), 2);
            drop(future.take_result()?);
            Ok(())
        });
    }

    #[test]
    fn may_drop_the_last_handle() {
        sim(async {
            let slot: Rc<RefCell<Option<Future<OnClone>>>> = Rc::default();
            let own = Rc::clone(&slot);
            let future = on_clone(move || drop(own.take()));
            let borrowed = gather([&future]);
            slot.replace(Some(future));
            drop(borrowed.await?);
            let own = Rc::clone(&slot);
            let waiting = {
                let later = pending();
                let waiting = gather([&later]);
                later.set_result(OnClone(Rc::new(move || drop(own.take()))))?;
                slot.replace(Some(later));
                waiting
            };
            drop(waiting.await?);
            Ok(())
        });
    }

    #[test]
    fn may_cancel_what_collects_them() {
        sim(async {
            let slot: Rc<RefCell<Option<Future<Vec<OnClone>>>>> = Rc::default();
            let own = Rc::clone(&slot);
            let later = pending();
            let all = gather([&later]);
            slot.replace(Some(all.clone()));
            later.set_result(OnClone(Rc::new(move || _ = own.take().unwrap().cancel(Some("meanwhile")))))?;
            pump(3).await?;
            assert!(all.done() && all.await.is_ok(), "the child was done already: there was nothing to cancel");

            let slot: Rc<RefCell<Option<Future<OnClone>>>> = Rc::default();
            let own = Rc::clone(&slot);
            let later = pending();
            let shielded = shield(&later);
            slot.replace(Some(shielded.clone()));
            later.set_result(OnClone(Rc::new(move || _ = own.take().unwrap().cancel(Some("meanwhile")))))?;
            pump(3).await?;
            assert_eq!(message(&shielded.await.map(drop)).as_deref(), Some("meanwhile"));
            Ok(())
        });
    }

    #[test]
    fn that_panic_leave_the_value() {
        sim(async {
            let armed = Rc::new(Cell::new(true));
            let trap = Rc::clone(&armed);
            let future = on_clone(move || assert!(!trap.get(), "clone"));
            let kept = future.clone();
            let task = create_task(async move { (&kept).await.map(drop) });
            assert_eq!(task.await.unwrap_err().kind(), ErrorKind::Panicked);
            let collected = gather([&future]);
            assert_eq!(collected.await.map(drop).unwrap_err().kind(), ErrorKind::Panicked);
            armed.set(false);
            drop(future.result()?);
            drop(future.take_result()?);

            let later = pending();
            let shielded = shield(&later);
            later.set_result(OnClone(Rc::new(|| panic!("clone"))))?;
            assert_eq!(shielded.await.map(drop).unwrap_err().kind(), ErrorKind::Panicked);
            Ok(())
        });
    }
}

mod wakers {
    use super::*;

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

    #[test]
    fn may_use_the_loop_when_woken_and_when_dropped() {
        sim(async {
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

    #[test]
    fn may_use_the_loop_when_a_request_wakes_them() {
        sim(async {
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

    #[test]
    fn that_panic_are_reported_and_the_others_are_woken() {
        let seen = reports(async {
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

    #[test]
    fn that_panic_do_not_stop_a_request() {
        let seen = reports(async {
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
}

mod panics {
    use super::*;

    #[test]
    fn of_a_task_end_it_and_no_other() {
        let seen = reports(async {
            let (task, other) = (create_task(async { panic!("in task") as Result<()> }), create_task(sleep(1.0)));
            let error = task.await.unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Panicked, "panicked: in task"));
            other.await?;
            drop(create_task(async {
                hang().await.ok();
                panic!("in cleanup") as Result<()>
            }));
            pump(1).await?;
            all_tasks()[1].cancel(None);
            pump(2).await
        });
        assert_eq!(messages(&seen), ["task exception was never retrieved"]);
    }

    #[test]
    fn in_scopes_and_groups_leave_them() {
        sim(async {
            let task = create_task(async {
                timeout(1.0, async {
                    pump(1).await?;
                    panic!("in scope") as Result<()>
                })
                .await
            });
            assert_eq!(task.await.unwrap_err().kind(), ErrorKind::Panicked);
            let caught = create_task(async {
                let unwinding = std::panic::AssertUnwindSafe(timeout(50.0, async { panic!("caught") as Result<()> }));
                let result = futures::FutureExt::catch_unwind(unwinding).await;
                assert!(result.is_err());
                // The scope is gone: what comes now is outside of it.
                pump(2).await?;
                Ok(me().cancelling())
            });
            assert_eq!(caught.await?, 0);
            let group = task_group(async |group| {
                group.create_task(async { panic!("child") as Result<()> })?;
                hang().await
            });
            let error = group.await.unwrap_err();
            assert_eq!(error.errors()[0].kind(), ErrorKind::Panicked);
            let body = create_task(task_group(async |group| {
                group.create_task(hang())?;
                pump(1).await?;
                panic!("body") as Result<()>
            }));
            assert_eq!(body.await.unwrap_err().kind(), ErrorKind::Panicked);
            pump(3).await?;
            assert_eq!(all_tasks().len(), 1, "the group's child was cancelled");
            Ok(())
        });
    }

    #[test]
    fn of_destructors_of_coroutines_are_reported_and_the_result_stays() {
        let seen = reports(async {
            let task = TaskBuilder::new().name("T").create_task(async {
                let _bomb = bomb();
                pump(1).await.map(|()| 5)
            });
            // What is dropped in the poll is the task's own panic.
            assert_eq!(task.await.unwrap_err().kind(), ErrorKind::Panicked);
            struct Kept(OnDrop<fn()>);
            impl StdFuture for Kept {
                type Output = Result<u32>;
                fn poll(self: std::pin::Pin<&mut Self>, _: &mut PollContext<'_>) -> Poll<Result<u32>> {
                    let _ = &self.0;
                    Poll::Ready(Ok(5))
                }
            }
            // What is dropped with the coroutine is not.
            assert_eq!(TaskBuilder::new().name("T").create_task(Kept(bomb())).await?, 5);
            let never_started = create_task(Kept(bomb()));
            never_started.cancel(None);
            pump(2).await?;
            assert!(never_started.cancelled());
            Ok(())
        });
        assert_eq!(messages(&seen), ["a destructor of a coroutine panicked"; 2]);
        assert_eq!(seen[0].task.as_deref(), Some("T"));
    }

    #[test]
    fn of_destructors_of_results_are_reported() {
        let seen = reports(async {
            drop(create_task(ready(bomb())));
            pump(2).await?;
            let future = done(bomb());
            let held = Rc::new(());
            let other = done(Rc::clone(&held));
            drop(future);
            drop(other);
            assert_eq!(Rc::strong_count(&held), 1, "others are dropped after it as before");
            let cancelled = create_task(async {
                me().cancel(None);
                Ok(bomb())
            });
            pump(2).await?;
            assert!(cancelled.cancelled());
            Ok(())
        });
        assert_eq!(messages(&seen), ["a destructor of a result panicked"; 3]);
    }

    #[test]
    fn of_destructors_of_errors_callbacks_and_contexts_are_reported() {
        #[derive(Clone)]
        struct Value(#[allow(dead_code)] Arc<OnDrop<fn()>>);
        let seen = reports(async {
            let hold = || {
                let held = bomb();
                move || drop(held)
            };
            drop(loaded(bomb()));
            let future = pending::<()>();
            let callback = hold();
            future.add_done_callback(move |_| callback());
            drop(future);
            let var = ContextVar::<Value>::new();
            create_task(async move {
                var.set(Value(Arc::new(bomb())));
                Ok(())
            })
            .await?;
            let held = Rc::new(());
            drop(done(Rc::clone(&held)));
            assert_eq!(Rc::strong_count(&held), 1);
            // For the end of the loop.
            event_loop().call_later(5.0, hold())?;
            event_loop().call_later(6.0, hold())?;
            let last = hold();
            pending::<()>().add_done_callback(move |_| last());
            Ok(())
        });
        assert_eq!(messages(&seen), ["a destructor panicked"; 6]);
    }

    #[test]
    fn of_a_handler_do_not_stop_the_loop() {
        sim(async {
            event_loop().set_exception_handler(Some(Box::new(|_| panic!("handler"))));
            drop(create_task(fail::<()>("v")));
            soon(|| panic!("callback"));
            pump(3).await?;
            event_loop().set_exception_handler(None);
            sleep(1.0).await
        });
    }

    #[test]
    fn of_main_end_the_run_and_the_loop_is_left_in_good_order() {
        let dropped = Rc::new(Cell::new(false));
        let flag = Rc::clone(&dropped);
        let result = aioli_exec_sim::run(async move {
            let probe = OnDrop(move || flag.set(true));
            drop(create_task(keep(probe, hang())));
            pump(1).await?;
            panic!("main") as Result<()>
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Panicked);
        assert!(dropped.get() && get_running_loop().is_err());
        sim(async { sleep(1.0).await });
    }
}

#[test]
fn what_a_callback_schedules_runs_in_the_next_turn() {
    sim(async {
        let trace = Trace::new();
        let future = pending::<u32>();
        let (t, other) = (trace.clone(), pending::<u32>());
        let setter = other.clone();
        let mark = trace.marker("other");
        other.add_done_callback(move |_| mark());
        future.add_done_callback(move |future| {
            t.mark(future.result().unwrap());
            let again = t.marker("added in callback");
            future.add_done_callback(move |_| again());
            setter.set_result(2).unwrap();
        });
        trace.start();
        future.set_result(1)?;
        pump(3).await?;
        assert_eq!(trace.take(), ["1+1", "added in callback+2", "other+2"]);
        Ok(())
    });
}
