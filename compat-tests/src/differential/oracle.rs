//! [`Oracle`]: CPython, which says what is right.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::program::Program;

/// A process of CPython 3.13 that interprets programs.
#[derive(Debug)]
pub struct Oracle {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Oracle {
    /// Starts one. `messages`: its traces have the messages of cancellations.
    ///
    /// # Errors
    /// There is no such program, or it cannot be started.
    pub fn start(python: &Path, messages: bool) -> io::Result<Self> {
        let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/worker.py");
        let mut command = Command::new(python);
        command.arg("-B").arg(worker).stdin(Stdio::piped()).stdout(Stdio::piped());
        if messages {
            command.arg("--messages");
        }
        let mut process = command.spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().map(BufReader::new).ok_or_else(|| broken("it has no output"))?;
        Ok(Oracle { process, input, output })
    }

    /// The traces of some programs, a line of JSON for each.
    ///
    /// # Errors
    /// The process has ended, or an interpreter failed: its message is on stderr.
    pub fn traces<'a>(&mut self, programs: impl ExactSizeIterator<Item = &'a Program>) -> io::Result<Vec<String>> {
        let count = programs.len();
        let mut text = format!("{count}\n");
        for program in programs {
            text.push_str(&program.to_string());
            text.push('\n');
        }
        // It reads all before it writes anything, so that neither waits for the other.
        let input = self.input.as_mut().ok_or_else(|| broken("its input is closed"))?;
        input.write_all(text.as_bytes())?;
        input.flush()?;
        let mut traces = Vec::with_capacity(count);
        for _ in 0..count {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                return Err(broken("it ended before it had answered"));
            }
            line.truncate(line.trim_end().len());
            traces.push(line);
        }
        Ok(traces)
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, format!("the Python interpreter: {what}"))
}

/// The process ends when its input does.
impl Drop for Oracle {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.process.wait();
    }
}

/// A CPython 3.13 on this machine, if there is one: `python3.13`, in the search path or among pyenv's.
pub fn find_python() -> Option<PathBuf> {
    let home = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".pyenv")));
    let installed = home.and_then(|home| std::fs::read_dir(home.join("versions")).ok());
    let installed = installed.into_iter().flatten().flatten().map(|version| version.path().join("bin/python3.13"));
    [PathBuf::from("python3.13")].into_iter().chain(installed).find(|python| is_python(python))
}

fn is_python(python: &Path) -> bool {
    let check = "import sys; sys.exit(sys.version_info[:2] != (3, 13) or sys.implementation.name != 'cpython')";
    let mut command = Command::new(python);
    command.args(["-c", check]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
