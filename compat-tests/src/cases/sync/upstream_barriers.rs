//! CPython's own tests of barriers (`test_locks.py`), where they carry over.

use super::*;
use std::cell::Cell;

cases! {
    ($) "sync" in upstream_barriers as __cases_upstream_barriers;
    upstream_context_manager: "LK6" = "test_locks::BarrierTests::test_context_manager";
    upstream_filling_one_task_twice: "LK6"
        = "test_locks::BarrierTests::test_filling_one_task_twice", "test_locks::BarrierTests::test_filling_one_task";
    upstream_filling_task_by_task: "LK6" = "test_locks::BarrierTests::test_filling_task_by_task";
    upstream_filling_tasks_wait_twice: "LK6"
        = "test_locks::BarrierTests::test_filling_tasks_wait_twice",
          "test_locks::BarrierTests::test_filling_tasks_check_return_value";
    upstream_draining_state: "LK6" = "test_locks::BarrierTests::test_draining_state";
    upstream_blocking_tasks_while_draining: "LK6" = "test_locks::BarrierTests::test_blocking_tasks_while_draining";
    upstream_filling_tasks_cancel_one: "LK6 CA21" = "test_locks::BarrierTests::test_filling_tasks_cancel_one";
    upstream_reset_while_tasks_wait: "LK6" = "test_locks::BarrierTests::test_reset_barrier_while_tasks_waiting";
    upstream_reset_when_tasks_half_draining: "LK6" = "test_locks::BarrierTests::test_reset_barrier_when_tasks_half_draining";
    upstream_reset_when_tasks_half_draining_half_blocking: "LK6"
        = "test_locks::BarrierTests::test_reset_barrier_when_tasks_half_draining_half_blocking";
    upstream_reset_while_tasks_wait_and_wait_again: "LK6"
        = "test_locks::BarrierTests::test_reset_barrier_while_tasks_waiting_and_waiting_again";
    upstream_reset_while_tasks_drain: "LK6" = "test_locks::BarrierTests::test_reset_barrier_while_tasks_draining";
    upstream_abort_when_tasks_half_draining_half_blocking: "LK6"
        = "test_locks::BarrierTests::test_abort_barrier_when_tasks_half_draining_half_blocking";
    upstream_abort_when_exception: "LK6" = "test_locks::BarrierTests::test_abort_barrier_when_exception";
    upstream_abort_when_exception_then_resetting: "LK6"
        = "test_locks::BarrierTests::test_abort_barrier_when_exception_then_resetting";
}

const N: usize = 5;

/// What the tasks of one test share.
struct Shared {
    barrier: Barrier,
    second: Barrier,
    count: Cell<usize>,
    /// Events by name.
    results: RefCell<Vec<&'static str>>,
}

impl Shared {
    fn new(parties: usize, second: usize) -> Rc<Self> {
        Rc::new(Shared {
            barrier: Barrier::new(parties).unwrap(),
            second: Barrier::new(second).unwrap(),
            count: Cell::new(0),
            results: RefCell::default(),
        })
    }

    fn note(&self, name: &'static str) {
        self.results.borrow_mut().push(name);
    }

    fn noted(&self, name: &str) -> usize {
        self.results.borrow().iter().filter(|noted| **noted == name).count()
    }

    fn state(&self) -> String {
        let text = format!("{:?}", self.barrier);
        text.split("state: ").nth(1).unwrap().split(',').next().unwrap().into()
    }
}

fn is_broken<T>(result: Result<T>) -> Result<bool> {
    match result {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::BrokenBarrier => Ok(true),
        Err(error) => Err(error),
    }
}

fn spawn<T: 'static>(
    count: usize,
    shared: &Rc<Shared>,
    coroutine: impl AsyncFn(&Shared) -> Result<T> + Copy + 'static,
) -> Vec<Task<T>> {
    let task = |_| {
        let shared = Rc::clone(shared);
        create_task(async move { coroutine(&shared).await })
    };
    (0..count).map(task).collect()
}

/// Runs `count` tasks to their end.
fn run_all<T: 'static>(
    on: &Machine,
    count: usize,
    shared: &Rc<Shared>,
    coroutine: impl AsyncFn(&Shared) -> Result<T> + Copy + 'static,
) -> Vec<T> {
    let shared = Rc::clone(shared);
    on.run(async move {
        let mut results = Vec::new();
        for task in spawn(count, &shared, coroutine) {
            results.push(task.await?);
        }
        assert_eq!(shared.barrier.n_waiting(), 0);
        Ok(results)
    })
}

fn upstream_context_manager(on: &Machine) {
    let mut results = run_all(on, 3, &Shared::new(3, 1), async |shared| shared.barrier.wait().await);
    results.sort_unstable();
    assert_eq!(results, [0, 1, 2]);
}

fn upstream_filling_one_task_twice(on: &Machine) {
    on.run(async {
        let shared = Shared::new(1, 1);
        for _ in 0..2 {
            let task = spawn(1, &shared, async |shared| shared.barrier.wait().await).remove(0);
            sleep(0.0).await?;
            assert_eq!(shared.barrier.n_waiting(), 0);
            assert!(task.done());
            assert_eq!(task.await?, 0);
        }
        assert!(!shared.barrier.broken());
        Ok(())
    });
}

fn upstream_filling_task_by_task(on: &Machine) {
    on.run(async {
        let shared = Shared::new(3, 1);
        let mut tasks = Vec::new();
        for n in 1..=3 {
            tasks.extend(spawn(1, &shared, async |shared| shared.barrier.wait().await));
            sleep(0.0).await?;
            assert_eq!(shared.barrier.n_waiting(), n % 3);
        }
        for task in tasks {
            task.await?;
        }
        assert_eq!(shared.barrier.n_waiting(), 0);
        Ok(())
    });
}

fn upstream_filling_tasks_wait_twice(on: &Machine) {
    let shared = Shared::new(N, 1);
    let mut results = run_all(on, N, &shared, async |shared| {
        shared.barrier.wait().await?;
        shared.note("first");
        let index = shared.barrier.wait().await?;
        shared.note("second");
        Ok(index)
    });
    results.sort_unstable();
    assert_eq!(results, [0, 1, 2, 3, 4]);
    assert_eq!((shared.noted("first"), shared.noted("second")), (N, N));
    assert!(!shared.barrier.broken());
}

fn upstream_draining_state(on: &Machine) {
    let results = run_all(on, N, &Shared::new(N, 1), async |shared| {
        shared.barrier.wait().await?;
        shared.note(if shared.state() == "Draining" { "draining" } else { "filling" });
        Ok(shared.noted("draining"))
    });
    // All but the last to leave saw it drain.
    assert_eq!(results.into_iter().max(), Some(N - 1));
}

fn upstream_blocking_tasks_while_draining(on: &Machine) {
    let shared = Shared::new(N, N - 2);
    run_all(on, N, &shared, async |shared| {
        shared.barrier.wait().await?;
        shared.count.set(shared.count.get() + 1);
        if shared.count.get() > 2 {
            shared.second.wait().await?;
        }
        shared.barrier.wait().await
    });
    assert_eq!(shared.count.get(), N);
}

fn upstream_filling_tasks_cancel_one(on: &Machine) {
    on.run(async {
        let shared = Shared::new(3, 1);
        let next = |shared: &Rc<Shared>| spawn(1, shared, async |shared| shared.barrier.wait().await).remove(0);
        let t1 = next(&shared);
        sleep(0.0).await?;
        let t2 = next(&shared);
        sleep(0.0).await?;
        assert_eq!(shared.barrier.n_waiting(), 2);
        t1.cancel(None);
        sleep(0.0).await?;
        assert_eq!(shared.barrier.n_waiting(), 1);
        assert!(t1.await.unwrap_err().is_cancelled());
        let t3 = next(&shared);
        sleep(0.0).await?;
        assert_eq!(shared.barrier.n_waiting(), 2);
        let t4 = next(&shared);
        for task in [t2, t3, t4] {
            task.await?;
        }
        assert_eq!((shared.barrier.n_waiting(), shared.barrier.broken()), (0, false));
        Ok(())
    });
}

fn upstream_reset_while_tasks_wait(on: &Machine) {
    on.run(async {
        let shared = Shared::new(N, 1);
        let tasks = spawn(N - 1, &shared, async |shared| is_broken(shared.barrier.wait().await));
        sleep(0.0).await?;
        spawn(1, &shared, async |shared| shared.barrier.reset().await);
        for task in tasks {
            assert!(task.await?);
        }
        assert_eq!((shared.barrier.n_waiting(), shared.barrier.broken()), (0, false));
        assert_eq!(shared.state(), "Filling");
        Ok(())
    });
}

fn upstream_reset_when_tasks_half_draining(on: &Machine) {
    let shared = Shared::new(N, 1);
    run_all(on, N, &shared, async |shared| {
        if is_broken(shared.barrier.wait().await)? {
            shared.note("broken");
        } else {
            shared.count.set(shared.count.get() + 1);
            // So many are still inside.
            if N - shared.count.get() == N / 2 {
                shared.barrier.reset().await?;
            }
        }
        Ok(())
    });
    assert_eq!(shared.noted("broken"), N / 2);
    assert_eq!((shared.state().as_str(), shared.barrier.broken()), ("Filling", false));
}

fn upstream_reset_when_tasks_half_draining_half_blocking(on: &Machine) {
    let shared = Shared::new(N, 1);
    run_all(on, N, &shared, async |shared| {
        if is_broken(shared.barrier.wait().await)? {
            shared.note("inside");
            return shared.barrier.wait().await.map(drop);
        }
        shared.count.set(shared.count.get() + 1);
        if shared.count.get() > N / 2 {
            shared.barrier.reset().await?;
            return shared.barrier.wait().await.map(drop);
        }
        if is_broken(shared.barrier.wait().await)? {
            shared.note("blocked");
        }
        Ok(())
    });
    assert_eq!((shared.noted("inside"), shared.noted("blocked")), (N / 2, 0));
    assert_eq!((shared.state().as_str(), shared.barrier.broken()), ("Filling", false));
}

fn upstream_reset_while_tasks_wait_and_wait_again(on: &Machine) {
    on.run(async {
        let shared = Shared::new(N, 1);
        let tasks = spawn(N - 1, &shared, async |shared| {
            if is_broken(shared.barrier.wait().await)? {
                shared.note("broken");
            }
            shared.barrier.wait().await?;
            shared.note("through");
            Ok(())
        });
        spawn(1, &shared, async |shared| shared.barrier.reset().await);
        sleep(0.0).await?;
        let last = spawn(1, &shared, async |shared| shared.barrier.wait().await);
        for task in tasks {
            task.await?;
        }
        assert!(last[0].done() && !shared.barrier.broken());
        assert_eq!((shared.noted("broken"), shared.noted("through")), (N - 1, N - 1));
        Ok(())
    });
}

fn upstream_reset_while_tasks_drain(on: &Machine) {
    let shared = Shared::new(N, 1);
    run_all(on, N, &shared, async |shared| {
        shared.barrier.wait().await?;
        shared.count.set(shared.count.get() + 1);
        if shared.count.get() == N {
            shared.barrier.reset().await?;
            shared.barrier.wait().await?;
        } else if !is_broken(shared.barrier.wait().await)? {
            shared.note("second");
        }
        shared.barrier.wait().await?;
        shared.note("third");
        Ok(())
    });
    assert_eq!((shared.noted("second"), shared.noted("third")), (N - 1, N));
}

fn upstream_abort_when_tasks_half_draining_half_blocking(on: &Machine) {
    let shared = Shared::new(N, 1);
    run_all(on, N, &shared, async |shared| {
        if is_broken(shared.barrier.wait().await)? {
            shared.note("inside");
            return Ok(());
        }
        shared.count.set(shared.count.get() + 1);
        if shared.count.get() > N / 2 {
            shared.barrier.abort().await?;
        } else if is_broken(shared.barrier.wait().await)? {
            shared.note("blocked");
        }
        Ok(())
    });
    assert!(shared.barrier.broken());
    assert_eq!((shared.noted("inside"), shared.noted("blocked")), (N / 2, N - N / 2 - 1));
}

/// One task aborts the barrier after the first round, instead of entering the second.
async fn second_round_aborted(shared: &Shared) -> Result<()> {
    let first = shared.barrier.wait().await;
    if let Ok(index) = first {
        if index == N / 2 {
            return shared.barrier.abort().await;
        }
        if !is_broken(shared.barrier.wait().await)? {
            shared.note("through");
            return Ok(());
        }
    }
    shared.note("broken");
    Ok(())
}

fn upstream_abort_when_exception(on: &Machine) {
    let shared = Shared::new(N, 1);
    run_all(on, N, &shared, second_round_aborted_of());
    assert!(shared.barrier.broken());
    assert_eq!((shared.noted("through"), shared.noted("broken")), (0, N - 1));
}

fn second_round_aborted_of() -> impl AsyncFn(&Shared) -> Result<()> + Copy {
    async |shared: &Shared| second_round_aborted(shared).await
}

fn upstream_abort_when_exception_then_resetting(on: &Machine) {
    let shared = Shared::new(N, N);
    run_all(on, N, &shared, async |shared| {
        second_round_aborted(shared).await?;
        if shared.second.wait().await? == N / 2 {
            shared.barrier.reset().await?;
        }
        shared.second.wait().await?;
        shared.barrier.wait().await?;
        shared.note("third");
        Ok(())
    });
    assert!(!shared.barrier.broken());
    assert_eq!((shared.noted("through"), shared.noted("broken"), shared.noted("third")), (0, N - 1, N));
}
