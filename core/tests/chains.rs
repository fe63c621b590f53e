//! Long chains of tasks and futures: requests, wakes and drops travel along them without recursion.

mod common;

use std::cell::{Cell, RefCell};
use std::future::Future as StdFuture;
use std::rc::Rc;

use aioli_core::*;
use common::*;

const LENGTH: usize = 100_000;

/// A chain of tasks, each of which awaits the one before.
fn chain(first: impl StdFuture<Output = Result<()>> + 'static) -> (AnyTask, Task<()>) {
    let mut last = create_task(first);
    let first = last.view();
    for _ in 1..LENGTH {
        last = create_task(last);
    }
    (first, last)
}

#[test]
fn pass_a_request_on_without_recursion() {
    sim(async {
        let (first, last) = chain(hang());
        pump(1).await?;
        last.cancel(Some("far"));
        assert_eq!(first.cancelling(), 1);
        let before = turn();
        assert_eq!(message(&last.await).as_deref(), Some("far"));
        assert_eq!(turn() - before, LENGTH as u64 + 1);
        assert!(first.cancelled());
        Ok(())
    });
}

#[test]
fn are_dropped_at_close_without_recursion() {
    let seen = reports(async {
        create_task(async {
            assert!(hang().await.is_err());
            // Created while the runner leaves: it is neither cancelled nor awaited.
            drop(chain(hang()));
            Ok(())
        });
        pump(1).await
    });
    assert_eq!(seen.len(), LENGTH);
}

#[test]
fn are_cancelled_at_close() {
    sim(async {
        let mut last = create_task(hang());
        for _ in 0..300 {
            last = create_task(last);
        }
        pump(1).await
    });
}

#[test]
fn of_gathers_and_timeouts_pass_a_request_on_without_recursion() {
    sim(async {
        let mut last = create_task(hang());
        let first = last.view();
        for n in 0..LENGTH / 10 {
            last = match n % 3 {
                0 => create_task(async move { gather([last]).await.map(drop) }),
                1 => create_task(async move { ensure_future(last)?.await }),
                _ => create_task(timeout(1e6, last)),
            };
        }
        pump(2).await?;
        last.cancel(None);
        assert_eq!(first.cancelling(), 1);
        assert!(last.await.unwrap_err().is_cancelled());
        Ok(())
    });
}

#[test]
fn of_nested_gathers_pass_a_request_on_without_recursion() {
    sim(async {
        type Nested = Future<Vec<Box<dyn std::any::Any>>>;
        fn nest(inner: Nested) -> Nested {
            gather([async move { Ok(Box::new(inner.await?) as Box<dyn std::any::Any>) }])
        }
        let mut all: Nested = gather([async { hang().await.map(|()| Box::new(()) as Box<dyn std::any::Any>) }]);
        for _ in 0..LENGTH / 10 {
            all = nest(all);
        }
        pump(1).await?;
        assert!(all.cancel(None));
        assert!(all.await.unwrap_err().is_cancelled());
        Ok(())
    });
}

#[test]
fn of_values_that_hold_futures_are_dropped_without_recursion() {
    sim(async {
        let mut held: Option<Box<dyn std::any::Any>> = None;
        for _ in 0..LENGTH {
            let future = done(Cell::new(held));
            held = Some(Box::new(future));
        }
        drop(held);
        Ok(())
    });
}

#[test]
fn of_callbacks_that_hold_futures_are_dropped_without_recursion() {
    sim(async {
        let mut last = pending::<()>();
        for _ in 0..LENGTH {
            let next = pending::<()>();
            next.add_done_callback(move |_| drop(last));
            last = next;
        }
        drop(last);
        Ok(())
    });
}

#[test]
fn of_tasks_that_wait_for_the_same_future_wake_in_order() {
    sim(async {
        let (future, order) = (pending::<()>(), Rc::new(RefCell::new(Vec::new())));
        for n in 0..1000_u32 {
            let (future, order) = (future.clone(), Rc::clone(&order));
            create_task(async move {
                (&future).await?;
                order.borrow_mut().push(n);
                Ok(())
            });
        }
        pump(1).await?;
        future.set_result(())?;
        pump(1).await?;
        assert_eq!(*order.borrow(), (0..1000).collect::<Vec<_>>());
        Ok(())
    });
}

#[test]
fn of_groups_that_failed_give_an_error_that_is_told_and_dropped_without_recursion() {
    fn level(n: usize) -> std::pin::Pin<Box<dyn std::future::Future<Output = Result<()>>>> {
        Box::pin(async move {
            if n == 0 {
                return fail("the innermost").await;
            }
            task_group(async |group| group.create_task(level(n - 1)).map(drop)).await
        })
    }
    sim(async {
        let error = level(LENGTH).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("unhandled errors in a task group (1 sub-error); unhandled errors"),
            "{}",
            &text[..100]
        );
        assert!(text.ends_with("(1 sub-error); the innermost"), "{}", &text[text.len() - 100..]);
        // A width is not that of each.
        let group = Error::group("g", vec![Error::from("x".parse::<i32>().unwrap_err()), Error::msg("m")]);
        assert_eq!(format!("{group:60}"), "g (2 sub-errors); invalid digit found in string; m");
        drop(error);
        Ok(())
    });
}
