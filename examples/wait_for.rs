//! `wait_for` sets a deadline. What is late is cancelled, and has cleaned up before the timeout is returned.

use aioli::{Result, get_running_loop, sleep, wait_for};

async fn fetch(page: &str, seconds: f64) -> Result<String> {
    if let Err(error) = sleep(seconds).await {
        println!("{page}: {error}, closing the connection");
        sleep(0.5).await?;
        println!("{page}: closed");
        return Err(error);
    }
    Ok(format!("the text of {page}"))
}

/// The same in Python: `python/wait_for.py`.
pub async fn example() -> Result<()> {
    let clock = get_running_loop()?;
    let start = clock.time();
    let elapsed = || (clock.time() - start).as_secs_f64();

    let text = wait_for(fetch("fast.html", 1.0), 2.0).await?;
    println!("{:.1} s: in time: {text}", elapsed());

    match wait_for(fetch("slow.html", 60.0), 2.0).await {
        Ok(text) => println!("in time: {text}"),
        // 1 s, then the deadline of 2 s, then the cleanup of 0.5 s.
        Err(error) if error.is_timeout() => println!("{:.1} s: too late", elapsed()),
        Err(error) => return Err(error),
    }
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
