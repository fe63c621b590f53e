//! The timer queue.

use std::fmt;

use crate::key::TimerKey;
use crate::run::{self, DUE_RUN, Runs};
use crate::slab::{self, DUE, IDLE, Place, Slab, VACANT};
use crate::wheel::{Reach, Wheel};

/// Timers with a payload `T` each, reported in the order of their deadlines.
///
/// Deadlines are absolute, in nanoseconds of the clock whose reading was given to [`new`](Self::new), and may be any `u64`. See the
/// [crate's page](crate) for a timer's life and an example.
///
/// The order of timers with equal deadlines is the order of their latest [`arm`](Self::arm): arming an armed timer again puts it last
/// among its equals, even if the deadline is the same.
///
/// A timer takes 8 bytes and an `Option<T>`, so a payload with a niche, a reference or a box say, costs nothing extra; 13 bytes more while
/// it is armed, and 4 bytes more once it has been freed. Armed timers take more if most of those armed between them were cancelled: about
/// 100 bytes at worst, and 204 where there are few in all. Memory is kept for later timers, and given back when the queue is dropped.
pub struct TimerQueue<T> {
    slab: Slab<T>,
    wheel: Wheel,
    runs: Runs,
    armed: usize,
}

impl<T> TimerQueue<T> {
    /// An empty queue. `origin` is what the clock reads now, in nanoseconds, and the first `now` seen.
    pub fn new(origin: u64) -> Self {
        TimerQueue { slab: Slab::new(), wheel: Wheel::new(origin), runs: Runs::new(), armed: 0 }
    }

    /// Adds an idle timer, that is one without a deadline.
    ///
    /// # Panics
    ///
    /// If there are as many already: "a TimerQueue cannot hold more than 250 million timers at once".
    #[inline]
    pub fn insert(&mut self, value: T) -> TimerKey {
        self.insert_with(|| value)
    }

    /// Adds an idle timer whose value is made where it will be: the same as [`insert`](Self::insert), without a copy of the value.
    ///
    /// # Panics
    ///
    /// As `insert`.
    #[inline]
    pub fn insert_with(&mut self, value: impl FnOnce() -> T) -> TimerKey {
        self.slab.insert_with(value)
    }

    /// Arms an idle timer, or arms an armed one anew, for this deadline. A deadline that has passed is allowed: the timer is due at the
    /// next [`expire`](Self::expire).
    ///
    /// False, and nothing is done, if the timer is due already or the key is stale.
    ///
    /// ```
    /// # let mut timers = aioli_timers::TimerQueue::new(0);
    /// let first = timers.insert(1);
    /// let second = timers.insert(2);
    /// timers.arm(first, 500);
    /// timers.arm(second, 500);
    /// timers.arm(first, 500); // now after its equals
    /// let mut due = Vec::new();
    /// timers.expire(500, |key| due.push(key));
    /// assert_eq!(due, [second, first]);
    /// assert!(!timers.arm(first, 900)); // due already
    /// ```
    #[inline]
    pub fn arm(&mut self, key: TimerKey, deadline: u64) -> bool {
        let Some(node) = self.slab.get(key) else { return false };
        match node.place {
            IDLE => (),
            DUE | VACANT => return false,
            place => self.disarm(place),
        }
        self.armed += 1;
        self.slab.nodes[key.index as usize].place = self.wheel.push(key.index, deadline);
        true
    }

    /// Makes an idle or armed timer due at once. [`expire`](Self::expire) will not report it.
    ///
    /// False, and nothing is done, if the timer is due already or the key is stale.
    #[inline]
    pub fn make_due(&mut self, key: TimerKey) -> bool {
        let Some(node) = self.slab.get(key) else { return false };
        match node.place {
            IDLE => (),
            DUE | VACANT => return false,
            place => self.disarm(place),
        }
        self.slab.nodes[key.index as usize].place = DUE;
        true
    }

    /// Takes the value of a timer that is not to go off.
    ///
    /// An idle or armed timer is gone then, and its key stale. Of a due timer only the value is gone: its key still waits for a
    /// [`take`](Self::take), which will find nothing. None if the key is stale or the timer was cancelled before.
    ///
    /// ```
    /// # let mut timers = aioli_timers::TimerQueue::new(0);
    /// let key = timers.insert("value");
    /// timers.arm(key, 10);
    /// timers.expire(10, |key| println!("{key:?} is due"));
    /// assert_eq!(timers.cancel(key), Some("value"));
    /// assert_eq!(timers.take(key), None); // frees the memory all the same
    /// ```
    #[inline]
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let node = self.slab.get_mut(key)?;
        match node.place {
            IDLE => (),
            DUE | VACANT => return node.value.take(),
            place => {
                self.disarm(place);
                let value = self.slab.nodes[key.index as usize].value.take();
                self.slab.release(key.index);
                return value;
            }
        }
        let value = node.value.take();
        self.slab.release(key.index);
        value
    }

    /// Takes an armed timer out of the order.
    #[inline(never)]
    fn disarm(&mut self, place: Place) {
        self.armed -= 1;
        if place >= slab::RUNS {
            self.runs.remove(place - slab::RUNS);
        } else {
            self.wheel.remove(place, |index, place| self.slab.nodes[index as usize].place = place);
        }
    }

    /// Makes every timer due whose deadline is at or before `now`, and gives their keys to `due`: in the order of the deadlines, and in
    /// the order of arming where these are equal.
    ///
    /// A `now` before the latest one seen counts as that one.
    ///
    /// # Panics
    ///
    /// Only if `due` does. The timers it was not given yet are then still armed, and the queue is as good as before.
    #[inline]
    pub fn expire(&mut self, now: u64, mut due: impl FnMut(TimerKey)) {
        self.expire_with_values(now, |_| (), |key, _| due(key));
    }

    /// As [`expire`](Self::expire), and shows `due` each timer's value, too. `soon` is shown where the value is of a timer that will
    /// probably come a few after the next: many timers have not been looked at for long, and a processor can be told to fetch them.
    ///
    /// # Panics
    ///
    /// As `expire`.
    #[inline]
    pub fn expire_with_values(
        &mut self,
        now: u64,
        mut soon: impl FnMut(&Option<T>),
        mut due: impl FnMut(TimerKey, &T),
    ) {
        let now = now.max(self.wheel.base());
        while let Some(list) = self.wheel.first() {
            match self.wheel.reach(list, now) {
                Reach::Whole => {
                    let last = self.gather(list);
                    self.report(last, &mut soon, &mut due);
                }
                Reach::Part => {
                    // The list before it in its row may have left a run, all of which is due.
                    self.report(self.wheel.start(list) - 1, &mut soon, &mut due);
                    self.wheel.set_base(now);
                    self.settle(list);
                    break;
                }
                Reach::Nothing => break,
            }
        }
        self.report(now, &mut soon, &mut due);
        self.wheel.set_base(now);
    }

    /// Makes a list the run of what is due, and returns its latest deadline.
    fn gather(&mut self, list: usize) -> u64 {
        let TimerQueue { wheel, runs, .. } = self;
        wheel.empty(list, |_, deadline, index| runs.push(DUE_RUN, deadline, index));
        runs.sort(DUE_RUN, |_, _| ());
        runs.last(DUE_RUN).unwrap_or_default()
    }

    /// Finds new places for the timers of the list that the base has come into: in a run if they are few, else in that of what is due
    /// and in the lists below.
    fn settle(&mut self, list: usize) {
        let TimerQueue { slab, wheel, runs, .. } = self;
        let (row, timers) = wheel.row_and_timers(list);
        if row <= run::HIGHEST && timers <= run::LONGEST {
            wheel.empty(list, |_, deadline, index| runs.push(row, deadline, index));
            runs.sort(row, |index, place| slab.nodes[index as usize].place = slab::RUNS + place);
            return;
        }
        wheel.empty(list, |wheel, deadline, index| {
            if deadline <= wheel.base() {
                runs.push(DUE_RUN, deadline, index);
            } else {
                slab.nodes[index as usize].place = wheel.push(index, deadline);
            }
        });
        runs.sort(DUE_RUN, |_, _| ());
    }

    /// Reports what is in runs, up to a deadline.
    #[inline]
    fn report(&mut self, limit: u64, soon: &mut impl FnMut(&Option<T>), due: &mut impl FnMut(TimerKey, &T)) {
        let report = Report(self);
        let TimerQueue { slab, runs, armed, .. } = &mut *report.0;
        while let Some((index, ahead)) = runs.pop(limit) {
            if let Some(node) = slab.nodes.get(ahead as usize) {
                soon(&node.value);
            }
            *armed -= 1;
            let key = slab.key(index);
            let node = &mut slab.nodes[index as usize];
            node.place = DUE;
            if let Some(value) = &node.value {
                due(key, value);
            }
        }
    }

    /// Takes the value of a due timer, which is gone then. None if it was cancelled after it became due, if it is not due, or if the key
    /// is stale.
    #[inline]
    pub fn take(&mut self, key: TimerKey) -> Option<T> {
        let node = self.slab.get_mut(key)?;
        if node.place != DUE {
            return None;
        }
        let value = node.value.take();
        self.slab.release(key.index);
        value
    }

    /// The value of a timer that is idle, armed or due, and was not cancelled.
    #[inline]
    pub fn get(&self, key: TimerKey) -> Option<&T> {
        self.slab.get(key)?.value.as_ref()
    }

    /// The value of a timer that is idle, armed or due, and was not cancelled, to change it.
    #[inline]
    pub fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        self.slab.get_mut(key)?.value.as_mut()
    }

    /// The deadline of an armed timer, in nanoseconds. None if it is idle or due, or the key is stale.
    #[inline]
    pub fn deadline(&self, key: TimerKey) -> Option<u64> {
        let node = self.slab.get(key)?;
        match node.place {
            IDLE | DUE | VACANT => None,
            place if place >= slab::RUNS => Some(self.runs.deadline(place - slab::RUNS)),
            place => self.wheel.deadline(place),
        }
    }

    /// The deadline of the earliest armed timer, in nanoseconds.
    ///
    /// If the timer that was the earliest of its list was cancelled, made due or armed anew since, this looks through that list, which
    /// takes a while if it is long. It is for those who may not wake early, such as a virtual clock; others use
    /// [`next_wake`](Self::next_wake).
    pub fn next_deadline(&mut self) -> Option<u64> {
        if let Some(list) = self.wheel.first()
            && self.runs.earliest().is_none_or(|sorted| self.wheel.bound(list) < sorted)
        {
            self.wheel.tighten(list);
        }
        self.next_wake()
    }

    /// How long a loop may sleep: a time, in nanoseconds, at or before the earliest deadline; None if no timer is armed.
    ///
    /// It is the earliest deadline, or else the deadline of a timer that was cancelled, made due or armed anew before it had come. To
    /// find out takes constant time, whatever was cancelled.
    ///
    /// After `expire(now)` it is later than `now`. So a loop that sleeps until then and calls `expire` gets on: on waking it finds timers
    /// due, or has moved those near that time into finer lists, at most ten times a timer.
    ///
    /// ```
    /// # let mut timers = aioli_timers::TimerQueue::new(0);
    /// let first = timers.insert(1);
    /// let second = timers.insert(2);
    /// timers.arm(first, 1_000_000);
    /// timers.arm(second, 1_000_001);
    /// timers.cancel(first);
    /// assert_eq!(timers.next_deadline(), Some(1_000_001));
    /// assert!(timers.next_wake() <= Some(1_000_001));
    /// ```
    #[inline]
    pub fn next_wake(&self) -> Option<u64> {
        let listed = self.wheel.first().map(|list| self.wheel.bound(list));
        match (listed, self.runs.earliest()) {
            (Some(listed), Some(sorted)) => Some(listed.min(sorted)),
            (listed, sorted) => listed.or(sorted),
        }
    }

    /// How many timers are armed. Idle and due ones do not count.
    #[inline]
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Whether no timer is armed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Moves the values of all timers, be they idle, armed or due, to `out`, in no particular order. All keys are stale then, those of
    /// timers that were cancelled while due included.
    ///
    /// # Panics
    ///
    /// If `out` cannot hold so many. Nothing has changed then.
    pub fn drain(&mut self, out: &mut Vec<T>) {
        out.reserve(self.slab.nodes.iter().filter(|node| node.value.is_some()).count());
        self.wheel.clear();
        self.runs.clear();
        self.armed = 0;
        for index in 0..self.slab.nodes.len() {
            let node = &mut self.slab.nodes[index];
            if node.place != VACANT {
                out.extend(node.value.take());
                self.slab.release(index as u32);
            }
        }
    }
}

impl<T> fmt::Debug for TimerQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerQueue")
            .field("now", &self.wheel.base())
            .field("armed", &self.len())
            .field("next_wake", &self.next_wake())
            .finish_non_exhaustive()
    }
}

/// Reporting, which foreign code may cut short by a panic.
struct Report<'a, T>(&'a mut TimerQueue<T>);

impl<T> Drop for Report<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let TimerQueue { slab, wheel, runs, .. } = &mut *self.0;
        // Timers not given go back in order. No list has their deadlines: one is gathered as a whole.
        runs.give_back(|deadline, index| slab.nodes[index as usize].place = wheel.push(index, deadline));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn armed(queue: &mut TimerQueue<()>, deadline: u64) -> TimerKey {
        let key = queue.insert(());
        queue.arm(key, deadline);
        key
    }

    #[test]
    fn timers_that_are_armed_and_cancelled_use_the_same_memory() {
        let mut queue = TimerQueue::new(0);
        for _ in 0..1000 {
            // Latest first, earliest first, and every other one first.
            let keys: Vec<TimerKey> = (0..64).map(|i| armed(&mut queue, 30 * SECOND + i)).collect();
            keys.iter().rev().for_each(|&key| queue.cancel(key).unwrap());
            let keys: Vec<TimerKey> = (0..64).map(|i| armed(&mut queue, 40 * SECOND + i)).collect();
            keys.iter().for_each(|&key| queue.cancel(key).unwrap());
            let keys: Vec<TimerKey> = (0..64).map(|i| armed(&mut queue, 50 * SECOND + i)).collect();
            keys.iter().step_by(2).for_each(|&key| queue.cancel(key).unwrap());
            keys.iter().skip(1).step_by(2).for_each(|&key| queue.cancel(key).unwrap());
        }
        assert!(queue.wheel.chunks() <= 4, "{} chunks for 64 timers", queue.wheel.chunks());
        assert_eq!(queue.slab.nodes.len(), 64);
    }

    #[test]
    fn holes_at_the_end_of_a_list_are_filled() {
        let mut queue = TimerQueue::new(0);
        armed(&mut queue, 30 * SECOND);
        for _ in 0..1000 {
            let keys: Vec<TimerKey> = (0..15).map(|i| armed(&mut queue, 30 * SECOND + i)).collect();
            keys.iter().for_each(|&key| queue.cancel(key).unwrap());
        }
        assert_eq!(queue.wheel.chunks(), 1);
    }

    #[test]
    fn a_crowd_that_comes_and_goes_leaves_no_memory_to_those_who_stay() {
        const STAYING: u64 = 1000;
        let mut queue = TimerQueue::new(0);
        let mut crowd = std::collections::VecDeque::new();
        let mut staying = Vec::new();
        for i in 0..STAYING * 200 {
            let key = armed(&mut queue, 30 * SECOND + i);
            if i % 200 == 77 {
                staying.push(key);
            } else {
                crowd.push_back(key);
            }
            if crowd.len() > 50 {
                queue.cancel(crowd.pop_front().unwrap());
            }
        }
        crowd.into_iter().for_each(|key| queue.cancel(key).unwrap());
        assert_eq!(queue.len(), staying.len());
        let chunks = queue.wheel.chunks();
        assert!(chunks <= staying.len() / 2, "{chunks} chunks for {STAYING} timers that stay");

        // Nobody was lost, nor any order.
        let mut due = Vec::new();
        queue.expire(u64::MAX, |key| due.push(key));
        assert_eq!(due, staying);
    }

    #[test]
    fn what_comes_soon_is_shown_ahead_of_its_time() {
        let mut queue = TimerQueue::new(0);
        let keys: Vec<_> = (0..100_u64).map(|n| queue.insert(n)).collect();
        assert!(keys.iter().all(|key| queue.arm(*key, 1000)));
        let shown = std::cell::RefCell::new(Vec::new());
        let mut given = Vec::new();
        let due = |_, value: &u64| given.push((*value, shown.borrow().len()));
        queue.expire_with_values(SECOND, |value| shown.borrow_mut().extend(*value), due);
        let shown = shown.into_inner();
        // Each was shown once, in its place, and some others were given between.
        assert_eq!(shown, (shown[0]..100).collect::<Vec<_>>());
        assert!((1..20).contains(&shown[0]));
        assert!(
            given
                .iter()
                .enumerate()
                .all(|(n, (value, before))| *value == n as u64 && (*before == n + 1 || *before == shown.len()))
        );
    }

    #[test]
    fn timers_that_go_off_leave_their_memory_to_others() {
        let mut queue = TimerQueue::new(0);
        let mut most = 0;
        for round in 0..200 {
            let start = round * SECOND;
            for i in 0..2000 {
                armed(&mut queue, start + i * 7_919 % 1000 * 100_000);
            }
            for step in 1..=100 {
                let mut due = Vec::new();
                queue.expire(start + step * 1_000_000, |key| due.push(key));
                due.into_iter().for_each(|key| queue.take(key).unwrap());
            }
            assert!(queue.is_empty());
            if round == 0 {
                most = queue.wheel.chunks();
            }
        }
        assert!(most < 2000 / 16 + 300, "{most}");
        assert!(queue.wheel.chunks() <= most + most / 4, "{} chunks, {most} at first", queue.wheel.chunks());
        assert_eq!(queue.slab.nodes.len(), 2000);
    }
}
