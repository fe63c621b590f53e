//! Traces of locks, semaphores, events and barriers.

use super::*;

cases! {
    ($) "sync" in traces as __cases_traces;
    d4_a_woken_waiter_that_is_cancelled_wakes_the_next: "CA16";
    d4_waiters_that_are_cancelled_before_a_release_are_not_served: "CA16";
    d4_a_first_waiter_that_is_cancelled_before_a_release_in_the_same_turn_sees_to_the_next: "CA16";
    d4b_nobody_overtakes_though_the_lock_is_not_locked: "LK1";
    d4c_who_releases_and_acquires_again_goes_to_the_end: "LK1";
    ca16_a_cancelled_waiter_behind_the_first_is_passed_over: "CA16";
    m11_a_cancelled_holder_releases: "LK2";
    d5_a_permit_given_to_a_cancelled_waiter_goes_to_the_next: "CA17";
    d5_a_released_permit_belongs_to_the_waiter_at_once: "LK5";
    lk5_who_joined_because_of_others_before_is_woken_when_they_are_served: "LK5";
    d7_an_event_that_was_set_and_cleared_wakes_nevertheless: "LK3 CA20"
        = "test_locks::EventTests::test_clear_with_waiters";
    m7_an_event_wakes_in_the_order_of_coming: "LK3 FU3";
    d9_a_cancelled_party_leaves_and_numbers_repeat: "CA21";
    d9_reset_and_abort: "LK6" = "test_locks::BarrierTests::test_abort_barrier", "test_locks::BarrierTests::test_reset_barrier";
    d9_who_comes_while_a_barrier_drains_waits_for_the_next_round: "LK6";
    the_last_party_does_not_suspend: "LK6 TA4";
    a_reset_while_a_barrier_drains_breaks_those_who_are_still_inside: "LK6";
    uncontended_operations_take_no_turn_and_released_waiters_one: "TA4 L2";
}

async fn hold_for_a_turn(trace: Trace, lock: Rc<Lock>, name: &'static str) -> Result<()> {
    let _guard = lock.lock().await?;
    trace.note(name);
    sleep(0.0).await
}

/// Tasks t0, t1, … that each take the lock, note their number and hold it for a turn.
fn holders(trace: &Trace, lock: &Rc<Lock>, names: &[&'static str]) -> Vec<Task<()>> {
    let spawn = |(n, name): (usize, &&'static str)| {
        trace.spawn(format!("t{n}"), hold_for_a_turn(trace.clone(), Rc::clone(lock), name))
    };
    names.iter().enumerate().map(spawn).collect()
}

fn d4_a_woken_waiter_that_is_cancelled_wakes_the_next(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        lock.acquire().await?;
        let trace = Trace::begin();
        let tasks = holders(&trace, &lock, &["0", "1", "2"]);
        pump(1).await?;
        lock.release()?;
        assert!(tasks[0].cancel(None));
        pump(8).await?;
        trace.expect(&["t0!Cancelled+2", "1+3", "t1:()+4", "2+5", "t2:()+6"]);
        assert!(tasks[0].cancelled() && tasks[1].done() && tasks[2].done() && !lock.locked());
        Ok(())
    });
}

fn d4_waiters_that_are_cancelled_before_a_release_are_not_served(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        lock.acquire().await?;
        let trace = Trace::begin();
        let tasks = holders(&trace, &lock, &["0", "1", "2"]);
        pump(1).await?;
        tasks[0].cancel(None);
        tasks[1].cancel(None);
        trace.note(lock.locked());
        pump(2).await?;
        lock.release()?;
        pump(6).await?;
        trace.expect(&["true+1", "t0!Cancelled+2", "t1!Cancelled+2", "2+4", "t2:()+5"]);
        Ok(())
    });
}

fn d4_a_first_waiter_that_is_cancelled_before_a_release_in_the_same_turn_sees_to_the_next(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        lock.acquire().await?;
        let trace = Trace::begin();
        let tasks = holders(&trace, &lock, &["0", "1", "2"]);
        pump(1).await?;
        tasks[0].cancel(None);
        lock.release()?;
        pump(8).await?;
        trace.expect(&["t0!Cancelled+2", "1+3", "t1:()+4", "2+5", "t2:()+6"]);
        Ok(())
    });
}

fn d4b_nobody_overtakes_though_the_lock_is_not_locked(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        lock.acquire().await?;
        let trace = Trace::begin();
        let _waiter = holders(&trace, &lock, &["waiter"]);
        pump(1).await?;
        lock.release()?;
        trace.note(lock.locked());
        let _barger = trace.spawn("b", hold_for_a_turn(trace.clone(), Rc::clone(&lock), "barger"));
        pump(6).await?;
        trace.expect(&["false+1", "waiter+2", "t0:()+3", "barger+4", "b:()+5"]);
        Ok(())
    });
}

fn d4c_who_releases_and_acquires_again_goes_to_the_end(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        lock.acquire().await?;
        let trace = Trace::begin();
        let _waiter = holders(&trace, &lock, &["waiter"]);
        pump(1).await?;
        lock.release()?;
        lock.acquire().await?;
        trace.note("me");
        lock.release()?;
        pump(4).await?;
        trace.expect(&["waiter+2", "t0:()+3", "me+4"]);
        Ok(())
    });
}

fn ca16_a_cancelled_waiter_behind_the_first_is_passed_over(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        lock.acquire().await?;
        let trace = Trace::begin();
        let tasks = holders(&trace, &lock, &["0", "1", "2", "3"]);
        pump(1).await?;
        tasks[1].cancel(None);
        lock.release()?;
        pump(8).await?;
        trace.expect(&["t1!Cancelled+2", "0+2", "t0:()+3", "2+4", "t2:()+5", "3+6", "t3:()+7"]);
        Ok(())
    });
}

fn m11_a_cancelled_holder_releases(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        let trace = Trace::begin();
        let task = trace.spawn("t", {
            let lock = Rc::clone(&lock);
            async move {
                let _guard = lock.lock().await?;
                pending::<()>().await
            }
        });
        pump(1).await?;
        task.cancel(None);
        pump(2).await?;
        trace.note(lock.locked());
        trace.expect(&["t!Cancelled+2", "false+3"]);
        Ok(())
    });
}

async fn permit_for_a_turn(trace: Trace, semaphore: Rc<Semaphore>, name: &'static str) -> Result<()> {
    let _permit = semaphore.permit().await?;
    trace.note(name);
    sleep(0.0).await
}

fn d5_a_permit_given_to_a_cancelled_waiter_goes_to_the_next(on: &Machine) {
    on.run(async {
        let semaphore = Rc::new(Semaphore::new(1));
        semaphore.acquire().await?;
        let trace = Trace::begin();
        let spawn = |name: &'static str| {
            trace.spawn(format!("t{name}"), permit_for_a_turn(trace.clone(), Rc::clone(&semaphore), name))
        };
        let tasks: Vec<_> = ["0", "1", "2"].map(spawn).into();
        pump(1).await?;
        semaphore.release();
        tasks[0].cancel(None);
        pump(8).await?;
        trace.note(semaphore.locked());
        trace.expect(&["t0!Cancelled+2", "1+3", "t1:()+4", "2+5", "t2:()+6", "false+9"]);
        Ok(())
    });
}

fn d5_a_released_permit_belongs_to_the_waiter_at_once(on: &Machine) {
    on.run(async {
        let semaphore = Rc::new(Semaphore::new(1));
        semaphore.acquire().await?;
        let trace = Trace::begin();
        let _task = trace.spawn("t", permit_for_a_turn(trace.clone(), Rc::clone(&semaphore), "0"));
        pump(1).await?;
        semaphore.release();
        trace.note(semaphore.locked());
        pump(4).await?;
        trace.expect(&["true+1", "0+2", "t:()+3"]);
        Ok(())
    });
}

fn lk5_who_joined_because_of_others_before_is_woken_when_they_are_served(on: &Machine) {
    on.run(async {
        let semaphore = Rc::new(Semaphore::new(0));
        let trace = Trace::begin();
        let acquire = |name: &'static str| {
            let (trace, semaphore) = (trace.clone(), Rc::clone(&semaphore));
            create_task(async move {
                if name == "2" {
                    (0..3).for_each(|_| semaphore.release());
                    trace.note(semaphore.locked());
                }
                semaphore.acquire().await?;
                trace.note(name);
                Ok(())
            })
        };
        let _tasks = ["1", "2", "3"].map(acquire);
        pump(5).await?;
        trace.expect(&["true+1", "1+2", "2+3", "3+3"]);
        assert!(semaphore.locked());
        Ok(())
    });
}

fn d7_an_event_that_was_set_and_cleared_wakes_nevertheless(on: &Machine) {
    on.run(async {
        let event = Rc::new(Event::new());
        let wait = |event: &Rc<Event>| {
            let event = Rc::clone(event);
            async move { event.wait().await }
        };
        let trace = Trace::begin();
        let _task = trace.spawn("t", wait(&event));
        pump(1).await?;
        event.set();
        event.clear();
        pump(2).await?;
        trace.expect(&["t:()+2"]);

        let trace = Trace::begin();
        let task = trace.spawn("t", wait(&event));
        pump(1).await?;
        event.set();
        task.cancel(None);
        pump(2).await?;
        trace.expect(&["t!Cancelled+2"]);
        Ok(())
    });
}

fn m7_an_event_wakes_in_the_order_of_coming(on: &Machine) {
    on.run(async {
        let event = Rc::new(Event::new());
        let trace = Trace::begin();
        for name in ["0", "1", "2", "3"] {
            let event = Rc::clone(&event);
            trace.spawn(name, async move { event.wait().await });
        }
        pump(1).await?;
        event.set();
        pump(2).await?;
        trace.expect(&["0:()+2", "1:()+2", "2:()+2", "3:()+2"]);
        Ok(())
    });
}

fn arrive(trace: &Trace, barrier: &Rc<Barrier>, names: &[&'static str]) -> Vec<Task<usize>> {
    let spawn = |name: &&'static str| {
        let barrier = Rc::clone(barrier);
        trace.spawn(*name, async move { barrier.wait().await })
    };
    names.iter().map(spawn).collect()
}

fn standing(barrier: &Barrier) -> String {
    format!("{} {}", barrier.n_waiting(), barrier.broken())
}

fn d9_a_cancelled_party_leaves_and_numbers_repeat(on: &Machine) {
    on.run(async {
        let barrier = Rc::new(Barrier::new(3)?);
        let trace = Trace::begin();
        let tasks = arrive(&trace, &barrier, &["t0", "t1"]);
        pump(2).await?;
        trace.note(standing(&barrier));
        tasks[0].cancel(None);
        pump(4).await?;
        trace.note(standing(&barrier));
        let _more = arrive(&trace, &barrier, &["t2", "t3"]);
        pump(8).await?;
        trace.note(standing(&barrier));
        trace.expect(&["2 false+2", "t0!Cancelled+3", "1 false+6", "t3:2+7", "t1:1+8", "t2:1+8", "0 false+14"]);
        Ok(())
    });
}

fn d9_reset_and_abort(on: &Machine) {
    let seen = on.reports(async {
        let barrier = Rc::new(Barrier::new(3)?);
        let trace = Trace::begin();
        let _tasks = arrive(&trace, &barrier, &["t0", "t1"]);
        pump(2).await?;
        barrier.reset().await?;
        trace.note("reset");
        pump(5).await?;
        trace.note(standing(&barrier));
        trace.expect(&["reset+2", "t0!BrokenBarrier+3", "t1!BrokenBarrier+3", "0 false+7"]);

        let trace = Trace::begin();
        let _tasks = arrive(&trace, &barrier, &["t0", "t1"]);
        pump(2).await?;
        barrier.abort().await?;
        trace.note("abort");
        pump(5).await?;
        trace.note(standing(&barrier));
        trace.expect(&["abort+2", "t0!BrokenBarrier+3", "t1!BrokenBarrier+3", "0 true+7"]);

        let trace = Trace::begin();
        let _task = arrive(&trace, &barrier, &["t"]);
        pump(3).await?;
        barrier.reset().await?;
        trace.note(standing(&barrier));
        trace.expect(&["t!BrokenBarrier+1", "0 false+3"]);
        Ok(())
    });
    assert_eq!(messages(&seen), ["task exception was never retrieved"; 5]);
}

fn d9_who_comes_while_a_barrier_drains_waits_for_the_next_round(on: &Machine) {
    on.run(async {
        let barrier = Rc::new(Barrier::new(3)?);
        let trace = Trace::begin();
        let tasks = arrive(&trace, &barrier, &["t0", "t1", "t2", "t3", "t4"]);
        pump(10).await?;
        trace.note(standing(&barrier));
        for task in &tasks[3..] {
            assert!(task.cancel(None));
        }
        pump(3).await?;
        trace.note(standing(&barrier));
        let expected = ["t2:2+1", "t0:0+2", "t1:1+2", "2 false+10", "t3!Cancelled+11", "t4!Cancelled+11", "0 false+13"];
        trace.expect(&expected);
        Ok(())
    });
}

fn the_last_party_does_not_suspend(on: &Machine) {
    on.run(async {
        let barrier = Rc::new(Barrier::new(2)?);
        let trace = Trace::begin();
        let _task = arrive(&trace, &barrier, &["t"]);
        pump(1).await?;
        assert_eq!(barrier.wait().await?, 1);
        trace.note("me");
        pump(4).await?;
        trace.expect(&["me+1", "t:0+2"]);
        Ok(())
    });
}

fn a_reset_while_a_barrier_drains_breaks_those_who_are_still_inside(on: &Machine) {
    let seen = on.reports(async {
        let barrier = Rc::new(Barrier::new(3)?);
        let trace = Trace::begin();
        let _tasks = arrive(&trace, &barrier, &["t0", "t1", "t2"]);
        let _reset = trace.spawn("r", {
            let barrier = Rc::clone(&barrier);
            async move { barrier.reset().await }
        });
        pump(8).await?;
        trace.expect(&["t2:2+1", "r:()+1", "t0!BrokenBarrier+2", "t1!BrokenBarrier+2"]);
        Ok(())
    });
    assert_eq!(messages(&seen), ["task exception was never retrieved"; 2]);
}

fn uncontended_operations_take_no_turn_and_released_waiters_one(on: &Machine) {
    on.run(async {
        let (lock, event, condition) = (Rc::new(Lock::new()), Rc::new(Event::new()), Rc::new(Condition::new()));
        let (semaphore, bounded) = (Rc::new(Semaphore::new(1)), Rc::new(BoundedSemaphore::new(1)));
        let (queue, barrier) = (Rc::new(Queue::new(1)), Barrier::new(1)?);
        event.set();
        let before = turn();
        lock.acquire().await?;
        event.wait().await?;
        condition.acquire().await?;
        semaphore.acquire().await?;
        bounded.acquire().await?;
        queue.join().await?;
        queue.put(1).await?;
        assert_eq!(queue.get().await?, 1);
        queue.task_done()?;
        queue.join().await?;
        assert_eq!(barrier.wait().await?, 0);
        barrier.reset().await?;
        barrier.abort().await?;
        assert_eq!(turn(), before);

        event.clear();
        queue.put(2).await?;
        let trace = Trace::begin();
        macro_rules! waiter {
            ($name:literal, |$shared:ident| $wait:expr) => {{
                let $shared = Rc::clone(&$shared);
                trace.spawn($name, async move { $wait.await });
            }};
        }
        waiter!("lock", |lock| lock.acquire());
        waiter!("event", |event| event.wait());
        waiter!("condition", |condition| condition.acquire());
        waiter!("semaphore", |semaphore| semaphore.acquire());
        waiter!("bounded", |bounded| bounded.acquire());
        waiter!("put", |queue| queue.put(3));
        waiter!("join", |queue| queue.join());
        pump(4).await?;
        lock.release()?;
        event.set();
        condition.release()?;
        semaphore.release();
        bounded.release()?;
        queue.get_nowait()?;
        pump(1).await?;
        queue.get_nowait()?;
        queue.task_done()?;
        queue.task_done()?;
        waiter!("get", |queue| queue.get());
        pump(2).await?;
        queue.put_nowait(4)?;
        pump(1).await?;
        trace.expect(&[
            "lock:()+5",
            "event:()+5",
            "condition:()+5",
            "semaphore:()+5",
            "bounded:()+5",
            "put:()+5",
            "join:()+6",
            "get:4+8",
        ]);
        Ok(())
    });
}
