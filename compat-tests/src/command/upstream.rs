//! `upstream`: which of CPython's own tests are cases here.

use std::process::ExitCode;

use aioli_compat_tests::{Status, Upstream, upstream};

use super::{Ended, list, unknown};

/// Prints the checklist and its counts.
pub(crate) fn run(arguments: Vec<String>) -> Ended {
    if let Some(argument) = arguments.first() {
        return Err(unknown(argument));
    }
    let all = upstream();
    let mut lines: Vec<_> = all.iter().map(line).collect();
    let of = |version: &'static str| all.iter().filter(move |test| test.version == version);
    lines.push(count("as written", "of CPython 3.13", of("3.13").filter(|test| test.as_written)));
    lines.push(count("rewritten", "of CPython 3.13", of("3.13").filter(|test| !test.as_written)));
    lines.push(count("all", "of CPython 3.13", of("3.13")));
    for version in ["3.14", "3.15"] {
        lines.push(count("later", &format!("added by {version}"), of(version)));
    }
    list(&lines)?;
    Ok(ExitCode::SUCCESS)
}

fn line(test: &Upstream) -> String {
    match &test.status {
        Status::Ported(cases) => format!("ported    {}: {}", test.name, cases.join(" ")),
        Status::Elsewhere(place) => format!("ported    {}: in {place}", test.name),
        Status::NotHere(why) => format!("not here  {}: {why}", test.name),
        Status::Missing(why) => format!("missing   {}: {why}", test.name),
    }
}

fn count<'t>(name: &str, whose: &str, tests: impl Iterator<Item = &'t Upstream>) -> String {
    let (mut ported, mut not_here, mut missing) = (0, 0, 0);
    for test in tests {
        match test.status {
            Status::Ported(_) | Status::Elsewhere(_) => ported += 1,
            Status::NotHere(_) => not_here += 1,
            Status::Missing(_) => missing += 1,
        }
    }
    let all = ported + not_here + missing;
    format!("{name}: {all} tests {whose}: {ported} ported, {not_here} not applicable, {missing} missing")
}
