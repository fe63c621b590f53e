//! [`Token`]: what an entry of the queues says of itself.

/// The id of a request in its table.
pub(crate) type Key = u64;

/// What a completion of the kernel's belongs to: the meaning of an entry's `user_data`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    /// Nobody: a cancellation.
    Nobody,
    /// The poll of the bell.
    Bell,
    /// The receive that goes on all the time, or the poll, of a watched entry.
    Stream(u32),
    /// A part of what is sent in one go.
    Part(u32),
    /// A request.
    Request(Key),
}

/// Where it says which of these it is: above the places, which are not so many, and below what tells requests of one place apart.
const KIND: u32 = 28;
const KINDS: u64 = 0xf << KIND;

impl Token {
    pub(crate) fn encode(self) -> u64 {
        match self {
            Token::Nobody => 0,
            Token::Bell => 1 << KIND,
            Token::Stream(entry) => 2 << KIND | u64::from(entry),
            Token::Part(part) => 3 << KIND | u64::from(part),
            Token::Request(key) => 4 << KIND | key,
        }
    }

    /// The entry of a [stream](Self::Stream).
    #[inline(always)]
    pub(crate) fn stream(data: u64) -> Option<usize> {
        (data >> KIND == 2).then_some((data & !KINDS) as usize)
    }

    #[inline]
    pub(crate) fn decode(data: u64) -> Self {
        let id = data & !KINDS;
        match (data & KINDS) >> KIND {
            1 => Token::Bell,
            2 => Token::Stream(id as u32),
            3 => Token::Part(id as u32),
            4 => Token::Request(id),
            _ => Token::Nobody,
        }
    }
}
