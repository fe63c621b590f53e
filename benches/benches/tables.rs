//! What criterion does not measure: memory a task, and the CPU time of timers that fire. Each figure comes from a process of its
//! own; the repetitions of the runtimes take turns, and the table shows medians.
//!
//! `cargo bench -p aioli-benches --features peers --bench tables -- [--reps N] [--tasks N] [FILTER]`, where a filter is a part of
//! `workload/runtime`. Run as a test (without cargo's `--bench`) it does everything once, with few tasks.
#![forbid(unsafe_code)]

use std::error::Error;
use std::process::Command;
use std::time::Duration;
use std::{env, io};

use aioli_benches::comparison::Comparison;
use aioli_benches::workload::{memory, timer_fire};
use aioli_benches::{Runtime, machine, runtime};

const WORKLOADS: [&str; 3] = ["mem_idle", "mem_sleep", "timer_fire"];

struct Plan {
    reps: usize,
    tasks: usize,
    filter: String,
}

impl Plan {
    fn from_args(args: &[String]) -> Result<Self, Box<dyn Error>> {
        let full = args.iter().any(|arg| arg == "--bench");
        let mut plan = Self { reps: 1, tasks: 2_000, filter: String::new() };
        if full {
            (plan.reps, plan.tasks) = (5, 100_000);
        }
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--reps" => plan.reps = args.next().ok_or("--reps needs a number")?.parse()?,
                "--tasks" => plan.tasks = args.next().ok_or("--tasks needs a number")?.parse()?,
                option if option.starts_with('-') => {}
                filter => filter.clone_into(&mut plan.filter),
            }
        }
        Ok(plan)
    }
}

/// The names of the runtimes.
#[derive(Default)]
struct Names(Vec<&'static str>);

impl runtime::Visitor for Names {
    fn visit<R: Runtime>(&mut self) {
        self.0.push(R::NAME);
    }
}

/// Measures one of them in this process.
struct Measure<'a> {
    workload: &'a str,
    runtime: &'a str,
    tasks: usize,
    figures: io::Result<Vec<(&'static str, f64)>>,
}

impl runtime::Visitor for Measure<'_> {
    fn visit<R: Runtime>(&mut self) {
        if R::NAME == self.runtime {
            self.figures = measure::<R>(self.workload, self.tasks);
        }
    }
}

fn measure<R: Runtime>(workload: &str, tasks: usize) -> io::Result<Vec<(&'static str, f64)>> {
    match workload {
        "mem_idle" => Ok(vec![("bytes", memory::idle::<R>(tasks)?)]),
        "mem_sleep" => Ok(vec![("bytes", memory::sleeping::<R>(tasks)?)]),
        "timer_fire" => {
            let fired = timer_fire::run::<R>(tasks)?;
            let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
            Ok(vec![
                ("CPU ns", fired.cpu.as_nanos() as f64),
                ("late p50 µs", micros(fired.late_p50)),
                ("late p99 µs", micros(fired.late_p99)),
            ])
        }
        other => Err(io::Error::other(format!("no workload {other}"))),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    machine::pin_to(0);
    let args: Vec<String> = env::args().skip(1).collect();
    if let [flag, workload, runtime, tasks] = args.as_slice()
        && flag == "--measure"
    {
        let figures = Err(io::Error::other(format!("no runtime {runtime}")));
        let mut measure = Measure { workload, runtime, tasks: tasks.parse()?, figures };
        // Not even a trial start of the others: what they freed would be used again.
        runtime::visit_all(&mut measure);
        measure.figures?.iter().for_each(|(unit, figure)| println!("{figure} {unit}"));
        return Ok(());
    }

    let plan = Plan::from_args(&args)?;
    let mut names = Names::default();
    runtime::visit_available(&mut names);
    let mut table = Comparison::default();
    for rep in 0..plan.reps {
        eprintln!("tables: repetition {} of {}", rep + 1, plan.reps);
        for workload in WORKLOADS {
            for runtime in names.0.iter().filter(|name| format!("{workload}/{name}").contains(&plan.filter)) {
                let child = Command::new(env::current_exe()?)
                    .args(["--measure", workload, runtime, &plan.tasks.to_string()])
                    .output()?;
                if !child.status.success() {
                    let said = String::from_utf8_lossy(&child.stderr);
                    return Err(format!("{workload} on {runtime}: {}: {said}", child.status).into());
                }
                for line in String::from_utf8(child.stdout)?.lines() {
                    let (figure, unit) = line.split_once(' ').ok_or_else(|| format!("odd figure: {line}"))?;
                    table.add(&format!("{workload} {unit}"), runtime, figure.parse()?);
                }
            }
        }
    }
    println!("A task or timer, {} of them; median of {}:\n\n{table}", plan.tasks, plan.reps);
    Ok(())
}
