//! Which context holds: the running task's own, which stays with the task, or one that was entered.

use std::cell::Cell;

use crate::context::{Context, ContextMap};
use crate::event_loop::LoopCore;
use crate::task::RawTask;
use crate::task::header::flag;
use crate::task::peek;

/// The context of what is no task, and of what runs inside of a task's step in another context than the task's own.
#[derive(Default)]
pub(crate) struct EnteredContext {
    map: Cell<Option<ContextMap>>,
    /// It holds, even if a task runs.
    holds: Cell<bool>,
}

impl EnteredContext {
    /// Another task's step begins inside of this one. Returns what [`take_up`](Self::take_up) is told after it.
    pub(crate) fn set_aside(&self) -> bool {
        self.holds.replace(false)
    }

    pub(crate) fn take_up(&self, held: bool) {
        self.holds.set(held);
    }
}

/// The context that held before another one was entered.
pub(crate) struct Outer {
    map: Option<ContextMap>,
    held: bool,
}

/// Drops the context of a task that has ended.
#[cold]
pub(crate) fn leave(map: ContextMap) {
    drop(map);
}

/// What is in a cell.
#[inline]
pub(crate) fn copy(slot: &Cell<Option<ContextMap>>) -> Option<ContextMap> {
    if peek::is_some(slot) { clone_map(slot) } else { None }
}

#[inline(never)]
fn clone_map(slot: &Cell<Option<ContextMap>>) -> Option<ContextMap> {
    let map = slot.take();
    slot.set(map.clone());
    map
}

impl LoopCore {
    /// The context of what runs now.
    #[inline]
    pub(crate) fn context(&self) -> Option<ContextMap> {
        self.own_context(RawTask::load_context).unwrap_or_else(|| copy(&self.entered.map))
    }

    pub(crate) fn replace_context(&self, map: Option<ContextMap>) -> Option<ContextMap> {
        let mut map = Some(map);
        let replaced = self.own_context(|task| task.replace_context(map.take().flatten()));
        replaced.unwrap_or_else(|| self.entered.map.replace(map.flatten()))
    }

    /// Calls `f` with the running task, if its own context is the one that holds.
    #[inline]
    fn own_context<R>(&self, f: impl FnOnce(&RawTask) -> R) -> Option<R> {
        if self.entered.holds.get() { None } else { self.current.with(f) }
    }

    /// Has a context hold, until [`leave_context`](Self::leave_context), which is told what this returns.
    pub(crate) fn enter_context(&self, map: Option<ContextMap>) -> Outer {
        Outer { map: self.entered.map.replace(map), held: self.entered.holds.replace(true) }
    }

    /// Gives back what has become of the context that was entered.
    pub(crate) fn leave_context(&self, outer: Outer) -> Option<ContextMap> {
        self.entered.holds.set(outer.held);
        self.entered.map.replace(outer.map)
    }

    /// Calls `f`, which does not unwind, in a context.
    pub(crate) fn in_context(&self, map: Option<ContextMap>, f: impl FnOnce()) {
        let outer = self.enter_context(map);
        f();
        let inner = self.leave_context(outer);
        drop(inner);
    }
}

impl RawTask {
    /// The context that it runs in.
    #[inline]
    fn load_context(&self) -> Option<ContextMap> {
        match self.shared_context() {
            Some(shared) => shared.load(),
            None => copy(&self.head().context),
        }
    }

    fn replace_context(&self, map: Option<ContextMap>) -> Option<ContextMap> {
        match self.shared_context() {
            Some(shared) => shared.replace(map),
            None => self.head().context.replace(map),
        }
    }

    /// Its context, which it needs no more unless others share it.
    #[inline]
    pub(crate) fn take_context(&self) -> Option<ContextMap> {
        match self.shared_context() {
            Some(shared) => shared.load(),
            None => self.head().context.take(),
        }
    }

    pub(crate) fn put_context(&self, map: Option<ContextMap>) {
        drop(self.replace_context(map));
    }

    /// The context that it runs in, which it shares from now on.
    pub(crate) fn context(&self) -> Context {
        if let Some(shared) = self.shared_context() {
            return shared.clone();
        }
        let context = Context::default();
        context.store(self.head().context.take());
        // Its own was the only one until now.
        let _ = self.head().extra().shared_context.set(context.clone());
        self.raw().header().set(flag::SHARES_CONTEXT);
        context
    }

    /// The context that it shares with others, if it does not have its own.
    #[inline]
    fn shared_context(&self) -> Option<&Context> {
        if self.raw().header().has(flag::SHARES_CONTEXT) { self.head().extra.get()?.shared_context.get() } else { None }
    }
}
