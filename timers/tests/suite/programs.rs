//! The fuzz target's byte programs, random ones and those that are kept.

use std::path::Path;

use crate::lockstep::run_program;
use crate::rng::{Rng, Seed, first_seed, steps};

#[test]
fn random_programs_run() {
    let mut left = steps(1_000_000);
    let mut seed = first_seed();
    while left > 0 {
        let _printed_on_failure = Seed(seed);
        let mut rng = Rng::new(seed);
        let length = rng.below(2000) + 1;
        let program: Vec<u8> = (0..length).map(|_| rng.next() as u8).collect();
        run_program(&program);
        left = left.saturating_sub(length);
        seed += 1;
    }
}

#[test]
fn kept_programs_run() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds");
    let mut programs = 0;
    for entry in kept.read_dir().expect("the kept programs are there") {
        let path = entry.expect("the directory can be read").path();
        if path.file_name().is_some_and(|name| name == ".gitattributes") {
            continue;
        }
        // So that a failure, whose output is shown, ends with the name of the program.
        println!("{}", path.display());
        run_program(&std::fs::read(&path).expect("the program can be read"));
        programs += 1;
    }
    assert!(programs >= 29, "only {programs} programs in {}", kept.display());
}
