//! Which task is the current one, and which is suspended, for code that runs where one hardly expects any.

mod common;

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, Wait as DriverWait};
use aioli_core::op::Op;
use aioli_core::*;
use aioli_exec_sim::SimDriver;

use common::*;

/// The waker of a combinator that calls a function of this thread instead of waking anybody.
struct Calls;

thread_local! {
    static CALLED: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        if let Some(call) = CALLED.take() {
            call();
        }
    }
}

/// The task was taken for one that is being polled, and its request for one that the end of its step would pass on: it never ended.
#[test]
fn a_task_whose_step_has_ended_is_suspended_for_one_that_its_waker_starts() {
    sim(async {
        let token = CancelToken::new();
        let inner = token.clone();
        let task: Task<()> = create_task(async move {
            let mut scope = Box::pin(inner.run(std::future::pending::<Result<()>>()));
            let mut asked = false;
            poll_fn(|_| {
                // Nobody but the combinator's waker is told of the token.
                let polled = scope.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Calls))));
                if !std::mem::replace(&mut asked, true) {
                    assert!(polled.is_pending());
                    let (itself, token) = (current_task().unwrap(), token.clone());
                    CALLED.set(Some(Box::new(move || {
                        let cancel = async move { Ok(itself.cancel(Some("by the waker"))) };
                        drop(TaskBuilder::new().eager_start(true).create_task(cancel));
                    })));
                    token.cancel(None);
                }
                polled
            })
            .await
        });
        assert_eq!(task.await.unwrap_err().cancel_message(), Some("by the waker"));
        Ok(())
    });
}

/// A driver whose clock calls a function when it is read.
struct Clocked(SimDriver, Rc<dyn Fn()>);

impl Driver for Clocked {
    fn report(&self) -> DriverReport {
        self.0.report()
    }
    fn now(&self) -> Instant {
        (self.1)();
        self.0.now()
    }
    fn is_virtual(&self) -> bool {
        self.0.is_virtual()
    }
    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        self.0.submit(id, op)
    }
    fn cancel(&mut self, id: OpId) {
        self.0.cancel(id);
    }
    fn turn(&mut self, wait: DriverWait, completions: &mut Completions) -> io::Result<()> {
        self.0.turn(wait, completions)
    }
    fn kicker(&self) -> Arc<dyn Kick> {
        self.0.kicker()
    }
    fn shutdown(&mut self, completions: &mut Completions) {
        self.0.shutdown(completions);
    }
}

/// The step that started them is over.
#[test]
fn no_task_is_current_when_the_clock_is_read_for_timers() {
    let seen = Rc::new(Cell::new(false));
    let note = Rc::clone(&seen);
    let driver = Clocked(SimDriver::new(), Rc::new(move || note.set(note.get() || current_task().is_some())));
    run(driver, async {
        sleep(1.0).await?;
        sleep(1.0).await
    })
    .unwrap();
    assert!(!seen.get());
}

/// The task had ended but for being told so, and was ended a second time by the loop that closed: the process ended.
#[test]
fn a_clock_that_panics_after_the_last_step_of_a_task_leaves_it_its_result() {
    let broken = Rc::new(Cell::new(false));
    let (breaks, reads) = (Rc::clone(&broken), Rc::clone(&broken));
    let driver = Clocked(SimDriver::new(), Rc::new(move || assert!(!reads.take(), "the clock is broken")));
    let kept = Rc::new(Cell::new(None));
    let keeps = Rc::clone(&kept);
    let parked = Rc::new(Cell::new(None));
    let parks = Rc::clone(&parked);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(driver, async move {
            keeps.set(Some(create_task(async move {
                let mut begun = Box::pin(sleep(1.0));
                assert!(futures::poll!(&mut begun).is_pending());
                // Armed when the step is over, which reads the clock.
                parks.set(Some(begun));
                breaks.set(true);
                Ok("value")
            })));
            sleep(1.0).await
        })
    }));
    assert!(ran.is_err(), "the panic is the driver's, and passes");
    assert_eq!(kept.take().unwrap().take_result().unwrap(), "value");
}

/// The timers were borrowed while the clock was read.
#[test]
fn a_clock_that_starts_timers_when_it_is_read_for_timers_is_no_trouble() {
    let due = Rc::new(Cell::new(0));
    let (starts, called) = (Rc::new(Cell::new(false)), Rc::clone(&due));
    let set = Rc::clone(&starts);
    let driver = Clocked(
        SimDriver::new(),
        Rc::new(move || {
            if starts.take() {
                let called = Rc::clone(&called);
                let call = move || called.set(called.get() + 1);
                drop(get_running_loop().unwrap().call_later(1.0, call).unwrap());
                drop(TaskBuilder::new().eager_start(true).create_task(sleep(1.0)));
            }
        }),
    );
    run(driver, async move {
        set.set(true);
        sleep(1.0).await?;
        set.set(true);
        drop(get_running_loop()?.call_later(1.0, || ())?);
        sleep(2.0).await
    })
    .unwrap();
    assert_eq!(due.get(), 2);
}
