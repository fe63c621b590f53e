//! Streams over FIFOs, terminals and other character devices.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use aioli_core::{Result, create_task, sleep};
use aioli_io::{connect_read_pipe, connect_write_pipe, create_subprocess_exec};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::support::with_pipes;
use crate::case::cases;
use crate::cases::net::support::settle;
use crate::machine::Machine;

cases! {
    ($) "pipes" in pipe_devices as __cases_pipe_devices;
    character_devices: "PI1";
    a_fifo_by_its_name: "PI1 PI2";
    a_fifo_that_nobody_has_opened_to_write_yet_has_not_ended: "PI1";
    a_terminal_speaks_line_by_line_and_ends_when_nobody_has_it_open: "PI1 PI2"
        = "test_events::EventLoopTestsMixin::test_read_pty_output",
          "test_events::EventLoopTestsMixin::test_write_pty",
          "test_events::EventLoopTestsMixin::test_bidirectional_pty";
    a_program_on_a_terminal_speaks_line_by_line: "PI1 PI2";
}

/// A FIFO, which is removed at the end.
pub(super) struct Fifo(pub(super) PathBuf);

impl Fifo {
    pub(super) fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("aioli-fifo-{}-{:x}", std::process::id(), fastrand::u64(..)));
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
        Ok(Fifo(path))
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The two ends of a pseudo-terminal that changes nothing.
fn terminal() -> io::Result<(OwnedFd, File)> {
    let (ours, theirs) = cooked_terminal()?;
    let mut modes = tcgetattr(&theirs)?;
    modes.make_raw();
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    Ok((ours, theirs))
}

/// The two ends of a pseudo-terminal as they come.
pub(super) fn cooked_terminal() -> io::Result<(OwnedFd, File)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let name = name.to_str().map_err(io::Error::other)?;
    let flags = i32::try_from(OFlags::NOCTTY.bits()).map_err(io::Error::other)?;
    Ok((ours, OpenOptions::new().read(true).write(true).custom_flags(flags).open(name)?))
}

fn character_devices(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let zeros = connect_read_pipe(File::open("/dev/zero")?).limit(100).await?;
        assert_eq!(zeros.readexactly(1_000_000).await?.len(), 1_000_000);
        let nothing = connect_read_pipe(File::open("/dev/null")?).await?;
        assert_eq!(nothing.read(1).await?, "");
        let writer = connect_write_pipe(OpenOptions::new().write(true).open("/dev/null")?).await?;
        writer.write(&vec![0; 1_000_000])?;
        writer.drain().await?;
        writer.close();
        writer.wait_closed().await
    });
}

fn a_fifo_by_its_name(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let fifo = Fifo::new()?;
        // Open for both, it does not wait for another end, and is its own reader.
        let both = OpenOptions::new().read(true).write(true).open(&fifo.0)?;
        let reader = connect_read_pipe(File::open(&fifo.0)?).await?;
        let writer = connect_write_pipe(both).await?;
        for n in 0..20 {
            writer.write(format!("line {n}\n").as_bytes())?;
            settle().await?;
            assert!(!writer.is_closing());
            assert_eq!(reader.readline().await?, format!("line {n}\n"));
        }
        writer.close();
        assert_eq!(reader.read(1).await?, "");
        Ok(())
    });
}

fn a_fifo_that_nobody_has_opened_to_write_yet_has_not_ended(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.run(async {
        let fifo = Fifo::new()?;
        let nonblocking = OFlags::NONBLOCK.bits() as i32;
        let end = OpenOptions::new().read(true).custom_flags(nonblocking).open(&fifo.0)?;
        let reader = connect_read_pipe(end).await?;
        let reading = create_task(async move { Ok((reader.readline().await?, reader.read_to_end().await?)) });
        settle().await?;
        assert!(!reading.done());
        let mut start = OpenOptions::new().write(true).custom_flags(nonblocking).open(&fifo.0)?;
        settle().await?;
        assert!(!reading.done());
        start.write_all(b"line\nrest")?;
        drop(start);
        let (line, rest) = reading.await?;
        assert!(line == "line\n" && rest == "rest");
        Ok(())
    });
}

fn a_terminal_speaks_line_by_line_and_ends_when_nobody_has_it_open(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (ours, theirs) = terminal()?;
        let reader = connect_read_pipe(ours.try_clone()?).await?;
        let writer = connect_write_pipe(ours).await?;
        let their_reader = connect_read_pipe(theirs.try_clone()?).await?;
        let their_writer = connect_write_pipe(theirs).await?;
        for n in 0..20 {
            writer.write(format!("line {n}\n").as_bytes())?;
            assert_eq!(their_reader.readline().await?, format!("line {n}\n"));
            their_writer.write(format!("answer {n}\n").as_bytes())?;
            assert_eq!(reader.readline().await?, format!("answer {n}\n"));
        }
        their_writer.write(b"the last words\n")?;
        their_writer.drain().await?;
        drop((their_reader, their_writer));
        settle().await?;
        assert_eq!(reader.read_to_end().await?, "the last words\n");
        Ok(())
    });
}

fn a_program_on_a_terminal_speaks_line_by_line(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.processes(|| async {
        let (ours, theirs) = terminal()?;
        let script = "test -t 0 && echo ready; while read -r line; do echo \"<$line>\"; done; sleep 100";
        let process = create_subprocess_exec("sh", ["-c", script])
            .stdin(theirs.try_clone()?)
            .stdout(theirs.try_clone()?)
            .stderr(theirs)
            .kill_on_drop(true)
            .await?;
        let reader = connect_read_pipe(ours.try_clone()?).await?;
        let writer = connect_write_pipe(ours).await?;
        assert_eq!(reader.readline().await?, "ready\n");
        for n in 0..20 {
            writer.write(format!("line {n}\n").as_bytes())?;
            assert_eq!(reader.readline().await?, format!("<line {n}>\n"));
        }
        process.terminate()?;
        assert_eq!(process.wait().await?, -15);
        let rest: Result<_> = reader.read_to_end().await;
        assert_eq!(rest?, "");
        sleep(0.0).await
    });
}
