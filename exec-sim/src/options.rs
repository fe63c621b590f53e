//! Socket options.

use aioli_core::op::{Domain, SocketKind, SocketOption};

use crate::errno::Errno;
use crate::machine::Machine;
use crate::socket::State;

/// The least that a buffer is set to, as on Linux.
const LEAST_BUFFER: usize = 2048;

impl Machine {
    pub(crate) fn set_option(&mut self, n: usize, option: SocketOption) -> Result<(), Errno> {
        let socket = &mut self.sockets[n];
        let options = &mut socket.options;
        match option {
            SocketOption::ReuseAddress(on) => options.reuse_address = on,
            SocketOption::ReusePort(_) if socket.domain == Domain::Unix => return Err(Errno::OPNOTSUPP),
            SocketOption::ReusePort(on) => options.reuse_port = on,
            SocketOption::OnlyV6(_) if socket.domain == Domain::Unix => return Err(Errno::OPNOTSUPP),
            SocketOption::OnlyV6(_) if socket.domain == Domain::Ipv4 => return Err(Errno::NOPROTOOPT),
            SocketOption::OnlyV6(_) if socket.local.is_some() => return Err(Errno::INVAL),
            SocketOption::OnlyV6(on) => options.only_v6 = on,
            SocketOption::NoDelay(_) if socket.domain == Domain::Unix => return Err(Errno::OPNOTSUPP),
            SocketOption::NoDelay(_) if socket.kind == SocketKind::Datagram => return Err(Errno::OPNOTSUPP),
            SocketOption::ReceiveBuffer(bytes) => options.receive_buffer = bytes.max(LEAST_BUFFER),
            SocketOption::SendBuffer(bytes) => options.send_buffer = bytes.max(LEAST_BUFFER),
            SocketOption::Linger(seconds) => options.linger = seconds,
            // There is nothing to delay and nothing to keep alive.
            _ => (),
        }
        if let State::Connected { link, side, .. } = socket.state {
            let end = &mut self.connections[link.place].ends[side];
            (end.send_room, end.receive_room) = (options.send_buffer, options.receive_buffer);
        }
        Ok(())
    }
}
