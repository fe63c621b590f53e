//! `upstream`: which of CPython's own tests are cases here.

use std::process::ExitCode;

use aioli_compat_tests::{Status, Upstream, upstream};

use super::{Ended, unknown};

/// Prints the checklist and its counts.
pub(crate) fn run(arguments: Vec<String>) -> Ended {
    if let Some(argument) = arguments.first() {
        return Err(unknown(argument));
    }
    let all = upstream();
    for test in &all {
        match &test.status {
            Status::Ported(cases) => println!("ported    {}: {}", test.name, cases.join(" ")),
            Status::Elsewhere(place) => println!("ported    {}: in {place}", test.name),
            Status::NotHere(why) => println!("not here  {}: {why}", test.name),
            Status::Missing(why) => println!("missing   {}: {why}", test.name),
        }
    }
    let of = |version: &'static str| all.iter().filter(move |test| test.version == version);
    count("as written", "of CPython 3.13", of("3.13").filter(|test| test.as_written));
    count("rewritten", "of CPython 3.13", of("3.13").filter(|test| !test.as_written));
    count("all", "of CPython 3.13", of("3.13"));
    for version in ["3.14", "3.15"] {
        count("later", &format!("added by {version}"), of(version));
    }
    Ok(ExitCode::SUCCESS)
}

fn count<'t>(name: &str, whose: &str, tests: impl Iterator<Item = &'t Upstream>) {
    let (mut ported, mut not_here, mut missing) = (0, 0, 0);
    for test in tests {
        match test.status {
            Status::Ported(_) | Status::Elsewhere(_) => ported += 1,
            Status::NotHere(_) => not_here += 1,
            Status::Missing(_) => missing += 1,
        }
    }
    println!(
        "{name}: {} tests {whose}: {ported} ported, {not_here} not applicable, {missing} missing",
        ported + not_here + missing
    );
}
