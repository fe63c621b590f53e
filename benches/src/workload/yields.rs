//! Giving way.

use std::time::{Duration, Instant};

use super::Workload;
use crate::Runtime;
use crate::runtime::wake_yield;

/// Many tasks that take turns. `OWN`: by the runtime's own yield; otherwise each wakes itself.
#[derive(Debug)]
pub struct YieldRoundRobin<const OWN: bool>;

impl<const OWN: bool> Workload for YieldRoundRobin<OWN> {
    const NAME: &'static str = if OWN { "yield_rr" } else { "yield_rr_wake" };
    const ROUND: u64 = 1_000;

    fn suits<R: Runtime>() -> bool {
        R::HAS_YIELD || !OWN
    }

    fn run<R: Runtime>(rounds: u64) -> Duration {
        run::<R, OWN>(Self::ROUND, rounds)
    }
}

/// One task that gives way to nobody. `OWN`: by the runtime's own yield; otherwise it wakes itself.
#[derive(Debug)]
pub struct YieldOne<const OWN: bool>;

impl<const OWN: bool> Workload for YieldOne<OWN> {
    const NAME: &'static str = if OWN { "yield_1" } else { "yield_1_wake" };
    const ROUND: u64 = 1_000;

    fn suits<R: Runtime>() -> bool {
        R::HAS_YIELD || !OWN
    }

    fn run<R: Runtime>(rounds: u64) -> Duration {
        run::<R, OWN>(1, rounds * Self::ROUND)
    }
}

fn run<R: Runtime, const OWN: bool>(tasks: u64, yields: u64) -> Duration {
    R::run(async move |runtime| {
        let start = Instant::now();
        let handles: Vec<_> = (0..tasks).map(|_| runtime.spawn(yielding::<R, OWN>(yields))).collect();
        for handle in handles {
            R::value(handle.await);
        }
        start.elapsed()
    })
}

async fn yielding<R: Runtime, const OWN: bool>(yields: u64) -> R::Output<()> {
    for _ in 0..yields {
        if OWN {
            R::yield_now().await;
        } else {
            wake_yield().await;
        }
    }
    R::ok(())
}
