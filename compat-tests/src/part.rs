//! [`Machine::part`]: what a case has to do in a process of its own.

use std::fs;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use aioli_core::{Result, sleep};
use signal_hook::consts::SIGINT;
use signal_hook::low_level::exit;

use crate::machine::Machine;

/// Names the part that a process plays.
const PART: &str = "AIOLI_CASE_PART";

/// The exit code of a part that succeeded. A process that never came to its part has another.
const PLAYED: i32 = 47;

/// How long a part may take. Its process does not outlive that.
const LIMIT: Duration = Duration::from_secs(40);

/// Everything that was begun is over then.
const SETTLED: Duration = Duration::from_millis(20);

impl Machine {
    /// A command that runs this program again, to play a part of this case and nothing else. Signals, standard streams and forks are
    /// a whole process's, and the suite has many threads.
    ///
    /// In the process of the part the case runs from its beginning, comes here again, and ends here. There is no command in a process
    /// that plays another part, and none if the program cannot run a case alone; the case is skipped then.
    pub(crate) fn part(&self, name: &str, body: impl FnOnce()) -> Option<Command> {
        match std::env::var(PART) {
            Ok(played) if played == name => play(body),
            Ok(_) => return None,
            Err(_) => (),
        }
        let Some(arguments) = self.again() else {
            self.skip("it needs a process of its own, and this program cannot run a case alone");
            return None;
        };
        hear_interrupts();
        let mut command = Command::new(std::env::current_exe().expect("the program's own path"));
        command.args(arguments).env(PART, name);
        Some(command)
    }

    /// Plays a part, which must succeed.
    #[track_caller]
    pub(crate) fn apart(&self, name: &str, body: impl FnOnce()) {
        self.apart_until(name, body, was_played);
    }

    /// Plays a part that ends with an expected status.
    #[track_caller]
    pub(crate) fn apart_until(&self, name: &str, body: impl FnOnce(), expected: impl FnOnce(ExitStatus) -> bool) {
        let Some(mut command) = self.part(name, body) else { return };
        let output = command.stdin(Stdio::null()).output().expect("this program starts again");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(expected(output.status), "{name}: {}: {errors}", output.status);
    }

    /// What a round opens is closed when it is over and everybody knows.
    #[track_caller]
    pub(crate) fn leaves_no_descriptor<F>(&self, round: impl Fn() -> F + Clone + 'static)
    where
        F: Future<Output = Result<()>> + 'static,
    {
        self.apart("descriptors", || {
            self.net(|| {
                let round = round.clone();
                async move {
                    round().await?;
                    sleep(SETTLED).await?;
                    let before = descriptors();
                    for _ in 0..3 {
                        round().await?;
                    }
                    sleep(SETTLED).await?;
                    assert_eq!(descriptors(), before);
                    Ok(())
                }
            });
        });
    }
}

/// Has the processes that are started from here on hear Ctrl-C, also if this one ignores it, as what a shell starts in the background
/// does: that is passed on, while a handler is not.
fn hear_interrupts() {
    static HEARD: Once = Once::new();
    HEARD.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").expect("/proc");
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = u64::from_str_radix(ignored.map_or("0", str::trim), 16).expect("a mask of signals");
        if ignored & 1 << (SIGINT - 1) != 0 {
            signal_hook::flag::register(SIGINT, Arc::default()).expect("a handler of Ctrl-C");
        }
    });
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

fn play(body: impl FnOnce()) -> ! {
    thread::spawn(|| {
        thread::sleep(LIMIT);
        eprintln!("the part does not end");
        exit(3);
    });
    exit(match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(()) => PLAYED,
        Err(_) => 101,
    })
}

/// Whether this is the status of a part that succeeded.
pub(crate) fn was_played(status: ExitStatus) -> bool {
    status.code() == Some(PLAYED)
}
