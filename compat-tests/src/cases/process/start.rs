//! Starting processes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aioli_core::{ErrorKind, Result, create_task, sleep, timeout};
use aioli_io::{CreateSubprocess, DEVNULL, PIPE, STDOUT, create_subprocess_exec, create_subprocess_shell};
use fork::Fork;
use futures::poll;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};
use signal_hook::low_level::exit;

use super::super::net::support::{settle, turn};
use super::{NO_ARGS, lifeline, sh};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "processes" in process_start as __cases_process_start;
    k3_a_program_that_is_not_there_or_may_not_be_run_is_an_error_of_the_start: "SP1"
        = "test_subprocess::SubprocessMixin::test_popen_error",
          "test_subprocess::SubprocessMixin::test_popen_error_with_stdin_pipe";
    what_cannot_be_a_command_is_refused: "SP1";
    starts_that_fail_or_are_given_up_leave_nothing: "SP1 SP6";
    a_loop_of_a_forked_child_has_processes: "SP2 L12" = "test_unix_events::TestFork::test_fork_asyncio_subprocess";
    a_program_is_started_by_the_first_step_without_the_loop: "SP1";
    starting_takes_two_turns_and_two_for_each_pipe: "SP1 SP3 TA4";
    programs_and_arguments_are_paths_too: "SP1 SP7"
        = "test_subprocess::SubprocessMixin::test_create_subprocess_exec_with_path";
    the_environment_is_inherited_changed_or_emptied: "SP7"
        = "test_subprocess::SubprocessMixin::test_create_subprocess_env_shell",
          "test_subprocess::SubprocessMixin::test_create_subprocess_env_exec";
    arguments_reach_the_program_as_they_are: "SP7";
    the_directory_and_the_group_are_options: "SP7"
        = "test_events::SubprocessTestsMixin::test_subprocess_wait_no_same_group";
    a_command_of_the_standard_library_is_started_as_it_is: "SP7";
    open_files_are_standard_streams: "SP7";
    a_start_that_is_cancelled_kills_the_process: "SP1 SP6 L6"
        = "test_subprocess::SubprocessMixin::test_cancel_make_subprocess_transport_exec",
          "test_subprocess::SubprocessMixin::test_cancel_post_init";
    a_start_that_is_dropped_kills_the_process: "SP6 L6";
}

fn k3_a_program_that_is_not_there_or_may_not_be_run_is_an_error_of_the_start(on: &Machine) {
    on.processes(|| async {
        let error = create_subprocess_exec("/nonexistent/prog", NO_ARGS).current_dir("/").await.unwrap_err();
        assert_eq!(error.as_io().unwrap().kind(), io::ErrorKind::NotFound);
        let text = "cannot start \"/nonexistent/prog\" in \"/\": No such file or directory (os error 2)";
        assert_eq!(error.to_string(), text);
        let error = create_subprocess_exec("no-such-program", NO_ARGS).stdin(PIPE).stdout(PIPE).await.unwrap_err();
        assert!(error.to_string().contains(std::env::current_dir()?.to_str().unwrap()), "{error}");
        let error = create_subprocess_exec("true", NO_ARGS).current_dir("/no/where").await.unwrap_err();
        assert_eq!(error.to_string(), "cannot start \"true\" in \"/no/where\": there is no such directory");
        let error = create_subprocess_exec("/etc/passwd", NO_ARGS).await.unwrap_err();
        assert_eq!(error.as_io().unwrap().kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("/etc/passwd"), "{error}");
        // What was to be its standard output is closed: this would never end otherwise.
        let (line, held) = lifeline().await?;
        assert!(create_subprocess_exec("no-such-program", NO_ARGS).stdin(PIPE).stdout(held).await.is_err());
        assert_eq!(line.read(1).await?, "");
        // The loop goes on.
        assert_eq!(sh("exit 5").await?.wait().await?, 5);
        Ok(())
    });
}

fn what_cannot_be_a_command_is_refused(on: &Machine) {
    on.processes(|| async {
        for command in [
            create_subprocess_exec("echo", ["a\0b"]),
            create_subprocess_exec("ec\0ho", NO_ARGS),
            create_subprocess_exec("echo", NO_ARGS).env("A", "b\0"),
            create_subprocess_exec("echo", NO_ARGS).env("A=B", "c"),
            create_subprocess_exec("echo", NO_ARGS).stdout(STDOUT),
            create_subprocess_exec("echo", NO_ARGS).stdin(STDOUT),
            create_subprocess_exec("echo", NO_ARGS).limit(0),
        ] {
            assert_eq!(command.await.unwrap_err().kind(), ErrorKind::Value);
        }
        assert_eq!(sh("exit 6").await?.wait().await?, 6);
        Ok(())
    });
}

fn starts_that_fail_or_are_given_up_leave_nothing(on: &Machine) {
    async fn round() -> Result<()> {
        let piped = |command: CreateSubprocess| command.stdin(PIPE).stdout(PIPE).stderr(PIPE);
        for command in [
            create_subprocess_exec("/nonexistent/prog", NO_ARGS),
            create_subprocess_exec("true", NO_ARGS).current_dir("/no/where"),
            create_subprocess_exec("/etc/passwd", NO_ARGS),
            create_subprocess_exec("echo", ["a\0b"]),
            create_subprocess_exec("echo", NO_ARGS).env("A", "b\0"),
            create_subprocess_exec("echo", NO_ARGS).limit(0),
        ] {
            assert!(piped(command).await.is_err());
        }
        for turns in 0..9 {
            let task = create_task(piped(sh("exec sleep 100")).kill_on_drop(true));
            for _ in 0..turns {
                sleep(0.0).await?;
            }
            task.cancel(None);
            drop(task.await);
        }
        while has_children() {
            settle().await?;
        }
        Ok(())
    }
    on.apart("descriptors", || {
        on.processes(|| async {
            round().await?;
            let before = descriptors();
            round().await?;
            timeout(Duration::from_secs(5), async {
                while descriptors() != before {
                    settle().await?;
                }
                Ok(())
            })
            .await
        });
    });
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Whether this process has a child, alive or not.
fn has_children() -> bool {
    !matches!(
        waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT),
        Err(Errno::CHILD)
    )
}

fn a_loop_of_a_forked_child_has_processes(on: &Machine) {
    let Some(on) = on.with_processes() else { return };
    on.apart("fork", || {
        let run = || {
            let runner = on.plain_runner();
            let code = runner.run(async { sh("exit 41").await?.wait().await });
            runner.close().unwrap();
            code.unwrap()
        };
        // The parent has had a loop, too.
        assert_eq!(run(), 41);
        match fork::fork().unwrap() {
            // Without what is done at an exit: that is the parent's.
            Fork::Child => exit(run() + 1),
            Fork::Parent(child) => {
                let ended = waitpid(Pid::from_raw(child), WaitOptions::empty()).unwrap().unwrap().1;
                assert_eq!(ended.exit_status(), Some(42));
            }
        }
    });
}

fn a_program_is_started_by_the_first_step_without_the_loop(on: &Machine) {
    on.processes(|| async {
        let (mut end, start) = io::pipe()?;
        let mut starting = Box::pin(create_subprocess_exec("echo", ["ciao"]).stdout(start));
        assert!(poll!(&mut starting).is_pending());
        // This blocks the thread, and the loop with it.
        let mut said = String::new();
        end.read_to_string(&mut said)?;
        assert_eq!(said, "ciao\n");
        assert_eq!(starting.await?.wait().await?, 0);
        Ok(())
    });
}

fn starting_takes_two_turns_and_two_for_each_pipe(on: &Machine) {
    on.processes_exact(|| async {
        for pipes in 0..4u64 {
            let mut command = create_subprocess_exec("sleep", ["10"]).kill_on_drop(true);
            command = if pipes > 0 { command.stdin(PIPE) } else { command };
            command = if pipes > 1 { command.stdout(PIPE) } else { command };
            command = if pipes > 2 { command.stderr(PIPE) } else { command };
            let before = turn();
            let _process = command.await?;
            assert_eq!(turn() - before, 2 + 2 * pipes);
        }
        Ok(())
    });
}

fn programs_and_arguments_are_paths_too(on: &Machine) {
    on.processes(|| async {
        assert_eq!(create_subprocess_exec(Path::new("/bin/true"), NO_ARGS).await?.wait().await?, 0);
        let process = create_subprocess_exec("ls", [Path::new("-d"), Path::new(".")]).stdout(PIPE).await?;
        assert_eq!(process.communicate("").await?.0.unwrap(), ".\n");
        Ok(())
    });
}

fn the_environment_is_inherited_changed_or_emptied(on: &Machine) {
    on.processes(|| async {
        let process = sh("printf %s \"$FOO\"; test -n \"$PATH\"").env("FOO", "bar").stdout(PIPE).await?;
        assert_eq!(process.communicate("").await?.0.unwrap(), "bar");
        assert_eq!(process.returncode(), Some(0));
        // What is known takes no turn, and less than the turn of a task.
        let process = std::rc::Rc::new(process);
        let again = std::rc::Rc::clone(&process);
        let task = create_task(async move { again.wait().await });
        sleep(0.0).await?;
        assert_eq!(task.result()?, 0);

        let process = create_subprocess_exec("sh", ["-c", "echo $A $B; env | grep -c ^B="]);
        let process = process.env("A", "a*").env("B", "b").env_remove("B").stdout(PIPE).await?;
        assert_eq!(process.communicate("").await?.0.unwrap(), "a*\n0\n");
        let process = create_subprocess_exec("/usr/bin/env", NO_ARGS).env_clear().env("X", "1").stdout(PIPE).await?;
        assert_eq!(process.communicate("").await?.0.unwrap(), "X=1\n");
        Ok(())
    });
}

fn arguments_reach_the_program_as_they_are(on: &Machine) {
    on.processes(|| async {
        let process = create_subprocess_exec("printf", ["%s|", "one two"]).arg("$three").arg("").arg("*").stdout(PIPE);
        assert_eq!(process.await?.communicate("").await?.0.unwrap(), "one two|$three||*|");
        let process = create_subprocess_shell("printf '%s|' one two").stdout(PIPE).await?;
        assert_eq!(process.communicate("").await?.0.unwrap(), "one|two|");
        Ok(())
    });
}

fn the_directory_and_the_group_are_options(on: &Machine) {
    on.processes(|| async {
        let process = create_subprocess_exec("pwd", NO_ARGS).current_dir("/usr").stdout(PIPE).await?;
        assert_eq!(process.communicate("").await?.0.unwrap(), "/usr\n");

        let field = |stat: &[u8], n: usize| String::from_utf8_lossy(stat).split(' ').nth(n).unwrap().to_owned();
        let (group, session) = (4, 5);
        let process = sh("cat /proc/self/stat; exit 7").stdout(PIPE).await?;
        let ours = process.communicate("").await?.0.unwrap();
        assert_ne!(field(&ours, group), process.pid().to_string());
        let process = sh("cat /proc/self/stat; exit 7").process_group(0).stdout(PIPE).await?;
        let stat = process.communicate("").await?.0.unwrap();
        assert_eq!(field(&stat, group), process.pid().to_string());
        assert_eq!(process.returncode(), Some(7));
        // A process of another session is waited for as well.
        let process = create_subprocess_exec("setsid", ["sh", "-c", "cat /proc/self/stat; exit 8"]).stdout(PIPE);
        let process = process.await?;
        let stat = process.communicate("").await?.0.unwrap();
        assert_ne!(field(&stat, session), field(&ours, session));
        assert_eq!(process.returncode(), Some(8));
        Ok(())
    });
}

fn a_command_of_the_standard_library_is_started_as_it_is(on: &Machine) {
    on.processes(|| async {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $0; cat"]).arg0("name").stdin(Stdio::piped());
        let process = CreateSubprocess::from_command(command).stdout(PIPE).await?;
        assert_eq!(process.communicate("x").await?.0.unwrap(), "name\nx");
        Ok(())
    });
}

fn open_files_are_standard_streams(on: &Machine) {
    on.processes(|| async {
        let (mut end, start) = io::pipe()?;
        let process = sh("echo out; echo err >&2").stdout(start).stderr(STDOUT).await?;
        process.wait().await?;
        assert_eq!(io::read_to_string(&mut end)?, "out\nerr\n");
        let process = sh("cat").stdin(File::open("/etc/passwd")?).stdout(PIPE).stderr(DEVNULL).await?;
        assert_eq!(process.communicate("").await?.0.unwrap(), std::fs::read("/etc/passwd")?);
        Ok(())
    });
}

fn a_start_that_is_cancelled_kills_the_process(on: &Machine) {
    on.processes_exact(|| async {
        for turns in 0..9 {
            let (line, held) = lifeline().await?;
            let start = sh("exec sleep 100").stdin(PIPE).stdout(PIPE).stderr(held);
            let task = create_task(start);
            for _ in 0..turns {
                sleep(0.0).await?;
            }
            task.cancel(None);
            match task.await {
                // It was too late.
                Ok(process) => process.kill()?,
                Err(error) => assert!(error.is_cancelled()),
            }
            assert_eq!(line.read(1).await?, "");
        }
        Ok(())
    });
}

fn a_start_that_is_dropped_kills_the_process(on: &Machine) {
    on.processes(|| async {
        for turns in 0..4 {
            let (line, held) = lifeline().await?;
            let mut start = Box::pin(sh("exec sleep 100").stdin(PIPE).stdout(PIPE).stderr(held));
            for _ in 0..turns {
                assert!(poll!(&mut start).is_pending());
                sleep(0.0).await?;
            }
            drop(start);
            assert_eq!(line.read(1).await?, "");
        }
        Ok(())
    });
}
