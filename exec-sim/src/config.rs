//! [`Config`]: what machine to simulate, and what is to go wrong on it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Trace;

/// How to make a [`SimDriver`](crate::SimDriver): a machine, and what is to go wrong on it.
///
/// Everything is drawn from one seed: the same seed, settings and program give the same run. Three kinds of machines are ready-made:
/// [`new`](Self::new) is calm, as the loopback of an idle computer; on a [`lively`](Self::lively) one data takes time and comes in
/// pieces, as on any network; a [`hostile`](Self::hostile) one has failures too. Each setting can be changed:
///
/// ```
/// use aioli_exec_sim::Config;
/// use std::time::Duration;
///
/// let slow = Config::new(1).latency(Duration::from_millis(40), Duration::from_millis(60));
/// let lossy = Config::lively(1).resets(0.01).descriptors(64);
/// ```
///
/// Probabilities are numbers from 0 to 1; others count as the nearest of these.
#[derive(Clone)]
pub struct Config {
    pub(crate) seed: u64,
    pub(crate) latency: (Duration, Duration),
    pub(crate) stalls: f64,
    pub(crate) stall: (Duration, Duration),
    pub(crate) partial_reads: f64,
    pub(crate) partial_writes: f64,
    pub(crate) shuffle: bool,
    pub(crate) resets: f64,
    pub(crate) refusals: f64,
    pub(crate) unreachable: f64,
    pub(crate) unanswered: f64,
    pub(crate) exhaustion: f64,
    pub(crate) connect_timeout: Duration,
    pub(crate) descriptors: usize,
    pub(crate) buffers: (usize, usize),
    pub(crate) hosts: Vec<(String, IpAddr)>,
    pub(crate) disk: (Duration, Duration),
    pub(crate) disk_errors: f64,
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
    pub(crate) turn: Duration,
    pub(crate) patience: Duration,
    pub(crate) trace: Option<Trace>,
}

impl Config {
    /// A calm machine: whatever is sent arrives at once, whole and in order, and nothing fails. Time moves only when all tasks wait.
    pub fn new(seed: u64) -> Self {
        Config {
            seed,
            latency: (Duration::ZERO, Duration::ZERO),
            stalls: 0.0,
            stall: (Duration::ZERO, Duration::ZERO),
            partial_reads: 0.0,
            partial_writes: 0.0,
            shuffle: false,
            resets: 0.0,
            refusals: 0.0,
            unreachable: 0.0,
            unanswered: 0.0,
            exhaustion: 0.0,
            connect_timeout: Duration::from_secs(127),
            descriptors: usize::MAX,
            buffers: (2560 * 1024, 512 * 1024),
            hosts: Vec::new(),
            disk: (Duration::ZERO, Duration::ZERO),
            disk_errors: 0.0,
            files: Vec::new(),
            turn: Duration::ZERO,
            patience: Duration::from_secs(10),
            trace: None,
        }
    }

    /// A machine on which nothing fails, but everything takes its time and comes in pieces: packets need 50 µs to 2 ms, one of a
    /// hundred up to 300 ms; the disk needs 20 µs to 10 ms for each access; a fifth of the reads and writes get only a part;
    /// connections overtake each other; buffers hold 64 KiB. Every program has to bear this.
    pub fn lively(seed: u64) -> Self {
        Config::new(seed)
            .latency(Duration::from_micros(50), Duration::from_millis(2))
            .stalls(0.01, Duration::from_millis(5), Duration::from_millis(300))
            .partial_reads(0.2)
            .partial_writes(0.2)
            .shuffle(true)
            .buffers(64 * 1024, 64 * 1024)
            .disk(Duration::from_micros(20), Duration::from_millis(10))
            .turn_time(Duration::from_micros(1))
    }

    /// A [`lively`](Self::lively) machine that has failures: of a thousand packets 5 reset their connection; of a hundred connection
    /// attempts 2 are refused, 1 finds no route and 1 no answer; one of a
    /// thousand calls that need a descriptor finds none, and as many accesses to the disk fail.
    pub fn hostile(seed: u64) -> Self {
        Config::lively(seed)
            .resets(0.005)
            .refusals(0.02)
            .unreachable(0.01)
            .unanswered(0.01)
            .exhaustion(0.001)
            .disk_errors(0.001)
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How long a packet is on its way: between these, at random. 0 at first. Packets of one connection and direction keep their
    /// order; those of others overtake them. A window that a reader opens is known to the writer at once.
    #[must_use]
    pub fn latency(mut self, least: Duration, most: Duration) -> Self {
        self.latency = (least, most.max(least));
        self
    }

    /// How probable it is that a packet is on its way for longer by a time between these, and all behind it with it: one that was
    /// lost and sent again.
    #[must_use]
    pub fn stalls(mut self, probability: f64, least: Duration, most: Duration) -> Self {
        self.stalls = probable(probability);
        self.stall = (least, most.max(least));
        self
    }

    /// How probable it is that a read gets a part of the data that is there, rather than all that fits.
    #[must_use]
    pub fn partial_reads(mut self, probability: f64) -> Self {
        self.partial_reads = probable(probability);
        self
    }

    /// How probable it is that a write takes a part of the data, although there is room for more.
    #[must_use]
    pub fn partial_writes(mut self, probability: f64) -> Self {
        self.partial_writes = probable(probability);
        self
    }

    /// Whether sockets that become ready together are served in random order, rather than in that in which it happened.
    #[must_use]
    pub fn shuffle(mut self, on: bool) -> Self {
        self.shuffle = on;
        self
    }

    /// How probable it is that a packet of data resets its connection: both ends get `ECONNRESET`.
    #[must_use]
    pub fn resets(mut self, probability: f64) -> Self {
        self.resets = probable(probability);
        self
    }

    /// How probable it is that a connection is refused although somebody listens.
    #[must_use]
    pub fn refusals(mut self, probability: f64) -> Self {
        self.refusals = probable(probability);
        self
    }

    /// How probable it is that a connection attempt ends with `EHOSTUNREACH`.
    #[must_use]
    pub fn unreachable(mut self, probability: f64) -> Self {
        self.unreachable = probable(probability);
        self
    }

    /// How probable it is that a connection attempt gets no answer, and ends with `ETIMEDOUT` after the
    /// [`connect_timeout`](Self::connect_timeout).
    #[must_use]
    pub fn unanswered(mut self, probability: f64) -> Self {
        self.unanswered = probable(probability);
        self
    }

    /// After which time a connection attempt without an answer fails. 127 seconds at first, as on Linux.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How probable it is that a call that needs a descriptor fails with `EMFILE` although there is one.
    #[must_use]
    pub fn exhaustion(mut self, probability: f64) -> Self {
        self.exhaustion = probable(probability);
        self
    }

    /// How many sockets and files may be open at once. No limit at first. Whoever wants one more gets `EMFILE`.
    #[must_use]
    pub fn descriptors(mut self, limit: usize) -> Self {
        self.descriptors = limit;
        self
    }

    /// How many bytes a new socket's send and receive buffers hold, at least 1: 2.5 MiB and 512 KiB at first, about
    /// what Linux gives a connection over the loopback. A program changes them with
    /// [`SocketOption::SendBuffer`](aioli_core::op::SocketOption::SendBuffer) and its counterpart.
    #[must_use]
    pub fn buffers(mut self, send: usize, receive: usize) -> Self {
        self.buffers = (send.max(1), receive.max(1));
        self
    }

    /// Gives the machine another address besides those of the loopback, and a name for it. A program may play several hosts so; what
    /// it binds to the one address is not reached by the other. A name may have several addresses, and the other way round.
    #[must_use]
    pub fn host(mut self, name: impl Into<String>, address: IpAddr) -> Self {
        self.hosts.push((name.into(), address));
        self
    }

    /// How long an operation on a file takes: between these, at random. 0 at first. Operations overtake each other. Reads and writes are
    /// [partial](Self::partial_reads) as often as those of sockets.
    #[must_use]
    pub fn disk(mut self, least: Duration, most: Duration) -> Self {
        self.disk = (least, most.max(least));
        self
    }

    /// How probable it is that an operation on an open file fails, with `EIO`.
    #[must_use]
    pub fn disk_errors(mut self, probability: f64) -> Self {
        self.disk_errors = probable(probability);
        self
    }

    /// Puts a file on the disk. Others are there only if the program makes them: the machine does not see those of the computer that it
    /// is simulated on.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>, contents: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.into(), contents.into()));
        self
    }

    /// How much time each turn of the loop takes: 0 at first. Where packets take time, a task that waits for one in a loop of
    /// `sleep(0)` would never let it come otherwise.
    #[must_use]
    pub fn turn_time(mut self, time: Duration) -> Self {
        self.turn = time;
        self
    }

    /// How long, on the real clock, a wait that other threads alone could end goes on before it counts as a deadlock: 10 seconds at
    /// first.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Takes down what happens.
    #[must_use]
    pub fn trace(mut self, trace: Trace) -> Self {
        self.trace = Some(trace);
        self
    }
}

fn probable(probability: f64) -> f64 {
    if probability.is_nan() { 0.0 } else { probability.clamp(0.0, 1.0) }
}

/// A calm machine with the seed 0.
impl Default for Config {
    fn default() -> Self {
        Config::new(0)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("seed", &self.seed).finish_non_exhaustive()
    }
}
