//! The system calls of operations, repeated when a signal interrupts them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use aioli_core::Instant;
use aioli_core::op::Interest;
use bytes::BytesMut;
use socket2::SockRef;

/// The time of the monotonic clock.
pub fn now() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to `time`, which outlives the call. This clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[inline]
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[inline]
fn counted(count: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Receives into the spare capacity of a buffer, which is not empty.
///
/// # Errors
/// The kernel's, but for EINTR.
#[inline]
pub fn receive(fd: BorrowedFd<'_>, socket: bool, buffer: &mut BytesMut) -> io::Result<usize> {
    let spare = buffer.spare_capacity_mut();
    let (fd, memory, room) = (fd.as_raw_fd(), spare.as_mut_ptr().cast(), spare.len());
    // SAFETY: the spare memory is ours to write to for the length given.
    let count = uninterrupted(|| unsafe {
        counted(if socket { libc::recv(fd, memory, room, 0) } else { libc::read(fd, memory, room) })
    })?;
    let length = buffer.len() + count;
    // SAFETY: the kernel wrote `count` bytes at the start of the spare capacity.
    unsafe { buffer.set_len(length) };
    Ok(count)
}

/// Sends what the kernel takes at once. A socket whose peer is gone gives an error and no signal.
///
/// # Errors
/// The kernel's, but for EINTR.
#[inline]
pub fn send(fd: BorrowedFd<'_>, socket: bool, data: &[u8]) -> io::Result<usize> {
    let (fd, memory, length) = (fd.as_raw_fd(), data.as_ptr().cast(), data.len());
    // SAFETY: the data is readable for the length given.
    uninterrupted(|| unsafe {
        counted(if socket {
            libc::send(fd, memory, length, libc::MSG_NOSIGNAL)
        } else {
            libc::write(fd, memory, length)
        })
    })
}

/// Accepts one connection, non-blocking and close-on-exec. A peer without an internet address counts as 0.0.0.0:0.
///
/// # Errors
/// The kernel's, but for EINTR.
pub fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let (socket, address) = uninterrupted(|| SockRef::from(&fd).accept4(flags))?;
    Ok((socket.into(), address.as_socket().unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into())))
}

/// Whether an error of [`accept`] is that of a connection which is gone, and not the listener's.
pub fn concerns_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
        )
    )
}

/// What a descriptor is ready for right now.
///
/// # Errors
/// The kernel's; `EBADF` if it is not open.
pub fn ready(fd: RawFd, interest: Interest) -> io::Result<Interest> {
    let mut poll = libc::pollfd { fd, events: 0, revents: 0 };
    if interest.readable {
        poll.events |= libc::POLLIN | libc::POLLRDHUP;
    }
    if interest.writable {
        poll.events |= libc::POLLOUT;
    }
    // SAFETY: one entry, which outlives the call.
    uninterrupted(|| counted(unsafe { libc::poll(&raw mut poll, 1, 0) } as libc::ssize_t))?;
    // poll(2) passes over negative numbers.
    if fd < 0 || poll.revents & libc::POLLNVAL != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    let broken = poll.revents & (libc::POLLERR | libc::POLLHUP) != 0;
    Ok(Interest {
        readable: interest.readable && (broken || poll.revents & (libc::POLLIN | libc::POLLRDHUP) != 0),
        writable: interest.writable && (broken || poll.revents & libc::POLLOUT != 0),
    })
}

/// Whether a protocol layer, such as TLS, was put on a TCP socket.
pub fn has_upper_layer(fd: BorrowedFd<'_>) -> bool {
    let mut name = [0u8; 16];
    let mut length = name.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes of the name.
    let code = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_ULP, name.as_mut_ptr().cast(), &raw mut length)
    };
    code == 0 && length > 0
}
