//! Streams over pipes, FIFOs and terminals.

mod common;

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use aioli_core::{ErrorKind, Result, create_task, get_running_loop, timeout};
use aioli_io::{StreamReader, StreamWriter, connect_read_pipe, connect_write_pipe, create_subprocess_exec};
use common::{alone, leaves_nothing, run, run_exact, settle, turn};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

async fn pair() -> Result<(StreamReader, StreamWriter)> {
    let (end, start) = io::pipe()?;
    Ok((connect_read_pipe(end).await?, connect_write_pipe(start).await?))
}

fn kind(error: &aioli_core::Error) -> io::ErrorKind {
    error.as_io().expect("an error of the operating system").kind()
}

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

/// A FIFO, which is removed at the end.
struct Fifo(PathBuf);

impl Fifo {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aioli-fifo-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        Fifo(path)
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn bytes_come_through_and_then_the_end() {
    run(|| async {
        let (reader, writer) = pair().await?;
        let data: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        let expected = data.clone();
        let writing = create_task(async move {
            for chunk in data.chunks(50_000) {
                writer.write(chunk)?;
                writer.drain().await?;
            }
            writer.close();
            writer.wait_closed().await
        });
        assert!(reader.read_to_end().await? == expected);
        assert!(reader.at_eof());
        writing.await
    });
}

#[test]
fn connecting_takes_two_turns() {
    run_exact(|| async {
        let (end, start) = io::pipe()?;
        let before = turn();
        let _reader = connect_read_pipe(end).await?;
        assert_eq!(turn() - before, 2);
        let _writer = connect_write_pipe(start).await?;
        assert_eq!(turn() - before, 4);
        Ok(())
    });
}

#[test]
fn the_end_comes_one_turn_after_it_is_seen() {
    run_exact(|| async {
        let (end, mut start) = io::pipe()?;
        let reader = connect_read_pipe(end).await?;
        start.write_all(b"abc")?;
        assert_eq!(reader.read(10).await?, "abc");
        let before = turn();
        drop(start);
        assert_eq!(reader.read(10).await?, "");
        // As CPython 3.13: seen in the first, told in the second, and read in the third.
        assert_eq!(turn() - before, 3);
        assert!(reader.transport().is_closing());
        Ok(())
    });
}

#[test]
fn writing_pauses_and_goes_on() {
    run(|| async {
        let (mut end, start) = io::pipe()?;
        let writer = connect_write_pipe(start).await?;
        writer.write(&vec![b'x'; 300_000])?;
        assert!(writer.transport().get_write_buffer_size() > 65_536);
        let drain = timeout(Duration::from_millis(20), writer.drain()).await;
        assert!(drain.unwrap_err().is_timeout());
        let reading = get_running_loop()?.run_in_executor(None, move || {
            let mut data = vec![0; 300_000];
            end.read_exact(&mut data)?;
            Ok((end, data))
        });
        writer.drain().await?;
        let (_end, data) = reading.await?;
        assert!(data.iter().all(|byte| *byte == b'x'));
        Ok(())
    });
}

#[test]
fn reading_pauses_beyond_the_limit() {
    run(|| async {
        let (end, start) = io::pipe()?;
        let reader = connect_read_pipe(end).limit(16).await?;
        let writer = connect_write_pipe(start).await?;
        for _ in 0..10 {
            writer.write(&[b'y'; 20_000])?;
        }
        settle().await?;
        assert!(!reader.transport().is_reading());
        assert!(writer.transport().get_write_buffer_size() > 0);
        assert_eq!(reader.readexactly(200_000).await?.len(), 200_000);
        assert_eq!(writer.transport().get_write_buffer_size(), 0);
        Ok(())
    });
}

#[test]
fn a_reader_that_is_gone_closes_an_idle_writer() {
    run(|| async {
        let (end, start) = io::pipe()?;
        let writer = connect_write_pipe(start).await?;
        drop(end);
        settle().await?;
        assert!(writer.is_closing());
        writer.wait_closed().await?;
        // Written to nobody.
        writer.write(b"more")?;
        let error = writer.drain().await.unwrap_err();
        assert_eq!(kind(&error), io::ErrorKind::ConnectionReset);
        Ok(())
    });
}

#[test]
fn a_reader_that_is_gone_breaks_a_writer_with_data() {
    run(|| async {
        let (end, start) = io::pipe()?;
        let writer = connect_write_pipe(start).await?;
        writer.write(&vec![0; 200_000])?;
        let draining = async {
            let error = writer.drain().await.unwrap_err();
            assert_eq!(kind(&error), io::ErrorKind::BrokenPipe);
            Ok(())
        };
        let closing = async {
            settle().await?;
            drop(end);
            Ok(())
        };
        let (drained, closed): (Result<()>, Result<()>) = futures::join!(draining, closing);
        drained?;
        closed?;
        let error = writer.wait_closed().await.unwrap_err();
        assert_eq!(kind(&error), io::ErrorKind::BrokenPipe);
        Ok(())
    });
}

#[test]
fn a_reader_that_is_gone_at_once_breaks_the_next_write() {
    run(|| async {
        let (end, start) = io::pipe()?;
        let writer = connect_write_pipe(start).await?;
        drop(end);
        writer.write(b"x")?;
        assert!(writer.wait_closed().await.is_err_and(|error| kind(&error) == io::ErrorKind::BrokenPipe));
        Ok(())
    });
}

#[test]
fn write_eof_sends_what_was_written_and_closes() {
    run(|| async {
        let (reader, writer) = pair().await?;
        assert!(writer.can_write_eof());
        writer.write(&vec![b'z'; 500_000])?;
        writer.write_eof();
        assert!(writer.is_closing());
        assert_eq!(writer.write(b"more").unwrap_err().kind(), ErrorKind::Runtime);
        assert_eq!(reader.read_to_end().await?.len(), 500_000);
        writer.wait_closed().await
    });
}

#[test]
fn a_cancelled_read_loses_nothing() {
    run(|| async {
        let (reader, writer) = pair().await?;
        for n in 0..50u8 {
            let late = timeout(Duration::ZERO, reader.readexactly(2)).await;
            assert!(late.is_err());
            writer.write(&[n])?;
            settle().await?;
            let late = timeout(Duration::ZERO, reader.readexactly(2)).await;
            assert!(late.is_err());
            writer.write(&[n])?;
            assert_eq!(reader.readexactly(2).await?, [n, n][..]);
        }
        Ok(())
    });
}

#[test]
fn other_files_are_refused() {
    run(|| async {
        let file = || File::open("/proc/self/exe");
        let error = connect_read_pipe(file()?).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().ends_with("and this is a regular file"), "{error}");
        assert_eq!(connect_write_pipe(file()?).await.unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(connect_read_pipe(File::open("/")?).await.unwrap_err().kind(), ErrorKind::Value);
        let (end, _start) = io::pipe()?;
        assert_eq!(connect_read_pipe(end).limit(0).await.unwrap_err().kind(), ErrorKind::Value);
        Ok(())
    });
}

#[test]
fn the_wrong_end_is_an_error() {
    run(|| async {
        let (end, start) = io::pipe()?;
        assert!(connect_read_pipe(start).await.unwrap_err().as_io().is_some());
        assert!(connect_write_pipe(end).await.unwrap_err().as_io().is_some());
        Ok(())
    });
}

#[test]
fn character_devices() {
    run(|| async {
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

#[test]
fn a_fifo_by_its_name() {
    run(|| async {
        let fifo = Fifo::new("name");
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

#[test]
fn a_socket_is_a_pipe_too() {
    run(|| async {
        let (a, b) = UnixStream::pair()?;
        let reader = connect_read_pipe(OwnedFd::from(a)).await?;
        let writer = connect_write_pipe(OwnedFd::from(b)).await?;
        writer.write(b"ciao\n")?;
        assert_eq!(reader.readline().await?, "ciao\n");
        drop(reader);
        settle().await?;
        assert!(writer.is_closing());
        Ok(())
    });
}

#[test]
fn a_terminal_speaks_line_by_line_and_ends_when_nobody_has_it_open() {
    run(|| async {
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

#[test]
fn the_trace_of_upstream() {
    // O8 of CPython's trace: a write, then the writer closes; and a reader that closes ends both.
    run(|| async {
        let (reader, writer) = pair().await?;
        writer.write(b"abc")?;
        writer.close();
        writer.wait_closed().await?;
        assert_eq!(reader.read(100).await?, "abc");
        assert_eq!(reader.read(100).await?, "");

        let (reader, writer) = pair().await?;
        reader.transport().close();
        settle().await?;
        assert!(writer.is_closing());
        writer.wait_closed().await
    });
}

#[test]
fn pipes_leave_no_descriptor() {
    if !alone("pipes_leave_no_descriptor") {
        return;
    }
    run(|| {
        leaves_nothing(async || {
            let (reader, writer) = pair().await?;
            writer.write(&vec![0; 200_000])?;
            drop(reader);
            drop(writer);
            let (reader, writer) = pair().await?;
            drop(writer);
            drop(reader);
            let (reader, writer) = pair().await?;
            writer.write(b"x")?;
            let reading = create_task(async move { reader.read_to_end().await });
            settle().await?;
            reading.cancel(None);
            settle().await?;
            assert!(writer.is_closing());
            let (end, start) = io::pipe()?;
            create_task(connect_read_pipe(end)).cancel(None);
            drop(connect_write_pipe(start));
            let (end, start): (PipeReader, PipeWriter) = io::pipe()?;
            let connecting = create_task(connect_read_pipe(end));
            let other = create_task(connect_write_pipe(start));
            aioli_core::sleep(0.0).await?;
            connecting.cancel(None);
            other.cancel(None);
            assert!(connect_read_pipe(File::open("/")?).await.is_err());
            settle().await
        })
    });
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
