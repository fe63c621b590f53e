//! Awaiting a coroutine runs it in place: one after the other, four seconds in all.
//!
//! Compare with `concurrent_sleeps`, which makes tasks of the same two coroutines.

use aioli::{Result, get_running_loop, sleep};

async fn nap(name: &str, seconds: f64) -> Result<()> {
    println!("{name} sleeps for {seconds:.0} s");
    sleep(seconds).await?;
    println!("{name} is awake");
    Ok(())
}

/// The same in Python: `python/sequential_awaits.py`.
pub async fn example() -> Result<()> {
    let clock = get_running_loop()?;
    let start = clock.time();

    // A coroutine does nothing before it is awaited.
    let a = nap("A", 3.0);
    let b = nap("B", 1.0);
    println!("main awaits A, then B");
    a.await?;
    b.await?;

    println!("all that took {:.1} s", (clock.time() - start).as_secs_f64());
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
