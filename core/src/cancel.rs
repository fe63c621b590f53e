//! Requests to cancel: how they travel, who answers them, and what happens where nobody can.
//!
//! A request marks; it never polls and never drops. It goes to what the task waits on: a pending future is cancelled, a task passes
//! it on, a gather spreads it over its children. What cannot take it (it is done already, or there is nothing behind the await
//! point) leaves a mark on the await point, which then returns Cancelled itself.
//!
//! A request is *open* from then until an await point or a scope has returned for it, or the task ended. A step that ends pending
//! with a request open and no await point asked has it applied afresh ([`settle`]).

use std::rc::{Rc, Weak};

use smallvec::SmallVec;

use crate::await_point::{self, Phase};
use crate::error::{Error, Message};
use crate::event_loop::LoopCore;
use crate::scope::{ScopeNode, around};
use crate::task::current::Cover;
use crate::task::header::flag;
use crate::task::{LoopRef, RawFuture, RawTask, home};

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
    scope.probe.set(false);
    scope.chance.set(false);
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
    task.core().strays.rouse(&task, Some(scope));
    apply_to_scope(&task, scope, &message);
}

fn apply_to_scope(task: &RawTask, scope: &Rc<ScopeNode>, message: &Message) {
    let mut stack = Stack::new();
    let handed = hand_over(task, Some(scope), message, &mut stack);
    travel(stack, message);
    if !handed {
        set_cancel_message(task, message);
    }
    if task.core().is_current(task) {
        return;
    }
    scope.chance.set(true);
    if !handed {
        scope.probe.set(true);
        scope.wake();
    }
    ask_foreign(task, Some(scope));
}

/// Passes a request on to the scopes of a task, or those inside a scope, that other crates' combinators poll: a combinator polls
/// only what was woken.
fn ask_foreign(task: &RawTask, within: Option<&Rc<ScopeNode>>) {
    let Some(extra) = task.head().extra.get() else { return };
    let known: Vec<_> = extra.foreign_scopes.borrow().iter().filter_map(Weak::upgrade).collect();
    for node in known {
        let inside = within.is_none_or(|scope| ScopeNode::is_inside(Some(&node), scope));
        if inside && node.task() == *task && node.holds_no_await() {
            node.asked.set(true);
            node.wake();
        }
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
        head.add_request();
        header.set(flag::REQUESTED | flag::OPEN | flag::VISITED);
        set_open_message(task, message);
        stack.push(Work::Leave(task.clone()));
        task.core().strays.rouse(task, None);
        apply_to_task(task, message, stack);
        return true;
    }
    if header.has(flag::GATHER) {
        let accepted = reach(raw) == Reach::Pending;
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
    let handed = hand_over(task, None, message, stack);
    if !handed {
        // The message is kept for whoever returns for the request; the last one counts.
        set_cancel_message(task, message);
    }
    if !task.is_suspended() {
        return;
    }
    let header = task.raw().header();
    header.set(flag::CHANCE);
    if !handed {
        // Queued by a yield, or suspended on foreign futures: its next step is the one chance that those get.
        header.set(flag::PROBE);
        task.wake();
    }
    ask_foreign(task, None);
}

pub(crate) fn set_cancel_message(task: &RawTask, message: &Message) {
    if message.is_some() || task.head().extra.get().is_some() {
        let old = task.head().extra().cancel_message.replace(message.clone());
        drop(old);
    }
}

/// Keeps the message of the task's last request, in case that has to be applied afresh.
fn set_open_message(task: &RawTask, message: &Message) {
    if message.is_some() || task.head().extra.get().is_some() {
        let old = task.head().extra().open_message.replace(message.clone());
        drop(old);
    }
}

fn open_message(task: &RawTask) -> Message {
    let kept = &task.head().extra.get()?.open_message;
    let message = kept.take();
    kept.set(message.clone());
    message
}

/// The message of the request that something in `scope` returns for: the task's, or that of the innermost scope that has one.
pub(crate) fn message_at(task: &RawTask, scope: Option<&Rc<ScopeNode>>) -> Message {
    if task.raw().header().has(flag::OPEN | flag::CHANCE) {
        return open_message(task);
    }
    match around(scope.cloned()).find(|node| node.open.get() || node.chance.get()) {
        Some(node) => node.last_message(),
        None => lingering_at(task, scope, 0)?,
    }
}

/// Hands a request to every await point inside a scope, or of the whole task. Returns whether there is one.
fn hand_over(task: &RawTask, scope: Option<&Rc<ScopeNode>>, message: &Message, stack: &mut Stack) -> bool {
    let covered = await_point::covered(task, scope);
    hand_to(task, &covered, message, stack);
    !covered.is_empty()
}

fn hand_to(task: &RawTask, waits: &[await_point::Covered], message: &Message, stack: &mut Stack) {
    // In reverse, since the stack is worked off from its end.
    for wait in waits.iter().rev() {
        let reach = wait.target.as_ref().map_or(Reach::Nothing, reach);
        match &wait.target {
            Some(target) if reach == Reach::Pending => {
                wait.update(|state| state.asked = true);
                stack.push(Work::Visit(target.clone()));
            }
            // There is nobody to pass it on to, or only those it came from: the circle of tasks is cut here.
            target if wait.state.phase == Phase::Pending && (target.is_none() || reach == Reach::Circle) => {
                wait.cancel(message.clone());
            }
            _ => {
                set_cancel_message(task, message);
                wait.update(|state| (state.asked, state.must_cancel) = (true, true));
                if wait.state.phase != Phase::Pending && !task.is_running() {
                    // The task is queued, unless it has put this aside: then it has to take a step to show that.
                    task.wake();
                }
            }
        }
    }
}

/// What a request would reach that is passed on to a future.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Something that is pending.
    Pending,
    /// Nothing but tasks that it is on its way through already.
    Circle,
    Nothing,
}

fn reach(raw: &RawFuture) -> Reach {
    let mut found = Reach::Nothing;
    let mut stack: SmallVec<[RawFuture; 8]> = SmallVec::new();
    stack.push(raw.clone());
    while let Some(raw) = stack.pop() {
        if raw.is_done() {
            continue;
        }
        if raw.header().has(flag::VISITED) {
            found = Reach::Circle;
        } else if !raw.header().has(flag::GATHER) {
            return Reach::Pending;
        } else if let Some(delegate) = raw.delegate() {
            stack.extend(delegate.children().iter().cloned());
        }
    }
    found
}

/// An await point in `scope` has returned for the requests around it: they are no longer open.
pub(crate) fn consume(task: &RawTask, scope: Option<&Rc<ScopeNode>>) {
    task.raw().header().clear(flag::OPEN);
    for node in around(scope.cloned()) {
        node.open.set(false);
    }
}

/// The requests around a point are taken back before anything has returned for them.
fn withdraw(task: &RawTask, scope: Option<&Rc<ScopeNode>>) {
    consume(task, scope);
    task.raw().header().clear(flag::PROBE | flag::CHANCE);
    for node in around(scope.cloned()) {
        node.probe.set(false);
        node.chance.set(false);
    }
    if let Some(extra) = task.head().extra.get() {
        let known: Vec<_> = extra.foreign_scopes.borrow().iter().filter_map(Weak::upgrade).collect();
        known.iter().for_each(|node| node.asked.set(false));
    }
}

/// Takes the open request around the current point, for an await point that was not registered: a bare yield. Also one that another
/// branch of the same combinator has returned for in this step.
#[cold]
pub(crate) fn take_open(task: &RawTask) -> Option<Error> {
    let message = asked_now(task)?;
    consume(task, task.core().current.scope().as_ref());
    Some(Error::cancelled_with(message))
}

/// The message of the request around the current point that is open, or was answered in this step.
pub(crate) fn asked_now(task: &RawTask) -> Option<Message> {
    let scope = task.core().current.scope();
    let by_task = task.raw().header().has(flag::OPEN | flag::CHANCE);
    let asked = by_task || around(scope.clone()).any(|node| node.open.get() || node.chance.get());
    asked.then(|| message_at(task, scope.as_ref()))
}

/// The message of the request around what lies in `scope` of the task that is open.
pub(crate) fn open_at(task: &RawTask, scope: Option<&Rc<ScopeNode>>) -> Option<Message> {
    if task.raw().header().has(flag::OPEN) {
        return Some(open_message(task));
    }
    around(scope.cloned()).find(|node| node.open.get()).map(|node| node.last_message())
}

/// The message of the request of `task`, or of a scope around what lies in `scope`, that came at this time or later.
pub(crate) fn asked_since(task: &RawTask, scope: Option<&Rc<ScopeNode>>, time: u64) -> Option<Message> {
    if task.head().extra.get()?.lingering.asked_since(time) {
        return Some(open_message(task));
    }
    around(scope.cloned()).find(|node| node.asked_at.get() >= time).map(|node| node.last_message())
}

/// The same for what may have come to the task after its request: it is asked while that has not reached all that was woken for it.
pub(crate) fn lingering_at(task: &RawTask, scope: Option<&Rc<ScopeNode>>, time: u64) -> Option<Message> {
    let since = task.head().extra.get()?.lingering.since()?;
    asked_since(task, scope, time.max(since))
}

/// Whether foreign awaits are given another step to answer a request: see [`Strays`](crate::strays::Strays).
pub(crate) fn puts_off(task: &RawTask) -> bool {
    task.head().extra.get().is_some_and(|extra| extra.lingering.puts_off(task))
}

/// Takes the request that is open at this point of the running task, as an await there would. `None` outside of a task.
///
/// For interfaces made of bare polls, such as `futures`' `AsyncRead`: they have no object that lives exactly as long as the await,
/// so they cannot hold an await point ([`Wait`](crate::Wait)), only a waker. Where a task that is to be cancelled is suspended on
/// wakers alone, it is polled once with the request open, and finds it here.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Error, create_task, sleep, take_request};
/// use std::{future::poll_fn, task::Poll};
///
/// /// Says nothing until it is cancelled.
/// async fn silence() -> Error {
///     // A true one would keep the waker as well, and look whether there is something to say.
///     poll_fn(|_| take_request().map_or(Poll::Pending, Poll::Ready)).await
/// }
///
/// let task = create_task(async { Err::<(), _>(silence().await) });
/// sleep(1.0).await?;
/// task.cancel(Some("speak up"));
/// assert_eq!(task.await.unwrap_err().cancel_message(), Some("speak up"));
/// # Ok(())
/// # }).unwrap();
/// ```
pub fn take_request() -> Option<Error> {
    let open = |core: &LoopCore, task: &RawTask| task.head().is_requested() && !is_covered(core, task);
    home::with_task(|core, task| if open(core, task) { take_open(task) } else { None }).flatten()
}

/// Whether a [`cancellable`](crate::Cancellable::cancellable) around this point is to answer for all that is open: what it holds could
/// only make an output of it.
fn is_covered(core: &LoopCore, task: &RawTask) -> bool {
    let Some(cover) = core.current.cover(task) else { return false };
    let mut inside = around(core.current.scope()).take_while(|node| !std::ptr::eq(Rc::as_ptr(node), cover));
    !inside.any(|node| node.open.get() || node.chance.get())
}

/// Requests from outside are those of an await point, and not of what it polls, until this is dropped.
pub(crate) struct Covered {
    core: LoopRef,
    before: Option<Cover>,
}

/// Covers what is polled next, in a task.
pub(crate) fn cover() -> Option<Covered> {
    let core = home::current()?;
    let task = core.current_task()?;
    let scope = core.current.scope().map_or(std::ptr::null(), |scope| Rc::as_ptr(&scope));
    let before = core.current.replace_cover(Some((task.head(), scope)));
    Some(Covered { core, before })
}

impl Drop for Covered {
    fn drop(&mut self) {
        self.core.current.replace_cover(self.before);
    }
}

/// How many requests count at a point: the task's, and those of the scopes around it.
pub(crate) fn cancelling_at(task: &RawTask, scope: Option<Rc<ScopeNode>>) -> u32 {
    around(scope).fold(task.head().requests(), |sum, node| sum.saturating_add(node.requests.get()))
}

/// How many requests count for somebody outside: the task's, and those of all its scopes.
pub(crate) fn cancelling(task: &RawTask) -> u32 {
    if task.core().is_current(task) {
        return cancelling_at(task, task.core().current.scope());
    }
    task.head().requests().saturating_add(scope_requests(task))
}

/// The requests of all scopes of a task.
fn scope_requests(task: &RawTask) -> u32 {
    task.head().extra.get().map_or(0, |extra| extra.scope_requests.get())
}

/// Takes one request back at a point: the task's own first, then those of the scopes around it, innermost first. When none is left
/// the open ones are dropped. Returns how many are left.
pub(crate) fn uncancel_at(task: &RawTask, scope: Option<Rc<ScopeNode>>) -> u32 {
    let head = task.head();
    if !head.take_request()
        && let Some(node) = around(scope.clone()).find(|node| node.requests.get() > 0)
    {
        node.count(-1);
    }
    let left = cancelling_at(task, scope.clone());
    if left == 0 {
        withdraw(task, scope.as_ref());
        if head.requests() == 0 && scope_requests(task) == 0 {
            for wait in await_point::registered(task, None) {
                wait.update(|state| state.must_cancel = false);
            }
        }
    }
    left
}

/// Opens the requests around a point again, without changing their number: the next await returns Cancelled once more.
pub(crate) fn reopen_at(task: &RawTask, scope: Option<Rc<ScopeNode>>) {
    let head = task.head();
    set_cancel_message(task, &None);
    set_open_message(task, &None);
    if head.requests() > 0 {
        head.header.set(flag::REQUESTED | flag::OPEN);
    }
    for node in around(scope).filter(|node| node.requests.get() > 0) {
        node.open.set(true);
        node.message.set(None);
        head.header.set(flag::REQUESTED);
        head.extra().open_scopes.borrow_mut().push(node);
    }
}

/// Whether a scope that is to be polled now is asked to end, as an await point would be: it holds no await of aioli's, and another
/// branch of the same combinator has returned for the request already.
#[inline]
pub(crate) fn is_asked(task: &RawTask, node: &Rc<ScopeNode>) -> bool {
    (node.asked.take() || task.head().is_requested() && had_chance(task, node, false)) && node.holds_no_await()
}

/// Whether a scope whose body was just polled drops it: a request around it is open, this was the chance that foreign awaits get, and
/// it holds no await point of aioli's and no other scope.
#[inline]
pub(crate) fn abandons(task: &RawTask, node: &Rc<ScopeNode>) -> bool {
    task.head().is_requested() && had_chance(task, node, true) && node.is_empty()
}

/// Whether this is the step in which foreign awaits answer a request around a scope that is still open, or not any more.
fn had_chance(task: &RawTask, node: &Rc<ScopeNode>, open: bool) -> bool {
    let header = task.raw().header();
    let by_task = header.has(flag::CHANCE) && header.has(flag::OPEN) == open;
    by_task || around(Some(Rc::clone(node))).any(|node| node.chance.get() && node.open.get() == open)
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
    let extra = task.head().extra.get();
    // What was woken for its requests may not have been polled yet.
    let lingers = task.head().queued.get() && extra.is_some_and(|extra| extra.lingering.since().is_some());
    let mut requested = lingers;
    for (wait, message) in await_point::adopted(task) {
        let mut stack = Stack::new();
        hand_to(task, &[wait], &message, &mut stack);
        travel(stack, &message);
    }
    if header.has(flag::OPEN) {
        requested = true;
        let waits = await_point::suspended_on(task, None);
        if waits.is_empty() && probed && !puts_off(task) {
            return Settled::Abandoned;
        }
        if !waits.iter().any(|wait| wait.state.asked) {
            let message = open_message(task);
            let mut stack = Stack::new();
            apply_to_task(task, &message, &mut stack);
            travel(stack, &message);
        }
    }
    let open = match extra {
        Some(extra) => {
            if !lingers {
                extra.lingering.end();
            }
            let mut open = extra.open_scopes.borrow_mut();
            open.retain(|node| {
                let stays = node.open.get();
                node.probe.set(stays && node.probe.get());
                // A body that was not polled still has its chance.
                node.chance.set(stays && node.chance.get());
                stays
            });
            open.clone()
        }
        None => Vec::new(),
    };
    for node in open {
        requested = true;
        let waits = await_point::suspended_on(task, Some(&node));
        if waits.iter().any(|wait| wait.state.asked) || (waits.is_empty() && node.probe.get()) {
            continue;
        }
        let message = node.last_message();
        if waits.is_empty() {
            node.probe.set(true);
            node.chance.set(true);
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

/// An await point that was asked was dropped, or went to another task. If its task is suspended, no step of the task will end soon: the
/// open requests are applied afresh now.
#[cold]
pub(crate) fn left_unanswered(task: &RawTask) {
    let requested = task.raw().header().flags.get() & (flag::DONE | flag::REQUESTED) == flag::REQUESTED;
    if requested && task.is_suspended() {
        // Nothing is abandoned where foreign awaits had no chance yet.
        let (Settled::Suspended | Settled::Abandoned) = settle(task, false);
    }
}

/// A task ends whose coroutine has returned: a request that is still open takes the value.
pub(crate) fn ending(task: &RawTask) {
    if !task.raw().header().has(flag::OPEN) {
        return;
    }
    // Taken first: the value's destructor may make another request.
    let message = open_message(task);
    if task.discard_value() {
        // Every error that it gives has the message, not the first alone.
        task.raw().put_error(Error::cancelled_with(message), flag::CANCELLED | flag::TOLD);
    }
}
