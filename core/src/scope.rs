//! Scopes: stretches of a task's code that can be cancelled on their own, as `timeout` does with its body.
//!
//! In CPython a timeout cancels its whole task and takes the request back on the way out. With scopes the request is the scope's: it
//! reaches what is polled inside the scope, and siblings under a combinator do not see it. On straight-line code every scope of a
//! task encloses the await point, and the two are the same.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::process::abort;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use crate::await_point;
use crate::cancel;
use crate::error::{Error, Message, Result};
use crate::foreign_waker::ForeignWaker;
use crate::task::header::flag;
use crate::task::{PollWaker, RawTask, home, waker};

/// One scope of one task.
pub(crate) struct ScopeNode {
    task: RefCell<RawTask>,
    parent: RefCell<Option<Rc<ScopeNode>>>,
    /// Requests made of this scope and not taken back.
    pub(crate) requests: Cell<u32>,
    /// Nothing inside has returned Cancelled for the last request yet.
    pub(crate) open: Cell<bool>,
    pub(crate) message: Cell<Message>,
    /// When the last request was made of it, as [`Strays`](crate::strays::Strays) count; 0 while nothing has to know.
    pub(crate) asked_at: Cell<u64>,
    /// When it was woken, to be polled by whichever task has it now. 0: it was not.
    roused: Cell<u64>,
    /// The next poll of the body is its one chance, if it holds foreign awaits alone.
    pub(crate) probe: Cell<bool>,
    /// The next poll of the body is the one in which scopes inside that hold foreign awaits alone answer the request.
    pub(crate) chance: Cell<bool>,
    /// A request reached it as it reaches an await point: its body holds foreign awaits alone, and the next poll is their chance.
    pub(crate) asked: Cell<bool>,
    /// The body was polled before.
    polled: Cell<bool>,
    /// A scope directly inside was polled, in the last poll of the body if a request may have been open then.
    inner_polled: Cell<bool>,
    /// Its task knows that a combinator of another crate polls it.
    listed: Cell<bool>,
    /// What counted around the scope when it was entered.
    pub(crate) around: Cell<u32>,
    /// Live scopes directly inside.
    children: Cell<u32>,
    /// What polled the body last, if not the task itself.
    waker: Cell<ForeignWaker>,
}

impl ScopeNode {
    /// Whether something in scope `at` lies inside `scope`.
    pub(crate) fn is_inside(at: Option<&Rc<ScopeNode>>, scope: &Rc<ScopeNode>) -> bool {
        let mut at = at.cloned();
        while let Some(node) = at {
            if Rc::ptr_eq(&node, scope) {
                return true;
            }
            at = node.parent();
        }
        false
    }

    pub(crate) fn parent(&self) -> Option<Rc<ScopeNode>> {
        self.parent.borrow().clone()
    }

    pub(crate) fn task(&self) -> RawTask {
        self.task.borrow().clone()
    }

    pub(crate) fn last_message(&self) -> Message {
        let message = self.message.take();
        self.message.set(message.clone());
        message
    }

    /// The waker of what polled the body last, if not the task itself. It is to be woken: the poll that follows stores another.
    pub(crate) fn take_waker(&self) -> ForeignWaker {
        self.waker.take()
    }

    /// The same for a scope that may have gone to another task.
    pub(crate) fn rouse(&self, now: u64) -> ForeignWaker {
        let waker = self.take_waker();
        if waker.is_some() {
            self.roused.set(now);
        }
        waker
    }

    /// Has the body polled soon.
    pub(crate) fn wake(&self) {
        let waker = self.take_waker().take();
        let task = self.task();
        match waker {
            Some(waker) => task.core().guard("a waker panicked", || waker.wake()),
            None => task.wake(),
        }
    }

    /// Adds to the number of requests.
    pub(crate) fn count(&self, change: i32) {
        let Some(requests) = self.requests.get().checked_add_signed(change) else { abort() };
        self.requests.set(requests);
        let task = self.task.borrow();
        let total = &task.head().extra().scope_requests;
        total.set(total.get().wrapping_add_signed(change));
    }
}

/// Whether two points lie in the same scope.
pub(crate) fn is_same(one: Option<&Rc<ScopeNode>>, other: Option<&Rc<ScopeNode>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Rc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// The scopes around a point, innermost first.
pub(crate) fn around(at: Option<Rc<ScopeNode>>) -> impl Iterator<Item = Rc<ScopeNode>> {
    std::iter::successors(at, |node| node.parent())
}

/// A scope that is being used: entered at the first poll of its body, left when this is dropped at the latest.
#[derive(Default)]
pub(crate) struct Scope {
    node: Option<Rc<ScopeNode>>,
}

/// What a poll of a scope's body came to.
pub(crate) enum BodyPoll<T> {
    Pending,
    Ready(T),
    /// The body holds foreign awaits alone and a request is open: it is to be dropped, and counts as cancelled.
    Abandon,
}

impl Scope {
    pub(crate) const fn new() -> Self {
        Scope { node: None }
    }

    pub(crate) fn node(&self) -> Option<&Rc<ScopeNode>> {
        self.node.as_ref()
    }

    /// Enters the scope, or follows it to the task that polls it now.
    ///
    /// # Errors
    /// `Runtime` with `message` if no task runs.
    pub(crate) fn enter(&mut self, cx: &Context<'_>, outside: &'static &'static str) -> Result<Rc<ScopeNode>> {
        let task = home::with(|core| core.current_task())
            .flatten()
            .ok_or_else(|| Error::fixed(crate::error::ErrorKind::Runtime, outside))?;
        let around = task.core().current.scope();
        if let Some(around) = around.as_ref().filter(|around| !around.inner_polled.get()) {
            around.inner_polled.set(true);
        }
        let foreign = ForeignWaker::clone_of(Some(PollWaker::of(cx)).filter(|waker| !waker.is_own(&task)));
        let node = match &self.node {
            Some(node) if node.task.borrow().core().id() != task.core().id() => {
                let message = &"this was begun by a task of a different event loop";
                return Err(Error::fixed(crate::error::ErrorKind::Runtime, message));
            }
            Some(node) => {
                let stays = *node.task.borrow() == task && is_same(node.parent.borrow().as_ref(), around.as_ref());
                if !stays {
                    node.move_to(task, around);
                }
                node.roused.set(0);
                Rc::clone(node)
            }
            None => {
                if let Some(around) = &around {
                    around.children.set(around.children.get() + 1);
                }
                let counted = cancel::cancelling_at(&task, around.clone());
                let node = Rc::new(ScopeNode {
                    task: RefCell::new(task),
                    parent: RefCell::new(around),
                    around: Cell::new(counted),
                    requests: Cell::new(0),
                    open: Cell::new(false),
                    message: Cell::new(None),
                    asked_at: Cell::new(0),
                    roused: Cell::new(0),
                    probe: Cell::new(false),
                    chance: Cell::new(false),
                    asked: Cell::new(false),
                    polled: Cell::new(false),
                    inner_polled: Cell::new(false),
                    listed: Cell::new(false),
                    children: Cell::new(0),
                    waker: Cell::default(),
                });
                self.node = Some(Rc::clone(&node));
                node
            }
        };
        if foreign.is_some() && !node.listed.replace(true) {
            node.list();
        }
        let old = node.waker.replace(foreign);
        drop(old);
        Ok(node)
    }

    /// Polls the body inside the scope, which was entered.
    pub(crate) fn poll_body<F: Future + ?Sized>(&self, cx: &mut Context<'_>, body: Pin<&mut F>) -> BodyPoll<F::Output> {
        let node = self.node.as_ref().expect("a scope is entered before its body is polled");
        let task = node.task();
        let seasoned = node.polled.replace(true);
        let asked = seasoned && cancel::is_asked(&task, node);
        let held_scopes = node.children.get() != 0;
        if asked || task.head().is_requested() {
            node.inner_polled.set(false);
        }
        let inside = Inside::enter(&task, Rc::clone(node));
        let polled = body.poll(cx);
        drop(inside);
        let polled = match polled {
            Poll::Ready(output) => BodyPoll::Ready(output),
            // Scopes that were polled now have had their own chance; it was not this one's.
            Poll::Pending if asked && node.is_left(held_scopes) || cancel::abandons(&task, node) => {
                if !cancel::puts_off(&task) && !node.awaits_inner() {
                    return BodyPoll::Abandon;
                }
                node.asked.set(true);
                cx.waker().wake_by_ref();
                BodyPoll::Pending
            }
            Poll::Pending => BodyPoll::Pending,
        };
        node.chance.set(false);
        polled
    }

    /// The body is dropped with a request open, which counts as delivered.
    pub(crate) fn abandon(&self) -> Error {
        let Some(node) = &self.node else { return Error::cancelled(None) };
        let task = node.task();
        let message = cancel::message_at(&task, Some(node));
        cancel::consume(&task, Some(node));
        Error::cancelled_with(message)
    }

    /// Leaves the scope after its body has ended. `requested`: a request was made of it, and one is to be taken back: its own, or
    /// one around it if user code took that back already. Returns how many count around the scope now.
    pub(crate) fn leave(&mut self, requested: bool) -> u32 {
        let Some((task, parent)) = self.node.as_ref().map(|node| (node.task(), node.parent())) else { return 0 };
        let own = self.exit();
        if requested && own == 0 {
            return cancel::uncancel_at(&task, parent);
        }
        let left = cancel::cancelling_at(&task, parent.clone());
        if requested && left == 0 {
            cancel::consume(&task, parent.as_ref());
        }
        left
    }

    /// Leaves the scope and takes its own requests back. Returns how many there were.
    pub(crate) fn exit(&mut self) -> u32 {
        let Some(node) = self.node.take() else { return 0 };
        let requests = node.requests.get();
        if requests > 0 {
            node.count(-requests.cast_signed());
        }
        node.open.set(false);
        node.strike();
        let parent = node.parent.take();
        if let Some(parent) = &parent {
            parent.children.set(parent.children.get() - 1);
        }
        let waker = node.waker.take();
        drop((waker, parent));
        requests
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.exit();
    }
}

impl ScopeNode {
    /// Takes the scope off its task's list of those whose request may be open.
    fn strike(self: &Rc<Self>) {
        if let Some(extra) = self.task.borrow().head().extra.get() {
            extra.open_scopes.borrow_mut().retain(|known| !Rc::ptr_eq(known, self));
        }
    }

    /// Another task polls the scope, or the same one does so elsewhere: it takes its count along.
    fn move_to(self: &Rc<Self>, task: RawTask, around: Option<Rc<ScopeNode>>) {
        let requests = self.requests.get();
        self.count(-requests.cast_signed());
        self.strike();
        self.around.set(cancel::cancelling_at(&task, around.clone()));
        if let Some(around) = &around {
            around.children.set(around.children.get() + 1);
        }
        let parent = self.parent.replace(around);
        if let Some(parent) = &parent {
            parent.children.set(parent.children.get() - 1);
        }
        if self.open.get() {
            task.head().header.set(flag::REQUESTED);
            task.head().extra().open_scopes.borrow_mut().push(Rc::clone(self));
        }
        let old = self.task.replace(task);
        if old != *self.task.borrow() {
            // What reached it there was not for it.
            self.asked.set(self.is_asked_here());
            self.asked_at.set(0);
            if self.listed.take() {
                old.core().strays.note(&old);
            }
        }
        self.count(requests.cast_signed());
        drop((old, parent));
    }

    /// Whether it was roused, and a request around it here is open, or came since.
    fn is_asked_here(&self) -> bool {
        let (task, parent, time) = (self.task(), self.parent(), self.roused.get());
        let lingers = || cancel::lingering_at(&task, parent.as_ref(), time);
        time != 0 && cancel::open_at(&task, parent.as_ref()).or_else(lingers).is_some()
    }

    /// Has its task know it as one that a combinator of another crate polls.
    fn list(self: &Rc<Self>) {
        let task = self.task();
        let mut known = task.head().extra().foreign_scopes.borrow_mut();
        if known.len() == known.capacity() {
            // One that went to another task and came back is in it twice.
            let others = |scope: &Weak<Self>| {
                scope.upgrade().filter(|node| !Rc::ptr_eq(node, self) && *node.task.borrow() == task)
            };
            known.iter().filter_map(others).for_each(|node| node.listed.set(false));
            known.retain(|scope| others(scope).is_some_and(|node| !node.listed.replace(true)));
        }
        known.push(Rc::downgrade(self));
        drop(known);
        if waker::is_unheld(task.head()) {
            task.core().strays.note_lost(&task);
        }
    }

    /// Whether no await point of aioli's lies inside.
    pub(crate) fn holds_no_await(self: &Rc<Self>) -> bool {
        !await_point::any_covered(&self.task(), Some(self))
    }

    /// Whether neither an await point of aioli's nor another scope lies inside, but for those that are put aside: the poll that has
    /// ended passed them over.
    pub(crate) fn is_empty(self: &Rc<Self>) -> bool {
        (self.children.get() == 0 || !self.inner_polled.get()) && self.holds_no_await()
    }

    /// The same if there were scopes inside before, for whose answer the body may have returned from them.
    fn is_left(self: &Rc<Self>, held_scopes: bool) -> bool {
        !(held_scopes && self.inner_polled.get()) && self.is_empty()
    }

    /// Whether a combinator that has yielded is still to poll a scope inside that was asked.
    fn awaits_inner(self: &Rc<Self>) -> bool {
        let task = self.task();
        let Some(extra) = task.head().extra.get().filter(|_| task.head().queued.get()) else { return false };
        let known: Vec<_> = extra.foreign_scopes.borrow().iter().filter_map(Weak::upgrade).collect();
        let inside = |node: &Rc<Self>| !Rc::ptr_eq(node, self) && ScopeNode::is_inside(Some(node), self);
        known.iter().any(|node| node.asked.get() && *node.task.borrow() == task && inside(node))
    }
}

/// Marks a scope as the innermost one until dropped.
struct Inside<'a> {
    task: &'a RawTask,
    outer: Option<Rc<ScopeNode>>,
}

impl<'a> Inside<'a> {
    fn enter(task: &'a RawTask, node: Rc<ScopeNode>) -> Self {
        Inside { task, outer: task.core().current.replace_scope(Some(node)) }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let inner = self.task.core().current.replace_scope(self.outer.take());
        drop(inner);
    }
}
