//! `laws`: each law and rule with its cases.

use std::process::ExitCode;

use aioli_compat_tests::{Bearing, all_cases, rules};

use super::{Ended, unknown};

/// Lists the laws and rules. One that has no case, although it concerns aioli, is a failure.
pub(crate) fn run(arguments: Vec<String>) -> Ended {
    if let Some(argument) = arguments.first() {
        return Err(unknown(argument));
    }
    let (cases, rules) = (all_cases(), rules());
    let (mut tested, mut untested, mut elsewhere, mut not_here, mut later) = (0, 0, 0, 0, 0);
    for rule in &rules {
        println!("{}: {}", rule.code, rule.says);
        match rule.bearing {
            Bearing::NotHere(_) => not_here += 1,
            Bearing::Elsewhere(_) => elsewhere += 1,
            Bearing::Later(_) => later += 1,
            Bearing::Here => {
                let of_rule: Vec<_> = cases.iter().filter(|case| case.rules().any(|code| code == rule.code)).collect();
                if of_rule.is_empty() {
                    println!("    NO CASE");
                    untested += 1;
                } else {
                    tested += 1;
                }
                for case in of_rule {
                    println!("    {}", case.id());
                }
            }
        }
    }
    println!(
        "{} laws and rules: {tested} with cases, {untested} without, {elsewhere} elsewhere, {not_here} not here, {later} later; {} cases",
        rules.len(),
        cases.len()
    );
    Ok(if untested == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
