//! Another thread sends work to the loop, watches it, fetches results, and fires and forgets.

use aioli::{RemoteLoop, Result, all_tasks, current_task, get_running_loop, to_thread};

/// Records until it is cancelled.
async fn record(camera: &str) -> Result<String> {
    current_task().expect("a coroutine runs in a task").set_name(camera);
    println!("{camera}: records");
    let never_set = get_running_loop()?.create_future::<()>();
    match never_set.await {
        Err(error) if error.is_cancelled() => println!("{camera}: stops"),
        ended => ended?,
    }
    Ok(format!("the film of {camera}"))
}

/// The cameras that record, by the names of their tasks.
async fn recording() -> Result<String> {
    let names = all_tasks().into_iter().map(|task| task.name().to_string());
    Ok(names.filter(|name| name.starts_with("camera")).collect::<Vec<_>>().join(", "))
}

fn stop(camera: &str) {
    for task in all_tasks().iter().filter(|task| &*task.name() == camera) {
        task.cancel(None);
    }
}

async fn switch_off() -> Result<()> {
    println!("the lights go out");
    Ok(())
}

/// Runs on a thread that has no loop. What it sends is made and run on the loop's thread.
fn guard(remote: RemoteLoop) -> Result<()> {
    // Submit work: these two run at the same time.
    let first = remote.run_coroutine_threadsafe(|| record("camera 1"));
    let _second = remote.run_coroutine_threadsafe(|| record("camera 2"));

    // Watch it. `result` blocks this thread until the loop has an answer.
    println!("guard: recording: {}", remote.run_coroutine_threadsafe(recording).result()?);

    // Have the loop call a plain function, then fetch a result.
    remote.call_soon_threadsafe(|| stop("camera 1"))?;
    println!("guard: has got {}", first.result()?);
    println!("guard: recording: {}", remote.run_coroutine_threadsafe(recording).result()?);

    // Fire and forget: what nobody waits for runs all the same.
    remote.run_coroutine_threadsafe(switch_off);
    Ok(())
}

/// The same in Python: `python/threads.py`.
pub async fn example() -> Result<()> {
    let remote = get_running_loop()?.remote();
    to_thread(move || guard(remote)).await?;
    println!("main: the guard has left");
    // The camera 2 still records. `run` cancels it, and waits for it.
    Ok(())
}

fn main() -> Result<()> {
    aioli::run(example())
}
