//! [`Rung`]: the optional features of the kernel, each of which the driver can do without.

use std::fmt;
use std::io;
use std::str::FromStr;

/// An optional feature of the kernel. The driver uses those that it finds, and has another way for each that it does not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Rung {
    /// Completions are worked off only when the loop asks for them (Linux 6.1). Without: as below.
    DeferTaskrun,
    /// The kernel does not interrupt the loop for completions (5.19). Without: it does.
    CoopTaskrun,
    /// A queue without a level of indirection (6.6).
    NoSqArray,
    /// A wait does not count as waiting for a disk (6.15).
    NoIowait,
    /// One receive goes on all the time, into buffers that the kernel picks when data comes (6.0). Without: the driver polls and then
    /// receives.
    MultishotReceive,
    /// Such a receive ends by itself after an amount (6.17). Without: it is cancelled when that is exceeded.
    ReceiveCredit,
    /// One accept takes many connections (5.19). Without: one each.
    MultishotAccept,
    /// Small writes of a turn are sent in one go, and only those that fail are reported (5.17). Without: each is a call of its own.
    BatchedSends,
    /// The kernel waits for a process and takes its exit status (6.7). Without: the driver polls a pidfd and then does.
    ProcessWaits,
}

impl Rung {
    /// All of them.
    pub const ALL: [Rung; 9] = [
        Rung::DeferTaskrun,
        Rung::CoopTaskrun,
        Rung::NoSqArray,
        Rung::NoIowait,
        Rung::MultishotReceive,
        Rung::ReceiveCredit,
        Rung::MultishotAccept,
        Rung::BatchedSends,
        Rung::ProcessWaits,
    ];

    fn name(self) -> &'static str {
        match self {
            Rung::DeferTaskrun => "deferred task work",
            Rung::CoopTaskrun => "cooperative task work",
            Rung::NoSqArray => "direct submission queue",
            Rung::NoIowait => "waits without iowait",
            Rung::MultishotReceive => "multishot receive",
            Rung::ReceiveCredit => "receive credit",
            Rung::MultishotAccept => "multishot accept",
            Rung::BatchedSends => "batched sends",
            Rung::ProcessWaits => "process waits",
        }
    }
}

/// The rung of a name, as a report has it.
impl FromStr for Rung {
    type Err = io::Error;

    /// # Errors
    /// `InvalidInput` if there is no rung of this name.
    fn from_str(name: &str) -> io::Result<Self> {
        let rung = Rung::ALL.into_iter().find(|rung| rung.name() == name);
        rung.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("there is no rung named {name:?}")))
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was found of each rung.
#[derive(Clone, Debug)]
pub(crate) struct Rungs([Result<(), String>; Rung::ALL.len()]);

impl Rungs {
    /// All but those that are masked, until the kernel says otherwise.
    pub(crate) fn new(masked: &[Rung]) -> Self {
        let found = |rung| if masked.contains(&rung) { Err("masked".to_owned()) } else { Ok(()) };
        Rungs(Rung::ALL.map(found))
    }

    pub(crate) fn has(&self, rung: Rung) -> bool {
        self.0[rung as usize].is_ok()
    }

    /// Takes note that the kernel does not grant a rung. What was known before stays.
    pub(crate) fn refuse(&mut self, rung: Rung, why: impl fmt::Display) {
        let found = &mut self.0[rung as usize];
        if found.is_ok() {
            *found = Err(why.to_string());
        }
    }

    /// The lines of a report.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (String, String)> {
        Rung::ALL.iter().zip(&self.0).map(|(rung, found)| {
            let text = match found {
                Ok(()) => "yes".to_owned(),
                Err(why) => format!("no ({why})"),
            };
            (rung.to_string(), text)
        })
    }
}
