//! Child processes. The letters with numbers are those of the traces that CPython 3.13 printed for the same program.

pub(super) mod ends;
pub(super) mod pipes;
pub(super) mod start;
pub(super) mod talk;

use std::io::{self, PipeWriter};
use std::time::Duration;

use aioli_core::{Error, Result, timeout};
use aioli_io::{CreateSubprocess, Process, StreamReader, connect_read_pipe, create_subprocess_shell};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::net::support::settle;

const NO_ARGS: [&str; 0] = [];
const ESRCH: i32 = 3;

fn sh(command: &str) -> CreateSubprocess {
    create_subprocess_shell(command)
}

fn errno(error: &Error) -> Option<i32> {
    error.as_io().and_then(io::Error::raw_os_error)
}

/// A process that ends with a code when what comes with it is dropped.
async fn held(code: u8) -> Result<(Process, PipeWriter)> {
    let (end, start) = io::pipe()?;
    Ok((sh(&format!("cat >/dev/null; exit {code}")).stdin(end).await?, start))
}

/// Whether a process is there, as a zombie or alive.
fn exists(pid: u32) -> bool {
    std::fs::exists(format!("/proc/{pid}")).unwrap()
}

/// Whether a process has ended, and nobody has taken its exit status yet.
fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Waits, with the whole thread, until a process has ended. The loop cannot learn of it meanwhile.
fn until_ended(pid: u32) {
    while exists(pid) && !is_zombie(pid) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until nothing is left of a process.
async fn gone(pid: u32) -> Result<()> {
    timeout(Duration::from_secs(10), async {
        while exists(pid) {
            settle().await?;
        }
        Ok(())
    })
    .await
}

/// A stream that ends when everybody has ended who was given the other end of it.
async fn lifeline() -> Result<(StreamReader, PipeWriter)> {
    let (end, held) = io::pipe()?;
    Ok((connect_read_pipe(end).await?, held))
}

/// Takes the exit status of a child in front of the loop.
fn reap(pid: u32) {
    waitpid(Pid::from_raw(pid as i32), WaitOptions::empty()).unwrap();
}
