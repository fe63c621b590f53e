//! Byte strings as programs for a timer queue and its model, by the very code that the tests of the package use.
#![no_main]

#[path = "../../tests/suite/lockstep/mod.rs"]
mod lockstep;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|program: &[u8]| lockstep::run_program(program));
