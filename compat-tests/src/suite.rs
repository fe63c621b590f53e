//! All cases, and how one is tried.

use crate::backend::Backend;
use crate::case::{Case, Verdict};
use crate::cases;

/// All cases, by area.
pub fn all_cases() -> Vec<Case> {
    let mut all: Vec<Case> = cases::TABLES.iter().flat_map(|table| table.iter().copied()).collect();
    all.sort_by_key(|case| case.area);
    all
}

/// Tries one case on a backend: what the tests call that [`conformance!`](crate::conformance) makes, each with its path.
///
/// # Panics
/// The case failed, or there is none of this name.
#[track_caller]
pub fn check(backend: &'static dyn Backend, area: &str, name: &str, path: &str) {
    let mut tables = cases::TABLES.iter().flat_map(|table| table.iter());
    let Some(case) = tables.find(|case| case.area == area && case.name == name) else {
        panic!("there is no case {area}::{name}");
    };
    // The harness knows its tests by their paths without the crate.
    let test = path.split_once("::").map_or(path, |(_, path)| path);
    let again = [test, "--exact", "--nocapture", "--test-threads=1"].map(str::to_owned);
    match case.run_with(backend, &again) {
        Verdict::Passed => (),
        Verdict::Failed(why) => panic!("{} on {}: {why}", case.id(), backend.name()),
        Verdict::Skipped(why) => println!("skipped: {why}"),
    }
}
