//! Reports of what would otherwise go unnoticed: asyncio's exception handler and its context.

use std::any::Any;
use std::fmt;
use std::io::Write;
use std::panic::Location;
use std::rc::Rc;

use crate::context::Context;
use crate::error::Error;
use crate::event_loop::LoopCore;
use crate::task::header::{TaskHead, flag};
use crate::task::{RawFuture, RawTask, home};

/// Something that went wrong where nobody was there to take the error: the context dict of asyncio's exception handlers. As text it
/// is one line.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Error, Report, TaskBuilder, get_running_loop, sleep};
/// use std::{cell::RefCell, rc::Rc};
///
/// let reports = Rc::new(RefCell::new(Vec::new()));
/// let log = Rc::clone(&reports);
/// let running = get_running_loop()?;
/// running.set_exception_handler(Some(Box::new(move |report| log.borrow_mut().push(report.clone()))));
///
/// let task = TaskBuilder::new().name("gambler").create_task(async { Err::<(), _>(Error::msg("no luck")) });
/// drop(task); // nobody will ask for its result
/// sleep(0.0).await?;
/// running.call_exception_handler(Report::new("the cache is stale"));
///
/// let reports = reports.borrow();
/// assert_eq!(reports[0].error.as_ref().unwrap().to_string(), "no luck");
/// assert_eq!(reports[0].task.as_deref(), Some("gambler"));
/// assert_eq!(reports[1].to_string(), "the cache is stale");
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Report {
    /// What happened.
    pub message: String,
    /// The error, if there is one.
    pub error: Option<Error>,
    /// The name of the task that it is about, if it is about one.
    pub task: Option<String>,
    /// Where that task was created, or that callback was scheduled.
    pub location: Option<&'static Location<'static>>,
}

impl Report {
    /// A report with a message only.
    pub fn new(message: impl Into<String>) -> Self {
        Report { message: message.into(), error: None, task: None, location: None }
    }

    /// Adds the error.
    #[must_use]
    pub fn with_error(mut self, error: Error) -> Self {
        self.error = Some(error);
        self
    }

    pub(crate) fn with_task(mut self, task: &RawTask) -> Self {
        self.task = Some(task.name().to_string());
        self.location = Some(task.head().location);
        self
    }
}

/// One line: the message, the error, the task's name and where it was created.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(error) = &self.error {
            write!(f, ": {error}")?;
        }
        match (&self.task, self.location) {
            (Some(task), Some(location)) => write!(f, " (task {task:?}, created at {location})"),
            (Some(task), None) => write!(f, " (task {task:?})"),
            (None, Some(location)) => write!(f, " (scheduled at {location})"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("message", &self.message)
            .field("error", &self.error)
            .field("task", &self.task)
            .field("location", &self.location.map(ToString::to_string))
            .finish()
    }
}

/// What the loop calls with reports, instead of printing them.
pub(crate) type Handler = Rc<dyn Fn(&Report)>;

impl LoopCore {
    /// Hands a report to the handler, or prints it.
    pub(crate) fn report(&self, report: Report) {
        let Some(handler) = self.handler() else { return print(&report) };
        let call = std::panic::AssertUnwindSafe(|| handler(&report));
        if let Err(panic) = std::panic::catch_unwind(call) {
            print(&Report::new("unhandled error in exception handler").with_error(Error::panicked(panic)));
            print(&report);
        }
        // It may have replaced itself: then this is the last of it.
        discard(handler);
    }

    #[cold]
    pub(crate) fn report_panic(&self, message: &str, panic: Box<dyn Any + Send>) {
        let mut report = Report::new(message).with_error(Error::panicked(panic));
        if let Some(task) = self.current_task() {
            report = report.with_task(&task);
        }
        self.report(report);
    }

    #[cold]
    pub(crate) fn report_callback_panic(&self, location: &'static Location<'static>, panic: Box<dyn Any + Send>) {
        let mut report = Report::new("exception in callback").with_error(Error::panicked(panic));
        report.location = Some(location);
        self.report(report);
    }

    /// A cell dies whose error nobody retrieved.
    #[cold]
    pub(crate) fn report_never_retrieved(&self, dying: &RawFuture, error: Error) {
        let report = match dying.as_task() {
            Some(task) => {
                return self.report_of(task, Report::new("task exception was never retrieved").with_error(error));
            }
            None if dying.header().has(flag::GATHER) => {
                Report::new("gathering future exception was never retrieved").with_error(error)
            }
            None => Report::new("future exception was never retrieved").with_error(error),
        };
        self.report(report);
    }

    #[cold]
    pub(crate) fn report_destroyed(&self, task: &RawTask) {
        self.report_of(task, Report::new("task was destroyed but it is pending"));
    }

    /// Reports what a task that does not run now has come to, in its context; whatever runs on this thread, if anything does.
    pub(crate) fn report_of(&self, task: &RawTask, report: Report) {
        let context = Context::new();
        context.store(task.take_context());
        context.run(|| self.report(report.with_task(task)));
        task.put_context(context.load());
    }

    /// Calls what is not ours, such as a waker, where a panic must not get through.
    pub(crate) fn guard(&self, message: &str, f: impl FnOnce()) {
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
            self.report_panic(message, panic);
        }
    }
}

/// Drops what is not ours. A panic of its destructor is reported to the loop that runs, or printed.
pub(crate) fn discard<T>(value: T) {
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(value))) {
        destructor_panicked(panic);
    }
}

#[cold]
fn destructor_panicked(panic: Box<dyn Any + Send>) {
    const MESSAGE: &str = "a destructor panicked";
    match home::current() {
        Some(core) => core.report_panic(MESSAGE, panic),
        None => print(&Report::new(MESSAGE).with_error(Error::panicked(panic))),
    }
}

/// Neither an error that cannot be displayed nor a closed stderr is a reason to unwind.
fn print(report: &Report) {
    let line = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| report.to_string())).unwrap_or_else(|panic| {
        discard(panic);
        format!("{} (and to display its error panicked)", report.message)
    });
    let _ = writeln!(std::io::stderr(), "aioli: {line}");
}

impl RawTask {
    /// The task's name: the one it was given, or "Task-N".
    pub(crate) fn name(&self) -> Rc<str> {
        let head: &TaskHead = self.head();
        let given = head.extra.get().and_then(|extra| extra.name.borrow().clone());
        given.unwrap_or_else(|| Rc::from(format!("Task-{}", head.number)))
    }

    pub(crate) fn set_name(&self, name: &str) {
        let old = self.head().extra().name.replace(Some(Rc::from(name)));
        drop(old);
    }
}
