//! Handles that are dropped or outlive their loop.

use super::*;

cases! {
    ($) "drop" in drop_laws_handles as __cases_drop_laws_handles;
    of_shields_and_gathers_of_what_never_ends_are_freed_with_the_loop: "L6 L9";
    of_a_task_that_timed_out_hold_nothing_when_it_is_done: "L6";
    of_values_free_them_with_the_last_one: "L6";
    of_cancelled_callbacks_free_what_they_hold_at_once: "L6";
}

fn of_shields_and_gathers_of_what_never_ends_are_freed_with_the_loop(on: &Machine) {
    // The leak checker sees whether they are.
    let weak = on.run(async {
        let value = Rc::new(());
        let weak = Rc::downgrade(&value);
        let future = pending::<()>();
        future.add_done_callback(move |_| drop(value));
        drop(shield(&future));
        drop(gather([&future]));
        drop(begun(wait([future.clone()])).await);
        let kept = future.clone();
        create_task(async move { shield(kept).await });
        pump(1).await?;
        Ok(weak)
    });
    assert!(weak.upgrade().is_none());
}

fn of_a_task_that_timed_out_hold_nothing_when_it_is_done(on: &Machine) {
    let weak = on.run(async {
        let value = Rc::new(());
        let weak = Rc::downgrade(&value);
        let task = create_task(async move {
            let _value = value;
            assert!(timeout(1.0, sleep(9.0)).await.unwrap_err().is_timeout());
            Ok(())
        });
        task.await?;
        Ok(weak)
    });
    assert!(weak.upgrade().is_none());
}

fn of_values_free_them_with_the_last_one(on: &Machine) {
    on.run(async {
        let value = Rc::new(());
        let future = done(Rc::clone(&value));
        let task = create_task(ready(Rc::clone(&value)));
        (&task).await?;
        // The clones that were awaited are gone.
        assert_eq!(Rc::strong_count(&value), 3);
        let view = task.view();
        drop((future.clone(), future, task));
        assert_eq!(Rc::strong_count(&value), 2);
        drop(view);
        assert_eq!(Rc::strong_count(&value), 1);
        Ok(())
    });
}

fn of_cancelled_callbacks_free_what_they_hold_at_once(on: &Machine) {
    on.run(async {
        let value = Rc::new(());
        let (one, other, third) = (Rc::clone(&value), Rc::clone(&value), Rc::clone(&value));
        let handle = event_loop().call_soon(move || drop(one))?;
        let timer = event_loop().call_later(5.0, move || drop(other))?;
        let future = pending::<()>();
        let id = future.add_done_callback(move |_| drop(third));
        assert_eq!(Rc::strong_count(&value), 4);
        handle.cancel();
        timer.cancel();
        assert!(future.remove_done_callback(id));
        assert_eq!(Rc::strong_count(&value), 1);
        Ok(())
    });
}
