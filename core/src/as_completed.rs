//! [`as_completed`]: results in the order in which they come.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::await_point::{Token, Wait, WaitPoll};
use crate::awaitable::{Awaitable, Child};
use crate::awaited::Awaited;
use crate::callback::{Callback, Hook, HookRef};
use crate::error::{Error, Result};
use crate::event_loop::LoopCore;
use crate::future::Future;
use crate::task::header::flag;
use crate::task::{LoopRef, RawFuture, home};
use crate::timer::{Armed, TimerTarget};
use crate::wait_for::IntoTimeout;

/// Runs everything in a collection, and gives the results in the order in which they come: asyncio's `as_completed`.
///
/// Coroutines become tasks at once. What is given twice counts once. Nothing is cancelled, whether or not all results are taken.
///
/// [`next`](AsCompleted::next) gives one result after the other, as asyncio's plain iteration does;
/// [`handles`](AsCompleted::handles) gives what has completed, as `async for` does. Both are streams as well.
///
/// # Panics
/// Outside of a running loop.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{as_completed, sleep};
/// use std::time::Duration;
///
/// let naps = [3, 1, 2].map(|secs| async move { sleep(Duration::from_secs(secs)).await.map(|()| secs) });
/// let completed = as_completed(naps);
/// let mut order = Vec::new();
/// while let Some(secs) = completed.next().await {
///     order.push(secs?);
/// }
/// assert_eq!(order, [1, 2, 3]);
/// # Ok(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn as_completed<I>(awaitables: I) -> AsCompleted<<I::Item as Awaitable>::Value>
where
    I: IntoIterator,
    I::Item: Awaitable,
{
    let core = home::current().expect("no running event loop: as_completed is called inside of `run`");
    let mut given = Vec::new();
    for awaitable in awaitables {
        given.push(awaitable.into_child()); // not in a closure, which would be where the tasks were created
    }
    let race = Race::start(&core, given.into_iter().collect());
    AsCompleted { stream: Next::new(&race.course), race }
}

/// The results of [`as_completed`], in the order in which they come: by [`next`](Self::next), or as a `futures::Stream`.
///
/// Dropping it leaves everything running.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{as_completed, create_task, sleep};
///
/// let lots = [3.0, 1.0, 2.0].map(|seconds| create_task(async move { sleep(seconds).await.map(|()| seconds) }));
/// let results = as_completed(lots).timeout(2.5);
/// assert_eq!(results.next().await.unwrap()?, 1.0);
/// assert_eq!(results.next().await.unwrap()?, 2.0);
/// assert!(results.next().await.unwrap().unwrap_err().is_timeout()); // for the third, which runs on
/// assert!(results.next().await.is_none());
/// # Ok(())
/// # }).unwrap();
/// ```
#[must_use = "the results come by `next`"]
pub struct AsCompleted<T: 'static> {
    race: Race<T>,
    /// The await point of the stream.
    stream: Next,
}

impl<T: 'static> AsCompleted<T> {
    /// Gives each that has not completed after this time the result `Timeout`. It counts from now. `None` sets no limit.
    ///
    /// A delay that is not finite makes the next result a `Value` error, and the last.
    pub fn timeout(self, timeout: impl IntoTimeout) -> Self {
        self.race.set_timeout(timeout);
        self
    }

    /// The next result; `None` when there are no more.
    ///
    /// Several calls may be awaited at the same time: the results go to them in the order in which they began to wait. A call that is
    /// cancelled or dropped leaves its result to others.
    ///
    /// # Errors
    /// What one of the awaitables ended with; `Timeout`, once for each that is left, when [`timeout`](Self::timeout) has passed;
    /// Cancelled if the caller was cancelled; `Runtime` outside of a task; `Value` if something of another loop was given.
    pub async fn next(&self) -> Option<Result<T>> {
        let mut next = Next::new(&self.race.course);
        poll_fn(|cx| next.poll(cx).map(|event| self.race.result(event))).await
    }

    /// The same, giving what has completed instead of its result.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_core::{as_completed, create_task, sleep};
    /// use std::time::Duration;
    ///
    /// let tasks = [2, 1].map(|secs| create_task(sleep(Duration::from_secs(secs))));
    /// let completed = as_completed(&tasks).handles();
    /// let (position, first) = completed.next().await.unwrap()?;
    /// assert_eq!(position, 1);
    /// assert!(first.done() && !tasks[0].done());
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    pub fn handles(self) -> CompletedHandles<T> {
        CompletedHandles { completed: self }
    }
}

impl<T: 'static> Stream for AsCompleted<T> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let this = self.get_mut();
        this.stream.poll(cx).map(|event| this.race.result(event))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.race.course.left.get() + usize::from(self.stream.entitled);
        (left, Some(left))
    }
}

impl<T: 'static> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("left", &self.race.course.left.get()).finish_non_exhaustive()
    }
}

/// What completes among the awaitables that were given, see [`AsCompleted::handles`]: asyncio's `async for task in
/// as_completed(…)`.
///
/// As a stream it gives the position of each in what was given, counting what was given twice where it came first, and a future
/// that leads to it, which is done.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Error, as_completed, sleep};
///
/// let downloads = [("big", 3.0), ("small", 1.0)].map(|(name, seconds)| async move {
///     sleep(seconds).await?;
///     if name == "big" { Err(Error::msg("cut off")) } else { Ok(name.len()) }
/// });
/// let completed = as_completed(downloads).handles();
/// let mut order = Vec::new();
/// while let Some(next) = completed.next().await {
///     let (position, download) = next?;
///     order.push((position, download.exception()?.is_none()));
/// }
/// assert_eq!(order, [(1, true), (0, false)]);
/// # Ok(())
/// # }).unwrap();
/// ```
#[must_use = "the handles come by `next`"]
pub struct CompletedHandles<T: 'static> {
    completed: AsCompleted<T>,
}

impl<T: 'static> CompletedHandles<T> {
    /// The next position and handle; `None` when there are no more.
    ///
    /// # Errors
    /// `Timeout` when [`timeout`](AsCompleted::timeout) has passed, and that is the end; Cancelled if the caller was cancelled;
    /// `Runtime` outside of a task; `Value` if something of another loop was given.
    pub async fn next(&self) -> Option<Result<(usize, Future<T>)>> {
        let race = &self.completed.race;
        let mut next = Next::new(&race.course);
        poll_fn(|cx| next.poll(cx).map(|event| race.handle(event))).await
    }
}

impl<T: 'static> Stream for CompletedHandles<T> {
    type Item = Result<(usize, Future<T>)>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let AsCompleted { race, stream } = &mut self.get_mut().completed;
        stream.poll(cx).map(|event| race.handle(event))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (left, _) = self.completed.size_hint();
        (left.min(1), Some(left))
    }
}

impl<T: 'static> fmt::Debug for CompletedHandles<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.completed.fmt(f)
    }
}

/// Everything that was given, and the hook that is told of its ends.
struct Race<T> {
    /// Each with its position; in the order of the hook's indices.
    runners: Vec<(usize, Child<T>)>,
    course: Rc<Course>,
    hook: HookRef,
}

/// What the hook and those who wait share.
struct Course {
    raws: Vec<RawFuture>,
    /// Those that have not ended.
    running: RefCell<BTreeSet<u32>>,
    /// What has happened and was not taken.
    events: RefCell<VecDeque<Event>>,
    waiting: RefCell<VecDeque<Token>>,
    /// How many results are not taken, nor awaited by anybody.
    left: Cell<usize>,
    timer: Cell<Option<Armed>>,
    /// What is told of the ends.
    hook: RefCell<Option<Weak<Box<dyn Hook>>>>,
    /// Why it cannot begin.
    error: RefCell<Option<Error>>,
}

#[derive(Clone, Copy)]
enum Event {
    Done(u32),
    /// Time ran out for one of them.
    Late,
}

/// The index that the hook is run with when time has run out.
const TIMEOUT: u32 = u32::MAX;

struct Ended(Rc<Course>);

impl Hook for Ended {
    fn run(&self, _: &LoopCore, index: u32) {
        if index == TIMEOUT { self.0.time_out() } else { self.0.complete(index) }
    }
}

impl<T: 'static> Race<T> {
    fn start(core: &LoopRef, given: Result<Vec<Child<T>>>) -> Self {
        let (given, mut error) = match given {
            Ok(given) => (given, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut seen = HashSet::new();
        let mut runners = Vec::new();
        for (position, child) in given.into_iter().enumerate() {
            if child.is_created() {
                child.raw().header().clear(flag::QUIET);
            }
            if child.raw().core().id() != core.id() {
                let text = format!("a future of another event loop was given to as_completed: {child:?}");
                error.get_or_insert(Error::value(text));
            } else if seen.insert(child.raw().address()) {
                runners.push((position, child));
            }
        }
        if error.is_some() {
            runners.clear();
        }
        let count = u32::try_from(runners.len()).unwrap_or(TIMEOUT);
        let course = Rc::new(Course {
            raws: runners.iter().map(|(_, child)| child.raw().clone()).collect(),
            running: RefCell::new((0..count).collect()),
            events: RefCell::default(),
            waiting: RefCell::default(),
            left: Cell::new(runners.len() + usize::from(error.is_some())),
            timer: Cell::new(None),
            hook: RefCell::new(None),
            error: RefCell::new(error),
        });
        let hook: HookRef = Rc::new(Box::new(Ended(Rc::clone(&course))));
        course.hook.replace(Some(Rc::downgrade(&hook)));
        for (index, raw) in (0..).zip(&course.raws) {
            raw.add_callback(Callback::Hook(Rc::clone(&hook), index));
        }
        Race { runners, course, hook }
    }

    fn set_timeout(&self, timeout: impl IntoTimeout) {
        let course = &self.course;
        course.disarm();
        let delay = match timeout.into_timeout().map(|delay| delay.duration()) {
            None => return,
            Some(Ok(delay)) => delay,
            Some(Err(error)) => {
                course.left.set(1);
                course.error.replace(Some(error));
                return;
            }
        };
        if course.running.borrow().is_empty() {
            return;
        }
        let target = TimerTarget::Hook(Rc::clone(&self.hook), TIMEOUT);
        course.timer.set(home::with(|core| Armed::new(core, core.start_at(core.now() + delay, target))));
    }

    /// What an event means to those who want results.
    fn result(&self, event: Option<Result<Event>>) -> Option<Result<T>> {
        event.map(|event| match event? {
            Event::Done(index) => self.runners[index as usize].1.read(),
            Event::Late => Err(Error::timeout()),
        })
    }

    /// What it means to those who want handles: they end with the first that is late.
    fn handle(&self, event: Option<Result<Event>>) -> Option<Result<(usize, Future<T>)>> {
        event.map(|event| match event? {
            Event::Done(index) => {
                let (position, child) = &self.runners[index as usize];
                Ok((*position, Future::from_ref(child.cell().clone())))
            }
            Event::Late => {
                self.course.left.set(0);
                Err(Error::timeout())
            }
        })
    }
}

impl<T> Drop for Race<T> {
    fn drop(&mut self) {
        self.course.disarm();
        self.course.leave_running();
    }
}

impl Course {
    fn disarm(&self) {
        if let Some(timer) = self.timer.take() {
            timer.disarm();
        }
    }

    /// One has ended.
    fn complete(&self, index: u32) {
        if !self.running.borrow_mut().remove(&index) {
            return; // too late
        }
        self.happen(Event::Done(index));
        if self.running.borrow().is_empty() {
            self.disarm();
        }
    }

    /// Time has run out: for each that has not ended.
    fn time_out(&self) {
        self.timer.set(None);
        for _ in 0..self.leave_running() {
            self.happen(Event::Late);
        }
    }

    /// Is not told any more of the ends of those that have not ended. Returns how many there are.
    fn leave_running(&self) -> usize {
        let running = std::mem::take(&mut *self.running.borrow_mut());
        let hook = self.hook.borrow().as_ref().and_then(Weak::upgrade);
        if let Some(hook) = hook {
            for index in &running {
                self.raws[*index as usize].remove_hook(&hook);
            }
        }
        running.len()
    }

    fn happen(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        self.wake_next();
    }

    /// Wakes the first of those that wait still.
    fn wake_next(&self) {
        loop {
            let first = self.waiting.borrow_mut().pop_front();
            match first {
                Some(token) if !token.fire() => continue,
                _ => return,
            }
        }
    }

    /// The oldest event that nobody has taken.
    fn take(&self) -> Option<Result<Event>> {
        let error = self.error.take();
        error.map(Err).or_else(|| self.events.borrow_mut().pop_front().map(Ok))
    }
}

/// Somebody that waits for what happens next.
struct Next {
    course: Rc<Course>,
    wait: Wait,
    /// One of the results is reserved for it.
    entitled: bool,
}

impl Next {
    fn new(course: &Rc<Course>) -> Self {
        Next { course: Rc::clone(course), wait: Wait::new(), entitled: false }
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Event>>> {
        if self.wait.is_registered() {
            let woken = self.is_woken();
            match self.wait.poll(cx) {
                WaitPoll::Pending => return Poll::Pending,
                WaitPoll::Fired => (),
                WaitPoll::Cancelled(error) => {
                    self.give_up(woken);
                    return Poll::Ready(Some(Err(error)));
                }
                WaitPoll::Moved(token) => self.course.waiting.borrow_mut().retain(|known| *known != token),
            }
        }
        if !self.entitled {
            let Some(left) = self.course.left.get().checked_sub(1) else { return Poll::Ready(None) };
            self.course.left.set(left);
            self.entitled = true;
        }
        if let Some(event) = self.course.take() {
            self.entitled = false;
            return Poll::Ready(Some(event));
        }
        match self.wait.register_for(cx, Awaited::Futures) {
            Ok(token) => {
                self.course.waiting.borrow_mut().push_back(token);
                Poll::Pending
            }
            Err(error) => {
                self.give_up(false);
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    /// Whether it was woken for something that happened.
    fn is_woken(&self) -> bool {
        self.wait.token().is_some_and(|token| !token.is_pending() && !token.is_cancelled())
    }

    /// Leaves its result to others, and its turn if it was woken.
    fn give_up(&mut self, woken: bool) {
        if std::mem::take(&mut self.entitled) {
            self.course.left.set(self.course.left.get() + 1);
        }
        if woken && !self.course.events.borrow().is_empty() {
            self.course.wake_next();
        }
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        let woken = self.is_woken();
        if let Some(token) = self.wait.token() {
            self.course.waiting.borrow_mut().retain(|known| *known != token);
            self.wait.release();
        }
        self.give_up(woken);
    }
}
