//! Callbacks: what runs when a future finishes, and what `call_soon` and `call_later` take.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::Location;
use std::rc::{Rc, Weak};

use crate::await_point::Token;
use crate::context::ContextMap;
use crate::event_loop::LoopCore;
use crate::report::discard;
use crate::task::ready::Ready;
use crate::task::{LoopRef, RawFuture, RawTask};
use crate::time::Instant;
use crate::timer::TimerTarget;
use aioli_timers::TimerKey;

/// Something of aioli's own that reacts to futures: a gather, a task group.
pub(crate) trait Hook {
    /// The future that this was registered with under `index` has finished, or a timer has fired. One handle of the loop.
    fn run(&self, core: &LoopCore, index: u32);

    /// The futures that it is registered with. A request to cancel a gather goes to these.
    fn children(&self) -> &[RawFuture] {
        &[]
    }

    /// Such a request was made, and reached a child that was pending.
    fn cancel_requested(&self) {}
}

/// A shared [`Hook`], one pointer wide.
pub(crate) type HookRef = Rc<Box<dyn Hook>>;

/// What to schedule when a future finishes.
pub(crate) enum Callback {
    /// Fires the await point with this serial.
    Wake(RawTask, u32),
    /// Fires it from a handle of its own, one turn later than `Wake` does.
    Release(RawTask, u32),
    Call(Rc<Call>),
    Hook(HookRef, u32),
}

/// The callbacks of a future, in the order in which they were added.
#[derive(Default)]
pub(crate) enum Callbacks {
    #[default]
    None,
    One(Callback),
    /// Boxed, so that the common case is as small as one callback.
    #[allow(clippy::box_collection)]
    Many(Box<Vec<Callback>>),
}

impl Callbacks {
    #[inline]
    fn push(&mut self, callback: Callback) {
        if let Callbacks::None = self {
            *self = Callbacks::One(callback);
            return;
        }
        self.push_more(callback);
    }

    #[cold]
    fn push_more(&mut self, callback: Callback) {
        *self = match std::mem::take(self) {
            Callbacks::None => Callbacks::One(callback),
            Callbacks::One(first) => Callbacks::Many(Box::new(vec![first, callback])),
            Callbacks::Many(mut all) => {
                all.push(callback);
                Callbacks::Many(all)
            }
        };
    }

    /// Takes out every callback that `matches`.
    fn extract(&mut self, mut matches: impl FnMut(&Callback) -> bool) -> Vec<Callback> {
        match self {
            Callbacks::None => Vec::new(),
            Callbacks::One(callback) => {
                if !matches(callback) {
                    return Vec::new();
                }
                match std::mem::take(self) {
                    Callbacks::One(callback) => vec![callback],
                    _ => Vec::new(),
                }
            }
            Callbacks::Many(all) => all.extract_if(.., |callback| matches(callback)).collect(),
        }
    }

    /// Puts each into the ready queue of the loop of `finished`.
    #[inline]
    pub(crate) fn schedule(self, finished: &RawFuture) {
        match self {
            Callbacks::None => (),
            Callbacks::One(callback) => callback.schedule(finished),
            Callbacks::Many(all) => all.into_iter().for_each(|callback| callback.schedule(finished)),
        }
    }
}

impl Callback {
    /// Fires an await point when the future finishes.
    #[inline]
    pub(crate) fn wake(token: Token) -> Self {
        let (task, serial) = token.into_parts();
        Callback::Wake(task, serial)
    }

    pub(crate) fn release(token: Token) -> Self {
        let (task, serial) = token.into_parts();
        Callback::Release(task, serial)
    }

    #[inline]
    fn schedule(self, finished: &RawFuture) {
        match self {
            Callback::Wake(task, serial) => {
                Token::from_parts(task, serial).fire();
            }
            Callback::Release(task, serial) => {
                finished.core().start_now(TimerTarget::Wake(task, serial));
            }
            Callback::Call(call) => {
                call.finished.set(Some(finished.clone()));
                finished.core().push(Ready::Call(call));
            }
            Callback::Hook(hook, index) => finished.core().push(Ready::Hook(hook, index)),
        }
    }
}

impl RawFuture {
    /// Adds a callback; if the future is done, it is scheduled at once.
    #[inline]
    pub(crate) fn add_callback(&self, callback: Callback) {
        if self.is_done() {
            return callback.schedule(self);
        }
        let slot = &self.header().callbacks;
        let mut callbacks = slot.take();
        callbacks.push(callback);
        slot.set(callbacks);
    }

    /// Has an await point fired when the future, which is pending, finishes.
    #[inline]
    pub(crate) fn add_first_wake(&self, token: Token) {
        let header = self.header();
        debug_assert!(!header.has_callbacks());
        // There was none, so nothing has to be dropped. A drop would look at it in memory, where it would be copied to first.
        std::mem::forget(header.callbacks.replace(Callbacks::One(Callback::wake(token))));
    }

    fn extract_callbacks(&self, matches: impl FnMut(&Callback) -> bool) -> usize {
        let slot = &self.header().callbacks;
        let mut callbacks = slot.take();
        let gone = callbacks.extract(matches);
        slot.set(callbacks);
        gone.len()
    }

    /// Removes the callbacks of an await point.
    pub(crate) fn remove_wake(&self, token: &Token) {
        self.extract_callbacks(|callback| match callback {
            Callback::Wake(task, serial) | Callback::Release(task, serial) => token.is(task, *serial),
            _ => false,
        });
    }

    /// Removes a hook's callbacks.
    pub(crate) fn remove_hook(&self, hook: &HookRef) -> usize {
        self.extract_callbacks(|callback| matches!(callback, Callback::Hook(known, _) if Rc::ptr_eq(known, hook)))
    }

    /// Removes a callback that was added by a call with this id.
    pub(crate) fn remove_call(&self, id: CallbackId) -> bool {
        self.extract_callbacks(|callback| matches!(callback, Callback::Call(call) if call.id == id.0)) > 0
    }
}

/// Hooks that hold the futures they are registered with. A future that nobody ever finishes would keep them, and they it: the closing
/// loop parts them.
#[derive(Default)]
pub(crate) struct Remembered {
    hooks: RefCell<Vec<Weak<Box<dyn Hook>>>>,
    /// How many there may be before the dead ones are cleared away.
    limit: Cell<usize>,
}

impl LoopCore {
    /// Remembers a hook until the loop closes, if one of its futures might never finish: tasks always do.
    pub(crate) fn remember(&self, hook: &HookRef) {
        if hook.children().iter().all(|child| child.as_task().is_some()) {
            return;
        }
        let mut hooks = self.remembered.hooks.borrow_mut();
        if hooks.len() >= self.remembered.limit.get() {
            hooks.retain(|hook| hook.strong_count() > 0);
            self.remembered.limit.set(hooks.len() * 2 + 16);
        }
        hooks.push(Rc::downgrade(hook));
    }

    pub(crate) fn part_remembered(&self) {
        let hooks = std::mem::take(&mut *self.remembered.hooks.borrow_mut());
        for hook in hooks.iter().filter_map(Weak::upgrade) {
            for child in hook.children() {
                child.remove_hook(&hook);
            }
        }
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remembered").field("hooks", &self.hooks.borrow().len()).finish_non_exhaustive()
    }
}

/// Names a callback that was added to a future or task, for its removal. asyncio's `remove_done_callback` takes the function itself
/// and removes all that are equal; closures in Rust cannot be compared.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{get_running_loop, sleep};
/// use std::{cell::Cell, rc::Rc};
///
/// let future = get_running_loop()?.create_future::<u32>();
/// let seen = Rc::new(Cell::new(0));
/// let (one, two) = (Rc::clone(&seen), Rc::clone(&seen));
/// let wrong = future.add_done_callback(move |_| one.set(1));
/// future.add_done_callback(move |future| two.set(future.result().unwrap()));
/// assert!(future.remove_done_callback(wrong));
/// future.set_result(42)?;
/// assert_eq!(seen.get(), 0); // callbacks run in the next turn
/// sleep(0.0).await?;
/// assert_eq!(seen.get(), 42);
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CallbackId(u64);

type Function = Box<dyn FnOnce(Option<RawFuture>)>;

/// A function that the loop will call once.
pub(crate) struct Call {
    function: Cell<Option<Function>>,
    context: Cell<Option<ContextMap>>,
    /// The future whose finish it is called for.
    finished: Cell<Option<RawFuture>>,
    timer: Cell<Option<TimerKey>>,
    cancelled: Cell<bool>,
    id: u64,
    location: &'static Location<'static>,
}

impl Call {
    pub(crate) fn new(
        core: &LoopCore,
        context: Option<ContextMap>,
        location: &'static Location<'static>,
        function: impl FnOnce(Option<RawFuture>) + 'static,
    ) -> Rc<Self> {
        Rc::new(Call {
            function: Cell::new(Some(Box::new(function))),
            context: Cell::new(context),
            finished: Cell::new(None),
            timer: Cell::new(None),
            cancelled: Cell::new(false),
            id: core.next_id(),
            location,
        })
    }

    pub(crate) fn callback_id(&self) -> CallbackId {
        CallbackId(self.id)
    }

    pub(crate) fn set_timer(&self, key: TimerKey) {
        self.timer.set(Some(key));
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    fn cancel(&self, core: Option<&LoopCore>) {
        self.cancelled.set(true);
        let timer = self.timer.take().and_then(|key| core.and_then(|core| core.disarm(key)));
        let function = self.function.take();
        drop((function, timer, self.context.take()));
    }

    /// Calls the function in its context, unless it was cancelled.
    pub(crate) fn run(&self, core: &LoopCore) {
        let Some(function) = self.function.take() else { return };
        let finished = self.finished.take();
        let context = self.context.take();
        core.in_context(context, || {
            let call = std::panic::AssertUnwindSafe(|| function(finished));
            if let Err(panic) = std::panic::catch_unwind(call) {
                core.report_callback_panic(self.location, panic);
            }
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(function) = self.function.take() {
            discard(function);
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("location", &format_args!("{}", self.location))
            .field("cancelled", &self.cancelled.get())
            .finish()
    }
}

/// A callback that [`call_soon`](crate::Loop::call_soon) scheduled: asyncio's `Handle`. Dropping the handle changes nothing.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{get_running_loop, sleep};
///
/// let handle = get_running_loop()?.call_soon(|| panic!("it was cancelled"))?;
/// handle.cancel();
/// assert!(handle.cancelled());
/// sleep(0.0).await?;
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    call: Rc<Call>,
}

impl Handle {
    pub(crate) fn new(call: Rc<Call>) -> Self {
        Handle { call }
    }

    /// Keeps the callback from being called, and drops it: asyncio's `Handle.cancel`. It keeps its place in the queue, as an empty
    /// one. Does nothing once it was called.
    pub fn cancel(&self) {
        self.call.cancel(None);
    }

    /// Whether [`cancel`](Self::cancel) was called: asyncio's `Handle.cancelled`.
    pub fn cancelled(&self) -> bool {
        self.call.is_cancelled()
    }
}

/// A callback that [`call_later`](crate::Loop::call_later) or [`call_at`](crate::Loop::call_at) scheduled: asyncio's `TimerHandle`.
/// Dropping the handle changes nothing.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{get_running_loop, sleep};
/// use std::time::Duration;
///
/// let running = get_running_loop()?;
/// let alarm = running.call_later(Duration::from_secs(60), || panic!("nobody answered"))?;
/// assert_eq!(alarm.when(), running.time() + Duration::from_secs(60));
/// sleep(Duration::from_secs(30)).await?; // the answer came
/// alarm.cancel();
/// sleep(Duration::from_secs(60)).await?;
/// assert!(alarm.cancelled());
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct TimerHandle {
    call: Rc<Call>,
    when: Instant,
    owner: std::rc::Weak<LoopCore>,
}

impl TimerHandle {
    pub(crate) fn new(call: Rc<Call>, when: Instant, owner: &LoopRef) -> Self {
        TimerHandle { call, when, owner: owner.downgrade() }
    }

    /// When the callback is due, on the loop's clock: asyncio's `TimerHandle.when`.
    pub fn when(&self) -> Instant {
        self.when
    }

    /// Keeps the callback from being called, drops it, and disarms its timer: asyncio's `TimerHandle.cancel`. Does nothing once it
    /// was called.
    pub fn cancel(&self) {
        self.call.cancel(LoopRef::upgrade(&self.owner).as_deref());
    }

    /// Whether [`cancel`](Self::cancel) was called: asyncio's `TimerHandle.cancelled`.
    pub fn cancelled(&self) -> bool {
        self.call.is_cancelled()
    }
}
