//! Talking to processes: `communicate`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use aioli_core::{create_task, gather, sleep};
use aioli_io::{DEVNULL, PIPE, STDOUT, create_subprocess_exec};

use super::super::net::support::settle;
use super::{NO_ARGS, sh, until_ended};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "processes" in process_talk as __cases_process_talk;
    k1_communicate_feeds_and_reads_and_waits: "SP5"
        = "test_subprocess::SubprocessMixin::test_communicate";
    without_input_the_standard_input_ends_at_once: "SP5"
        = "test_subprocess::SubprocessMixin::test_communicate_none_input",
          "test_subprocess::SubprocessMixin::test_empty_input";
    what_is_no_pipe_is_nothing: "SP5"
        = "test_subprocess::SubprocessMixin::test_devnull_input",
          "test_subprocess::SubprocessMixin::test_devnull_output",
          "test_subprocess::SubprocessMixin::test_devnull_error",
          "test_subprocess::SubprocessMixin::test_devstdin_input";
    several_talks_at_once: "SP5"
        = "test_subprocess::SubprocessMixin::test_subprocess_communicate_stdout";
    both_outputs_and_the_input_at_once: "SP5";
    k12_the_error_output_goes_where_the_output_goes: "SP7"
        = "test_events::SubprocessTestsMixin::test_subprocess_stderr_redirect_to_stdout";
    the_ends_of_the_pipes_are_closed_in_other_children: "SP5 SP7"
        = "test_subprocess::SubprocessMixin::test_stdin_not_inheritable";
    k4_a_process_that_does_not_read_is_no_error: "SP5"
        = "test_subprocess::SubprocessMixin::test_communicate_ignore_broken_pipe";
    communicate_waits_for_the_ends_of_the_pipes_too: "SP3 SP5";
    k5_cancelling_communicate_leaves_the_process_and_what_it_wrote: "SP5 L3 L4";
    talking_again_gives_the_rest: "SP5";
}

fn k1_communicate_feeds_and_reads_and_waits(on: &Machine) {
    on.processes(|| async {
        let process = sh("cat; exit 3").stdin(PIPE).stdout(PIPE).await?;
        let (stdout, stderr) = process.communicate("some data").await?;
        assert_eq!((stdout.as_deref(), stderr), (Some(&b"some data"[..]), None));
        assert_eq!(process.returncode(), Some(3));
        assert!(process.stderr.is_none());
        Ok(())
    });
}

fn without_input_the_standard_input_ends_at_once(on: &Machine) {
    on.processes(|| async {
        let process = create_subprocess_exec("wc", ["-c"]).stdin(PIPE).stdout(PIPE).stderr(PIPE).await?;
        let (stdout, stderr) = process.communicate("").await?;
        assert_eq!((stdout.as_deref(), stderr.as_deref()), (Some(&b"0\n"[..]), Some(&b""[..])));
        assert_eq!(process.wait().await?, 0);
        Ok(())
    });
}

fn what_is_no_pipe_is_nothing(on: &Machine) {
    on.processes(|| async {
        let count = || create_subprocess_exec("wc", ["-c"]);
        let process = count().stdin(DEVNULL).stdout(PIPE).stderr(PIPE).await?;
        assert_eq!(process.communicate("").await?.0.unwrap(), "0\n");
        let process = count().stdin(PIPE).stdout(DEVNULL).stderr(PIPE).await?;
        let (stdout, stderr) = process.communicate("abc").await?;
        assert_eq!((stdout, stderr.as_deref()), (None, Some(&b""[..])));
        assert_eq!(process.returncode(), Some(0));
        let process = count().stdin(PIPE).stdout(PIPE).stderr(DEVNULL).await?;
        let (stdout, stderr) = process.communicate("abc").await?;
        assert_eq!((stdout.as_deref(), stderr), (Some(&b"3\n"[..]), None));
        // The pipe has a name that can be opened.
        let process = count().arg("/dev/stdin").stdin(PIPE).stdout(PIPE).await?;
        assert_eq!(process.communicate("abc").await?.0.unwrap(), "3 /dev/stdin\n");
        // What is to be written goes nowhere.
        let process = sh("exit 4").await?;
        assert_eq!(process.communicate("abc").await?, (None, None));
        assert_eq!(process.returncode(), Some(4));
        Ok(())
    });
}

fn several_talks_at_once(on: &Machine) {
    on.processes(|| async {
        let talk = |n: u32| async move {
            let process = create_subprocess_exec("echo", [format!("foo{n}")]).stdout(PIPE).await?;
            Ok(process.communicate("").await?.0.unwrap())
        };
        let said = gather((0..10).map(talk).collect::<Vec<_>>()).await?;
        for (n, said) in said.iter().enumerate() {
            assert_eq!(*said, format!("foo{n}\n"));
        }
        Ok(())
    });
}

fn both_outputs_and_the_input_at_once(on: &Machine) {
    on.processes(|| async {
        let script = "head -c 1000000 /dev/zero >&2; cat";
        let process = sh(script).stdin(PIPE).stdout(PIPE).stderr(PIPE).await?;
        let input: Vec<u8> = (0..1_000_000u32).map(|n| (n / 3) as u8).collect();
        let (stdout, stderr) = process.communicate(&input).await?;
        assert!(stdout.unwrap() == input);
        assert_eq!(stderr.unwrap().len(), 1_000_000);
        assert_eq!(process.returncode(), Some(0));
        Ok(())
    });
}

fn k12_the_error_output_goes_where_the_output_goes(on: &Machine) {
    on.processes(|| async {
        let echo = "read x; printf OUT:$x; printf ERR:$x >&2";
        let process = sh(echo).stdin(PIPE).stdout(PIPE).stderr(STDOUT).await?;
        assert!(process.stdout.is_some() && process.stderr.is_none());
        let (stdout, stderr) = process.communicate("test\n").await?;
        assert_eq!((stdout.as_deref(), stderr), (Some(&b"OUT:testERR:test"[..]), None));
        assert_eq!(process.returncode(), Some(0));
        let process = sh("echo a; echo b >&2").stdout(DEVNULL).stderr(STDOUT).await?;
        assert_eq!(process.communicate("").await?, (None, None));
        Ok(())
    });
}

fn the_ends_of_the_pipes_are_closed_in_other_children(on: &Machine) {
    on.processes(|| async {
        let process = create_subprocess_exec("wc", ["-c"]).stdin(PIPE).stdout(PIPE).stderr(PIPE).await?;
        // It would hold the input of the first one open.
        let other = create_subprocess_exec("sleep", ["100"]).stdin(PIPE).stdout(PIPE).kill_on_drop(true).await?;
        assert_eq!(process.communicate("abc").await?.0.unwrap(), "3\n");
        assert_eq!(process.returncode(), Some(0));
        assert_eq!(other.returncode(), None);
        Ok(())
    });
}

fn k4_a_process_that_does_not_read_is_no_error(on: &Machine) {
    on.processes(|| async {
        let process = sh("sleep 0.03").stdin(PIPE).stdout(PIPE).await?;
        until_ended(process.pid());
        assert_eq!(process.communicate(vec![b'x'; 1_000_000]).await?.0.unwrap(), "");
        // Also if it ends in the middle.
        let process = create_subprocess_exec("head", ["-c", "3"]).stdin(PIPE).stdout(PIPE).await?;
        assert_eq!(process.communicate(vec![b'x'; 1_000_000]).await?.0.unwrap(), "xxx");
        assert_eq!(process.wait().await?, 0);
        Ok(())
    });
}

fn communicate_waits_for_the_ends_of_the_pipes_too(on: &Machine) {
    on.processes(|| async {
        let began = Instant::now();
        let process = sh("(sleep 0.1; echo late) & echo early; exit 7").stdout(PIPE).await?;
        let (stdout, _) = process.communicate("").await?;
        assert_eq!(stdout.unwrap(), "early\nlate\n");
        assert!(began.elapsed() >= Duration::from_millis(100));
        assert_eq!(process.returncode(), Some(7));
        Ok(())
    });
}

fn k5_cancelling_communicate_leaves_the_process_and_what_it_wrote(on: &Machine) {
    on.processes(|| async {
        let process = Rc::new(sh("echo start; exec sleep 100").stdout(PIPE).await?);
        let talking = Rc::clone(&process);
        let task = create_task(async move { talking.communicate("").await });
        sleep(Duration::from_millis(30)).await?;
        task.cancel(None);
        assert!((&task).await.unwrap_err().is_cancelled());
        assert_eq!(process.returncode(), None);
        assert_eq!(process.stdout.as_ref().unwrap().readline().await?, "start\n");
        process.kill()?;
        assert_eq!(process.wait().await?, -9);
        Ok(())
    });
}

fn talking_again_gives_the_rest(on: &Machine) {
    on.processes(|| async {
        let process = create_subprocess_exec("cat", NO_ARGS).stdin(PIPE).stdout(PIPE).await?;
        let (stdin, stdout) = (process.stdin.as_ref().unwrap(), process.stdout.as_ref().unwrap());
        stdin.write(b"one ")?;
        assert_eq!(stdout.readexactly(4).await?, "one ");
        assert_eq!(process.communicate("two").await?.0.unwrap(), "two");
        settle().await?;
        assert_eq!(process.communicate("three").await?.0.unwrap(), "");
        Ok(())
    });
}
