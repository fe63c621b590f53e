//! Repeatable random numbers.

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Prints how to repeat a run if the test fails while this lives.
pub struct Seed(pub u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat the run that failed: AIOLI_MODEL_SEED={}", self.0);
        }
    }
}

/// The seed to start from: a fixed one, or that of `AIOLI_MODEL_SEED`.
pub fn first_seed() -> u64 {
    number_from_env("AIOLI_MODEL_SEED").unwrap_or(1)
}

/// The number of steps in all, unless `AIOLI_MODEL_STEPS` says another.
pub fn steps(default: u64) -> u64 {
    number_from_env("AIOLI_MODEL_STEPS").unwrap_or(default)
}

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}
