//! [`World`]: what the coroutines of a running program share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use aioli_core::{
    AsCompleted, Barrier, Condition, ContextVar, Error, Event as Flag, Future, Handle, Instant, LifoQueue, Lock, Loop,
    PriorityQueue, PutError, Queue, Result, Semaphore, TimerHandle, ensure_future,
};

use super::coroutine::Coroutine;
use super::gathered::Gathered;
use super::program::{Item, Program, QueueKind, QueueSpec, Slot, TICK, Version};
use super::run::Ran;
use super::trace::{EmptySlot, Event, Trace, Value};

pub(super) struct World {
    pub(super) program: Rc<Program>,
    pub(super) event_loop: Loop,
    first_turn: u64,
    began: Instant,
    pub(super) futures: Vec<Future<Value>>,
    pub(super) tasks: RefCell<BTreeMap<usize, Future<Value>>>,
    /// What goes on although nobody waits for it any more.
    kept: RefCell<Vec<Rc<AsCompleted<Value>>>>,
    /// What `gather_to` made last under each number.
    gathers: RefCell<BTreeMap<usize, Gathered>>,
    pub(super) handles: RefCell<BTreeMap<usize, Scheduled>>,
    pub(super) locks: Vec<Rc<Lock>>,
    pub(super) events: Vec<Flag>,
    pub(super) conds: Vec<Condition>,
    pub(super) sems: Vec<Semaphore>,
    pub(super) barriers: Vec<Barrier>,
    pub(super) queues: Vec<AnyQueue>,
    pub(super) vars: Vec<ContextVar<i64>>,
    instances: Cell<i64>,
    log: RefCell<Vec<Event>>,
    statements: RefCell<BTreeSet<&'static str>>,
    stopped: Cell<bool>,
    over: Cell<bool>,
}

/// A callback that is scheduled for the next turn or for later.
pub(super) enum Scheduled {
    Soon(Handle),
    Later(TimerHandle),
}

impl Scheduled {
    pub(super) fn cancel(&self) {
        match self {
            Scheduled::Soon(handle) => handle.cancel(),
            Scheduled::Later(handle) => handle.cancel(),
        }
    }
}

impl World {
    /// The world of a program whose main task takes its first step now.
    pub(super) fn new(program: &Rc<Program>, event_loop: Loop) -> Result<Rc<Self>> {
        fn several<T>(count: usize, new: impl Fn() -> T) -> Vec<T> {
            (0..count).map(|_| new()).collect()
        }
        let locks = several(program.locks, || Rc::new(Lock::new()));
        // From version 2 on a condition has the lock of its number, where there is one.
        let shared = |number: &usize| locks.get(*number).filter(|_| program.version >= Version::Two);
        let cond = |number| shared(&number).map_or_else(Condition::new, |lock| Condition::with_lock(Rc::clone(lock)));
        Ok(Rc::new(World {
            futures: several(program.futures, || event_loop.create_future()),
            tasks: RefCell::default(),
            kept: RefCell::default(),
            gathers: RefCell::default(),
            handles: RefCell::default(),
            events: several(program.events, Flag::new),
            conds: (0..program.conds).map(cond).collect(),
            locks,
            sems: program.sems.iter().map(|value| Semaphore::new(*value)).collect(),
            barriers: program.barriers.iter().map(|parties| Barrier::new(*parties)).collect::<Result<_>>()?,
            queues: program.queues.iter().map(AnyQueue::new).collect(),
            vars: several(program.vars, ContextVar::new),
            instances: Cell::new(0),
            log: RefCell::default(),
            statements: RefCell::default(),
            stopped: Cell::new(false),
            over: Cell::new(false),
            first_turn: event_loop.turn(),
            began: event_loop.time(),
            program: Rc::clone(program),
            event_loop,
        }))
    }

    /// The number of a coroutine object that is made now.
    pub(super) fn next_instance(&self) -> i64 {
        self.instances.replace(self.instances.get() + 1)
    }

    /// Whether the trace has ended; what runs still is to end soon.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// A statement is about to run.
    pub(super) fn note(&self, statement: &'static str) {
        self.statements.borrow_mut().insert(statement);
    }

    pub(super) fn log(&self, instance: i64, name: &'static str, value: impl Into<Value>) {
        self.record(0, instance, name, false, value.into());
    }

    pub(super) fn log_error(&self, instance: i64, name: &'static str, error: &Error) {
        self.record(0, instance, name, true, error.into());
    }

    /// The loop has nothing more to run, and would wait in the coming turn for ever.
    pub(super) fn log_deadlock(&self) {
        self.record(1, -1, "deadlock", false, Value::Null);
    }

    fn record(&self, turns_ahead: u64, instance: i64, name: &'static str, failed: bool, value: Value) {
        if self.over.get() {
            return;
        }
        let turn = self.event_loop.turn() - self.first_turn + turns_ahead;
        let passed = (self.event_loop.time() - self.began).as_nanos();
        let ticks = (passed + TICK.unsigned_abs() as u128 / 2) / TICK.unsigned_abs() as u128;
        let tick = i64::try_from(ticks).unwrap_or(i64::MAX);
        self.log.borrow_mut().push(Event { turn, tick, instance, name, failed, value });
    }

    /// Ends the trace and gives it away. What holds the world is dropped.
    pub(super) fn end(&self) -> Ran {
        self.over.set(true);
        let (tasks, kept, handles) = (self.tasks.take(), self.kept.take(), self.handles.take());
        drop((tasks, kept, handles, self.gathers.take()));
        // Their errors are not to be reported: they count as retrieved.
        self.futures.iter().for_each(|future| drop(future.exception()));
        Ran { trace: Trace { events: self.log.take() }, statements: self.statements.take() }
    }

    /// Stops the loop at the end of the turn.
    pub(super) fn stop(&self) {
        self.stopped.set(true);
        self.event_loop.stop();
    }

    /// Whether a statement stopped the loop.
    pub(super) fn was_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// How every lock, event, condition, semaphore, barrier and queue is.
    pub(super) fn states(&self) -> Vec<Value> {
        let mut states = Vec::new();
        states.extend(self.locks.iter().map(|lock| Value::Bool(lock.locked())));
        states.extend(self.events.iter().map(|event| Value::Bool(event.is_set())));
        states.extend(self.conds.iter().map(|cond| Value::Bool(cond.locked())));
        states.extend(self.sems.iter().map(|sem| Value::Bool(sem.locked())));
        for barrier in &self.barriers {
            states.extend([number(barrier.n_waiting()), Value::Bool(barrier.broken())]);
        }
        self.queues.iter().for_each(|queue| states.extend(queue.state()));
        states
    }

    /// Has the futures that are pending for ever drop their callbacks, which hold the world. CPython's collector finds such a circle.
    pub(super) fn let_go(&self) {
        for future in &self.futures {
            future.cancel(None);
        }
    }

    /// Ends the trace, which stays.
    pub(super) fn close(&self) {
        self.over.set(true);
    }

    pub(super) fn held(&self, slot: Slot) -> Option<Future<Value>> {
        match slot {
            Slot::Task(number) => self.tasks.borrow().get(&number).cloned(),
            Slot::Future(number) => self.futures.get(number).cloned(),
        }
    }

    pub(super) fn slot(&self, slot: Slot) -> Result<Future<Value>> {
        self.held(slot).ok_or_else(|| Error::new(EmptySlot))
    }

    pub(super) fn slots(&self, slots: &[Slot]) -> Result<Vec<Future<Value>>> {
        slots.iter().map(|slot| self.slot(*slot)).collect()
    }

    pub(super) fn item(self: &Rc<Self>, item: Item) -> Result<Given> {
        Ok(match item {
            Item::Slot(slot) => Given::Future(self.slot(slot)?),
            Item::Coro(number) => Given::Coroutine(Coroutine::new(self, number)),
        })
    }

    pub(super) fn keep(&self, completed: Rc<AsCompleted<Value>>) {
        self.kept.borrow_mut().push(completed);
    }

    pub(super) fn store(&self, slot: usize, task: Future<Value>) {
        let old = self.tasks.borrow_mut().insert(slot, task);
        drop(old);
    }

    pub(super) fn keep_gather(&self, number: usize, gathered: Gathered) {
        let old = self.gathers.borrow_mut().insert(number, gathered);
        drop(old);
    }

    pub(super) fn gathered(&self, number: usize) -> Option<Gathered> {
        self.gathers.borrow().get(&number).cloned()
    }

    pub(super) fn schedule(&self, number: usize, handle: Scheduled) {
        let old = self.handles.borrow_mut().insert(number, handle);
        drop(old);
    }
}

pub(super) fn number(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Something to wait for.
pub(super) enum Given {
    Future(Future<Value>),
    Coroutine(Coroutine),
}

impl Given {
    /// As a future; a coroutine becomes a task.
    pub(super) fn into_future(self) -> Result<Future<Value>> {
        match self {
            Given::Future(future) => Ok(future),
            Given::Coroutine(coroutine) => ensure_future(coroutine),
        }
    }
}

/// A queue of any kind.
pub(super) enum AnyQueue {
    Fifo(Queue<i64>),
    Lifo(LifoQueue<i64>),
    Priority(PriorityQueue<i64>),
}

macro_rules! each {
    ($any:expr, $queue:ident => $body:expr) => {
        match $any {
            AnyQueue::Fifo($queue) => $body,
            AnyQueue::Lifo($queue) => $body,
            AnyQueue::Priority($queue) => $body,
        }
    };
}

impl AnyQueue {
    fn new(spec: &QueueSpec) -> Self {
        match spec.kind {
            QueueKind::Fifo => AnyQueue::Fifo(Queue::new(spec.maxsize)),
            QueueKind::Lifo => AnyQueue::Lifo(LifoQueue::new(spec.maxsize)),
            QueueKind::Priority => AnyQueue::Priority(PriorityQueue::new(spec.maxsize)),
        }
    }

    pub(super) async fn put(&self, item: i64) -> Result<()> {
        each!(self, queue => queue.put(item).await)
    }

    pub(super) async fn get(&self) -> Result<i64> {
        each!(self, queue => queue.get().await)
    }

    pub(super) async fn join(&self) -> Result<()> {
        each!(self, queue => queue.join().await)
    }

    pub(super) fn put_nowait(&self, item: i64) -> Result<()> {
        each!(self, queue => queue.put_nowait(item).map_err(|refused: PutError<i64>| refused.error))
    }

    pub(super) fn get_nowait(&self) -> Result<i64> {
        each!(self, queue => queue.get_nowait())
    }

    /// How many items there are, and whether there are none, or as many as there may be.
    fn state(&self) -> [Value; 3] {
        each!(self, queue => [number(queue.qsize()), Value::Bool(queue.empty()), Value::Bool(queue.full())])
    }

    pub(super) fn task_done(&self) -> Result<()> {
        each!(self, queue => queue.task_done())
    }

    pub(super) fn shutdown(&self, immediate: bool) {
        each!(self, queue => queue.shutdown(immediate));
    }
}
