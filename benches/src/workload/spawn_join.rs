//! Starting tasks and awaiting them.

use std::time::{Duration, Instant};

use super::Workload;
use crate::Runtime;

/// Spawns a batch of trivial tasks, then awaits each of them.
#[derive(Debug)]
pub struct SpawnJoin;

impl Workload for SpawnJoin {
    const NAME: &'static str = "spawn_join";
    const ROUND: u64 = 1_000;

    fn run<R: Runtime>(rounds: u64) -> Duration {
        R::run(async move |runtime| {
            let mut handles = Vec::new();
            let mut sum = 0;
            let start = Instant::now();
            for _ in 0..rounds {
                handles.extend((0..Self::ROUND).map(|number| runtime.spawn(async move { R::ok(number) })));
                for handle in handles.drain(..) {
                    sum += R::value(handle.await);
                }
            }
            let took = start.elapsed();
            assert_eq!(sum, rounds * (0..Self::ROUND).sum::<u64>(), "each task ran once");
            took
        })
    }
}
