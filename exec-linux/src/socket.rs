//! The operations on sockets that complete at once.

use std::ffi::OsStr;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use aioli_core::op::{Address, Domain, ShutdownHow, SocketKind, SocketOption, UnixAddress};
use socket2::{SockAddr, SockRef, Socket, Type};

use crate::Kind;

/// Opens a non-blocking, close-on-exec socket.
///
/// # Errors
/// The kernel's.
pub fn open(domain: Domain, kind: SocketKind) -> io::Result<(OwnedFd, Kind)> {
    let domain = match domain {
        Domain::Ipv4 => socket2::Domain::IPV4,
        Domain::Ipv6 => socket2::Domain::IPV6,
        Domain::Unix => socket2::Domain::UNIX,
    };
    let internet = domain != socket2::Domain::UNIX;
    let (r#type, kind) = match kind {
        SocketKind::Stream => (Type::STREAM, if internet { Kind::TCP } else { Kind::SOCKET }),
        SocketKind::Datagram => (Type::DGRAM, Kind::SOCKET),
    };
    let socket = Socket::new_raw(domain, r#type.nonblocking().cloexec(), None)?;
    Ok((socket.into(), kind))
}

/// Makes a bound socket a listener.
///
/// # Errors
/// The kernel's.
pub fn listen(socket: &SockRef<'_>, backlog: u32) -> io::Result<()> {
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))
}

/// Ends one or both directions of a connection.
///
/// # Errors
/// The kernel's.
pub fn shutdown(socket: &SockRef<'_>, how: ShutdownHow) -> io::Result<()> {
    socket.shutdown(match how {
        ShutdownHow::Read => Shutdown::Read,
        ShutdownHow::Write => Shutdown::Write,
        ShutdownHow::Both => Shutdown::Both,
    })
}

/// Sets an option.
///
/// # Errors
/// The kernel's.
pub fn set(socket: &SockRef<'_>, option: SocketOption) -> io::Result<()> {
    // The kernel takes a size as an int, and no more than its own limit.
    let size = |bytes: usize| bytes.min(i32::MAX as usize);
    match option {
        SocketOption::ReuseAddress(on) => socket.set_reuse_address(on),
        SocketOption::ReusePort(on) => socket.set_reuse_port(on),
        SocketOption::OnlyV6(on) => socket.set_only_v6(on),
        SocketOption::NoDelay(on) => socket.set_tcp_nodelay(on),
        SocketOption::KeepAlive(on) => socket.set_keepalive(on),
        SocketOption::ReceiveBuffer(bytes) => socket.set_recv_buffer_size(size(bytes)),
        SocketOption::SendBuffer(bytes) => socket.set_send_buffer_size(size(bytes)),
        SocketOption::Linger(seconds) => {
            socket.set_linger(seconds.map(|seconds| Duration::from_secs(seconds.min(i32::MAX as u32).into())))
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// An address as the kernel has it.
///
/// # Errors
/// As [`UnixAddress::to_std`].
pub fn to_kernel(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Internet(address) => Ok((*address).into()),
        Address::Unix(address) => SockAddr::unix(OsStr::from_bytes(&address.to_bytes()?)),
    }
}

/// An address of a family that the operations know.
///
/// # Errors
/// `EAFNOSUPPORT` for an address of another family.
pub fn from_kernel(address: &SockAddr) -> io::Result<Address> {
    if let Some(address) = address.as_socket() {
        return Ok(address.into());
    }
    let unix = match (address.as_pathname(), address.as_abstract_namespace()) {
        (Some(path), _) => UnixAddress::Path(path.to_owned()),
        (None, Some(name)) => UnixAddress::Abstract(name.to_owned()),
        (None, None) if address.is_unnamed() => UnixAddress::Unnamed,
        (None, None) => return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
    };
    Ok(unix.into())
}
