//! Two tasks that wake each other.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Workload;
use crate::Runtime;
use crate::slot::Slot;

/// A token goes to the other task and back.
#[derive(Debug)]
pub struct PingPong;

impl Workload for PingPong {
    const NAME: &'static str = "pingpong";
    const ROUND: u64 = 1_000;

    fn run<R: Runtime>(rounds: u64) -> Duration {
        let trips = rounds * Self::ROUND;
        R::run(async move |runtime| {
            let there = Rc::new(Slot::default());
            let back = Rc::new(Slot::default());
            let start = Instant::now();
            let echo = runtime.spawn({
                let (there, back) = (there.clone(), back.clone());
                async move {
                    for _ in 0..trips {
                        back.put(there.take().await);
                    }
                    R::ok(())
                }
            });
            let serve = runtime.spawn(async move {
                let mut sum = 0;
                for trip in 0..trips {
                    there.put(trip);
                    sum += back.take().await;
                }
                R::ok(sum)
            });
            R::value(echo.await);
            let sum = R::value(serve.await);
            let took = start.elapsed();
            assert_eq!(sum, (0..trips).sum::<u64>(), "each token came back");
            took
        })
    }
}

/// A value goes to the other task and back, each way through a fresh promise.
#[derive(Debug)]
pub struct PingPongPromises;

/// The same, with promises as users have them.
#[derive(Debug)]
pub struct PingPongOneshots;

impl Workload for PingPongPromises {
    const NAME: &'static str = "pingpong_promise";
    const ROUND: u64 = 1_000;

    fn run<R: Runtime>(rounds: u64) -> Duration {
        pass::<R, _, _>(rounds * Self::ROUND, R::promise)
    }
}

impl Workload for PingPongOneshots {
    const NAME: &'static str = "pingpong_oneshot";
    const ROUND: u64 = 1_000;

    fn run<R: Runtime>(rounds: u64) -> Duration {
        pass::<R, _, _>(rounds * Self::ROUND, R::oneshot)
    }
}

fn pass<R, S, F>(trips: u64, promise: impl Fn() -> (S, F) + Copy + 'static) -> Duration
where
    R: Runtime,
    S: FnOnce(u64) + 'static,
    F: Future<Output = u64> + 'static,
{
    R::run(async move |runtime| {
        let ask = Rc::new(Cell::new(None));
        let answer = Rc::new(Cell::new(None));
        let start = Instant::now();
        let echo = runtime.spawn({
            let (ask, answer) = (ask.clone(), answer.clone());
            async move {
                for _ in 0..trips {
                    let (setter, question) = promise();
                    ask.set(Some(setter));
                    let token = question.await;
                    set(&answer, token);
                }
                R::ok(())
            }
        });
        let serve = runtime.spawn(async move {
            let mut sum = 0;
            for trip in 0..trips {
                let (setter, answered) = promise();
                answer.set(Some(setter));
                set(&ask, trip);
                sum += answered.await;
            }
            R::ok(sum)
        });
        R::value(echo.await);
        let sum = R::value(serve.await);
        let took = start.elapsed();
        assert_eq!(sum, (0..trips).sum::<u64>(), "each token came back");
        took
    })
}

/// Sets the promise whose other half somebody waits for.
fn set(setter: &Cell<Option<impl FnOnce(u64)>>, token: u64) {
    let setter = setter.take().expect("the other task has made its promise");
    setter(token);
}
