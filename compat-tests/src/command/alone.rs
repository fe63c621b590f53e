//! `alone`: one case on one backend.

use std::process::ExitCode;

use aioli_compat_tests::{Backend, Case, Verdict, all_cases, backends};

use super::Ended;

/// The arguments that run a case on a backend.
pub(crate) fn arguments(backend: &dyn Backend, case: &Case) -> [String; 3] {
    ["alone".to_owned(), backend.name().to_owned(), case.id()]
}

/// Runs the case.
pub(crate) fn run(arguments: Vec<String>) -> Ended {
    let [name, id] = arguments.as_slice() else { return Err("alone takes a backend and a case".to_owned()) };
    let backend = backends().into_iter().find(|backend| backend.name() == name);
    let backend = backend.ok_or_else(|| format!("there is no backend {name:?}"))?;
    let case = all_cases().into_iter().find(|case| case.id() == *id);
    let case = case.ok_or_else(|| format!("there is no case {id:?}"))?;
    Ok(match case.run_with(backend, &self::arguments(backend, &case)) {
        Verdict::Passed => ExitCode::SUCCESS,
        Verdict::Failed(why) => {
            println!("FAILED {why}");
            ExitCode::FAILURE
        }
        Verdict::Skipped(why) => {
            println!("skipped, {why}");
            ExitCode::SUCCESS
        }
    })
}
