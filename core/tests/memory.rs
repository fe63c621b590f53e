//! What a loop keeps of the memory that it needed for a while.
#![allow(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use aioli_core::{create_task, sleep};

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
