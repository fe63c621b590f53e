//! What a loop keeps of the memory that it needed for a while.
#![allow(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use aioli_core::{Result, create_task, sleep, timeout};
use futures::stream::{FuturesUnordered, StreamExt};

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the bytes that this thread has and has not given back, and how often it asked for some.
struct Counting;

fn count(bytes: usize, sign: isize) {
    LIVE.set(LIVE.get() + sign * isize::try_from(bytes).unwrap_or(isize::MAX));
}

// SAFETY: it is the system's allocator; the counter has no destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
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

/// How often memory was asked for in the last of some rounds, when everything has its place.
async fn allocations_of_a_round(mut round: impl AsyncFnMut() -> Result<()>) -> Result<usize> {
    for _ in 0..10 {
        round().await?;
    }
    let before = ALLOCATIONS.get();
    round().await?;
    Ok(ALLOCATIONS.get() - before)
}

/// Each that ended left what had been known of it in a box.
#[test]
fn an_await_in_a_scope_allocates_nothing() {
    aioli_exec_sim::run(async {
        let running = aioli_core::get_running_loop()?;
        let allocations = timeout(1e9, async {
            allocations_of_a_round(async || {
                let future = running.create_future::<u32>();
                let setter = future.clone();
                let task = create_task(async move { setter.set_result(1) });
                future.await?;
                task.await
            })
            .await
        })
        .await?;
        assert_eq!(allocations, 0);
        Ok(())
    })
    .unwrap();
}

/// What is kept of it was put into a new box each time.
#[test]
fn an_await_that_a_combinator_polls_again_allocates_nothing() {
    aioli_exec_sim::run(async {
        let running = aioli_core::get_running_loop()?;
        let mut awaited = running.create_future::<u32>();
        let polled = allocations_of_a_round(async || {
            let mut cx = std::task::Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut awaited).poll(&mut cx).is_pending());
            Ok(())
        });
        assert_eq!(polled.await?, 0);
        Ok(())
    })
    .unwrap();
}

/// What may outlive a loop: each alone has to keep it, and the last to end it.
mod outliving {
    use super::*;
    use aioli_core::{Future, Loop, Runner, Task, TimerHandle, shield};

    /// Beyond what blocks of the loop's own hold.
    type Large = [u64; 200];

    struct Left {
        running: Option<Loop>,
        timer: Option<TimerHandle>,
        task: Option<Task<Rc<()>>>,
        pending: Option<Future<Rc<()>>>,
        large: Option<Task<Large>>,
    }

    fn leave(held: &Rc<()>) -> Left {
        let runner = Runner::new(aioli_exec_sim::SimDriver::new());
        let value = Rc::clone(held);
        let left = runner
            .run(async move {
                let running = aioli_core::get_running_loop()?;
                let pending = running.create_future();
                let timer = running.call_later(100.0, || ())?;
                let task = create_task(async move { Ok(value) });
                let large = create_task(async { Ok([7; 200]) });
                // Some blocks are free again.
                for n in 0..10 {
                    create_task(async move { Ok(n) }).await?;
                }
                Ok(Left {
                    running: Some(running),
                    timer: Some(timer),
                    task: Some(task),
                    pending: Some(pending),
                    large: Some(large),
                })
            })
            .unwrap();
        runner.close().unwrap();
        left
    }

    /// Uses what is left, so that blocks come and go, and lets go of one thing.
    fn let_go(left: &mut Left, which: usize) {
        if let Some(pending) = &left.pending {
            // New futures of a loop that nothing but its futures may keep: a shield belongs to the loop of what it protects.
            let pending = pending.clone();
            aioli_exec_sim::run(async move {
                let shields: Vec<_> = (0..3).map(|_| shield(pending.clone())).collect();
                assert!(shields.iter().all(|shield| !shield.done()));
                Ok(())
            })
            .unwrap();
        }
        if let Some(running) = &left.running {
            drop((running.create_future::<Large>(), running.create_future::<u32>()));
        }
        if let Some(timer) = &left.timer {
            timer.cancel();
        }
        match which {
            0 => drop(left.running.take()),
            1 => drop(left.timer.take()),
            2 => assert_eq!(left.task.take().map(|task| Rc::strong_count(&task.take_result().unwrap())), Some(2)),
            3 => left.pending.take().into_iter().for_each(|future| future.set_result(Rc::default()).unwrap()),
            _ => assert_eq!(left.large.take().unwrap().take_result().unwrap()[199], 7),
        }
    }

    fn orders(of: &[usize]) -> Vec<Vec<usize>> {
        if of.is_empty() {
            return vec![Vec::new()];
        }
        let first = |at: usize| {
            let mut rest = of.to_vec();
            let first = rest.remove(at);
            orders(&rest).into_iter().map(move |mut order| {
                order.insert(0, first);
                order
            })
        };
        (0..of.len()).flat_map(first).collect()
    }

    #[test]
    fn a_loop_goes_with_the_last_of_its_handles_whichever_that_is() {
        let held = Rc::new(());
        let all = orders(&[0, 1, 2, 3, 4]);
        assert_eq!(all.len(), 120);
        // The first time something stays for the thread.
        for round in 0..2 {
            for order in &all {
                let before = LIVE.get();
                let mut left = leave(&held);
                assert!(LIVE.get() > before);
                for which in order {
                    let_go(&mut left, *which);
                }
                drop(left);
                assert_eq!(Rc::strong_count(&held), 1);
                if round > 0 {
                    assert_eq!(LIVE.get(), before, "{order:?}");
                }
            }
        }
    }

    #[test]
    fn a_value_may_hold_what_keeps_its_loop() {
        let before = Cell::new(0);
        for _ in 0..2 {
            before.set(LIVE.get());
            let (outer, inner) = aioli_exec_sim::run(async {
                let running = aioli_core::get_running_loop()?;
                let (outer, inner) = (running.create_future(), running.create_future::<u32>());
                outer.set_result((running, inner.clone()))?;
                Ok((outer, inner))
            })
            .unwrap();
            drop(inner);
            // The value goes while its own block is the last but one.
            drop(outer);
        }
        assert_eq!(LIVE.get(), before.get());
    }
}
