//! Runs: timers that were sorted, and wait to be reported.

use crate::slab::NIL;
use crate::wheel::ROWS;

/// The run of the timers that are due, of which nothing is kept beyond `expire`. The others belong to the row with the same number.
pub(crate) const DUE_RUN: usize = 0;
/// The highest row whose lists become runs. Its lists are 17 ms wide if the unit is a nanosecond: timers further apart than that are
/// better spread first, since many of them will be cancelled before their time.
pub(crate) const HIGHEST: usize = 5;
const RUNS: usize = HIGHEST + 1;
const _: () = assert!(RUNS <= ROWS);

/// How many timers later one comes that is told of.
const AHEAD: usize = 8;

/// The most timers in a run that is kept.
pub(crate) const LONGEST: usize = 1024;
/// So many numbers name a place in a run.
pub(crate) const PLACES: usize = RUNS * LONGEST;

/// Timers in the order in which they will be reported, as `deadline, rank, index` from the top bits down, so that sorting the numbers
/// sorts by deadline and then by rank.
#[derive(Default)]
struct Run {
    timers: Vec<u128>,
    /// Those before it were reported. It is at the end of an empty run only, and at the end both are zero.
    front: usize,
}

impl Run {
    #[inline]
    fn front(&self) -> Option<u64> {
        self.timers.get(self.front).map(|&timer| deadline(timer))
    }

    /// Moves on to the next timer that did not leave early.
    #[inline]
    fn advance(&mut self) {
        self.front += 1;
        while let Some(&timer) = self.timers.get(self.front) {
            if index(timer) != NIL {
                return;
            }
            self.front += 1;
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.timers.clear();
        self.front = 0;
    }
}

/// The runs, one for each of the rows whose lists are sorted, and one of what is due.
///
/// The run of a row was one of its lists. All its deadlines are within the reach of that list, so the list is the latest of its row that
/// the base has come into, and the timers that were armed since for a time within its reach are in lower rows. These may become runs in
/// turn. Equal deadlines in several runs were therefore armed earlier in that of the higher row.
pub(crate) struct Runs {
    runs: [Run; RUNS],
    /// A bit for each that has timers.
    occupied: u8,
}

impl Runs {
    pub(crate) fn new() -> Self {
        Runs { runs: Default::default(), occupied: 0 }
    }

    /// Adds a timer to a run that is being made.
    #[inline]
    pub(crate) fn push(&mut self, run: usize, deadline: u64, index: u32) {
        let timers = &mut self.runs[run].timers;
        // The rank fits, as a node's index does.
        timers.push(u128::from(deadline) << 64 | u128::from(timers.len() as u32) << 32 | u128::from(index));
    }

    /// Sorts a run, which is whole now, and gives its nodes and their places in all runs to `each`.
    #[inline]
    pub(crate) fn sort(&mut self, run: usize, mut each: impl FnMut(u32, u32)) {
        let timers = &mut self.runs[run].timers;
        timers.sort_unstable();
        for (place, &timer) in (run as u32 * LONGEST as u32..).zip(&*timers) {
            each(index(timer), place);
        }
        if !timers.is_empty() {
            self.occupied |= 1 << run;
        }
    }

    /// The latest deadline of a run.
    #[inline]
    pub(crate) fn last(&self, run: usize) -> Option<u64> {
        self.runs[run].timers.last().map(|&timer| deadline(timer))
    }

    /// The deadline of the timer at a place.
    #[inline]
    pub(crate) fn deadline(&self, place: u32) -> u64 {
        let (run, slot) = (place as usize / LONGEST, place as usize % LONGEST);
        deadline(self.runs[run].timers[slot])
    }

    /// Takes the timer at a place out.
    #[inline]
    pub(crate) fn remove(&mut self, place: u32) {
        let (number, slot) = (place as usize / LONGEST, place as usize % LONGEST);
        let run = &mut self.runs[number];
        run.timers[slot] |= u128::from(NIL);
        if slot == run.front {
            run.advance();
            self.note(number);
        }
    }

    /// Notes if a run is empty.
    #[inline]
    fn note(&mut self, run: usize) {
        if self.runs[run].timers.is_empty() {
            self.occupied &= !(1 << run);
        }
    }

    /// The run with the earliest timer, and its deadline. Of runs that are level, it is that of the highest row.
    #[inline]
    fn first(&self) -> Option<(u64, usize)> {
        let mut rest = self.occupied;
        let mut first = None;
        while rest != 0 {
            let run = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            if let Some(deadline) = self.runs[run].front()
                && first.is_none_or(|(earliest, _)| deadline <= earliest)
            {
                first = Some((deadline, run));
            }
        }
        first
    }

    /// The earliest deadline.
    #[inline]
    pub(crate) fn earliest(&self) -> Option<u64> {
        self.first().map(|(deadline, _)| deadline)
    }

    /// Takes the earliest timer if its deadline is not after `limit`, and returns its node, and that of one that comes later, if any.
    #[inline]
    pub(crate) fn pop(&mut self, limit: u64) -> Option<(u32, u32)> {
        let (deadline, number) = self.first()?;
        if deadline > limit {
            return None;
        }
        let run = &mut self.runs[number];
        let earliest = index(run.timers[run.front]);
        let ahead = run.timers.get(run.front + AHEAD).map_or(NIL, |&timer| index(timer));
        run.advance();
        self.note(number);
        Some((earliest, ahead))
    }

    /// Empties what is left of the run of what is due, and gives its deadlines and nodes to `each`.
    #[inline]
    pub(crate) fn give_back(&mut self, mut each: impl FnMut(u64, u32)) {
        let run = &mut self.runs[DUE_RUN];
        for &timer in &run.timers[run.front..] {
            each(deadline(timer), index(timer));
        }
        run.clear();
        self.note(DUE_RUN);
    }

    /// Forgets all timers.
    pub(crate) fn clear(&mut self) {
        self.runs.iter_mut().for_each(Run::clear);
        self.occupied = 0;
    }
}

#[inline]
fn deadline(timer: u128) -> u64 {
    (timer >> 64) as u64
}

#[inline]
fn index(timer: u128) -> u32 {
    timer as u32
}
