//! The conformance suite as a program: a subcommand a module.
#![forbid(unsafe_code)]

mod command;

use std::process::ExitCode;

const HELP: &str = "\
Tests that every backend behaves as asyncio does.

usage: aioli-compat-tests COMMAND [OPTIONS]

  run [--backend LIST] [--filter TEXT] [--json]
      Runs all cases on epoll, uring and sim, or on those of the list (epoll,uring,sim). --filter takes the cases in whose
      area::name the text occurs. Prints the failures, a matrix of areas and backends, and the sums.

A command ends with 1 if something failed, and with 2 if it was called wrongly.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = match arguments.next().as_deref() {
        Some("run") => command::run::run,
        Some("--help" | "-h") => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        None => {
            eprintln!("aioli-compat-tests: a command is missing\n\n{HELP}");
            return ExitCode::from(2);
        }
        Some(other) => {
            eprintln!("aioli-compat-tests: there is no command {other:?}; see --help");
            return ExitCode::from(2);
        }
    };
    command(arguments.collect()).unwrap_or_else(|wrong| {
        eprintln!("aioli-compat-tests: {wrong}");
        ExitCode::from(2)
    })
}
