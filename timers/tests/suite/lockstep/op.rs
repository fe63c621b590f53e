//! What is done to a queue.

/// One operation. Timers are named by a number, of which the remainder counts.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Insert,
    Arm(usize, Moment),
    MakeDue(usize),
    Cancel(usize),
    Take(usize),
    Expire(Moment),
    NextDeadline,
    Drain,
}

/// A time, said in a way that hits the corners: these lie around the latest `now`, around deadlines, and where a digit changes.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// So many nanoseconds after the latest `now`.
    After(u64),
    /// So many before it.
    Before(u64),
    /// This very time.
    At(u64),
    /// The latest `now` with its low bits set, and `plus` more: from the last nanosecond of a list to the first ones of the next.
    Edge { bits: u32, plus: u64 },
    /// A deadline that was used lately.
    Again(usize),
    /// The earliest deadline, and so many nanoseconds later.
    Next(u64),
    /// The time just before the earliest deadline.
    AlmostNext,
}
