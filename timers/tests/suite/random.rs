//! Millions of random operations, beside the model.

use crate::lockstep::{Lockstep, Moment, Op};
use crate::rng::{Rng, Seed, first_seed, steps};

/// Operations a run: long enough for a queue to fill and for timers armed at the start to come due.
const RUN: u64 = 10_000;

/// What a run is like.
#[derive(Clone, Copy, Debug)]
enum Mood {
    /// Deadlines within a few lists, and often equal.
    Clustered,
    /// Few different deadlines, some of them armed long before others.
    Equal,
    /// Timeouts far away, mostly cancelled, above short timers.
    Timeouts,
    /// All over the range of a `u64`.
    Far,
    /// At the edges of the lists, at the ends of the range, and in the past.
    Adversarial,
    /// Everything.
    Mixed,
}

const MOODS: [Mood; 6] = [Mood::Clustered, Mood::Equal, Mood::Timeouts, Mood::Far, Mood::Adversarial, Mood::Mixed];

fn deadline(rng: &mut Rng, mood: Mood) -> Moment {
    match mood {
        Mood::Clustered => match rng.below(4) {
            0 => Moment::After(rng.below(64)),
            1 => Moment::After(rng.below(4096)),
            2 => Moment::After(rng.below(300_000)),
            _ => Moment::Next(rng.below(8)),
        },
        Mood::Equal => match rng.below(8) {
            0 => Moment::Edge { bits: 12, plus: 5 },
            1 => Moment::After(1000),
            2 => Moment::Next(0),
            _ => Moment::Again(rng.below(16) as usize),
        },
        Mood::Timeouts => match rng.below(8) {
            0 => Moment::After(rng.below(1_000_000)),
            _ => Moment::After(30_000_000_000),
        },
        Mood::Far => match rng.below(2) {
            0 => Moment::At(rng.next() >> rng.below(64)),
            _ => Moment::After(rng.next() >> rng.below(64)),
        },
        Mood::Adversarial => match rng.below(8) {
            0 => Moment::At(u64::MAX - rng.below(2)),
            1 => Moment::At(rng.below(2)),
            2 => Moment::Before(1 << rng.below(64)),
            3 => Moment::After(1 << rng.below(64)),
            4 => Moment::Again(rng.below(16) as usize),
            _ => Moment::Edge { bits: 6 * rng.below(11) as u32, plus: rng.below(3) },
        },
        Mood::Mixed => {
            let mood = MOODS[rng.below(5) as usize];
            deadline(rng, mood)
        }
    }
}

fn now(rng: &mut Rng, mood: Mood) -> Moment {
    match (rng.below(16), mood) {
        (0, _) => Moment::Before(rng.below(1000)),
        (1..=4, _) => Moment::Next(0),
        (5, _) => Moment::AlmostNext,
        (6, _) => Moment::Next(rng.below(10_000)),
        (7, Mood::Timeouts) => Moment::After(1 << rng.below(36)),
        (7, Mood::Far | Mood::Adversarial | Mood::Mixed) => Moment::After(1 << rng.below(62)),
        (8, _) => Moment::Edge { bits: 6 * rng.below(5) as u32, plus: rng.below(2) },
        _ => Moment::After(rng.below(100_000)),
    }
}

fn op(rng: &mut Rng, mood: Mood) -> Op {
    let timer = rng.below(1 << 20) as usize;
    match (rng.below(256), mood) {
        (0..=63, _) => Op::Insert,
        (64..=149, _) => Op::Arm(timer, deadline(rng, mood)),
        (150..=155, _) => Op::MakeDue(timer),
        (156..=195, Mood::Timeouts) => Op::Cancel(timer),
        (156..=170, _) => Op::Cancel(timer),
        (..=239, _) => Op::Take(timer),
        (..=247, _) => Op::Expire(now(rng, mood)),
        _ => Op::NextDeadline,
    }
}

#[test]
fn a_queue_agrees_with_the_model() {
    let steps = steps(4_000_000);
    for run in 0..steps.div_ceil(RUN) {
        let seed = Seed(first_seed() + run);
        let mut rng = Rng::new(seed.0);
        let mood = MOODS[rng.below(6) as usize];
        let origin = match rng.below(4) {
            0 => 0,
            1 => rng.next(),
            2 => u64::MAX - rng.below(1 << 40),
            _ => 1_000_000_000_000,
        };
        let capacity = [4, 32, 400][rng.below(3) as usize];
        let mut lockstep = Lockstep::new(origin, capacity);
        for _ in 0..RUN.min(steps - run * RUN) {
            lockstep.apply(&op(&mut rng, mood));
        }
        lockstep.apply(&Op::Expire(Moment::At(u64::MAX)));
        lockstep.apply(&Op::Drain);
    }
}
