//! [`run`]: a program on a backend, and the trace of it.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use aioli_core::driver::Driver;
use aioli_core::{Error, ErrorKind, Result, Runner, all_tasks, current_task, get_running_loop, sleep};
use aioli_exec_sim::VirtualClock;

use super::coroutine::Coroutine;
use super::program::Program;
use super::trace::Trace;
use super::world::World;
use crate::backend::Backend;

/// A driver of a backend, with a virtual clock.
///
/// # Errors
/// The machine refuses what the backend needs.
pub fn driver(backend: &dyn Backend) -> io::Result<Box<dyn Driver>> {
    let driver = backend.driver()?;
    Ok(if driver.is_virtual() { driver } else { Box::new(VirtualClock::new(driver)) })
}

/// What came of a program.
#[derive(Clone, PartialEq, Debug)]
pub struct Ran {
    /// What happened.
    pub trace: Trace,
    /// The names of the statements that ran.
    pub statements: BTreeSet<&'static str>,
}

/// Runs a program on a driver with a virtual clock.
///
/// # Errors
/// The backend failed.
pub fn run(program: &Rc<Program>, driver: impl Driver) -> Result<Ran> {
    let runner = Runner::new(driver);
    runner.get_loop().set_exception_handler(Some(Box::new(|_| ())));
    let place = Rc::new(OnceCell::new());
    let (inside, program) = (Rc::clone(&place), Rc::clone(program));
    let ran = runner.run(async move {
        let world = World::new(&program, get_running_loop()?)?;
        let world = inside.get_or_init(|| world);
        if let Err(error) = Coroutine::new(world, 0).await {
            world.log_error(-1, "main", &error);
        }
        let left = drain().await;
        world.log(-1, "drained", i64::try_from(left).unwrap_or(i64::MAX));
        world.close();
        Ok(())
    });
    let Some(world) = place.get() else { return Err(ran.err().unwrap_or_else(|| Error::runtime("main never ran"))) };
    match ran {
        Err(error) if error.kind() == ErrorKind::Deadlock => world.log_deadlock(),
        Err(error) if error.kind() == ErrorKind::Runtime && world.was_stopped() => world.log(-1, "stopped", ()),
        // A request that was left over for main is nobody's any more.
        Err(error) if !error.is_cancelled() => return Err(error),
        _ => (),
    }
    let ran = world.end();
    // A closing loop that deadlocks again has dropped what was left nevertheless.
    drop(runner.close());
    world.let_go();
    Ok(ran)
}

/// How often main cancels what is left, and how long it waits then, in turns.
const ROUNDS: usize = 3;
const TURNS: usize = 50;

/// Cancels what main has left behind. Returns how many tasks do not end.
async fn drain() -> usize {
    let main = current_task();
    let left = || all_tasks().into_iter().filter(|task| Some(task) != main.as_ref()).collect::<Vec<_>>();
    for _ in 0..ROUNDS {
        let tasks = left();
        tasks.iter().for_each(|task| {
            task.cancel(None);
        });
        for _ in 0..TURNS {
            if tasks.iter().all(|task| task.done()) {
                break;
            }
            // Its own cancellation is ignored.
            let _ = sleep(0.0).await;
        }
    }
    left().len()
}
