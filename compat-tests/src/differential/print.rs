//! Programs as JSON.

use serde_json::{Map, Value, json};

use super::program::{Block, Catch, Item, Program, QueueKind, Slot, Stmt, WaitMode};

impl Program {
    /// The program as JSON.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.into(), value);
        put("v", json!(self.version.number()));
        if let Some(seed) = self.seed {
            put("seed", json!(seed));
        }
        put("coros", self.coros.iter().map(block).collect());
        let counts = [("futures", self.futures), ("locks", self.locks), ("events", self.events), ("conds", self.conds)];
        for (name, count) in counts.into_iter().chain([("vars", self.vars)]).filter(|(_, count)| *count > 0) {
            put(name, json!(count));
        }
        for (name, values) in [("sems", &self.sems), ("barriers", &self.barriers)] {
            if !values.is_empty() {
                put(name, json!(values));
            }
        }
        if !self.queues.is_empty() {
            put("queues", self.queues.iter().map(|queue| json!([queue.kind.name(), queue.maxsize])).collect());
        }
        Value::Object(object)
    }
}

impl QueueKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            QueueKind::Fifo => "fifo",
            QueueKind::Lifo => "lifo",
            QueueKind::Priority => "priority",
        }
    }
}

impl WaitMode {
    pub(super) const fn name(self) -> &'static str {
        match self {
            WaitMode::All => "all",
            WaitMode::First => "first",
            WaitMode::Exception => "exception",
        }
    }
}

impl Catch {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Catch::Cancelled => "cancelled",
            Catch::Timeout => "timeout",
            Catch::User => "user",
            Catch::Group => "group",
            Catch::Error => "error",
            Catch::Any => "any",
        }
    }
}

fn block(stmts: &Block) -> Value {
    stmts.iter().map(stmt).collect()
}

fn slot(slot: Slot) -> Value {
    match slot {
        Slot::Task(number) => json!(["x", number]),
        Slot::Future(number) => json!(["f", number]),
    }
}

fn slots(slots: &[Slot]) -> Value {
    slots.iter().copied().map(slot).collect()
}

fn item(item: Item) -> Value {
    match item {
        Item::Slot(given) => slot(given),
        Item::Coro(number) => json!(["c", number]),
    }
}

fn items(items: &[Item]) -> Value {
    items.iter().copied().map(item).collect()
}

fn stmt(stmt: &Stmt) -> Value {
    let name = stmt.name();
    match stmt {
        Stmt::Uncancel | Stmt::Cancelling | Stmt::States | Stmt::Stop => json!([name]),
        Stmt::Log(k) | Stmt::Sleep(k) | Stmt::Return(k) | Stmt::Raise(k) => json!([name, k]),
        Stmt::RaiseCancelled(message) => json!([name, message]),
        Stmt::Loop(count, body) => json!([name, count, block(body)]),
        Stmt::Spawn { slot, coro, eager } => json!([name, slot, coro, eager]),
        Stmt::Await(given) | Stmt::Shield(given) => json!([name, item(*given)]),
        Stmt::Cancel(given, message) => json!([name, slot(*given), message]),
        Stmt::State(given) => json!([name, slot(*given)]),
        Stmt::DoneCb(given, k) => json!([name, slot(*given), k]),
        Stmt::Gather(given, with_errors) => json!([name, items(given), with_errors]),
        Stmt::Wait(given, mode, limit) => json!([name, slots(given), mode.name(), limit]),
        Stmt::WaitFor(given, limit) => json!([name, item(*given), limit]),
        Stmt::AsCompleted(given, limit) => json!([name, slots(given), limit]),
        Stmt::Timeout(limit, body) => json!([name, limit, block(body)]),
        Stmt::Reschedule(limit) => json!([name, limit]),
        Stmt::Group(body) => json!([name, block(body)]),
        Stmt::Gspawn { slot, coro } => json!([name, slot, coro]),
        Stmt::Try { body, handlers, finally } => {
            let handlers: Value = handlers
                .iter()
                .map(|handler| json!([handler.catch.name(), block(&handler.body), handler.reraise]))
                .collect();
            json!([name, block(body), handlers, block(finally)])
        }
        Stmt::CallLater(handle, delay, k) => json!([name, handle, delay, k]),
        Stmt::Lock(n, body) | Stmt::Cond(n, body) | Stmt::Sem(n, body) => json!([name, n, block(body)]),
        Stmt::Notify(n, count) => json!([name, n, count]),
        Stmt::SetResult(n, k)
        | Stmt::SetError(n, k)
        | Stmt::CallSoon(n, k)
        | Stmt::Put(n, k)
        | Stmt::PutNowait(n, k)
        | Stmt::CtxSet(n, k) => json!([name, n, k]),
        Stmt::Shutdown(n, immediate) => json!([name, n, immediate]),
        Stmt::Hcancel(n)
        | Stmt::Acquire(n)
        | Stmt::Release(n)
        | Stmt::SemRelease(n)
        | Stmt::EventWait(n)
        | Stmt::EventSet(n)
        | Stmt::EventClear(n)
        | Stmt::CondWait(n)
        | Stmt::NotifyAll(n)
        | Stmt::Barrier(n)
        | Stmt::BarrierReset(n)
        | Stmt::BarrierAbort(n)
        | Stmt::Get(n)
        | Stmt::Join(n)
        | Stmt::GetNowait(n)
        | Stmt::TaskDone(n)
        | Stmt::CtxGet(n)
        | Stmt::GAwait(n)
        | Stmt::SemAcquire(n) => json!([name, n]),
        Stmt::GatherTo(n, given, with_errors) => json!([name, n, items(given), with_errors]),
        Stmt::GCancel(n, message) => json!([name, n, message]),
        Stmt::ShieldTo(slot, given) => json!([name, slot, item(*given)]),
        Stmt::DoneAct(given, body) => json!([name, slot(*given), block(body)]),
        Stmt::SoonAct(handle, body) => json!([name, handle, block(body)]),
        Stmt::LaterAct(handle, delay, body) => json!([name, handle, delay, block(body)]),
        Stmt::CondWaitFor(n, event) => json!([name, n, event]),
    }
}
