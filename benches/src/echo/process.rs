//! The process a server runs in, from both sides.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use std::{env, process, thread};

use super::{Server, servers};
use crate::machine::{self, Usage};

/// The argument with which [`Process::start`] starts this program again, before the server's name.
const SERVE: &str = "--serve";
const CORE: usize = 0;

/// If this process was started to be a server, is one until it is told to end; otherwise returns at once.
///
/// # Errors
///
/// What the server failed with.
pub fn serve() -> io::Result<()> {
    let mut args = env::args().skip(1);
    if args.next().as_deref() != Some(SERVE) {
        return Ok(());
    }
    let name = args.next().unwrap_or_default();
    let server = servers().into_iter().find(|server| server.name == name);
    let server = server.ok_or_else(|| io::Error::other(format!("no server {name}")))?;
    machine::pin_to(CORE);
    thread::spawn(report);
    (server.serve)(|address| println!("{address}"))
}

/// Answers each line on standard input with the CPU time used so far; at its end, so also if the parent dies, ends the process.
fn report() {
    for _ in io::stdin().lines().map_while(Result::ok) {
        match Usage::now() {
            Ok(usage) => println!("{} {}", usage.user.as_nanos(), usage.system.as_nanos()),
            Err(error) => println!("{error}"),
        }
    }
    process::exit(0);
}

/// A running server. Ends with this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Process {
    /// Starts this program again as `server`, and waits until it listens. The program's `main` must begin with [`serve`].
    ///
    /// # Errors
    ///
    /// If the process does not start, or says anything else than where it listens.
    pub fn start(server: Server) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args([SERVE, server.name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let mut started = Self { child, ask, answers: BufReader::new(stdout), address: ([0, 0, 0, 0], 0).into() };
        let line = started.answer()?;
        started.address =
            line.parse().map_err(|_| io::Error::other(format!("{}: odd address: {line}", server.name)))?;
        Ok(started)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The CPU time it has used so far.
    ///
    /// # Errors
    ///
    /// If it does not answer, having died for instance.
    pub fn usage(&mut self) -> io::Result<Usage> {
        self.ask.as_mut().ok_or_else(|| io::Error::other("no pipe"))?.write_all(b"\n")?;
        let line = self.answer()?;
        let mut nanos = line.split(' ').map(|field| field.parse().map(Duration::from_nanos));
        match (nanos.next(), nanos.next()) {
            (Some(Ok(user)), Some(Ok(system))) => Ok(Usage { user, system }),
            _ => Err(io::Error::other(format!("odd usage: {line}"))),
        }
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(io::Error::other(format!("the server ended: {}", self.child.wait()?)));
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input tells it to end. Killing it as well covers a server that does not listen to that; there is nobody
        // to tell about a failure of either.
        drop(self.ask.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
