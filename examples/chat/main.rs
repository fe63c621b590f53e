//! A chat server over TCP lines, to be used with `nc`.
//!
//! The first line that a client sends is its nickname; every later line reaches every other client as `nick: line`. A client that
//! does not take its lines is dropped, and so is one that is silent for too long. On Ctrl-C every client gets a goodbye, which is
//! flushed before the program ends: cleanup that awaits.

mod server;

use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
A chat server over TCP lines.

usage: chat [--listen ADDR] [--idle SECONDS]

  --listen ADDR    where to listen, as HOST:PORT (default 127.0.0.1:8765; port 0 takes a free one)
  --idle SECONDS   drop clients that are silent for so long (default 600)

Connect with `nc HOST PORT`. The first line is your nickname. Ctrl-C ends the server.";

fn options() -> std::result::Result<Option<(String, Duration)>, String> {
    let (mut listen, mut idle) = ("127.0.0.1:8765".to_owned(), Duration::from_secs(600));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--listen" => listen = value()?,
            "--idle" => {
                let text = value()?;
                let seconds = text.parse().map_err(|_| format!("--idle {text:?}: not a number of seconds"))?;
                idle = Duration::try_from_secs_f64(seconds).map_err(|error| format!("--idle {text:?}: {error}"))?;
            }
            _ => return Err(format!("{argument:?} is not an option; --help tells which there are")),
        }
    }
    Ok(Some((listen, idle)))
}

fn main() -> ExitCode {
    let (listen, idle) = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("chat: {error}");
            return ExitCode::from(2);
        }
    };
    match aioli::run(server::chat(listen, idle)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == aioli::ErrorKind::Interrupted => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
    }
}
