//! Await points: where a task is suspended on something of aioli's.
//!
//! An await point ([`Wait`]) registers itself with the task that polls it and gets a [`Token`]. Whatever it waits for keeps the token
//! and fires it. Firing settles the await point's state and queues the task, or wakes the waker of the combinator that polled it;
//! the next poll finds the state. A cancellation reaches the await point by the same registration.
//!
//! A task on straight-line code has one await point, which lives in the task's own memory. Under combinators of other crates it may
//! have several; those are spilled to a list.

use std::task::Context;

use crate::awaited::Awaited;
use crate::cancel;
use crate::error::{Error, ErrorKind, Message, Result};
use crate::event_loop::LoopCore;
use crate::foreign_waker::ForeignWaker;
use crate::serial;
use crate::task::header::flag;
use crate::task::{PollWaker, RawFuture, RawTask, home, waker};

mod adopted;
mod covered;
mod leaf;
mod place;
mod plain;
mod spilled;

pub(crate) use adopted::adopted;
use adopted::{DECLINED, ROUSED};
pub(crate) use covered::{
    Covered, any_covered, are_left, covered, has_spilled, registered, rouse_spilled, suspended_on, withdraw_all,
};
use place::Place;
pub(crate) use plain::{end_with, fire_plainly, fires_plainly, register_on_future};
use spilled::Spilled;
pub(crate) use spilled::SpilledList;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    Vacant,
    /// Nothing has happened yet.
    Pending,
    /// What it waited for has happened.
    Fired,
    /// A request ended it, before anything else did.
    Cancelled,
    /// As [`Fired`](Phase::Fired), put aside: see [`Covered::put_aside`].
    FiredAside,
    /// As [`Cancelled`](Phase::Cancelled), put aside.
    CancelledAside,
}

/// Where an await point stands: four bytes, one for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct WaitState {
    pub(crate) phase: Phase,
    /// A request was handed to it, or to what it waits for, and it has not returned since.
    pub(crate) asked: bool,
    /// It returns Cancelled whatever it waited for came to.
    pub(crate) must_cancel: bool,
    /// What it waits for, if that is no target.
    pub(crate) awaited: Awaited,
}

impl WaitState {
    pub(crate) const VACANT: Self =
        WaitState { phase: Phase::Vacant, asked: false, must_cancel: false, awaited: Awaited::Other };

    const fn pending(awaited: Awaited) -> Self {
        WaitState { phase: Phase::Pending, asked: false, must_cancel: false, awaited }
    }
}

/// Names one registration of an await point ([`Wait`]), to whatever it waits for. It may outlive the await point, and then does
/// nothing. Firing it is what `set_result` of the private future is in asyncio's primitives.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Token, Wait, WaitPoll, create_task, sleep};
/// use std::{cell::RefCell, future::poll_fn, rc::Rc, task::Poll};
///
/// let door = Rc::new(RefCell::new(None::<Token>));
/// let outside = Rc::clone(&door);
/// let guest = create_task(async move {
///     let mut wait = Wait::new();
///     poll_fn(|cx| {
///         if !wait.is_registered() {
///             outside.replace(Some(wait.register(cx)?));
///             return Poll::Pending;
///         }
///         match wait.poll(cx) {
///             WaitPoll::Cancelled(error) => Poll::Ready(Err(error)),
///             WaitPoll::Fired => Poll::Ready(Ok("inside")),
///             WaitPoll::Pending | WaitPoll::Moved(_) => Poll::Pending, // no other task polls this
///         }
///     })
///     .await
/// });
/// sleep(0.0).await?;
/// let token = door.take().unwrap();
/// assert!(token.is_pending());
/// assert!(token.fire());
/// assert!(!token.fire()); // once
/// assert_eq!(guest.await?, "inside");
/// assert!(!token.is_pending());
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Token {
    task: RawTask,
    serial: u32,
}

/// What a poll of an await point found: the four arms of every leaf, see [`Wait`].
///
/// Where what it waited for comes with something to hand over (an item, a permit), look at [`Token::is_cancelled`] before giving
/// it: after `Cancelled` it is the next in line's.
#[derive(Debug)]
pub enum WaitPoll {
    /// Nothing has happened yet.
    Pending,
    /// What it waited for has happened.
    Fired,
    /// The await returns this error; what it waited for may have happened nevertheless, and then goes to somebody else.
    Cancelled(Error),
    /// Another task polls it now: it is registered nowhere, and whatever holds this token is to be told a new one.
    Moved(Token),
}

/// An await point, for futures of your own: what a lock or a socket suspends a task on. Dropping it withdraws it.
///
/// The first poll of such a future registers the await point and leaves the [`Token`] with whatever it waits for, which fires it
/// once. Later polls ask the await point, which also tells of a cancellation. The task goes on one turn after either.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Result, Token, Wait, WaitPoll, create_task};
/// use std::{cell::RefCell, future::poll_fn, rc::Rc, task::Poll};
///
/// /// A bell that wakes one task.
/// #[derive(Default, Clone)]
/// struct Bell(Rc<RefCell<Option<Token>>>);
///
/// impl Bell {
///     async fn heard(&self) -> Result<()> {
///         let mut wait = Wait::new();
///         poll_fn(|cx| {
///             if wait.is_registered() {
///                 match wait.poll(cx) {
///                     WaitPoll::Pending => return Poll::Pending,
///                     WaitPoll::Fired => return Poll::Ready(Ok(())),
///                     WaitPoll::Cancelled(error) => return Poll::Ready(Err(error)),
///                     WaitPoll::Moved(_) => (), // another task polls it: register there
///                 }
///             }
///             *self.0.borrow_mut() = Some(wait.register(cx)?);
///             Poll::Pending
///         })
///         .await
///     }
/// }
///
/// let bell = Bell::default();
/// let listener = bell.clone();
/// let task = create_task(async move { listener.heard().await });
/// aioli_core::sleep(0.0).await?;
/// bell.0.take().unwrap().fire();
/// task.await?;
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Default, Debug)]
pub struct Wait {
    task: Option<RawTask>,
    /// A whole word, like the task: the two are written and copied as one.
    serial: u64,
}

impl Token {
    /// The token in its parts, which an enum packs tighter than the whole.
    #[inline]
    pub(crate) fn into_parts(self) -> (RawTask, u32) {
        (self.task, self.serial)
    }

    #[inline]
    pub(crate) fn is(&self, task: &RawTask, serial: u32) -> bool {
        self.serial == serial && self.task == *task
    }

    #[inline]
    pub(crate) fn from_parts(task: RawTask, serial: u32) -> Self {
        Token { task, serial }
    }

    /// The loop whose task waits.
    #[inline]
    pub(crate) fn core(&self) -> &LoopCore {
        self.task.core()
    }

    /// What the await point waited for has happened: its task goes on in the next turn. Returns whether it was still waiting; if
    /// not, nothing happens.
    pub fn fire(&self) -> bool {
        let head = self.task.head();
        if head.wait.holds(self.serial) {
            if head.wait.state().phase != Phase::Pending {
                return false;
            }
            head.wait.set_phase(Phase::Fired);
            self.task.wake();
            return true;
        }
        self.set_spilled(Phase::Fired, None)
    }

    /// Whether it still waits: neither fired nor cancelled nor gone.
    pub fn is_pending(&self) -> bool {
        self.state().phase == Phase::Pending
    }

    /// Whether it was cancelled before anything happened, or is gone.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.state().phase, Phase::Cancelled | Phase::CancelledAside | Phase::Vacant)
    }

    /// Whether it is gone: dropped or left by its task, or its task ended before.
    pub(crate) fn is_gone(&self) -> bool {
        self.state().phase == Phase::Vacant
    }

    #[inline]
    fn place(&self) -> Place<'_> {
        Place { task: &self.task, serial: self.serial }
    }

    /// Whether a request came that could not be passed on, after another or after what it waited for.
    pub(crate) fn must_cancel(&self) -> bool {
        self.state().must_cancel
    }

    fn state(&self) -> WaitState {
        self.place().state()
    }

    #[cold]
    fn set_spilled(&self, phase: Phase, message: Message) -> bool {
        let Some(extra) = self.task.head().extra.get() else { return false };
        let mut spilled = extra.spilled.borrow_mut();
        let Some(wait) = spilled.find_mut(self.serial) else { return false };
        if wait.state.phase != Phase::Pending {
            return false;
        }
        wait.state.phase = phase;
        wait.message = message;
        let asked = wait.state.asked;
        // It is woken once.
        let waker = wait.waker.take();
        drop(spilled);
        let own = waker.is_none();
        if let Some(waker) = waker {
            // The waker is not ours: it may do anything, so nothing is borrowed here.
            self.task.core().guard("a waker panicked", || waker.wake());
        }
        // A combinator that was woken before, and has been put aside since, does not wake its task again. An open request does not wait
        // for that.
        if own || asked {
            self.task.wake();
        }
        true
    }
}

impl Wait {
    /// An await point that is not registered.
    pub const fn new() -> Self {
        Wait { task: None, serial: 0 }
    }

    /// The one that is in the memory of this task, if any is.
    pub(crate) fn inside(task: RawTask) -> Self {
        // What was there may be gone. No number is 0.
        let wait = &task.head().wait;
        let serial = if wait.is_vacant() { 0 } else { wait.serial() };
        Wait { task: Some(task), serial: u64::from(serial) }
    }

    /// The task in whose memory this is; this, if it is not in any.
    pub(crate) fn into_inside(mut self) -> std::result::Result<RawTask, Self> {
        let inside = self.task.as_ref().is_some_and(|task| self.is_inside(task));
        self.task.take_if(|_| inside).ok_or(self)
    }

    /// Whether it is in the memory of this task.
    #[inline(always)]
    fn is_inside(&self, task: &RawTask) -> bool {
        self.task.as_ref() == Some(task) && task.head().wait.holds(self.serial as u32)
    }

    /// Whether it is as good as new. A number may be left of a registration that is over.
    pub(crate) fn is_fresh(&self) -> bool {
        self.task.is_none() && self.serial & (ROUSED | DECLINED) == 0
    }

    /// Whether it is registered.
    #[inline]
    pub fn is_registered(&self) -> bool {
        self.task.is_some()
    }

    /// The token of the registration.
    #[inline]
    pub fn token(&self) -> Option<Token> {
        self.place().map(Place::token)
    }

    /// The task that it is registered with.
    #[inline]
    pub(crate) fn task(&self) -> Option<&RawTask> {
        self.task.as_ref()
    }

    #[inline]
    fn place(&self) -> Option<Place<'_>> {
        self.task.as_ref().map(|task| Place { task, serial: self.serial as u32 })
    }

    /// Forgets the registration, for it to be withdrawn.
    fn take(&mut self) -> Option<Token> {
        let serial = std::mem::take(&mut self.serial) as u32;
        self.task.take().map(|task| Token { task, serial })
    }

    /// Registers with the task that runs. A registration that was there is withdrawn. The token is for whatever is to fire it.
    ///
    /// # Errors
    /// `Runtime` if no task runs.
    #[inline]
    pub fn register(&mut self, cx: &Context<'_>) -> Result<Token> {
        self.register_for(cx, Awaited::Other)
    }

    /// As [`register`](Self::register), and says what the task waits for, in case a report is to tell.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    #[inline]
    pub fn register_for(&mut self, cx: &Context<'_>, awaited: Awaited) -> Result<Token> {
        self.register_by(PollWaker::of(cx), awaited)
    }

    #[inline]
    pub(crate) fn register_by(&mut self, waker: PollWaker<'_>, awaited: Awaited) -> Result<Token> {
        match self.register_plainly(waker, awaited) {
            Some(token) => Ok(token),
            None => self.register_rarely(waker, awaited),
        }
    }

    #[cold]
    #[inline(never)]
    fn register_rarely(&mut self, waker: PollWaker<'_>, awaited: Awaited) -> Result<Token> {
        self.register_with(waker, None, awaited)
    }

    /// Registers with the task that runs. `target` is what a cancellation is passed on to.
    #[inline]
    pub(crate) fn register_on(&mut self, waker: PollWaker<'_>, target: Option<&RawFuture>) -> Result<Token> {
        self.register_with(waker, target, Awaited::Other)
    }

    #[inline]
    fn register_with(&mut self, waker: PollWaker<'_>, target: Option<&RawFuture>, awaited: Awaited) -> Result<Token> {
        self.release();
        let registered = home::with_task(|_, task| {
            let inline = self.register_inline(task, waker, target, awaited);
            inline.unwrap_or_else(|| self.register_spilled(task, waker, target, awaited))
        });
        registered.ok_or_else(outside)
    }

    /// Registers with `task`, which runs, in its list.
    #[cold]
    fn register_spilled(
        &mut self,
        task: &RawTask,
        waker: PollWaker<'_>,
        target: Option<&RawFuture>,
        awaited: Awaited,
    ) -> Token {
        let head = task.head();
        let waker = ForeignWaker::clone_of((!waker.is_own(task)).then_some(waker));
        let unheld = waker.is_some() && waker::is_unheld(head);
        let mut spilled = head.extra().spilled.borrow_mut();
        let serial = spilled.take_serial();
        spilled.insert(Spilled {
            serial,
            state: WaitState::pending(awaited),
            target: target.cloned(),
            scope: task.core().current.scope(),
            waker,
            message: None,
            roused: 0,
            declined: self.serial & DECLINED != 0,
        });
        drop(spilled);
        if unheld {
            task.core().strays.note_lost(task);
        }
        if self.serial & ROUSED != 0 {
            (Place { task, serial }).adopt_moved(self.serial & !(ROUSED | DECLINED));
        }
        self.registered(task, serial)
    }

    /// Keeps one reference to the task, and has another kept by what is waited for.
    #[inline(always)]
    fn registered(&mut self, task: &RawTask, serial: u32) -> Token {
        let (own, task) = task.clone_twice();
        (self.task, self.serial) = (Some(own), u64::from(serial));
        Token { task, serial }
    }

    /// Registers in the memory of `task`, which runs; `None` where another await point is there already, or
    /// something else than the task itself polls. On straight-line code it is always some.
    #[inline(always)]
    pub(crate) fn register_inline(
        &mut self,
        task: &RawTask,
        waker: PollWaker<'_>,
        target: Option<&RawFuture>,
        awaited: Awaited,
    ) -> Option<Token> {
        let head = task.head();
        if !head.wait.is_vacant() || self.task.is_some() || !waker.is_own(task) {
            return None;
        }
        let serial = head.next_serial();
        head.wait.fill(serial, WaitState::pending(awaited));
        if let Some(target) = target {
            head.wait_target.set(Some(target.clone()));
        }
        let current = &task.core().current;
        if current.has_scope() {
            head.wait_scope.set(current.scope());
        }
        Some(self.registered(task, serial))
    }

    /// Where it stands. Anything but `Pending` ends the registration.
    ///
    /// # Panics
    /// If it is not registered.
    #[inline]
    pub fn poll(&mut self, cx: &Context<'_>) -> WaitPoll {
        self.poll_with(PollWaker::of(cx))
    }

    #[inline(always)]
    pub(crate) fn poll_with(&mut self, waker: PollWaker<'_>) -> WaitPoll {
        if self.end_if_fired() { WaitPoll::Fired } else { self.look(waker) }
    }

    #[inline(never)]
    fn look(&mut self, waker: PollWaker<'_>) -> WaitPoll {
        let place = self.place().expect("an await point is registered before it is polled");
        if !home::with(|core| core.is_current(place.task)).unwrap_or(false) {
            return self.leave();
        }
        match place.state().phase {
            Phase::Pending => {
                place.keep_scope();
                place.keep_waker(waker);
            }
            _ => place.adopt_fired(),
        }
        // A foreign waker that is cloned or dropped may have fired it.
        let state = place.state();
        match state.phase {
            Phase::Pending => WaitPoll::Pending,
            Phase::Fired if !state.asked => {
                self.release();
                WaitPoll::Fired
            }
            _ => self.answer(state),
        }
    }

    /// Leaves the task that polled it before.
    #[cold]
    fn leave(&mut self) -> WaitPoll {
        let token = self.take().expect("an await point is registered before it is polled");
        if let Some(left) = token.place().stray() {
            token.core().strays.note(&token.task);
            if let Some(error) = token.place().end_moved(left) {
                return WaitPoll::Cancelled(error);
            }
            self.serial = left;
        }
        token.place().release();
        WaitPoll::Moved(token)
    }

    /// Ends a registration that a request was handed to.
    #[cold]
    fn answer(&mut self, state: WaitState) -> WaitPoll {
        let token = self.take().expect("an await point is registered before it is polled");
        let gone = token.place().withdraw();
        let gives_value = || !state.must_cancel && gone.target.as_ref().is_some_and(|target| !target.is_cancelled());
        if state.phase == Phase::FiredAside && gives_value() {
            // The request was to wait no longer for this.
            return WaitPoll::Fired;
        }
        cancel::consume(&token.task, gone.scope.as_ref());
        if matches!(state.phase, Phase::Cancelled | Phase::CancelledAside) {
            return WaitPoll::Cancelled(Error::cancelled_with(gone.message));
        }
        if state.must_cancel {
            return WaitPoll::Cancelled(gone.lost_to(|| token.task.head().cancel_message()));
        }
        WaitPoll::Fired
    }

    /// Withdraws the registration: its token does nothing any more. A cancellation that was handed to it stays open, for the task's
    /// next await.
    #[inline]
    pub fn release(&mut self) {
        if self.task.is_some() {
            self.withdraw();
        }
    }

    #[inline(never)]
    fn withdraw(&mut self) {
        if let Some(token) = self.take() {
            token.place().release();
        }
    }
}

impl Drop for Wait {
    #[inline]
    fn drop(&mut self) {
        self.release();
    }
}

#[cold]
pub(crate) fn outside() -> Error {
    Error::fixed(
        ErrorKind::Runtime,
        &"awaited outside of a task: aioli's futures are polled by tasks of a running loop",
    )
}

impl crate::task::header::TaskHead {
    /// The serial of the next await point in the task's own memory; never 0.
    #[inline]
    fn next_serial(&self) -> u32 {
        // One that has moved to the list since still has its number.
        let moved = |serial| self.extra.get().is_some_and(|extra| extra.spilled.borrow().find(serial).is_some());
        serial::next(self.wait.serial(), moved)
    }

    /// Whether a request may be open that the next await point should know of.
    #[inline]
    pub(crate) fn is_requested(&self) -> bool {
        self.header.has(flag::REQUESTED)
    }
}
