//! A `Future` is a result that somebody will set: here one task sets it, and two wait for it.

use aioli::{Future, Result, create_task, get_running_loop, sleep};

async fn oven(bread: Future<&'static str>) -> Result<()> {
    println!("oven: baking");
    sleep(2.0).await?;
    println!("oven: done");
    bread.set_result("a fresh loaf")
}

async fn guest(name: &str, bread: Future<&'static str>) -> Result<()> {
    println!("{name}: waits");
    // Awaiting a reference clones the result, so that others get it, too.
    println!("{name}: gets {}", (&bread).await?);
    Ok(())
}

/// The same in Python: `python/future_set_by_task.py`.
pub async fn example() -> Result<()> {
    let bread = get_running_loop()?.create_future();
    // Clones of a future are handles to the same one.
    create_task(oven(bread.clone()));
    let first = create_task(guest("first", bread.clone()));
    let second = create_task(guest("second", bread.clone()));
    first.await?;
    second.await?;
    println!("main: everybody got {}", bread.result()?);
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
