//! Runs several programs, each reading what the one before writes, and shows what every one of them writes, line by line.
//!
//! The bytes go from program to program as they are; the lines on the screen are copies. Ctrl-C asks all programs to end, with SIGTERM,
//! and goes on showing what they still have to say; those that have not ended after a grace time are killed, and so they are on a
//! second Ctrl-C.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use aioli::{
    DEVNULL, PIPE, Process, Result, Signal, Signals, Stdio, StreamReader, StreamWriter, Task, create_subprocess_shell,
    create_task, open_stdout, signals, sleep, task_group, timeout,
};

const HELP: &str = "\
Runs programs that are connected by pipes, and shows what each writes.

usage: pipeline [--grace SECONDS] PROGRAM...

  --grace SECONDS    how long the programs may take to end after Ctrl-C (default 5)

Each PROGRAM is one argument, with its own arguments as a shell would split them:
  pipeline 'seq 1000' 'grep 7' 'head -n 3'
The exit code is that of the last program, or 128 and the number of the signal that ended it.";

/// The longest part of a line that is shown at once, in bytes.
const LINE: usize = 64 * 1024;

/// Copies of lines, with a prefix that tells whose they are.
struct Screen {
    output: Rc<StreamWriter>,
    prefix: String,
    /// The beginning of a line that is not complete.
    line: Vec<u8>,
}

impl Screen {
    fn new(output: &Rc<StreamWriter>, prefix: String) -> Self {
        Screen { output: Rc::clone(output), prefix, line: Vec::new() }
    }

    async fn show(&mut self, data: &[u8]) -> Result<()> {
        // All lines are one write, so that there is none in vain when nobody takes them any more.
        let mut lines = Vec::new();
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() > LINE {
                self.end_line(&mut lines);
            }
        }
        self.output.write(&lines)?;
        self.output.drain().await
    }

    fn finish(&mut self) -> Result<()> {
        let mut lines = Vec::new();
        if !self.line.is_empty() {
            self.end_line(&mut lines);
        }
        self.output.write(&lines)
    }

    fn end_line(&mut self, lines: &mut Vec<u8>) {
        lines.extend_from_slice(self.prefix.as_bytes());
        lines.append(&mut self.line);
        if !lines.ends_with(b"\n") {
            lines.push(b'\n');
        }
    }
}

/// Shows what comes, and passes it on.
async fn relay(from: StreamReader, to: Option<StreamWriter>, mut screen: Screen) -> Result<()> {
    loop {
        let data = from.read(LINE).await?;
        if data.is_empty() {
            return screen.finish();
        }
        screen.show(&data).await?;
        if let Some(to) = &to {
            to.write(&data)?;
            match to.drain().await {
                // Nobody reads on. The pipe is closed when this returns, and whoever writes into it learns of it in turn.
                Err(error) if error.as_io().is_some() => return screen.finish(),
                result => result?,
            }
        }
    }
}

/// Starts the programs.
async fn start(programs: &[String]) -> Result<Vec<Process>> {
    let mut all = Vec::new();
    for program in programs {
        // A program that reads from the terminal would be stopped, since it is not in the foreground.
        let terminal = std::io::stdin().is_terminal();
        let stdin = if !all.is_empty() {
            PIPE
        } else if terminal {
            DEVNULL
        } else {
            Stdio::Inherit
        };
        // In groups of their own, they do not get Ctrl-C from the terminal: ending them is up to us.
        let process = create_subprocess_shell(format!("exec {program}")).stdin(stdin).stdout(PIPE).stderr(PIPE);
        all.push(process.process_group(0).kill_on_drop(true).await?);
    }
    Ok(all)
}

/// Connects the programs, and waits for the end of all that they write.
fn connect(programs: &[String], all: &mut [Process], output: &Rc<StreamWriter>) -> Task<()> {
    let mut inputs: Vec<_> = all.iter_mut().map(|process| process.stdin.take()).skip(1).collect();
    inputs.push(None);
    let mut relays = Vec::new();
    for (n, ((program, process), input)) in programs.iter().zip(all).zip(inputs).enumerate() {
        let name = program.split_whitespace().next().unwrap_or_default();
        let screen = |mark: &str| Screen::new(output, format!("{} {name}{mark} ", n + 1));
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        relays.extend(stdout.map(|stdout| relay(stdout, input, screen(":"))));
        relays.extend(stderr.map(|stderr| relay(stderr, None, screen("!"))));
    }
    create_task(task_group(async move |group| {
        for relay in relays {
            group.create_task(relay)?;
        }
        Ok(())
    }))
}

/// Sends a signal to those that have not ended.
fn tell(all: &[Process], signal: Signal) {
    for process in all.iter().filter(|process| process.returncode().is_none()) {
        // It may end at this moment.
        let _ = process.send_signal(signal);
    }
}

/// Waits for Ctrl-C, or a request to end, and then ends all programs: politely, and after the grace time or a second signal by force.
async fn guard(signals: Signals, all: Rc<Vec<Process>>, relays: Rc<Task<()>>, grace: Duration) -> Result<()> {
    signals.recv().await?;
    tell(&all, Signal::TERM);
    match timeout(grace, signals.recv()).await {
        Err(error) if !error.is_timeout() => return Err(error),
        _ => tell(&all, Signal::KILL),
    }
    // What a program has left behind may still hold its pipes.
    sleep(Duration::from_millis(100)).await?;
    relays.cancel(None);
    Ok(())
}

async fn pipeline(programs: Vec<String>, grace: Duration) -> Result<u8> {
    let signals = signals([Signal::INT, Signal::TERM])?;
    let output = Rc::new(open_stdout().await?);
    let mut all = start(&programs).await?;
    let relays = Rc::new(connect(&programs, &mut all, &output));
    let all = Rc::new(all);
    let guard = create_task(guard(signals, Rc::clone(&all), Rc::clone(&relays), grace));
    let shown = (&*relays).await;
    if !matches!(&shown, Err(error) if error.is_cancelled()) {
        // An error ends the programs too, as they are dropped.
        shown?;
    }
    let mut code = 0;
    for process in &*all {
        code = process.wait().await?;
    }
    output.close();
    output.wait_closed().await?;
    // The guard that has begun to end the programs is not needed any more either.
    guard.cancel(None);
    Ok(if code < 0 { 128 + code.unsigned_abs() as u8 } else { code as u8 })
}

fn options() -> std::result::Result<Option<(Vec<String>, Duration)>, String> {
    let (mut programs, mut grace) = (Vec::new(), Duration::from_secs(5));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--grace" => {
                let text = arguments.next().ok_or("--grace needs a value")?;
                let seconds = text.parse().map_err(|_| format!("--grace {text:?}: not a number of seconds"))?;
                grace = Duration::try_from_secs_f64(seconds).map_err(|error| format!("--grace {text:?}: {error}"))?;
            }
            option if option.starts_with('-') => {
                return Err(format!("{option:?} is not an option; --help tells which there are"));
            }
            _ => programs.push(argument),
        }
    }
    if programs.is_empty() {
        Err("no program; --help tells how to name them".to_owned())
    } else {
        Ok(Some((programs, grace)))
    }
}

fn main() -> ExitCode {
    let (programs, grace) = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("pipeline: {error}");
            return ExitCode::from(2);
        }
    };
    match aioli::run(pipeline(programs, grace)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("pipeline: {error}");
            ExitCode::FAILURE
        }
    }
}
