//! `run`: the suite on the backends, and how it went.

use std::process::ExitCode;

use aioli_compat_tests::{Backend, Case, Verdict, all_cases, backends, catch_places};
use serde_json::{Value, json};

use super::{Ended, unknown, value};

struct Options {
    /// The backends asked for by name; `None` for all.
    backends: Option<Vec<String>>,
    filter: String,
    json: bool,
}

fn options(arguments: Vec<String>) -> Result<Options, String> {
    let mut options = Options { backends: None, filter: String::new(), json: false };
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--backend" => {
                options.backends = Some(value("--backend", &mut rest)?.split(',').map(str::to_owned).collect());
            }
            "--filter" => options.filter = value("--filter", &mut rest)?,
            "--json" => options.json = true,
            other => return Err(unknown(other)),
        }
    }
    Ok(options)
}

/// A backend to run on, or why it is not there.
struct Column {
    name: String,
    backend: Result<&'static dyn Backend, String>,
}

fn columns(asked: Option<Vec<String>>) -> Result<Vec<Column>, String> {
    let known = backends();
    let names = asked.unwrap_or_else(|| known.iter().map(|backend| backend.name().to_owned()).collect());
    let find = |name: String| {
        let Some(&backend) = known.iter().find(|backend| backend.name() == name) else {
            let names: Vec<_> = known.iter().map(|backend| backend.name()).collect();
            return Err(format!("there is no backend {name:?}, but {}", names.join(", ")));
        };
        let backend = backend.missing().map_or(Ok(backend), |why| Err(format!("not there: {why}")));
        Ok(Column { name, backend })
    };
    names.into_iter().map(find).collect()
}

/// One case on one backend.
struct Entry<'c> {
    case: &'c Case,
    backend: &'c str,
    verdict: Verdict,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Sums {
    fn of<'e>(entries: impl Iterator<Item = &'e Entry<'e>>) -> Self {
        let mut sums = Sums::default();
        for entry in entries {
            match entry.verdict {
                Verdict::Passed => sums.passed += 1,
                Verdict::Failed(_) => sums.failed += 1,
                Verdict::Skipped(_) => sums.skipped += 1,
            }
        }
        sums
    }
}

/// Runs the cases.
pub(crate) fn run(arguments: Vec<String>) -> Ended {
    let options = options(arguments)?;
    let asked = options.backends.is_some();
    let columns = columns(options.backends)?;
    let cases: Vec<Case> = all_cases().into_iter().filter(|case| case.id().contains(&options.filter)).collect();
    if cases.is_empty() {
        return Err(format!("no case has {:?} in its name", options.filter));
    }
    catch_places();
    let mut entries = Vec::new();
    for column in &columns {
        for case in &cases {
            let verdict = match &column.backend {
                Ok(backend) => case.run_with(*backend, &super::alone::arguments(*backend, case)),
                Err(why) if asked => Verdict::Failed(why.clone()),
                Err(why) => Verdict::Skipped(why.clone()),
            };
            entries.push(Entry { case, backend: &column.name, verdict });
        }
    }
    if options.json {
        print_json(&columns, &cases, &entries);
    } else {
        print_text(&columns, &cases, &entries);
    }
    let failed = Sums::of(entries.iter()).failed > 0;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print_text(columns: &[Column], cases: &[Case], entries: &[Entry<'_>]) {
    for entry in entries {
        if let Verdict::Failed(why) = &entry.verdict {
            println!("FAILED {} {} [{}]: {why}", entry.backend, entry.case.id(), entry.case.rules);
        }
    }
    print_skips(columns, entries);
    let mut areas: Vec<_> = cases.iter().map(|case| case.area).collect();
    areas.dedup();
    let width = areas.iter().map(|area| area.len()).max().unwrap_or(0);
    print!("{:width$}", "");
    for column in columns {
        print!("  {:>16}", column.name);
    }
    println!();
    for area in areas {
        print!("{area:width$}");
        for column in columns {
            let of = |entry: &&Entry<'_>| entry.case.area == area && entry.backend == column.name;
            print!("  {:>16}", cell(Sums::of(entries.iter().filter(of))));
        }
        println!();
    }
    let sums = Sums::of(entries.iter());
    println!(
        "{} cases, {} backends: {} passed, {} failed, {} skipped",
        cases.len(),
        columns.len(),
        sums.passed,
        sums.failed,
        sums.skipped
    );
}

/// Cases that were skipped, those of one backend with one reason in one line.
fn print_skips(columns: &[Column], entries: &[Entry<'_>]) {
    for column in columns {
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for entry in entries.iter().filter(|entry| entry.backend == column.name) {
            if let Verdict::Skipped(why) = &entry.verdict {
                match reasons.iter_mut().find(|(reason, _)| reason == why) {
                    Some((_, cases)) => cases.push(entry.case.id()),
                    None => reasons.push((why, vec![entry.case.id()])),
                }
            }
        }
        for (why, cases) in reasons {
            println!("skipped {} {}, {why}: {}", column.name, cases.len(), cases.join(" "));
        }
    }
}

fn cell(sums: Sums) -> String {
    let mut text = format!("{} ok", sums.passed);
    if sums.failed > 0 {
        text = format!("{text}, {} FAILED", sums.failed);
    }
    if sums.skipped > 0 {
        text = format!("{text}, {} skipped", sums.skipped);
    }
    text
}

fn print_json(columns: &[Column], cases: &[Case], entries: &[Entry<'_>]) {
    let results: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let (verdict, why) = match &entry.verdict {
                Verdict::Passed => ("passed", None),
                Verdict::Failed(why) => ("failed", Some(why)),
                Verdict::Skipped(why) => ("skipped", Some(why)),
            };
            let rules: Vec<_> = entry.case.rules().collect();
            json!({
                "case": entry.case.id(),
                "area": entry.case.area,
                "backend": entry.backend,
                "rules": rules,
                "upstream": entry.case.upstream,
                "verdict": verdict,
                "why": why,
            })
        })
        .collect();
    let sums = Sums::of(entries.iter());
    let backends: Vec<_> = columns.iter().map(|column| &column.name).collect();
    let report = json!({
        "cases": cases.len(),
        "backends": backends,
        "passed": sums.passed,
        "failed": sums.failed,
        "skipped": sums.skipped,
        "results": results,
    });
    println!("{report:#}");
}
