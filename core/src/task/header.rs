//! What every future's and every task's block of memory begins with.
//!
//! ```text
//!   future:  Header | delegate                     | value or error
//!   task:    Header | wait, counts, place, name, … | coroutine, then value or error
//! ```
//!
//! The life of a task, and which function makes each step:
//!
//! ```text
//!   create ──> queued ──step──> running ──┬─ pending ──> suspended ──wake──> queued
//!                │                        └─ ready ───> DONE
//!                └─(cancelled before its first step)──> DONE | CANCELLED
//! ```

use std::any::TypeId;
use std::cell::{Cell, OnceCell, RefCell};
use std::panic::Location;
use std::ptr::NonNull;
use std::rc::Rc;
use std::rc::Weak;
use std::sync::atomic::{AtomicU32, Ordering};

use super::peek;
use super::pool::Block;
use super::raw::RawFuture;
use super::requests::Requests;
use super::wait_cell::WaitCell;
use super::waker;
use crate::await_point::SpilledList;
use crate::callback::{Callbacks, Hook};
use crate::context::ContextMap;
use crate::error::Message;
use crate::event_loop::LoopCore;
use crate::scope::ScopeNode;
use crate::shared::AtomicPtr;
use crate::strays::{Lingering, Stray};

/// The bits of [`Header::flags`].
pub(crate) mod flag {
    /// Finished: with a value, unless [`FAILED`] or [`CANCELLED`] is set too.
    pub(crate) const DONE: u32 = 1;
    /// Finished as cancelled. The payload holds the error.
    pub(crate) const CANCELLED: u32 = 1 << 1;
    /// Finished with an error, which the payload holds.
    pub(crate) const FAILED: u32 = 1 << 2;
    /// The payload holds a value.
    pub(crate) const VALUE: u32 = 1 << 3;
    /// Nobody has retrieved the error yet.
    pub(crate) const LOG: u32 = 1 << 4;
    /// A task, not a plain future.
    pub(crate) const TASK: u32 = 1 << 5;
    /// The payload holds the coroutine.
    pub(crate) const COROUTINE: u32 = 1 << 9;
    /// Some request, of the task or of one of its scopes, may be open. A hint: the sources tell.
    pub(crate) const REQUESTED: u32 = 1 << 11;
    /// The task's own request is open: nothing has returned Cancelled for it yet.
    pub(crate) const OPEN: u32 = 1 << 12;
    /// The next step is the one chance that a foreign await gets before its coroutine is dropped.
    pub(crate) const PROBE: u32 = 1 << 13;
    /// The next step is the one in which scopes that hold foreign awaits alone answer the request, beside await points.
    pub(crate) const CHANCE: u32 = 1 << 20;
    /// The value is being cloned by user code and must stay.
    pub(crate) const CLONING: u32 = 1 << 14;
    /// No "destroyed pending" report for this task: its owner accounts for it.
    pub(crate) const QUIET: u32 = 1 << 15;
    /// The error of a cancelled task is the one that it keeps: the first that it gave may have had a message of its own.
    pub(crate) const TOLD: u32 = 1 << 16;
    /// The outer future of a gather: its delegate leads to the children.
    pub(crate) const GATHER: u32 = 1 << 17;
    /// A request is on its way through this task: a circle of tasks is visited once.
    pub(crate) const VISITED: u32 = 1 << 18;
    /// Its error is reported when it ends: a shield of it was cancelled.
    pub(crate) const SHIELDED: u32 = 1 << 19;
    /// Its context is one that it shares with others, and lies with what few tasks have.
    pub(crate) const SHARES_CONTEXT: u32 = 1 << 21;
}

/// What is specific to the type of a cell.
pub(crate) struct VTable {
    /// The whole block.
    pub(super) block: Block,
    /// Where the payload begins.
    pub(crate) payload: usize,
    /// The type of the value.
    pub(crate) value: fn() -> TypeId,
    /// Polls the coroutine once. If that has ended, it was dropped, and the payload is the value or the error, as the flags say.
    pub(crate) poll: unsafe fn(NonNull<Header>),
    /// Drops the coroutine in the payload.
    pub(crate) drop_coroutine: unsafe fn(NonNull<Header>),
    /// Drops the value in the payload.
    pub(crate) drop_value: unsafe fn(NonNull<Header>),
}

/// What futures and tasks have in common.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) vtable: &'static VTable,
    pub(crate) refs: Cell<u32>,
    pub(crate) flags: Flags,
    /// The loop, which lives as long as its blocks.
    pub(crate) owner: NonNull<LoopCore>,
    pub(crate) callbacks: Cell<Callbacks>,
}

/// The flags of a cell, which stays on its thread.
///
/// They are changed bit by bit and read as a whole a moment later. A compiler changes single bytes of a plain word, and a processor
/// stalls when it then reads the word; the bytes of an atomic it leaves together. Relaxed loads and stores cost what plain ones do.
pub(crate) struct Flags(AtomicU32);

impl Flags {
    #[inline]
    pub(crate) fn new(bits: u32) -> Self {
        Flags(AtomicU32::new(bits))
    }

    #[inline]
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set(&self, bits: u32) {
        self.0.store(bits, Ordering::Relaxed);
    }
}

impl Header {
    #[inline]
    pub(crate) fn has(&self, bits: u32) -> bool {
        self.flags.get() & bits != 0
    }

    #[inline]
    pub(crate) fn set(&self, bits: u32) {
        self.flags.set(self.flags.get() | bits);
    }

    #[inline]
    pub(crate) fn clear(&self, bits: u32) {
        self.flags.set(self.flags.get() & !bits);
    }

    #[inline(always)]
    pub(crate) fn has_callbacks(&self) -> bool {
        // SAFETY: a look at the cell's own memory, during which nothing else is called.
        !matches!(unsafe { &*self.callbacks.as_ptr() }, Callbacks::None)
    }
}

/// The fixed part of a plain future.
#[repr(C)]
pub(crate) struct FutureHead {
    pub(crate) header: Header,
    /// For the outer future of a gather: the children, which its cancellation goes to.
    pub(crate) delegate: Cell<Option<Weak<Box<dyn Hook>>>>,
}

/// The fixed part of a task. What a new one has nothing in lies side by side, to be cleared at once.
#[repr(C)]
pub(crate) struct TaskHead {
    pub(crate) header: Header,
    /// The await point that the task is suspended on, if it is one of aioli's and polled with the task's own waker.
    pub(crate) wait_target: Cell<Option<RawFuture>>,
    pub(crate) wait_scope: Cell<Option<Rc<ScopeNode>>>,
    pub(crate) wait: WaitCell,
    pub(crate) context: Cell<Option<ContextMap>>,
    pub(crate) extra: OnceCell<Box<Extra>>,
    /// Where it is in the loop's list of tasks; before and after it is there, only a guess.
    pub(super) place: Cell<u32>,
    /// Whether it is in the ready queue. This and the stage are no flags: what changes with each step is stored without a look at what was
    /// there, so that no step waits for the one before on its way through memory.
    pub(crate) queued: Cell<bool>,
    pub(crate) stage: Cell<Stage>,
    pub(super) requests: Requests,
    /// What its own waker points at, see [`waker`].
    pub(super) waker: AtomicPtr<()>,
    /// N of "Task-N".
    pub(crate) number: u64,
    pub(crate) location: &'static Location<'static>,
}

/// How far a task's coroutine has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// It was not polled yet.
    Unborn,
    /// It was polled. It is being polled now if its task is the current one, and suspended otherwise: so nothing is stored when a poll
    /// ends, as nearly all do, with the task suspended.
    Polled,
    /// It was polled and is not being polled now, though it is the current task: at the end of a step that was asked for something.
    Suspended,
    /// It is being dropped, or being polled while a task that it has started eagerly is the current one.
    Busy,
}

/// What few tasks have.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) name: RefCell<Option<Rc<str>>>,
    /// The message of the last request that was not passed on to what the task waits for.
    pub(crate) cancel_message: Cell<Message>,
    /// The message of the last request.
    pub(crate) open_message: Cell<Message>,
    /// The message of the request that ended the inline wait.
    pub(crate) wait_message: Cell<Message>,
    /// Further await points: under combinators of other crates a task has several.
    pub(crate) spilled: RefCell<SpilledList>,
    /// Those that the task's own memory has no room to count.
    pub(super) further_requests: Cell<u32>,
    /// Requests of the task's scopes, for those who ask from outside.
    pub(crate) scope_requests: Cell<u32>,
    /// Scopes whose request may be open.
    pub(crate) open_scopes: RefCell<Vec<Rc<ScopeNode>>>,
    /// Scopes that combinators of other crates poll, which a request has to wake itself.
    pub(crate) foreign_scopes: RefCell<Vec<Weak<ScopeNode>>>,
    /// The await points that were roused, and that a request is to reach at the end of the step, and its message.
    pub(crate) adopted: RefCell<Vec<(u32, Message)>>,
    pub(crate) stray: Stray,
    pub(crate) lingering: Lingering,
    /// A context that the task shares with others instead of having its own.
    pub(crate) shared_context: OnceCell<crate::context::Context>,
}

impl TaskHead {
    /// Whether it holds nothing that few tasks have.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.extra.get().is_none() && !waker::was_cloned(self)
    }

    /// Whether the await point in this memory is outside of all scopes and waits for `future`.
    #[inline]
    pub(crate) fn waits_plainly_for(&self, future: &RawFuture) -> bool {
        // SAFETY: a look at the cell's own memory, during which nothing else is called.
        let target = unsafe { &*self.wait_target.as_ptr() };
        target.as_ref() == Some(future) && !peek::is_some(&self.wait_scope)
    }

    pub(crate) fn extra(&self) -> &Extra {
        self.extra.get_or_init(Default::default)
    }

    pub(crate) fn cancel_message(&self) -> Message {
        let extra = self.extra.get()?;
        let message = extra.cancel_message.take();
        extra.cancel_message.set(message.clone());
        message
    }
}

// What a task costs beyond its coroutine, which is what an idle one weighs.
#[cfg(not(aioli_loom))]
const _: () = {
    assert!(size_of::<Callbacks>() == 16);
    assert!(size_of::<Header>() == 40);
    assert!(size_of::<TaskHead>() == 112);
};
