//! [`Random`]: the numbers that everything is drawn from.

use std::time::Duration;

/// A generator of pseudo-random numbers, xoshiro256**: the same seed gives the same numbers on every machine and in every version.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // SplitMix64, so that similar seeds give different numbers.
        let mut z = seed;
        let state = std::array::from_fn(|_| {
            z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = z;
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        });
        Random { state }
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below a bound that is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        // The bias of a 64-bit number is far below what anyone could see.
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// True with a probability. One that is 0 draws nothing.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// A time between two. If they are the same it draws nothing.
    pub(crate) fn between(&mut self, (least, most): (Duration, Duration)) -> Duration {
        // Nobody waits to see more than 584 years.
        let span = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX);
        if span == 0 {
            return least;
        }
        let nanos = (u128::from(self.next()) * (u128::from(span) + 1)) >> 64;
        least.saturating_add(Duration::from_nanos(nanos as u64))
    }

    /// At least 1 and at most `most`, which is not 0: mostly all of it, and now and then, with a probability, some of it.
    pub(crate) fn some_of(&mut self, most: usize, probability: f64) -> usize {
        if self.chance(probability) { 1 + self.below(most) } else { most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_in_every_version() {
        let mut random = Random::new(7);
        let numbers: Vec<_> = (0..3).map(|_| random.next()).collect();
        assert_eq!(numbers, [12_923_355_070_828_475_994, 5_142_052_590_334_782_674, 15_488_392_906_492_639_638]);
        assert_ne!(Random::new(8).next(), numbers[0]);
    }

    #[test]
    fn numbers_are_within_their_bounds() {
        let mut random = Random::new(1);
        let mut seen = [0; 5];
        (0..5000).for_each(|_| seen[random.below(5)] += 1);
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        let range = (Duration::from_nanos(3), Duration::from_nanos(5));
        let drawn: Vec<_> = (0..100).map(|_| random.between(range).as_nanos()).collect();
        assert!(
            [3, 4, 5].iter().all(|nanos| drawn.contains(nanos)) && drawn.iter().all(|nanos| (3..=5).contains(nanos))
        );
        let hits = (0..10_000).filter(|_| random.chance(0.25)).count();
        assert!((2300..2700).contains(&hits), "{hits}");
        assert!((0..100).all(|_| random.chance(1.0) && !random.chance(0.0)));
        assert!((0..1000).all(|_| (1..=9).contains(&random.some_of(9, 0.5))));
    }
}
