//! What a task tells about itself: its name, whether it is done, and how it ended.

use aioli::{Error, ErrorKind, Result, Task, TaskBuilder, sleep, wait};

async fn job(seconds: f64, outcome: Result<u32>) -> Result<u32> {
    sleep(seconds).await?;
    outcome
}

fn describe(task: &Task<u32>) -> String {
    // What does not wait needs no await: these methods look at the task as it is.
    let state = match task.result() {
        Ok(value) => format!("done, the result is {value}"),
        Err(error) if error.kind() == ErrorKind::InvalidState => "pending".into(),
        Err(error) if task.cancelled() => format!("cancelled, because {}", error.cancel_message().unwrap_or("?")),
        Err(error) => format!("failed: {error}"),
    };
    format!("{}: {state}", task.name())
}

/// The same in Python: `python/task_inspection.py`.
pub async fn example() -> Result<()> {
    let start = |name: &str, job| TaskBuilder::new().name(name).create_task(job);
    let tasks = [
        start("good", job(1.0, Ok(7))),
        start("bad", job(2.0, Err(Error::msg("no ink")))),
        start("ugly", job(60.0, Ok(0))),
    ];
    for task in &tasks {
        println!("{}", describe(task));
    }

    sleep(3.0).await?;
    // To be cancelled is not to be done: the task hears of it in the next turn of the loop.
    tasks[2].cancel(Some("it is late"));
    println!("{}", describe(&tasks[2]));
    wait(&tasks).await?;
    for task in &tasks {
        println!("{}", describe(task));
    }

    // `exception` is for those who expect an error, or none.
    for task in tasks.iter().filter(|task| task.done() && !task.cancelled()) {
        match task.exception()? {
            Some(error) => println!("{}: the error is {error}", task.name()),
            None => println!("{}: no error", task.name()),
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
