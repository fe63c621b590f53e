//! Requests to cancel: how they travel, who answers them, and what happens where nobody can.
//!
//! A request marks; it never polls and never drops. It goes to what the task waits on: a pending future is cancelled, a task passes
//! it on, a gather spreads it over its children. What cannot take it (it is done already, or there is nothing behind the await
//! point) leaves a mark on the await point, which then returns Cancelled itself.
//!
//! A request is *open* from then until an await point or a scope has returned for it, or the task ended. A step that ends pending
//! with a request open and no await point asked has it applied afresh ([`settle`]).

use std::rc::Rc;

use smallvec::SmallVec;

use crate::await_point::{self, Phase};
use crate::error::{Error, Message, Result};
use crate::scope::{ScopeNode, around};
use crate::task::header::flag;
use crate::task::{RawFuture, RawTask};

/// What is left to do of one request on its way along tasks.
enum Work {
    Visit(RawFuture),
    /// All that a task passed the request on to is visited.
    Leave(RawTask),
}

type Stack = SmallVec<[Work; 8]>;

/// Requests the cancellation of a future or task. Returns whether it was still pending.
pub(crate) fn cancel(root: &RawFuture, message: Message) -> bool {
    let mut stack = Stack::new();
    let answer = visit(root, &message, &mut stack);
    travel(stack, &message);
    answer
}

/// Requests the cancellation of what runs inside a scope.
pub(crate) fn cancel_scope(scope: &Rc<ScopeNode>, message: Message) {
    scope.count(1);
    scope.open.set(true);
    scope.message.set(message.clone());
    let task = scope.task();
    task.raw().header().set(flag::REQUESTED);
    let extra = task.head().extra();
    let mut open = extra.open_scopes.borrow_mut();
    if !open.iter().any(|known| Rc::ptr_eq(known, scope)) {
        open.push(Rc::clone(scope));
    }
    drop(open);
    apply_to_scope(&task, scope, &message);
}

fn apply_to_scope(task: &RawTask, scope: &Rc<ScopeNode>, message: &Message) {
    let mut stack = Stack::new();
    if hand_over(task, Some(scope), message, &mut stack) {
        travel(stack, message);
    } else if !task.core().is_current(task) {
        scope.probe.set(true);
        scope.wake();
    }
}

fn travel(mut stack: Stack, message: &Message) {
    while let Some(work) = stack.pop() {
        match work {
            Work::Visit(next) => {
                visit(&next, message, &mut stack);
            }
            Work::Leave(task) => task.raw().header().clear(flag::VISITED),
        }
    }
}

/// One future or task that a request reaches. What it passes the request on to is put on the stack.
fn visit(raw: &RawFuture, message: &Message, stack: &mut Stack) -> bool {
    let header = raw.header();
    if header.has(flag::DONE) {
        header.clear(flag::LOG);
        return false;
    }
    if let Some(task) = raw.as_task() {
        if header.has(flag::VISITED) {
            return true;
        }
        let head = task.head();
        let Some(requests) = head.requests.get().checked_add(1) else { std::process::abort() };
        head.requests.set(requests);
        header.set(flag::REQUESTED | flag::OPEN | flag::VISITED);
        stack.push(Work::Leave(task.clone()));
        apply_to_task(task, message, stack);
        return true;
    }
    if header.has(flag::GATHER) {
        let accepted = accepts(raw);
        if let Some(delegate) = raw.delegate() {
            if accepted {
                delegate.cancel_requested();
            }
            let children = delegate.children().iter().rev();
            stack.extend(children.map(|child| Work::Visit(child.clone())));
        }
        return accepted;
    }
    raw.finish_error(Error::cancelled_with(message.clone()), true);
    true
}

fn apply_to_task(task: &RawTask, message: &Message, stack: &mut Stack) {
    if hand_over(task, None, message, stack) {
        return;
    }
    // The message is kept for whoever returns for the request; the last one counts.
    set_cancel_message(task, message);
    let header = task.raw().header();
    if header.has(flag::STARTED) && !header.has(flag::RUNNING) {
        // Queued by a yield, or suspended on foreign futures: its next step is the one chance that those get.
        header.set(flag::PROBE);
        task.wake();
    }
}

fn set_cancel_message(task: &RawTask, message: &Message) {
    if message.is_some() || task.head().extra.get().is_some() {
        let old = task.head().extra().cancel_message.replace(message.clone());
        drop(old);
    }
}

/// Hands a request to every await point inside a scope, or of the whole task. Returns whether there is one.
fn hand_over(task: &RawTask, scope: Option<&Rc<ScopeNode>>, message: &Message, stack: &mut Stack) -> bool {
    let covered = await_point::covered(task, scope);
    // In reverse, since the stack is worked off from its end.
    for wait in covered.iter().rev() {
        match &wait.target {
            Some(target) if accepts(target) => {
                wait.update(|state| state.asked = true);
                stack.push(Work::Visit(target.clone()));
            }
            None if wait.state.phase == Phase::Pending => wait.cancel(message.clone()),
            _ => {
                set_cancel_message(task, message);
                wait.update(|state| (state.asked, state.must_cancel) = (true, true));
            }
        }
    }
    !covered.is_empty()
}

/// Whether a request would reach something that is pending.
fn accepts(raw: &RawFuture) -> bool {
    let mut stack: SmallVec<[RawFuture; 8]> = SmallVec::new();
    stack.push(raw.clone());
    while let Some(raw) = stack.pop() {
        if raw.is_done() {
            continue;
        }
        if !raw.header().has(flag::GATHER) {
            return true;
        }
        if let Some(delegate) = raw.delegate() {
            stack.extend(delegate.children().iter().cloned());
        }
    }
    false
}

/// An await point in `scope` has returned for the requests around it: they are no longer open.
pub(crate) fn consume(task: &RawTask, scope: Option<&Rc<ScopeNode>>) {
    task.raw().header().clear(flag::OPEN);
    for node in around(scope.cloned()) {
        node.open.set(false);
        node.probe.set(false);
    }
}

/// Takes the open request around the current point, for an await point that was not registered: a bare yield.
#[cold]
pub(crate) fn take_open(task: &RawTask) -> Option<Error> {
    let scope = task.core().current.scope();
    if !task.raw().header().has(flag::OPEN) && !around(scope.clone()).any(|node| node.open.get()) {
        return None;
    }
    consume(task, scope.as_ref());
    Some(Error::cancelled_with(task.head().cancel_message()))
}

/// How many requests count at a point: the task's, and those of the scopes around it.
pub(crate) fn cancelling_at(task: &RawTask, scope: Option<Rc<ScopeNode>>) -> u32 {
    around(scope).fold(task.head().requests.get(), |sum, node| sum.saturating_add(node.requests.get()))
}

/// How many requests count for somebody outside: the task's, and those of all its scopes.
pub(crate) fn cancelling(task: &RawTask) -> u32 {
    if task.core().is_current(task) {
        return cancelling_at(task, task.core().current.scope());
    }
    let scopes = task.head().extra.get().map_or(0, |extra| extra.scope_requests.get());
    task.head().requests.get().saturating_add(scopes)
}

/// Takes one request back at a point: the task's own first, then those of the scopes around it, innermost first. When none is left
/// the open ones are dropped. Returns how many are left.
pub(crate) fn uncancel_at(task: &RawTask, scope: Option<Rc<ScopeNode>>) -> u32 {
    let head = task.head();
    if head.requests.get() > 0 {
        head.requests.set(head.requests.get() - 1);
    } else if let Some(node) = around(scope.clone()).find(|node| node.requests.get() > 0) {
        node.count(-1);
    }
    let left = cancelling_at(task, scope.clone());
    if left == 0 {
        consume(task, scope.as_ref());
    }
    left
}

/// Opens the requests around a point again, without changing their number: the next await returns Cancelled once more.
pub(crate) fn reopen_at(task: &RawTask, scope: Option<Rc<ScopeNode>>) {
    let head = task.head();
    set_cancel_message(task, &None);
    if head.requests.get() > 0 {
        head.header.set(flag::REQUESTED | flag::OPEN);
    }
    for node in around(scope).filter(|node| node.requests.get() > 0) {
        node.open.set(true);
        node.message.set(None);
        head.header.set(flag::REQUESTED);
        head.extra().open_scopes.borrow_mut().push(node);
    }
}

/// Whether a scope whose body was just polled drops it: a request around it is open, this was the chance that foreign awaits get, and
/// the scope holds no await point of aioli's and no other scope.
pub(crate) fn abandons(task: &RawTask, node: &Rc<ScopeNode>) -> bool {
    let by_task = task.raw().header().flags.get() & (flag::PROBE | flag::OPEN) == flag::PROBE | flag::OPEN;
    let by_scope = around(Some(Rc::clone(node))).any(|node| node.open.get() && node.probe.get());
    (by_task || by_scope) && !node.has_children() && !node.has_waits()
}

/// What is to become of a task whose step ended pending with requests open.
#[must_use]
pub(crate) enum Settled {
    Suspended,
    /// It is suspended on foreign futures alone, and they have had their chance: it ends as cancelled.
    Abandoned,
}

/// Applies open requests afresh to what a task is suspended on now. `probed`: this step was the chance that foreign awaits get.
#[cold]
pub(crate) fn settle(task: &RawTask, probed: bool) -> Settled {
    let header = task.raw().header();
    let mut requested = false;
    if header.has(flag::OPEN) {
        requested = true;
        let waits = await_point::covered(task, None);
        if waits.is_empty() && probed {
            return Settled::Abandoned;
        }
        if !waits.iter().any(|wait| wait.state.asked) {
            let message = task.head().cancel_message();
            let mut stack = Stack::new();
            apply_to_task(task, &message, &mut stack);
            travel(stack, &message);
        }
    }
    let open = match task.head().extra.get() {
        Some(extra) => {
            let mut open = extra.open_scopes.borrow_mut();
            open.retain(|node| node.open.get());
            open.clone()
        }
        None => Vec::new(),
    };
    for node in open {
        requested = true;
        let waits = await_point::covered(task, Some(&node));
        if waits.iter().any(|wait| wait.state.asked) || (waits.is_empty() && node.probe.get()) {
            continue;
        }
        let message = node.message.take();
        node.message.set(message.clone());
        if waits.is_empty() {
            node.probe.set(true);
            node.wake();
        } else {
            apply_to_scope(task, &node, &message);
        }
    }
    if !requested {
        header.clear(flag::REQUESTED);
    }
    Settled::Suspended
}

/// How a task ends whose coroutine returned: a request that is still open takes the value.
#[inline]
pub(crate) fn ending(task: &RawTask, result: Result<()>) -> Result<()> {
    if result.is_ok() && task.raw().header().has(flag::OPEN) {
        task.discard_value();
        return Err(Error::cancelled_with(task.head().cancel_message()));
    }
    result
}
