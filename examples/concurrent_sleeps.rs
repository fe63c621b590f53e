//! Two tasks sleep at the same time: three seconds in all, not four.

use aioli::{Result, create_task, get_running_loop, sleep};

async fn nap(name: &str, seconds: f64) -> Result<()> {
    println!("{name} sleeps for {seconds:.0} s");
    sleep(seconds).await?;
    println!("{name} is awake");
    Ok(())
}

/// The same in Python: `python/concurrent_sleeps.py`.
pub async fn example() -> Result<()> {
    let clock = get_running_loop()?;
    let start = clock.time();

    let a = create_task(nap("A", 3.0));
    let b = create_task(nap("B", 1.0));
    println!("main waits for both");
    a.await?;
    b.await?;

    println!("all that took {:.1} s", (clock.time() - start).as_secs_f64());
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
