//! Streams over pipes, FIFOs, terminals and the program's own input and output.

mod support;

pub(super) mod devices;
pub(super) mod standard;
pub(super) mod streams;
pub(super) mod transport;
