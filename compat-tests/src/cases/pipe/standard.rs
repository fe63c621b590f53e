//! The standard streams of the program: a process of its own echoes lines, and this one is at the other ends.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use aioli_io::{open_stderr, open_stdin, open_stdout};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::devices::{Fifo, cooked_terminal};
use super::support::with_pipes;
use crate::case::cases;
use crate::machine::Machine;
use crate::part::was_played;

cases! {
    ($) "pipes" in pipe_standard as __cases_pipe_standard;
    standard_pipes_stay_blocking_for_others: "PI1 PI2";
    a_standard_terminal_stays_blocking_for_others: "PI1";
    a_standard_socket_is_blocking_again_at_the_end: "PI1";
    a_standard_socket_stays_non_blocking_for_its_last_stream: "PI1";
    a_standard_fifo_ends_though_its_writers_are_gone: "PI1";
    standard_streams_may_be_files_and_devices: "PI1";
}

/// This program, as one that echoes every line until the end. `None` where there are no pipes.
fn echo(on: &Machine) -> Option<Command> {
    let on = with_pipes(on)?;
    let mut command = on.part("echo", || {
        let program = async {
            let (input, output, errors) = (open_stdin().await?, open_stdout().await?, open_stderr().await?);
            loop {
                let line = input.readline().await?;
                if line.is_empty() {
                    break;
                }
                output.writelines([&b"\necho: "[..], &line])?;
                output.drain().await?;
            }
            errors.write(b"the end\n")?;
            output.close();
            errors.close();
            output.wait_closed().await?;
            errors.wait_closed().await
        };
        let runner = on.plain_runner();
        runner.run(program).unwrap();
        runner.close().unwrap();
    })?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Some(command)
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

/// Reads the echo of a line, after what the program's harness may have printed.
#[track_caller]
fn expect(from: &mut impl BufRead, line: &str) {
    let mut read = String::new();
    loop {
        read.clear();
        assert!(from.read_line(&mut read).unwrap() > 0, "the end instead of the echo");
        if let Some(echo) = read.strip_prefix("echo: ") {
            return assert_eq!(echo.trim_end(), line);
        }
    }
}

fn standard_pipes_stay_blocking_for_others(on: &Machine) {
    let Some(mut command) = echo(on) else { return };
    let (input, mut to_child) = io::pipe().unwrap();
    let (from_child, output) = io::pipe().unwrap();
    let (shared_input, shared_output) = (input.try_clone().unwrap(), output.try_clone().unwrap());
    let mut child = command.stdin(input).stdout(output).stderr(Stdio::piped()).spawn().unwrap();
    let mut from_child = BufReader::new(from_child);
    for n in 0..10 {
        writeln!(to_child, "line {n}").unwrap();
        expect(&mut from_child, &format!("line {n}"));
        assert!(!is_nonblocking(&shared_input) && !is_nonblocking(&shared_output));
    }
    drop(to_child);
    assert!(was_played(child.wait().unwrap()));
    let mut errors = String::new();
    child.stderr.unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(errors, "the end\n");
}

fn a_standard_terminal_stays_blocking_for_others(on: &Machine) {
    let Some(mut command) = echo(on) else { return };
    let (ours, theirs) = cooked_terminal().unwrap();
    let mut modes = tcgetattr(&theirs).unwrap();
    modes.local_modes -= LocalModes::ECHO;
    tcsetattr(&theirs, OptionalActions::Now, &modes).unwrap();
    let end = |file: &File| Stdio::from(file.try_clone().unwrap());
    let mut child = command.stdin(end(&theirs)).stdout(end(&theirs)).stderr(end(&theirs)).spawn().unwrap();
    let mut to_child = File::from(ours);
    let mut from_child = BufReader::new(to_child.try_clone().unwrap());
    for n in 0..10 {
        writeln!(to_child, "line {n}").unwrap();
        expect(&mut from_child, &format!("line {n}"));
        assert!(!is_nonblocking(&theirs));
    }
    // Ctrl-D.
    to_child.write_all(&[4]).unwrap();
    assert!(was_played(child.wait().unwrap()));
}

fn a_standard_socket_is_blocking_again_at_the_end(on: &Machine) {
    let Some(mut command) = echo(on) else { return };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let end = || Stdio::from(OwnedFd::from(theirs.try_clone().unwrap()));
    let mut child = command.stdin(end()).stdout(end()).spawn().unwrap();
    let mut from_child = BufReader::new(ours.try_clone().unwrap());
    writeln!(&ours, "line").unwrap();
    expect(&mut from_child, "line");
    assert!(is_nonblocking(&theirs));
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(was_played(child.wait().unwrap()));
    assert!(!is_nonblocking(&theirs));
}

fn a_standard_socket_stays_non_blocking_for_its_last_stream(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    let command = on.part("last", || {
        let program = async {
            let (output, input) = (open_stdout().await?, open_stdin().await?);
            output.close();
            output.wait_closed().await?;
            drop(output);
            assert!(is_nonblocking(io::stdin()));
            assert_eq!(input.readline().await?, "line\n");
            Ok(())
        };
        let runner = on.plain_runner();
        runner.run(program).unwrap();
        runner.close().unwrap();
        assert!(!is_nonblocking(io::stdin()));
    });
    let Some(mut command) = command else { return };
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let end = || Stdio::from(OwnedFd::from(theirs.try_clone().unwrap()));
    let mut child = command.stdin(end()).stdout(end()).spawn().unwrap();
    ours.write_all(b"line\n").unwrap();
    assert!(was_played(child.wait().unwrap()));
    assert!(!is_nonblocking(&theirs));
}

fn a_standard_fifo_ends_though_its_writers_are_gone(on: &Machine) {
    let Some(mut command) = echo(on) else { return };
    let fifo = Fifo::new().unwrap();
    let both = File::options().read(true).write(true).open(&fifo.0).unwrap();
    let (input, mut start) = (File::open(&fifo.0).unwrap(), File::options().write(true).open(&fifo.0).unwrap());
    drop(both);
    start.write_all(b"line\n").unwrap();
    drop(start);
    let output = command.stdin(input).stdout(Stdio::piped()).output().unwrap();
    assert!(was_played(output.status));
    expect(&mut &*output.stdout, "line");
}

fn standard_streams_may_be_files_and_devices(on: &Machine) {
    let Some(mut command) = echo(on) else { return };
    let path = std::env::temp_dir().join(format!("aioli-stdio-{}-{:x}", std::process::id(), fastrand::u64(..)));
    std::fs::write(&path, "one\ntwo\n").unwrap();
    let output = command.stdin(File::open(&path).unwrap()).stdout(Stdio::piped()).output().unwrap();
    assert!(was_played(output.status));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\necho: one\n\necho: two\n"), "{text}");

    let file = File::options().append(true).open(&path).unwrap();
    let mut command = echo(on).unwrap();
    let mut child = command.stdin(Stdio::piped()).stdout(file).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"three\n").unwrap();
    assert!(was_played(child.wait().unwrap()));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("one\ntwo\n") && text.contains("\necho: three\n"), "{text}");
    std::fs::remove_file(&path).unwrap();

    assert!(was_played(echo(on).unwrap().status().unwrap()));
}
