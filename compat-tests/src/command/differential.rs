//! `differential`: random programs on aioli and on CPython.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use aioli_compat_tests::differential::{Campaign, Findings, Stmt, Version, find_python};
use aioli_compat_tests::{Backend, backends};

use super::{Ended, unknown, value};

/// How many programs there are unless told otherwise.
const PROGRAMS: u64 = 2000;

/// Compares random programs.
pub(crate) fn run(arguments: Vec<String>) -> Ended {
    let (mut seed, mut programs, mut most, mut messages) = (None, PROGRAMS, 1, false);
    let (mut asked, mut python, mut jobs) = (None, None, None);
    let mut version = Version::One;
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let option = argument.as_str();
        match option {
            "--programs" => programs = number(option, &value(option, &mut rest)?)?,
            "--seed" => seed = Some(number(option, &value(option, &mut rest)?)?),
            "--language" => version = language(&value(option, &mut rest)?)?,
            "--backend" => {
                asked = Some(value(option, &mut rest)?.split(',').map(backend).collect::<Result<Vec<_>, _>>()?);
            }
            "--python" => python = Some(PathBuf::from(value(option, &mut rest)?)),
            "--jobs" => jobs = Some(number(option, &value(option, &mut rest)?)?),
            "--most" => most = number(option, &value(option, &mut rest)?)?,
            "--messages" => messages = true,
            other => return Err(unknown(other)),
        }
    }
    let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 16);
    let python = python.or_else(find_python).ok_or("there is no CPython 3.13 here: give one with --python")?;
    let jobs = jobs.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let backends = asked.unwrap_or_else(available);
    let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
    println!(
        "seed {seed}: {programs} programs of the language's version {} on {} and {}",
        version.number(),
        names.join(", "),
        python.display()
    );
    let campaign = Campaign { version, seed, programs, backends, python, jobs, messages, most };
    let findings = match campaign.run() {
        Ok(findings) => findings,
        Err(error) => {
            eprintln!("aioli-compat-tests: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    print(&findings, names.len());
    Ok(if findings.divergences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The backends that this machine has. Says which are missing, and why.
fn available() -> Vec<&'static dyn Backend> {
    let is_there = |backend: &&dyn Backend| match backend.driver() {
        Ok(_) => true,
        Err(error) => {
            println!("{} is not there: {error}", backend.name());
            false
        }
    };
    backends().into_iter().filter(is_there).collect()
}

fn print(findings: &Findings, backends: usize) {
    findings.divergences.iter().for_each(|divergence| println!("\n{divergence}"));
    println!("programs in which each statement ran:");
    for names in Stmt::names(findings.version).chunks(4) {
        for name in names {
            print!("  {name:>14} {:15}", findings.share(findings.ran(name)));
        }
        println!();
    }
    let rarest = findings.rarest();
    println!("a cancellation was delivered in {}", findings.share(findings.cancelled));
    println!("the rarest statement, {rarest}, ran in {}", findings.share(findings.ran(rarest)));
    println!("{} programs, {backends} backends: {} divergences", findings.programs, findings.divergences.len());
}

fn language(text: &str) -> Result<Version, String> {
    let version = text.parse().ok().and_then(Version::from_number);
    version.ok_or_else(|| format!("there is no version {text:?} of the language, but 1 and 2"))
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option} needs a number, not {text:?}"))
}

/// The backend of a name.
pub(super) fn backend(name: &str) -> Result<&'static dyn Backend, String> {
    let known = backends();
    known.iter().copied().find(|backend| backend.name() == name).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|backend| backend.name()).collect();
        format!("there is no backend {name:?}, but {}", names.join(", "))
    })
}
