//! A cancel is a request: the task cleans up with further awaits, and may refuse to end.

use aioli::{Result, create_task, get_running_loop, sleep};

async fn editor() -> Result<&'static str> {
    match sleep(10.0).await {
        Err(error) if error.is_cancelled() => {
            println!("editor: one moment, saving");
            sleep(1.0).await?;
            println!("editor: saved");
            // Returning the error would end the task as cancelled. This one goes on, and has a result.
            Ok("a saved text")
        }
        slept => slept.map(|()| "a finished text"),
    }
}

/// The same in Python: `python/cancel_swallowed.py`.
pub async fn example() -> Result<()> {
    let clock = get_running_loop()?;
    let start = clock.time();

    let task = create_task(editor());
    sleep(2.0).await?;
    println!("main: cancels the editor");
    // The request is noted here. The editor hears of it when main awaits.
    task.cancel(None);
    println!("main: waits for the editor");
    let text = (&task).await?;

    println!("main: got {text} after {:.1} s", (clock.time() - start).as_secs_f64());
    println!("main: the editor {}", if task.cancelled() { "was cancelled" } else { "was not cancelled" });
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
