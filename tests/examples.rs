//! Each example prints what the same program prints in CPython's asyncio.
//!
//! `examples/expected` holds what CPython 3.13 prints. The examples are compared with it, and so are the Python programs
//! beside them, where there is a `python3.13`; both in virtual time.

use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

/// What the running example has printed, on any thread.
static PRINTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn print(line: String) {
    PRINTED.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

/// Takes the place of std's in the examples below.
macro_rules! println {
    ($($argument:tt)*) => { crate::print(format!($($argument)*)) };
}

macro_rules! examples {
    ($($name:ident),* $(,)?) => {
        #[path = "../examples"]
        mod examples {
            $(#[allow(dead_code, reason = "its main is not used here")] pub mod $name;)*
        }

        mod in_rust {
            $(#[test] fn $name() { super::prints_as_expected(stringify!($name), super::examples::$name::example()); })*
        }

        mod in_python {
            $(#[test] fn $name() { super::python_prints_as_expected(stringify!($name)); })*
        }

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

examples! {
    cancel_busy,
    cancel_swallowed,
    concurrent_sleeps,
    errors,
    fire_and_forget,
    future_set_by_task,
    gather,
    gather_cancelled,
    nested_run,
    results_in_await_order,
    sequential_awaits,
    shield_under_wait_for,
    task_inspection,
    threads,
    wait_for,
}

fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

fn expected(name: &str) -> String {
    let file = path(&format!("examples/expected/{name}.txt"));
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[track_caller]
fn prints_as_expected(name: &str, example: impl Future<Output = aioli::Result<()>> + 'static) {
    /// One example at a time, since all print to the same place.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);

    let ended = aioli_exec_sim::run(example);
    let printed = std::mem::take(&mut *PRINTED.lock().unwrap_or_else(PoisonError::into_inner));
    assert_eq!(printed, expected(name).lines().collect::<Vec<_>>());
    ended.unwrap();
}

/// A call of CPython 3.13. Where pyenv keeps several versions, it has to be told which.
fn python() -> Command {
    let mut command = Command::new("python3.13");
    command.env("PYENV_VERSION", "3.13");
    command
}

static PYTHON_IS_HERE: LazyLock<bool> = LazyLock::new(|| {
    let here = python().arg("--version").output().is_ok_and(|run| run.status.success());
    if !here {
        // Past the test harness, which would keep it to itself.
        let _ = writeln!(io::stderr(), "skipped: the comparison with CPython needs python3.13, which is not found");
    }
    here
});

#[track_caller]
fn python_prints_as_expected(name: &str) {
    if !*PYTHON_IS_HERE {
        return;
    }
    let program = path(&format!("examples/python/{name}.py"));
    let run = python().arg(path("tests/virtual_time.py")).arg(program).output().unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && errors.is_empty(), "{errors}");
    let printed = String::from_utf8_lossy(&run.stdout);
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected(name).lines().collect::<Vec<_>>());
}

#[test]
fn every_example_is_compared() {
    let mut files: Vec<_> = fs::read_dir(path("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| file.file_stem().unwrap().to_string_lossy().into_owned())
        // Some have tests of their own, and what the kernel grants is no concern of Python's.
        .filter(|name| !["chat", "pipeline", "supervisor", "backends"].contains(&&**name))
        .collect();
    files.sort();
    assert_eq!(files, NAMES);
}
