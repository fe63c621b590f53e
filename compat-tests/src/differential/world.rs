//! [`World`]: what the coroutines of a running program share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use aioli_core::{
    AsCompleted, Barrier, Condition, ContextVar, Error, Event as Flag, Future, Handle, Instant, LifoQueue, Lock, Loop,
    PriorityQueue, PutError, Queue, Result, Semaphore, TimerHandle, ensure_future,
};

use super::coroutine::Coroutine;
use super::program::{Item, Program, QueueKind, QueueSpec, Slot, TICK};
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
    pub(super) handles: RefCell<BTreeMap<usize, Scheduled>>,
    pub(super) locks: Vec<Lock>,
    pub(super) events: Vec<Flag>,
    pub(super) conds: Vec<Condition>,
    pub(super) sems: Vec<Semaphore>,
    pub(super) barriers: Vec<Barrier>,
    pub(super) queues: Vec<AnyQueue>,
    pub(super) vars: Vec<ContextVar<i64>>,
    instances: Cell<i64>,
    log: RefCell<Vec<Event>>,
    statements: RefCell<BTreeSet<&'static str>>,
    over: Cell<bool>,
}

/// A callback that `call_soon` or `call_later` scheduled.
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
        Ok(Rc::new(World {
            futures: several(program.futures, || event_loop.create_future()),
            tasks: RefCell::default(),
            kept: RefCell::default(),
            handles: RefCell::default(),
            locks: several(program.locks, Lock::new),
            events: several(program.events, Flag::new),
            conds: several(program.conds, Condition::new),
            sems: program.sems.iter().map(|value| Semaphore::new(*value)).collect(),
            barriers: program.barriers.iter().map(|parties| Barrier::new(*parties)).collect::<Result<_>>()?,
            queues: program.queues.iter().map(AnyQueue::new).collect(),
            vars: several(program.vars, ContextVar::new),
            instances: Cell::new(0),
            log: RefCell::default(),
            statements: RefCell::default(),
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
        drop((tasks, kept, handles));
        // Their errors are not to be reported: they count as retrieved.
        self.futures.iter().for_each(|future| drop(future.exception()));
        Ran { trace: Trace { events: self.log.take() }, statements: self.statements.take() }
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

    pub(super) fn schedule(&self, number: usize, handle: Scheduled) {
        let old = self.handles.borrow_mut().insert(number, handle);
        drop(old);
    }
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

    pub(super) fn task_done(&self) -> Result<()> {
        each!(self, queue => queue.task_done())
    }

    pub(super) fn shutdown(&self, immediate: bool) {
        each!(self, queue => queue.shutdown(immediate));
    }
}
