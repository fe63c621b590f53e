//! Keeps some children of the same kind alive.
//!
//! A child that ends is started again after a pause, which doubles each time, until one has lived for some time. On SIGTERM or Ctrl-C
//! nothing is started any more: every child is asked to end, and killed after a grace time. That is cleanup that awaits, in the tasks
//! that are cancelled.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use aioli::{Process, Result, Signal, cancellable_task_group, create_subprocess_exec, signals, sleep, timeout};

const HELP: &str = "\
Keeps children alive.

usage: supervisor [--children N] [--grace SECONDS] PROGRAM [ARGUMENT...]

  --children N       how many (default 2)
  --grace SECONDS    how long a child may take to end after SIGTERM (default 5)

SIGTERM and Ctrl-C end it, after the children.";

/// The first and the longest pause before a child is started again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// A child that has lived for so long was well: the next pause is the first again.
const WELL: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Options {
    children: usize,
    grace: Duration,
    command: Vec<String>,
}

/// Prints a line. That nobody reads it is no reason to leave the children alone.
fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

async fn start(options: &Options) -> Result<Process> {
    // In a group of its own, a child does not get Ctrl-C from the terminal: ending it is up to us.
    let [program, arguments @ ..] = &options.command[..] else { unreachable!("checked in main") };
    create_subprocess_exec(program, arguments).process_group(0).kill_on_drop(true).await
}

/// Keeps one child alive until this is cancelled.
async fn keep(slot: usize, options: Options) -> Result<()> {
    let mut pause = PAUSES.0;
    loop {
        let started = Instant::now();
        match start(&options).await {
            Ok(child) => {
                tell(format_args!("child {slot}: process {} started", child.pid()));
                match child.wait().await {
                    Ok(code) => tell(format_args!("child {slot}: process {} ended with {code}", child.pid())),
                    Err(cancelled) => {
                        drain(slot, &child, options.grace).await?;
                        return Err(cancelled);
                    }
                }
            }
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => tell(format_args!("child {slot}: {error}")),
        }
        if started.elapsed() >= WELL {
            pause = PAUSES.0;
        }
        tell(format_args!("child {slot}: again in {} ms", pause.as_millis()));
        sleep(pause).await?;
        pause = PAUSES.1.min(pause * 2);
    }
}

/// Has a child end: politely, and after the grace time by force.
async fn drain(slot: usize, child: &Process, grace: Duration) -> Result<()> {
    if child.returncode().is_none() {
        child.terminate()?;
    }
    match timeout(grace, child.wait()).await {
        Ok(code) => tell(format_args!("child {slot}: drained with {code}")),
        Err(error) if error.is_timeout() => {
            tell(format_args!("child {slot}: is killed"));
            child.kill()?;
            child.wait().await?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn supervise(options: Options) -> Result<()> {
    let signals = signals([Signal::TERM, Signal::INT])?;
    cancellable_task_group(async |group| {
        for slot in 1..=options.children {
            group.create_task(keep(slot, options.clone()))?;
        }
        tell(format_args!("{}: no child is started any more", signals.recv().await?));
        group.cancel();
        Ok(())
    })
    .await?;
    tell(format_args!("all children have ended"));
    Ok(())
}

fn options() -> std::result::Result<Option<Options>, String> {
    let mut options = Options { children: 2, grace: Duration::from_secs(5), command: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--children" => {
                let text = value()?;
                options.children = text.parse().map_err(|_| format!("--children {text:?}: not a number"))?;
            }
            "--grace" => {
                let text = value()?;
                let seconds = text.parse().map_err(|_| format!("--grace {text:?}: not a number of seconds"))?;
                options.grace =
                    Duration::try_from_secs_f64(seconds).map_err(|error| format!("--grace {text:?}: {error}"))?;
            }
            option if option.starts_with('-') => {
                return Err(format!("{option:?} is not an option; --help tells which there are"));
            }
            _ => {
                options.command.push(argument);
                options.command.extend(arguments.by_ref());
            }
        }
    }
    if options.command.is_empty() {
        return Err("no program; --help tells how to name it".to_owned());
    }
    Ok(Some(options))
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("supervisor: {error}");
            return ExitCode::from(2);
        }
    };
    match aioli::run(supervise(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("supervisor: {error}");
            ExitCode::FAILURE
        }
    }
}
