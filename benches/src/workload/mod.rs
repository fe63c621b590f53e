//! What is measured, once for all runtimes.
//!
//! | workload | one op |
//! |---|---|
//! | `spawn_join` | a trivial task, spawned and awaited, in batches of 1,000 |
//! | `yield_rr`, `yield_rr_wake` | a yield, with 1,000 tasks taking turns; by the runtime's own yield, or by waking oneself |
//! | `yield_1`, `yield_1_wake` | the same with one task |
//! | `pingpong` | a round trip of a token between two tasks: two wakes |
//! | `pingpong_promise` | the same, each time through a fresh promise: asyncio's `Future` |
//! | `ring` | a token's hop to the next of 1,000 tasks |
//! | `timer_create_cancel` | a sleep of 60 s, polled once and dropped |
//! | `timer_churn` | the same while 100,000 other timers are armed |
//! | [`mem_idle`](memory), [`mem_sleep`](memory) | resident bytes a task |
//! | [`timer_fire`] | CPU time a timer, with 100,000 sleeps spread over 200 ms |

use std::time::Duration;

use crate::Runtime;

pub mod memory;
mod pingpong;
mod ring;
mod spawn_join;
mod timer;
pub mod timer_fire;
mod yields;

pub use pingpong::{PingPong, PingPongOneshots, PingPongPromises};
pub use ring::Ring;
pub use spawn_join::SpawnJoin;
pub use timer::{TimerChurn, TimerCreateCancel};
pub use yields::{YieldOne, YieldRoundRobin};

/// A workload that repeats one op and is measured by the clock.
pub trait Workload {
    /// How it is called in the tables.
    const NAME: &'static str;
    /// How many ops make a round.
    const ROUND: u64;

    /// Whether `R` has what it takes.
    fn suits<R: Runtime>() -> bool {
        true
    }

    /// Runs `rounds` rounds on a fresh runtime and says how long they took, without set-up and tear-down.
    fn run<R: Runtime>(rounds: u64) -> Duration;
}

/// Something to do with each workload.
pub trait Visitor {
    /// Does it with `W`.
    fn visit<W: Workload>(&mut self);
}

/// Shows each workload to `visitor`, in the order of the tables.
pub fn visit_all(visitor: &mut impl Visitor) {
    visitor.visit::<SpawnJoin>();
    visitor.visit::<YieldRoundRobin<true>>();
    visitor.visit::<YieldRoundRobin<false>>();
    visitor.visit::<YieldOne<true>>();
    visitor.visit::<YieldOne<false>>();
    visitor.visit::<PingPong>();
    visitor.visit::<PingPongPromises>();
    visitor.visit::<PingPongOneshots>();
    visitor.visit::<Ring>();
    visitor.visit::<TimerCreateCancel>();
    visitor.visit::<TimerChurn>();
}

/// Why a figure is shown but not counted: the runtime did something else than the workload asks for.
pub fn disqualified(workload: &str, runtime: &str) -> Option<&'static str> {
    (workload == "yield_rr_wake" && runtime.starts_with("monoio")).then_some(
        "monoio puts a task that wakes itself at the front of its queue: three tasks that yield three times each run 000111222, not 012012012",
    )
}
