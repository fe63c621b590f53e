//! Signals that come to the program, and forks of it. Both are a whole process's: each case plays in one of its own.

mod support;

pub(super) mod forks;
pub(super) mod handlers;
pub(super) mod interrupts;
