//! Traces of conditions.

use super::*;

cases! {
    ($) "sync" in traces_of_conditions as __cases_traces_of_conditions;
    d8_a_notification_of_a_cancelled_waiter_goes_to_another: "CA19";
    d8_the_lock_is_taken_again_however_often_the_waiter_is_cancelled: "CA19";
    d8_m8_notified_waiters_take_the_lock_in_the_order_of_coming: "LK4 TA4" = "test_locks::ConditionTests::test_notify_all";
    lk4_waiting_and_notifying_need_the_lock: "LK4"
        = "test_locks::ConditionTests::test_wait_unacquired",
          "test_locks::ConditionTests::test_wait_for_unacquired",
          "test_locks::ConditionTests::test_notify_unacquired",
          "test_locks::ConditionTests::test_notify_all_unacquired";
    lk4_conditions_share_a_lock: "LK4" = "test_locks::ConditionTests::test_explicit_lock";
    ca19_a_cancelled_waiter_wakes_another_even_if_it_was_not_notified: "CA19";
    wait_for_tests_before_waiting_and_after_each_notification: "LK4" = "test_locks::ConditionTests::test_wait_for";
}

async fn wait_once(trace: Trace, condition: Rc<Condition>, name: &'static str) -> Result<()> {
    let mut guard = condition.lock().await?;
    let result = guard.wait().await;
    match &result {
        Ok(()) => trace.note(format!("{name} woke")),
        Err(_) => trace.note(format!("{name} cancelled {}", guard.is_held() && condition.locked())),
    }
    result
}

/// Tasks t0, t1, … that each take the lock and wait.
fn waiters(trace: &Trace, condition: &Rc<Condition>, names: &[&'static str]) -> Vec<Task<()>> {
    let spawn =
        |name: &&'static str| trace.spawn(format!("t{name}"), wait_once(trace.clone(), Rc::clone(condition), name));
    names.iter().map(spawn).collect()
}

fn d8_a_notification_of_a_cancelled_waiter_goes_to_another(on: &Machine) {
    on.run(async {
        let condition = Rc::new(Condition::new());
        let trace = Trace::begin();
        let tasks = waiters(&trace, &condition, &["0", "1", "2"]);
        pump(2).await?;
        let guard = condition.lock().await?;
        guard.notify(1)?;
        tasks[0].cancel(None);
        drop(guard);
        pump(8).await?;
        trace.expect(&["0 cancelled true+3", "t0!Cancelled+3", "1 woke+4", "t1:()+4"]);
        assert!(!tasks[2].done());
        Ok(())
    });
}

fn d8_the_lock_is_taken_again_however_often_the_waiter_is_cancelled(on: &Machine) {
    on.run(async {
        let condition = Rc::new(Condition::new());
        let trace = Trace::begin();
        let tasks = waiters(&trace, &condition, &["0"]);
        pump(1).await?;
        let guard = condition.lock().await?;
        tasks[0].cancel(Some("first"));
        pump(3).await?;
        assert!(!tasks[0].done());
        tasks[0].cancel(Some("second"));
        pump(2).await?;
        assert!(!tasks[0].done());
        assert_eq!(tasks[0].cancelling(), 2);
        drop(guard);
        pump(4).await?;
        trace.expect(&["0 cancelled true+7", "t0!Cancelled+7"]);
        let error = (&tasks[0]).await.unwrap_err();
        assert_eq!(error.cancel_message(), Some("second"));
        Ok(())
    });
}

fn d8_m8_notified_waiters_take_the_lock_in_the_order_of_coming(on: &Machine) {
    on.run(async {
        let condition = Rc::new(Condition::new());
        let trace = Trace::begin();
        let _tasks = waiters(&trace, &condition, &["0", "1", "2", "3"]);
        pump(2).await?;
        condition.lock().await?.notify(2)?;
        pump(6).await?;
        trace.note("all");
        let _more = waiters(&trace, &condition, &["4", "5"]);
        pump(2).await?;
        condition.lock().await?.notify_all()?;
        pump(6).await?;
        let woken = |name, turn| [format!("{name} woke+{turn}"), format!("t{name}:()+{turn}")];
        let mut expected: Vec<String> = [woken(0, 3), woken(1, 3)].concat();
        expected.push("all+8".into());
        expected.extend([2, 3, 4, 5].map(|name| woken(name, 11)).concat());
        assert_eq!(*trace.events.borrow(), expected);
        Ok(())
    });
}

fn lk4_waiting_and_notifying_need_the_lock(on: &Machine) {
    on.run(async {
        let condition = Condition::new();
        assert_eq!(kind(condition.notify(1)), ErrorKind::Runtime);
        assert_eq!(kind(condition.notify_all()), ErrorKind::Runtime);
        assert_eq!(kind(condition.wait().await), ErrorKind::Runtime);
        assert_eq!(kind(condition.wait_for(|| false).await), ErrorKind::Runtime);
        condition.wait_for(|| true).await?;
        assert_eq!(kind(condition.release()), ErrorKind::Runtime);
        // Any holder will do, as in asyncio; a guard has to hold it itself.
        condition.acquire().await?;
        condition.notify(1)?;
        condition.release()?;
        let mut guard = condition.lock().await?;
        condition.release()?;
        assert!(!guard.is_held());
        assert_eq!(kind(guard.wait().await), ErrorKind::Runtime);
        assert_eq!(kind(guard.notify(1)), ErrorKind::Runtime);
        assert_eq!(kind(guard.notify_all()), ErrorKind::Runtime);
        guard.acquire().await?;
        assert!(guard.is_held() && condition.locked());
        guard.acquire().await?;
        guard.notify_all()?;
        guard.release()?;
        assert!(!condition.locked());
        Ok(())
    });
}

fn lk4_conditions_share_a_lock(on: &Machine) {
    on.run(async {
        let lock = Rc::new(Lock::new());
        let full = Rc::new(Condition::with_lock(Rc::clone(&lock)));
        let empty = Rc::new(Condition::with_lock(Rc::clone(&lock)));
        let trace = Trace::begin();
        waiters(&trace, &full, &["full"]);
        waiters(&trace, &empty, &["empty"]);
        pump(1).await?;
        let held = lock.lock().await?;
        assert!(full.locked() && empty.locked());
        empty.notify_all()?;
        drop(held);
        pump(2).await?;
        trace.expect(&["empty woke+2", "tempty:()+2"]);
        full.lock().await?.notify_all()?;
        pump(2).await?;
        assert!(!lock.locked());
        Ok(())
    });
}

fn ca19_a_cancelled_waiter_wakes_another_even_if_it_was_not_notified(on: &Machine) {
    on.run(async {
        let condition = Rc::new(Condition::new());
        let trace = Trace::begin();
        let tasks = waiters(&trace, &condition, &["0", "1"]);
        pump(1).await?;
        tasks[0].cancel(None);
        pump(3).await?;
        // A wake-up without reason, which asyncio allows itself.
        trace.expect(&["0 cancelled true+2", "t0!Cancelled+2", "1 woke+3", "t1:()+3"]);
        Ok(())
    });
}

fn wait_for_tests_before_waiting_and_after_each_notification(on: &Machine) {
    on.run(async {
        let shared = Rc::new((Condition::new(), std::cell::Cell::new(0), std::cell::Cell::new(0)));
        let trace = Trace::begin();
        trace.spawn("t", {
            let shared = Rc::clone(&shared);
            async move {
                let (condition, value, tests) = &*shared;
                let mut guard = condition.lock().await?;
                let test = || {
                    tests.set(tests.get() + 1);
                    value.get() == 2
                };
                guard.wait_for(test).await?;
                Ok(tests.get())
            }
        });
        let (condition, value, _) = &*shared;
        for n in 1..=2 {
            pump(2).await?;
            value.set(n);
            condition.lock().await?.notify(1)?;
        }
        pump(2).await?;
        trace.expect(&["t:3+5"]);
        Ok(())
    });
}
