//! Errors come out of an await: at once from a coroutine, whenever it is awaited from a task.

use std::fmt;

use aioli::{Result, create_task, get_running_loop, sleep};

#[derive(Debug)]
struct NotFound(&'static str);

impl std::error::Error for NotFound {}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not here", self.0)
    }
}

async fn find(page: &'static str) -> Result<String> {
    sleep(1.0).await?;
    println!("looked for {page}");
    // `?` makes aioli's error of any error.
    Err(NotFound(page))?
}

/// The same in Python: `python/errors.py`.
pub async fn example() -> Result<()> {
    // A coroutine runs in place, and so its error appears.
    let error = find("a.html").await.unwrap_err();
    // The error is still what it was made from.
    if let Some(NotFound(page)) = error.downcast_ref() {
        println!("main: there is no {page}");
    }

    // A task keeps its error until somebody asks.
    let task = create_task(find("b.html"));
    sleep(2.0).await?;
    println!("main: asks now");
    if let Err(error) = task.await {
        println!("main: {error}");
    }

    // Where nobody asks, the loop's exception handler is told; without one, there is a line on stderr.
    get_running_loop()?.set_exception_handler(Some(Box::new(|report| {
        if let Some(error) = &report.error {
            println!("nobody asked: {error}");
        }
    })));
    let task = create_task(find("c.html"));
    sleep(2.0).await?;
    println!("main: drops the task");
    drop(task);
    println!("main: ends");
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
