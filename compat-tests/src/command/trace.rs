//! `trace`: the traces of given programs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::process::ExitCode;
use std::rc::Rc;

use aioli_compat_tests::{
    Backend,
    differential::{self, Program},
};

use super::{Ended, unknown, value};

/// Runs the programs of a file, one a line, and prints a trace a line.
pub(crate) fn run(arguments: Vec<String>) -> Ended {
    let (mut file, mut backend, mut messages) = (None, super::differential::backend("sim")?, false);
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--backend" => backend = super::differential::backend(&value("--backend", &mut rest)?)?,
            "--messages" => messages = true,
            option if option.starts_with("--") => return Err(unknown(option)),
            _ if file.is_some() => return Err("trace takes one file; see --help".into()),
            _ => file = Some(argument),
        }
    }
    let file = file.ok_or("trace needs a file with programs, or - for standard input; see --help")?;
    let source: Box<dyn BufRead> = match file.as_str() {
        "-" => Box::new(io::stdin().lock()),
        path => Box::new(BufReader::new(File::open(path).map_err(|error| format!("{path}: {error}"))?)),
    };
    match traces(source, backend, messages) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(problem) => {
            eprintln!("aioli-compat-tests: {file}: {problem}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn traces(source: impl BufRead, backend: &dyn Backend, messages: bool) -> Result<(), String> {
    let mut output = BufWriter::new(io::stdout().lock());
    for (number, line) in (1..).zip(source.lines()) {
        let place = |problem: &dyn std::fmt::Display| format!("line {number}: {problem}");
        let line = line.map_err(|error| place(&error))?;
        if line.trim().is_empty() {
            continue;
        }
        let program: Program = line.parse().map_err(|error| place(&error))?;
        let driver = differential::driver(backend).map_err(|error| place(&error))?;
        let ran = differential::run(&Rc::new(program), driver).map_err(|error| place(&error))?;
        // Whoever sends programs one by one may wait for each trace.
        let written = writeln!(output, "{}", ran.trace.to_json(messages)).and_then(|()| output.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()), // nobody reads on
            written => written.map_err(|error| place(&error))?,
        }
    }
    Ok(())
}
