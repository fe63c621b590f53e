//! Child processes.

mod common;

use std::cell::RefCell;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aioli_core::{ErrorKind, Result, create_task, gather, get_running_loop, sleep, timeout};
use aioli_io::{
    CreateSubprocess, DEVNULL, PIPE, Process, STDOUT, Signal, create_subprocess_exec, create_subprocess_shell,
};
use common::{Reports, alone, run, run_exact, settle, turn};

const NO_ARGS: [&str; 0] = [];
const ESRCH: i32 = 3;

fn sh(command: &str) -> CreateSubprocess {
    create_subprocess_shell(command)
}

fn errno(error: &aioli_core::Error) -> Option<i32> {
    error.as_io().and_then(io::Error::raw_os_error)
}

/// Whether a process is there, as a zombie or alive.
fn exists(pid: u32) -> bool {
    std::fs::exists(format!("/proc/{pid}")).unwrap()
}

/// The states of this process's children, such as `Z`.
fn children() -> Vec<char> {
    let mut states = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.parse::<u32>().is_err() {
            continue;
        }
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{name}/stat")) else { continue };
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().collect::<Vec<_>>();
        if fields[1] == std::process::id().to_string() {
            states.push(fields[0].chars().next().unwrap());
        }
    }
    states
}

async fn gone(pid: u32) -> Result<()> {
    timeout(Duration::from_secs(10), async {
        while exists(pid) {
            settle().await?;
        }
        Ok(())
    })
    .await
}

// --- the rules, in the order of CPython's trace -----------------------------------------------------------------------------------

#[test]
fn k1_communicate() {
    run(|| async {
        let process = sh("cat; exit 3").stdin(PIPE).stdout(PIPE).await?;
        let (stdout, stderr) = process.communicate("hi").await?;
        assert_eq!((stdout.as_deref(), stderr), (Some(&b"hi"[..]), None));
        assert_eq!(process.returncode(), Some(3));
        assert!(process.stderr.is_none());
        Ok(())
    });
}

#[test]
fn k2_without_pipes() {
    run(|| async {
        let process = sh("exit 0").await?;
        assert!(process.stdin.is_none() && process.stdout.is_none() && process.stderr.is_none());
        assert_eq!((process.wait().await?, process.wait().await?), (0, 0));

        let process = sh("sleep 10").await?;
        assert_eq!(process.returncode(), None);
        process.kill()?;
        assert_eq!(process.wait().await?, -9);
        assert_eq!(errno(&process.kill().unwrap_err()), Some(ESRCH));

        let process = sh("exec sleep 10").await?;
        process.terminate()?;
        assert_eq!(process.wait().await?, -15);
        assert_eq!(errno(&process.send_signal(Signal::HUP).unwrap_err()), Some(ESRCH));

        let process = create_subprocess_exec("sleep", ["10"]).await?;
        assert!(timeout(Duration::from_millis(50), process.wait()).await.unwrap_err().is_timeout());
        assert_eq!(process.returncode(), None);
        process.kill()?;
        process.wait().await?;
        Ok(())
    });
}

#[test]
fn k3_a_missing_program() {
    run(|| async {
        let error = create_subprocess_exec("/nonexistent/prog", NO_ARGS).current_dir("/").await.unwrap_err();
        assert_eq!(error.as_io().unwrap().kind(), io::ErrorKind::NotFound);
        let text = "cannot start \"/nonexistent/prog\" in \"/\": No such file or directory (os error 2)";
        assert_eq!(error.to_string(), text);
        let error = create_subprocess_exec("no-such-program", NO_ARGS).await.unwrap_err();
        assert!(error.to_string().contains(std::env::current_dir()?.to_str().unwrap()), "{error}");
        let error = create_subprocess_exec("true", NO_ARGS).current_dir("/no/where").await.unwrap_err();
        assert_eq!(error.to_string(), "cannot start \"true\" in \"/no/where\": there is no such directory");
        let error = create_subprocess_exec("/etc/passwd", NO_ARGS).await.unwrap_err();
        assert_eq!(error.as_io().unwrap().kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("/etc/passwd"), "{error}");
        for command in [
            create_subprocess_exec("echo", ["a\0b"]),
            create_subprocess_exec("ec\0ho", NO_ARGS),
            create_subprocess_exec("echo", NO_ARGS).env("A", "b\0"),
            create_subprocess_exec("echo", NO_ARGS).stdout(STDOUT),
            create_subprocess_exec("echo", NO_ARGS).stdin(STDOUT),
            create_subprocess_exec("echo", NO_ARGS).limit(0),
        ] {
            assert_eq!(command.await.unwrap_err().kind(), ErrorKind::Value);
        }
        // The loop goes on.
        assert_eq!(sh("exit 5").await?.wait().await?, 5);
        Ok(())
    });
}

#[test]
fn k4_wait_is_about_the_process_alone() {
    run(|| async {
        // A pipe that nobody reads from keeps the process, and asyncio's wait() too.
        let process = sh("yes | head -c 300000").stdout(PIPE).await?;
        assert!(timeout(Duration::from_millis(100), process.wait()).await.unwrap_err().is_timeout());
        assert_eq!(process.returncode(), None);
        assert_eq!(process.stdout.as_ref().unwrap().read_to_end().await?.len(), 300_000);
        assert_eq!(process.wait().await?, 0);

        // A grandchild that holds the pipe does not keep the wait.
        let process = sh("sleep 100 & echo $!; exit 7").stdout(PIPE).await?;
        assert_eq!(process.wait().await?, 7);
        let stdout = process.stdout.as_ref().unwrap();
        let grandchild = String::from_utf8(stdout.readline().await?.to_vec()).unwrap();
        let late = timeout(Duration::from_millis(20), stdout.read(1)).await;
        assert!(late.unwrap_err().is_timeout());
        let grandchild = rustix::process::Pid::from_raw(grandchild.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(grandchild, rustix::process::Signal::KILL)?;
        assert_eq!(stdout.read(1).await?, "");
        Ok(())
    });
}

#[test]
fn k4_a_dead_child_does_not_read() {
    run(|| async {
        let process = sh("exit 0").stdin(PIPE).stdout(PIPE).await?;
        sleep(Duration::from_millis(50)).await?;
        let (stdout, _) = process.communicate(vec![b'x'; 100_000]).await?;
        assert_eq!(stdout.unwrap(), "");

        let process = sh("exec <&-; sleep 0.2").stdin(PIPE).await?;
        let stdin = process.stdin.as_ref().unwrap();
        let writing = async {
            for _ in 0..20 {
                stdin.write(&[b'x'; 65_536])?;
                stdin.drain().await?;
                sleep(Duration::from_millis(10)).await?;
            }
            Ok(())
        };
        let error: aioli_core::Error = writing.await.unwrap_err();
        let kind = error.as_io().unwrap().kind();
        assert!(matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
        assert_eq!(process.wait().await?, 0);
        Ok(())
    });
}

#[test]
fn k5_cancelling_leaves_the_process() {
    run(|| async {
        let process = Rc::new(sh("echo start; exec sleep 10").stdout(PIPE).await?);
        let talking = Rc::clone(&process);
        let task = create_task(async move { talking.communicate("").await });
        sleep(Duration::from_millis(50)).await?;
        task.cancel(None);
        assert!((&task).await.unwrap_err().is_cancelled());
        assert_eq!(process.returncode(), None);
        assert_eq!(process.stdout.as_ref().unwrap().readline().await?, "start\n");
        process.kill()?;
        process.wait().await?;

        let process = Rc::new(sh("sleep 0.3; exit 4").await?);
        let waiting = Rc::clone(&process);
        let task = create_task(async move { waiting.wait().await });
        settle().await?;
        task.cancel(None);
        assert!((&task).await.unwrap_err().is_cancelled());
        assert_eq!(process.wait().await?, 4);
        Ok(())
    });
}

#[test]
fn k8_to_k12() {
    run(|| async {
        let reports = Reports::new();
        assert_eq!(sh("kill -9 $$").await?.wait().await?, -9);

        // Somebody else takes the exit status.
        let process = sh("sleep 0.05; exit 6").await?;
        std::thread::sleep(Duration::from_millis(100));
        let pid = rustix::process::Pid::from_raw(process.pid() as i32);
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())?;
        assert_eq!(process.wait().await?, 255);
        let told = reports.take();
        assert!(told.len() == 1 && told[0].contains("exit status already read"), "{told:?}");

        let process = sh("echo a; echo b >&2").stdout(PIPE).stderr(STDOUT).await?;
        let (stdout, stderr) = process.communicate("").await?;
        assert_eq!((stdout.as_deref(), stderr), (Some(&b"a\nb\n"[..]), None));
        let process = sh("echo a; echo b >&2").stdout(DEVNULL).stderr(STDOUT).await?;
        assert_eq!(process.communicate("").await?, (None, None));

        let process = sh(&format!("printf %s {}", "x".repeat(100))).stdout(PIPE).limit(10).await?;
        let stdout = process.stdout.as_ref().unwrap();
        assert_eq!(stdout.readline().await.unwrap_err().kind(), ErrorKind::Value);
        process.communicate("").await?;
        Ok(())
    });
}

#[test]
fn starting_takes_two_turns_and_two_for_each_pipe() {
    run_exact(|| async {
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

#[test]
fn both_outputs_and_the_input_at_once() {
    run(|| async {
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

#[test]
fn environment_directory_arguments_and_group() {
    run(|| async {
        let process = create_subprocess_exec("sh", ["-c", "echo $A $B; pwd; echo \"$@\"", "sh"])
            .arg("one two")
            .arg("$three")
            .env("A", "a*")
            .env("B", "b")
            .env_remove("B")
            .current_dir("/usr")
            .stdout(PIPE)
            .await?;
        assert_eq!(process.communicate("").await?.0.unwrap(), "a*\n/usr\none two $three\n");
        let process = create_subprocess_exec("/usr/bin/env", NO_ARGS).env_clear().env("X", "1").stdout(PIPE).await?;
        assert_eq!(process.communicate("").await?.0.unwrap(), "X=1\n");
        let process = sh("cat /proc/self/stat").process_group(0).stdout(PIPE).await?;
        let stat = String::from_utf8(process.communicate("").await?.0.unwrap().to_vec()).unwrap();
        assert_eq!(stat.split(' ').nth(4), Some(&*process.pid().to_string()));
        let process = sh("cat /proc/self/stat").stdout(PIPE).await?;
        let stat = String::from_utf8(process.communicate("").await?.0.unwrap().to_vec()).unwrap();
        assert_ne!(stat.split(' ').nth(4), Some(&*process.pid().to_string()));
        Ok(())
    });
}

#[test]
fn commands_and_files_of_the_standard_library() {
    run(|| async {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $0; cat"]).arg0("name").stdin(std::process::Stdio::piped());
        let process = CreateSubprocess::from_command(command).stdout(PIPE).await?;
        assert_eq!(process.communicate("x").await?.0.unwrap(), "name\nx");

        let (mut end, start) = io::pipe()?;
        let process = sh("echo out; echo err >&2").stdout(start).stderr(STDOUT).await?;
        process.wait().await?;
        assert_eq!(io::read_to_string(&mut end)?, "out\nerr\n");
        let process = sh("cat").stdin(std::fs::File::open("/etc/hostname")?).stdout(PIPE).await?;
        assert_eq!(process.communicate("").await?.0.unwrap(), std::fs::read("/etc/hostname")?);
        Ok(())
    });
}

#[test]
fn several_wait_for_the_same_process() {
    run(|| async {
        let process = Rc::new(sh("sleep 0.05; exit 9").await?);
        let waits = (0..20).map(|_| {
            let process = Rc::clone(&process);
            async move { process.wait().await }
        });
        assert_eq!(gather(waits.collect::<Vec<_>>()).await?, [9; 20]);
        Ok(())
    });
}

#[test]
fn signals_reach_the_process() {
    run(|| async {
        let script = "trap 'echo usr1' USR1; trap 'echo term; exit 8' TERM; echo ready; while :; do sleep 0.01; done";
        let process = sh(script).stdout(PIPE).await?;
        let stdout = process.stdout.as_ref().unwrap();
        assert_eq!(stdout.readline().await?, "ready\n");
        process.send_signal(Signal::USR1)?;
        assert_eq!(stdout.readline().await?, "usr1\n");
        process.terminate()?;
        assert_eq!(process.wait().await?, 8);
        Ok(())
    });
}

#[test]
fn a_child_that_ignores_the_request_to_end_is_killed() {
    run(|| async {
        let process = sh("trap '' TERM; echo ready; while :; do sleep 0.01; done").stdout(PIPE).await?;
        process.stdout.as_ref().unwrap().readline().await?;
        process.terminate()?;
        assert!(timeout(Duration::from_millis(50), process.wait()).await.unwrap_err().is_timeout());
        process.kill()?;
        assert_eq!(process.wait().await?, -9);
        Ok(())
    });
}

#[test]
fn the_programs_own_children_are_left_alone() {
    run(|| async {
        let own = std::thread::spawn(|| {
            let code = |n: u32| Command::new("sh").args(["-c", &format!("exit {n}")]).status().unwrap().code();
            (0..40).map(code).collect::<Vec<_>>()
        });
        for n in 0..40 {
            assert_eq!(sh(&format!("exit {}", 100 + n)).await?.wait().await?, 100 + n);
        }
        assert_eq!(own.join().unwrap(), (0..40).map(Some).collect::<Vec<_>>());
        Ok(())
    });
}

// --- what is dropped ---------------------------------------------------------------------------------------------------------------

#[test]
fn a_dropped_process_runs_on_and_leaves_no_zombie() {
    run(|| async {
        let process = sh("sleep 0.3; exit 1").await?;
        let pid = process.pid();
        drop(process);
        settle().await?;
        assert!(exists(pid));
        gone(pid).await
    });
}

#[test]
fn kill_on_drop() {
    run(|| async {
        let process = sh("exec sleep 100").kill_on_drop(true).await?;
        let pid = process.pid();
        drop(process);
        gone(pid).await?;
        // Also with the task that owns it.
        let pid = Rc::new(RefCell::new(0));
        let known = Rc::clone(&pid);
        let task = create_task(async move {
            let process = sh("exec sleep 100").kill_on_drop(true).await?;
            known.replace(process.pid());
            process.wait().await
        });
        while *pid.borrow() == 0 {
            settle().await?;
        }
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        let pid = *pid.borrow();
        gone(pid).await
    });
}

#[test]
fn a_start_that_is_given_up_kills() {
    if !alone("a_start_that_is_given_up_kills") {
        return;
    }
    run(|| async {
        for turns in 0..10 {
            let start = || sh("exec sleep 100").stdin(PIPE).stdout(PIPE).stderr(PIPE);
            let task = create_task(start());
            for _ in 0..turns {
                sleep(0.0).await?;
            }
            task.cancel(None);
            match task.await {
                Ok(process) => process.kill()?,
                Err(error) => assert!(error.is_cancelled()),
            }
            let mut dropped = Box::pin(start());
            let _ = futures::poll!(&mut dropped);
            drop(dropped);
        }
        timeout(Duration::from_secs(5), async {
            while !children().is_empty() {
                settle().await?;
            }
            Ok(())
        })
        .await
    });
}

#[test]
fn the_end_of_the_loop_leaves_no_zombie() {
    if !alone("the_end_of_the_loop_leaves_no_zombie") {
        return;
    }
    let mut processes: Vec<Process> = Vec::new();
    for round in 0..3 {
        let kept = Rc::new(RefCell::new(Vec::new()));
        let keep = Rc::clone(&kept);
        aioli_exec_single::run(async move {
            // One that has ended, one that ends later, and one that is killed later.
            for (script, kill) in [("exit 0", false), ("sleep 0.2", false), ("exec sleep 100", true)] {
                let process = sh(script).kill_on_drop(kill).await?;
                keep.borrow_mut().push(process);
            }
            sh("sleep 0.1").await?;
            std::thread::sleep(Duration::from_millis(20 * round));
            Ok(())
        })
        .unwrap();
        processes.append(&mut kept.borrow_mut());
    }
    assert!(!children().is_empty());
    drop(processes);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !children().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", children());
        std::thread::sleep(Duration::from_millis(5));
    }
}

// --- many at once ------------------------------------------------------------------------------------------------------------------

/// The exchange of one child: a megabyte in, a megabyte out, another of errors, all to be checked.
async fn exchange(seed: u32) -> Result<()> {
    const SIZE: usize = 1 << 20;
    let input: Vec<u8> = (0..SIZE as u32).map(|n| (n.wrapping_mul(seed | 1) >> 7) as u8).collect();
    let process = sh("tee /dev/stderr").stdin(PIPE).stdout(PIPE).stderr(PIPE).kill_on_drop(true).await?;
    let (stdout, stderr) = process.communicate(&input).await?;
    assert!(stdout.unwrap() == input && stderr.unwrap() == input, "the bytes of child {seed}");
    assert_eq!(process.returncode(), Some(0));
    Ok(())
}

#[test]
fn many_children_at_once_exchange_every_byte() {
    if !alone("many_children_at_once_exchange_every_byte") {
        return;
    }
    let count = std::env::var("AIOLI_TEST_CHILDREN").ok().and_then(|count| count.parse().ok()).unwrap_or(15);
    run(move || async move {
        let before = common::descriptors();
        get_running_loop()?;
        gather((0..count).map(exchange).collect::<Vec<_>>()).await?;
        settle().await?;
        assert_eq!(children(), []);
        assert_eq!(common::descriptors(), before);
        Ok(())
    });
}

#[test]
fn random_ends_leave_nothing() {
    if !alone("random_ends_leave_nothing") {
        return;
    }
    run(|| async {
        let before = common::descriptors();
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut tasks = Vec::new();
        for n in 0..60u32 {
            let task = match next(6) {
                0 => create_task(exchange(n)),
                // Closes its pipes early.
                1 => create_task(async {
                    let process = sh("exec <&- >&-; sleep 0.05").stdin(PIPE).stdout(PIPE).kill_on_drop(true).await?;
                    process.communicate(vec![0; 300_000]).await.map(drop)
                }),
                // Does not listen.
                2 => create_task(async {
                    let process = sh("trap '' TERM; exec sleep 100").stdout(PIPE).kill_on_drop(true).await?;
                    process.terminate()?;
                    process.communicate("").await.map(drop)
                }),
                // Leaves a grandchild that holds the pipes.
                3 => create_task(async {
                    let process = sh("sleep 0.1 & exit 0").stdin(PIPE).stdout(PIPE).stderr(PIPE).await?;
                    process.communicate("x").await.map(drop)
                }),
                4 => create_task(async {
                    let mut process = sh("cat").stdin(PIPE).stdout(PIPE).await?;
                    let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
                    drop(process);
                    stdin.write(&[1; 100_000])?;
                    stdout.readexactly(50_000).await?;
                    stdin.drain().await
                }),
                _ => create_task(async {
                    let process = sh("yes").stdout(PIPE).kill_on_drop(true).await?;
                    process.stdout.as_ref().unwrap().readexactly(100_000).await.map(drop)
                }),
            };
            tasks.push(task);
            if next(3) == 0 {
                sleep(Duration::from_micros(next(3000))).await?;
            }
            if next(2) == 0 {
                let victim = next(tasks.len() as u64) as usize;
                match next(2) {
                    0 => drop(tasks[victim].cancel(None)),
                    _ => drop(tasks.swap_remove(victim).cancel(None)),
                };
            }
        }
        sleep(Duration::from_millis(50)).await?;
        for task in &tasks {
            task.cancel(None);
        }
        for task in tasks {
            let _ = task.await;
        }
        timeout(Duration::from_secs(10), async {
            while !children().is_empty() || common::descriptors() != before {
                settle().await?;
            }
            Ok(())
        })
        .await
    });
}

// --- real programs -----------------------------------------------------------------------------------------------------------------

#[test]
fn sort_of_a_stream() {
    run(|| async {
        let lines: usize = std::env::var("AIOLI_TEST_LINES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
        let mut process = create_subprocess_exec("sort", NO_ARGS).env("LC_ALL", "C").stdin(PIPE).stdout(PIPE).await?;
        let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let feeding = create_task(async move {
            for n in 0..lines {
                stdin.write(format!("{:019}\n", (n * 7919) % lines).as_bytes())?;
                if n % 1000 == 0 {
                    stdin.drain().await?;
                }
            }
            stdin.close();
            stdin.wait_closed().await
        });
        for n in 0..lines {
            assert_eq!(stdout.readline().await?, format!("{n:019}\n"));
        }
        assert_eq!(stdout.read(1).await?, "");
        feeding.await?;
        assert_eq!(process.wait().await?, 0);
        Ok(())
    });
}

#[test]
fn yes_and_head() {
    run(|| async {
        let yes = create_subprocess_exec("yes", NO_ARGS).stdout(PIPE).await?;
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
        let mut yes = yes;
        drop(yes.stdout.take());
        // SIGPIPE.
        assert_eq!(yes.wait().await?, -13);
        Ok(())
    });
}
