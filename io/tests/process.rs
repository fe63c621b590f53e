//! Child processes: what takes longer than a case of the conformance suite may, in the size that the environment may ask for. The suite has
//! the rest.

mod common;

use std::rc::Rc;
use std::time::Duration;

use aioli_core::{Result, create_task, gather, sleep, timeout};
use aioli_io::{CreateSubprocess, PIPE, Process, create_subprocess_exec, create_subprocess_shell};
use common::{alone, run, settle};
use fork::Fork;
use rustix::process::{Pid, Resource, Rlimit, WaitOptions, getrlimit, setrlimit, waitpid};

const NO_ARGS: [&str; 0] = [];

fn sh(command: &str) -> CreateSubprocess {
    create_subprocess_shell(command)
}

/// A size that the environment may set.
fn asked_for(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|size| size.parse().ok()).unwrap_or(default)
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
    let count = asked_for("AIOLI_TEST_CHILDREN", 15);
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
        for n in 0..asked_for("AIOLI_TEST_CHILDREN", 60) {
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
        let lines = asked_for("AIOLI_TEST_LINES", 20_000) as usize;
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

// --- many who wait ---------------------------------------------------------------------------------------------------------------

#[test]
fn of_thousands_of_waits_each_is_given_up_at_once() {
    run(|| async {
        let process = Rc::new(create_subprocess_exec("sleep", ["60"]).kill_on_drop(true).await?);
        let waits: Vec<_> = (0..40_000)
            .map(|_| {
                let process = Rc::clone(&process);
                create_task(async move { process.wait().await })
            })
            .collect();
        sleep(0.0).await?;
        // Half a minute, when each looked at all others.
        timeout(10.0, async {
            for wait in &waits[..20_000] {
                wait.cancel(None);
            }
            sleep(0.0).await?;
            sleep(0.0).await
        })
        .await?;
        process.kill()?;
        let mut cancelled = 0;
        for wait in waits {
            match wait.await {
                Ok(code) => assert_eq!(code, -9),
                Err(error) => cancelled += usize::from(error.is_cancelled()),
            }
        }
        assert_eq!(cancelled, 20_000);
        Ok(())
    });
}

// --- without descriptors ----------------------------------------------------------------------------------------------------------

#[test]
fn a_child_is_killed_where_no_descriptor_is_left() {
    if !alone("a_child_is_killed_where_no_descriptor_is_left") {
        return;
    }
    let few = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, few).unwrap();
    run(|| async {
        for settled in [false, true] {
            let process = create_subprocess_exec("sleep", ["60"]).kill_on_drop(true).await?;
            let dropped = create_subprocess_exec("sleep", ["60"]).kill_on_drop(true).await?;
            if settled {
                sleep(0.01).await?;
            }
            let all: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
            assert!(!all.is_empty());
            process.kill()?;
            drop(dropped);
            drop(all);
            assert_eq!(process.wait().await?, -9);
            assert!(process.kill().unwrap_err().as_io().is_some());
            while !children().is_empty() {
                sleep(0.001).await?;
            }
        }
        Ok(())
    });
}

// --- in a process that was forked ------------------------------------------------------------------------------------------------

/// Runs the body in a fork of this process, which must have no other thread that holds a lock, and checks that it does not panic.
fn in_fork(body: impl FnOnce()) {
    match fork::fork().unwrap() {
        Fork::Child => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // Nothing of the parent's ends here.
            signal_hook::low_level::exit(i32::from(result.is_err()));
        }
        Fork::Parent(child) => {
            let (_, status) = waitpid(Pid::from_raw(child), WaitOptions::empty()).unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(0));
        }
    }
}

/// A child that outlives the loop which started it.
fn outlive(seconds: &'static str) -> Process {
    aioli_exec_single::run(async move { create_subprocess_exec("sleep", [seconds]).kill_on_drop(true).await }).unwrap()
}

/// Whether all children end, and none is left as a zombie.
fn all_end() -> bool {
    (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        children().is_empty()
    })
}

#[test]
fn children_that_outlive_their_loop_in_a_fork_are_no_zombies() {
    if !alone("children_that_outlive_their_loop_in_a_fork_are_no_zombies") {
        return;
    }
    // The thread that waits for this one is not in the fork.
    let first = outlive("60");
    in_fork(|| {
        std::mem::forget(outlive("0.05"));
        assert!(all_end());
    });
    assert_eq!(children(), ['S']);
    drop(first);
    assert!(all_end());
}

#[test]
fn a_fork_does_not_kill_its_parents_children() {
    if !alone("a_fork_does_not_kill_its_parents_children") {
        return;
    }
    let mut process = Some(outlive("60"));
    in_fork(|| drop(process.take()));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(children(), ['S']);
    drop(process);
    assert!(all_end());
}

#[test]
fn a_fork_while_the_reaper_works_does_not_hang() {
    if !alone("a_fork_while_the_reaper_works_does_not_hang") {
        return;
    }
    // It looks after each of them whenever another one comes.
    let mut crowd: Vec<_> = (0..100).map(|_| outlive("60")).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..300 {
                drop(outlive("60"));
            }
        });
        for _ in 0..50 {
            let mut process = crowd.pop();
            in_fork(|| {
                std::thread::spawn(|| {
                    std::thread::sleep(Duration::from_secs(10));
                    signal_hook::low_level::exit(2);
                });
                drop(process.take());
            });
            drop(process);
        }
    });
    drop(crowd);
    assert!(all_end());
}
