//! A task that computes cannot be interrupted: a cancel is delivered at its next await.

use aioli::{Result, create_task, current_task, sleep};

/// Adds squares, and calls `progress` after each.
async fn compute(progress: impl Fn(u32)) -> Result<u32> {
    let mut sum = 0;
    for n in 1..=4 {
        sum += n * n;
        progress(n);
    }
    println!("compute: the sum is {sum}");
    if let Err(error) = sleep(1.0).await {
        println!("compute: cancelled at the await");
        return Err(error);
    }
    println!("compute: this is never reached");
    Ok(sum)
}

/// The same in Python: `python/cancel_busy.py`.
pub async fn example() -> Result<()> {
    let task = create_task(compute(|n| {
        println!("step {n}");
        if n == 2 {
            println!("a request to cancel");
            current_task().expect("compute runs in a task").cancel(None);
        }
    }));
    match task.await {
        Err(error) if error.is_cancelled() => println!("main: the task was cancelled"),
        result => println!("main: the result is {}", result?),
    }
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
