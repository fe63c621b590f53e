//! [`Token`]: what an entry of the queues says of itself.

/// The place of a request in its table, and a number that tells requests of one place apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

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

const PLACE: u64 = 0xffff_ffff;
/// Generations have so many bits.
pub(crate) const GENERATION: u32 = 0x0fff_ffff;

impl Token {
    pub(crate) fn encode(self) -> u64 {
        match self {
            Token::Nobody => 0,
            Token::Bell => 1 << 60,
            Token::Stream(entry) => 2 << 60 | u64::from(entry),
            Token::Part(part) => 3 << 60 | u64::from(part),
            Token::Request(key) => 4 << 60 | u64::from(key.generation & GENERATION) << 32 | u64::from(key.place),
        }
    }

    pub(crate) fn decode(data: u64) -> Self {
        let place = (data & PLACE) as u32;
        match data >> 60 {
            1 => Token::Bell,
            2 => Token::Stream(place),
            3 => Token::Part(place),
            4 => Token::Request(Key { place, generation: (data >> 32) as u32 & GENERATION }),
            _ => Token::Nobody,
        }
    }
}
