//! Timers that are set and never fire.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::Workload;
use crate::Runtime;
use crate::random::Random;

const DELAY: Duration = Duration::from_secs(60);
/// The most sleeps that one task arms: glommio counts a task's wakers in 16 bits.
const ARMED_BY_ONE: usize = 1_000;

/// A sleep is created, polled once and dropped.
#[derive(Debug)]
pub struct TimerCreateCancel;

impl Workload for TimerCreateCancel {
    const NAME: &'static str = "timer_create_cancel";
    const ROUND: u64 = 1_000;

    fn run<R: Runtime>(rounds: u64) -> Duration {
        // One earlier timer, as any program has: while tokio knows of none it makes a system call for each new one.
        create_and_cancel::<R>(&[DELAY / 2], rounds * Self::ROUND)
    }
}

/// The same among many sleeps that stay.
#[derive(Debug)]
pub struct TimerChurn;

impl Workload for TimerChurn {
    const NAME: &'static str = "timer_churn";
    // Large, because arming the live timers takes as long as this many ops.
    const ROUND: u64 = 100_000;

    fn run<R: Runtime>(rounds: u64) -> Duration {
        let mut random = Random::new(1);
        let live: Vec<_> = (0..100_000).map(|_| DELAY / 2 + random.duration_below(DELAY)).collect();
        create_and_cancel::<R>(&live, rounds * Self::ROUND)
    }
}

fn create_and_cancel<R: Runtime>(live: &[Duration], sleeps: u64) -> Duration {
    let live: Vec<Vec<Duration>> = live.chunks(ARMED_BY_ONE).map(Vec::from).collect();
    R::run(async move |runtime| {
        let mut armed = Vec::with_capacity(live.len());
        for delays in live {
            armed.push(R::value(runtime.spawn(arm_all::<R>(delays)).await));
        }
        // The loop turns once, and so knows the live timers.
        R::sleep(Duration::from_millis(1)).await;

        let task = runtime.spawn(async move {
            let start = Instant::now();
            R::unrationed(async {
                for _ in 0..sleeps {
                    arm(pin!(R::sleep(DELAY))).await;
                }
            })
            .await;
            R::ok(start.elapsed())
        });
        R::value(task.await)
    })
}

/// Arms a sleep for each of `delays`, and returns them.
async fn arm_all<R: Runtime>(delays: Vec<Duration>) -> R::Output<Vec<Pin<Box<impl Future + 'static>>>> {
    let mut sleeps: Vec<_> = delays.into_iter().map(|delay| Box::pin(R::sleep(delay))).collect();
    R::unrationed(async {
        for sleep in &mut sleeps {
            arm(sleep.as_mut()).await;
        }
    })
    .await;
    R::ok(sleeps)
}

/// Polls a sleep once, with the waker of the task.
async fn arm(mut sleep: Pin<&mut impl Future>) {
    let fired = poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_ready())).await;
    assert!(!fired, "a long sleep is pending");
}
