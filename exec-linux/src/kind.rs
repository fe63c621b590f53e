//! [`Kind`]: what a descriptor is, as far as that matters for reading and writing.

use std::os::fd::BorrowedFd;

use socket2::{Protocol, SockRef, Type};

use crate::syscall;

/// What kind of descriptor it is, as far as that decides how it is read and written.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// `recv` and `send` work on it.
    pub socket: bool,
    /// A TCP connection or listener.
    pub tcp: bool,
    /// After a short read it is drained, after a short write full, and an edge follows. That holds for TCP and for pipes. Nothing else
    /// promises it: a pipe in packet mode ends a read with the packet; a Unix socket ends a read where descriptors were sent along,
    /// and a write where memory is short; a terminal ends a read with the line.
    pub edges: bool,
}

impl Kind {
    /// A TCP socket.
    pub const TCP: Kind = Kind { socket: true, tcp: true, edges: true };
    /// Any other socket.
    pub const SOCKET: Kind = Kind { socket: true, tcp: false, edges: false };
    /// A pipe or FIFO.
    pub const PIPE: Kind = Kind { socket: false, tcp: false, edges: true };
    /// Something else.
    pub const OTHER: Kind = Kind { socket: false, tcp: false, edges: false };

    /// Whether it is a pipe or FIFO, and not in packet mode.
    pub(crate) fn is_pipe(self) -> bool {
        self.edges && !self.socket
    }

    /// Finds out about a descriptor that came from elsewhere.
    pub fn of(fd: BorrowedFd<'_>) -> Kind {
        let socket = SockRef::from(&fd);
        match socket.r#type() {
            Err(_) if syscall::is_plain_pipe(fd) => Kind::PIPE,
            Err(_) => Kind::OTHER,
            Ok(Type::STREAM)
                if matches!(socket.protocol(), Ok(Some(Protocol::TCP))) && !syscall::has_upper_layer(fd) =>
            {
                Kind::TCP
            }
            Ok(_) => Kind::SOCKET,
        }
    }
}
