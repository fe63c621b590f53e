//! [`Parcel`]: what is sent at the end of the turn.

/// Larger sends do not wait: they cost so much more than a call that copying them does not pay.
const SMALL: usize = 2048;
/// So much of one entry waits at most…
const MOST: usize = 16 * 1024;
/// …and so much of all.
const MOST_OF_ALL: usize = 256 * 1024;
/// A part that is longer does not move.
const MOVABLE: usize = 512;

/// What is sent at the end of the turn: small sends, one part for each entry of a driver that sends.
///
/// An entry remembers the place of its part. That is good for one turn; afterwards another entry's part is there, or none.
#[derive(Debug, Default)]
pub struct Parcel {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

/// What one entry sends.
#[derive(Debug)]
struct Part {
    entry: usize,
    start: usize,
    /// Nothing: it was moved, or sent otherwise.
    length: usize,
}

impl Parcel {
    /// Whether nothing is to be sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether data of this length may wait.
    #[inline]
    pub fn is_small(length: usize) -> bool {
        (1..=SMALL).contains(&length)
    }

    /// Whether an entry has something in it. `place` is where it was put last.
    #[inline]
    pub fn has(&self, entry: usize, place: u32) -> bool {
        self.parts.get(place as usize).is_some_and(|part| part.entry == entry && part.length > 0)
    }

    /// Adds data to the part of an entry, if there is room.
    #[inline]
    pub fn add(&mut self, entry: usize, place: &mut u32, data: &[u8]) -> bool {
        if self.bytes.len() + data.len() > MOST_OF_ALL {
            return false;
        }
        if !self.has(entry, *place) {
            *place = self.parts.len() as u32;
            self.parts.push(Part { entry, start: self.bytes.len(), length: data.len() });
            self.bytes.extend_from_slice(data);
            return true;
        }
        self.extend(*place as usize, data)
    }

    fn extend(&mut self, place: usize, data: &[u8]) -> bool {
        let end = self.bytes.len();
        let part = &mut self.parts[place];
        let (start, length) = (part.start, part.length);
        let moves = start + length < end;
        if length + data.len() > MOST || moves && (length > MOVABLE || end + length + data.len() > MOST_OF_ALL) {
            return false;
        }
        part.length += data.len();
        if moves {
            // Others have come after it. Only one part of an entry may be on its way, or one could overtake the other.
            part.start = end;
            self.bytes.extend_from_within(start..start + length);
        }
        self.bytes.extend_from_slice(data);
        true
    }

    /// Takes the part of an entry out.
    pub fn take(&mut self, entry: usize, place: u32) -> Option<&[u8]> {
        if !self.has(entry, place) {
            return None;
        }
        let part = &mut self.parts[place as usize];
        let length = std::mem::take(&mut part.length);
        Some(&self.bytes[part.start..part.start + length])
    }

    /// The entry and the data at a place.
    pub fn part(&self, place: usize) -> (usize, &[u8]) {
        let Part { entry, start, length } = self.parts[place];
        (entry, &self.bytes[start..start + length])
    }

    /// All parts: their places, entries and data.
    #[inline]
    pub fn parts(&self) -> impl Iterator<Item = (usize, usize, &[u8])> {
        let parts = (0..self.parts.len()).map(|place| (place, self.part(place)));
        parts.filter(|(_, (_, data))| !data.is_empty()).map(|(place, (entry, data))| (place, entry, data))
    }

    /// All of it was sent.
    #[inline]
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.parts.clear();
    }
}
