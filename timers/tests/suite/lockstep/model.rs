//! What a timer queue does, said as simply as possible.

use std::collections::BTreeSet;

use super::Moment;

/// How many deadlines are remembered for `Moment::Again`.
const REMEMBERED: usize = 16;

#[derive(Clone, Copy)]
enum Timer {
    Gone,
    Idle { value: u64 },
    Armed { value: u64, deadline: u64, order: u64 },
    Due { value: u64 },
    DueCancelled,
}

pub struct Model {
    now: u64,
    timers: Vec<Timer>,
    /// Deadline, order of arming and timer of those armed, sorted.
    armed: Vec<(u64, u64, usize)>,
    armings: u64,
    values: usize,
    /// Deadlines of timers that were disarmed before they were due, until the time is past them.
    left_early: BTreeSet<u64>,
    remembered: [u64; REMEMBERED],
}

impl Model {
    pub fn new(now: u64) -> Self {
        Model {
            now,
            timers: Vec::new(),
            armed: Vec::new(),
            armings: 0,
            values: 0,
            left_early: BTreeSet::new(),
            remembered: [now; REMEMBERED],
        }
    }

    pub fn resolve(&self, moment: Moment) -> u64 {
        let next = || self.next_deadline().unwrap_or(self.now);
        match moment {
            Moment::After(ns) => self.now.saturating_add(ns),
            Moment::Before(ns) => self.now.saturating_sub(ns),
            Moment::At(time) => time,
            Moment::Edge { bits, plus } => (self.now | ((1 << bits) - 1)).saturating_add(plus),
            Moment::Again(n) => self.remembered[n % REMEMBERED],
            Moment::Next(ns) => next().saturating_add(ns),
            Moment::AlmostNext => next().saturating_sub(1),
        }
    }

    pub fn insert(&mut self, id: usize, value: u64) {
        if id == self.timers.len() {
            self.timers.push(Timer::Gone);
        }
        assert!(self.is_gone(id));
        self.timers[id] = Timer::Idle { value };
        self.values += 1;
    }

    pub fn arm(&mut self, id: usize, deadline: u64) -> bool {
        let (Timer::Idle { value } | Timer::Armed { value, .. }) = self.timers[id] else { return false };
        self.disarm(id);
        self.armings += 1;
        let entry = (deadline, self.armings, id);
        self.armed.insert(self.armed.partition_point(|other| other < &entry), entry);
        self.timers[id] = Timer::Armed { value, deadline, order: self.armings };
        self.remembered[self.armings as usize % REMEMBERED] = deadline;
        true
    }

    pub fn make_due(&mut self, id: usize) -> bool {
        let (Timer::Idle { value } | Timer::Armed { value, .. }) = self.timers[id] else { return false };
        self.disarm(id);
        self.timers[id] = Timer::Due { value };
        true
    }

    pub fn cancel(&mut self, id: usize) -> Option<u64> {
        self.disarm(id);
        let (value, left) = match self.timers[id] {
            Timer::Idle { value } | Timer::Armed { value, .. } => (value, Timer::Gone),
            Timer::Due { value } => (value, Timer::DueCancelled),
            Timer::Gone | Timer::DueCancelled => return None,
        };
        self.timers[id] = left;
        self.values -= 1;
        Some(value)
    }

    pub fn take(&mut self, id: usize) -> Option<u64> {
        let value = match self.timers[id] {
            Timer::Due { value } => Some(value),
            Timer::DueCancelled => None,
            Timer::Gone | Timer::Idle { .. } | Timer::Armed { .. } => return None,
        };
        self.timers[id] = Timer::Gone;
        self.values -= usize::from(value.is_some());
        value
    }

    pub fn expire(&mut self, now: u64) -> Vec<usize> {
        self.now = self.now.max(now);
        let due = self.armed.partition_point(|&(deadline, ..)| deadline <= self.now);
        self.left_early = match self.now.checked_add(1) {
            Some(later) => self.left_early.split_off(&later),
            None => BTreeSet::new(),
        };
        let due: Vec<usize> = self.armed.drain(..due).map(|(_, _, id)| id).collect();
        for &id in &due {
            let Timer::Armed { value, .. } = self.timers[id] else { panic!("timer {id} is not armed") };
            self.timers[id] = Timer::Due { value };
        }
        due
    }

    pub fn drain(&mut self) -> Vec<u64> {
        let mut values: Vec<u64> = (0..self.timers.len()).filter_map(|id| self.value(id)).collect();
        values.sort_unstable();
        self.timers.fill(Timer::Gone);
        self.armed.clear();
        self.left_early.clear();
        self.values = 0;
        values
    }

    pub fn now(&self) -> u64 {
        self.now
    }

    pub fn armed(&self) -> usize {
        self.armed.len()
    }

    pub fn values(&self) -> usize {
        self.values
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.armed.first().map(|&(deadline, ..)| deadline)
    }

    pub fn is_gone(&self, id: usize) -> bool {
        matches!(self.timers[id], Timer::Gone)
    }

    pub fn value(&self, id: usize) -> Option<u64> {
        match self.timers[id] {
            Timer::Idle { value } | Timer::Armed { value, .. } | Timer::Due { value } => Some(value),
            Timer::Gone | Timer::DueCancelled => None,
        }
    }

    pub fn deadline(&self, id: usize) -> Option<u64> {
        match self.timers[id] {
            Timer::Armed { deadline, .. } => Some(deadline),
            _ => None,
        }
    }

    /// Whether a timer with this deadline was disarmed before it was due.
    pub fn left_early(&self, deadline: u64) -> bool {
        self.left_early.contains(&deadline)
    }

    fn disarm(&mut self, id: usize) {
        if let Timer::Armed { deadline, order, .. } = self.timers[id] {
            let at = self.armed.binary_search(&(deadline, order, id)).expect("an armed timer is among those armed");
            self.armed.remove(at);
            self.left_early.insert(deadline);
        }
    }
}
