//! What cases share: small coroutines, and traces with the number of the turn.

use std::cell::{Cell, RefCell};
use std::fmt::{Debug, Display};
use std::future::{Future as StdFuture, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use aioli_core::*;

pub fn event_loop() -> Loop {
    get_running_loop().unwrap()
}

pub fn turn() -> u64 {
    event_loop().turn()
}

/// The virtual time in seconds.
pub fn seconds() -> f64 {
    event_loop().time().as_nanos() as f64 / 1e9
}

/// A future that nobody has set.
pub fn pending<T: 'static>() -> Future<T> {
    event_loop().create_future()
}

pub fn done<T: 'static>(value: T) -> Future<T> {
    let future = pending();
    future.set_result(value).unwrap();
    future
}

/// Awaits a future that is never set.
pub async fn hang() -> Result<()> {
    pending().await
}

/// Awaits something of another crate that is never ready.
pub async fn foreign() -> Result<()> {
    std::future::pending().await
}

pub async fn ready<T>(value: T) -> Result<T> {
    Ok(value)
}

pub async fn fail<T>(text: &str) -> Result<T> {
    Err(Error::msg(text))
}

/// Lets some turns pass.
pub async fn pump(turns: u32) -> Result<()> {
    for _ in 0..turns {
        sleep(0.0).await?;
    }
    Ok(())
}

pub fn soon(callback: impl FnOnce() + 'static) {
    event_loop().call_soon(callback).unwrap();
}

pub fn me() -> AnyTask {
    current_task().unwrap()
}

/// Polls a future once, in the current task, and leaves it be.
pub async fn touch<F: StdFuture + ?Sized>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

pub type Boxed<T> = Pin<Box<dyn StdFuture<Output = Result<T>>>>;

/// Boxes a coroutine and polls it once in the current task.
pub async fn begun<T>(coroutine: impl StdFuture<Output = Result<T>> + 'static) -> Boxed<T> {
    let mut boxed: Boxed<T> = Box::pin(coroutine);
    assert!(touch(boxed.as_mut()).await.is_pending());
    boxed
}

/// The messages of reports.
pub fn messages(reports: &[Report]) -> Vec<&str> {
    reports.iter().map(|report| report.message.as_str()).collect()
}

/// A list of lines that many tasks write, and a point in time to count turns from.
#[derive(Clone, Default)]
pub struct Trace {
    lines: Rc<RefCell<Vec<String>>>,
    since: Rc<Cell<u64>>,
}

impl Trace {
    pub fn new() -> Self {
        let trace = Self::default();
        trace.start();
        trace
    }

    /// Counts turns from here.
    pub fn start(&self) {
        self.since.set(get_running_loop().map_or(0, |running| running.turn()));
    }

    /// The turns since the start.
    pub fn turns(&self) -> u64 {
        turn() - self.since.get()
    }

    pub fn log(&self, line: impl Display) {
        self.lines.borrow_mut().push(line.to_string());
    }

    /// Logs with the number of turns since the start: `text+3`.
    pub fn mark(&self, text: impl Display) {
        self.log(format_args!("{text}+{}", self.turns()));
    }

    /// A callback that marks.
    pub fn marker(&self, text: impl Display + 'static) -> impl FnOnce() + 'static {
        let trace = self.clone();
        move || trace.mark(text)
    }

    pub fn take(&self) -> Vec<String> {
        self.lines.take()
    }
}

/// What became of a task, as the traces of CPython say it.
pub fn state<T: Clone + Debug>(task: &Task<T>) -> String {
    let state = match task.done() {
        false => "PENDING".into(),
        true if task.cancelled() => "CANCELLED".into(),
        true => task.result().map_or_else(|error| format!("EXC {error}"), |value| format!("RESULT {value:?}")),
    };
    match task.cancelling() {
        0 => state,
        count => format!("{state} cancelling={count}"),
    }
}

/// The message of a cancellation.
#[track_caller]
pub fn message<T: Debug>(result: &Result<T>) -> Option<String> {
    let error = result.as_ref().expect_err("a cancellation was expected");
    assert!(error.is_cancelled(), "{error:?}");
    error.cancel_message().map(str::to_owned)
}

/// Starts a coroutine, cancels it `before` turns later, and tells after how many turns it was done.
pub async fn cancel_after<T: 'static>(
    before: u32,
    trace: &Trace,
    coroutine: impl StdFuture<Output = Result<T>> + 'static,
) -> Result<(u64, Task<T>)> {
    let task = create_task(coroutine);
    pump(before).await?;
    trace.start();
    task.cancel(Some("m"));
    Ok((until_done(&task, trace).await?, task))
}

/// The turns until a task is done. It must end soon.
pub async fn until_done<T>(task: &Task<T>, trace: &Trace) -> Result<u64> {
    for _ in 0..20 {
        if task.done() {
            return Ok(trace.turns());
        }
        sleep(0.0).await?;
    }
    panic!("{task:?} does not end");
}

/// Waits for ever; when cancelled it takes `turns` for its cleanup, and then returns `error` or the cancellation.
pub fn slow(
    name: &'static str,
    trace: &Trace,
    turns: u32,
    error: Option<&'static str>,
) -> impl StdFuture<Output = Result<()>> + use<> {
    let trace = trace.clone();
    async move {
        let interrupted = hang().await;
        trace.mark(format_args!("{name}:{}", message(&interrupted).unwrap_or_default()));
        pump(turns).await?;
        trace.mark(format_args!("{name}:done"));
        error.map_or(interrupted, |error| Err(Error::msg(error)))
    }
}

/// Starts a coroutine, calls `after` on its task some turns later, and tells how it ended and how many turns after that.
pub async fn ends<T: Debug + Clone + 'static>(
    coroutine: impl StdFuture<Output = Result<T>> + 'static,
    before: u32,
    after: impl FnOnce(&Task<T>),
) -> Result<(String, u64)> {
    let task = create_task(coroutine);
    pump(before).await?;
    after(&task);
    let trace = Trace::new();
    let turns = until_done(&task, &trace).await?;
    Ok((state(&task), turns))
}

pub fn cancel_with<T>(text: &'static str) -> impl FnOnce(&Task<T>) {
    move |task| assert!(task.cancel(Some(text)))
}

/// What `state` says of a task that was cancelled once.
pub const CANCELLED: &str = "CANCELLED cancelling=1";
