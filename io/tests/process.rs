//! Child processes: what cannot be a case of the conformance suite, which has the rest.
//!
//! These count the children and descriptors of the whole program, or fork it, and so need a process of their own; or they take long, in
//! the size that the environment may ask for.

mod common;

use std::time::Duration;

use aioli_core::{Result, create_task, gather, sleep, timeout};
use aioli_io::{CreateSubprocess, PIPE, create_subprocess_exec, create_subprocess_shell};
use common::{alone, leaves_nothing, run, settle};
use fork::Fork;

const NO_ARGS: [&str; 0] = [];

fn sh(command: &str) -> CreateSubprocess {
    create_subprocess_shell(command)
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

// --- what needs a process of its own -----------------------------------------------------------------------------------------------

#[test]
fn starts_that_fail_leave_nothing() {
    if !alone("starts_that_fail_leave_nothing") {
        return;
    }
    run(|| {
        leaves_nothing(async || {
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
            // Some are given up on the way.
            for turns in 0..9 {
                let task = create_task(piped(sh("exec sleep 100")).kill_on_drop(true));
                for _ in 0..turns {
                    sleep(0.0).await?;
                }
                task.cancel(None);
                let _ = task.await;
            }
            while !children().is_empty() {
                settle().await?;
            }
            Ok(())
        })
    });
}

#[test]
fn a_loop_of_a_forked_child_has_processes() {
    if !alone("a_loop_of_a_forked_child_has_processes") {
        return;
    }
    let backends: [fn() -> Result<i32>; 2] = [
        || aioli_exec_single::run(async { sh("exit 41").await?.wait().await }),
        || aioli_exec_uring::run(async { sh("exit 42").await?.wait().await }),
    ];
    for (run, code) in backends.into_iter().zip([41, 42]) {
        if code == 42 && common::uring().is_none() {
            continue;
        }
        // The parent has had a loop, too.
        assert_eq!(run().unwrap(), code);
        match fork::fork().unwrap() {
            Fork::Child => std::process::exit(run().unwrap_or(1)),
            Fork::Parent(child) => {
                let ended = rustix::process::waitpid(
                    rustix::process::Pid::from_raw(child),
                    rustix::process::WaitOptions::empty(),
                );
                assert_eq!(ended.unwrap().unwrap().1.exit_status(), Some(code));
            }
        }
    }
}
