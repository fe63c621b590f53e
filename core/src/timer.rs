//! The timers of a loop: what is to happen when one is due.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};

use aioli_timers::{TimerKey, TimerQueue};

use crate::await_point::Token;
use crate::callback::{Call, HookRef};
use crate::event_loop::LoopCore;
use crate::slack::Slack;
use crate::task::fetch::prefetch;
use crate::task::ready::Ready;
use crate::task::{LoopRef, RawTask};
use crate::time::Instant;
use crate::timeout::TimeoutState;

/// What happens when a timer is due, as one handle of the loop.
pub(crate) enum TimerTarget {
    /// Fires the await point with this serial.
    Wake(RawTask, u32),
    Call(Rc<Call>),
    Hook(HookRef, u32),
    Timeout(Rc<TimeoutState>),
}

impl TimerTarget {
    /// Fires an await point.
    #[inline]
    pub(crate) fn wake(token: Token) -> Self {
        let (task, serial) = token.into_parts();
        TimerTarget::Wake(task, serial)
    }
}

// A timer takes 8 bytes and this, and 13 more while it is armed.
const _: () = assert!(size_of::<Option<TimerTarget>>() == 16);

/// A timer and the loop that has it, which need not be the one that runs: other loops give out the same keys.
pub(crate) struct Armed {
    key: TimerKey,
    owner: Weak<LoopCore>,
}

impl Armed {
    pub(crate) fn new(core: &LoopRef, key: TimerKey) -> Self {
        Armed { key, owner: core.downgrade() }
    }

    /// Has it wake somebody else. Returns whether it has not fired.
    pub(crate) fn retarget(&self, token: Token) -> bool {
        let retargeted = |core: LoopRef| core.timers.retarget(self.key, TimerTarget::wake(token));
        LoopRef::upgrade(&self.owner).and_then(retargeted).is_some()
    }

    pub(crate) fn disarm(self) {
        drop(LoopRef::upgrade(&self.owner).and_then(|core| core.disarm(self.key)));
    }
}

/// How many timers may wait for their clock reading within one step.
const UNSETTLED: usize = 64;

/// The timer queue, and timers that were started in the current step.
///
/// A sleep counts from the end of the step that started it: the step's timers share one reading of the clock then, and one that
/// is cancelled within its step costs none. It ends no earlier than it would have, since the clock only moves on.
pub(crate) struct Timers {
    queue: RefCell<TimerQueue<TimerTarget>>,
    /// Timers of the current step, and their delays in nanoseconds.
    fresh: RefCell<Vec<(TimerKey, u64)>>,
    unsettled: Cell<bool>,
    /// Some timer was armed for a time that had passed already.
    due: Cell<bool>,
    pub(crate) slack: Slack,
}

impl Timers {
    pub(crate) fn new(now: Instant) -> Self {
        Timers {
            queue: RefCell::new(TimerQueue::new(now.as_nanos())),
            fresh: RefCell::new(Vec::new()),
            unsettled: Cell::new(false),
            due: Cell::new(false),
            slack: Slack::new(now),
        }
    }

    /// Starts a timer that is due some nanoseconds after the current step.
    #[inline]
    pub(crate) fn start(
        &self,
        delay: u64,
        target: impl FnOnce() -> TimerTarget,
        now: impl FnOnce() -> Instant,
    ) -> TimerKey {
        let key = self.queue.borrow_mut().insert_with(target);
        let mut fresh = self.fresh.borrow_mut();
        fresh.push((key, delay));
        self.unsettled.set(true);
        if fresh.len() >= UNSETTLED {
            drop(fresh);
            self.settle(now);
        }
        key
    }

    /// Arms the timers that were started in the step that ends now.
    #[inline(always)]
    pub(crate) fn settle(&self, now: impl FnOnce() -> Instant) {
        if self.unsettled.get() {
            self.settle_fresh(now);
        }
    }

    #[inline(never)]
    fn settle_fresh(&self, now: impl FnOnce() -> Instant) {
        self.unsettled.set(false);
        let queue = self.queue.borrow();
        let waited_for = self.fresh.borrow().iter().any(|(key, _)| queue.get(*key).is_some());
        drop(queue);
        if waited_for {
            // The clock is a driver's, which may start timers, too.
            let now = now().as_nanos();
            let mut queue = self.queue.borrow_mut();
            for &(key, delay) in &*self.fresh.borrow() {
                queue.arm(key, now.saturating_add(delay));
            }
        }
        self.fresh.borrow_mut().clear();
    }

    /// Starts a timer that is due at a point in time, see [`LoopCore::start_at`].
    fn start_at(&self, when: Instant, target: TimerTarget, now: impl Fn() -> Instant) -> TimerKey {
        self.settle(&now);
        let mut queue = self.queue.borrow_mut();
        let key = queue.insert(target);
        queue.arm(key, when.as_nanos());
        drop(queue);
        if when <= now() {
            self.due.set(true);
        }
        key
    }

    /// Makes a timer that is due now: it takes the next place in the ready queue.
    pub(crate) fn start_due(&self, target: TimerTarget) -> TimerKey {
        let mut queue = self.queue.borrow_mut();
        let key = queue.insert(target);
        queue.make_due(key);
        key
    }

    /// Disarms a timer. One that is due keeps its place, with nothing to do. Gives back what it was for, to be dropped.
    #[inline]
    pub(crate) fn stop(&self, key: TimerKey) -> Option<TimerTarget> {
        if self.unsettled.get() {
            // Mostly this ends the time limit of what took no time.
            self.fresh.borrow_mut().pop_if(|(latest, _)| *latest == key);
        }
        self.queue.borrow_mut().cancel(key)
    }

    /// Replaces what a timer is for.
    pub(crate) fn retarget(&self, key: TimerKey, target: TimerTarget) -> Option<TimerTarget> {
        self.queue.borrow_mut().get_mut(key).map(|known| std::mem::replace(known, target))
    }

    /// Whether a timer was armed for a time that had passed.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.due.get()
    }

    /// Whether nothing waits for a time.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty() && !self.due.get()
    }

    /// When the loop has to look at the timers next.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.queue.borrow_mut().next_wake().map(Instant::from_nanos)
    }

    /// Until when to sleep, if this is the next deadline.
    pub(crate) fn put_off(&self, deadline: Instant, now: Instant) -> Instant {
        self.slack.put_off(deadline, now, self.queue.borrow().len())
    }

    /// Reports every timer that is due, in the order of deadlines.
    pub(crate) fn expire(&self, now: Instant, mut due: impl FnMut(TimerKey)) {
        self.due.set(false);
        let mut fired = 0;
        let due = |key, _: &TimerTarget| {
            fired += 1;
            due(key);
        };
        self.queue.borrow_mut().expire_with_values(now.as_nanos(), prefetch, due);
        self.slack.count(fired);
    }

    /// Has the processor fetch what a due timer is for: a task that has slept since it was last used.
    pub(crate) fn prefetch(&self, key: TimerKey) {
        if let Some(TimerTarget::Wake(task, _)) = self.queue.borrow().get(key) {
            task.prefetch::<2>();
        }
    }

    /// Does what a due timer is for.
    pub(crate) fn run(&self, core: &LoopCore, key: TimerKey) {
        let target = self.queue.borrow_mut().take(key);
        match target {
            None => (),
            Some(TimerTarget::Wake(task, serial)) => {
                Token::from_parts(task, serial).fire();
            }
            Some(TimerTarget::Call(call)) => call.run(core),
            Some(TimerTarget::Timeout(timeout)) => timeout.expire(),
            Some(TimerTarget::Hook(hook, index)) => core.guard("a callback panicked", || hook.run(core, index)),
        }
    }

    /// Takes everything out, for a loop that closes.
    pub(crate) fn drain(&self) -> Vec<TimerTarget> {
        let mut all = Vec::new();
        self.fresh.borrow_mut().clear();
        self.queue.borrow_mut().drain(&mut all);
        all
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").field("armed", &self.queue.borrow().len()).finish_non_exhaustive()
    }
}

impl LoopCore {
    /// Starts a timer that is due at a point in time.
    pub(crate) fn start_at(&self, when: Instant, target: TimerTarget) -> TimerKey {
        let key = self.timers.start_at(when, target, || self.now());
        if self.timers.is_due() {
            self.look_soon();
        }
        key
    }

    /// Disarms a timer, see [`Timers::stop`].
    pub(crate) fn disarm(&self, key: TimerKey) -> Option<TimerTarget> {
        self.timers.stop(key)
    }

    /// Schedules a timer's target for the next turn, as `call_soon` would, but so that it can be stopped.
    pub(crate) fn start_now(&self, target: TimerTarget) -> TimerKey {
        let key = self.timers.start_due(target);
        self.push(Ready::Timer(key));
        key
    }
}
