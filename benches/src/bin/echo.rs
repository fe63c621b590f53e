//! TCP echo servers side by side: each on core 0 in a process of its own, the load on core 1.
//!
//! `echo [--seconds S] [--reps N] [--filter PART]`: in each repetition and cell (message size and connections) the servers take
//! turns. A filter is a part of `size/connections/server`, such as `64B/c512/` or `/tokio`. The time it takes is about
//! repetitions × 6 cells × servers × (seconds + 0.4 s): four minutes with the default of one second, five repetitions and six servers.
//!
//! Most of an echo's cost is the kernel's, and the figures scatter: look at the ratios, which compare servers in the same
//! repetition, and take differences below 15 % for ties.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::time::Duration;

use aioli_benches::comparison::{median, short};
use aioli_benches::echo::{self, Load, Process, Server};
use aioli_benches::machine;

const CELLS: [(usize, usize); 6] = [(64, 1), (64, 64), (64, 512), (16_384, 1), (16_384, 64), (16_384, 512)];
const WARM_UP: Duration = Duration::from_millis(300);
const REFERENCES: [&str; 2] = ["tokio", "raw-epoll"];

struct Plan {
    time: Duration,
    reps: usize,
    filter: String,
}

impl Plan {
    fn from_args() -> Result<Self, Box<dyn Error>> {
        let mut plan = Self { time: Duration::from_secs(1), reps: 5, filter: String::new() };
        let mut args = env::args().skip(1);
        while let Some(option) = args.next() {
            let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--seconds" => plan.time = Duration::try_from_secs_f64(value.parse()?)?,
                "--reps" => plan.reps = value.parse()?,
                "--filter" => plan.filter = value,
                _ => return Err(format!("no option {option}").into()),
            }
        }
        Ok(plan)
    }
}

/// One server in one cell of one repetition.
struct Outcome {
    requests: f64,
    requests_per_second: f64,
    cpu_micros: f64,
    user_nanos: f64,
}

fn measure(server: Server, connections: usize, size: usize, time: Duration) -> Result<Outcome, Box<dyn Error>> {
    let mut process = Process::start(server)?;
    let mut load = Load::connect(process.address(), connections, size)?;
    load.run(WARM_UP.min(time))?;
    // Nothing is in flight when the CPU time is asked for, so it is the time of exactly the requests counted.
    let before = process.usage()?;
    let (requests, took) = load.run(time)?;
    let after = process.usage()?;

    let requests = requests as f64;
    let user = (after.user - before.user).as_nanos() as f64;
    let system = (after.system - before.system).as_nanos() as f64;
    Ok(Outcome {
        requests,
        requests_per_second: requests / took.as_secs_f64(),
        cpu_micros: (user + system) / 1e3 / requests,
        user_nanos: user,
    })
}

/// What one cell gave: the outcomes of each server, by repetition.
type Cell = BTreeMap<&'static str, Vec<Outcome>>;

fn print(label: &str, cell: &Cell) {
    println!(
        "\n{label}:\n\n| server | requests/s | CPU µs a request | user ns a request | CPU to tokio's | to raw-epoll's |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    for (server, outcomes) in cell {
        let of = |part: fn(&Outcome) -> f64| median(&outcomes.iter().map(part).collect::<Vec<_>>());
        let ratios = REFERENCES.map(|reference| match cell.get(reference) {
            Some(others) => ratio(outcomes, others),
            None => "–".to_owned(),
        });
        println!(
            "| {server} | {} | {} | {} | {} |",
            short(of(|outcome| outcome.requests_per_second)),
            short(of(|outcome| outcome.cpu_micros)),
            short(user_nanos(outcomes)),
            ratios.join(" | ")
        );
    }
}

/// The user time a request, of all repetitions together: the kernel tells it by what it finds at each tick of its timer, which is too
/// seldom for a median.
fn user_nanos(outcomes: &[Outcome]) -> f64 {
    let sum = |part: fn(&Outcome) -> f64| outcomes.iter().map(part).sum::<f64>();
    sum(|outcome| outcome.user_nanos) / sum(|outcome| outcome.requests)
}

/// The median of the ratios of CPU time in the same repetition, with their range.
fn ratio(outcomes: &[Outcome], others: &[Outcome]) -> String {
    let mut ratios: Vec<f64> =
        outcomes.iter().zip(others).map(|(one, other)| one.cpu_micros / other.cpu_micros).collect();
    ratios.sort_by(f64::total_cmp);
    format!("{:.2} [{:.2}..{:.2}]", median(&ratios), ratios[0], ratios[ratios.len() - 1])
}

fn main() -> Result<(), Box<dyn Error>> {
    echo::serve()?;
    machine::pin_to(1);
    let plan = Plan::from_args()?;
    let mut servers = echo::servers();
    let mut cells: Vec<(String, Cell)> = Vec::new();
    for rep in 0..plan.reps {
        for (index, (size, connections)) in CELLS.into_iter().enumerate() {
            if rep == 0 {
                cells.push((format!("{size}B/c{connections}"), Cell::new()));
            }
            let (label, cell) = &mut cells[index];
            for server in servers.iter().filter(|server| format!("{label}/{}", server.name).contains(&plan.filter)) {
                let outcome = measure(*server, connections, size, plan.time)
                    .map_err(|error| format!("{label}/{}: {error}", server.name))?;
                let rate = short(outcome.requests_per_second);
                eprintln!("{}/{} {label}/{}: {rate} requests/s", rep + 1, plan.reps, server.name);
                cell.entry(server.name).or_default().push(outcome);
            }
        }
        // Whoever came first is last next time: what a place in the order costs is spread.
        servers.rotate_left(1);
    }
    println!("TCP echo, medians of {} repetitions of {:?}", plan.reps, plan.time);
    for (label, cell) in cells.iter().filter(|(_, cell)| !cell.is_empty()) {
        print(label, cell);
    }
    Ok(())
}
