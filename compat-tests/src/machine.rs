//! [`Machine`]: what a case runs on.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use aioli_core::driver::Driver;
use aioli_core::{Report, Result, Runner, get_running_loop};

use crate::backend::Backend;
use crate::clock::Jumping;

/// A backend, as a case sees it.
#[derive(Clone)]
pub(crate) struct Machine {
    backend: &'static dyn Backend,
}

impl Machine {
    pub(crate) fn new(backend: &'static dyn Backend) -> Self {
        Machine { backend }
    }

    /// A driver with its own clock.
    #[track_caller]
    pub(crate) fn plain_driver(&self) -> Box<dyn Driver> {
        match self.backend.driver() {
            Ok(driver) => driver,
            Err(error) => panic!("the backend gives no driver: {error}"),
        }
    }

    /// A driver with a virtual clock that begins at zero.
    #[track_caller]
    pub(crate) fn driver(&self) -> Box<dyn Driver> {
        let driver = self.plain_driver();
        if driver.is_virtual() { driver } else { Box::new(Jumping::new(driver)) }
    }

    /// A loop in virtual time.
    #[track_caller]
    pub(crate) fn runner(&self) -> Runner {
        Runner::new(self.driver())
    }

    /// Runs a program in virtual time.
    #[track_caller]
    pub(crate) fn try_run<T: 'static>(&self, main: impl Future<Output = Result<T>> + 'static) -> Result<T> {
        aioli_core::run(self.driver(), main)
    }

    /// Runs a program in virtual time. It must succeed, and nothing may be reported but to a handler that it sets itself.
    #[track_caller]
    pub(crate) fn run<T: 'static>(&self, main: impl Future<Output = Result<T>> + 'static) -> T {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&seen);
        let ran = self.try_run(async move {
            let handler = move |report: &Report| sink.borrow_mut().push(report.to_string());
            get_running_loop()?.set_exception_handler(Some(Box::new(handler)));
            main.await
        });
        let value = ran.unwrap();
        assert_eq!(seen.take(), [] as [String; 0], "reported");
        value
    }

    /// Runs a program in virtual time whose reports go into a list, and gives that list.
    #[track_caller]
    pub(crate) fn reports(&self, main: impl Future<Output = Result<()>> + 'static) -> Vec<Report> {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&seen);
        self.run(async move {
            let handler = move |report: &Report| sink.borrow_mut().push(report.clone());
            get_running_loop()?.set_exception_handler(Some(Box::new(handler)));
            main.await
        });
        Rc::into_inner(seen).expect("the handler is gone with the loop").into_inner()
    }
}
