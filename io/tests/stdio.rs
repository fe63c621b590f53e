//! The standard streams of the program. Each test runs the program of the tests as a child that echoes lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use aioli_io::{open_stderr, open_stdin, open_stdout};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const CHILD: &str = "AIOLI_TEST_CHILD";

/// What the child does: echoes every line, until the end.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    aioli_exec_single::run(async {
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
    })
    .unwrap();
}

fn command() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(CHILD, "1").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

/// Reads the echo of a line.
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

#[test]
fn pipes_stay_blocking_for_others() {
    let (input, mut to_child) = io::pipe().unwrap();
    let (from_child, output) = io::pipe().unwrap();
    let (shared_input, shared_output) = (input.try_clone().unwrap(), output.try_clone().unwrap());
    let mut child = command().stdin(input).stdout(output).stderr(Stdio::piped()).spawn().unwrap();
    let mut from_child = BufReader::new(from_child);
    for n in 0..10 {
        writeln!(to_child, "line {n}").unwrap();
        expect(&mut from_child, &format!("line {n}"));
        assert!(!is_nonblocking(&shared_input) && !is_nonblocking(&shared_output));
    }
    drop(to_child);
    assert!(child.wait().unwrap().success());
    let mut errors = String::new();
    child.stderr.unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(errors, "the end\n");
}

#[test]
fn a_terminal_stays_blocking_for_others() {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut modes = rustix::termios::tcgetattr(&theirs).unwrap();
    modes.local_modes -= rustix::termios::LocalModes::ECHO;
    rustix::termios::tcsetattr(&theirs, rustix::termios::OptionalActions::Now, &modes).unwrap();
    let end = |file: &File| Stdio::from(file.try_clone().unwrap());
    let mut child = command().stdin(end(&theirs)).stdout(end(&theirs)).stderr(end(&theirs)).spawn().unwrap();
    let mut to_child = File::from(ours);
    let mut from_child = BufReader::new(to_child.try_clone().unwrap());
    for n in 0..10 {
        writeln!(to_child, "line {n}").unwrap();
        expect(&mut from_child, &format!("line {n}"));
        assert!(!is_nonblocking(&theirs));
    }
    // Ctrl-D.
    to_child.write_all(&[4]).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_socket_is_blocking_again_at_the_end() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let end = || Stdio::from(OwnedFd::from(theirs.try_clone().unwrap()));
    let mut child = command().stdin(end()).stdout(end()).spawn().unwrap();
    let mut from_child = BufReader::new(ours.try_clone().unwrap());
    writeln!(&ours, "line").unwrap();
    expect(&mut from_child, "line");
    assert!(is_nonblocking(&theirs));
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!is_nonblocking(&theirs));
}

#[test]
fn files_and_devices() {
    let path = std::env::temp_dir().join(format!("aioli-stdio-{}", std::process::id()));
    std::fs::write(&path, "one\ntwo\n").unwrap();
    let output = command().stdin(File::open(&path).unwrap()).stdout(Stdio::piped()).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\necho: one\n\necho: two\n"), "{text}");

    let file = File::options().append(true).open(&path).unwrap();
    let mut child = command().stdin(Stdio::piped()).stdout(file).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"three\n").unwrap();
    assert!(child.wait().unwrap().success());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("one\ntwo\n") && text.contains("\necho: three\n"), "{text}");
    std::fs::remove_file(&path).unwrap();

    assert!(command().status().unwrap().success());
}
