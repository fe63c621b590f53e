//! What a loop keeps of the memory that it needed for a while.
#![allow(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use aioli_core::{Result, create_task, sleep, timeout};
use futures::stream::{FuturesUnordered, StreamExt};

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// Counts the bytes that this thread has and has not given back.
struct Counting;

fn count(bytes: usize, sign: isize) {
    LIVE.set(LIVE.get() + sign * isize::try_from(bytes).unwrap_or(isize::MAX));
}

// SAFETY: it is the system's allocator; the counter has no destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The queue of what is ready was kept if no later turn had two handles or more.
#[test]
fn a_burst_gives_its_memory_back_though_each_later_turn_has_one_handle() {
    const TASKS: usize = 20_000;
    aioli_exec_sim::run(async {
        for _ in 0..TASKS {
            create_task(async {
                std::future::pending::<()>().await;
                Ok(())
            });
        }
        let before = LIVE.get();
        for _ in 0..4 {
            sleep(1.0).await?;
        }
        let given_back = before - LIVE.get();
        assert!(given_back > (TASKS * size_of::<usize>()) as isize, "{given_back} bytes");
        Ok(())
    })
    .unwrap();
}

/// Their memory comes in pieces of two sizes.
#[test]
fn a_hundred_thousand_tasks_keep_what_is_theirs() {
    const TASKS: usize = 100_000;
    aioli_exec_sim::run(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|n| {
                create_task(async move {
                    let kept = [n; 10];
                    sleep(((n * 7919) % TASKS) as f64).await?;
                    Ok(kept)
                })
            })
            .collect();
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await?, [n; 10]);
        }
        Ok(())
    })
    .unwrap();
}

/// A task remembered a scope anew each time it came back from another one.
#[test]
fn a_scope_that_goes_to_and_fro_between_tasks_is_remembered_once() {
    const MOVES: usize = 20_000;
    aioli_exec_sim::run(async {
        let bell: Rc<RefCell<Option<Waker>>> = Rc::default();
        let heard = Rc::clone(&bell);
        let hears = poll_fn(move |cx| {
            heard.replace(Some(cx.waker().clone()));
            Poll::<Result<()>>::Pending
        });
        let shared = Rc::new(RefCell::new(FuturesUnordered::from_iter([Box::pin(timeout(1e9, hears))])));
        let turn = Rc::new(Cell::new(0_usize));
        let players: Vec<_> = (0..2)
            .map(|player| {
                let (shared, turn, bell) = (Rc::clone(&shared), Rc::clone(&turn), Rc::clone(&bell));
                create_task(async move {
                    while turn.get() < MOVES {
                        if turn.get() % 2 == player {
                            let waker = bell.take();
                            waker.into_iter().for_each(Waker::wake);
                            poll_fn(|cx| {
                                assert!(shared.borrow_mut().poll_next_unpin(cx).is_pending());
                                Poll::Ready(())
                            })
                            .await;
                            turn.set(turn.get() + 1);
                        }
                        sleep(0.0).await?;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut live = [0; 2];
        for (seen, moves) in live.iter_mut().zip([100, MOVES - 100]) {
            while turn.get() < moves {
                sleep(0.0).await?;
            }
            *seen = LIVE.get();
        }
        assert!(live[1] - live[0] < 10_000, "{} bytes", live[1] - live[0]);
        for player in players {
            player.await?;
        }
        Ok(())
    })
    .unwrap();
}
