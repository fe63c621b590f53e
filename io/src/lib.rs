//! Streams and sockets of aioli, written once over the core's operations.
