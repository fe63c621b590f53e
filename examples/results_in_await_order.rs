//! Tasks end in any order; their results come in the order in which they are awaited.

use aioli::{Result, create_task, get_running_loop, sleep};

async fn fetch(page: &str, seconds: f64) -> Result<String> {
    sleep(seconds).await?;
    println!("{page} has arrived");
    Ok(format!("the text of {page}"))
}

/// The same in Python: `python/results_in_await_order.py`.
pub async fn example() -> Result<()> {
    let clock = get_running_loop()?;
    let start = clock.time();
    let elapsed = || (clock.time() - start).as_secs_f64();

    let slow = create_task(fetch("slow.html", 3.0));
    let fast = create_task(fetch("fast.html", 1.0));

    let text = slow.await?;
    println!("{:.1} s: {text}", elapsed());
    // This one has been done for two seconds: the await does not suspend main.
    let text = fast.await?;
    println!("{:.1} s: {text}", elapsed());
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
