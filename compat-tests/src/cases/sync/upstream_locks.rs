//! CPython's own tests of locks, events, conditions and semaphores (`test_locks.py`), where they carry over.

use super::*;
use std::cell::Cell;

cases! {
    ($) "sync" in upstream_locks as __cases_upstream_locks;
    upstream_lock_acquire: "LK1 LK2" = "test_locks::LockTests::test_acquire";
    upstream_lock_acquire_cancel: "CA16" = "test_locks::LockTests::test_acquire_cancel";
    upstream_lock_cancel_race: "CA16" = "test_locks::LockTests::test_cancel_race";
    upstream_lock_cancel_release_race: "CA16" = "test_locks::LockTests::test_cancel_release_race";
    upstream_lock_finished_waiter_cancelled: "CA16" = "test_locks::LockTests::test_finished_waiter_cancelled";
    upstream_release_no_waiters_and_context_manager: "LK2"
        = "test_locks::LockTests::test_release_no_waiters",
          "test_locks::LockTests::test_context_manager",
          "test_locks::LockTests::test_lock",
          "test_locks::SemaphoreTests::test_release_no_waiters",
          "test_locks::ConditionTests::test_context_manager",
          "test_pep492::LockTests::test_context_manager_async_with";
    upstream_event_wait: "LK3" = "test_locks::EventTests::test_wait", "test_locks::EventTests::test_wait_on_set";
    upstream_event_wait_cancel: "CA20" = "test_locks::EventTests::test_wait_cancel";
    upstream_event_clear_with_waiters: "LK3"
        = "test_locks::EventTests::test_clear_with_waiters", "test_locks::EventTests::test_clear";
    upstream_condition_wait: "LK4" = "test_locks::ConditionTests::test_wait";
    upstream_condition_wait_cancel: "CA19" = "test_locks::ConditionTests::test_wait_cancel";
    upstream_condition_wait_cancel_contested: "CA19" = "test_locks::ConditionTests::test_wait_cancel_contested";
    upstream_condition_wait_cancel_after_notify: "CA19" = "test_locks::ConditionTests::test_wait_cancel_after_notify";
    upstream_condition_wait_for: "LK4" = "test_locks::ConditionTests::test_wait_for";
    upstream_condition_notify: "LK4" = "test_locks::ConditionTests::test_notify";
    upstream_condition_explicit_lock: "LK4" = "test_locks::ConditionTests::test_explicit_lock";
    upstream_condition_timeout_in_block: "LK4 W1" = "test_locks::ConditionTests::test_timeout_in_block";
    upstream_condition_cancelled_error_is_kept: "CA19"
        = "test_locks::ConditionTests::test_cancelled_error_wakeup",
          "test_locks::ConditionTests::test_cancelled_error_re_aquire";
    upstream_condition_cancelled_wakeup: "CA19"
        = "test_locks::ConditionTests::test_cancelled_wakeup",
          "test_locks::ConditionTests::test_cancelled_wakeup_relock";
    upstream_semaphore_acquire: "LK5" = "test_locks::SemaphoreTests::test_acquire", "test_locks::SemaphoreTests::test_semaphore";
    upstream_semaphore_acquire_cancel: "CA17" = "test_locks::SemaphoreTests::test_acquire_cancel";
    upstream_semaphore_acquire_cancel_before_awoken: "CA17"
        = "test_locks::SemaphoreTests::test_acquire_cancel_before_awoken",
          "test_locks::SemaphoreTests::test_acquire_hang";
    upstream_semaphore_acquire_no_hang: "CA17" = "test_locks::SemaphoreTests::test_acquire_no_hang";
    upstream_semaphore_acquire_fifo_order: "LK5" = "test_locks::SemaphoreTests::test_acquire_fifo_order";
    upstream_semaphore_acquire_fifo_order_2: "LK5" = "test_locks::SemaphoreTests::test_acquire_fifo_order_2";
    upstream_semaphore_acquire_fifo_order_3: "LK5" = "test_locks::SemaphoreTests::test_acquire_fifo_order_3";
    upstream_semaphore_acquire_fifo_order_4: "LK5" = "test_locks::SemaphoreTests::test_acquire_fifo_order_4";
}

type Results = Rc<RefCell<Vec<u32>>>;

/// A task that awaits something and then notes its number.
macro_rules! noting {
    ($results:ident, $n:expr, |$shared:ident| $wait:expr) => {{
        let ($shared, results) = (Rc::clone(&$shared), Rc::clone(&$results));
        create_task(async move {
            $wait.await?;
            results.borrow_mut().push($n);
            Ok(true)
        })
    }};
}

/// Calls `cancel` on a task from a callback.
fn cancel_soon<T: 'static>(task: &Rc<Task<T>>) {
    let task = Rc::clone(task);
    soon(move || {
        task.cancel(None);
    });
}

fn waiters(of: &impl Debug) -> usize {
    let text = format!("{of:?}");
    let (_, count) = text.rsplit_once("waiters: ").unwrap();
    count.trim_end_matches(" }").parse().unwrap()
}

fn upstream_lock_acquire(on: &Machine) {
    on.run(async {
        let (lock, results) = (Rc::new(Lock::new()), Results::default());
        lock.acquire().await?;
        let t1 = noting!(results, 1, |lock| lock.acquire());
        let t2 = noting!(results, 2, |lock| lock.acquire());
        sleep(0.0).await?;
        assert!(results.borrow().is_empty());
        lock.release()?;
        sleep(0.0).await?;
        assert_eq!(*results.borrow(), [1]);
        sleep(0.0).await?;
        assert_eq!(*results.borrow(), [1]);
        let t3 = noting!(results, 3, |lock| lock.acquire());
        lock.release()?;
        sleep(0.0).await?;
        assert_eq!(*results.borrow(), [1, 2]);
        lock.release()?;
        sleep(0.0).await?;
        assert_eq!(*results.borrow(), [1, 2, 3]);
        assert!(t1.await? && t2.await? && t3.await?);
        Ok(())
    });
}

fn upstream_lock_acquire_cancel(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        lock.acquire().await?;
        let waiter = Rc::clone(&lock);
        let task = Rc::new(create_task(async move { waiter.acquire().await }));
        cancel_soon(&task);
        assert!((&*task).await.unwrap_err().is_cancelled());
        assert_eq!(waiters(&lock), 0);
        Ok(())
    });
}

fn upstream_lock_cancel_race(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        let lockit = |blocker: Option<aioli_core::Future<()>>| {
            let lock = Rc::clone(&lock);
            create_task(async move {
                let _guard = lock.lock().await?;
                match blocker {
                    Some(blocker) => blocker.await,
                    None => Ok(()),
                }
            })
        };
        let fa = pending();
        let ta = lockit(Some(fa.clone()));
        sleep(0.0).await?;
        assert!(lock.locked());
        let tb = lockit(None);
        sleep(0.0).await?;
        assert_eq!(waiters(&lock), 1);
        let tc = lockit(None);
        sleep(0.0).await?;
        assert_eq!(waiters(&lock), 2);
        fa.set_result(())?;
        tb.cancel(None);
        sleep(0.0).await?;
        assert!(!lock.locked() && ta.done() && tb.cancelled());
        tc.await
    });
}

fn upstream_lock_cancel_release_race(on: &Machine) {
    on.run(async {
        let (lock, count) = (Rc::new(Lock::new()), Rc::new(Cell::new(0)));
        lock.acquire().await?;
        let lockit = || {
            let (lock, count) = (Rc::clone(&lock), Rc::clone(&count));
            Rc::new(create_task(async move {
                lock.acquire().await?;
                count.set(count.get() + 1);
                Ok(())
            }))
        };
        let (t1, t2, t3) = (lockit(), lockit(), lockit());
        sleep(0.0).await?;
        let (first, trigger) = (Rc::clone(&t1), Rc::clone(&lock));
        soon(move || {
            first.cancel(None);
            trigger.release().unwrap();
        });
        assert!((&*t1).await.unwrap_err().is_cancelled());
        assert_eq!(count.get(), 1);
        assert!(t1.cancelled() && t2.done());
        t3.cancel(None);
        sleep(0.0).await?;
        assert!(t3.cancelled());
        Ok(())
    });
}

fn upstream_lock_finished_waiter_cancelled(on: &Machine) {
    on.run(async {
        let (lock, results) = (Rc::new(Lock::new()), Results::default());
        lock.acquire().await?;
        let tb = noting!(results, 1, |lock| lock.acquire());
        sleep(0.0).await?;
        assert_eq!(waiters(&lock), 1);
        let tc = noting!(results, 2, |lock| lock.acquire());
        tb.cancel(None);
        lock.release()?;
        sleep(0.0).await?;
        assert!(lock.locked() && tb.cancelled());
        tc.await.map(drop)
    });
}

fn upstream_release_no_waiters_and_context_manager(on: &Machine) {
    on.run(async {
        let (lock, condition) = (Lock::new(), Condition::new());
        let (semaphore, bounded) = (Semaphore::new(1), BoundedSemaphore::new(1));
        {
            let _guards =
                (lock.lock().await?, condition.lock().await?, semaphore.permit().await?, bounded.permit().await?);
            assert!(lock.locked() && condition.locked() && semaphore.locked() && bounded.locked());
        }
        assert!(!lock.locked() && !condition.locked() && !semaphore.locked() && !bounded.locked());
        Ok(())
    });
}

fn upstream_event_wait(on: &Machine) {
    on.run(async {
        let (event, results) = (Rc::new(Event::new()), Results::default());
        let t1 = noting!(results, 1, |event| event.wait());
        let t2 = noting!(results, 2, |event| event.wait());
        sleep(0.0).await?;
        assert!(results.borrow().is_empty());
        let t3 = noting!(results, 3, |event| event.wait());
        event.set();
        sleep(0.0).await?;
        assert_eq!(*results.borrow(), [3, 1, 2]);
        assert!(t1.await? && t2.await? && t3.await?);
        event.wait().await
    });
}

fn upstream_event_wait_cancel(on: &Machine) {
    on.run(async {
        let event = Rc::new(Event::new());
        let waiter = Rc::clone(&event);
        let task = Rc::new(create_task(async move { waiter.wait().await }));
        cancel_soon(&task);
        assert!((&*task).await.unwrap_err().is_cancelled());
        assert_eq!(waiters(&event), 0);
        Ok(())
    });
}

fn upstream_event_clear_with_waiters(on: &Machine) {
    on.run(async {
        let (event, results) = (Rc::new(Event::new()), Results::default());
        let task = noting!(results, 1, |event| event.wait());
        sleep(0.0).await?;
        event.set();
        event.clear();
        assert!(!event.is_set());
        event.set();
        event.set();
        assert_eq!(waiters(&event), 1);
        sleep(0.0).await?;
        assert_eq!((results.borrow().len(), waiters(&event)), (1, 0));
        assert!(task.await? && event.is_set());
        event.clear();
        assert!(!event.is_set());
        Ok(())
    });
}

async fn acquire_and_wait(condition: &Condition) -> Result<()> {
    condition.acquire().await?;
    condition.wait().await
}

fn upstream_condition_wait(on: &Machine) {
    on.run(async {
        let (condition, results) = (Rc::new(Condition::new()), Results::default());
        let t1 = noting!(results, 1, |condition| acquire_and_wait(&condition));
        let t2 = noting!(results, 2, |condition| acquire_and_wait(&condition));
        let t3 = noting!(results, 3, |condition| acquire_and_wait(&condition));
        sleep(0.0).await?;
        assert!(results.borrow().is_empty() && !condition.locked());
        condition.acquire().await?;
        condition.notify(1)?;
        sleep(0.0).await?;
        assert!(results.borrow().is_empty() && condition.locked());
        condition.release()?;
        sleep(0.0).await?;
        assert_eq!(*results.borrow(), [1]);
        assert!(condition.locked());
        condition.notify(2)?;
        sleep(0.0).await?;
        assert_eq!(*results.borrow(), [1]);
        for woken in 2..=3 {
            condition.release()?;
            sleep(0.0).await?;
            assert_eq!(results.borrow().len(), woken);
            assert!(condition.locked());
        }
        assert!(t1.await? && t2.await? && t3.await?);
        assert_eq!(*results.borrow(), [1, 2, 3]);
        Ok(())
    });
}

fn upstream_condition_wait_cancel(on: &Machine) {
    on.run(async {
        let condition = Rc::new(Condition::new());
        condition.acquire().await?;
        let waiter = Rc::clone(&condition);
        let task = Rc::new(create_task(async move { waiter.wait().await }));
        cancel_soon(&task);
        assert!((&*task).await.unwrap_err().is_cancelled());
        assert_eq!(waiters(&condition), 0);
        assert!(condition.locked());
        Ok(())
    });
}

fn upstream_condition_wait_cancel_contested(on: &Machine) {
    on.run(async {
        let condition = Rc::new(Condition::new());
        condition.acquire().await?;
        let waiter = Rc::clone(&condition);
        let task = Rc::new(create_task(async move { waiter.wait().await }));
        sleep(0.0).await?;
        assert!(!condition.locked());
        condition.acquire().await?;
        condition.notify(1)?;
        cancel_soon(&task);
        let release = Rc::clone(&condition);
        soon(move || release.release().unwrap());
        assert!((&*task).await.unwrap_err().is_cancelled());
        assert!(condition.locked());
        Ok(())
    });
}

fn upstream_condition_wait_cancel_after_notify(on: &Machine) {
    on.run(async {
        let condition = Rc::new(Condition::new());
        let waiter = Rc::clone(&condition);
        let task = create_task(async move { waiter.lock().await?.wait().await });
        sleep(0.0).await?;
        condition.acquire().await?;
        condition.notify(1)?;
        sleep(0.0).await?;
        task.cancel(None);
        sleep(0.0).await?;
        assert!(!task.done());
        condition.release()?;
        sleep(0.0).await?;
        assert!(task.cancelled());
        Ok(())
    });
}

fn upstream_condition_wait_for(on: &Machine) {
    on.run(async {
        let shared = Rc::new((Condition::new(), Cell::new(false)));
        let waiter = Rc::clone(&shared);
        let task = create_task(async move {
            let (condition, state) = &*waiter;
            condition.acquire().await?;
            condition.wait_for(|| state.get()).await?;
            condition.release()
        });
        let (condition, state) = &*shared;
        sleep(0.0).await?;
        for expected in [false, true] {
            state.set(expected);
            condition.acquire().await?;
            condition.notify(1)?;
            condition.release()?;
            sleep(0.0).await?;
            assert_eq!(task.done(), expected);
        }
        task.await
    });
}

fn upstream_condition_notify(on: &Machine) {
    on.run(async {
        let (condition, results) = (Rc::new(Condition::new()), Results::default());
        let spawn = |n| {
            let (condition, results) = (Rc::clone(&condition), Rc::clone(&results));
            create_task(async move {
                condition.lock().await?.wait().await?;
                results.borrow_mut().push(n);
                Ok(true)
            })
        };
        let tasks = [1, 2, 3].map(spawn);
        sleep(0.0).await?;
        condition.lock().await?.notify(1)?;
        sleep(0.0).await?;
        assert_eq!(*results.borrow(), [1]);
        let guard = condition.lock().await?;
        guard.notify(1)?;
        guard.notify(2048)?;
        guard.release()?;
        sleep(0.0).await?;
        assert_eq!(*results.borrow(), [1, 2, 3]);
        let more = [4, 5].map(spawn);
        sleep(0.0).await?;
        condition.lock().await?.notify_all()?;
        sleep(0.0).await?;
        assert_eq!(*results.borrow(), [1, 2, 3, 4, 5]);
        assert!(tasks.iter().chain(&more).all(|task| task.done()));
        Ok(())
    });
}

fn upstream_condition_explicit_lock(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        let condition = Condition::with_lock(Rc::clone(&lock));
        let guard = condition.lock().await?;
        assert!(lock.locked() && condition.locked());
        drop(guard);
        assert!(!lock.locked() && !condition.locked());
        let guard = lock.lock().await?;
        assert!(lock.locked() && condition.locked());
        drop(guard);
        assert!(!lock.locked() && !condition.locked());
        Ok(())
    });
}

fn upstream_condition_timeout_in_block(on: &Machine) {
    on.run(async {
        let condition = Condition::new();
        let mut guard = condition.lock().await?;
        assert!(wait_for(guard.wait(), 0.5).await.unwrap_err().is_timeout());
        assert!(guard.is_held());
        Ok(())
    });
}

fn upstream_condition_cancelled_error_is_kept(on: &Machine) {
    // Cancelled while it waits to be notified, and while it waits for the lock.
    for notified in [false, true] {
        on.run(async move {
            let condition = Rc::new(Condition::new());
            let waiter = Rc::clone(&condition);
            let task = create_task(async move { waiter.lock().await?.wait_for(|| false).await });
            sleep(0.0).await?;
            if notified {
                condition.acquire().await?;
                condition.notify(1)?;
                sleep(0.0).await?;
                task.cancel(Some("foo"));
                condition.release()?;
            } else {
                task.cancel(Some("foo"));
            }
            assert_eq!(task.await.unwrap_err().cancel_message(), Some("foo"));
            Ok(())
        });
    }
}

fn upstream_condition_cancelled_wakeup(on: &Machine) {
    // Cancelled before it runs after the notification, and while it waits for the lock.
    for relocking in [false, true] {
        on.run(async move {
            let shared = Rc::new((Condition::new(), Cell::new(0i32)));
            let consumers = [(); 2].map(|()| {
                let shared = Rc::clone(&shared);
                create_task(async move {
                    let (condition, state) = &*shared;
                    let mut guard = condition.lock().await?;
                    loop {
                        guard.wait_for(|| state.get() != 0).await?;
                        if state.get() < 0 {
                            return Ok(());
                        }
                        state.set(state.get() - 1);
                    }
                })
            });
            sleep(0.0).await?;
            let (condition, state) = &*shared;
            let mut guard = condition.lock().await?;
            state.set(state.get() + 1);
            guard.notify(1)?;
            if relocking {
                sleep(0.0).await?;
            }
            consumers[0].cancel(None);
            let consumed = timeout(0.01, guard.wait_for(|| state.get() == 0)).await;
            assert!(consumed.is_ok() || consumed.unwrap_err().is_timeout());
            assert_eq!(state.get(), 0);
            state.set(-1);
            guard.notify_all()?;
            drop(guard);
            let [_, other] = consumers;
            other.await
        });
    }
}

fn upstream_semaphore_acquire(on: &Machine) {
    on.run(async {
        let (semaphore, results) = (Rc::new(Semaphore::new(3)), Results::default());
        semaphore.acquire().await?;
        semaphore.acquire().await?;
        assert!(!semaphore.locked());
        let t1 = noting!(results, 1, |semaphore| semaphore.acquire());
        let t2 = noting!(results, 2, |semaphore| semaphore.acquire());
        let t3 = noting!(results, 3, |semaphore| semaphore.acquire());
        sleep(0.0).await?;
        assert_eq!(*results.borrow(), [1]);
        assert!(semaphore.locked());
        assert_eq!(waiters(&semaphore), 2);
        let t4 = noting!(results, 4, |semaphore| semaphore.acquire());
        semaphore.release();
        semaphore.release();
        sleep(0.0).await?;
        assert_eq!(*results.borrow(), [1, 2, 3]);
        assert!(semaphore.locked());
        assert_eq!(waiters(&semaphore), 1);
        semaphore.release();
        assert!(t1.await? && t2.await? && t3.await? && t4.await?);
        Ok(())
    });
}

fn upstream_semaphore_acquire_cancel(on: &Machine) {
    on.run(async {
        let semaphore = Rc::new(Semaphore::new(1));
        semaphore.acquire().await?;
        let waiter = Rc::clone(&semaphore);
        let task = Rc::new(create_task(async move { waiter.acquire().await }));
        cancel_soon(&task);
        assert!((&*task).await.unwrap_err().is_cancelled());
        assert_eq!(waiters(&semaphore), 0);
        Ok(())
    });
}

fn upstream_semaphore_acquire_cancel_before_awoken(on: &Machine) {
    on.run(async {
        let (semaphore, results) = (Rc::new(Semaphore::new(0)), Results::default());
        let tasks = [1, 2, 3, 4].map(|n| noting!(results, n, |semaphore| semaphore.acquire()));
        sleep(0.0).await?;
        tasks[0].cancel(None);
        tasks[1].cancel(None);
        semaphore.release();
        pump(2).await?;
        assert!(tasks[2].done() && !tasks[3].done());
        assert_eq!(*results.borrow(), [3]);
        assert!(semaphore.locked());
        Ok(())
    });
}

fn upstream_semaphore_acquire_no_hang(on: &Machine) {
    on.run(async {
        let semaphore = Rc::new(Semaphore::new(1));
        let second: Rc<RefCell<Option<Task<()>>>> = Rc::default();
        let (first, other) = (Rc::clone(&semaphore), Rc::clone(&second));
        let t1 = create_task(async move {
            let permit = first.permit().await?;
            sleep(0.0).await?;
            drop(permit);
            other.borrow().as_ref().unwrap().cancel(None);
            Ok(())
        });
        let held = Rc::clone(&semaphore);
        *second.borrow_mut() = Some(create_task(async move {
            let _permit = held.permit().await?;
            panic!("it was cancelled");
        }));
        t1.await?;
        pump(2).await?;
        assert!(second.borrow().as_ref().unwrap().cancelled());
        wait_for(semaphore.acquire(), 1.0).await
    });
}

fn upstream_semaphore_acquire_fifo_order(on: &Machine) {
    on.run(async {
        let semaphore = Rc::new(Semaphore::new(1));
        let results = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&results);
        task_group(async move |group| {
            for tag in 1..=3 {
                let (semaphore, results) = (Rc::clone(&semaphore), Rc::clone(&noted));
                group.create_task(async move {
                    for round in 1..=2 {
                        let _permit = semaphore.permit().await?;
                        results.borrow_mut().push((tag, round));
                        sleep(0.01).await?;
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })
        .await?;
        assert_eq!(*results.borrow(), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)]);
        Ok(())
    });
}

fn upstream_semaphore_acquire_fifo_order_2(on: &Machine) {
    on.run(async {
        let (semaphore, results) = (Rc::new(Semaphore::new(1)), Results::default());
        let t1 = noting!(results, 1, |semaphore| semaphore.acquire());
        let (again, noted) = (Rc::clone(&semaphore), Rc::clone(&results));
        let t2 = create_task(async move {
            again.acquire().await?;
            noted.borrow_mut().push(2);
            again.release();
            again.acquire().await?;
            noted.borrow_mut().push(4);
            Ok(true)
        });
        let t3 = noting!(results, 3, |semaphore| semaphore.acquire());
        sleep(0.0).await?;
        semaphore.release();
        semaphore.release();
        assert!(t1.await? && t2.await? && t3.await?);
        assert_eq!(*results.borrow(), [1, 2, 3, 4]);
        Ok(())
    });
}

fn upstream_semaphore_acquire_fifo_order_3(on: &Machine) {
    on.run(async {
        let (semaphore, results) = (Rc::new(Semaphore::new(0)), Results::default());
        let [t1, t2, t3] = [1, 2, 3].map(|n| noting!(results, n, |semaphore| semaphore.acquire()));
        sleep(0.0).await?;
        t1.cancel(None);
        sleep(0.0).await?;
        semaphore.release();
        semaphore.release();
        assert!(t1.await.is_err() && t2.await? && t3.await?);
        assert_eq!(*results.borrow(), [2, 3]);
        Ok(())
    });
}

fn upstream_semaphore_acquire_fifo_order_4(on: &Machine) {
    on.run(async {
        let (semaphore, results) = (Rc::new(Semaphore::new(0)), Results::default());
        let (first, noted) = (Rc::clone(&semaphore), Rc::clone(&results));
        let t1 = create_task(async move {
            first.acquire().await?;
            // Its successor is to run after those who wait already.
            let late = Rc::clone(&noted);
            let t4 = create_task(async move {
                late.borrow_mut().push(4);
                Ok(true)
            });
            noted.borrow_mut().push(1);
            Ok(t4)
        });
        let (second, noted) = (Rc::clone(&semaphore), Rc::clone(&results));
        let t2 = create_task(async move {
            (0..3).for_each(|_| second.release());
            assert!(second.locked());
            second.acquire().await?;
            noted.borrow_mut().push(2);
            Ok(true)
        });
        let t3 = noting!(results, 3, |semaphore| semaphore.acquire());
        sleep(0.0).await?;
        assert_eq!(waiters(&semaphore), 3);
        assert!(t1.await?.await? && t2.await? && t3.await?);
        assert_eq!(*results.borrow(), [1, 2, 3, 4]);
        Ok(())
    });
}
