//! CPython's tests of the loop, its handles and its helpers, where they do not stand with the traces.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aioli_core::*;

use super::support::*;
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "loop" in loop_ports as __cases_loop_ports;
    a_callback_is_called_once_unless_it_is_cancelled: "LP1 LP9"
        = "test_base_events::BaseEventLoopTests::test_call_soon",
          "test_events::EventLoopTestsMixin::test_call_soon",
          "test_events::HandleTests::test_handle";
    a_timer_is_called_at_its_time: "L5 LP5"
        = "test_base_events::BaseEventLoopTests::test_call_later", "test_events::EventLoopTestsMixin::test_call_later";
    delays_below_zero_are_called_in_the_order_of_their_deadlines: "LP5 LP8"
        = "test_base_events::BaseEventLoopTests::test_call_later_negative_delays";
    a_loop_waits_for_the_first_timer_that_was_not_cancelled: "LP2 LP3"
        = "test_base_events::BaseEventLoopTests::test__run_once";
    what_a_timer_schedules_runs_in_the_next_turn: "LP1"
        = "test_base_events::BaseEventLoopTests::test__run_once_schedule_handle";
    a_run_takes_as_long_as_its_main: "LP12 L5" = "test_events::EventLoopTestsMixin::test_run_until_complete";
    short_sleeps_take_few_turns: "L5 LP3" = "test_events::EventLoopTestsMixin::test_timeout_rounding";
    a_sleep_on_the_backends_own_clock_is_not_too_short: "L5 D5";
    a_future_belongs_to_the_running_loop: "FU9"
        = "test_futures::BaseFutureTests::test_constructor_use_running_loop",
          "test_base_events::BaseEventLoopTests::test_run_until_complete_loop";
    the_handler_is_called_in_the_context_of_the_task: "X3 CV1"
        = "test_futures2::FutureTests::test_task_exc_handler_correct_context";
    the_handler_is_called_in_the_context_of_the_callback: "X3 CV2"
        = "test_futures2::FutureTests::test_handle_exc_handler_correct_context";
    queues_without_waiting: "Q1"
        = "test_queues::QueueGetTests::test_nonblocking_get",
          "test_queues::QueueGetTests::test_nonblocking_get_exception",
          "test_queues::QueuePutTests::test_nonblocking_put",
          "test_queues::QueuePutTests::test_nonblocking_put_exception";
    a_function_in_a_thread_is_called_once_with_what_it_holds: "TH1"
        = "test_threads::ToThreadTests::test_to_thread_once",
          "test_threads::ToThreadTests::test_to_thread_args_kwargs",
          "test_threads::ToThreadTests::test_to_thread_concurrent";
}

fn a_callback_is_called_once_unless_it_is_cancelled(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let called = event_loop().call_soon(trace.marker("called"))?;
        let cancelled = event_loop().call_soon(trace.marker("cancelled"))?;
        assert!(!called.cancelled() && !cancelled.cancelled());
        cancelled.cancel();
        assert!(cancelled.cancelled());
        pump(3).await?;
        assert_eq!(trace.take(), ["called+1"]);
        assert!(!called.cancelled());
        Ok(())
    });
}

fn a_timer_is_called_at_its_time(on: &Machine) {
    on.run(async {
        let (trace, at) = (Trace::new(), Rc::new(Cell::new(0.0)));
        let (called, note) = (trace.marker("called"), Rc::clone(&at));
        let handle = event_loop().call_later(0.5, move || {
            called();
            note.set(seconds());
        })?;
        assert_eq!(handle.when().as_nanos(), 500_000_000);
        sleep(0.25).await?;
        assert!(trace.take().is_empty());
        sleep(10.0).await?;
        assert_eq!((trace.take().len(), at.get()), (1, 0.5));
        Ok(())
    });
}

fn delays_below_zero_are_called_in_the_order_of_their_deadlines(on: &Machine) {
    on.run(async {
        sleep(10.0).await?;
        let trace = Trace::new();
        event_loop().call_later(-1.0, trace.marker("a"))?;
        event_loop().call_later(-2.0, trace.marker("b"))?;
        pump(2).await?;
        // In CPython b comes first. Here a delay below zero is none, so both are due now, in the order of arming.
        assert_eq!(trace.take(), ["a+1", "b+1"]);
        Ok(())
    });
}

fn a_loop_waits_for_the_first_timer_that_was_not_cancelled(on: &Machine) {
    on.run(async {
        let at = Rc::new(Cell::new(0.0));
        let note = Rc::clone(&at);
        let future = pending::<()>();
        let done = future.clone();
        event_loop().call_later(5.0, || panic!("it was cancelled"))?.cancel();
        event_loop().call_later(10.0, move || {
            note.set(seconds());
            done.set_result(()).unwrap();
        })?;
        let before = turn();
        future.await?;
        assert_eq!((turn() - before, at.get()), (2, 10.0));
        Ok(())
    });
}

fn what_a_timer_schedules_runs_in_the_next_turn(on: &Machine) {
    on.run(async {
        sleep(1.0).await?;
        let trace = Trace::new();
        let (outer, inner) = (trace.marker("timer"), trace.marker("callback"));
        event_loop().call_at(Instant::default(), move || {
            outer();
            soon(inner);
        })?;
        pump(3).await?;
        assert_eq!(trace.take(), ["timer+1", "callback+2"]);
        Ok(())
    });
}

fn a_run_takes_as_long_as_its_main(on: &Machine) {
    let runner = on.runner();
    let running = runner.get_loop();
    let before = running.time();
    runner.run(sleep(0.1)).unwrap();
    assert_eq!((running.time() - before).as_millis(), 100);
    runner.close().unwrap();
}

fn short_sleeps_take_few_turns(on: &Machine) {
    on.run(async {
        let before = turn();
        for delay in [1e-2, 1e-4, 1e-6, 1e-8, 1e-9] {
            sleep(delay).await?;
        }
        assert_eq!(turn() - before, 10);
        assert_eq!(event_loop().time().as_nanos(), 10_101_011);
        Ok(())
    });
}

fn a_sleep_on_the_backends_own_clock_is_not_too_short(on: &Machine) {
    let runner = on.plain_runner();
    let slept = async {
        for micros in [1_u32, 100, 999, 1000, 3333] {
            let delay = std::time::Duration::from_micros(micros.into());
            let before = event_loop().time();
            sleep(delay).await?;
            assert!(event_loop().time() - before >= delay, "{micros} us");
        }
        Ok(())
    };
    runner.run(slept).unwrap();
    runner.close().unwrap();
}

fn a_future_belongs_to_the_running_loop(on: &Machine) {
    let (first, second) = (on.runner(), on.runner());
    let future = first.run(async { Ok(pending::<()>()) }).unwrap();
    let foreign = future.clone();
    assert_eq!(second.run(foreign).unwrap_err().kind(), ErrorKind::Runtime);
    let own = future.clone();
    let awaited = async move {
        let setter = own.clone();
        soon(move || setter.set_result(()).unwrap());
        own.await
    };
    first.run(awaited).unwrap();
    first.close().unwrap();
    second.close().unwrap();
}

/// Has the handler note a variable's value.
fn note_in_handler(var: &Rc<ContextVar<&'static str>>) -> Rc<RefCell<Vec<Option<&'static str>>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (noted, var) = (Rc::clone(&seen), Rc::clone(var));
    event_loop().set_exception_handler(Some(Box::new(move |_| noted.borrow_mut().push(var.get()))));
    seen
}

fn the_handler_is_called_in_the_context_of_the_task(on: &Machine) {
    on.run(async {
        let var = Rc::new(ContextVar::new());
        let seen = note_in_handler(&var);
        let inside = Rc::clone(&var);
        drop(create_task(async move {
            inside.set("bar");
            fail::<()>("x").await
        }));
        pump(2).await?;
        assert_eq!((seen.take(), var.get()), (vec![Some("bar")], None));
        Ok(())
    });
}

fn the_handler_is_called_in_the_context_of_the_callback(on: &Machine) {
    on.run(async {
        let var = Rc::new(ContextVar::new());
        let seen = note_in_handler(&var);
        let inside = Rc::clone(&var);
        let context = Context::copy_current();
        context.run(|| {
            soon(move || {
                inside.set("bar");
                panic!("callback");
            });
        });
        pump(2).await?;
        assert_eq!((seen.take(), var.get()), (vec![Some("bar")], None));
        Ok(())
    });
}

fn queues_without_waiting(on: &Machine) {
    on.run(async {
        let queue = Queue::new(1);
        assert_eq!(queue.get_nowait().unwrap_err().kind(), ErrorKind::QueueEmpty);
        queue.put_nowait(1)?;
        let refused = queue.put_nowait(2).unwrap_err();
        assert_eq!((refused.error.kind(), refused.item), (ErrorKind::QueueFull, 2));
        assert_eq!(queue.get_nowait()?, 1);
        assert_eq!(queue.get_nowait().unwrap_err().kind(), ErrorKind::QueueEmpty);
        Ok(())
    });
}

fn a_function_in_a_thread_is_called_once_with_what_it_holds(on: &Machine) {
    on.run(async {
        let calls = Arc::new(AtomicU32::new(0));
        let (counted, text) = (Arc::clone(&calls), "test".to_owned());
        let given = to_thread(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok((text, true))
        });
        assert_eq!(given.await?, ("test".to_owned(), true));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let count = || {
            let calls = Arc::clone(&calls);
            to_thread(move || Ok(calls.fetch_add(1, Ordering::SeqCst)))
        };
        let mut counts = gather((0..10).map(|_| count()).collect::<Vec<_>>()).await?;
        counts.sort_unstable();
        assert_eq!(counts, (1..=10).collect::<Vec<_>>());
        Ok(())
    });
}
