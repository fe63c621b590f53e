//! Priority queues: the order of Python's `heapq`, and comparisons that misbehave.

use super::*;
use std::cell::Cell;
use std::cmp::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind};

cases! {
    ($) "queues" in comparisons as __cases_comparisons;
    equal_items_come_in_the_order_of_heapq: "Q1" = "test_queues::PriorityQueueTests::test_order";
    l7_a_comparison_that_panics_loses_no_item_and_no_order: "L7";
    l7_a_getter_is_woken_though_the_comparison_panics: "L7";
    l7_a_task_whose_comparison_panics_fails_alone: "L7";
    l11_a_comparison_that_uses_the_queue_is_refused: "L11";
    l11_a_comparison_that_shuts_the_queue_down_is_heeded_after_it: "L11";
}

/// Ordered by its first field alone.
#[derive(Clone, Copy, Debug)]
struct Job(u32, u32);

impl Ord for Job {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Job {}

/// Numbers that are the same in every language.
struct Numbers(u32);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % limit
    }
}

/// The jobs in the order in which they come out of a queue with about as many puts as gets.
fn order(seed: u32, priorities: u32, steps: u32) -> Vec<u32> {
    let (mut numbers, queue) = (Numbers(seed), PriorityQueue::new(0));
    let mut order = Vec::new();
    for id in 0..steps {
        if numbers.below(100) < 60 {
            queue.put_nowait(Job(numbers.below(priorities), id)).unwrap();
        } else if let Ok(Job(_, id)) = queue.get_nowait() {
            order.push(id);
        }
    }
    while let Ok(Job(_, id)) = queue.get_nowait() {
        order.push(id);
    }
    order
}

/// What CPython's `heapq` gives for `order(1, 3, 40)`.
const SHORT: [u32; 26] =
    [1, 3, 5, 8, 13, 14, 15, 12, 27, 20, 32, 34, 37, 38, 18, 25, 29, 31, 35, 19, 9, 22, 10, 16, 11, 7];

/// Seed, priorities, steps; the number of items that CPython's `heapq` gives, and a sum over them in their order.
const LONG: [(u32, u32, u32, usize, u32); 6] = [
    (1, 1, 500, 311, 1_382_347_202),
    (2, 2, 1000, 580, 1_673_406_008),
    (3, 5, 3000, 1821, 1_955_053_234),
    (4, 50, 3000, 1749, 1_440_292_145),
    (5, 3000, 3000, 1785, 3_776_182_792),
    (6, 7, 20_000, 12_104, 924_169_078),
];

fn equal_items_come_in_the_order_of_heapq(_: &Machine) {
    assert_eq!(order(1, 3, 40), SHORT);
    for (seed, priorities, steps, count, expected) in LONG {
        let order = order(seed, priorities, steps);
        let sum = order.iter().fold(0u32, |sum, id| sum.wrapping_mul(31).wrapping_add(*id));
        assert_eq!((order.len(), sum), (count, expected), "seed {seed}, {priorities} priorities");
    }
}

/// What the next comparison does.
type Act = Rc<RefCell<Option<Box<dyn FnOnce()>>>>;

/// An item whose comparison panics or does something else, once.
struct Touchy {
    value: u32,
    act: Act,
    alive: Rc<Cell<usize>>,
}

impl Drop for Touchy {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

impl Ord for Touchy {
    fn cmp(&self, other: &Self) -> Ordering {
        let act = self.act.borrow_mut().take();
        if let Some(act) = act {
            act();
        }
        self.value.cmp(&other.value)
    }
}

impl PartialOrd for Touchy {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Touchy {}

/// What touchy items share.
#[derive(Default)]
struct Fixture {
    act: Act,
    alive: Rc<Cell<usize>>,
}

impl Fixture {
    fn item(&self, value: u32) -> Touchy {
        self.alive.set(self.alive.get() + 1);
        Touchy { value, act: Rc::clone(&self.act), alive: Rc::clone(&self.alive) }
    }

    fn queue(&self, values: impl IntoIterator<Item = u32>) -> Rc<PriorityQueue<Touchy>> {
        let queue = PriorityQueue::new(0);
        for value in values {
            queue.put_nowait(self.item(value)).unwrap();
        }
        Rc::new(queue)
    }

    /// Has the comparison after `skipped` others do something.
    fn arm(&self, skipped: u32, act: impl FnOnce() + 'static) {
        let slot = Rc::clone(&self.act);
        *self.act.borrow_mut() = Some(match skipped {
            0 => Box::new(act),
            _ => {
                let this = Fixture { act: slot, alive: Rc::default() };
                Box::new(move || this.arm(skipped - 1, act))
            }
        });
    }

    fn disarm(&self) -> bool {
        self.act.borrow_mut().take().is_some()
    }
}

fn drain(queue: &PriorityQueue<Touchy>) -> Vec<u32> {
    std::iter::from_fn(|| queue.get_nowait().ok().map(|item| item.value)).collect()
}

fn l7_a_comparison_that_panics_loses_no_item_and_no_order(_: &Machine) {
    for skipped in 0.. {
        let fixture = Fixture::default();
        let queue = fixture.queue([5, 3, 8, 1, 9, 2, 7]);
        fixture.arm(skipped, || panic!("compared"));
        let put = catch_unwind(AssertUnwindSafe(|| queue.put_nowait(fixture.item(0)).is_ok()));
        assert_eq!(put.is_ok(), fixture.disarm());
        assert_eq!((queue.qsize(), fixture.alive.get()), (8, 8));
        assert_eq!(drain(&queue), [0, 1, 2, 3, 5, 7, 8, 9]);
        (0..8).for_each(|_| queue.task_done().unwrap());
        assert_eq!(kind(queue.task_done()), ErrorKind::Value);
        if put.is_ok() {
            assert!(skipped > 1, "no comparison panicked");
            break;
        }
    }
    for skipped in 0.. {
        let fixture = Fixture::default();
        let queue = fixture.queue([5, 3, 8, 1, 9, 2, 7]);
        fixture.arm(skipped, || panic!("compared"));
        let got = catch_unwind(AssertUnwindSafe(|| queue.get_nowait().map(|item| item.value).ok()));
        assert_eq!(got.is_ok(), fixture.disarm());
        let rest = [1, 2, 3, 5, 7, 8, 9];
        match got {
            Err(_) => {
                assert_eq!((queue.qsize(), fixture.alive.get()), (7, 7));
                assert_eq!(drain(&queue), rest);
            }
            Ok(first) => {
                assert_eq!(first, Some(1));
                assert_eq!(drain(&queue), rest[1..]);
                assert!(skipped > 1, "no comparison panicked");
                break;
            }
        }
    }
}

fn l7_a_getter_is_woken_though_the_comparison_panics(on: &Machine) {
    on.run(async {
        let fixture = Fixture::default();
        let queue = fixture.queue([]);
        let getter = |queue: &Rc<PriorityQueue<Touchy>>| {
            let queue = Rc::clone(queue);
            create_task(async move { Ok(queue.get().await?.value) })
        };
        let (first, second) = (getter(&queue), getter(&queue));
        sleep(0.0).await?;
        queue.put_nowait(fixture.item(2))?;
        fixture.arm(0, || panic!("compared"));
        let put = catch_unwind(AssertUnwindSafe(|| queue.put_nowait(fixture.item(1)).is_ok()));
        assert!(put.is_err());
        assert_eq!((first.await?, second.await?), (1, 2));
        Ok(())
    });
}

fn l7_a_task_whose_comparison_panics_fails_alone(on: &Machine) {
    on.run(async {
        let fixture = Fixture::default();
        let queue = fixture.queue([2]);
        let (item, putting) = (fixture.item(1), Rc::clone(&queue));
        fixture.arm(0, || panic!("compared"));
        get_running_loop()?.set_exception_handler(Some(Box::new(|_| ())));
        let task = create_task(async move { putting.put(item).await });
        assert_eq!(kind(task.await), ErrorKind::Panicked);
        assert_eq!(drain(&queue), [1, 2]);
        Ok(())
    });
}

fn l11_a_comparison_that_uses_the_queue_is_refused(on: &Machine) {
    on.run(async {
        let fixture = Fixture::default();
        let queue = fixture.queue([2, 1]);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (inner, item, kinds) = (Rc::clone(&queue), fixture.item(0), Rc::clone(&seen));
        fixture.arm(0, move || {
            let refused = inner.put_nowait(item).unwrap_err();
            let got = kind(inner.get_nowait());
            kinds.borrow_mut().push((inner.qsize(), refused.item.value, refused.error.kind(), got));
        });
        queue.put_nowait(fixture.item(3))?;
        assert_eq!(*seen.borrow(), [(3, 0, ErrorKind::Runtime, ErrorKind::Runtime)]);
        assert_eq!(drain(&queue), [1, 2, 3]);
        assert_eq!(fixture.alive.get(), 0);
        Ok(())
    });
}

fn l11_a_comparison_that_shuts_the_queue_down_is_heeded_after_it(on: &Machine) {
    on.run(async {
        let fixture = Fixture::default();
        let queue = fixture.queue([2, 1]);
        let joined = Rc::clone(&queue);
        let joined = create_task(async move { joined.join().await });
        sleep(0.0).await?;
        let inner = Rc::clone(&queue);
        fixture.arm(0, move || inner.shutdown(true));
        queue.put_nowait(fixture.item(3))?;
        assert_eq!((queue.qsize(), fixture.alive.get()), (0, 0));
        assert_eq!(kind(queue.get_nowait()), ErrorKind::QueueShutDown);
        joined.await
    });
}
