//! What a signal does when its handler is gone, in a process of its own: it ends that.

mod common;

use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::rc::Rc;

use aioli_core::{get_running_loop, sleep};
use aioli_io::{LoopSignals, Signal};
use common::run;

const NUMBER: &str = "AIOLI_TEST_SIGNAL";

/// Handles a signal once, on each backend, and has it come once more when nobody handles it.
fn handle(number: i32) {
    let raise = move || signal_hook::low_level::raise(number);
    run(move || async move {
        let signal = Signal::new(number)?;
        let (event_loop, count) = (get_running_loop()?, Rc::new(Cell::new(0)));
        let counter = Rc::clone(&count);
        event_loop.add_signal_handler(signal, move || counter.set(counter.get() + 1))?;
        raise()?;
        while count.get() == 0 {
            sleep(0.001).await?;
        }
        assert!(event_loop.remove_signal_handler(signal));
        Ok(())
    });
    raise().unwrap();
}

#[test]
fn a_signal_of_any_number_is_handled_and_ends_the_program_when_its_handler_is_gone() {
    if let Ok(number) = std::env::var(NUMBER) {
        return handle(number.parse().unwrap());
    }
    for number in [10, 15, 16, 29, 30, 34, 40, 64] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let status =
            command.args(["--nocapture"]).env(NUMBER, number.to_string()).stdout(Stdio::null()).status().unwrap();
        let ended_by = status.signal().or(status.code().map(|code| code - 128));
        assert_eq!(ended_by, Some(number), "{status:?}");
    }
}
