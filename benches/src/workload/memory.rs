//! What a waiting task occupies.
//!
//! To be run in a process of its own: memory that an earlier run freed would be used again, and not seen.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::io;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::{Runtime, machine};

const LONG: Duration = Duration::from_secs(3_600);
/// What an idle task keeps while it waits: as much as a small coroutine would.
const WORDS: usize = 5;
const MOMENT: Duration = Duration::from_millis(1);

thread_local! {
    // Here and not in the tasks, so that a task is as small as its runtime makes it.
    static WAITING: Cell<usize> = const { Cell::new(0) };
    static WAKERS: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

/// Resident bytes a task, with `count` detached tasks that wait for nothing and whose wakers are kept.
///
/// # Errors
///
/// If the kernel does not tell the resident memory.
pub fn idle<R: Runtime>(count: usize) -> io::Result<f64> {
    // The place for the wakers is not the tasks': it is touched beforehand.
    WAKERS.set(vec![Waker::noop().clone(); count]);
    WAKERS.with_borrow_mut(Vec::clear);
    grown::<R, _>(count, || {
        let mut state = Some([0_u64; WORDS]);
        poll_fn(move |cx| {
            if black_box(&mut state).take().is_none() {
                return Poll::Ready(R::ok(()));
            }
            WAKERS.with_borrow_mut(|wakers| wakers.push(cx.waker().clone()));
            WAITING.set(WAITING.get() + 1);
            Poll::Pending
        })
    })
}

/// Resident bytes a task, with `count` detached tasks that sleep for an hour.
///
/// # Errors
///
/// If the kernel does not tell the resident memory.
pub fn sleeping<R: Runtime>(count: usize) -> io::Result<f64> {
    grown::<R, _>(count, || async {
        WAITING.set(WAITING.get() + 1);
        R::sleep(LONG).await;
        R::ok(())
    })
}

fn grown<R: Runtime, F: Future<Output = R::Output<()>> + 'static>(
    count: usize,
    waiting: impl Fn() -> F + 'static,
) -> io::Result<f64> {
    WAITING.set(0);
    R::run(async move |runtime| {
        let task = runtime.spawn(async {
            R::sleep(MOMENT).await;
            R::ok(())
        });
        R::value(task.await);

        let before = machine::resident_bytes()?;
        for _ in 0..count {
            R::detach(runtime.spawn(waiting()));
        }
        // Not by yielding: on monoio a main function that wakes itself lets nobody else run.
        while WAITING.get() < count {
            R::sleep(MOMENT).await;
        }
        let after = machine::resident_bytes()?;
        Ok((after as f64 - before as f64) / count as f64)
    })
}
