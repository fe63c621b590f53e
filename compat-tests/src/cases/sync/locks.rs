//! Rules of locks, events, semaphores and barriers that are no traces.

use super::*;
use std::cell::Cell;

cases! {
    ($) "sync" in locks as __cases_locks;
    lk2_a_lock_is_released_by_anyone_but_only_once: "LK2" = "test_locks::LockTests::test_release_not_acquired";
    lk2_a_lock_is_not_reentrant: "LK2";
    a_guard_does_not_release_what_another_holds: "L6 LK2";
    lk5_a_bounded_semaphore_has_its_bound: "LK5" = "test_locks::SemaphoreTests::test_release_not_acquired";
    lk5_a_semaphore_grows_by_what_is_released: "LK5" = "test_locks::SemaphoreTests::test_initial_value_zero";
    lk6_a_barrier_has_parties: "LK6" = "test_locks::BarrierTests::test_barrier_parties", "test_locks::BarrierTests::test_barrier";
    lk6_a_broken_barrier_refuses_until_it_is_reset: "LK6"
        = "test_locks::BarrierTests::test_abort_barrier",
          "test_locks::BarrierTests::test_reset_barrier";
    lk7_a_primitive_belongs_to_the_first_loop_that_waited_at_it: "LK7" = "test_locks::ConditionTests::test_ambiguous_loops";
    lk7_what_does_not_wait_needs_no_loop: "LK7";
    a_refused_wait_of_a_condition_keeps_the_lock: "LK4";
    l9_a_loop_that_ends_leaves_no_waiters: "L9";
    debug_output_tells_the_state: "X8"
        = "test_locks::LockTests::test_repr",
          "test_locks::EventTests::test_repr",
          "test_locks::ConditionTests::test_repr",
          "test_locks::SemaphoreTests::test_repr",
          "test_locks::BarrierTests::test_repr";
    an_event_may_be_set_by_those_it_wakes: "LK3 L11";
    many_waiters_come_and_go: "L6 LK2";
}

fn lk2_a_lock_is_released_by_anyone_but_only_once(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        assert_eq!(kind(lock.release()), ErrorKind::Runtime);
        lock.acquire().await?;
        let other = Rc::clone(&lock);
        create_task(async move { other.release() }).await?;
        assert!(!lock.locked());
        assert_eq!(kind(lock.release()), ErrorKind::Runtime);
        Ok(())
    });
}

fn lk2_a_lock_is_not_reentrant(on: &Machine) {
    on.run(async {
        let lock = Lock::new();
        lock.acquire().await?;
        assert!(timeout(1.0, lock.acquire()).await.unwrap_err().is_timeout());
        assert!(lock.locked());
        Ok(())
    });
}

fn a_guard_does_not_release_what_another_holds(on: &Machine) {
    on.run(async {
        let lock = Lock::new();
        let stale = lock.lock().await?;
        lock.release()?;
        let held = lock.lock().await?;
        drop(stale);
        assert!(lock.locked());
        drop(held);
        assert!(!lock.locked());
        let stale = lock.lock().await?;
        lock.release()?;
        assert_eq!(kind(stale.release()), ErrorKind::Runtime);
        Ok(())
    });
}

fn lk5_a_bounded_semaphore_has_its_bound(on: &Machine) {
    on.run(async {
        let semaphore = BoundedSemaphore::new(2);
        assert_eq!(kind(semaphore.release()), ErrorKind::Value);
        let (first, second) = (semaphore.permit().await?, semaphore.permit().await?);
        assert!(semaphore.locked());
        semaphore.release()?;
        drop(first);
        // One was released by other means, so the second has nothing to give back.
        drop(second);
        assert_eq!(kind(semaphore.release()), ErrorKind::Value);
        semaphore.permit().await?.forget();
        semaphore.release()?;
        assert_eq!(kind(semaphore.release()), ErrorKind::Value);
        Ok(())
    });
}

fn lk5_a_semaphore_grows_by_what_is_released(on: &Machine) {
    on.run(async {
        let semaphore = Semaphore::new(0);
        assert!(semaphore.locked());
        semaphore.release();
        semaphore.release();
        semaphore.acquire().await?;
        semaphore.acquire().await?;
        assert!(semaphore.locked());
        let most = Semaphore::new(usize::MAX);
        most.release();
        most.acquire().await?;
        assert!(!most.locked());
        Ok(())
    });
}

fn lk6_a_barrier_has_parties(_: &Machine) {
    assert_eq!(kind(Barrier::new(0).map(drop)), ErrorKind::Value);
    let barrier = Barrier::new(4).unwrap();
    assert_eq!((barrier.parties(), barrier.n_waiting(), barrier.broken()), (4, 0, false));
}

fn lk6_a_broken_barrier_refuses_until_it_is_reset(on: &Machine) {
    on.run(async {
        let barrier = Barrier::new(1)?;
        barrier.abort().await?;
        assert!(barrier.broken());
        assert_eq!(kind(barrier.wait().await), ErrorKind::BrokenBarrier);
        barrier.reset().await?;
        assert_eq!(barrier.wait().await?, 0);
        Ok(())
    });
}

/// Starts a wait in a loop that is then left alone, and waits once more in another loop.
fn in_two_loops(on: &Machine, wait: impl AsyncFn() -> Result<()> + 'static) -> Result<()> {
    let wait = Rc::new(wait);
    let first = on.runner();
    let waiting = Rc::clone(&wait);
    first.run(async move {
        create_task(async move { waiting().await });
        sleep(0.0).await
    })?;
    on.try_run(async move { wait().await })
}

fn lk7_a_primitive_belongs_to_the_first_loop_that_waited_at_it(on: &Machine) {
    let lock = Lock::new();
    take_outside(&lock);
    let event = Event::new();
    let semaphore = Semaphore::new(0);
    let bounded = BoundedSemaphore::new(0);
    let condition = Condition::new();
    let barrier = Barrier::new(3).unwrap();
    let getting = Queue::<u32>::new(0);
    let putting = Queue::new(1);
    putting.put_nowait(1).unwrap();
    let joining = Queue::new(0);
    joining.put_nowait(1).unwrap();
    let refused = [
        in_two_loops(on, async move || lock.acquire().await),
        in_two_loops(on, async move || event.wait().await),
        in_two_loops(on, async move || semaphore.acquire().await),
        in_two_loops(on, async move || bounded.acquire().await),
        in_two_loops(on, async move || condition.lock().await?.wait().await),
        in_two_loops(on, async move || barrier.wait().await.map(drop)),
        in_two_loops(on, async move || getting.get().await.map(drop)),
        in_two_loops(on, async move || putting.put(2).await),
        in_two_loops(on, async move || joining.join().await),
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Runtime);
        assert!(error.to_string().ends_with("is bound to a different event loop"), "{error}");
    }
}

/// Takes a lock that is free, which needs no loop.
fn take_outside(lock: &Lock) {
    futures::executor::block_on(lock.acquire()).unwrap();
}

fn lk7_what_does_not_wait_needs_no_loop(on: &Machine) {
    let lock = Lock::new();
    take_outside(&lock);
    assert_eq!(kind(futures::executor::block_on(lock.acquire())), ErrorKind::Runtime);
    lock.release().unwrap();
    let queue = Rc::new(Queue::new(1));
    futures::executor::block_on(queue.put(1)).unwrap();
    // The queue was in use outside of a loop; a loop may have it now.
    on.run(async move {
        queue.get().await?;
        assert!(timeout(1.0, queue.get()).await.unwrap_err().is_timeout());
        Ok(())
    });
}

fn a_refused_wait_of_a_condition_keeps_the_lock(on: &Machine) {
    let condition = Rc::new(Condition::new());
    let first = Rc::clone(&condition);
    on.run(async move { Ok(timeout(1.0, first.lock().await?.wait()).await.is_err()) });
    on.run(async move {
        let mut guard = condition.lock().await?;
        assert_eq!(kind(guard.wait().await), ErrorKind::Runtime);
        assert!(guard.is_held());
        Ok(())
    });
}

fn l9_a_loop_that_ends_leaves_no_waiters(on: &Machine) {
    let lock = Rc::new(Lock::new());
    let left = Rc::clone(&lock);
    on.run(async move {
        left.acquire().await?;
        let waiter = Rc::clone(&left);
        create_task(async move { waiter.acquire().await });
        sleep(0.0).await?;
        assert_eq!(format!("{left:?}"), "Lock { locked: true, waiters: 1 }");
        Ok(())
    });
    assert_eq!(format!("{lock:?}"), "Lock { locked: true, waiters: 0 }");
    lock.release().unwrap();
    take_outside(&lock);
}

fn debug_output_tells_the_state(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        lock.acquire().await?;
        let waiter = Rc::clone(&lock);
        let task = create_task(async move { waiter.acquire().await });
        sleep(0.0).await?;
        assert_eq!(format!("{lock:?}"), "Lock { locked: true, waiters: 1 }");
        assert_eq!(format!("{:?}", Event::default()), "Event { set: false, waiters: 0 }");
        assert_eq!(format!("{:?}", Condition::default()), "Condition { locked: false, waiters: 0 }");
        assert_eq!(format!("{:?}", Semaphore::new(2)), "Semaphore { value: 2, waiters: 0 }");
        let bounded = format!("{:?}", BoundedSemaphore::new(2));
        assert_eq!(bounded, "BoundedSemaphore { value: 2, bound: 2, waiters: 0 }");
        let barrier = format!("{:?}", Barrier::new(3)?);
        assert_eq!(barrier, "Barrier { state: Filling, waiting: 0, parties: 3 }");
        lock.release()?;
        task.await?;
        assert_eq!(format!("{lock:?}"), "Lock { locked: true, waiters: 0 }");
        Ok(())
    });
}

fn an_event_may_be_set_by_those_it_wakes(on: &Machine) {
    on.run(async {
        let event = Rc::new(Event::new());
        let count = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let (event, count) = (Rc::clone(&event), Rc::clone(&count));
            create_task(async move {
                for _ in 0..2 {
                    event.wait().await?;
                    event.clear();
                    count.set(count.get() + 1);
                }
                Ok(())
            });
        }
        pump(1).await?;
        event.set();
        pump(1).await?;
        assert_eq!(count.get(), 3);
        event.set();
        pump(1).await?;
        assert_eq!(count.get(), 6);
        Ok(())
    });
}

fn many_waiters_come_and_go(on: &Machine) {
    on.run(async {
        let semaphore = Rc::new(Semaphore::new(0));
        for _ in 0..2 {
            let trace = Rc::new(RefCell::new(Vec::new()));
            let wait = |n: usize| {
                let (semaphore, trace) = (Rc::clone(&semaphore), Rc::clone(&trace));
                create_task(async move {
                    semaphore.acquire().await?;
                    trace.borrow_mut().push(n);
                    Ok(())
                })
            };
            let tasks: Vec<_> = (0..3000).map(wait).collect();
            sleep(0.0).await?;
            assert_eq!(format!("{semaphore:?}"), "Semaphore { value: 0, waiters: 3000 }");
            tasks.iter().skip(1).step_by(2).for_each(|task| assert!(task.cancel(None)));
            (0..1500).for_each(|_| semaphore.release());
            pump(2).await?;
            assert_eq!(*trace.borrow(), (0..3000).step_by(2).collect::<Vec<_>>());
            assert_eq!(format!("{semaphore:?}"), "Semaphore { value: 0, waiters: 0 }");
        }
        Ok(())
    });
}

/// Two implementations for what is `Send`, so that naming one without saying which is an error.
trait OneUnlessSend<Which> {
    const ONE: () = ();
}

impl<T: ?Sized> OneUnlessSend<()> for T {}

impl<T: ?Sized + Send> OneUnlessSend<u8> for T {}

/// This compiles as long as none of them is `Send`.
const _: [(); 9] = [
    <Lock as OneUnlessSend<_>>::ONE,
    <Event as OneUnlessSend<_>>::ONE,
    <Condition as OneUnlessSend<_>>::ONE,
    <Semaphore as OneUnlessSend<_>>::ONE,
    <BoundedSemaphore as OneUnlessSend<_>>::ONE,
    <Barrier as OneUnlessSend<_>>::ONE,
    <Queue<u32> as OneUnlessSend<_>>::ONE,
    <PriorityQueue<u32> as OneUnlessSend<_>>::ONE,
    <LifoQueue<u32> as OneUnlessSend<_>>::ONE,
];
