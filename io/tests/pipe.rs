//! A Python program on a terminal. It is no case of the conformance suite, where everything about pipes is: it needs a Python.

mod common;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;

use aioli_io::{connect_read_pipe, connect_write_pipe, create_subprocess_exec};
use common::run;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// The two ends of a pseudo-terminal that changes nothing.
fn terminal() -> io::Result<(OwnedFd, File)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap())?;
    let mut modes = rustix::termios::tcgetattr(&theirs)?;
    modes.make_raw();
    rustix::termios::tcsetattr(&theirs, rustix::termios::OptionalActions::Now, &modes)?;
    Ok((ours, theirs))
}

#[test]
fn a_python_child_speaks_line_by_line_over_a_terminal() {
    let program = "import sys\nprint(sys.stdin.isatty(), flush=True)\nfor line in sys.stdin:\n    print(line.strip().upper(), flush=True)\n";
    let Some(python) = ["python3.13", "python3"].into_iter().find(|name| {
        let version = std::process::Command::new(name).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    }) else {
        eprintln!("skipped: there is no Python");
        return;
    };
    run(move || async move {
        let (ours, theirs) = terminal()?;
        let process = create_subprocess_exec(python, ["-c", program])
            .stdin(theirs.try_clone()?)
            .stdout(theirs.try_clone()?)
            .stderr(theirs)
            .kill_on_drop(true)
            .await?;
        let reader = connect_read_pipe(ours.try_clone()?).await?;
        let writer = connect_write_pipe(ours).await?;
        assert_eq!(reader.readline().await?, "True\n");
        for n in 0..20 {
            writer.write(format!("line {n}\n").as_bytes())?;
            assert_eq!(reader.readline().await?, format!("LINE {n}\n"));
        }
        process.terminate()?;
        assert_eq!(process.wait().await?, -15);
        assert_eq!(reader.read_to_end().await?, "");
        Ok(())
    });
}
