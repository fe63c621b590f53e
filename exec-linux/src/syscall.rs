//! The system calls of operations, repeated when a signal interrupts them.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use aioli_core::Instant;
use aioli_core::op::{Address, Interest, UnixAddress};
use bytes::BytesMut;
use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{SockAddr, SockRef};

use crate::Kind;
use crate::socket::from_kernel;

/// The time of the monotonic clock.
pub fn now() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to `time`, which outlives the call. This clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn succeeded(code: libc::c_int) -> io::Result<()> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives into the spare capacity of a buffer, which is not empty.
///
/// # Errors
/// The kernel's, but for EINTR.
#[inline]
pub fn receive(fd: BorrowedFd<'_>, kind: Kind, buffer: &mut BytesMut) -> io::Result<usize> {
    if kind.socket { receive_from_socket(fd, buffer) } else { read(fd, kind, buffer) }
}

/// The same of a socket.
///
/// # Errors
/// The kernel's, but for EINTR.
#[inline(always)]
pub fn receive_from_socket(fd: BorrowedFd<'_>, buffer: &mut BytesMut) -> io::Result<usize> {
    let spare = buffer.spare_capacity_mut();
    let count = retry_on_intr(|| rustix::net::recv(fd, &mut *spare, RecvFlags::empty()).map(|(_, count)| count))?;
    received(buffer, count);
    Ok(count)
}

#[inline(never)]
fn read(fd: BorrowedFd<'_>, kind: Kind, buffer: &mut BytesMut) -> io::Result<usize> {
    let spare = buffer.spare_capacity_mut();
    let count = loop {
        let count = retry_on_intr(|| rustix::io::read(fd, &mut *spare).map(|(filled, _)| filled.len()))?;
        // Without room there is nothing to be read into, whatever there is.
        if count > 0 || spare.is_empty() || !kind.is_pipe() || pipe_has_ended(fd)? {
            break count;
        }
    };
    received(buffer, count);
    Ok(count)
}

/// The kernel has appended so many bytes.
#[inline(always)]
fn received(buffer: &mut BytesMut, count: usize) {
    let length = buffer.len() + count;
    // SAFETY: the kernel wrote `count` bytes at the start of the spare capacity.
    unsafe { buffer.set_len(length) };
}

/// Whether a pipe of which a read found the end has ended; if not, another read may find something. A FIFO that nobody has opened to
/// write yet looks like one that has ended, but for the hang-up.
///
/// # Errors
/// `WouldBlock` if nobody has opened it yet; the kernel's, but for EINTR.
#[cold]
fn pipe_has_ended(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    uninterrupted(|| succeeded(unsafe { libc::poll(&raw mut poll, 1, 0) }))?;
    if poll.revents & (libc::POLLHUP | libc::POLLERR) == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(poll.revents & libc::POLLIN == 0)
}

/// Sends what the kernel takes at once. A socket whose peer is gone gives an error and no signal.
///
/// # Errors
/// The kernel's, but for EINTR.
#[inline]
pub fn send(fd: BorrowedFd<'_>, socket: bool, data: &[u8]) -> io::Result<usize> {
    let send = || {
        if socket { rustix::net::send(fd, data, SendFlags::NOSIGNAL) } else { rustix::io::write(fd, data) }
    };
    Ok(retry_on_intr(send)?)
}

/// Accepts one connection, non-blocking and close-on-exec. A peer without an address of a known family counts as unnamed.
///
/// # Errors
/// The kernel's, but for EINTR.
pub fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, Address)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let (socket, address) = uninterrupted(|| SockRef::from(&fd).accept4(flags))?;
    Ok((socket.into(), from_kernel(&address).unwrap_or(UnixAddress::Unnamed.into())))
}

/// The peer's address of a connection that was accepted, also if it is gone already. One without an address of a known family counts
/// as unnamed.
pub fn accepted_from(fd: BorrowedFd<'_>) -> Address {
    let address = SockRef::from(&fd).peer_addr().or_else(|_| former_peer(fd));
    address.and_then(|address| from_kernel(&address)).unwrap_or(UnixAddress::Unnamed.into())
}

/// The peer's address of a connection that it has reset.
#[cold]
fn former_peer(fd: BorrowedFd<'_>) -> io::Result<SockAddr> {
    // The kernel wants to be asked for no more than the address has.
    let sizes = [size_of::<libc::sockaddr_in6>(), size_of::<libc::sockaddr_in>()];
    let ask = |size: usize| {
        // SAFETY: the kernel writes at most so much of the address as the length says, and the length.
        unsafe {
            SockAddr::try_init(|storage, length| {
                *length = size as libc::socklen_t;
                let code =
                    libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERNAME, storage.cast(), length);
                if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            })
        }
    };
    ask(sizes[0]).or_else(|_| ask(sizes[1])).map(|((), address)| address)
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

/// Takes the exit status of the child process of a pidfd.
///
/// # Errors
/// The kernel's, but for EINTR; `WouldBlock` if it has not ended.
pub fn exit_status(pidfd: BorrowedFd<'_>) -> io::Result<ExitStatus> {
    wait_for(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, libc::WEXITED)
}

/// Takes the exit status of the child process of a number.
///
/// # Errors
/// As [`exit_status`].
pub fn exit_status_of(pid: u32) -> io::Result<ExitStatus> {
    wait_for(libc::P_PID, pid, libc::WEXITED)
}

fn wait_for(kind: libc::idtype_t, id: libc::id_t, options: libc::c_int) -> io::Result<ExitStatus> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let memory = info.as_mut_ptr();
    // SAFETY: the kernel writes to `info`, which outlives the call.
    uninterrupted(|| succeeded(unsafe { libc::waitid(kind, id, memory, options | libc::WNOHANG) }))?;
    // SAFETY: zeroed or filled by the kernel, all of its bytes are initialized.
    let info = unsafe { info.assume_init() };
    waited_for(&info).ok_or_else(|| io::ErrorKind::WouldBlock.into())
}

/// A pidfd of the process of a number.
///
/// # Errors
/// The kernel's: `ESRCH` if there is no such process.
pub fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the descriptor that comes back is ours alone.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as RawFd)) }
    }
}

/// A pidfd of the process of a number, if that is a child whose exit status was not taken.
///
/// # Errors
/// The kernel's: `ESRCH` if there is no such child.
pub fn open_child(pid: u32) -> io::Result<OwnedFd> {
    let pidfd = open_process(pid)?;
    let look = libc::WEXITED | libc::WNOWAIT;
    match wait_for(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, look) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        _ => Ok(pidfd),
    }
}

/// Whether an error says that there is no descriptor left.
pub fn lacks_descriptor(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// Sends a signal to a child by its number, where there is no descriptor for a pidfd. The child may only lose the number meanwhile if
/// another thread takes its exit status, and numbers are given out in turn: it would have to go round in that moment.
///
/// # Errors
/// The kernel's: `ESRCH` if there is no such child.
pub fn signal_by_number(pid: u32, signal: i32) -> io::Result<()> {
    match wait_for(libc::P_PID, pid, libc::WEXITED | libc::WNOWAIT) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        // SAFETY: no pointers.
        _ => succeeded(unsafe { libc::kill(pid as libc::pid_t, signal) }),
    }
}

/// How a process ended, from what `waitid` filled in; `None` if it found no process that has ended.
pub fn waited_for(info: &libc::siginfo_t) -> Option<ExitStatus> {
    // SAFETY: these fields are numbers, for which any bytes will do.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return None;
    }
    // As wait(2) encodes it.
    Some(ExitStatus::from_raw(match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    }))
}

/// Sends a signal to the process of a pidfd.
///
/// # Errors
/// The kernel's.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no info is given, and the kernel checks the rest.
    let code = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
    uninterrupted(|| succeeded(unsafe { libc::poll(&raw mut poll, 1, 0) }))?;
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

/// Whether this is a pipe that is not in packet mode.
pub(crate) fn is_plain_pipe(fd: BorrowedFd<'_>) -> bool {
    let mut file = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel writes to `file`, which outlives the calls; zeroed or filled, all of its bytes are initialized.
    unsafe {
        libc::fstat(fd.as_raw_fd(), file.as_mut_ptr()) == 0
            && file.assume_init().st_mode & libc::S_IFMT == libc::S_IFIFO
            && libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) & libc::O_DIRECT == 0
    }
}
