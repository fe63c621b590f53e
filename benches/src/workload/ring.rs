//! Many tasks in a circle, of which one is ready at a time.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Workload;
use crate::Runtime;
use crate::slot::Slot;

/// A token goes round.
#[derive(Debug)]
pub struct Ring;

impl Workload for Ring {
    const NAME: &'static str = "ring";
    const ROUND: u64 = 1_000;

    fn run<R: Runtime>(rounds: u64) -> Duration {
        R::run(async move |runtime| {
            let slots: Vec<Rc<Slot<u64>>> = (0..Self::ROUND).map(|_| Rc::default()).collect();
            let first = slots[0].clone();
            let start = Instant::now();
            let next = slots.iter().cycle().skip(1).cloned();
            let handles: Vec<_> = slots
                .iter()
                .cloned()
                .zip(next)
                .map(|(mine, next)| {
                    runtime.spawn(async move {
                        for _ in 0..rounds {
                            next.put(mine.take().await + 1);
                        }
                        R::ok(())
                    })
                })
                .collect();
            first.put(0);
            for handle in handles {
                R::value(handle.await);
            }
            let took = start.elapsed();
            assert_eq!(first.take().await, rounds * Self::ROUND, "the token passed each task once a round");
            took
        })
    }
}
