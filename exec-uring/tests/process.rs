//! Processes: the ring itself waits for them where the kernel can.
#![allow(missing_docs)]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use aioli_core::driver::{Completions, Driver, OpId, Submit, Wait};
use aioli_core::op::{Op, Outcome};
use aioli_exec_uring::{Config, Rung, UringDriver};

/// How many descriptors of processes this program has open.
fn pidfds() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    open.filter(|path| std::fs::read_link(path).is_ok_and(|file| file.to_string_lossy().contains("pidfd"))).count()
}

fn start(driver: &mut UringDriver, id: OpId) {
    let pid = Command::new("sleep").arg("100").spawn().unwrap().id();
    assert!(matches!(driver.submit(id, Op::WaitProcess { pid }), Submit::Pending));
    driver.turn(Wait::No, &mut Completions::new()).unwrap();
}

fn kill(driver: &mut UringDriver, wait: OpId) -> ExitStatus {
    let killed = driver.submit(OpId(7), Op::SignalProcess { wait, signal: libc::SIGKILL });
    assert!(matches!(killed, Submit::Done(Outcome::Done(Ok(())))));
    let mut completions = Completions::new();
    while completions.is_empty() {
        driver.turn(Wait::Forever, &mut completions).unwrap();
    }
    let ended = completions.pop_front().unwrap();
    assert_eq!((ended.id, ended.more), (wait, false));
    match ended.outcome {
        Outcome::Exited(Ok(status)) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ring_that_waits_for_processes_opens_no_descriptor_until_a_signal_is_sent() {
    let Ok(driver) = UringDriver::new() else { return eprintln!("skipped: no io_uring") };
    let granted = driver.report().capabilities.iter().any(|(name, found)| name == "process waits" && found == "yes");
    let masked = Config::new().without(Rung::ProcessWaits).build().unwrap();
    for (mut driver, waits) in [(driver, granted), (masked, false)] {
        for id in [OpId(1), OpId(2)] {
            start(&mut driver, id);
        }
        assert_eq!(pidfds(), if waits { 0 } else { 2 });
        assert_eq!(kill(&mut driver, OpId(1)).signal(), Some(libc::SIGKILL));
        assert_eq!(pidfds(), if waits { 0 } else { 1 });
        assert_eq!(kill(&mut driver, OpId(2)).signal(), Some(libc::SIGKILL));
        assert_eq!(pidfds(), 0);
    }
}
