//! What version 2 adds to a generated program: callbacks that act, and gathers and shields that are kept.

use super::{DEPTH, Generator};
use crate::differential::program::{Block, Item, Slot, Stmt};

impl Generator<'_> {
    /// A callback that acts, often one that sees a context of its own.
    pub(super) fn act_later(&mut self, block: &mut Block) {
        let mut body = self.acts();
        if self.program.vars > 0 && self.chance(40) {
            let var = self.rng.usize(..self.program.vars);
            block.push(Stmt::CtxSet(var, self.k()));
            body.insert(0, Stmt::CtxGet(var));
        }
        let callback = self.callback_with(body);
        block.push(callback);
    }

    fn callback_with(&mut self, body: Block) -> Stmt {
        match self.rng.u8(..10) {
            0..6 => Stmt::DoneAct(self.any_slot(), body),
            6..8 => Stmt::SoonAct(self.rng.usize(..3), body),
            _ => Stmt::LaterAct(self.rng.usize(..3), self.ticks(), body),
        }
    }

    /// What a callback does.
    fn acts(&mut self) -> Block {
        let mut block = Vec::new();
        self.depth += 1;
        for _ in 0..self.rng.usize(1..=3) {
            let stmt = match self.rng.u8(..20) {
                0..2 => Some(Stmt::Raise(self.k())),
                2 => Some(Stmt::RaiseCancelled(self.message())),
                3..6 => self.spawn_outside(),
                6..8 if self.program.vars > 0 => Some(self.context()),
                8 => Some(Stmt::States),
                9 => Some(Stmt::Log(self.k())),
                10 if self.depth < DEPTH => {
                    let inside = self.acts();
                    Some(self.callback_with(inside))
                }
                11 if self.theme.kept => Some(self.make_gather()),
                12 if self.theme.kept => Some(self.cancel_gather()),
                13 if self.theme.kept => self.kept_shield(),
                14 if self.theme.stops => Some(Stmt::Stop),
                _ => Some(self.instant()),
            };
            block.extend(stmt);
        }
        self.depth -= 1;
        block
    }

    /// A task of no group: a callback is in none.
    fn spawn_outside(&mut self) -> Option<Stmt> {
        let in_group = std::mem::replace(&mut self.in_group, false);
        let stmt = self.spawn();
        self.in_group = in_group;
        stmt
    }

    /// Makes, awaits or cancels a gather that is kept.
    pub(super) fn kept_gather(&mut self) -> Stmt {
        match self.rng.u8(..3) {
            0 => self.make_gather(),
            1 => self.cancel_gather(),
            // What it waits for is of later coroutines: see `make_gather`.
            _ if self.chance(60) => Stmt::GAwait(self.coro),
            _ => Stmt::GAwait(self.rng.usize(self.coro..self.program.coros.len())),
        }
    }

    /// A gather has the number of the coroutine that makes it, which thus waits for what comes after it only.
    fn make_gather(&mut self) -> Stmt {
        let count = self.rng.usize(0..=3);
        let items = (0..count).filter_map(|_| self.item_from(self.coro + 1)).collect();
        Stmt::GatherTo(self.coro, items, self.chance(40))
    }

    pub(super) fn cancel_gather(&mut self) -> Stmt {
        Stmt::GCancel(self.rng.usize(..self.program.coros.len()), self.message())
    }

    /// A shield in the slot of a task that comes no later than what it protects.
    pub(super) fn kept_shield(&mut self) -> Option<Stmt> {
        let later = self.later_slots();
        let slot = (!later.is_empty()).then(|| self.pick(&later))?;
        let item = self.item_from(self.slots[slot])?;
        Some(Stmt::ShieldTo(slot, item))
    }

    /// Something to wait for that is of a coroutine from `first` on, or of none.
    fn item_from(&mut self, first: usize) -> Option<Item> {
        if self.program.futures > 0 && self.chance(30) {
            return Some(Item::Slot(Slot::Future(self.rng.usize(..self.program.futures))));
        }
        let slots: Vec<_> = (0..self.slots.len()).filter(|slot| self.slots[*slot] >= first).collect();
        if !slots.is_empty() && self.chance(70) {
            return Some(Item::Slot(Slot::Task(self.pick(&slots))));
        }
        let coros = self.program.coros.len();
        (first < coros).then(|| Item::Coro(self.rng.usize(first..coros)))
    }
}
