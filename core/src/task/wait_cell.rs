//! [`WaitCell`]: the await point in a task's own memory.

use std::cell::Cell;

use crate::await_point::{Phase, WaitState};

/// The number of an await point and where it stands. While it is vacant the number is that of the last one.
#[repr(C, align(8))]
pub(crate) struct WaitCell {
    serial: Cell<u32>,
    state: Cell<WaitState>,
}

impl WaitCell {
    pub(crate) const fn new() -> Self {
        WaitCell { serial: Cell::new(0), state: Cell::new(WaitState::VACANT) }
    }

    #[inline(always)]
    pub(crate) fn serial(&self) -> u32 {
        self.serial.get()
    }

    #[inline(always)]
    pub(crate) fn state(&self) -> WaitState {
        self.state.get()
    }

    #[inline(always)]
    pub(crate) fn set_state(&self, state: WaitState) {
        self.state.set(state);
    }

    #[inline(always)]
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.set_state(WaitState { phase, ..self.state() });
    }

    #[inline(always)]
    pub(crate) fn is_vacant(&self) -> bool {
        self.state().phase == Phase::Vacant
    }

    /// Whether the await point with this number is here.
    #[inline(always)]
    pub(crate) fn holds(&self, serial: u32) -> bool {
        self.serial() == serial && !self.is_vacant()
    }

    /// A new one is here. Both are written as one word.
    #[inline(always)]
    pub(crate) fn fill(&self, serial: u32, state: WaitState) {
        let fresh = WaitCell { serial: Cell::new(serial), state: Cell::new(state) };
        // SAFETY: eight bytes, each of which has a value, are a number and become what they were; this stays on its thread, and nobody
        // has a reference to what the cells hold.
        unsafe {
            let word = std::mem::transmute::<WaitCell, u64>(fresh);
            std::ptr::from_ref(self).cast_mut().cast::<u64>().write(word);
        }
    }
}
