//! [`LoopCore`]: the ready queue, the turn, and the step of a task.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::time::Duration;

use crate::await_point;
use crate::callback::Remembered;
use crate::cancel::{self, Settled};
use crate::driver::{Driver, Wait};
use crate::error::{Error, Result};
use crate::executor::DefaultExecutor;
use crate::inbox::{LoopShared, Message};
use crate::ops::Operations;
use crate::own_context::{self, EnteredContext};
use crate::registry::Registry;
use crate::remote::RemoteCall;
use crate::report::{Handler, discard};
use crate::shared::Arc;
use crate::shield;
use crate::strays::Strays;
use crate::task::current::CurrentTask;
use crate::task::header::{Stage, flag};
use crate::task::home::Entered;
use crate::task::list::TaskList;
use crate::task::pool::Pool;
use crate::task::ready::{QueuedTask, Ready, ReadyQueue};
use crate::task::{Graves, LoopRef, RawTask, home};
use crate::tasks;
use crate::time::Instant;
use crate::timer::Timers;

mod closing;

/// While handles are ready, the driver is asked after this many of them…
const HANDLES_PER_POLL: u64 = 64;
/// …or after this time, for which the clock is read after every so many handles, the first of them earlier if it was not read before.
const TIME_PER_POLL: Duration = Duration::from_micros(100);
const HANDLES_PER_CLOCK: u64 = 16;
const HANDLES_TO_FIRST_CLOCK: u64 = 4;

/// A loop.
pub(crate) struct LoopCore {
    pub(crate) shared: Arc<LoopShared>,
    pub(crate) pool: Pool,
    pub(crate) graves: Graves,
    pub(crate) timers: Timers,
    pub(crate) operations: Operations,
    pub(crate) remembered: Remembered,
    pub(crate) registry: Registry,
    pub(crate) executor: DefaultExecutor,
    ready: ReadyQueue,
    tasks: TaskList,
    pub(crate) strays: Strays,
    pub(crate) current: CurrentTask,
    pub(crate) entered: EnteredContext,
    turn: Cell<u64>,
    /// At how many handles the driver is asked, and the clock read.
    poll_at: Cell<u64>,
    clock_at: Cell<u64>,
    /// Handles run so far beyond one for each turn.
    more_handles: Cell<u64>,
    /// At how many handles there is anything to look for between turns but the inbox: the first of these two, or 0.
    look_at: Cell<u64>,
    /// When the driver was last asked; the first reading of the clock since then, if no timer needed it then.
    last_poll: Cell<Option<Instant>>,
    closed_at: Cell<Instant>,
    driver: RefCell<Option<Box<dyn Driver>>>,
    is_virtual: bool,
    handler: RefCell<Option<Handler>>,
    main: Cell<Option<RawTask>>,
    interrupted: Cell<bool>,
    /// An interrupt came too late for the main task.
    unheard: Cell<bool>,
    running: Cell<bool>,
    stopping: Cell<bool>,
    ids: Cell<u64>,
    /// The next task's number, and the end of those taken from the process.
    next_number: Cell<u64>,
    numbers_end: Cell<u64>,
}

impl LoopCore {
    pub(crate) fn new(driver: Box<dyn Driver>) -> Self {
        let now = driver.now();
        LoopCore {
            shared: Arc::new(LoopShared::new(driver.kicker())),
            pool: Pool::new(),
            graves: Graves::default(),
            timers: Timers::new(now),
            operations: Operations::default(),
            remembered: Remembered::default(),
            registry: Registry::default(),
            executor: DefaultExecutor::default(),
            ready: ReadyQueue::default(),
            tasks: TaskList::default(),
            strays: Strays::default(),
            current: CurrentTask::default(),
            entered: EnteredContext::default(),
            turn: Cell::new(0),
            more_handles: Cell::new(0),
            poll_at: Cell::new(0),
            clock_at: Cell::new(0),
            look_at: Cell::new(0),
            last_poll: Cell::new(Some(now)),
            closed_at: Cell::new(now),
            is_virtual: driver.is_virtual(),
            driver: RefCell::new(Some(driver)),
            handler: RefCell::new(None),
            main: Cell::new(None),
            interrupted: Cell::new(false),
            unheard: Cell::new(false),
            running: Cell::new(false),
            stopping: Cell::new(false),
            ids: Cell::new(0),
            next_number: Cell::new(0),
            numbers_end: Cell::new(0),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.shared.id()
    }

    /// A number that this loop has not given out before.
    pub(crate) fn next_id(&self) -> u64 {
        let id = self.ids.get() + 1;
        self.ids.set(id);
        id
    }

    /// N of the next "Task-N".
    #[inline]
    pub(crate) fn next_task_number(&self) -> u64 {
        let mut next = self.next_number.get();
        if next == self.numbers_end.get() {
            let numbers = tasks::take_numbers();
            next = numbers.start;
            self.numbers_end.set(numbers.end);
        }
        self.next_number.set(next + 1);
        next
    }

    pub(crate) fn turn(&self) -> u64 {
        self.turn.get()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.get()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.ready.is_closed()
    }

    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.look_soon();
    }

    /// Has the loop look after this turn for what has changed.
    #[inline]
    pub(crate) fn look_soon(&self) {
        self.look_at.set(0);
    }

    pub(crate) fn handler(&self) -> Option<Handler> {
        self.handler.borrow().clone()
    }

    pub(crate) fn set_handler(&self, handler: Option<Handler>) {
        let old = self.handler.replace(handler);
        discard(old);
    }

    /// The driver's clock; it stands still once the driver is gone.
    pub(crate) fn now(&self) -> Instant {
        self.driver.borrow().as_ref().map_or(self.closed_at.get(), |driver| driver.now())
    }

    /// The driver; `None` once the loop is closed.
    #[inline]
    pub(crate) fn driver(&self) -> RefMut<'_, Option<Box<dyn Driver>>> {
        self.driver.borrow_mut()
    }

    /// Calls `f` with the driver.
    pub(crate) fn with_driver<R>(&self, f: impl FnOnce(&mut dyn Driver) -> R) -> Option<R> {
        self.driver.borrow_mut().as_mut().map(|driver| f(&mut **driver))
    }

    /// Schedules a handle. A closed loop runs none.
    #[inline]
    pub(crate) fn push(&self, handle: Ready) {
        self.ready.push(handle);
    }

    /// Schedules the step of a task that is not scheduled yet. A closed loop runs none.
    #[inline]
    pub(crate) fn push_task(&self, task: &RawTask) {
        self.ready.push_task(task);
    }

    // --- tasks ---------------------------------------------------------------------------------------------------------------

    #[inline]
    pub(crate) fn current_task(&self) -> Option<RawTask> {
        self.current.with(RawTask::clone)
    }

    #[inline]
    pub(crate) fn is_current(&self, task: &RawTask) -> bool {
        self.current.is(task)
    }

    pub(crate) fn all_tasks(&self) -> Vec<RawTask> {
        self.tasks.snapshot()
    }

    pub(crate) fn set_main(&self, task: Option<RawTask>) {
        let old = self.main.replace(task);
        drop(old);
    }

    /// Whether the program was interrupted since this was last asked.
    pub(crate) fn take_interrupted(&self) -> bool {
        self.interrupted.take()
    }

    /// Whether it was since then when the main task had ended, or in its last step.
    pub(crate) fn take_unheard(&self) -> bool {
        self.shared.take_interrupt() | self.unheard.take()
    }

    /// Where the next task that is started will be in the list, unless it has to look for another place.
    #[inline]
    pub(crate) fn next_place(&self) -> u32 {
        self.tasks.next_place()
    }

    pub(crate) fn has_many_tasks(&self) -> bool {
        self.tasks.is_wide()
    }

    #[inline(always)]
    pub(crate) fn prefetch_place(&self, task: &RawTask) {
        self.tasks.prefetch(task);
    }

    /// Whether the list of tasks that have not ended has it.
    pub(crate) fn lists(&self, task: &RawTask) -> bool {
        self.tasks.has(task)
    }

    /// Takes a new task into the loop, which is not closed, and either queues its first step or takes it at once.
    #[inline(always)]
    pub(crate) fn start(&self, task: RawTask, eager: bool) {
        if eager && self.is_running() {
            return self.start_inside_another(task);
        }
        self.ready.push_new(&task);
        self.tasks.push(task);
    }

    #[inline(never)]
    fn start_inside_another(&self, task: RawTask) {
        task.head().queued.set(false);
        self.tasks.push(task.clone());
        let flags = task.raw().header().flags.get();
        let entered = self.entered.set_aside();
        let ended = self.current.run(&task, || self.step(&task, flags));
        self.entered.take_up(entered);
        self.end_step(&task, ended);
    }

    /// A step that begins inside of no other, as nearly all do.
    ///
    /// The processor writes to memory one word at a time, which is what a step costs: so nothing here is given away by its address
    /// but on the ways that are rarely gone.
    #[inline(always)]
    fn step_first(&self, queued: QueuedTask, entered: &mut Entered<'_>) {
        let queued = ManuallyDrop::new(queued);
        let task = queued.task();
        let flags = task.raw().header().flags.get();
        if !RawTask::can_be_polled(flags, flag::OPEN) {
            return self.step_rarely(ManuallyDrop::into_inner(queued), flags);
        }
        // Nothing more is due for being queued: the task is in the list, which keeps it until it has ended.
        let after = task.poll_next(&self.current, entered, flags, flag::OPEN);
        if after & (flag::REQUESTED | flag::COROUTINE) != flag::COROUTINE {
            if after & flag::REQUESTED == 0 && task.is_bare(after) {
                task.raw().finish_with(after);
                // It stays the current one until anybody may ask.
                self.let_go(&task, self.tasks.remove(&task), || self.current.leave());
            } else {
                self.current.leave();
                if after & flag::REQUESTED != 0 {
                    self.settle_first(&queued.task(), flags, after);
                } else {
                    self.finish(&queued.task());
                }
            }
        }
        // Last: the clock of a driver may panic.
        self.timers.settle(|| {
            // A driver's clock may be anything.
            self.current.leave();
            self.now()
        });
    }

    #[cold]
    fn settle_first(&self, task: &RawTask, before: u32, after: u32) {
        let ended = self.current.run(task, || self.settle(task, before, after));
        self.end_step(task, ended);
    }

    #[cold]
    fn step_rarely(&self, queued: QueuedTask, flags: u32) {
        self.current.leave();
        if flags & flag::DONE != 0 {
            return drop(queued);
        }
        let task = queued.task();
        std::mem::forget(queued);
        let ended = self.current.run(&task, || self.step(&task, flags));
        self.end_step(&task, ended);
    }

    /// One step of the task that was made the current one, which has these flags: polls its coroutine, if there is anything to be polled
    /// and no request came before the first step. Returns whether the coroutine is gone.
    fn step(&self, task: &RawTask, flags: u32) -> bool {
        let unborn = task.head().stage.get() == Stage::Unborn && flags & flag::OPEN != 0;
        if !unborn && RawTask::can_be_polled(flags, 0) {
            let after = task.poll_inside(flags);
            let requested = after & flag::REQUESTED != 0;
            return if requested { self.settle(task, flags, after) } else { after & flag::COROUTINE == 0 };
        }
        task.head().queued.set(false);
        unborn && self.abandon(task)
    }

    /// The task is not the current one any more. If its coroutine is gone, that was the end of the task.
    fn end_step(&self, task: &RawTask, ended: bool) {
        if ended {
            self.finish(task);
        }
        self.timers.settle(|| self.now());
    }

    /// A step before and after whose poll the task had these flags has ended with requests about. Returns whether the coroutine is gone.
    #[cold]
    fn settle(&self, task: &RawTask, before: u32, after: u32) -> bool {
        if after & flag::COROUTINE == 0 {
            cancel::ending(task);
            return true;
        }
        task.raw().header().clear(flag::PROBE | flag::CHANCE);
        match cancel::settle(task, before & flag::PROBE != 0) {
            Settled::Suspended => false,
            Settled::Abandoned => self.abandon(task),
        }
    }

    /// Drops the coroutine of a task that ends as cancelled.
    #[cold]
    fn abandon(&self, task: &RawTask) -> bool {
        task.drop_coroutine(self);
        task.raw().put_error(Error::cancelled_with(task.head().cancel_message()), flag::CANCELLED);
        true
    }

    /// Ends a task whose coroutine is gone, and whose result is stored.
    #[inline(never)]
    fn finish(&self, task: &RawTask) {
        if await_point::are_left(task) { self.finish_leaving(task) } else { self.conclude(task) }
    }

    #[cold]
    fn finish_leaving(&self, task: &RawTask) {
        task.forget_wakers();
        let orphaned = await_point::withdraw_all(task);
        self.conclude(task);
        for waker in orphaned.into_iter().filter_map(|mut waker| waker.take()) {
            self.guard("a waker panicked", || waker.wake());
        }
    }

    fn conclude(&self, task: &RawTask) {
        task.forget_wakers();
        let flags = task.raw().header().flags.get();
        // An error that may have to be reported is reported in the task's context.
        let context = if flags & flag::LOG != 0 { None } else { task.take_context() };
        task.raw().finish_with(flags);
        let linked = self.tasks.remove(task);
        if let Some(context) = context {
            own_context::leave(context);
        }
        if task.raw().header().has(flag::SHIELDED) {
            shield::report_lost(task.raw());
        }
        // Last: nobody else may hold the task.
        self.let_go(task, linked, || ());
    }

    /// Drops the list's reference to a task that has ended, or leaves it to the queue, which needs it from now on. Calls `before` if the
    /// task's memory goes, and its result with it.
    #[inline(always)]
    fn let_go(&self, task: &RawTask, linked: Option<RawTask>, before: impl FnOnce()) {
        if task.head().queued.get() {
            return std::mem::forget(linked);
        }
        if let Some(linked) = linked {
            if linked.is_held_once() {
                before();
            }
            drop(linked);
        }
    }

    // --- turns ---------------------------------------------------------------------------------------------------------------

    /// Runs turns until [`stop`](Self::stop).
    fn run_turns(&self, entered: &mut Entered<'_>) -> Result<()> {
        self.receive_sent();
        self.look()?;
        loop {
            let mut ready = self.ready.len();
            if ready == 0 {
                // Another thread may have ended the wait.
                self.receive_sent();
                ready = self.ready_unless_due();
            }
            while ready > 0 {
                self.run_ready(ready, entered);
                if self.shared.is_pending() {
                    self.current.leave();
                    self.receive_sent();
                }
                ready = self.ready_unless_due();
            }
            self.current.leave();
            if self.stopping.replace(false) {
                return self.flush();
            }
            self.look()?;
        }
    }

    /// How many handles are ready; 0 if there is anything to look for before they run.
    #[inline(always)]
    fn ready_unless_due(&self) -> usize {
        if self.handles() < self.look_at.get() { self.ready.len() } else { 0 }
    }

    /// An error in another process than that of the driver.
    pub(crate) fn check_process(&self) -> Result<()> {
        Ok(self.driver.borrow().as_ref().map_or(Ok(()), |driver| driver.check())?)
    }

    /// Makes ready what completed and what is due. Waits if nothing is ready.
    #[inline(never)]
    fn look(&self) -> Result<()> {
        let looked = self.gather();
        let soon = self.is_virtual || self.stopping.get() || self.timers.is_due() || self.operations.has_news();
        self.look_at.set(if soon { 0 } else { self.poll_at.get().min(self.clock_at.get()) });
        looked
    }

    fn gather(&self) -> Result<()> {
        let posted = self.operations.take_posted();
        if posted > 0 {
            self.push(Ready::Completions(posted));
        }
        let idle = self.ready.len() == 0;
        if idle || self.is_virtual || self.handles() >= self.poll_at.get() {
            return self.ask_driver(idle);
        }
        self.flush()?;
        if self.handles() >= self.clock_at.get() || self.timers.is_due() {
            self.clock_at.set(self.handles() + HANDLES_PER_CLOCK);
            if self.timers.is_empty() && self.operations.is_idle() {
                // Nobody waits for a time or for the driver, and to read the clock costs what some handles do.
                return Ok(());
            }
            let now = self.now();
            match self.last_poll.get() {
                Some(last) if now - last >= TIME_PER_POLL => return self.ask_driver(false),
                Some(_) => {}
                None => self.last_poll.set(Some(now)),
            }
            self.timers.expire(now, |key| self.push(Ready::Timer(key)));
        }
        Ok(())
    }

    /// What was written in the last turn leaves, if the driver is not asked now.
    #[inline]
    fn flush(&self) -> Result<()> {
        if self.operations.take_wrote()
            && let Some(driver) = self.driver.borrow_mut().as_mut()
        {
            driver.flush()?;
        }
        Ok(())
    }

    fn ask_driver(&self, idle: bool) -> Result<()> {
        self.operations.take_wrote();
        if idle {
            self.ready.rest();
        }
        let wait = match self.timers.next_wake() {
            _ if !idle || self.stopping.get() || self.timers.is_due() => Wait::No,
            Some(deadline) => Wait::Until(self.put_off(deadline)),
            None => Wait::Forever,
        };
        if self.is_closed() {
            // A fork in the last step has left this loop to the parent.
            self.check_process()?;
        }
        if wait == Wait::Forever && self.is_virtual && self.is_deadlocked() {
            return Err(self.deadlock());
        }
        let now = {
            let mut driver_guard = self.driver.borrow_mut();
            let Some(driver) = driver_guard.as_mut() else { return Err(Error::runtime("the event loop is closed")) };
            let mut arrived = self.operations.arrived();
            let before = arrived.len();
            let turned = driver.turn(wait, &mut arrived);
            let count = arrived.len() - before;
            if count > 0 {
                self.push(Ready::Completions(count));
            }
            match turned {
                Err(error) if error.kind() == io::ErrorKind::Deadlock => {
                    drop((driver_guard, arrived));
                    return if self.registry.awaits_reply() { Ok(()) } else { Err(self.deadlock()) };
                }
                turned => turned?,
            }
            (!self.timers.is_empty()).then(|| driver.now())
        };
        self.poll_at.set(self.handles() + HANDLES_PER_POLL);
        let clock_after = if now.is_some() { HANDLES_PER_CLOCK } else { HANDLES_TO_FIRST_CLOCK };
        self.clock_at.set(self.handles() + clock_after);
        self.last_poll.set(now);
        if let Some(now) = now {
            self.timers.expire(now, |key| self.push(Ready::Timer(key)));
        }
        Ok(())
    }

    /// Until when to sleep, if this is the next deadline.
    fn put_off(&self, deadline: Instant) -> Instant {
        match self.last_poll.get() {
            Some(now) if !self.is_virtual => self.timers.put_off(deadline, now),
            _ => deadline,
        }
    }

    /// Receives what was sent on the loop's own thread, after what other threads sent before.
    pub(crate) fn receive_at_home(&self, message: Message) {
        self.receive_sent();
        self.receive(message);
    }

    /// Receives what other threads sent.
    #[inline(always)]
    fn receive_sent(&self) {
        if self.shared.is_pending() {
            self.shared.drain(|message| self.receive(message));
        }
    }

    fn receive(&self, message: Message) {
        match message {
            Message::Wake(backing) => backing.arrive(),
            Message::Call(call) => self.push(Ready::Call(RemoteCall::into_call(call, self))),
            Message::Interrupt => {
                self.interrupted.set(true);
                let main = self.main.take();
                self.main.set(main.clone());
                match main {
                    Some(main) if main.raw().is_done() => self.unheard.set(true),
                    Some(main) => drop(cancel::cancel(main.raw(), None)),
                    None => (),
                }
            }
        }
    }

    /// Runs exactly the handles that are ready now, of which there are so many. An iteration without any is no turn.
    #[inline(always)]
    fn run_ready(&self, count: usize, entered: &mut Entered<'_>) {
        self.turn.set(self.turn.get() + 1);
        if count > 1 {
            self.count_handles(count);
        }
        self.ready.run(self, entered, count);
    }

    /// Handles run so far.
    #[inline]
    fn handles(&self) -> u64 {
        self.turn.get() + self.more_handles.get()
    }

    /// So many run where a turn, or one of its handles, stands for one.
    #[inline]
    fn count_handles(&self, count: usize) {
        self.more_handles.set(self.more_handles.get() + count as u64 - 1);
    }

    #[inline(always)]
    pub(crate) fn run_handle(&self, handle: Option<QueuedTask>, entered: &mut Entered<'_>) {
        match handle {
            Some(queued) => self.step_first(queued, entered),
            None => self.run_other(),
        }
    }

    #[inline(never)]
    fn run_other(&self) {
        self.current.leave();
        match self.ready.pop_other() {
            Some(Ready::Call(call)) => call.run(self),
            Some(Ready::Hook(hook, index)) => self.guard("a callback panicked", || hook.run(self, index)),
            Some(Ready::Timer(key)) => {
                if let Some(later) = self.ready.timer_ahead() {
                    self.timers.prefetch(later);
                }
                self.timers.run(self, key);
            }
            Some(Ready::Completions(count)) => {
                self.count_handles(count);
                self.operations.hand_over(self, count);
            }
            None => (),
        }
    }
}

impl LoopRef {
    /// Runs turns until [`stop`](LoopCore::stop).
    pub(crate) fn run_forever(&self) -> Result<()> {
        if self.running.get() {
            return Err(Error::runtime("this event loop is already running"));
        }
        if self.is_closed() {
            return Err(Error::runtime("the event loop is closed"));
        }
        self.check_process()?;
        let Some(mut entered) = home::enter(self) else {
            return Err(Error::runtime("cannot run the event loop while another loop is running"));
        };
        let _running = Running::mark(self);
        self.run_turns(&mut entered)
    }
}

/// Until it is dropped, the loop runs.
struct Running<'a>(&'a LoopCore);

impl<'a> Running<'a> {
    fn mark(core: &'a LoopCore) -> Self {
        core.running.set(true);
        Running(core)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.current.leave();
        self.0.running.set(false);
    }
}

impl fmt::Debug for LoopCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loop")
            .field("running", &self.running.get())
            .field("closed", &self.is_closed())
            .field("turn", &self.turn.get())
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}
