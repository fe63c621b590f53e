//! The streams of a process.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use aioli_core::{Error, ErrorKind, Result, create_task, gather, sleep, timeout};
use aioli_io::{PIPE, StreamReader, create_subprocess_exec};

use super::super::net::support::{Log, settle};
use super::{NO_ARGS, sh};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "processes" in process_pipes as __cases_process_pipes;
    what_is_written_comes_back: "SP3"
        = "test_events::SubprocessTestsMixin::test_subprocess_exec",
          "test_events::SubprocessTestsMixin::test_subprocess_interactive",
          "test_subprocess::SubprocessMixin::test_stdin_stdout";
    a_shell_with_all_pipes: "SP3"
        = "test_events::SubprocessTestsMixin::test_subprocess_shell",
          "test_events::SubprocessTestsMixin::test_subprocess_stderr";
    k9_each_stream_has_its_data_and_then_its_end: "SP3"
        = "test_subprocess::SubprocessMixin::test_subprocess_protocol_events";
    the_exit_may_be_known_before_the_data_is_read: "SP3"
        = "test_subprocess::SubprocessMixin::test_read_stdout_after_process_exit";
    an_output_that_nobody_reads_any_more_is_broken_for_the_process: "SP3"
        = "test_events::SubprocessTestsMixin::test_subprocess_close_client_stream";
    k4_an_input_that_nobody_reads_any_more_fails: "SP3 ST7"
        = "test_subprocess::SubprocessMixin::test_stdin_broken_pipe";
    the_limit_is_that_of_both_readers: "SP7 ST1";
    more_than_the_limit_holds_up_the_process: "SP7 ST1"
        = "test_subprocess::SubprocessMixin::test_pause_reading";
    what_one_program_writes_another_reads: "SP3";
    a_program_that_is_not_read_to_the_end_is_ended_by_its_pipe: "SP2 SP3";
}

fn what_is_written_comes_back(on: &Machine) {
    on.processes(|| async {
        let mut process = create_subprocess_exec("cat", NO_ARGS).stdin(PIPE).stdout(PIPE).stderr(PIPE).await?;
        let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        stdin.write(b"Python ")?;
        assert_eq!(stdout.read(100).await?, "Python ");
        stdin.write(b"The Winner")?;
        stdin.drain().await?;
        assert_eq!(stdout.read(100).await?, "The Winner");
        assert_eq!(process.returncode(), None);
        stdin.write(b"some data")?;
        stdin.close();
        assert_eq!(stdout.read_to_end().await?, "some data");
        assert_eq!(process.wait().await?, 0);
        Ok(())
    });
}

fn a_shell_with_all_pipes(on: &Machine) {
    on.processes(|| async {
        let process = sh("read x; echo OUT:$x; echo ERR:$x >&2").stdin(PIPE).stdout(PIPE).stderr(PIPE).await?;
        process.stdin.as_ref().unwrap().write(b"test\n")?;
        assert_eq!(process.stdout.as_ref().unwrap().read_to_end().await?, "OUT:test\n");
        assert_eq!(process.stderr.as_ref().unwrap().read_to_end().await?, "ERR:test\n");
        assert_eq!(process.wait().await?, 0);
        let process = sh("echo Python").stdin(PIPE).stdout(PIPE).stderr(PIPE).await?;
        process.stdin.as_ref().unwrap().close();
        assert_eq!(process.stdout.as_ref().unwrap().read_to_end().await?, "Python\n");
        assert_eq!(process.stderr.as_ref().unwrap().read_to_end().await?, "");
        assert_eq!(process.wait().await?, 0);
        Ok(())
    });
}

fn k9_each_stream_has_its_data_and_then_its_end(on: &Machine) {
    on.processes(|| async {
        let mut process = sh("printf stdout; printf stderr >&2").stdout(PIPE).stderr(PIPE).await?;
        let log = Log::default();
        let follow = |name: &'static str, stream: StreamReader| {
            let log = log.clone();
            create_task(async move {
                loop {
                    let data = stream.read(100).await?;
                    log.add(&format!("{name}:{}", String::from_utf8_lossy(&data)));
                    if data.is_empty() {
                        return Ok(());
                    }
                }
            })
        };
        let followers = [follow("1", process.stdout.take().unwrap()), follow("2", process.stderr.take().unwrap())];
        let ended = process.wait().await?;
        gather(followers).await?;
        assert_eq!(ended, 0);
        let events = log.take();
        for (name, data) in [("1", "1:stdout"), ("2", "2:stderr")] {
            let of_stream: Vec<_> = events.iter().filter(|event| event.starts_with(name)).collect();
            assert_eq!(of_stream.len(), 2, "{events:?}");
            assert!(of_stream[0].starts_with(data) && of_stream[1].starts_with(&format!("{name}:@")), "{events:?}");
        }
        Ok(())
    });
}

fn the_exit_may_be_known_before_the_data_is_read(on: &Machine) {
    on.processes(|| async {
        let process = sh("head -c 40000 /dev/zero; exit 1").stdout(PIPE).await?;
        assert_eq!(process.wait().await?, 1);
        let stdout = process.stdout.as_ref().unwrap();
        let mut count = 0;
        while !stdout.at_eof() {
            count += stdout.read(4096).await?.len();
        }
        assert_eq!(count, 40_000);

        let process = sh("head -c 262144 /dev/zero; exit 1").stdout(PIPE).await?;
        let (stdout, mut count) = (process.stdout.as_ref().unwrap(), 0);
        loop {
            let data = stdout.read(65_536).await?;
            if data.is_empty() {
                break;
            }
            count += data.len();
            sleep(Duration::from_millis(2)).await?;
        }
        assert_eq!(count, 262_144);
        assert_eq!(process.wait().await?, 1);
        Ok(())
    });
}

fn an_output_that_nobody_reads_any_more_is_broken_for_the_process(on: &Machine) {
    on.processes(|| async {
        // As long as another thread is starting a program, that may have the pipe, too.
        let script = "trap '' PIPE; read x; echo OUT:$x; read y; while echo $y 2>/dev/null; do sleep 0.01; done; \
                      echo ERR:broken >&2; exec sleep 100";
        let mut process = sh(script).stdin(PIPE).stdout(PIPE).stderr(PIPE).kill_on_drop(true).await?;
        let stdin = process.stdin.take().unwrap();
        let stdout = process.stdout.take().unwrap();
        stdin.write(b"test\n")?;
        assert_eq!(stdout.readline().await?, "OUT:test\n");
        drop(stdout);
        stdin.write(b"xxx\n")?;
        assert_eq!(process.stderr.as_ref().unwrap().readline().await?, "ERR:broken\n");
        process.kill()?;
        assert_eq!(process.wait().await?, -9);
        Ok(())
    });
}

fn k4_an_input_that_nobody_reads_any_more_fails(on: &Machine) {
    on.processes(|| async {
        let broken = |error: Error| {
            let kind = error.as_io().unwrap().kind();
            assert!(matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
        };
        // It ends before it has read all.
        let process = sh("exec sleep 0.03").stdin(PIPE).await?;
        let stdin = process.stdin.as_ref().unwrap();
        stdin.write(&vec![b'x'; 1_000_000])?;
        broken(stdin.drain().await.unwrap_err());
        assert_eq!(process.wait().await?, 0);
        // It closes its end early.
        let process = sh("exec <&-; sleep 0.2").stdin(PIPE).await?;
        let stdin = process.stdin.as_ref().unwrap();
        let writing = async {
            for _ in 0..50 {
                stdin.write(&[b'x'; 65_536])?;
                stdin.drain().await?;
                settle().await?;
            }
            Ok(())
        };
        broken(writing.await.unwrap_err());
        assert_eq!(process.wait().await?, 0);
        Ok(())
    });
}

fn the_limit_is_that_of_both_readers(on: &Machine) {
    on.processes(|| async {
        let text = "x".repeat(100);
        let process = sh(&format!("printf {text}; printf {text} >&2")).stdout(PIPE).stderr(PIPE).limit(10).await?;
        for stream in [&process.stdout, &process.stderr] {
            let error = stream.as_ref().unwrap().readline().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Value);
        }
        process.communicate("").await?;
        Ok(())
    });
}

fn more_than_the_limit_holds_up_the_process(on: &Machine) {
    on.processes(|| async {
        let script = "head -c 1000000 /dev/zero; echo done >&2";
        let process = sh(script).stdin(PIPE).stdout(PIPE).stderr(PIPE).limit(10).await?;
        let stderr = process.stderr.as_ref().unwrap();
        assert!(timeout(Duration::from_millis(30), stderr.read(1)).await.unwrap_err().is_timeout());
        let (stdout, stderr) = process.communicate("").await?;
        assert_eq!(stdout.unwrap().len(), 1_000_000);
        assert_eq!(stderr.unwrap(), "done\n");
        Ok(())
    });
}

fn what_one_program_writes_another_reads(on: &Machine) {
    on.processes(|| async {
        let first = Rc::new(sh("seq 1 5000").stdout(PIPE).await?);
        let second = create_subprocess_exec("sort", ["-n", "-r"]).stdin(PIPE).stdout(PIPE).await?;
        let from = Rc::clone(&first);
        let copying = async {
            let (from, to) = (from.stdout.as_ref().unwrap(), second.stdin.as_ref().unwrap());
            loop {
                let data = from.read(4096).await?;
                if data.is_empty() {
                    to.close();
                    return Ok::<_, Error>(());
                }
                to.write(&data)?;
                to.drain().await?;
            }
        };
        let ((), sorted) = futures::try_join!(copying, second.stdout.as_ref().unwrap().read_to_end())?;
        let expected: String = (1..=5000).rev().map(|n| format!("{n}\n")).collect();
        assert!(sorted == expected.as_bytes());
        assert_eq!((first.wait().await?, second.wait().await?), (0, 0));
        Ok(())
    });
}

fn a_program_that_is_not_read_to_the_end_is_ended_by_its_pipe(on: &Machine) {
    on.processes(|| async {
        let mut yes = create_subprocess_exec("yes", NO_ARGS).stdout(PIPE).await?;
        let head = create_subprocess_exec("head", ["-n", "3"]).stdin(PIPE).stdout(PIPE).await?;
        let copying = async {
            let (from, to) = (yes.stdout.as_ref().unwrap(), head.stdin.as_ref().unwrap());
            loop {
                to.write(&from.read(65_536).await?)?;
                to.drain().await?;
            }
        };
        let error: Result<()> = copying.await;
        assert!(error.unwrap_err().as_io().is_some());
        assert_eq!(head.communicate("").await?.0.unwrap(), "y\ny\ny\n");
        drop(yes.stdout.take());
        // SIGPIPE.
        assert_eq!(yes.wait().await?, -13);
        Ok(())
    });
}
