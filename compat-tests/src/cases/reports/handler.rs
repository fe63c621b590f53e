//! The loop's exception handler.

use super::*;

cases! {
    ($) "exceptions" in reports_handler as __cases_reports_handler;
    hears_of_callbacks_that_panic_and_the_loop_goes_on: "LP11 FU5 X4 L7"
        = "test_base_events::BaseEventLoopTests::test_default_exc_handler_callback",
          "test_events::HandleTests::test_callback_with_exception",
          "test_base_events::BaseEventLoopTests::test_set_exc_handler_custom";
    is_called_by_hand_and_can_be_replaced: "X3" = "test_base_events::BaseEventLoopTests::test_set_exc_handler_custom";
    is_called_in_the_context_of_the_task_that_it_is_about: "X3 L8";
    may_use_the_loop_and_even_replace_itself: "X3 L11";
}

fn hears_of_callbacks_that_panic_and_the_loop_goes_on(on: &Machine) {
    let line = Rc::new(Cell::new(0));
    let at = Rc::clone(&line);
    let seen = on.reports(async move {
        let trace = Trace::new();
        at.set(line!() + 1);
        event_loop().call_soon(|| panic!("in callback"))?;
        event_loop().call_later(0.0, || panic!("in timer"))?;
        soon(trace.marker("next"));
        let future = pending::<()>();
        future.add_done_callback(|_| panic!("in done callback"));
        let mark = trace.marker("second ran");
        future.add_done_callback(move |_| mark());
        future.set_result(())?;
        pump(2).await?;
        assert_eq!(trace.take(), ["next+1", "second ran+1"]);
        Ok(())
    });
    assert_eq!(messages(&seen), ["exception in callback"; 3]);
    let texts: Vec<_> = seen.iter().map(text).collect();
    assert_eq!(texts, ["panicked: in callback", "panicked: in done callback", "panicked: in timer"]);
    assert_eq!((seen[0].location.unwrap().line(), &seen[0].task), (line.get(), &None));
    assert!(seen[0].to_string().contains("scheduled at"));
    assert_eq!(seen[0].error.as_ref().unwrap().kind(), ErrorKind::Panicked);
}

fn is_called_by_hand_and_can_be_replaced(on: &Machine) {
    on.run(async {
        let trace = Trace::new();
        let install = |name: &'static str| {
            let trace = trace.clone();
            let handler = move |report: &Report| trace.log(format_args!("{name}: {report}"));
            event_loop().set_exception_handler(Some(Box::new(handler)));
        };
        install("one");
        event_loop().call_exception_handler(Report::new("msg").with_error(Error::msg("x")));
        install("two");
        event_loop().call_exception_handler(Report::new("again"));
        assert_eq!(trace.take(), ["one: msg: x", "two: again"]);
        Ok(())
    });
}

fn is_called_in_the_context_of_the_task_that_it_is_about(on: &Machine) {
    let (trace, var) = (Trace::new(), Rc::new(ContextVar::new()));
    let (heard, told) = (trace.clone(), Rc::clone(&var));
    on.reports(async move {
        let handler = move |report: &Report| {
            heard.log(format_args!("{}: {:?} {:?}", report.message, report.task.as_deref(), told.get()));
        };
        event_loop().set_exception_handler(Some(Box::new(handler)));
        let failing = |number: u32| {
            let var = Rc::clone(&var);
            let coroutine = async move {
                var.set(number);
                let _ = sleep(f64::from(number)).await;
                fail::<()>("v").await
            };
            TaskBuilder::new().name(&format!("T{number}")).create_task(coroutine)
        };
        drop(failing(1));
        let shielded = failing(2);
        assert!(wait_for(shield(&shielded), 0.0).await.unwrap_err().is_timeout());
        sleep(3.0).await?;
        drop(failing(99));
        let group = Box::pin(task_group(async |group| {
            let var = Rc::clone(&var);
            group.create_task_with(TaskBuilder::new().name("T4"), async move {
                var.set(4);
                sleep(99.0).await.or(fail("v").await)
            })?;
            hang().await
        }));
        drop(futures::future::select(group, Box::pin(sleep(1.0))).await);
        pump(3).await
    });
    let lines = [
        "task exception was never retrieved: Some(\"T1\") Some(1)",
        "exception in shielded future: Some(\"T2\") Some(2)",
        "task of an abandoned group failed: Some(\"T4\") Some(4)",
        "unhandled exception during shutdown: Some(\"T99\") Some(99)",
    ];
    assert_eq!(trace.take(), lines);
}

fn may_use_the_loop_and_even_replace_itself(on: &Machine) {
    on.run(async {
        let count = Rc::new(Cell::new(0));
        let seen = Rc::clone(&count);
        event_loop().set_exception_handler(Some(Box::new(move |_| {
            seen.set(seen.get() + 1);
            event_loop().set_exception_handler(Some(Box::new(|_| ())));
            create_task(fail::<()>("from the handler"));
            soon(|| panic!("from the handler"));
        })));
        create_task(fail::<()>("v"));
        pump(5).await?;
        assert_eq!(count.get(), 1);
        Ok(())
    });
}
