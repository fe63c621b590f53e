//! Clones that call back into the loop.

use super::*;

cases! {
    ($) "reentrancy" in reentrancy_clones as __cases_reentrancy_clones;
    may_use_the_loop: "L11";
    may_take_the_value_meanwhile_which_is_refused: "L11";
    may_drop_the_last_handle: "L11";
    may_cancel_what_collects_them: "L11";
    that_panic_leave_the_value: "L7 L11";
}

/// A value whose clone does what it is told.
struct OnClone(Rc<dyn Fn()>);

impl Clone for OnClone {
    fn clone(&self) -> Self {
        (self.0)();
        OnClone(Rc::clone(&self.0))
    }
}

fn on_clone(action: impl Fn() + 'static) -> Future<OnClone> {
    done(OnClone(Rc::new(action)))
}

fn may_use_the_loop(on: &Machine) {
    on.run(async {
        let future = on_clone(meddle);
        drop(future.result()?);
        drop((&future).await?);
        drop(gather([&future, &future]).await?);
        let later = pending::<OnClone>();
        let waiting = shield(&later);
        later.set_result(OnClone(Rc::new(meddle)))?;
        drop(waiting.await?);
        assert_eq!(meddled(), 5);
        Ok(())
    });
}

fn may_take_the_value_meanwhile_which_is_refused(on: &Machine) {
    on.run(async {
        let slot: Rc<RefCell<Option<Future<OnClone>>>> = Rc::default();
        let (own, refused) = (Rc::clone(&slot), Rc::new(Cell::new(0)));
        let count = Rc::clone(&refused);
        let future = on_clone(move || {
            let Some(future) = own.take() else { return };
            assert_eq!(future.take_result().map(drop).unwrap_err().kind(), ErrorKind::InvalidState);
            // A clone of the clone is fine.
            drop(future.result().unwrap());
            count.set(count.get() + 1);
        });
        slot.replace(Some(future.clone()));
        drop(future.result()?);
        slot.replace(Some(future.clone()));
        drop((&future).await?);
        assert_eq!(refused.get(), 2);
        drop(future.take_result()?);
        Ok(())
    });
}

fn may_drop_the_last_handle(on: &Machine) {
    /// What `make` makes of a future is given a clone when the future is set; its clone drops the last handle of the future.
    async fn by(name: &str, make: fn(&Future<OnClone>) -> Future<()>) -> Result<()> {
        let slot: Rc<RefCell<Option<Future<OnClone>>>> = Rc::default();
        let own = Rc::clone(&slot);
        let later = pending();
        let waiting = make(&later);
        later.set_result(OnClone(Rc::new(move || drop(own.take()))))?;
        slot.replace(Some(later));
        waiting.await?;
        assert!(slot.take().is_none(), "{name} made no clone");
        Ok(())
    }
    fn without_value<T: 'static>(waiting: Future<T>) -> Future<()> {
        let over = pending();
        let told = over.clone();
        waiting.add_done_callback(move |_| told.set_result(()).unwrap());
        over
    }
    on.run(async {
        by("gather", |future| without_value(gather([future]))).await?;
        by("shield", |future| without_value(shield(future))).await
    });
}

fn may_cancel_what_collects_them(on: &Machine) {
    on.run(async {
        let slot: Rc<RefCell<Option<Future<Vec<OnClone>>>>> = Rc::default();
        let own = Rc::clone(&slot);
        let later = pending();
        let all = gather([&later]);
        slot.replace(Some(all.clone()));
        later.set_result(OnClone(Rc::new(move || _ = own.take().unwrap().cancel(Some("meanwhile")))))?;
        pump(3).await?;
        assert!(all.done() && all.await.is_ok(), "the child was done already: there was nothing to cancel");

        let slot: Rc<RefCell<Option<Future<OnClone>>>> = Rc::default();
        let own = Rc::clone(&slot);
        let later = pending();
        let shielded = shield(&later);
        slot.replace(Some(shielded.clone()));
        later.set_result(OnClone(Rc::new(move || _ = own.take().unwrap().cancel(Some("meanwhile")))))?;
        pump(3).await?;
        assert_eq!(message(&shielded.await.map(drop)).as_deref(), Some("meanwhile"));
        Ok(())
    });
}

fn that_panic_leave_the_value(on: &Machine) {
    on.run(async {
        let armed = Rc::new(Cell::new(true));
        let trap = Rc::clone(&armed);
        let future = on_clone(move || assert!(!trap.get(), "clone"));
        let kept = future.clone();
        let task = create_task(async move { (&kept).await.map(drop) });
        assert_eq!(task.await.unwrap_err().kind(), ErrorKind::Panicked);
        let collected = gather([&future]);
        assert_eq!(collected.await.map(drop).unwrap_err().kind(), ErrorKind::Panicked);
        armed.set(false);
        drop(future.result()?);
        drop(future.take_result()?);

        let later = pending();
        let shielded = shield(&later);
        later.set_result(OnClone(Rc::new(|| panic!("clone"))))?;
        assert_eq!(shielded.await.map(drop).unwrap_err().kind(), ErrorKind::Panicked);
        Ok(())
    });
}
