//! Programs from JSON, with errors that say where.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::program::{
    Block, Catch, Handler, Item, Program, QueueKind, QueueSpec, Slot, Stmt, Ticks, Version, WaitMode,
};

/// Why something is no program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// The place, as in `coros[1][0]`; empty for the whole program.
    place: String,
    problem: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ParseError {}

type Parsed<T> = Result<T, ParseError>;

/// Reads a program from one line of JSON.
impl FromStr for Program {
    type Err = ParseError;

    fn from_str(text: &str) -> Parsed<Self> {
        let json = serde_json::from_str(text).map_err(|error| problem("", format!("not JSON: {error}")))?;
        Program::from_json(&json)
    }
}

impl Program {
    /// Reads a program from JSON.
    ///
    /// # Errors
    /// It is not a program of a version of the language, or names something that it does not have.
    pub fn from_json(json: &Value) -> Parsed<Self> {
        let Value::Object(object) = json else { return Err(problem("", "a program is an object")) };
        let version = object.get("v").ok_or_else(|| problem("v", "the version is missing"))?;
        let known = version.as_u64().and_then(Version::from_number);
        let unknown = || problem("v", format!("version {version} of the language is not known, only 1 and 2"));
        let mut program = Program { version: known.ok_or_else(unknown)?, ..Program::default() };
        let mut bodies = None;
        for (name, value) in object {
            match name.as_str() {
                "v" => (),
                "seed" => program.seed = value.as_u64(),
                "coros" => bodies = Some(value),
                "futures" => program.futures = count(name, value)?,
                "locks" => program.locks = count(name, value)?,
                "events" => program.events = count(name, value)?,
                "conds" => program.conds = count(name, value)?,
                "vars" => program.vars = count(name, value)?,
                "sems" => {
                    program.sems = list(name, value)?.map(|(at, value)| count(&at, value)).collect::<Parsed<_>>()?
                }
                "barriers" => {
                    let parties = |(at, value): (String, _)| match count(&at, value)? {
                        0 => Err(problem(&at, "a barrier has at least one party")),
                        parties => Ok(parties),
                    };
                    program.barriers = list(name, value)?.map(parties).collect::<Parsed<_>>()?;
                }
                "queues" => {
                    program.queues = list(name, value)?.map(|(at, value)| queue(&at, value)).collect::<Parsed<_>>()?
                }
                _ => return Err(problem(name, "a program has no such part")),
            }
        }
        let bodies: Vec<_> = list("coros", bodies.ok_or_else(|| problem("coros", "there are none"))?)?.collect();
        if bodies.is_empty() {
            return Err(problem("coros", "the main body is missing"));
        }
        let reader = Reader { program: &program, coros: bodies.len() };
        let coros = bodies.iter().map(|(at, body)| reader.block(at, body, Place::Coroutine)).collect::<Parsed<_>>()?;
        program.coros = coros;
        Ok(program)
    }
}

fn problem(place: &str, problem: impl Into<String>) -> ParseError {
    ParseError { place: place.into(), problem: problem.into() }
}

fn list<'a>(at: &str, value: &'a Value) -> Parsed<impl Iterator<Item = (String, &'a Value)> + use<'a>> {
    let Value::Array(values) = value else { return Err(problem(at, format!("a list is expected, not {value}"))) };
    let at = at.to_owned();
    Ok(values.iter().enumerate().map(move |(index, value)| (format!("{at}[{index}]"), value)))
}

fn count(at: &str, value: &Value) -> Parsed<usize> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| problem(at, format!("a number from 0 on is expected, not {value}")))
}

fn queue(at: &str, value: &Value) -> Parsed<QueueSpec> {
    let parts: Vec<_> = list(at, value)?.collect();
    let [(kind_at, kind), (size_at, maxsize)] = &parts[..] else {
        return Err(problem(at, "a queue is its kind and its greatest size"));
    };
    let kinds = [QueueKind::Fifo, QueueKind::Lifo, QueueKind::Priority];
    let kind = named(kind_at, kind, &kinds, QueueKind::name)?;
    Ok(QueueSpec { kind, maxsize: count(size_at, maxsize)? })
}

/// One of several things by its name.
fn named<T: Copy>(at: &str, value: &Value, all: &[T], name: fn(T) -> &'static str) -> Parsed<T> {
    let found = all.iter().copied().find(|thing| value == name(*thing));
    found.ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|thing| name(*thing)).collect();
        problem(at, format!("one of {} is expected, not {value}", names.join(", ")))
    })
}

/// What the statements of a block are part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Coroutine,
    /// A task group of a coroutine.
    Group,
    /// A callback that acts.
    Callback,
}

struct Reader<'a> {
    program: &'a Program,
    coros: usize,
}

/// The parts of a statement that are not read yet.
struct Parts<'a> {
    at: &'a str,
    parts: std::slice::Iter<'a, Value>,
    index: usize,
}

impl<'a> Parts<'a> {
    fn next(&mut self) -> Parsed<(String, &'a Value)> {
        self.index += 1;
        let part = self.parts.next().ok_or_else(|| problem(self.at, "something is missing at its end"))?;
        Ok((format!("{}[{}]", self.at, self.index), part))
    }

    fn number(&mut self) -> Parsed<i64> {
        let (at, value) = self.next()?;
        value.as_i64().ok_or_else(|| problem(&at, format!("a number is expected, not {value}")))
    }

    fn count(&mut self) -> Parsed<usize> {
        let (at, value) = self.next()?;
        count(&at, value)
    }

    /// A number of one of several things.
    fn index(&mut self, what: &str, there_are: usize) -> Parsed<usize> {
        let (at, value) = self.next()?;
        index(&at, value, what, there_are)
    }

    fn limit(&mut self) -> Parsed<Option<Ticks>> {
        let (at, value) = self.next()?;
        match value {
            Value::Null => Ok(None),
            value => {
                let ticks = value.as_i64();
                ticks.map(Some).ok_or_else(|| problem(&at, format!("ticks or null are expected, not {value}")))
            }
        }
    }

    fn flag(&mut self) -> Parsed<bool> {
        let (at, value) = self.next()?;
        value.as_bool().ok_or_else(|| problem(&at, format!("true or false is expected, not {value}")))
    }

    fn message(&mut self) -> Parsed<Option<String>> {
        let (at, value) = self.next()?;
        match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            other => Err(problem(&at, format!("a text or null is expected, not {other}"))),
        }
    }
}

fn index(at: &str, value: &Value, what: &str, there_are: usize) -> Parsed<usize> {
    match count(at, value)? {
        number if number < there_are => Ok(number),
        number => Err(problem(at, format!("there is no {what} {number}: there are {there_are}"))),
    }
}

impl Reader<'_> {
    fn block(&self, at: &str, value: &Value, place: Place) -> Parsed<Block> {
        list(at, value)?.map(|(at, value)| self.stmt(&at, value, place)).collect()
    }

    fn slot(&self, (at, value): (String, &Value)) -> Parsed<Slot> {
        match self.item((at.clone(), value))? {
            Item::Slot(slot) => Ok(slot),
            Item::Coro(_) => Err(problem(&at, "a slot is expected, not a coroutine")),
        }
    }

    fn item(&self, (at, value): (String, &Value)) -> Parsed<Item> {
        let parts: Vec<_> = list(&at, value)?.collect();
        if let [(_, Value::String(kind)), (at, number)] = &parts[..] {
            match kind.as_str() {
                "x" => return Ok(Item::Slot(Slot::Task(count(at, number)?))),
                "f" => return Ok(Item::Slot(Slot::Future(index(at, number, "future", self.program.futures)?))),
                "c" => return Ok(Item::Coro(index(at, number, "coroutine", self.coros)?)),
                _ => (),
            }
        }
        Err(problem(&at, format!("[\"x\",n], [\"f\",n] or [\"c\",n] is expected, not {value}")))
    }

    fn items(&self, (at, value): (String, &Value)) -> Parsed<Vec<Item>> {
        list(&at, value)?.map(|part| self.item(part)).collect()
    }

    fn slots(&self, (at, value): (String, &Value)) -> Parsed<Vec<Slot>> {
        list(&at, value)?.map(|part| self.slot(part)).collect()
    }

    fn handler(&self, (at, value): (String, &Value), place: Place) -> Parsed<Handler> {
        let parts: Vec<_> = list(&at, value)?.collect();
        let [(kind_at, kind), (body_at, body), (flag_at, reraise)] = &parts[..] else {
            return Err(problem(&at, "a handler is a kind, its statements, and whether it raises again"));
        };
        let kinds = [Catch::Cancelled, Catch::Timeout, Catch::User, Catch::Group, Catch::Error, Catch::Any];
        Ok(Handler {
            catch: named(kind_at, kind, &kinds, Catch::name)?,
            body: self.block(body_at, body, place)?,
            reraise: reraise.as_bool().ok_or_else(|| problem(flag_at, "true or false is expected"))?,
        })
    }

    fn stmt(&self, at: &str, value: &Value, place: Place) -> Parsed<Stmt> {
        let Value::Array(values) = value else { return Err(problem(at, "a statement is a list")) };
        let Some((Value::String(name), parts)) = values.split_first() else {
            return Err(problem(at, "a statement begins with its name"));
        };
        let mut parts = Parts { at, parts: parts.iter(), index: 0 };
        match Stmt::since(name) {
            Some(version) if version > self.program.version => {
                return Err(problem(at, format!("{name} needs version {} of the language", version.number())));
            }
            _ => (),
        }
        let stmt = self.parts(name, &mut parts, place)?;
        if place == Place::Callback && !stmt.may_act() {
            return Err(problem(at, format!("{name} stands in a coroutine only, not in a callback")));
        }
        match parts.parts.len() {
            0 => Ok(stmt),
            _ => Err(problem(at, format!("{name} takes {} parts, not {}", parts.index, values.len() - 1))),
        }
    }

    fn parts(&self, name: &str, parts: &mut Parts<'_>, place: Place) -> Parsed<Stmt> {
        let program = self.program;
        let futures = program.futures;
        let (locks, events, conds) = (program.locks, program.events, program.conds);
        let (sems, barriers, queues) = (program.sems.len(), program.barriers.len(), program.queues.len());
        let body = |parts: &mut Parts<'_>, place| {
            let (at, value) = parts.next()?;
            self.block(&at, value, place)
        };
        Ok(match name {
            "log" => Stmt::Log(parts.number()?),
            "sleep" => Stmt::Sleep(parts.number()?),
            "return" if place == Place::Group => return Err(problem(parts.at, "no return stands in a group")),
            "return" => Stmt::Return(parts.number()?),
            "raise" => Stmt::Raise(parts.number()?),
            "raise_cancelled" => Stmt::RaiseCancelled(parts.message()?),
            "loop" => Stmt::Loop(parts.count()?, body(parts, place)?),
            "spawn" => {
                let (slot, coro) = (parts.count()?, parts.index("coroutine", self.coros)?);
                Stmt::Spawn { slot, coro, eager: parts.flag()? }
            }
            "await" => Stmt::Await(self.item(parts.next()?)?),
            "cancel" => Stmt::Cancel(self.slot(parts.next()?)?, parts.message()?),
            "uncancel" => Stmt::Uncancel,
            "cancelling" => Stmt::Cancelling,
            "state" => Stmt::State(self.slot(parts.next()?)?),
            "set_result" => Stmt::SetResult(parts.index("future", futures)?, parts.number()?),
            "set_error" => Stmt::SetError(parts.index("future", futures)?, parts.number()?),
            "done_cb" => Stmt::DoneCb(self.slot(parts.next()?)?, parts.number()?),
            "gather" => Stmt::Gather(self.items(parts.next()?)?, parts.flag()?),
            "wait" => {
                let slots = self.slots(parts.next()?)?;
                let (at, mode) = parts.next()?;
                let modes = [WaitMode::All, WaitMode::First, WaitMode::Exception];
                Stmt::Wait(slots, named(&at, mode, &modes, WaitMode::name)?, parts.limit()?)
            }
            "wait_for" => Stmt::WaitFor(self.item(parts.next()?)?, parts.limit()?),
            "shield" => Stmt::Shield(self.item(parts.next()?)?),
            "as_completed" => Stmt::AsCompleted(self.slots(parts.next()?)?, parts.limit()?),
            "timeout" => Stmt::Timeout(parts.limit()?, body(parts, place)?),
            "reschedule" => Stmt::Reschedule(parts.limit()?),
            "group" => Stmt::Group(body(parts, Place::Group)?),
            "gspawn" => Stmt::Gspawn { slot: parts.count()?, coro: parts.index("coroutine", self.coros)? },
            "try" => {
                let tried = body(parts, place)?;
                let (at, handlers) = parts.next()?;
                let handlers = list(&at, handlers)?.map(|part| self.handler(part, place)).collect::<Parsed<_>>()?;
                Stmt::Try { body: tried, handlers, finally: body(parts, place)? }
            }
            "call_soon" => Stmt::CallSoon(parts.count()?, parts.number()?),
            "call_later" => Stmt::CallLater(parts.count()?, parts.number()?, parts.number()?),
            "hcancel" => Stmt::Hcancel(parts.count()?),
            "lock" => Stmt::Lock(parts.index("lock", locks)?, body(parts, place)?),
            "cond" => Stmt::Cond(parts.index("condition", conds)?, body(parts, place)?),
            "sem" => Stmt::Sem(parts.index("semaphore", sems)?, body(parts, place)?),
            "acquire" => Stmt::Acquire(parts.index("lock", locks)?),
            "release" => Stmt::Release(parts.index("lock", locks)?),
            "sem_release" => Stmt::SemRelease(parts.index("semaphore", sems)?),
            "event_wait" => Stmt::EventWait(parts.index("event", events)?),
            "event_set" => Stmt::EventSet(parts.index("event", events)?),
            "event_clear" => Stmt::EventClear(parts.index("event", events)?),
            "cond_wait" => Stmt::CondWait(parts.index("condition", conds)?),
            "notify" => Stmt::Notify(parts.index("condition", conds)?, parts.count()?),
            "notify_all" => Stmt::NotifyAll(parts.index("condition", conds)?),
            "barrier" => Stmt::Barrier(parts.index("barrier", barriers)?),
            "barrier_reset" => Stmt::BarrierReset(parts.index("barrier", barriers)?),
            "barrier_abort" => Stmt::BarrierAbort(parts.index("barrier", barriers)?),
            "put" => Stmt::Put(parts.index("queue", queues)?, parts.number()?),
            "get" => Stmt::Get(parts.index("queue", queues)?),
            "join" => Stmt::Join(parts.index("queue", queues)?),
            "put_nowait" => Stmt::PutNowait(parts.index("queue", queues)?, parts.number()?),
            "get_nowait" => Stmt::GetNowait(parts.index("queue", queues)?),
            "task_done" => Stmt::TaskDone(parts.index("queue", queues)?),
            "shutdown" => Stmt::Shutdown(parts.index("queue", queues)?, parts.flag()?),
            "ctx_set" => Stmt::CtxSet(parts.index("context variable", program.vars)?, parts.number()?),
            "ctx_get" => Stmt::CtxGet(parts.index("context variable", program.vars)?),
            "gather_to" => Stmt::GatherTo(parts.count()?, self.items(parts.next()?)?, parts.flag()?),
            "g_await" => Stmt::GAwait(parts.count()?),
            "g_cancel" => Stmt::GCancel(parts.count()?, parts.message()?),
            "shield_to" => Stmt::ShieldTo(parts.count()?, self.item(parts.next()?)?),
            "done_act" => Stmt::DoneAct(self.slot(parts.next()?)?, body(parts, Place::Callback)?),
            "soon_act" => Stmt::SoonAct(parts.count()?, body(parts, Place::Callback)?),
            "later_act" => Stmt::LaterAct(parts.count()?, parts.number()?, body(parts, Place::Callback)?),
            "sem_acquire" => Stmt::SemAcquire(parts.index("semaphore", sems)?),
            "cond_wait_for" => Stmt::CondWaitFor(parts.index("condition", conds)?, parts.index("event", events)?),
            "states" => Stmt::States,
            "stop" => Stmt::Stop,
            other => return Err(problem(parts.at, format!("there is no statement {other:?}"))),
        })
    }
}
