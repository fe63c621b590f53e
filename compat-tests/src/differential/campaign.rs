//! [`Campaign`]: many random programs on some backends and on CPython.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::generate::generate;
use super::oracle::Oracle;
use super::program::{Program, Stmt, Version};
use super::run::{driver, run};
use super::shrink::shrink;
use super::side_by_side::side_by_side;
use crate::backend::Backend;

/// Programs of one seed after the other, on some backends and on CPython.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The version of the language.
    pub version: Version,
    /// The seed of the first program.
    pub seed: u64,
    /// How many programs.
    pub programs: u64,
    /// What they run on.
    pub backends: Vec<&'static dyn Backend>,
    /// CPython 3.13.
    pub python: PathBuf,
    /// How many threads, each with a process of CPython's.
    pub jobs: usize,
    /// Whether the messages of cancellations are compared too.
    pub messages: bool,
    /// How many divergences end it.
    pub most: usize,
}

/// A program whose traces differ.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// The seed of the program that it was found with.
    pub seed: u64,
    /// The backend.
    pub backend: &'static str,
    /// The smallest program that was found.
    pub program: Program,
    /// aioli's trace of it.
    pub ours: String,
    /// CPython's.
    pub theirs: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence { seed, backend, program, ours, theirs } = self;
        write!(f, "divergence on {backend}, found with seed {seed}\n{program}\n{}", side_by_side(ours, theirs))
    }
}

/// What a campaign came to.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The version of the language.
    pub version: Version,
    /// How many programs were compared.
    pub programs: u64,
    /// In how many of them a cancellation was delivered before main's body ended.
    pub cancelled: u64,
    /// In how many of them each statement ran.
    pub statements: BTreeMap<&'static str, u64>,
    /// The differences, by seed.
    pub divergences: Vec<Divergence>,
}

/// How many programs CPython is given at once.
const CHUNK: u64 = 64;

impl Campaign {
    /// Runs it.
    ///
    /// # Errors
    /// CPython or a backend failed.
    pub fn run(&self) -> io::Result<Findings> {
        let next = AtomicU64::new(0);
        let findings = Mutex::new(Findings { version: self.version, ..Findings::default() });
        let work = || -> io::Result<()> {
            let mut oracle = Oracle::start(&self.python, self.messages)?;
            loop {
                let from = next.fetch_add(CHUNK, Ordering::Relaxed);
                if from >= self.programs {
                    return Ok(());
                }
                let chunk = self.chunk(from..self.programs.min(from + CHUNK), &mut oracle)?;
                let mut findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
                findings.add(chunk);
                if findings.divergences.len() >= self.most {
                    next.store(self.programs, Ordering::Relaxed);
                }
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs.max(1)).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(panicked())));
            joined.collect::<io::Result<()>>()
        })?;
        let mut findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
        findings.divergences.sort_by_key(|divergence| divergence.seed);
        findings.divergences.truncate(self.most);
        Ok(findings)
    }

    fn chunk(&self, numbers: std::ops::Range<u64>, oracle: &mut Oracle) -> io::Result<Findings> {
        let seeds: Vec<_> = numbers.map(|number| self.seed.wrapping_add(number)).collect();
        let programs: Vec<_> = seeds.iter().map(|seed| Rc::new(generate(*seed, self.version))).collect();
        let theirs = oracle.traces(programs.iter().map(|program| &**program))?;
        let mut findings = Findings::default();
        for ((seed, program), theirs) in seeds.iter().zip(&programs).zip(theirs) {
            for (index, backend) in self.backends.iter().enumerate() {
                let ran = run(program, driver(*backend)?).map_err(|error| failed(*seed, &error))?;
                if index == 0 {
                    findings.programs += 1;
                    findings.cancelled += u64::from(ran.trace.delivers_cancellation());
                    ran.statements.iter().for_each(|name| *findings.statements.entry(name).or_default() += 1);
                }
                if ran.trace.to_json(self.messages) != theirs {
                    findings.divergences.push(self.shrunk(*seed, program, *backend, oracle)?);
                }
            }
        }
        Ok(findings)
    }

    fn shrunk(
        &self,
        seed: u64,
        program: &Program,
        backend: &'static dyn Backend,
        oracle: &mut Oracle,
    ) -> io::Result<Divergence> {
        let ours = |program: &Program| -> io::Result<String> {
            let ran = run(&Rc::new(program.clone()), driver(backend)?).map_err(|error| failed(seed, &error))?;
            Ok(ran.trace.to_json(self.messages))
        };
        let program = shrink(program, |candidates| {
            for some in candidates.chunks(16) {
                let theirs = oracle.traces(some.iter())?;
                for (candidate, theirs) in some.iter().zip(&theirs) {
                    if ours(candidate)? != *theirs {
                        return Ok::<_, io::Error>(candidates.iter().position(|one| std::ptr::eq(one, candidate)));
                    }
                }
            }
            Ok(None)
        })?;
        let theirs = oracle.traces([&program].into_iter())?.swap_remove(0);
        Ok(Divergence { seed, backend: backend.name(), ours: ours(&program)?, program, theirs })
    }
}

fn failed(seed: u64, error: &aioli_core::Error) -> io::Error {
    io::Error::other(format!("the program of seed {seed} could not be run: {error}"))
}

fn panicked() -> io::Error {
    io::Error::other("a worker panicked")
}

impl Findings {
    fn add(&mut self, other: Findings) {
        self.programs += other.programs;
        self.cancelled += other.cancelled;
        for (name, count) in other.statements {
            *self.statements.entry(name).or_default() += count;
        }
        self.divergences.extend(other.divergences);
    }

    /// In how many programs a statement ran.
    pub fn ran(&self, statement: &str) -> u64 {
        self.statements.get(statement).copied().unwrap_or_default()
    }

    /// The version's statement that ran in the fewest programs.
    pub fn rarest(&self) -> &'static str {
        Stmt::names(self.version).iter().min_by_key(|name| self.ran(name)).copied().unwrap_or_default()
    }

    /// A number of programs, and what part of all it is.
    pub fn share(&self, programs: u64) -> String {
        let percent = programs as f64 * 100.0 / self.programs.max(1) as f64;
        format!("{programs} ({percent:.1} %)")
    }
}
