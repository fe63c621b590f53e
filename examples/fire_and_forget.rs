//! Fire and forget: a task starts when main awaits or ends, never inside of `create_task`.

use aioli::{Result, create_task, sleep};

async fn background(name: &str) -> Result<()> {
    println!("{name}: starts");
    if let Err(error) = sleep(1.0).await {
        println!("{name}: {error}");
        return Err(error);
    }
    println!("{name}: ends");
    Ok(())
}

/// The same in Python: `python/fire_and_forget.py`.
pub async fn example() -> Result<()> {
    // The loop owns the task: without its handle, too, it runs to its end.
    create_task(background("early"));
    println!("main: has created early, and awaits");
    sleep(2.0).await?;

    create_task(background("late"));
    println!("main: has created late, and ends");
    // `late` takes its first step now. Then `run` cancels what is left, and waits for it.
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
