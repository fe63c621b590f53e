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
  alone BACKEND CASE
      Runs one case on one backend. The suite calls itself so for cases that need a process of their own.
  differential [--language V] [--programs N] [--seed S] [--backend LIST] [--python PATH] [--jobs J] [--messages] [--most N]
      Runs N random programs (2000) of version V of the language (1, or 2), beginning with the seed S (a fresh one), on epoll, uring
      and sim, or those of the list, and on CPython 3.13, and compares what they do. A difference is shrunk to a small program and
      shown; the search ends after --most of them (1). --messages compares the messages of cancellations too.
  trace FILE [--backend B] [--messages]
      Runs the programs in a file, one a line, on sim or another backend, and prints the trace of each. The file - is standard input.
  laws
      Lists each law and rule with its cases.
  upstream
      Lists CPython's own tests of asyncio: ported, not applicable here and why, or missing.

A command ends with 1 if something failed, and with 2 if it was called wrongly.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = match arguments.next().as_deref() {
        Some("run") => command::run::run,
        Some("alone") => command::alone::run,
        Some("differential") => command::differential::run,
        Some("trace") => command::trace::run,
        Some("laws") => command::laws::run,
        Some("upstream") => command::upstream::run,
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
