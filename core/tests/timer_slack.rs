//! Dense timers are gathered, and no others; and never is one early, or out of order.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, Wait};
use aioli_core::op::Op;
use aioli_core::*;
use aioli_exec_sim::SimDriver;

/// The simulated machine, which says that its clock is a real one, and counts the waits.
struct Real {
    machine: SimDriver,
    waits: Rc<Cell<u32>>,
}

impl Driver for Real {
    fn report(&self) -> DriverReport {
        self.machine.report()
    }

    fn now(&self) -> Instant {
        self.machine.now()
    }

    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        self.machine.submit(id, op)
    }

    fn cancel(&mut self, id: OpId) {
        self.machine.cancel(id);
    }

    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        if wait != Wait::No {
            self.waits.set(self.waits.get() + 1);
        }
        self.machine.turn(wait, completions)
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        self.machine.kicker()
    }

    fn shutdown(&mut self, completions: &mut Completions) {
        self.machine.shutdown(completions);
    }
}

/// Timers that are due all at once and much later: so there are many to the last.
const CROWD: [u64; 300] = [1_000_000; 300];

/// Arms timers that are due so many microseconds from now. Returns the waits that it took, and how late each timer was, in the order in
/// which they fired.
fn fire(slack: Option<Duration>, micros: impl Iterator<Item = u64>) -> (u32, Vec<(Instant, Duration)>) {
    let waits = Rc::new(Cell::new(0));
    let fired = Rc::new(RefCell::new(Vec::new()));
    let (micros, seen) = (micros.collect::<Vec<_>>(), Rc::clone(&fired));
    let count = micros.len();
    run(Real { machine: SimDriver::new(), waits: Rc::clone(&waits) }, async move {
        let event_loop = get_running_loop()?;
        slack.into_iter().for_each(|slack| event_loop.set_timer_slack(slack));
        let begin = event_loop.time();
        let last = micros.iter().max().copied().unwrap_or_default();
        for after in micros {
            let (due, event_loop, seen) = (begin + Duration::from_micros(after), event_loop.clone(), Rc::clone(&seen));
            get_running_loop()?.call_at(due, move || seen.borrow_mut().push((due, event_loop.time())))?;
        }
        sleep(Duration::from_micros(last + 2_000)).await
    })
    .unwrap();
    let fired = fired.take();
    assert_eq!(fired.len(), count);
    let late = |(due, now)| {
        assert!(now >= due, "early by {:?}", due - now);
        (due, now - due)
    };
    (waits.get(), fired.into_iter().map(late).collect())
}

fn latest(fired: &[(Instant, Duration)]) -> Duration {
    fired.iter().map(|(_, late)| *late).max().unwrap()
}

#[test]
fn dense_timers_are_gathered_in_the_order_of_their_deadlines() {
    // 2 µs apart, armed in another order.
    let (waits, fired) = fire(None, (0..10_000).map(|n| n * 7_919 % 10_000 * 2).chain(CROWD));
    assert!(fired.is_sorted_by_key(|(due, _)| *due), "out of order");
    assert!((40..100).contains(&waits), "{waits} waits within 20 ms");
    assert!(latest(&fired) <= Duration::from_micros(500), "{:?} late", latest(&fired));
}

#[test]
fn timers_that_are_further_apart_fire_when_they_are_due() {
    let (waits, fired) = fire(None, (1..=1_000).map(|n| n * 20));
    assert_eq!(waits, 1_001);
    assert_eq!(latest(&fired), Duration::ZERO);
}

#[test]
fn without_slack_dense_timers_fire_when_they_are_due() {
    let (waits, fired) = fire(Some(Duration::ZERO), (1..=1_000).map(|n| n * 2));
    assert_eq!(waits, 1_001);
    assert_eq!(latest(&fired), Duration::ZERO);
}

#[test]
fn a_longer_slack_gathers_more() {
    let (waits, fired) = fire(Some(Duration::from_millis(5)), (1..=10_000).map(|n| n * 2).chain(CROWD));
    assert!(waits < 30, "{waits} waits");
    assert!(latest(&fired) <= Duration::from_millis(5));
}

#[test]
fn bursts_are_not_dense() {
    // A hundred timers at once, every ten milliseconds.
    let (waits, fired) = fire(None, (1..=20).flat_map(|n| std::iter::repeat_n(n * 10_000, 100)));
    assert_eq!(waits, 21);
    assert_eq!(latest(&fired), Duration::ZERO);
}

/// Sleeps for these times, in microseconds, one after the other. Returns how late each ended.
async fn naps(micros: impl IntoIterator<Item = u64>) -> Result<Vec<Duration>> {
    let event_loop = get_running_loop()?;
    let mut late = Vec::new();
    for nap in micros.into_iter().map(Duration::from_micros) {
        let due = event_loop.time() + nap;
        sleep(nap).await?;
        late.push(event_loop.time() - due);
    }
    Ok(late)
}

#[test]
fn a_few_timers_that_are_armed_again_and_again_are_not_dense() {
    let late = run(Real { machine: SimDriver::new(), waits: Rc::default() }, async {
        let tasks: Vec<_> = (0..10).map(|n| create_task(naps(std::iter::repeat_n(15 + n, 200)))).collect();
        Ok(gather(tasks).await?.concat())
    });
    assert_eq!(late.unwrap(), [Duration::ZERO; 2_000]);
}

#[test]
fn a_timer_soon_after_a_burst_fires_when_it_is_due() {
    let late = run(Real { machine: SimDriver::new(), waits: Rc::default() }, async {
        let _later: Vec<_> = (0..1_000).map(|_| create_task(sleep(60.0))).collect();
        let burst: Vec<_> = (0..1_000).map(|_| create_task(naps([50]))).collect();
        let mut late = gather(burst).await?.concat();
        late.extend(naps([70, 5, 5]).await?);
        Ok(late)
    });
    assert_eq!(late.unwrap(), [Duration::ZERO; 1_003]);
}

#[test]
fn the_first_timer_after_dense_ones_fires_when_it_is_due() {
    let (_, fired) = fire(None, (1..=5_000).map(|n| n * 2).chain([11_000, 50_000, 90_000]));
    let (_, tail) = fired.split_at(5_000);
    assert_eq!(tail.iter().map(|(_, late)| *late).collect::<Vec<_>>(), [Duration::ZERO; 3]);
}

#[test]
fn the_slack_can_be_asked_for() {
    aioli_exec_sim::run(async {
        let event_loop = get_running_loop()?;
        assert_eq!(event_loop.timer_slack(), Duration::from_micros(500));
        event_loop.set_timer_slack(Duration::from_millis(1));
        assert_eq!(get_running_loop()?.timer_slack(), Duration::from_millis(1));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_virtual_clock_does_not_move_past_a_deadline() {
    let late = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&late);
    aioli_exec_sim::run(async move {
        let event_loop = get_running_loop()?;
        let begin = event_loop.time();
        for n in 1..=1_000 {
            let due = begin + Duration::from_micros(n);
            let (clock, seen) = (event_loop.clone(), Rc::clone(&seen));
            event_loop.call_at(due, move || seen.borrow_mut().push(clock.time() - due))?;
        }
        sleep(0.01).await
    })
    .unwrap();
    assert_eq!(late.take(), [Duration::ZERO; 1_000]);
}
