//! Timers that fire.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::random::Random;
use crate::{Runtime, machine};

/// The longest sleep.
pub const SPREAD: Duration = Duration::from_millis(200);

/// What firing timers took.
#[derive(Clone, Copy, Debug)]
pub struct Fired {
    /// CPU time of the process a timer, from before the first spawn until the last task was awaited.
    pub cpu: Duration,
    /// How late the task of the median timer ran.
    pub late_p50: Duration,
    /// How late the task of the timer at the 99th percentile ran.
    pub late_p99: Duration,
}

/// Runs `count` tasks that each sleep a pseudo-random time below [`SPREAD`].
///
/// # Errors
///
/// If the kernel does not tell the CPU time.
///
/// # Panics
///
/// If `count` is zero.
pub fn run<R: Runtime>(count: usize) -> io::Result<Fired> {
    R::run(async move |runtime| {
        let lates = Rc::new(RefCell::new(Vec::with_capacity(count)));
        let mut random = Random::new(2);
        let before = machine::process_cpu()?;
        let handles: Vec<_> = (0..count)
            .map(|_| {
                let delay = random.duration_below(SPREAD);
                let lates = lates.clone();
                runtime.spawn(async move {
                    let due = Instant::now() + delay;
                    R::sleep(delay).await;
                    lates.borrow_mut().push(Instant::now().saturating_duration_since(due));
                    R::ok(())
                })
            })
            .collect();
        for handle in handles {
            R::value(handle.await);
        }
        let cpu = machine::process_cpu()? - before;

        let mut lates = lates.take();
        assert_eq!(lates.len(), count, "each timer fired");
        lates.sort_unstable();
        let cpu = cpu.div_f64(count as f64);
        Ok(Fired { cpu, late_p50: lates[count / 2], late_p99: lates[count * 99 / 100] })
    })
}
