//! What the await points of sockets and the like go through on straight-line code outside of scopes.
//!
//! As in `plain.rs`, everything is asked first, and nothing is called on the way.

use std::cell::Cell;

use super::place::drop_links;
use super::plain::{has_just_fired, is_plain};
use super::{Phase, Token, Wait, WaitState, fires_plainly};
use crate::awaited::Awaited;
use crate::serial;
use crate::task::fetch::fetch;
use crate::task::{PollWaker, home, peek};

/// So much of a task is fetched: its head, and some of its coroutine, which keeps its state behind its variables.
const LINES: usize = 6;

impl Token {
    /// Has the processor fetch what [`fire`](Self::fire), and the task that then goes on, will need, if there is a token in a cell. It
    /// changes nothing; it pays where something else is to be done first, such as a system call.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_core::Token;
    /// use std::cell::Cell;
    ///
    /// let waiter = Cell::new(None::<Token>);
    /// Token::prefetch(&waiter); // nobody waits
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    #[inline(always)]
    pub fn prefetch(place: &Cell<Option<Token>>) {
        if !peek::is_some(place) {
            return;
        }
        // Put back before anything else happens: so it is not written at all.
        let token = place.take();
        let task = token.as_ref().map(|token| std::ptr::from_ref(token.task.head()));
        std::mem::forget(place.replace(token));
        if let Some(task) = task {
            fetch::<LINES>(task.cast());
        }
    }

    /// As [`fire`](Self::fire), for a token that is not used any more.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_core::{Token, Wait, WaitPoll, create_task, sleep};
    /// use std::{cell::Cell, future::poll_fn, rc::Rc, task::Poll};
    ///
    /// let waiter = Rc::new(Cell::new(None::<Token>));
    /// let place = Rc::clone(&waiter);
    /// let task = create_task(async move {
    ///     let mut wait = Wait::new();
    ///     poll_fn(|cx| {
    ///         if wait.is_registered() {
    ///             return match wait.poll(cx) {
    ///                 WaitPoll::Fired => Poll::Ready(Ok(())),
    ///                 WaitPoll::Cancelled(error) => Poll::Ready(Err(error)),
    ///                 WaitPoll::Pending | WaitPoll::Moved(_) => Poll::Pending, // no other task polls this
    ///             };
    ///         }
    ///         place.set(Some(wait.register(cx)?));
    ///         Poll::Pending
    ///     })
    ///     .await
    /// });
    /// sleep(0.0).await?;
    /// assert!(waiter.take().is_some_and(Token::fire_last));
    /// task.await
    /// # }).unwrap();
    /// ```
    #[inline(always)]
    pub fn fire_last(self) -> bool {
        if fires_plainly(&self.task, self.serial) {
            self.task.head().wait.set_phase(Phase::Fired);
            self.task.core().push_task(&self.task);
            return true;
        }
        self.fire_and_drop()
    }

    #[cold]
    #[inline(never)]
    fn fire_and_drop(self) -> bool {
        self.fire()
    }
}

impl Wait {
    /// Registers with the task that runs, if all is as on straight-line code outside of scopes. If not, nothing has changed.
    #[inline(always)]
    pub(super) fn register_plainly(&mut self, waker: PollWaker<'_>, awaited: Awaited) -> Option<Token> {
        let registered = home::with_task(|core, task| {
            let head = task.head();
            let plain = self.task.is_none() && is_plain(core, task, waker);
            let serial = serial::next_plainly(head.wait.serial()).filter(|_| plain)?;
            head.wait.fill(serial, WaitState::pending(awaited));
            Some(self.registered(task, serial))
        });
        registered.flatten()
    }

    /// Ends the registration if it has fired and nothing else is to be told: [`poll`](Self::poll) for what nearly all polls find.
    #[inline(always)]
    pub(crate) fn end_if_fired(&mut self) -> bool {
        let ended = home::with_task(|_, task| {
            if !self.is_inside(task) || !has_just_fired(task) {
                return false;
            }
            let head = task.head();
            head.wait.set_state(WaitState::VACANT);
            if let Some(own) = self.task.take() {
                own.drop_beside(task);
            }
            if peek::is_some(&head.wait_target) || peek::is_some(&head.wait_scope) {
                drop_links(task);
            }
            true
        });
        ended == Some(true)
    }
}
