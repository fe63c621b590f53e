//! Starting children and waiting for them: `true`, one by one and many at once.
//!
//! `children [--count N] [--reps N] [--only TEXT]`: in each repetition the runtimes take turns, with the same number of children. One by one they
//! are compared with the standard library's `Command::status` in a loop. Starting a program is mostly the kernel's work, and the time it
//! takes scatters with whatever else runs: look at the ratios, which compare within a repetition, and at the CPU time of this program
//! and its children. `--only "tokio, at once"` runs nothing else, to count system calls with `strace -c`, say.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use aioli_benches::comparison::{median, short};
use aioli_core::Result;
use aioli_io::create_subprocess_exec;
use nix::sys::resource::{UsageWho, getrusage};

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

/// The CPU time of this program and of the children that have ended.
fn cpu() -> Duration {
    let of = |who| {
        getrusage(who).map_or(0, |usage| {
            let (user, system) = (usage.user_time(), usage.system_time());
            (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec()
        })
    };
    Duration::from_micros(u64::try_from(of(UsageWho::RUSAGE_SELF) + of(UsageWho::RUSAGE_CHILDREN)).unwrap_or_default())
}

/// Microseconds a child, of each repetition.
#[derive(Clone, Default)]
struct Times {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

/// The median of the ratios within repetitions.
fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    median(&ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
}

/// Runs the workloads in turns, and prints what they took, and the ratios to the first one's and the last one's.
fn compare(title: &str, runs: &[Workload], count: usize, reps: usize) {
    let mut times = vec![Times::default(); runs.len()];
    for rep in 0..=reps {
        for n in 0..runs.len() {
            // Whoever begins changes.
            let place = (n + rep) % runs.len();
            let (wall, used) = (Instant::now(), cpu());
            (runs[place].1)(count);
            let (wall, used) = (wall.elapsed(), cpu() - used);
            if rep > 0 {
                times[place].wall.push(wall.as_secs_f64() * 1e6 / count as f64);
                times[place].cpu.push(used.as_secs_f64() * 1e6 / count as f64);
            }
        }
    }
    let (first, last) = (&times[0], &times[runs.len() - 1]);
    let (to_first, to_last) = (runs[0].0, runs[runs.len() - 1].0);
    println!("\n{count} children, {title}:\n");
    println!("| | µs a child | to {to_first} | to {to_last} | CPU µs | to {to_first} | to {to_last} |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for ((name, _), Times { wall, cpu }) in runs.iter().zip(&times) {
        let (wall_ratios, cpu_ratios) = ([&first.wall, &last.wall], [&first.cpu, &last.cpu]);
        print!("| {name} | {} |", short(median(wall)));
        wall_ratios.iter().for_each(|to| print!(" {:.3} |", ratio(wall, to)));
        print!(" {} |", short(median(cpu)));
        cpu_ratios.iter().for_each(|to| print!(" {:.3} |", ratio(cpu, to)));
        println!();
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let (mut count, mut reps, mut only) = (1000, 7, None);
    let mut args = env::args().skip(1);
    while let Some(option) = args.next() {
        let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--count" => count = value.parse()?,
            "--reps" => reps = value.parse()?,
            "--only" => only = Some(value),
            _ => return Err(format!("no option {option}").into()),
        }
    }
    for (title, mut runs) in [("one by one", one_by_one_runs()), ("at once", at_once_runs())] {
        runs.retain(|(name, _)| only.as_deref().is_none_or(|only| format!("{name}, {title}").contains(only)));
        if !runs.is_empty() {
            compare(title, &runs, count, reps.max(1));
        }
    }
    Ok(())
}
