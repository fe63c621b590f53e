//! One loop a thread: `run` inside of a running loop is refused, and the loop goes on unharmed.

use aioli::{ErrorKind, Result, sleep};

async fn answer() -> Result<u32> {
    println!("answer: computing");
    sleep(1.0).await?;
    Ok(42)
}

/// The same in Python: `python/nested_run.py`.
pub async fn example() -> Result<()> {
    match aioli::run(answer()) {
        // The coroutine was dropped before it began.
        Err(error) if error.kind() == ErrorKind::Runtime => println!("refused: a loop runs here already"),
        answer => println!("not refused: {}", answer?),
    }
    println!("awaited instead: {}", answer().await?);
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
