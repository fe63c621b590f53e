//! Connections: streams, servers and sockets.

pub(super) mod support;

pub(super) mod busy;
pub(super) mod connect;
pub(super) mod descriptors;
pub(super) mod ending;
pub(super) mod flow;
pub(super) mod in_place;
pub(super) mod reader;
pub(super) mod reader_ports;
pub(super) mod server;
pub(super) mod socket;
pub(super) mod told;
pub(super) mod trace;
pub(super) mod transport;
pub(super) mod unix;
