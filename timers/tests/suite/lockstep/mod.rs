//! A timer queue and a model of it, going through the same operations; what they answer must agree.
//!
//! The fuzz target is built from this very module.

mod model;
mod op;
mod program;

use std::cell::Cell;
use std::rc::Rc;

use aioli_timers::{TimerKey, TimerQueue};

use self::model::Model;
pub use self::op::{Moment, Op};
pub use self::program::run_program;

/// A payload that counts how many of its kind are alive.
struct Value {
    serial: u64,
    alive: Rc<Cell<usize>>,
}

impl Value {
    fn new(serial: u64, alive: &Rc<Cell<usize>>) -> Self {
        alive.set(alive.get() + 1);
        Value { serial, alive: Rc::clone(alive) }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

/// The queue and its model. Timers are named by the place of their key in a table; gone timers stay there, to try stale keys, until a
/// new timer needs the place.
pub struct Lockstep {
    queue: TimerQueue<Value>,
    model: Model,
    keys: Vec<TimerKey>,
    capacity: usize,
    cursor: usize,
    serial: u64,
    alive: Rc<Cell<usize>>,
}

impl Lockstep {
    /// `capacity` limits the timers that exist at a time.
    pub fn new(origin: u64, capacity: usize) -> Self {
        Lockstep {
            queue: TimerQueue::new(origin),
            model: Model::new(origin),
            keys: Vec::new(),
            capacity,
            cursor: 0,
            serial: 0,
            alive: Rc::default(),
        }
    }

    /// Does the operation on both, and checks the answers and what can be seen from outside.
    pub fn apply(&mut self, op: &Op) {
        match *op {
            Op::Insert => self.insert(),
            Op::Arm(which, moment) => {
                let deadline = self.model.resolve(moment);
                self.on(which, |queue, model, key, id| {
                    assert_eq!(queue.arm(key, deadline), model.arm(id, deadline), "arm for {deadline}");
                });
            }
            Op::MakeDue(which) => self.on(which, |queue, model, key, id| {
                assert_eq!(queue.make_due(key), model.make_due(id), "make_due");
            }),
            Op::Cancel(which) => self.on(which, |queue, model, key, id| {
                assert_eq!(queue.cancel(key).map(|value| value.serial), model.cancel(id), "cancel");
            }),
            Op::Take(which) => self.on(which, |queue, model, key, id| {
                assert_eq!(queue.take(key).map(|value| value.serial), model.take(id), "take");
            }),
            Op::Expire(moment) => {
                let now = self.model.resolve(moment);
                self.expire(now);
            }
            Op::NextDeadline => {
                let next = self.model.next_deadline();
                assert_eq!(self.queue.next_deadline(), next, "next_deadline");
                assert_eq!(self.queue.next_wake(), next, "next_wake after next_deadline");
            }
            Op::Drain => self.drain(),
        }
        self.check();
    }

    fn insert(&mut self) {
        let id = if self.keys.len() < self.capacity {
            self.keys.len()
        } else {
            // The place of a timer that is gone, if there is one soon.
            let Some(id) = (0..8).map(|i| (self.cursor + i) % self.capacity).find(|&id| self.model.is_gone(id)) else {
                self.cursor += 8;
                return;
            };
            self.cursor = id + 1;
            id
        };
        self.serial += 1;
        let key = self.queue.insert(Value::new(self.serial, &self.alive));
        self.model.insert(id, self.serial);
        if id == self.keys.len() {
            self.keys.push(key);
        } else {
            assert_ne!(self.keys[id], key, "a key was given out twice");
            self.keys[id] = key;
        }
        self.check_timer(id);
    }

    fn on(&mut self, which: usize, op: impl FnOnce(&mut TimerQueue<Value>, &mut Model, TimerKey, usize)) {
        if !self.keys.is_empty() {
            let id = which % self.keys.len();
            op(&mut self.queue, &mut self.model, self.keys[id], id);
            self.check_timer(id);
        }
    }

    fn expire(&mut self, now: u64) {
        let expected = self.model.expire(now);
        let mut reported = 0;
        self.queue.expire(now, |key| {
            let id = expected.get(reported).unwrap_or_else(|| panic!("expire({now}) reported one too many: {key:?}"));
            assert_eq!(key, self.keys[*id], "timer {reported} of expire({now})");
            reported += 1;
        });
        assert_eq!(reported, expected.len(), "timers of expire({now})");
        if let Some(wake) = self.queue.next_wake() {
            assert!(wake > self.model.now(), "next_wake is {wake} at {}: no progress", self.model.now());
        }
        if let Some(&id) = expected.last() {
            self.check_timer(id);
        }
    }

    fn drain(&mut self) {
        let mut values = Vec::new();
        self.queue.drain(&mut values);
        let mut serials: Vec<u64> = values.iter().map(|value| value.serial).collect();
        serials.sort_unstable();
        assert_eq!(serials, self.model.drain(), "drain");
        drop(values);
        for id in 0..self.keys.len() {
            self.check_timer(id);
        }
    }

    fn check_timer(&mut self, id: usize) {
        let key = self.keys[id];
        let value = self.model.value(id);
        assert_eq!(self.queue.get(key).map(|value| value.serial), value, "get");
        assert_eq!(self.queue.get_mut(key).map(|value| value.serial), value, "get_mut");
        assert_eq!(self.queue.deadline(key), self.model.deadline(id), "deadline");
    }

    fn check(&mut self) {
        assert_eq!(self.queue.len(), self.model.armed(), "len");
        assert_eq!(self.queue.is_empty(), self.model.armed() == 0, "is_empty");
        assert_eq!(self.alive.get(), self.model.values(), "values in the queue: one was dropped, or not handed out");
        let (wake, next) = (self.queue.next_wake(), self.model.next_deadline());
        if wake != next {
            let (Some(wake), Some(next)) = (wake, next) else {
                panic!("next_wake is {wake:?}, next_deadline {next:?}")
            };
            assert!(wake < next, "next_wake {wake} is after {next}");
            assert!(
                self.model.left_early(wake),
                "next_wake is {wake}, which was the deadline of no timer; next is {next}"
            );
        }
    }
}

impl Drop for Lockstep {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.queue = TimerQueue::new(0);
            assert_eq!(self.alive.get(), 0, "values not dropped with the queue");
        }
    }
}
