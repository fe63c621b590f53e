//! [`Machine`]: what a case runs on.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use aioli_core::driver::Driver;
use aioli_core::{Report, Result, Runner, get_running_loop, timeout};
use aioli_io::{PIPE, Socket, create_subprocess_exec};

use crate::backend::Backend;
use crate::varied::Varied;
use aioli_exec_sim::VirtualClock;

/// How long a program with connections may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A backend, as a case sees it.
#[derive(Clone)]
pub(crate) struct Machine {
    backend: &'static dyn Backend,
    again: Option<Rc<[String]>>,
    skipped: Rc<Cell<Option<String>>>,
}

impl Machine {
    pub(crate) fn new(backend: &'static dyn Backend, again: Option<&[String]>) -> Self {
        Machine { backend, again: again.map(Rc::from), skipped: Rc::default() }
    }

    pub(crate) fn backend(&self) -> &'static dyn Backend {
        self.backend
    }

    /// The arguments with which this program runs nothing but this case on this backend, if it can.
    pub(crate) fn again(&self) -> Option<&[String]> {
        self.again.as_deref()
    }

    /// Makes the machine anew on another thread.
    pub(crate) fn maker(&self) -> impl FnOnce() -> Machine + Send + use<> {
        let backend = self.backend;
        move || Machine::new(backend, None)
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
        if driver.is_virtual() { driver } else { Box::new(VirtualClock::new(driver)) }
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
        self.run_on(self.driver(), main)
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

    /// Says that the machine lacks what the case needs. The case then returns.
    pub(crate) fn skip(&self, why: impl Into<String>) {
        self.skipped.set(Some(why.into()));
    }

    pub(crate) fn skipped(&self) -> Option<String> {
        self.skipped.take()
    }

    pub(crate) fn has_descriptors(&self) -> bool {
        self.backend.capabilities().descriptors
    }

    /// The machine for a case that needs descriptors and other programs' sockets. A backend without them must say so: that is then
    /// what the case tests, and there is no machine.
    pub(crate) fn with_descriptors(&self) -> Option<&Self> {
        if !self.backend.capabilities().network || self.has_descriptors() {
            return Some(self);
        }
        self.run(async {
            let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
            let refused = Socket::from_fd(ours.into()).map(drop).unwrap_err();
            assert_eq!(refused.as_io().map(io::Error::kind), Some(io::ErrorKind::Unsupported), "{refused}");
            Ok(())
        });
        None
    }

    /// The machine for a case that needs child processes. A backend without them must say so: that is then what the case tests, and
    /// there is no machine.
    pub(crate) fn with_processes(&self) -> Option<&Self> {
        if self.backend.capabilities().processes {
            return Some(self);
        }
        self.run(async {
            let starting = create_subprocess_exec("true", [""; 0]).stdin(PIPE).stdout(PIPE).stderr(PIPE);
            let refused = starting.await.map(drop).unwrap_err();
            assert_eq!(refused.as_io().map(io::Error::kind), Some(io::ErrorKind::Unsupported), "{refused}");
            assert!(refused.to_string().contains("no processes"), "{refused}");
            Ok(())
        });
        None
    }

    /// Runs a program with child processes, on the backend's own clock, with and without immediate sends and receives.
    #[track_caller]
    pub(crate) fn processes<F: Future<Output = Result<()>> + 'static>(&self, program: impl Fn() -> F) {
        if self.with_processes().is_some() {
            self.vary(&program, |driver| driver);
            self.vary(&program, |driver| Varied { fast: false, ..driver });
        }
    }

    /// The same for a program that counts turns.
    #[track_caller]
    pub(crate) fn processes_exact<F: Future<Output = Result<()>> + 'static>(&self, program: impl Fn() -> F) {
        if self.with_processes().is_some() {
            self.vary(&program, |driver| Varied { every_turn: true, ..driver });
            self.vary(&program, |driver| Varied { every_turn: true, fast: false, ..driver });
        }
    }

    /// The machine for a case that needs a network. A backend without one skips it.
    pub(crate) fn network(&self) -> Option<&Self> {
        let there = self.backend.capabilities().network;
        if !there {
            self.skip("it has no network");
        }
        there.then_some(self)
    }

    /// A loop on the backend's own clock.
    #[track_caller]
    pub(crate) fn plain_runner(&self) -> Runner {
        Runner::new(self.plain_driver())
    }

    /// Runs a program with connections, on the backend's own clock, with and without immediate sends and receives.
    #[track_caller]
    pub(crate) fn net<F: Future<Output = Result<()>> + 'static>(&self, program: impl Fn() -> F) {
        if self.network().is_some() {
            self.vary(&program, |driver| driver);
            self.vary(&program, |driver| Varied { fast: false, ..driver });
        }
    }

    /// The same for a program that counts turns: the driver is asked for news in every turn, as asyncio's selector is, and not only when
    /// nothing is ready.
    #[track_caller]
    pub(crate) fn net_exact<F: Future<Output = Result<()>> + 'static>(&self, program: impl Fn() -> F) {
        if self.network().is_some() {
            self.vary(&program, |driver| Varied { every_turn: true, ..driver });
            self.vary(&program, |driver| Varied { every_turn: true, fast: false, ..driver });
        }
    }

    /// The same on a driver that cannot end an operation. What comes of one that was cancelled must not be lost.
    #[track_caller]
    pub(crate) fn net_deaf<F: Future<Output = Result<()>> + 'static>(&self, program: impl Fn() -> F) {
        if self.network().is_some() {
            self.vary(&program, |driver| Varied { deaf: true, fast: false, ..driver });
        }
    }

    #[track_caller]
    fn vary<F: Future<Output = Result<()>> + 'static>(
        &self,
        program: &impl Fn() -> F,
        vary: impl FnOnce(Varied) -> Varied,
    ) {
        let plain = Varied { driver: self.plain_driver(), fast: true, every_turn: false, deaf: false };
        let program = program();
        self.run_on(vary(plain), async { timeout(PATIENCE, program).await });
    }

    /// Runs a program on a driver. It must succeed, and nothing may be reported but to a handler that it sets itself.
    #[track_caller]
    fn run_on<T: 'static>(&self, driver: impl Driver, main: impl Future<Output = Result<T>> + 'static) -> T {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&seen);
        let ran = aioli_core::run(driver, async move {
            let handler = move |report: &Report| sink.borrow_mut().push(report.to_string());
            get_running_loop()?.set_exception_handler(Some(Box::new(handler)));
            main.await
        });
        let value = ran.unwrap();
        assert_eq!(seen.take(), [] as [String; 0], "reported");
        value
    }
}
