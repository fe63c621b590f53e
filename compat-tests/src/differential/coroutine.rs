//! [`Coroutine`]: a coroutine object of a program, and what its statements do.

use std::cell::RefCell;
use std::future::Future as StdFuture;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use aioli_core::{
    Delay, Error, ErrorKind, Instant, Result, ReturnWhen, TaskBuilder, TaskGroup, Timeout, as_completed, current_task,
    ensure_future, shield, sleep, task_group, wait, wait_for,
};

use super::gathered::Gathered;
use super::program::{Block, Catch, Handler, Item, Slot, Stmt, TICK, Ticks, WaitMode};
use super::trace::{EmptySlot, UserError, Value};
use super::world::{Given, Scheduled, World, number};

/// A coroutine object. It does nothing until it is awaited or becomes a task.
pub(super) struct Coroutine {
    running: Pin<Box<dyn StdFuture<Output = Result<Value>>>>,
}

impl Coroutine {
    pub(super) fn new(world: &Rc<World>, number: usize) -> Self {
        let instance = world.next_instance();
        Coroutine { running: Box::pin(Frame::new(world, instance).run(number)) }
    }
}

impl StdFuture for Coroutine {
    type Output = Result<Value>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Value>> {
        self.running.as_mut().poll(cx)
    }
}

/// A coroutine that runs, or a callback that acts.
struct Frame {
    world: Rc<World>,
    /// The coroutine object; -1 for a callback.
    instance: i64,
    /// The timeout scopes around the current statement, innermost last.
    timeouts: RefCell<Vec<Timeout>>,
    /// The task groups around it.
    groups: RefCell<Vec<TaskGroup>>,
}

/// How a block ended that did not fail.
enum Flow {
    Next,
    Return(i64),
}

type Running<'a> = Pin<Box<dyn StdFuture<Output = Result<Flow>> + 'a>>;

fn delay(ticks: Ticks) -> Delay {
    match u64::try_from(ticks) {
        Ok(ticks) => Delay::For(Duration::from_nanos(ticks.saturating_mul(TICK.unsigned_abs()))),
        Err(_) => Delay::Past,
    }
}

impl Frame {
    fn new(world: &Rc<World>, instance: i64) -> Self {
        Frame { world: Rc::clone(world), instance, timeouts: RefCell::default(), groups: RefCell::default() }
    }

    async fn run(self, number: usize) -> Result<Value> {
        let program = Rc::clone(&self.world.program);
        self.log("start", ());
        let result = self.block(&program.coros[number]).await.map(|flow| match flow {
            Flow::Next => Value::Null,
            Flow::Return(k) => Value::Int(k),
        });
        match &result {
            Ok(value) => self.log("end", value.clone()),
            // The end of a coroutine has no mark.
            Err(error) => self.log("end", Value::from(error)),
        }
        result
    }

    fn log(&self, name: &'static str, value: impl Into<Value>) {
        self.world.log(self.instance, name, value);
    }

    /// Logs the result of a statement.
    fn logged<T: Into<Value>>(&self, name: &'static str, result: Result<T>) -> Result<()> {
        match result {
            Ok(value) => {
                self.log(name, value);
                Ok(())
            }
            Err(error) => {
                self.world.log_error(self.instance, name, &error);
                Err(error)
            }
        }
    }

    /// The same, and swallows errors of one kind.
    fn logged_but(&self, kind: ErrorKind, name: &'static str, result: Result<impl Into<Value>>) -> Result<()> {
        self.logged(name, result).or_else(|error| if error.kind() == kind { Ok(()) } else { Err(error) })
    }

    /// The same, and swallows all errors.
    fn noted(&self, name: &'static str, result: Result<impl Into<Value>>) {
        let _ = self.logged(name, result);
    }

    fn later(&self, ticks: Ticks) -> Instant {
        let now = self.world.event_loop.time();
        let length = Duration::from_nanos(ticks.saturating_mul(TICK).unsigned_abs());
        if ticks < 0 { now - length } else { now + length }
    }

    fn block<'a>(&'a self, block: &'a Block) -> Running<'a> {
        Box::pin(async move {
            for stmt in block {
                if self.world.is_over() {
                    return Err(Error::cancelled(None));
                }
                self.world.note(stmt.name());
                let flow = match stmt {
                    Stmt::Return(k) => Flow::Return(*k),
                    Stmt::Loop(count, body) => self.repeat(*count, body).await?,
                    Stmt::Timeout(limit, body) => self.timeout(*limit, body).await?,
                    Stmt::Group(body) => self.group(body).await?,
                    Stmt::Try { body, handlers, finally } => self.guarded(body, handlers, finally).await?,
                    Stmt::Lock(..) | Stmt::Cond(..) | Stmt::Sem(..) => self.holding(stmt).await?,
                    stmt => {
                        if !self.act(stmt)? {
                            self.wait(stmt).await?;
                        }
                        Flow::Next
                    }
                };
                if let Flow::Return(_) = flow {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    async fn repeat(&self, count: usize, body: &Block) -> Result<Flow> {
        for _ in 0..count {
            if let Flow::Return(k) = self.block(body).await? {
                return Ok(Flow::Return(k));
            }
        }
        Ok(Flow::Next)
    }

    async fn timeout(&self, limit: Option<Ticks>, body: &Block) -> Result<Flow> {
        let deadline = limit.map_or_else(|| Timeout::at(None), |ticks| Timeout::at(Some(self.later(ticks))));
        self.timeouts.borrow_mut().push(deadline.clone());
        let result = deadline.run(self.block(body)).await;
        self.timeouts.borrow_mut().pop();
        self.log("expired", deadline.expired());
        self.finished("timeout", result)
    }

    async fn group(&self, body: &Block) -> Result<Flow> {
        let result = task_group(async |group| {
            self.groups.borrow_mut().push(group);
            let result = self.block(body).await;
            let left = self.groups.borrow_mut().pop();
            drop(left);
            result
        })
        .await;
        self.finished("group", result)
    }

    /// Logs the end of a statement with a block.
    fn finished(&self, name: &'static str, result: Result<Flow>) -> Result<Flow> {
        match result {
            Ok(flow) => {
                self.log(name, ());
                Ok(flow)
            }
            Err(error) => {
                self.world.log_error(self.instance, name, &error);
                Err(error)
            }
        }
    }

    async fn guarded(&self, body: &Block, handlers: &[Handler], finally: &Block) -> Result<Flow> {
        let mut result = self.block(body).await;
        if let Err(error) = &result
            && let Some(handler) = handlers.iter().find(|handler| fits(handler.catch, error))
        {
            self.log("caught", Value::from(error));
            let error = error.clone();
            result = match self.block(&handler.body).await {
                Ok(Flow::Next) if handler.reraise => Err(error),
                handled => handled,
            };
        }
        match self.block(finally).await? {
            Flow::Next => result,
            flow => Ok(flow),
        }
    }

    /// Statements that hold something while their block runs.
    async fn holding(&self, stmt: &Stmt) -> Result<Flow> {
        let World { locks, conds, sems, .. } = &*self.world;
        let (name, body, acquired) = match stmt {
            Stmt::Lock(n, body) => ("lock", body, locks[*n].acquire().await),
            Stmt::Cond(n, body) => ("cond", body, conds[*n].acquire().await),
            Stmt::Sem(n, body) => ("sem", body, sems[*n].acquire().await),
            _ => unreachable!("only these are given"),
        };
        self.logged(name, acquired.map(|()| true))?;
        let result = self.block(body).await;
        match stmt {
            Stmt::Lock(n, _) => self.noted("lock_exit", locks[*n].release()),
            Stmt::Cond(n, _) => self.noted("cond_exit", conds[*n].release()),
            Stmt::Sem(n, _) => {
                sems[*n].release();
                self.log("sem_exit", ());
            }
            _ => (),
        }
        result
    }

    /// Statements that do not await. Returns whether it is one.
    fn act(&self, stmt: &Stmt) -> Result<bool> {
        let world = &self.world;
        let World { locks, events, conds, sems, queues, vars, futures, event_loop, .. } = &**world;
        match stmt {
            Stmt::Log(k) => self.log("log", *k),
            Stmt::Raise(k) => return Err(Error::new(UserError(*k))),
            Stmt::RaiseCancelled(message) => return Err(Error::cancelled(message.as_deref())),
            Stmt::Spawn { slot, coro, eager } => {
                let builder = TaskBuilder::new().eager_start(*eager);
                world.store(*slot, ensure_future(builder.create_task(Coroutine::new(world, *coro)))?);
                self.log("spawn", number(*slot));
            }
            Stmt::Gspawn { slot, coro } => {
                let group = self.groups.borrow().last().cloned();
                if let Some(group) = group {
                    let created = group.create_task(Coroutine::new(world, *coro)).and_then(ensure_future);
                    self.noted(
                        "gspawn",
                        created.map(|task| {
                            world.store(*slot, task);
                            number(*slot)
                        }),
                    );
                }
            }
            Stmt::Cancel(slot, message) => {
                let answer = world.held(*slot).map(|future| Value::Bool(future.cancel(message.as_deref())));
                self.log("cancel", answer.unwrap_or(Value::Null));
            }
            Stmt::Uncancel => self.log("uncancel", current_task().map_or(0, |task| i64::from(task.uncancel()))),
            Stmt::Cancelling => self.log("cancelling", current_task().map_or(0, |task| i64::from(task.cancelling()))),
            Stmt::State(slot) => self.log("state", self.state(*slot)),
            Stmt::SetResult(n, k) => self.noted("set_result", futures[*n].set_result(Value::Int(*k))),
            Stmt::SetError(n, k) => self.noted("set_error", futures[*n].set_exception(Error::new(UserError(*k)))),
            Stmt::DoneCb(slot, k) => {
                if let Some(future) = world.held(*slot) {
                    let (world, k) = (Rc::clone(world), *k);
                    future.add_done_callback(move |_| world.log(-1, "dcb", k));
                }
            }
            Stmt::CallSoon(handle, k) => {
                let (callback, k) = (Rc::clone(world), *k);
                let scheduled = event_loop.call_soon(move || callback.log(-1, "cb", k))?;
                world.schedule(*handle, Scheduled::Soon(scheduled));
            }
            Stmt::CallLater(handle, ticks, k) => {
                let (callback, k) = (Rc::clone(world), *k);
                let scheduled = event_loop.call_at(self.later(*ticks), move || callback.log(-1, "cb", k))?;
                world.schedule(*handle, Scheduled::Later(scheduled));
            }
            Stmt::Hcancel(handle) => {
                if let Some(scheduled) = world.handles.borrow().get(handle) {
                    scheduled.cancel();
                }
            }
            Stmt::Reschedule(limit) => {
                let innermost = self.timeouts.borrow().last().cloned();
                if let Some(deadline) = innermost {
                    self.noted("reschedule", deadline.reschedule(limit.map(|ticks| self.later(ticks))));
                }
            }
            Stmt::Release(n) => self.noted("release", locks[*n].release()),
            Stmt::SemRelease(n) => sems[*n].release(),
            Stmt::EventSet(n) => events[*n].set(),
            Stmt::EventClear(n) => events[*n].clear(),
            Stmt::Notify(n, count) => self.noted("notify", conds[*n].notify(*count)),
            Stmt::NotifyAll(n) => self.noted("notify_all", conds[*n].notify_all()),
            Stmt::PutNowait(n, k) => self.noted("put_nowait", queues[*n].put_nowait(*k)),
            Stmt::GetNowait(n) => self.noted("get_nowait", queues[*n].get_nowait()),
            Stmt::TaskDone(n) => self.noted("task_done", queues[*n].task_done()),
            Stmt::Shutdown(n, immediate) => queues[*n].shutdown(*immediate),
            Stmt::CtxSet(n, k) => {
                vars[*n].set(*k);
            }
            Stmt::CtxGet(n) => self.log("ctx_get", vars[*n].get().map_or(Value::Null, Value::Int)),
            Stmt::GatherTo(n, items, with_errors) => {
                world.keep_gather(*n, self.gather(items, *with_errors)?);
                self.log("gather_to", number(*n));
            }
            Stmt::GCancel(n, message) => {
                let answer = world.gathered(*n).map(|gathered| Value::Bool(gathered.cancel(message.as_deref())));
                self.log("g_cancel", answer.unwrap_or(Value::Null));
            }
            Stmt::ShieldTo(slot, item) => {
                let inner = world.item(*item)?.into_future()?;
                world.store(*slot, shield(&inner));
                self.log("shield_to", number(*slot));
            }
            Stmt::DoneAct(slot, body) => {
                if let Some(future) = world.held(*slot) {
                    let (world, body) = (Rc::clone(world), body.clone());
                    future.add_done_callback(move |_| act_all(&world, &body));
                }
            }
            Stmt::SoonAct(handle, body) => {
                let (callback, body) = (Rc::clone(world), body.clone());
                let scheduled = event_loop.call_soon(move || act_all(&callback, &body))?;
                world.schedule(*handle, Scheduled::Soon(scheduled));
            }
            Stmt::LaterAct(handle, ticks, body) => {
                let (callback, body) = (Rc::clone(world), body.clone());
                let scheduled = event_loop.call_at(self.later(*ticks), move || act_all(&callback, &body))?;
                world.schedule(*handle, Scheduled::Later(scheduled));
            }
            Stmt::States => self.log("states", world.states()),
            Stmt::Stop => {
                world.stop();
                self.log("stop", ());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Statements that await.
    async fn wait(&self, stmt: &Stmt) -> Result<()> {
        let World { locks, events, conds, sems, barriers, queues, .. } = &*self.world;
        let name = stmt.name();
        match stmt {
            Stmt::Sleep(ticks) => self.logged(name, sleep(delay(*ticks)).await),
            Stmt::Await(item) => {
                let result = match self.world.item(*item)? {
                    Given::Future(future) => (&future).await,
                    Given::Coroutine(coroutine) => coroutine.await,
                };
                self.logged(name, result)
            }
            Stmt::WaitFor(item, limit) => {
                let limit = limit.map(delay);
                let result = match self.world.item(*item)? {
                    Given::Future(future) => wait_for(&future, limit).await,
                    Given::Coroutine(coroutine) => wait_for(coroutine, limit).await,
                };
                self.logged(name, result)
            }
            Stmt::Shield(item) => {
                let inner = self.world.item(*item)?.into_future()?;
                self.logged(name, (&shield(&inner)).await)
            }
            Stmt::Gather(items, with_errors) => {
                let gathered = self.gather(items, *with_errors)?;
                self.logged(name, gathered.values().await)
            }
            Stmt::Wait(slots, mode, limit) => {
                let futures = self.world.slots(slots)?;
                let return_when = match mode {
                    WaitMode::All => ReturnWhen::AllCompleted,
                    WaitMode::First => ReturnWhen::FirstCompleted,
                    WaitMode::Exception => ReturnWhen::FirstException,
                };
                let waited = wait(&futures).return_when(return_when).timeout(limit.map(delay)).await;
                let done = |()| futures.iter().map(|future| Value::Int(i64::from(future.done()))).collect::<Vec<_>>();
                self.logged(name, waited.map(drop).map(done))
            }
            Stmt::AsCompleted(slots, limit) => {
                let futures = self.world.slots(slots)?;
                // Its callbacks and its timer stay when an error ends it, as CPython's iterator does.
                let completed = Rc::new(as_completed(&futures).timeout(limit.map(delay)));
                self.world.keep(Rc::clone(&completed));
                let mut values = Vec::new();
                while let Some(result) = completed.next().await {
                    values.push(match result {
                        Ok(value) => value,
                        Err(error) if error.is_timeout() || error.downcast_ref::<UserError>().is_some() => {
                            Value::from(&error)
                        }
                        Err(error) => return self.logged(name, Err::<Value, _>(error)),
                    });
                }
                self.logged(name, Ok(values))
            }
            Stmt::Acquire(n) => self.logged(name, locks[*n].acquire().await.map(|()| true)),
            Stmt::EventWait(n) => self.logged(name, events[*n].wait().await.map(|()| true)),
            Stmt::CondWait(n) => self.logged_but(ErrorKind::Runtime, name, conds[*n].wait().await.map(|()| true)),
            Stmt::Barrier(n) => self.logged_but(ErrorKind::BrokenBarrier, name, barriers[*n].wait().await.map(number)),
            Stmt::BarrierReset(n) => self.logged(name, barriers[*n].reset().await),
            Stmt::BarrierAbort(n) => self.logged(name, barriers[*n].abort().await),
            Stmt::Put(n, k) => self.logged_but(ErrorKind::QueueShutDown, name, queues[*n].put(*k).await),
            Stmt::Get(n) => self.logged_but(ErrorKind::QueueShutDown, name, queues[*n].get().await),
            Stmt::Join(n) => self.logged_but(ErrorKind::QueueShutDown, name, queues[*n].join().await),
            Stmt::GAwait(n) => {
                let gathered = self.world.gathered(*n).ok_or_else(|| Error::new(EmptySlot))?;
                self.logged(name, gathered.values().await)
            }
            Stmt::SemAcquire(n) => self.logged(name, sems[*n].acquire().await.map(|()| true)),
            Stmt::CondWaitFor(n, event) => {
                let is_set = || {
                    let is_set = events[*event].is_set();
                    self.log("pred", is_set);
                    is_set
                };
                self.logged_but(ErrorKind::Runtime, name, conds[*n].wait_for(is_set).await.map(|()| true))
            }
            other => unreachable!("{} does not await", other.name()),
        }
    }

    fn gather(&self, items: &[Item], with_errors: bool) -> Result<Gathered> {
        let given = items.iter().map(|item| self.world.item(*item)).collect::<Result<Vec<_>>>()?;
        let children = given.into_iter().map(Given::into_future).collect::<Result<Vec<_>>>()?;
        Ok(Gathered::new(&children, with_errors))
    }

    fn state(&self, slot: Slot) -> Value {
        let Some(future) = self.world.held(slot) else { return Value::Null };
        Value::Text(match future {
            future if !future.done() => "pending",
            future if future.cancelled() => "cancelled",
            future if future.exception().is_ok_and(|error| error.is_none()) => "done",
            _ => "error",
        })
    }
}

/// What a callback that acts does. An error ends it and goes to the loop's exception handler, as a panic does.
fn act_all(world: &Rc<World>, body: &Block) {
    let frame = Frame::new(world, -1);
    for stmt in body {
        if world.is_over() {
            return;
        }
        world.note(stmt.name());
        if let Err(error) = frame.act(stmt) {
            // Without the panic hook, which would print it.
            resume_unwind(Box::new(error));
        }
    }
}

fn fits(catch: Catch, error: &Error) -> bool {
    match catch {
        Catch::Cancelled => error.is_cancelled(),
        Catch::Timeout => error.is_timeout(),
        Catch::User => error.downcast_ref::<UserError>().is_some(),
        Catch::Group => error.kind() == ErrorKind::Group,
        Catch::Error => !error.is_cancelled(),
        Catch::Any => true,
    }
}
