//! Deadlocks, on a clock that can tell.
#![allow(missing_docs)]
#![allow(clippy::redundant_async_block, reason = "the chains are to be chains of coroutines")]

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use aioli_core::{
    ErrorKind, Event, Lock, Queue, Result, TaskBuilder, create_task, gather, get_running_loop, shield, sleep,
    task_group, timeout, to_thread, wait,
};
use aioli_exec_sim::run;

/// The lines of a deadlock's report, without where tasks were created.
fn tree<T: std::fmt::Debug>(result: Result<T>) -> Vec<String> {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadlock, "{error}");
    let text = error.to_string();
    let lines = text.lines().skip(1).map(|line| {
        let Some((name, rest)) = line.split_once(", created at ") else { return line.to_owned() };
        let (location, rest) = rest.split_once(", ").unwrap();
        assert!(location.starts_with("core/tests/deadlock.rs:"), "{line}");
        format!("{name}, {rest}")
    });
    lines.collect()
}

fn named(name: &str) -> TaskBuilder {
    TaskBuilder::new().name(name)
}

#[test]
fn each_await_says_what_it_waits_for() {
    let result = run(async {
        named("main").create_task(async { Ok(()) }).await?;
        let lock = Rc::new(Lock::new());
        let held = lock.lock().await?;
        let waits = Rc::clone(&lock);
        let a = named("a").create_task(async move { waits.lock().await.map(drop) });
        let queue = Rc::new(Queue::<u8>::new(1));
        queue.put_nowait(1).unwrap();
        let (full, empty) = (Rc::clone(&queue), Rc::new(Queue::<u8>::new(1)));
        let b = named("b").create_task(async move { full.put(2).await });
        let c = named("c").create_task(async move { empty.get().await });
        let d = named("d").create_task(async { Event::new().wait().await });
        let e = named("e").create_task(async { get_running_loop()?.create_future::<u8>().await });
        let f = named("f").create_task(pending::<Result<()>>());
        let all = gather((a, b, c, shield(d))).await;
        drop((held, queue, e, f));
        all.map(drop)
    });
    let lines = tree(result);
    assert!(lines[0].starts_with("  task \"Task-"), "{lines:?}");
    assert_eq!(
        lines[1..],
        [
            "    a gather of",
            "      task \"a\", waits for a lock",
            "      task \"b\", waits for room in a queue",
            "      task \"c\", waits for an item in a queue",
            "      a future or a shield",
            "  task \"d\", waits for an event",
            "  task \"e\", waits for",
            "    a future or a shield",
            "  task \"f\", waits for a foreign future",
        ]
    );
}

#[test]
fn a_circle_of_tasks_is_shown_once() {
    let slot = Rc::new(RefCell::new(None));
    let result = run(async move {
        let theirs = Rc::clone(&slot);
        let a = named("a").create_task(async move {
            sleep(1.0).await?;
            let b = theirs.take();
            match b {
                Some(b) => b.await,
                None => Ok(()),
            }
        });
        let b = named("b").create_task(async move { a.await });
        slot.replace(Some(b));
        named("free").create_task(async { Event::new().wait().await.map(drop) }).await
    });
    let lines = tree(result);
    assert!(lines[0].ends_with(", waits for"), "{lines:?}");
    assert_eq!(lines[1], "    task \"free\", waits for an event");
    assert_eq!(lines[2..], ["  task \"a\", waits for", "    task \"b\", waits for", "      task \"a\": a circle"]);
}

#[test]
fn groups_and_waits_have_names_too() {
    let result = run(async {
        let events = create_task(async { Event::new().wait().await });
        wait(&[events]).await.map(drop)
    });
    let lines = tree(result);
    assert!(lines[0].ends_with(", waits for one or all of several futures"), "{lines:?}");
    let result = run(async {
        task_group(async |group| {
            group.create_task(async { Event::new().wait().await })?;
            Ok(())
        })
        .await
    });
    assert!(tree(result)[0].ends_with(", waits for the tasks of its group"));
}

#[test]
fn tasks_are_cancelled_and_clean_up_after_a_deadlock() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let events = Rc::clone(&log);
    let result = run(async move {
        let error = Event::new().wait().await.unwrap_err();
        events.borrow_mut().push(error.to_string());
        sleep(5.0).await?;
        events.borrow_mut().push("cleaned up".to_owned());
        Err::<(), _>(error)
    });
    assert_eq!(tree(result).len(), 1);
    assert_eq!(log.take(), ["cancelled", "cleaned up"]);
}

#[test]
fn a_task_that_keeps_the_loop_from_leaving_is_a_deadlock() {
    let result = run(async {
        create_task(async {
            let _ = Event::new().wait().await;
            Event::new().wait().await
        });
        sleep(0.0).await
    });
    assert_eq!(tree(result).len(), 1);
}

#[test]
fn a_timer_or_a_thread_is_no_deadlock() {
    let result = run(async {
        let late = timeout(Duration::from_secs(1000), Event::new().wait()).await;
        assert!(late.unwrap_err().is_timeout());
        to_thread(|| {
            std::thread::sleep(Duration::from_millis(30));
            Ok(7)
        })
        .await
    });
    assert_eq!(result.unwrap(), 7);
}

#[test]
fn a_thread_that_knows_the_loop_may_still_end_a_wait() {
    let result = run(async {
        let event = Rc::new(Event::new());
        let event_loop = get_running_loop()?;
        let future = event_loop.create_future::<u8>();
        let remote = event_loop.remote();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            remote.call_soon_threadsafe(|| ()).map(drop)
        });
        let kicked = create_task(async move { event.wait().await });
        // The call wakes nobody: after it, nothing is left that could.
        drop((future, kicked));
        let result = Event::new().wait().await;
        thread.join().unwrap()?;
        result
    });
    assert_eq!(tree(result).len(), 2);
}

#[test]
fn a_long_chain_and_many_tasks_make_a_short_report() {
    let result = run(async {
        let mut last = create_task(async { Event::new().wait().await });
        for _ in 0..1000 {
            last = create_task(async move { last.await });
        }
        for _ in 0..1000 {
            create_task(async { Event::new().wait().await });
        }
        last.await
    });
    let lines = tree(result);
    assert_eq!(lines.len(), 201);
    assert!(lines[200].starts_with("  … and "), "{}", lines[200]);
}
