//! A loop in another process than its own.

use std::io::{Read, Write};

use aioli_core::ErrorKind;
use fork::Fork;

use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "driver" in driver_process as __cases_driver_process;
    in_a_forked_child_the_loop_refuses_to_run_and_the_parents_goes_on: "L12";
}

fn in_a_forked_child_the_loop_refuses_to_run_and_the_parents_goes_on(on: &Machine) {
    on.apart("fork", || forks(on));
}

fn forks(on: &Machine) {
    // A simulated machine shares nothing with the parent's.
    let expected = if on.has_descriptors() { "refused" } else { "ran" };
    let runner = on.plain_runner();
    runner.run(async { Ok(()) }).unwrap();
    let (mut answers, mut asked) = std::io::pipe().unwrap();
    match fork::fork().unwrap() {
        Fork::Child => {
            // Other threads may have held locks: the child does as little as it can.
            let refused = match runner.run(async { aioli_core::sleep(0.001).await }) {
                Err(error) => error.kind() == ErrorKind::Io,
                Ok(()) => false,
            };
            let _ = asked.write_all(if refused { b"refused" } else { b"ran" });
            std::mem::forget(runner);
            signal_hook::low_level::exit(0);
        }
        Fork::Parent(child) => {
            drop(asked);
            let mut answer = String::new();
            answers.read_to_string(&mut answer).unwrap();
            fork::waitpid(child).unwrap();
            assert_eq!(answer, expected);
        }
    }
    assert_eq!(runner.run(async { Ok(7) }).unwrap(), 7);
    runner.close().unwrap();
}
