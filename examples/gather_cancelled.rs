//! Cancelling a `gather` cancels everything that it waits for.
//!
//! The gather ends with the first of them; the others take their time.

use aioli::{Result, create_task, gather, get_running_loop, sleep};

async fn worker(name: &str, cleanup: f64) -> Result<()> {
    println!("{name}: works");
    if let Err(error) = sleep(60.0).await {
        println!("{name}: {error}, tidies up");
        sleep(cleanup).await?;
        println!("{name}: has tidied up");
        return Err(error);
    }
    Ok(())
}

/// The same in Python: `python/gather_cancelled.py`.
pub async fn example() -> Result<()> {
    let clock = get_running_loop()?;
    let start = clock.time();
    let elapsed = || (clock.time() - start).as_secs_f64();

    let quick = create_task(worker("quick", 1.0));
    let thorough = create_task(worker("thorough", 2.0));
    let both = gather((&quick, &thorough));
    sleep(1.0).await?;

    println!("main: cancels the gather");
    both.cancel(None);
    let error = both.await.unwrap_err();
    println!("main: the gather was {error} after {:.1} s", elapsed());
    let error = thorough.await.unwrap_err();
    println!("main: thorough was {error} after {:.1} s", elapsed());
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
