//! How processes end, who learns of it, and what is left of them.

use std::cell::{Cell, RefCell};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aioli_core::{create_task, gather, get_running_loop, sleep, timeout};
use aioli_io::{PIPE, Process, Signal, create_subprocess_exec};

use super::super::net::support::{Reports, settle, turn};
use super::{ESRCH, NO_ARGS, errno, exists, gone, held, is_zombie, lifeline, reap, sh, until_ended};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "processes" in process_ends as __cases_process_ends;
    k2_without_pipes_there_are_no_streams_and_wait_returns_on_exit: "SP2 SP4"
        = "test_events::SubprocessTestsMixin::test_subprocess_exitcode",
          "test_events::SubprocessTestsMixin::test_subprocess_close_after_finish",
          "test_subprocess::SubprocessMixin::test_shell";
    k2_k8_a_process_that_a_signal_ends_has_its_negative_number: "SP2 SP6"
        = "test_events::SubprocessTestsMixin::test_subprocess_kill",
          "test_events::SubprocessTestsMixin::test_subprocess_terminate",
          "test_events::SubprocessTestsMixin::test_subprocess_send_signal",
          "test_subprocess::SubprocessMixin::test_kill",
          "test_subprocess::SubprocessMixin::test_terminate",
          "test_subprocess::SubprocessMixin::test_send_signal";
    k2_signals_to_a_process_that_is_known_to_have_ended_fail: "SP6"
        = "test_subprocess::SubprocessTransportTests::test_proc_exited";
    signals_to_a_process_that_has_just_ended_are_ignored: "SP6"
        = "test_subprocess::SubprocessMixin::test_subprocess_send_signal_race";
    signals_reach_the_process_alone: "SP6"
        = "test_subprocess::SubprocessMixin::test_kill_issue43884";
    a_process_that_ignores_the_request_to_end_is_killed: "SP6";
    a_process_shows_its_number_and_its_return_code: "SP2"
        = "test_subprocess::SubprocessTransportTests::test_subprocess_repr";
    a_process_that_ended_before_anybody_waited: "SP2 SP4";
    the_end_is_noticed_while_the_loop_is_busy: "SP2 L1";
    k11_an_exit_status_that_somebody_else_took_is_255_and_reported: "SP2 L8";
    processes_of_the_program_itself_are_left_alone: "SP2";
    k2_a_wait_that_is_late_leaves_the_process: "SP4";
    k6_cancelling_a_wait_leaves_the_process: "SP4 L3"
        = "test_subprocess::SubprocessMixin::test_cancel_process_wait";
    several_wait_for_the_same_process: "SP4"
        = "test_subprocess::SubprocessMixin::test_subprocess_concurrent_wait";
    a_known_return_code_takes_no_turn: "SP4";
    k4_waiting_is_about_the_process_alone: "SP4" = "test_subprocess::SubprocessMixin::test_wait_even_if_pipe_is_open";
    a_dropped_process_runs_on_and_leaves_no_zombie: "SP6 L6";
    a_dropped_process_is_killed_if_that_was_asked_for: "SP6 L6"
        = "test_subprocess::SubprocessMixin::test_close_kill_running";
    k10_dropping_a_process_closes_its_pipes: "SP6 L6";
    a_dropped_process_that_has_ended_is_not_killed: "SP6 L6"
        = "test_subprocess::SubprocessMixin::test_close_dont_kill_finished";
    the_end_of_the_loop_leaves_processes_and_no_zombie: "SP6 L9";
}

fn k2_without_pipes_there_are_no_streams_and_wait_returns_on_exit(on: &Machine) {
    on.processes(|| async {
        let process = sh("exit 7").kill_on_drop(true).await?;
        assert!(process.stdin.is_none() && process.stdout.is_none() && process.stderr.is_none());
        assert_eq!(process.returncode(), None);
        assert_eq!((process.wait().await?, process.wait().await?), (7, 7));
        assert_eq!(process.returncode(), Some(7));
        assert_eq!(process.status().and_then(|status| status.code()), Some(7));
        let pid = process.pid();
        drop(process);
        assert!(!exists(pid));
        Ok(())
    });
}

fn k2_k8_a_process_that_a_signal_ends_has_its_negative_number(on: &Machine) {
    on.processes(|| async {
        let blocked = || create_subprocess_exec("sleep", ["100"]);
        let process = blocked().await?;
        process.kill()?;
        assert_eq!(process.wait().await?, -9);
        let process = blocked().await?;
        process.terminate()?;
        assert_eq!(process.wait().await?, -15);
        // Also when the loop has waited for it meanwhile.
        let process = sh("echo sleeping; exec sleep 100").stdin(PIPE).stdout(PIPE).stderr(PIPE).await?;
        assert_eq!(process.stdout.as_ref().unwrap().readline().await?, "sleeping\n");
        // One that hardly anybody has their children ignore, as nohup has them ignore SIGHUP.
        process.send_signal(Signal::USR1)?;
        assert_eq!(process.wait().await?, -10);
        assert_eq!(sh("kill -9 $$").await?.wait().await?, -9);
        Ok(())
    });
}

fn k2_signals_to_a_process_that_is_known_to_have_ended_fail(on: &Machine) {
    on.processes(|| async {
        let process = sh("exit 6").await?;
        assert_eq!(process.wait().await?, 6);
        for refused in [process.send_signal(Signal::TERM), process.terminate(), process.kill()] {
            assert_eq!(errno(&refused.unwrap_err()), Some(ESRCH));
        }
        assert_eq!(process.returncode(), Some(6));
        Ok(())
    });
}

fn signals_to_a_process_that_has_just_ended_are_ignored(on: &Machine) {
    on.processes(|| async {
        for delay in 0..6 {
            let process = create_subprocess_exec("sleep", ["0.01"]).await?;
            sleep(Duration::from_millis(7 + delay)).await?;
            let sent = process.send_signal(Signal::USR1);
            assert!(sent.is_ok() || sent.is_err_and(|error| errno(&error) == Some(ESRCH)));
            assert!([0, -10].contains(&process.wait().await?));
        }
        // The loop cannot know yet.
        let (process, hold) = held(3).await?;
        drop(hold);
        until_ended(process.pid());
        process.kill()?;
        assert_eq!(process.wait().await?, 3);
        Ok(())
    });
}

fn signals_reach_the_process_alone(on: &Machine) {
    on.processes(|| async {
        let script = "trap 'echo usr1' USR1; trap 'echo term; exit 8' TERM; echo ready; while :; do sleep 0.01; done";
        let process = sh(script).stdout(PIPE).await?;
        let stdout = process.stdout.as_ref().unwrap();
        assert_eq!(stdout.readline().await?, "ready\n");
        process.send_signal(Signal::USR1)?;
        assert_eq!(stdout.readline().await?, "usr1\n");
        process.terminate()?;
        assert_eq!(process.wait().await?, 8);

        // Its own child lives on, with the pipe, and does not hold up the wait.
        let (line, held) = lifeline().await?;
        let process = sh("sleep 0.2 & echo ready; wait; sleep 100").stdout(held).await?;
        assert_eq!(line.readline().await?, "ready\n");
        process.kill()?;
        assert_eq!(process.wait().await?, -9);
        assert!(timeout(Duration::from_millis(10), line.read(1)).await.unwrap_err().is_timeout());
        assert_eq!(line.read(1).await?, "");
        Ok(())
    });
}

fn a_process_that_ignores_the_request_to_end_is_killed(on: &Machine) {
    on.processes(|| async {
        let process = sh("trap '' TERM; echo ready; while :; do sleep 0.01; done").stdout(PIPE).await?;
        process.stdout.as_ref().unwrap().readline().await?;
        process.terminate()?;
        assert!(timeout(Duration::from_millis(50), process.wait()).await.unwrap_err().is_timeout());
        process.kill()?;
        assert_eq!(process.wait().await?, -9);
        Ok(())
    });
}

fn a_process_shows_its_number_and_its_return_code(on: &Machine) {
    on.processes(|| async {
        let starting = sh("exit 6");
        assert!(format!("{starting:?}").contains("begun: false"));
        let process = starting.await?;
        let text = format!("{process:?}");
        assert!(text.contains(&format!("pid: {}, returncode: None", process.pid())), "{text}");
        process.wait().await?;
        let text = format!("{process:?}");
        assert!(text.contains(&format!("pid: {}, returncode: Some(6)", process.pid())), "{text}");
        Ok(())
    });
}

fn a_process_that_ended_before_anybody_waited(on: &Machine) {
    on.processes(|| async {
        let (process, hold) = held(9).await?;
        drop(hold);
        until_ended(process.pid());
        assert_eq!(process.returncode(), None);
        assert_eq!(process.wait().await?, 9);
        let (process, hold) = held(10).await?;
        drop(hold);
        until_ended(process.pid());
        // The loop takes notice although nobody asks.
        gone(process.pid()).await?;
        assert_eq!(process.returncode(), Some(10));
        Ok(())
    });
}

fn the_end_is_noticed_while_the_loop_is_busy(on: &Machine) {
    on.processes(|| async {
        let process = sh("exit 11").await?;
        timeout(Duration::from_secs(10), async {
            while process.returncode().is_none() {
                sleep(0.0).await?;
            }
            Ok(())
        })
        .await?;
        assert_eq!(process.returncode(), Some(11));
        Ok(())
    });
}

fn k11_an_exit_status_that_somebody_else_took_is_255_and_reported(on: &Machine) {
    on.processes(|| async {
        let reports = Reports::new();
        for waits in [false, true] {
            let (process, hold) = held(6).await?;
            if waits {
                settle().await?;
            }
            drop(hold);
            reap(process.pid());
            assert_eq!(process.wait().await?, 255);
            let told = reports.take();
            assert!(told.len() == 1 && told[0].contains("exit status already read"), "{told:?}");
            assert!(told[0].contains(&process.pid().to_string()), "{told:?}");
            assert_eq!(errno(&process.kill().unwrap_err()), Some(ESRCH));
        }
        Ok(())
    });
}

fn processes_of_the_program_itself_are_left_alone(on: &Machine) {
    on.processes(|| async {
        let own = std::thread::spawn(|| {
            let code = |n: u32| Command::new("sh").args(["-c", &format!("exit {n}")]).status().unwrap().code();
            (0..20).map(code).collect::<Vec<_>>()
        });
        for n in 0..20 {
            assert_eq!(sh(&format!("exit {}", 100 + n)).await?.wait().await?, 100 + n);
        }
        assert_eq!(own.join().unwrap(), (0..20).map(Some).collect::<Vec<_>>());
        Ok(())
    });
}

fn k2_a_wait_that_is_late_leaves_the_process(on: &Machine) {
    on.processes(|| async {
        let process = create_subprocess_exec("sleep", ["100"]).await?;
        assert!(timeout(Duration::from_millis(10), process.wait()).await.unwrap_err().is_timeout());
        assert_eq!(process.returncode(), None);
        process.kill()?;
        assert_eq!(process.wait().await?, -9);
        Ok(())
    });
}

fn k6_cancelling_a_wait_leaves_the_process(on: &Machine) {
    on.processes(|| async {
        let (process, hold) = held(4).await?;
        let process = Rc::new(process);
        let waiting = Rc::clone(&process);
        let task = create_task(async move { waiting.wait().await });
        let cancelled = task.view();
        get_running_loop()?.call_soon(move || assert!(cancelled.cancel(None)))?;
        assert!((&task).await.unwrap_err().is_cancelled());
        assert!(!task.cancel(None));
        assert_eq!(process.returncode(), None);
        drop(hold);
        assert_eq!(process.wait().await?, 4);
        Ok(())
    });
}

fn several_wait_for_the_same_process(on: &Machine) {
    on.processes(|| async {
        let process = Rc::new(sh("cat; sleep 0.02; exit 9").stdin(PIPE).stdout(PIPE).await?);
        let waits = |count: usize| {
            let wait = |_| {
                let process = Rc::clone(&process);
                async move { process.wait().await }
            };
            gather((0..count).map(wait).collect::<Vec<_>>())
        };
        let talk = async {
            assert_eq!(process.communicate("some data").await?.0.unwrap(), "some data");
            Ok(())
        };
        let (all, ()) = futures::try_join!(async { waits(20).await }, talk)?;
        assert_eq!(all, [9; 20]);
        assert_eq!(waits(10).await?, [9; 10]);
        Ok(())
    });
}

fn a_known_return_code_takes_no_turn(on: &Machine) {
    on.processes_exact(|| async {
        let process = sh("exit 2").stdout(PIPE).await?;
        while process.returncode().is_none() {
            settle().await?;
        }
        let before = turn();
        assert_eq!(process.wait().await?, 2);
        assert_eq!(turn(), before);
        Ok(())
    });
}

fn k4_waiting_is_about_the_process_alone(on: &Machine) {
    on.processes(|| async {
        // A pipe that nobody reads from holds up the process.
        let process = sh("yes | head -c 300000").stdout(PIPE).await?;
        assert!(timeout(Duration::from_millis(30), process.wait()).await.unwrap_err().is_timeout());
        assert_eq!(process.returncode(), None);
        assert_eq!(process.stdout.as_ref().unwrap().read_to_end().await?.len(), 300_000);
        assert_eq!(process.wait().await?, 0);

        // Its own child, which holds the pipe, does not hold up the wait.
        let process = sh("sleep 100 & echo $!; exit 7").stdout(PIPE).await?;
        assert_eq!(process.wait().await?, 7);
        let stdout = process.stdout.as_ref().unwrap();
        let grandchild = String::from_utf8(stdout.readline().await?.to_vec()).unwrap();
        assert!(timeout(Duration::from_millis(20), stdout.read(1)).await.unwrap_err().is_timeout());
        let grandchild = rustix::process::Pid::from_raw(grandchild.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(grandchild, rustix::process::Signal::KILL)?;
        assert_eq!(stdout.read(1).await?, "");
        Ok(())
    });
}

fn a_dropped_process_runs_on_and_leaves_no_zombie(on: &Machine) {
    on.processes(|| async {
        for waits in [false, true] {
            let (process, hold) = held(1).await?;
            if waits {
                settle().await?;
            }
            let pid = process.pid();
            drop(process);
            settle().await?;
            assert!(exists(pid) && !is_zombie(pid));
            drop(hold);
            gone(pid).await?;
        }
        Ok(())
    });
}

fn a_dropped_process_is_killed_if_that_was_asked_for(on: &Machine) {
    on.processes(|| async {
        let process = sh("exec sleep 100").kill_on_drop(true).await?;
        let pid = process.pid();
        drop(process);
        gone(pid).await?;
        // Also with the task that owns it.
        let known = Rc::new(Cell::new(0));
        let tell = Rc::clone(&known);
        let task = create_task(async move {
            let process = sh("exec sleep 100").kill_on_drop(true).await?;
            tell.set(process.pid());
            process.wait().await
        });
        while known.get() == 0 {
            settle().await?;
        }
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        gone(known.get()).await
    });
}

fn k10_dropping_a_process_closes_its_pipes(on: &Machine) {
    on.processes(|| async {
        let (line, held) = lifeline().await?;
        let process = sh("cat >/dev/null; echo end >&2").stdin(PIPE).stdout(PIPE).stderr(held).await?;
        let pid = process.pid();
        drop(process);
        assert_eq!(line.readline().await?, "end\n");
        gone(pid).await
    });
}

fn a_dropped_process_that_has_ended_is_not_killed(on: &Machine) {
    on.processes(|| async {
        let reports = Reports::new();
        let process = create_subprocess_exec("sleep", ["100"]).kill_on_drop(true).await?;
        let pid = process.pid();
        process.kill()?;
        reap(pid);
        // The number is nobody's, and the loop does not know.
        assert_eq!(process.returncode(), None);
        drop(process);
        settle().await?;
        let told = reports.take();
        assert!(told.len() == 1 && told[0].contains("exit status already read"), "{told:?}");

        let (end, hold) = std::io::pipe()?;
        let process = create_subprocess_exec("cat", NO_ARGS).stdin(end).kill_on_drop(true).await?;
        let pid = process.pid();
        drop(hold);
        until_ended(pid);
        drop(process);
        gone(pid).await
    });
}

fn the_end_of_the_loop_leaves_processes_and_no_zombie(on: &Machine) {
    let kept = Rc::new(RefCell::new(Vec::new()));
    let round = Rc::new(Cell::new(0));
    on.processes(|| {
        let (kept, round) = (Rc::clone(&kept), Rc::clone(&round));
        async move {
            // One that ends later, one that is killed later, and one that has ended.
            for (script, kill) in [("sleep 0.1", false), ("exec sleep 100", true), ("exit 0", false)] {
                let process = sh(script).kill_on_drop(kill).await?;
                kept.borrow_mut().push(process);
            }
            // The loop has looked at them, or not.
            match round.replace(round.get() + 1) {
                0 => std::thread::sleep(Duration::from_millis(10)),
                _ => sleep(Duration::from_millis(10)).await?,
            }
            Ok(())
        }
    });
    let pids: Vec<_> = kept.borrow().iter().map(|process: &Process| process.pid()).collect();
    drop(kept.take());
    let deadline = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(|&pid| exists(pid)) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
}
