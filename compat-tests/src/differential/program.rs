//! [`Program`]: a program of the differential language.

use std::fmt;

/// The length of a tick in nanoseconds: 2^-9 s.
pub const TICK: i64 = 1_953_125;

/// A version of the language. A later one has all that the earlier ones have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Version {
    /// The first.
    #[default]
    One = 1,
    /// With callbacks that act, gathers and shields that are kept, `stop`, and conditions that share the program's locks.
    Two = 2,
}

impl Version {
    /// All, the first one first.
    pub const ALL: [Version; 2] = [Version::One, Version::Two];

    /// The version of a number, if there is one.
    pub fn from_number(number: u64) -> Option<Self> {
        Version::ALL.into_iter().find(|version| version.number() == number)
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self as u64
    }
}

/// A program. Its first coroutine is the main body.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Program {
    /// The version of the language.
    pub version: Version,
    /// Where it comes from; has no effect.
    pub seed: Option<u64>,
    /// The bodies of the coroutines.
    pub coros: Vec<Block>,
    /// How many futures there are.
    pub futures: usize,
    /// How many locks.
    pub locks: usize,
    /// How many events.
    pub events: usize,
    /// How many conditions. From version 2 on, a condition has the lock of its number, where there is one.
    pub conds: usize,
    /// The semaphores, by their initial values.
    pub sems: Vec<usize>,
    /// The barriers, by their parties.
    pub barriers: Vec<usize>,
    /// The queues.
    pub queues: Vec<QueueSpec>,
    /// How many context variables.
    pub vars: usize,
}

/// Statements that run one after the other.
pub type Block = Vec<Stmt>;

/// A duration in ticks.
pub type Ticks = i64;

/// A queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueSpec {
    /// The order of its items.
    pub kind: QueueKind,
    /// How many items it holds; 0 is without limit.
    pub maxsize: usize,
}

/// The order of a queue's items.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueKind {
    /// First in, first out.
    Fifo,
    /// Last in, first out.
    Lifo,
    /// The smallest first.
    Priority,
}

/// Where a task or future is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// What `spawn` or `gspawn` stored last under this number.
    Task(usize),
    /// One of the program's futures.
    Future(usize),
}

/// Something to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    /// What a slot holds.
    Slot(Slot),
    /// A fresh coroutine object.
    Coro(usize),
}

/// When `wait` returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitMode {
    /// When all are done.
    All,
    /// When one is done.
    First,
    /// When one has failed.
    Exception,
}

/// Which errors a handler of `try` fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Catch {
    /// Cancellations.
    Cancelled,
    /// Timeouts.
    Timeout,
    /// Errors of the program's own.
    User,
    /// Errors of task groups.
    Group,
    /// Everything but cancellations.
    Error,
    /// Everything.
    Any,
}

/// A handler of `try`.
#[derive(Clone, PartialEq, Debug)]
pub struct Handler {
    /// Which errors it fits.
    pub catch: Catch,
    /// What it does.
    pub body: Block,
    /// Whether it raises the error again.
    pub reraise: bool,
}

/// A statement. The language's page says what each does.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "each is described in the language's page by its own name")]
pub enum Stmt {
    Log(i64),
    Sleep(Ticks),
    Return(i64),
    Raise(i64),
    RaiseCancelled(Option<String>),
    Loop(usize, Block),
    Spawn {
        slot: usize,
        coro: usize,
        eager: bool,
    },
    Await(Item),
    Cancel(Slot, Option<String>),
    Uncancel,
    Cancelling,
    State(Slot),
    SetResult(usize, i64),
    SetError(usize, i64),
    DoneCb(Slot, i64),
    Gather(Vec<Item>, bool),
    Wait(Vec<Slot>, WaitMode, Option<Ticks>),
    WaitFor(Item, Option<Ticks>),
    Shield(Item),
    AsCompleted(Vec<Slot>, Option<Ticks>),
    Timeout(Option<Ticks>, Block),
    Reschedule(Option<Ticks>),
    Group(Block),
    Gspawn {
        slot: usize,
        coro: usize,
    },
    Try {
        body: Block,
        handlers: Vec<Handler>,
        finally: Block,
    },
    CallSoon(usize, i64),
    CallLater(usize, Ticks, i64),
    Hcancel(usize),
    Lock(usize, Block),
    Cond(usize, Block),
    Sem(usize, Block),
    Acquire(usize),
    Release(usize),
    SemRelease(usize),
    EventWait(usize),
    EventSet(usize),
    EventClear(usize),
    CondWait(usize),
    Notify(usize, usize),
    NotifyAll(usize),
    Barrier(usize),
    BarrierReset(usize),
    BarrierAbort(usize),
    Put(usize, i64),
    Get(usize),
    Join(usize),
    PutNowait(usize, i64),
    GetNowait(usize),
    TaskDone(usize),
    Shutdown(usize, bool),
    CtxSet(usize, i64),
    CtxGet(usize),
    /// Makes a gather and keeps it under a number.
    GatherTo(usize, Vec<Item>, bool),
    /// Awaits a gather that is kept.
    GAwait(usize),
    /// Cancels one.
    GCancel(usize, Option<String>),
    /// Makes a shield and stores it as a task would be.
    ShieldTo(usize, Item),
    /// Adds a callback that runs statements.
    DoneAct(Slot, Block),
    /// Schedules one for the next turn.
    SoonAct(usize, Block),
    /// Schedules one for later.
    LaterAct(usize, Ticks, Block),
    /// Acquires a semaphore for whoever releases it.
    SemAcquire(usize),
    /// Waits on a condition until an event is set.
    CondWaitFor(usize, usize),
    /// Logs how every lock, event, condition, semaphore, barrier and queue is.
    States,
    /// Stops the loop at the end of the turn.
    Stop,
}

impl Stmt {
    /// How many statements version 1 has.
    const FIRST: usize = 52;

    /// All names of statements, those of version 1 first.
    pub const NAMES: [&'static str; 63] = [
        "log",
        "sleep",
        "return",
        "raise",
        "raise_cancelled",
        "loop",
        "spawn",
        "await",
        "cancel",
        "uncancel",
        "cancelling",
        "state",
        "set_result",
        "set_error",
        "done_cb",
        "gather",
        "wait",
        "wait_for",
        "shield",
        "as_completed",
        "timeout",
        "reschedule",
        "group",
        "gspawn",
        "try",
        "call_soon",
        "call_later",
        "hcancel",
        "lock",
        "cond",
        "sem",
        "acquire",
        "release",
        "sem_release",
        "event_wait",
        "event_set",
        "event_clear",
        "cond_wait",
        "notify",
        "notify_all",
        "barrier",
        "barrier_reset",
        "barrier_abort",
        "put",
        "get",
        "join",
        "put_nowait",
        "get_nowait",
        "task_done",
        "shutdown",
        "ctx_set",
        "ctx_get",
        "gather_to",
        "g_await",
        "g_cancel",
        "shield_to",
        "done_act",
        "soon_act",
        "later_act",
        "sem_acquire",
        "cond_wait_for",
        "states",
        "stop",
    ];

    /// The names of the statements that a version has.
    pub fn names(version: Version) -> &'static [&'static str] {
        let all: &'static [&'static str] = &Self::NAMES;
        match version {
            Version::One => &all[..Self::FIRST],
            Version::Two => all,
        }
    }

    /// The first version that has a statement of this name.
    pub fn since(name: &str) -> Option<Version> {
        Version::ALL.into_iter().find(|version| Self::names(*version).contains(&name))
    }

    /// Its name in the language.
    pub fn name(&self) -> &'static str {
        match self {
            Stmt::Log(_) => "log",
            Stmt::Sleep(_) => "sleep",
            Stmt::Return(_) => "return",
            Stmt::Raise(_) => "raise",
            Stmt::RaiseCancelled(_) => "raise_cancelled",
            Stmt::Loop(..) => "loop",
            Stmt::Spawn { .. } => "spawn",
            Stmt::Await(_) => "await",
            Stmt::Cancel(..) => "cancel",
            Stmt::Uncancel => "uncancel",
            Stmt::Cancelling => "cancelling",
            Stmt::State(_) => "state",
            Stmt::SetResult(..) => "set_result",
            Stmt::SetError(..) => "set_error",
            Stmt::DoneCb(..) => "done_cb",
            Stmt::Gather(..) => "gather",
            Stmt::Wait(..) => "wait",
            Stmt::WaitFor(..) => "wait_for",
            Stmt::Shield(_) => "shield",
            Stmt::AsCompleted(..) => "as_completed",
            Stmt::Timeout(..) => "timeout",
            Stmt::Reschedule(_) => "reschedule",
            Stmt::Group(_) => "group",
            Stmt::Gspawn { .. } => "gspawn",
            Stmt::Try { .. } => "try",
            Stmt::CallSoon(..) => "call_soon",
            Stmt::CallLater(..) => "call_later",
            Stmt::Hcancel(_) => "hcancel",
            Stmt::Lock(..) => "lock",
            Stmt::Cond(..) => "cond",
            Stmt::Sem(..) => "sem",
            Stmt::Acquire(_) => "acquire",
            Stmt::Release(_) => "release",
            Stmt::SemRelease(_) => "sem_release",
            Stmt::EventWait(_) => "event_wait",
            Stmt::EventSet(_) => "event_set",
            Stmt::EventClear(_) => "event_clear",
            Stmt::CondWait(_) => "cond_wait",
            Stmt::Notify(..) => "notify",
            Stmt::NotifyAll(_) => "notify_all",
            Stmt::Barrier(_) => "barrier",
            Stmt::BarrierReset(_) => "barrier_reset",
            Stmt::BarrierAbort(_) => "barrier_abort",
            Stmt::Put(..) => "put",
            Stmt::Get(_) => "get",
            Stmt::Join(_) => "join",
            Stmt::PutNowait(..) => "put_nowait",
            Stmt::GetNowait(_) => "get_nowait",
            Stmt::TaskDone(_) => "task_done",
            Stmt::Shutdown(..) => "shutdown",
            Stmt::CtxSet(..) => "ctx_set",
            Stmt::CtxGet(_) => "ctx_get",
            Stmt::GatherTo(..) => "gather_to",
            Stmt::GAwait(_) => "g_await",
            Stmt::GCancel(..) => "g_cancel",
            Stmt::ShieldTo(..) => "shield_to",
            Stmt::DoneAct(..) => "done_act",
            Stmt::SoonAct(..) => "soon_act",
            Stmt::LaterAct(..) => "later_act",
            Stmt::SemAcquire(_) => "sem_acquire",
            Stmt::CondWaitFor(..) => "cond_wait_for",
            Stmt::States => "states",
            Stmt::Stop => "stop",
        }
    }

    /// Whether it may stand in a callback that acts: it neither awaits nor has a coroutine's statements inside, and asks for no
    /// current task.
    pub fn may_act(&self) -> bool {
        matches!(
            self,
            Stmt::Log(_)
                | Stmt::Raise(_)
                | Stmt::RaiseCancelled(_)
                | Stmt::Spawn { .. }
                | Stmt::Cancel(..)
                | Stmt::State(_)
                | Stmt::SetResult(..)
                | Stmt::SetError(..)
                | Stmt::DoneCb(..)
                | Stmt::CallSoon(..)
                | Stmt::CallLater(..)
                | Stmt::Hcancel(_)
                | Stmt::Release(_)
                | Stmt::SemRelease(_)
                | Stmt::EventSet(_)
                | Stmt::EventClear(_)
                | Stmt::Notify(..)
                | Stmt::NotifyAll(_)
                | Stmt::PutNowait(..)
                | Stmt::GetNowait(_)
                | Stmt::TaskDone(_)
                | Stmt::Shutdown(..)
                | Stmt::CtxSet(..)
                | Stmt::CtxGet(_)
                | Stmt::GatherTo(..)
                | Stmt::GCancel(..)
                | Stmt::ShieldTo(..)
                | Stmt::DoneAct(..)
                | Stmt::SoonAct(..)
                | Stmt::LaterAct(..)
                | Stmt::States
                | Stmt::Stop
        )
    }

    /// The blocks directly inside.
    pub fn blocks(&self) -> Vec<&Block> {
        match self {
            Stmt::Loop(_, body)
            | Stmt::Timeout(_, body)
            | Stmt::Group(body)
            | Stmt::Lock(_, body)
            | Stmt::Cond(_, body)
            | Stmt::Sem(_, body)
            | Stmt::DoneAct(_, body)
            | Stmt::SoonAct(_, body)
            | Stmt::LaterAct(_, _, body) => vec![body],
            Stmt::Try { body, handlers, finally } => {
                let handled = handlers.iter().map(|handler| &handler.body);
                std::iter::once(body).chain(handled).chain([finally]).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The blocks directly inside, to be changed.
    pub fn blocks_mut(&mut self) -> Vec<&mut Block> {
        match self {
            Stmt::Loop(_, body)
            | Stmt::Timeout(_, body)
            | Stmt::Group(body)
            | Stmt::Lock(_, body)
            | Stmt::Cond(_, body)
            | Stmt::Sem(_, body)
            | Stmt::DoneAct(_, body)
            | Stmt::SoonAct(_, body)
            | Stmt::LaterAct(_, _, body) => vec![body],
            Stmt::Try { body, handlers, finally } => {
                let handled = handlers.iter_mut().map(|handler| &mut handler.body);
                std::iter::once(body).chain(handled).chain([finally]).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Calls `visit` with this statement and all inside.
    pub fn visit<'a>(&'a self, visit: &mut impl FnMut(&'a Stmt)) {
        visit(self);
        for block in self.blocks() {
            block.iter().for_each(|stmt| stmt.visit(visit));
        }
    }
}

impl Program {
    /// Calls `visit` with every statement.
    pub fn visit<'a>(&'a self, mut visit: impl FnMut(&'a Stmt)) {
        self.coros.iter().flatten().for_each(|stmt| stmt.visit(&mut visit));
    }

    /// The first version that has all its statements.
    pub fn needs(&self) -> Version {
        let mut needed = Version::One;
        self.visit(|stmt| needed = needed.max(Stmt::since(stmt.name()).unwrap_or_default()));
        needed
    }

    /// How many statements there are.
    pub fn len(&self) -> usize {
        let mut count = 0;
        self.visit(|_| count += 1);
        count
    }

    /// Whether there are no statements.
    pub fn is_empty(&self) -> bool {
        self.coros.iter().all(Vec::is_empty)
    }
}

/// A program as one line of JSON.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_json().fmt(f)
    }
}
