//! The rules of the queue, one by one.

use std::cell::RefCell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use aioli_timers::{TimerKey, TimerQueue};

const ORIGIN: u64 = 1_000_000_007;
const SECOND: u64 = 1_000_000_000;

/// An armed timer.
fn armed<T>(queue: &mut TimerQueue<T>, value: T, deadline: u64) -> TimerKey {
    let key = queue.insert(value);
    assert!(queue.arm(key, deadline));
    key
}

/// The values of what is due by `now`, taken.
fn fire<T>(queue: &mut TimerQueue<T>, now: u64) -> Vec<T> {
    let mut keys = Vec::new();
    queue.expire(now, |key| keys.push(key));
    keys.into_iter().map(|key| queue.take(key).expect("a timer just reported is due")).collect()
}

#[test]
fn an_idle_timer_is_not_armed() {
    let mut queue = TimerQueue::new(ORIGIN);
    let key = queue.insert('a');
    assert_eq!((queue.len(), queue.is_empty()), (0, true));
    assert_eq!((queue.deadline(key), queue.next_deadline(), queue.next_wake()), (None, None, None));
    assert_eq!(queue.get(key), Some(&'a'));
    assert_eq!(fire(&mut queue, u64::MAX), []);
    assert_eq!(queue.take(key), None, "it is not due");
    assert_eq!(queue.cancel(key), Some('a'));
    assert_eq!(queue.get(key), None);
}

#[test]
fn a_timer_goes_off_at_its_deadline_and_not_before() {
    for after in [1, 2, 63, 64, 65, 4095, 4096, 4097, 262_144, 16_777_216, 30 * SECOND, 86_400 * SECOND, 1 << 62] {
        let mut queue = TimerQueue::new(ORIGIN);
        let key = armed(&mut queue, 'a', ORIGIN + after);
        assert_eq!((queue.len(), queue.is_empty()), (1, false));
        assert_eq!(queue.deadline(key), Some(ORIGIN + after));
        assert_eq!((queue.next_deadline(), queue.next_wake()), (Some(ORIGIN + after), Some(ORIGIN + after)));
        assert_eq!(fire(&mut queue, ORIGIN + after - 1), []);
        assert_eq!(queue.take(key), None, "it is not due");
        assert_eq!((queue.next_deadline(), queue.next_wake()), (Some(ORIGIN + after), Some(ORIGIN + after)));
        assert_eq!(fire(&mut queue, ORIGIN + after), ['a']);
        assert!(queue.is_empty());
    }
}

#[test]
fn a_reported_timer_is_due_until_it_is_taken() {
    let mut queue = TimerQueue::new(ORIGIN);
    let key = armed(&mut queue, 'a', ORIGIN + 5);
    let mut reported = Vec::new();
    queue.expire(ORIGIN + 5, |key| reported.push(key));
    assert_eq!(reported, [key]);
    queue.expire(ORIGIN + 6, |_| panic!("reported twice"));

    assert_eq!(queue.get(key), Some(&'a'));
    *queue.get_mut(key).unwrap() = 'b';
    assert_eq!((queue.deadline(key), queue.len(), queue.next_wake()), (None, 0, None));
    assert!(!queue.arm(key, ORIGIN + 9), "it is due already");
    assert!(!queue.make_due(key), "it is due already");
    assert_eq!(queue.take(key), Some('b'));
    assert_eq!(queue.take(key), None);
}

#[test]
fn a_timer_made_due_is_not_reported() {
    let mut queue = TimerQueue::new(ORIGIN);
    let idle = queue.insert('a');
    let early = armed(&mut queue, 'b', ORIGIN + 5);
    armed(&mut queue, 'c', ORIGIN + 5);
    assert!(queue.make_due(idle));
    assert!(queue.make_due(early));
    assert!(!queue.make_due(early));
    assert_eq!((queue.len(), queue.deadline(early)), (1, None));
    assert_eq!(fire(&mut queue, u64::MAX), ['c']);
    assert_eq!((queue.take(early), queue.take(idle)), (Some('b'), Some('a')));
}

#[test]
fn cancelling_a_due_timer_keeps_its_key_until_it_is_taken() {
    let mut queue = TimerQueue::new(ORIGIN);
    let key = armed(&mut queue, 'a', ORIGIN);
    queue.expire(ORIGIN, |_| ());
    assert_eq!(queue.cancel(key), Some('a'));
    assert_eq!((queue.cancel(key), queue.get(key)), (None, None));
    assert_eq!(queue.get_mut(key), None);
    assert!(!queue.arm(key, ORIGIN + 1));
    assert!(!queue.make_due(key));

    let other = queue.insert('b');
    assert_eq!(queue.take(key), None, "cancelled");
    assert_eq!(queue.get(other), Some(&'b'), "its memory was in use until then");
    assert_eq!(queue.take(key), None, "stale");
}

#[test]
fn a_stale_key_does_nothing() {
    let mut queue = TimerQueue::new(ORIGIN);
    let cancelled = armed(&mut queue, 'a', ORIGIN + 1);
    queue.cancel(cancelled);
    let taken = armed(&mut queue, 'b', ORIGIN + 1);
    assert_eq!(fire(&mut queue, ORIGIN + 1), ['b']);
    let key = armed(&mut queue, 'c', ORIGIN + 2);
    for stale in [cancelled, taken] {
        assert_ne!(stale, key);
        assert!(!queue.arm(stale, ORIGIN + 3));
        assert!(!queue.make_due(stale));
        assert_eq!((queue.cancel(stale), queue.take(stale)), (None, None));
        assert_eq!((queue.get(stale), queue.deadline(stale)), (None, None));
        assert_eq!(queue.get_mut(stale), None);
    }
    assert_eq!((queue.get(key), queue.deadline(key)), (Some(&'c'), Some(ORIGIN + 2)));
}

#[test]
fn keys_are_never_given_out_twice() {
    let mut queue = TimerQueue::new(ORIGIN);
    let mut keys = HashSet::new();
    for round in 0..1000 {
        let key = queue.insert(round);
        assert!(keys.insert(key));
        if round % 3 != 0 {
            queue.cancel(key);
        }
    }
}

#[test]
fn timers_go_off_in_the_order_of_their_deadlines() {
    let mut queue = TimerQueue::new(ORIGIN);
    let after = [40 * SECOND, 3, 5_000_000, 1, 70, 4_100, 40 * SECOND + 1, 69, 5_000_001, 2, 4_099];
    for after in after {
        armed(&mut queue, after, ORIGIN + after);
    }
    let mut sorted = after;
    sorted.sort_unstable();
    assert_eq!(fire(&mut queue, ORIGIN + 100 * SECOND), sorted);
}

#[test]
fn equal_deadlines_go_off_in_arming_order() {
    let mut queue = TimerQueue::new(ORIGIN);
    for value in 0..100 {
        armed(&mut queue, value, ORIGIN + 12_345);
    }
    assert_eq!(fire(&mut queue, ORIGIN + 12_345), Vec::from_iter(0..100));
}

#[test]
fn arming_order_holds_for_timers_armed_from_far_and_from_near() {
    // The same deadline seen from ever shorter distances, so that each timer was first put into another row, and some have come down.
    for deadline in [ORIGIN + 40 * SECOND, (1 << 40) - 1, 1 << 40, (1 << 40) + 1] {
        let mut queue = TimerQueue::new(ORIGIN);
        let distances =
            [40 * SECOND, 30 * SECOND, SECOND, 17_000_000, 16_000_000, 270_000, 4_097, 4_096, 65, 64, 63, 1, 0];
        for (value, distance) in distances.into_iter().enumerate() {
            assert_eq!(fire(&mut queue, deadline - distance.max(1)), []);
            armed(&mut queue, value, deadline);
            // Others around it, which must not get in between.
            armed(&mut queue, usize::MAX, deadline + 1);
        }
        assert_eq!(fire(&mut queue, deadline), Vec::from_iter(0..distances.len()));
    }
}

#[test]
fn arming_again_counts_as_a_new_arming() {
    let mut queue = TimerQueue::new(ORIGIN);
    let first = armed(&mut queue, 'a', ORIGIN + 500);
    armed(&mut queue, 'b', ORIGIN + 500);
    armed(&mut queue, 'c', ORIGIN + 700);
    assert!(queue.arm(first, ORIGIN + 500));
    assert_eq!(queue.len(), 3);
    assert_eq!(fire(&mut queue, ORIGIN + 600), ['b', 'a']);

    let moved = armed(&mut queue, 'd', ORIGIN + 800);
    assert!(queue.arm(moved, ORIGIN + 700));
    assert_eq!(queue.deadline(moved), Some(ORIGIN + 700));
    assert_eq!(fire(&mut queue, ORIGIN + 700), ['c', 'd']);
}

#[test]
fn past_deadlines_are_due_at_once_in_order() {
    let mut queue = TimerQueue::new(ORIGIN);
    queue.expire(ORIGIN + SECOND, |_| ());
    for (value, deadline) in [(4, ORIGIN + SECOND + 1), (3, ORIGIN + SECOND), (1, 9), (2, ORIGIN), (0, 0)] {
        armed(&mut queue, value, deadline);
    }
    armed(&mut queue, 10, 9);
    assert_eq!((queue.next_deadline(), queue.next_wake()), (Some(0), Some(0)));
    assert_eq!(fire(&mut queue, ORIGIN + SECOND + 1), [0, 1, 10, 2, 3, 4]);
}

#[test]
fn a_clock_that_goes_back_counts_as_standing() {
    let mut queue = TimerQueue::new(ORIGIN);
    queue.expire(ORIGIN + 100, |_| ());
    armed(&mut queue, 'b', ORIGIN + 101);
    armed(&mut queue, 'a', ORIGIN + 100);
    assert_eq!(fire(&mut queue, 0), ['a']);
    assert_eq!(fire(&mut queue, ORIGIN + 101), ['b']);
}

#[test]
fn the_whole_range_of_times_can_be_used() {
    let mut queue = TimerQueue::new(0);
    for deadline in [u64::MAX, 0, u64::MAX - 1, 1 << 63, (1 << 60) - 1, 1 << 60] {
        armed(&mut queue, deadline, deadline);
    }
    assert_eq!(fire(&mut queue, 0), [0]);
    assert_eq!(fire(&mut queue, 1 << 60), [(1 << 60) - 1, 1 << 60]);
    assert_eq!(queue.next_deadline(), Some(1 << 63));
    assert_eq!(fire(&mut queue, u64::MAX - 2), [1 << 63]);
    assert_eq!(fire(&mut queue, u64::MAX), [u64::MAX - 1, u64::MAX]);
    armed(&mut queue, 7, u64::MAX);
    assert_eq!(fire(&mut queue, u64::MAX), [7]);
}

#[test]
fn next_deadline_is_exact_whatever_was_cancelled() {
    let mut queue = TimerQueue::new(ORIGIN);
    // All in one list.
    let keys: Vec<TimerKey> = (0..50).map(|i| armed(&mut queue, i, ORIGIN + 30 * SECOND + (i * 37) % 50)).collect();
    let mut left: HashSet<u64> = (0..50).collect();
    for i in [0, 49, 1, 27, 11, 48, 2] {
        assert!(queue.cancel(keys[i]).is_some());
        left.remove(&((i as u64 * 37) % 50));
        let next = ORIGIN + 30 * SECOND + left.iter().min().unwrap();
        assert!(queue.next_wake() <= Some(next));
        assert_eq!((queue.next_deadline(), queue.next_wake()), (Some(next), Some(next)));
    }
}

#[test]
fn a_loop_that_sleeps_until_next_wake_gets_on_when_the_earliest_are_cancelled() {
    for far in [4_200, SECOND, 30 * SECOND, 1 << 62] {
        let mut queue = TimerQueue::new(ORIGIN);
        let cancelled: Vec<TimerKey> = (1..5000).map(|i| armed(&mut queue, 0, ORIGIN + far + i % 4000)).collect();
        armed(&mut queue, 1, ORIGIN + far + 4000);
        for key in cancelled {
            queue.cancel(key);
        }
        let mut wakes = 0;
        let mut fired = Vec::new();
        while let Some(wake) = queue.next_wake() {
            fired.extend(fire(&mut queue, wake));
            wakes += 1;
        }
        assert_eq!(fired, [1]);
        assert!(wakes <= 11, "{wakes} wakes for one timer {far} ns away");
    }
}

#[test]
fn next_wake_takes_no_longer_in_a_crowd() {
    const CROWD: u64 = 100_000;
    let mut queue = TimerQueue::new(ORIGIN);
    let keys: Vec<TimerKey> = (0..CROWD).map(|i| armed(&mut queue, i, ORIGIN + 30 * SECOND + i)).collect();
    let start = Instant::now();
    for (i, key) in keys.into_iter().enumerate() {
        let next = ORIGIN + 30 * SECOND + i as u64;
        assert!(queue.next_wake().is_some_and(|wake| wake <= next));
        queue.cancel(key);
    }
    assert_eq!(queue.next_wake(), None);
    // A look at each of the others every time would take minutes.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// A timer after those given, armed when the clock comes near them: it makes the queue look at them, and goes off first.
fn come_near(queue: &mut TimerQueue<u64>, now: u64) {
    armed(queue, now, now);
    assert_eq!(fire(queue, now), [now]);
}

#[test]
fn timers_armed_beside_near_ones_keep_the_order() {
    const FAR: u64 = ORIGIN + SECOND;
    let mut queue = TimerQueue::new(ORIGIN);
    for value in 0..100 {
        armed(&mut queue, value, FAR + value / 10 * 1_000);
    }
    // From ever nearer, for the same times and for times between.
    for (round, before) in [9_000_000, 200_000, 5_000, 100].into_iter().enumerate() {
        come_near(&mut queue, FAR - before);
        for value in 0..10 {
            armed(&mut queue, (round as u64 + 1) * 100 + value, FAR + value * 1_000);
            armed(&mut queue, (round as u64 + 1) * 100 + 50 + value, FAR + value * 1_000 + 500);
        }
    }
    for step in 0..10 {
        let equal = (0..10).map(|i| step * 10 + i).chain((1..5).map(|round| round * 100 + step));
        assert_eq!((queue.next_deadline(), queue.next_wake()), (Some(FAR + step * 1_000), Some(FAR + step * 1_000)));
        assert_eq!(fire(&mut queue, FAR + step * 1_000), Vec::from_iter(equal));
        let between = (1..5).map(|round| round * 100 + 50 + step);
        assert_eq!(fire(&mut queue, FAR + step * 1_000 + 999), Vec::from_iter(between));
    }
    assert!(queue.is_empty());
}

#[test]
fn near_timers_can_be_cancelled_and_armed_anew() {
    const FAR: u64 = ORIGIN + SECOND;
    let mut queue = TimerQueue::new(ORIGIN);
    let keys: Vec<TimerKey> = (0..8).map(|value| armed(&mut queue, value, FAR + value * 100)).collect();
    come_near(&mut queue, FAR - 1_000);
    assert_eq!(queue.deadline(keys[3]), Some(FAR + 300));

    assert_eq!(queue.cancel(keys[1]), Some(1));
    assert!(queue.make_due(keys[2]));
    assert!(queue.arm(keys[3], FAR + 3_300));
    assert_eq!((queue.len(), queue.next_deadline()), (6, Some(FAR)));
    // The earliest, behind which there are three holes.
    assert_eq!(queue.cancel(keys[0]), Some(0));
    assert_eq!((queue.len(), queue.next_deadline(), queue.next_wake()), (5, Some(FAR + 400), Some(FAR + 400)));
    assert!(queue.arm(keys[6], FAR + 500));
    assert_eq!(fire(&mut queue, FAR + 3_299), [4, 5, 6, 7]);
    assert_eq!((queue.next_deadline(), queue.deadline(keys[3])), (Some(FAR + 3_300), Some(FAR + 3_300)));
    assert_eq!(queue.cancel(keys[3]), Some(3));
    assert_eq!((queue.len(), queue.next_wake(), queue.take(keys[2])), (0, None, Some(2)));
}

#[test]
fn many_timers_at_one_time_are_found_in_order() {
    // More than are sorted at once, so that they are spread; and some that come while others are due.
    const FAR: u64 = ORIGIN + SECOND;
    let mut queue = TimerQueue::new(ORIGIN);
    let mut expected: Vec<(u64, u64)> = (0..5_000).map(|value| (FAR + value * 7_919 % 5_000 * 2_000, value)).collect();
    for &(deadline, value) in &expected {
        armed(&mut queue, value, deadline);
    }
    expected.sort_unstable();
    let mut fired = Vec::new();
    for now in (FAR - 10_000_000..FAR + 10_000_000).step_by(37_000) {
        fired.extend(fire(&mut queue, now));
        assert!(queue.next_wake().is_none_or(|wake| wake > now));
        assert!(fired.last().is_none_or(|&last| expected[fired.len() - 1] <= (now, last)));
    }
    fired.extend(fire(&mut queue, FAR + 10_000_000));
    assert!(fired.iter().eq(expected.iter().map(|(_, value)| value)));
}

#[test]
fn a_panic_while_near_timers_are_reported_leaves_the_others_armed() {
    const FAR: u64 = ORIGIN + SECOND;
    let mut queue = TimerQueue::new(ORIGIN);
    for value in 0..10 {
        armed(&mut queue, value, FAR + value / 3 * 10);
    }
    come_near(&mut queue, FAR - 1_000);
    armed(&mut queue, 10, FAR + 10);
    let mut given = 0;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        queue.expire(FAR + 20, |_| {
            given += 1;
            assert!(given < 5, "stop");
        });
    }));
    assert!(panicked.is_err());
    assert_eq!((queue.len(), queue.next_deadline()), (6, Some(FAR + 10)));
    armed(&mut queue, 11, FAR + 10);
    armed(&mut queue, 12, FAR + 20);
    assert_eq!(fire(&mut queue, FAR + 30), [5, 10, 11, 6, 7, 8, 12, 9]);
}

/// The places in memory that the keys lead to.
fn places(keys: &[TimerKey]) -> HashSet<String> {
    let index = |key: &TimerKey| {
        let text = format!("{key:?}");
        text.split_once(',').expect("an index and a generation").0.to_owned()
    };
    keys.iter().map(index).collect()
}

#[test]
fn memory_is_used_again() {
    let mut queue = TimerQueue::new(ORIGIN);
    let arm_ten = |queue: &mut TimerQueue<u64>, now| Vec::from_iter((0..10).map(|i| armed(queue, i, now + i)));
    let first = places(&arm_ten(&mut queue, ORIGIN));
    assert_eq!(first.len(), 10);
    for round in 1..5 {
        assert_eq!(fire(&mut queue, ORIGIN + 10 * round).len(), 10);
        assert_eq!(places(&arm_ten(&mut queue, ORIGIN + 10 * round)), first);
    }
}

#[test]
fn drain_hands_out_every_value_and_leaves_stale_keys() {
    let mut queue = TimerQueue::new(ORIGIN);
    let idle = queue.insert('i');
    let soon = armed(&mut queue, 'a', ORIGIN + 3);
    let late = armed(&mut queue, 'l', ORIGIN + 30 * SECOND);
    let due = armed(&mut queue, 'd', 0);
    let cancelled = armed(&mut queue, 'c', 0);
    queue.expire(ORIGIN, |_| ());
    queue.cancel(cancelled);

    let mut values = vec!['x'];
    queue.drain(&mut values);
    assert_eq!(values[0], 'x');
    values.sort_unstable();
    assert_eq!(values, ['a', 'd', 'i', 'l', 'x']);
    assert_eq!((queue.len(), queue.next_wake(), queue.next_deadline()), (0, None, None));
    let keys = [idle, soon, late, due, cancelled];
    let new: Vec<TimerKey> = "vwxyz".chars().map(|value| armed(&mut queue, value, ORIGIN + 30 * SECOND)).collect();
    assert_eq!(places(&new), places(&keys), "all memory is free");
    for key in keys {
        assert_eq!((queue.get(key), queue.deadline(key)), (None, None));
        assert!(!queue.arm(key, ORIGIN));
        assert_eq!((queue.cancel(key), queue.take(key)), (None, None));
    }

    assert_eq!(fire(&mut queue, u64::MAX), ['v', 'w', 'x', 'y', 'z']);
}

/// A value that knows when it was dropped.
struct Noted(u32, Rc<RefCell<Vec<u32>>>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.1.borrow_mut().push(self.0);
    }
}

#[test]
fn values_are_dropped_by_nobody_but_the_queue_itself() {
    let dropped = Rc::new(RefCell::new(Vec::new()));
    let mut queue = TimerQueue::new(ORIGIN);
    let keys: Vec<TimerKey> = (0..8).map(|n| queue.insert(Noted(n, Rc::clone(&dropped)))).collect();
    for key in &keys[..6] {
        queue.arm(*key, ORIGIN + 1);
    }
    let mut out = vec![queue.cancel(keys[0]), queue.cancel(keys[7])];
    queue.expire(ORIGIN + 1, |_| ());
    out.push(queue.cancel(keys[1]));
    assert!(queue.take(keys[1]).is_none());
    out.push(queue.take(keys[2]));
    queue.make_due(keys[6]);
    assert!(out.iter().all(Option::is_some));
    assert_eq!(*dropped.borrow(), []);

    // In memory that others had.
    let idle = queue.insert(Noted(8, Rc::clone(&dropped)));
    queue.arm(idle, ORIGIN + 9);
    assert_eq!(*dropped.borrow(), []);
    drop(queue);
    dropped.borrow_mut().sort_unstable();
    assert_eq!(*dropped.borrow(), [3, 4, 5, 6, 8]);
}

#[test]
fn a_panic_while_reporting_leaves_the_others_armed() {
    // All of a list due, a part of a list due, and past deadlines.
    for (origin, now) in [(ORIGIN, ORIGIN + 30 * SECOND), (ORIGIN, ORIGIN + 6_100), (ORIGIN + 10 * SECOND, 0)] {
        let mut queue = TimerQueue::new(origin);
        for value in 0..10u64 {
            armed(&mut queue, value, ORIGIN + 6_000 + value / 3 * 10);
        }
        armed(&mut queue, 10, origin + 60 * SECOND);
        let mut given = 0;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            queue.expire(now, |_| {
                given += 1;
                assert!(given < 5, "stop");
            });
        }));
        assert!(panicked.is_err());
        assert_eq!(queue.len(), 6, "five were given out, and count as reported");
        assert_eq!(queue.next_deadline(), Some(ORIGIN + 6_010));
        // A new one comes after its equals.
        armed(&mut queue, 11, ORIGIN + 6_020);
        assert_eq!(fire(&mut queue, now.max(origin)), [5, 6, 7, 8, 11, 9]);
        assert_eq!(fire(&mut queue, u64::MAX), [10]);
    }
}

#[test]
fn debug_says_how_much_is_waiting() {
    let mut queue = TimerQueue::new(ORIGIN);
    armed(&mut queue, (), ORIGIN + 1);
    assert_eq!(format!("{queue:?}"), "TimerQueue { now: 1000000007, armed: 1, next_wake: Some(1000000008), .. }");
}
