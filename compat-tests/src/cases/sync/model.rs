//! Random schedules of waiting, giving, cancelling, dropping and moving, with what must always hold.

use super::drops::{Source, Waiting, sources};
use super::*;
use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

cases! {
    ($) "sync" in model as __cases_model;
    random_schedules_lose_nothing: "L4 L6";
    random_holders_exclude_each_other: "LK1 LK5 L6";
}

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % limit
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    Waits,
    Served,
    Cancelled,
    Dropped,
}

/// The numbers of those who were served, and whether each raced.
type Served = Rc<RefCell<Vec<(usize, bool)>>>;

/// One wait, whichever task polls it.
struct Hand {
    /// Its number in the order of their first polls.
    number: Cell<Option<usize>>,
    numbers: Rc<Cell<usize>>,
    waiting: RefCell<Option<Waiting>>,
    fate: Cell<Fate>,
    /// Counts the tasks that have had it.
    owner: Cell<usize>,
    task: RefCell<Option<Task<()>>>,
    asked: Cell<bool>,
    /// It was moved while it may have been granted: then others may run before it.
    raced: Cell<bool>,
    served: Served,
}

/// Polls the wait for as long as it is this task's.
async fn hold(hand: Rc<Hand>, owner: usize) -> Result<()> {
    poll_fn(|cx| {
        if hand.owner.get() != owner {
            return Poll::Ready(Ok(()));
        }
        let Some(mut waiting) = hand.waiting.take() else { return Poll::Ready(Ok(())) };
        if hand.number.get().is_none() {
            hand.number.set(Some(hand.numbers.replace(hand.numbers.get() + 1)));
        }
        let polled = waiting.as_mut().poll(cx);
        match &polled {
            Poll::Pending => *hand.waiting.borrow_mut() = Some(waiting),
            Poll::Ready(Ok(())) => {
                hand.fate.set(Fate::Served);
                hand.served.borrow_mut().push((hand.number.get().unwrap(), hand.raced.get()));
            }
            Poll::Ready(Err(error)) => {
                assert!(error.is_cancelled(), "{error}");
                hand.fate.set(Fate::Cancelled);
            }
        }
        polled
    })
    .await
}

struct World {
    source: Source,
    random: Random,
    hands: Vec<Rc<Hand>>,
    numbers: Rc<Cell<usize>>,
    served: Served,
    given: usize,
    /// Nothing is under way.
    calm: Cell<bool>,
}

impl World {
    fn waiting(&self) -> Vec<Rc<Hand>> {
        self.hands.iter().filter(|hand| hand.fate.get() == Fate::Waits).cloned().collect()
    }

    /// One of those who wait.
    fn any(&mut self) -> Option<Rc<Hand>> {
        let waiting = self.waiting();
        if waiting.is_empty() { None } else { Some(Rc::clone(&waiting[self.random.below(waiting.len())])) }
    }

    fn join(&mut self) {
        let hand = Rc::new(Hand {
            number: Cell::new(None),
            numbers: Rc::clone(&self.numbers),
            waiting: RefCell::new(Some((self.source.wait)())),
            fate: Cell::new(Fate::Waits),
            owner: Cell::new(0),
            task: RefCell::default(),
            asked: Cell::new(false),
            raced: Cell::new(false),
            served: Rc::clone(&self.served),
        });
        self.hands.push(Rc::clone(&hand));
        *hand.task.borrow_mut() = Some(create_task(hold(Rc::clone(&hand), 0)));
    }

    fn give(&mut self) {
        self.given += usize::from((self.source.give)());
    }

    /// Returns whether tasks have to run before the next step.
    fn step(&mut self) -> bool {
        let calm = self.calm.replace(false);
        match self.random.below(10) {
            0..3 => self.join(),
            3..6 => self.give(),
            6 => {
                if let Some(hand) = self.any() {
                    hand.asked.set(true);
                    hand.task.borrow().as_ref().unwrap().cancel(None);
                    if hand.number.get().is_none() {
                        hand.fate.set(Fate::Cancelled);
                    }
                }
            }
            7 => {
                if let Some(hand) = self.any() {
                    hand.fate.set(Fate::Dropped);
                    let dropped = hand.waiting.take();
                    drop(dropped);
                }
            }
            8 => {
                // One that was cancelled before would lose its place.
                if let Some(hand) = self.any().filter(|hand| !hand.asked.get()) {
                    let owner = hand.owner.get() + 1;
                    hand.owner.set(owner);
                    hand.raced.set(hand.raced.get() || !calm);
                    *hand.task.borrow_mut() = Some(create_task(hold(Rc::clone(&hand), owner)));
                    return true;
                }
            }
            _ => (),
        }
        false
    }

    /// What must hold when nothing is under way.
    fn check(&self, seed: u64) {
        self.calm.set(true);
        let (served, waiting) = (self.served.borrow(), self.waiting());
        let Some(kept) = (self.source.kept)() else { return };
        let what = format!("{}, seed {seed}", self.source.name);
        assert_eq!(served.len() + kept, self.given, "{what}: given but not there");
        assert!(kept == 0 || waiting.is_empty(), "{what}: {} wait for what is there", waiting.len());
        // Getters and putters may be overtaken before they run; a lock's and a semaphore's waiters never.
        if !self.source.name.contains("queue") {
            let order: Vec<_> = served.iter().filter(|(_, raced)| !raced).collect();
            assert!(order.is_sorted(), "{what}: {order:?}");
        }
    }
}

async fn run(source: Source, seed: u64) -> Result<()> {
    let mut world = World {
        source,
        random: Random(seed),
        hands: Vec::new(),
        numbers: Rc::default(),
        served: Rc::default(),
        given: 0,
        calm: Cell::new(true),
    };
    for _ in 0..30 {
        for _ in 0..world.random.below(8) {
            if world.step() || world.random.below(3) == 0 {
                sleep(0.0).await?;
            }
        }
        pump(8).await?;
        world.check(seed);
    }
    // Whoever waits is served at last.
    while !world.waiting().is_empty() {
        let before = world.waiting().len();
        world.give();
        pump(8).await?;
        assert!(world.waiting().len() < before, "{}, seed {seed}: stuck", world.source.name);
        world.check(seed);
    }
    Ok(())
}

fn random_schedules_lose_nothing(on: &Machine) {
    for kind in 0..sources().len() {
        for seed in 1..=150 {
            on.run(async move { run(sources().remove(kind), seed * 0x9E37_79B9).await });
        }
    }
}

/// Tasks that take turns in everything at once, and are cancelled at random.
fn random_holders_exclude_each_other(on: &Machine) {
    for seed in 1..=100 {
        on.run(async move {
            let mut random = Random(seed * 0x51_7CC1);
            let permits = 1 + random.below(3);
            let shared =
                Rc::new((Lock::new(), Semaphore::new(permits), Condition::new(), [const { Cell::new(0usize) }; 3]));
            let mut tasks = Vec::new();
            for _ in 0..12 {
                let shared = Rc::clone(&shared);
                let steps: Vec<usize> = (0..12).map(|_| random.below(9)).collect();
                tasks.push(create_task(async move {
                    for step in steps {
                        // A request is swallowed: the task goes on with the next step.
                        let _ = hold_one(&shared, step, permits).await;
                    }
                    Ok(())
                }));
            }
            for _ in 0..150 {
                if random.below(3) == 0 {
                    tasks[random.below(12)].cancel(None);
                }
                shared.2.lock().await?.notify(random.below(3))?;
                sleep(0.0).await?;
            }
            while tasks.iter().any(|task| !task.done()) {
                shared.2.lock().await?.notify_all()?;
                sleep(0.0).await?;
            }
            let (lock, semaphore, condition, inside) = &*shared;
            assert!(!lock.locked() && !condition.locked());
            assert_eq!(format!("{semaphore:?}"), format!("Semaphore {{ value: {permits}, waiters: 0 }}"));
            assert!(inside.iter().all(|inside| inside.get() == 0));
            Ok(())
        });
    }
}

type Held = (Lock, Semaphore, Condition, [Cell<usize>; 3]);

async fn hold_one(shared: &Held, step: usize, permits: usize) -> Result<()> {
    let (lock, semaphore, condition, inside) = shared;
    let (index, turns) = (step % 3, step / 3);
    let limit = [1, permits, 1][index];
    let count = &inside[index];
    let check = || assert!(count.get() <= limit, "{} inside of {limit}", count.get());
    /// Somebody inside, until it goes.
    struct Inside<'a>(&'a Cell<usize>);
    impl Drop for Inside<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let enter = || {
        count.set(count.get() + 1);
        check();
        Inside(count)
    };
    match index {
        0 => {
            let _guard = lock.lock().await?;
            let _inside = enter();
            pump(turns).await
        }
        1 => {
            let _permit = semaphore.permit().await?;
            let _inside = enter();
            pump(turns).await
        }
        _ => {
            let mut guard = condition.lock().await?;
            if turns > 0 {
                guard.wait().await?;
            }
            assert!(guard.is_held());
            let _inside = enter();
            pump(turns).await
        }
    }
}
