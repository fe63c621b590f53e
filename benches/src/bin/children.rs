//! Starting children and waiting for them: `true`, one by one and many at once.
//!
//! `children [--count N] [--reps N]`: in each repetition the runtimes take turns, with the same number of children. One by one they
//! are compared with the standard library's `Command::status` in a loop. Starting a program is mostly the kernel's work, and the figures
//! scatter with whatever else runs: look at the ratios, which compare within a repetition.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::process::Command;
use std::time::Instant;

use aioli_benches::comparison::{median, short};
use aioli_core::Result;
use aioli_io::create_subprocess_exec;

const NOTHING: [&str; 0] = [];

/// Starts so many children, and waits for them.
type Workload = (&'static str, fn(usize));

fn std_one_by_one(count: usize) {
    for _ in 0..count {
        assert!(Command::new("true").status().is_ok_and(|status| status.success()));
    }
}

fn std_at_once(count: usize) {
    let children: Vec<_> = (0..count).map(|_| Command::new("true").spawn().expect("a child")).collect();
    for mut child in children {
        assert!(child.wait().is_ok_and(|status| status.success()));
    }
}

async fn child() -> Result<()> {
    assert_eq!(create_subprocess_exec("true", NOTHING).await?.wait().await?, 0);
    Ok(())
}

async fn one_by_one(count: usize) -> Result<()> {
    for _ in 0..count {
        child().await?;
    }
    Ok(())
}

async fn at_once(count: usize) -> Result<()> {
    aioli_core::gather((0..count).map(|_| child()).collect::<Vec<_>>()).await?;
    Ok(())
}

#[cfg(feature = "tokio")]
mod tokio_runs {
    use tokio::process::Command;
    use tokio::task::JoinSet;

    async fn child() {
        assert!(Command::new("true").status().await.is_ok_and(|status| status.success()));
    }

    fn run(main: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(main);
    }

    pub fn one_by_one(count: usize) {
        run(async {
            for _ in 0..count {
                child().await;
            }
        });
    }

    pub fn at_once(count: usize) {
        run(async {
            let mut children = JoinSet::new();
            for _ in 0..count {
                children.spawn(child());
            }
            children.join_all().await;
        });
    }
}

fn one_by_one_runs() -> Vec<Workload> {
    let mut runs: Vec<Workload> = vec![("std", std_one_by_one)];
    runs.push(("aioli epoll", |count| aioli_exec_single::run(one_by_one(count)).expect("epoll")));
    runs.push(("aioli uring", |count| aioli_exec_uring::run(one_by_one(count)).expect("io_uring")));
    #[cfg(feature = "tokio")]
    runs.push(("tokio", tokio_runs::one_by_one));
    runs
}

fn at_once_runs() -> Vec<Workload> {
    let mut runs: Vec<Workload> = vec![("std", std_at_once)];
    runs.push(("aioli epoll", |count| aioli_exec_single::run(at_once(count)).expect("epoll")));
    runs.push(("aioli uring", |count| aioli_exec_uring::run(at_once(count)).expect("io_uring")));
    #[cfg(feature = "tokio")]
    runs.push(("tokio", tokio_runs::at_once));
    runs
}

/// Runs the workloads in turns, and prints what they took and their ratios to the first one's and the last one's.
fn compare(title: &str, runs: &[Workload], count: usize, reps: usize) {
    let mut times = vec![Vec::new(); runs.len()];
    for rep in 0..=reps {
        for n in 0..runs.len() {
            // Whoever begins changes.
            let place = (n + rep) % runs.len();
            let before = Instant::now();
            (runs[place].1)(count);
            if rep > 0 {
                times[place].push(before.elapsed().as_secs_f64() * 1e6 / count as f64);
            }
        }
    }
    let last = runs.len() - 1;
    println!("\n{count} children, {title}:\n\n| | µs a child | to {} | to {} |", runs[0].0, runs[last].0);
    println!("|---|---:|---:|---:|");
    for (place, (name, _)) in runs.iter().enumerate() {
        let ratio = |to: usize| {
            median(&times[place].iter().zip(&times[to]).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
        };
        println!("| {name} | {} | {:.3} | {:.3} |", short(median(&times[place])), ratio(0), ratio(last));
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let (mut count, mut reps) = (1000, 7);
    let mut args = env::args().skip(1);
    while let Some(option) = args.next() {
        let value = args.next().ok_or_else(|| format!("{option} needs a value"))?.parse()?;
        match option.as_str() {
            "--count" => count = value,
            "--reps" => reps = value,
            _ => return Err(format!("no option {option}").into()),
        }
    }
    compare("one by one", &one_by_one_runs(), count, reps);
    compare("at once", &at_once_runs(), count, reps);
    Ok(())
}
