//! Ctrl-C with handlers of the program's own beside that of `run`. That one is for main threads, so this program has no test harness:
//! it plays each part in a child of its own.

use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use aioli_core::{ErrorKind, Result, get_running_loop, sleep};
use aioli_exec_single::run;
use aioli_io::{LoopSignals, Signal, signals};
use signal_hook::low_level::raise;

/// How a part ends: with this code, or negative by this signal.
const PARTS: [(&str, fn(), i32); 7] = [
    ("a handler takes the place of the cancellation", diverted, 0),
    ("without the handler Ctrl-C cancels again", removed, 0),
    ("after the run Ctrl-C is deadly", after, -2),
    ("after a run with a handler Ctrl-C is deadly", after_handler, -2),
    ("a second run is cancelled too", second_run, 0),
    ("the second Ctrl-C is deadly", second, -2),
    ("a loop on another thread does not take the place", other_thread, 0),
];

fn main() {
    if let Some(wanted) = std::env::args().nth(1).and_then(|argument| argument.strip_prefix("part ").map(str::to_owned))
    {
        let (_, part, _) = PARTS.iter().find(|(name, ..)| *name == wanted).expect("a part");
        return part();
    }
    for (name, _, expected) in PARTS {
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program).arg(format!("part {name}")).output().unwrap();
        let status = output.status;
        let ended = status.code().unwrap_or_else(|| -status.signal().unwrap());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(ended, expected, "{name}: {errors}");
        println!("{name} ... ok");
    }
}

fn interrupt() {
    raise(Signal::INT.number()).unwrap();
}

async fn settle() -> Result<()> {
    sleep(Duration::from_millis(5)).await
}

/// Whether Ctrl-C cancels the caller.
async fn is_cancelled_by_interrupt() -> bool {
    interrupt();
    match settle().await {
        Ok(()) => false,
        Err(error) => error.is_cancelled(),
    }
}

async fn with_handler() -> Result<()> {
    let event_loop = get_running_loop()?;
    let calls = Rc::new(Cell::new(0));
    let counter = Rc::clone(&calls);
    event_loop.add_signal_handler(Signal::INT, move || counter.set(counter.get() + 1))?;
    for n in 1..=3 {
        assert!(!is_cancelled_by_interrupt().await);
        assert_eq!(calls.get(), n);
    }
    event_loop.remove_signal_handler(Signal::INT);
    let stream = signals([Signal::INT])?;
    for _ in 0..3 {
        assert!(!is_cancelled_by_interrupt().await);
        assert_eq!(stream.recv().await?, Signal::INT);
    }
    Ok(())
}

fn diverted() {
    run(with_handler()).unwrap();
}

fn removed() {
    let result = run(async {
        with_handler().await?;
        interrupt();
        settle().await
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
}

fn after() {
    run(async { Ok(()) }).unwrap();
    interrupt();
}

fn after_handler() {
    run(with_handler()).unwrap();
    interrupt();
}

fn second_run() {
    for _ in 0..3 {
        removed();
    }
}

fn second() {
    let _ = run(async {
        assert!(is_cancelled_by_interrupt().await);
        with_handler().await?;
        // The first has not been answered.
        interrupt();
        settle().await
    });
}

fn other_thread() {
    let result = run(async {
        let (tell, told) = std::sync::mpsc::channel();
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            run(async move {
                let stream = signals([Signal::INT])?;
                tell.send(()).unwrap();
                asked.recv().unwrap();
                assert_eq!(stream.recv().await?, Signal::INT);
                Ok(())
            })
        });
        told.recv().unwrap();
        assert!(is_cancelled_by_interrupt().await);
        ask.send(()).unwrap();
        other.join().unwrap()
    });
    // It was cancelled, and went on.
    result.unwrap();
}
