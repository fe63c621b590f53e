//! Destructors that call back into the loop.

use super::*;

cases! {
    ($) "reentrancy" in reentrancy_destructors as __cases_reentrancy_destructors;
    of_coroutines_may_use_the_loop: "L11";
    of_coroutines_run_as_their_task_before_its_result_is_there: "L11";
    of_a_coroutine_may_cancel_it_and_its_value_is_dropped: "L11";
    of_results_may_use_the_loop: "L11";
    of_results_may_drop_others_in_turn: "L11";
    of_errors_may_use_the_loop: "L11";
    of_callbacks_may_use_the_loop: "L11";
    of_context_values_may_use_the_loop: "L11 CV1";
    may_stop_the_loop: "L11 LP10";
    of_the_handler_may_use_the_loop: "L11 X3";
}

fn of_coroutines_may_use_the_loop(on: &Machine) {
    let seen = on.reports(async {
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

fn of_coroutines_run_as_their_task_before_its_result_is_there(on: &Machine) {
    on.run(async {
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

fn of_a_coroutine_may_cancel_it_and_its_value_is_dropped(on: &Machine) {
    on.run(async {
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

fn of_results_may_use_the_loop(on: &Machine) {
    let seen = on.reports(async {
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

fn of_results_may_drop_others_in_turn(on: &Machine) {
    on.run(async {
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

fn of_errors_may_use_the_loop(on: &Machine) {
    on.run(async {
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

fn of_callbacks_may_use_the_loop(on: &Machine) {
    let seen = on.reports(async {
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
    assert_eq!(messages(&seen), ["gathering future exception was never retrieved"]);
}

fn of_context_values_may_use_the_loop(on: &Machine) {
    #[derive(Clone)]
    struct Value(#[allow(dead_code)] Arc<OnDrop<fn()>>);
    on.run(async {
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

fn may_stop_the_loop(on: &Machine) {
    let runner = on.runner();
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

fn of_the_handler_may_use_the_loop(on: &Machine) {
    on.run(async {
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
