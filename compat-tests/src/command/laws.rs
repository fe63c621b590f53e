//! `laws`: each law and rule with its cases.

use std::process::ExitCode;

use aioli_compat_tests::{Bearing, all_cases, rules};

use super::{Ended, list, unknown};

/// Lists the laws and rules. One that has no case, although it concerns aioli, is a failure.
pub(crate) fn run(arguments: Vec<String>) -> Ended {
    if let Some(argument) = arguments.first() {
        return Err(unknown(argument));
    }
    let (cases, rules) = (all_cases(), rules());
    let (mut tested, mut untested, mut elsewhere, mut not_here, mut later) = (0, 0, 0, 0, 0);
    let mut lines = Vec::new();
    for rule in &rules {
        lines.push(format!("{}: {}", rule.code, rule.says));
        match rule.bearing {
            Bearing::NotHere(_) => not_here += 1,
            Bearing::Elsewhere(_) => elsewhere += 1,
            Bearing::Later(_) => later += 1,
            Bearing::Here => {
                let of_rule: Vec<_> = cases.iter().filter(|case| case.rules().any(|code| code == rule.code)).collect();
                if of_rule.is_empty() {
                    lines.push("    NO CASE".to_owned());
                    untested += 1;
                } else {
                    tested += 1;
                }
                lines.extend(of_rule.iter().map(|case| format!("    {}", case.id())));
            }
        }
    }
    lines.push(format!(
        "{} laws and rules: {tested} with cases, {untested} without, {elsewhere} elsewhere, {not_here} not here, {later} later; {} cases",
        rules.len(),
        cases.len()
    ));
    list(&lines)?;
    Ok(if untested == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
