//! The subcommands. Each takes its arguments and gives the exit code, or says what is wrong with the arguments.

pub(crate) mod alone;
pub(crate) mod differential;
pub(crate) mod laws;
pub(crate) mod run;
pub(crate) mod trace;
pub(crate) mod upstream;

use std::io::{self, Write};
use std::process::ExitCode;

/// What a subcommand gives.
pub(crate) type Ended = Result<ExitCode, String>;

/// The value of an option, or a complaint.
pub(crate) fn value(option: &str, rest: &mut impl Iterator<Item = String>) -> Result<String, String> {
    rest.next().ok_or_else(|| format!("{option} needs a value; see --help"))
}

/// A complaint about an argument that no one knows.
pub(crate) fn unknown(argument: &str) -> String {
    format!("there is no option {argument:?}; see --help")
}

/// Prints the lines of a list. That nobody reads on is no failure.
pub(crate) fn list(lines: &[String]) -> Result<(), String> {
    match io::stdout().write_all((lines.join("\n") + "\n").as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}
