//! [`Kind`]: what a descriptor is, as far as that matters for reading and writing.

use std::os::fd::BorrowedFd;

use socket2::{Protocol, SockRef, Type};

use crate::syscall;

/// What kind of descriptor it is, as far as that decides how it is read and written.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// `recv` and `send` work on it.
    pub socket: bool,
    /// A TCP connection or listener, or a pipe. After a short read it is drained, after a short write full, and an edge follows.
    /// Nothing else promises that: a pipe in packet mode ends a read with the packet; a Unix socket ends a read where descriptors were sent along, and a write where memory is short; a terminal
    /// ends a read with the line.
    pub tcp: bool,
}

impl Kind {
    /// A TCP socket.
    pub const TCP: Kind = Kind { socket: true, tcp: true };
    /// Any other socket.
    pub const SOCKET: Kind = Kind { socket: true, tcp: false };
    /// A pipe or FIFO.
    pub const PIPE: Kind = Kind { socket: false, tcp: true };
    /// Something else.
    pub const OTHER: Kind = Kind { socket: false, tcp: false };

    /// Finds out about a descriptor that came from elsewhere.
    pub fn of(fd: BorrowedFd<'_>) -> Kind {
        let socket = SockRef::from(&fd);
        let Ok(r#type) = socket.r#type() else {
            return if syscall::is_plain_pipe(fd) { Kind::PIPE } else { Kind::OTHER };
        };
        let tcp = r#type == Type::STREAM && matches!(socket.protocol(), Ok(Some(Protocol::TCP)));
        Kind { socket: true, tcp: tcp && !syscall::has_upper_layer(fd) }
    }
}
