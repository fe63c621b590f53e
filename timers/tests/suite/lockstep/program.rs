//! Byte strings read as programs for a queue.
//!
//! The first bytes say where the clock starts; then each operation is one byte, and what it needs follows. Missing bytes read as zero,
//! and every byte string is a program.

use super::{Lockstep, Moment, Op};

/// Few, so that a program of some dozen bytes gets around to using memory again.
const CAPACITY: usize = 24;

/// Runs the program; panics where the queue and its model differ.
pub fn run_program(bytes: &[u8]) {
    let mut input = Input(bytes);
    let origin = match input.byte() % 4 {
        0 => 0,
        1 => 1_000_000_000_000,
        2 => u64::MAX - u64::from(input.byte()),
        _ => input.number(8),
    };
    let mut lockstep = Lockstep::new(origin, CAPACITY);
    while !input.0.is_empty() {
        let op = input.op();
        lockstep.apply(&op);
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn number(&mut self, bytes: usize) -> u64 {
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    fn timer(&mut self) -> usize {
        self.byte().into()
    }

    fn op(&mut self) -> Op {
        match self.byte() % 16 {
            0..=2 => Op::Insert,
            3..=7 => Op::Arm(self.timer(), self.moment()),
            8 => Op::MakeDue(self.timer()),
            9 | 10 => Op::Cancel(self.timer()),
            11 | 12 => Op::Take(self.timer()),
            13 | 14 => Op::Expire(self.moment()),
            // Rare, as it ends everything that was built up.
            15 => match self.byte() {
                0xd8 => Op::Drain,
                _ => Op::NextDeadline,
            },
            16.. => unreachable!("a remainder of 16"),
        }
    }

    fn moment(&mut self) -> Moment {
        let byte = self.byte();
        let high = u32::from(byte >> 3);
        match byte % 8 {
            0 => Moment::After(high.into()),
            1 => Moment::After(self.number(1) << (2 * high)),
            2 => Moment::Before(self.number(1) << (2 * high)),
            3 => Moment::Edge { bits: 6 * (1 + high % 10), plus: u64::from(high / 10) },
            4 => Moment::Again(high as usize),
            5 => Moment::Next(high.into()),
            6 => Moment::AlmostNext,
            7 => match high % 4 {
                0 => Moment::At(self.number(8)),
                1 => Moment::At(u64::MAX - u64::from(high / 4)),
                _ => Moment::After(self.number(4)),
            },
            8.. => unreachable!("a remainder of 8"),
        }
    }
}
