//! `shield` keeps a timeout from cancelling what it waits for: main gives up in time, and the upload goes on.

use aioli::{Result, create_task, get_running_loop, shield, sleep, wait_for};

async fn upload() -> Result<&'static str> {
    println!("upload: starts");
    sleep(3.0).await?;
    println!("upload: ends");
    Ok("3 files")
}

/// The same in Python: `python/shield_under_wait_for.py`.
pub async fn example() -> Result<()> {
    let clock = get_running_loop()?;
    let start = clock.time();
    let elapsed = || (clock.time() - start).as_secs_f64();

    let task = create_task(upload());
    match wait_for(shield(&task), 1.0).await {
        Err(error) if error.is_timeout() => {
            println!("main: not done after {:.1} s", elapsed());
        }
        uploaded => println!("main: in time: {}", uploaded?),
    }

    // The timeout cancelled the shield, not the task.
    let uploaded = task.await?;
    println!("main: {uploaded} after {:.1} s", elapsed());
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
