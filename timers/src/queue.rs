//! The timer queue.

use std::fmt;

use crate::key::TimerKey;
use crate::slab::{DUE, IDLE, Slab, VACANT};
use crate::wheel::{Reach, Wheel};

/// Timers with a payload `T` each, reported in the order of their deadlines.
///
/// Deadlines are absolute, in nanoseconds of the clock whose reading was given to [`new`](Self::new), and may be any `u64`. See the
/// [crate's page](crate) for a timer's life and an example.
///
/// The order of timers with equal deadlines is the order of their latest [`arm`](Self::arm): arming an armed timer again puts it last
/// among its equals, even if the deadline is the same.
///
/// A timer takes 24 bytes and an `Option<T>`, so a payload with a niche, a reference or a box say, costs nothing extra; and 4 bytes more
/// once it has been freed. Memory is kept for later timers, and given back when the queue is dropped.
pub struct TimerQueue<T> {
    slab: Slab<T>,
    wheel: Wheel,
    /// The timers of one list that became due and were not reported yet, as `deadline, rank, index` from the top bits down, so that
    /// sorting the numbers sorts by deadline and then by rank. Empty outside of `expire`.
    batch: Vec<u128>,
}

impl<T> TimerQueue<T> {
    /// An empty queue. `origin` is what the clock reads now, in nanoseconds, and the first `now` seen.
    pub fn new(origin: u64) -> Self {
        TimerQueue { slab: Slab::new(), wheel: Wheel::new(origin), batch: Vec::new() }
    }

    /// Adds an idle timer, that is one without a deadline.
    ///
    /// # Panics
    ///
    /// If there are `u32::MAX` timers already: "a TimerQueue cannot hold more than u32::MAX timers at once".
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
        if Wheel::is_list(node.place) {
            self.wheel.unlink(&mut self.slab.nodes, key.index);
        } else if node.place != IDLE {
            return false;
        }
        self.wheel.link(&mut self.slab.nodes, key.index, deadline);
        true
    }

    /// Makes an idle or armed timer due at once. [`expire`](Self::expire) will not report it.
    ///
    /// False, and nothing is done, if the timer is due already or the key is stale.
    #[inline]
    pub fn make_due(&mut self, key: TimerKey) -> bool {
        let Some(node) = self.slab.get(key) else { return false };
        if Wheel::is_list(node.place) {
            self.wheel.unlink(&mut self.slab.nodes, key.index);
        } else if node.place != IDLE {
            return false;
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
        let place = self.slab.get(key)?.place;
        if Wheel::is_list(place) {
            self.wheel.unlink(&mut self.slab.nodes, key.index);
        } else if place == DUE {
            return self.slab.nodes[key.index as usize].value.take();
        } else if place != IDLE {
            return None;
        }
        let value = self.slab.nodes[key.index as usize].value.take();
        self.slab.release(key.index);
        value
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
        self.expire_with_values(now, |key, _| due(key));
    }

    /// As [`expire`](Self::expire), and shows `due` each timer's value, too.
    ///
    /// # Panics
    ///
    /// As `expire`.
    #[inline]
    pub fn expire_with_values(&mut self, now: u64, mut due: impl FnMut(TimerKey, &T)) {
        let now = now.max(self.wheel.base());
        while let Some(list) = self.wheel.first() {
            match self.wheel.reach(list, now) {
                Reach::Whole => self.gather(list),
                Reach::Part => {
                    self.wheel.set_base(now);
                    self.spread(list);
                    self.report(&mut due);
                    return;
                }
                Reach::Nothing => break,
            }
            self.report(&mut due);
        }
        self.wheel.set_base(now);
    }

    /// Makes a list due and its timers the batch.
    fn gather(&mut self, list: usize) {
        let TimerQueue { slab, wheel, batch } = self;
        wheel.unlink_all(&mut slab.nodes, list, |_, nodes, index| {
            let node = &mut nodes[index as usize];
            node.place = DUE;
            batch.push(batch_entry(node.deadline, batch.len(), index));
        });
        batch.sort_unstable();
    }

    /// Makes those of a list due that are not after the base, and spreads the others over the lists below.
    fn spread(&mut self, list: usize) {
        let TimerQueue { slab, wheel, batch } = self;
        wheel.unlink_all(&mut slab.nodes, list, |wheel, nodes, index| {
            let node = &mut nodes[index as usize];
            let deadline = node.deadline;
            if deadline <= wheel.base() {
                node.place = DUE;
                batch.push(batch_entry(deadline, batch.len(), index));
            } else {
                wheel.link(nodes, index, deadline);
            }
        });
        batch.sort_unstable();
    }

    /// Reports the batch.
    #[inline]
    fn report(&mut self, due: &mut impl FnMut(TimerKey, &T)) {
        let mut report = Report { queue: self, given: 0 };
        while let Some(&entry) = report.queue.batch.get(report.given) {
            report.given += 1;
            let index = entry as u32;
            let key = report.queue.slab.key(index);
            if let Some(value) = &report.queue.slab.nodes[index as usize].value {
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
        Wheel::is_list(node.place).then_some(node.deadline)
    }

    /// The deadline of the earliest armed timer, in nanoseconds.
    ///
    /// If the timer that was the earliest of its list was cancelled, made due or armed anew since, this looks through that list, which
    /// takes a while if it is long. It is for those who may not wake early, such as a virtual clock; others use
    /// [`next_wake`](Self::next_wake).
    pub fn next_deadline(&mut self) -> Option<u64> {
        let list = self.wheel.first()?;
        self.wheel.tighten(&self.slab.nodes, list);
        Some(self.wheel.bound(list))
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
        Some(self.wheel.bound(self.wheel.first()?))
    }

    /// How many timers are armed. Idle and due ones do not count.
    #[inline]
    pub fn len(&self) -> usize {
        self.wheel.armed()
    }

    /// Whether no timer is armed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.wheel.armed() == 0
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

/// The rank fits, as there are no more than `u32::MAX` timers.
#[inline]
fn batch_entry(deadline: u64, rank: usize, index: u32) -> u128 {
    u128::from(deadline) << 64 | u128::from(rank as u32) << 32 | u128::from(index)
}

/// Reporting, which foreign code may cut short by a panic.
struct Report<'a, T> {
    queue: &'a mut TimerQueue<T>,
    given: usize,
}

impl<T> Drop for Report<'_, T> {
    fn drop(&mut self) {
        let TimerQueue { slab, wheel, batch } = &mut *self.queue;
        // Timers not given go back in order. Nothing else has their deadlines: a list is gathered as a whole.
        for &entry in &batch[self.given..] {
            wheel.link(&mut slab.nodes, entry as u32, (entry >> 64) as u64);
        }
        batch.clear();
    }
}
