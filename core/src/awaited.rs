//! [`Awaited`]: what an await point waits for, in a word.

use std::fmt;

/// What a task waits for at an await point that leads to no future and no task. It is for reports: the tree of a
/// [`Deadlock`](crate::ErrorKind::Deadlock).
///
/// ```
/// assert_eq!(aioli_core::Awaited::Lock.to_string(), "a lock");
/// ```
///
/// A leaf says it with [`Wait::register_for`](crate::Wait::register_for).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
#[repr(u8)]
pub enum Awaited {
    /// Nothing that has a name here.
    #[default]
    Other,
    /// A point in time.
    Time,
    /// The next turn.
    Turn,
    /// One or all of several futures.
    Futures,
    /// The tasks of a group.
    Group,
    /// A cancel token.
    CancelToken,
    /// A lock.
    Lock,
    /// An event to be set.
    Event,
    /// The notification of a condition.
    Condition,
    /// A semaphore.
    Semaphore,
    /// An item in a queue.
    Item,
    /// Room in a queue.
    Room,
    /// An operation of the driver.
    Operation,
    /// Data that a stream is to receive.
    Data,
    /// Something that is to happen to a connection or a server.
    Connection,
}

/// With its article, as in "waits for a lock".
impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Awaited::Other => "something without a name",
            Awaited::Time => "a point in time",
            Awaited::Turn => "the next turn",
            Awaited::Futures => "one or all of several futures",
            Awaited::Group => "the tasks of its group",
            Awaited::CancelToken => "a cancel token",
            Awaited::Lock => "a lock",
            Awaited::Event => "an event",
            Awaited::Condition => "the notification of a condition",
            Awaited::Semaphore => "a semaphore",
            Awaited::Item => "an item in a queue",
            Awaited::Room => "room in a queue",
            Awaited::Operation => "an operation of the driver",
            Awaited::Data => "data of a stream",
            Awaited::Connection => "a connection or a server",
        })
    }
}
