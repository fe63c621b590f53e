//! An io_uring loop written by hand, for this one purpose: what a runtime on io_uring can at best come close to.
//!
//! One receive a connection goes on all the time, into buffers that the kernel picks; what has come is sent from the same buffer, and
//! the buffer goes back when it is sent.
#![allow(unsafe_code, reason = "there is no io_uring without")]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::{BUFFER, LOOPBACK};

const BUFFERS: u16 = 1024;
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

/// The buffers, and the ring in which the kernel finds them. They are never freed.
struct Buffers {
    ring: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
}

impl Buffers {
    fn new() -> io::Result<Self> {
        let length = usize::from(BUFFERS) * (BUFFER + size_of::<BufRingEntry>());
        // SAFETY: a fresh mapping.
        let ring = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if ring == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ring = ring.cast::<BufRingEntry>();
        // SAFETY: the buffers lie behind the ring in the mapping.
        let memory = unsafe { ring.add(usize::from(BUFFERS)).cast() };
        let mut buffers = Buffers { ring, memory, tail: 0 };
        (0..BUFFERS).for_each(|number| buffers.give(number));
        Ok(buffers)
    }

    fn at(&self, number: u16) -> *mut u8 {
        // SAFETY: there are so many buffers.
        unsafe { self.memory.add(usize::from(number) * BUFFER) }
    }

    fn give(&mut self, number: u16) {
        // SAFETY: the place lies in the ring, and the kernel does not look at it before the tail says so.
        unsafe {
            let entry = &mut *self.ring.add(usize::from(self.tail % BUFFERS));
            entry.set_addr(self.at(number) as u64);
            entry.set_len(BUFFER as u32);
            entry.set_bid(number);
            self.tail = self.tail.wrapping_add(1);
            (*BufRingEntry::tail(self.ring).cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }
}

fn push(uring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    // SAFETY: the buffers are never freed, and one is not given back before it is sent.
    while unsafe { uring.submission().push(entry) }.is_err() {
        uring.submit()?;
    }
    Ok(())
}

fn tag(kind: u64, fd: RawFd, number: u16) -> u64 {
    kind | (fd as u64) << 2 | u64::from(number) << 26
}

fn receive(uring: &mut IoUring, fd: RawFd) -> io::Result<()> {
    push(uring, &opcode::RecvMulti::new(Fd(fd), 0).build().user_data(tag(RECEIVE, fd, 0)))
}

pub(super) fn serve(bound: fn(SocketAddr)) -> io::Result<()> {
    let listener = TcpListener::bind(LOOPBACK)?;
    let mut uring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_cqsize(4096).build(1024)?;
    let mut buffers = Buffers::new()?;
    // SAFETY: the buffers are never freed.
    unsafe { uring.submitter().register_buf_ring_with_flags(buffers.ring as u64, BUFFERS, 0, 0)? };
    push(&mut uring, &opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).build().user_data(tag(ACCEPT, 0, 0)))?;
    bound(listener.local_addr()?);

    let mut completions: Vec<cqueue::Entry> = Vec::with_capacity(4096);
    loop {
        uring.submit_and_wait(1)?;
        completions.extend(uring.completion());
        for completion in completions.drain(..) {
            let (tagged, result) = (completion.user_data(), completion.result());
            let fd = (tagged >> 2 & 0xff_ffff) as RawFd;
            match tagged & 3 {
                ACCEPT => {
                    if result >= 0 {
                        nodelay(result)?;
                        receive(&mut uring, result)?;
                    }
                }
                RECEIVE => {
                    let number = cqueue::buffer_select(completion.flags());
                    match (number, result) {
                        (Some(number), 1..) => send(&mut uring, &buffers, fd, number, result as usize)?,
                        // SAFETY: the descriptor came from the accept, and nothing is in flight on it any more.
                        (_, 0) => drop(unsafe { OwnedFd::from_raw_fd(fd) }),
                        (_, _) if -result == libc::ENOBUFS => (),
                        // SAFETY: as above.
                        (_, _) => drop(unsafe { OwnedFd::from_raw_fd(fd) }),
                    }
                    if !cqueue::more(completion.flags()) && (result > 0 || -result == libc::ENOBUFS) {
                        receive(&mut uring, fd)?;
                    }
                }
                _ => buffers.give((tagged >> 26 & 0xffff) as u16),
            }
        }
    }
}

fn send(uring: &mut IoUring, buffers: &Buffers, fd: RawFd, number: u16, length: usize) -> io::Result<()> {
    let data = buffers.at(number);
    let send = opcode::Send::new(Fd(fd), data, length as u32).flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL);
    push(uring, &send.build().user_data(tag(SEND, fd, number)))
}

fn nodelay(fd: RawFd) -> io::Result<()> {
    // SAFETY: the descriptor is open, and stays its owner's.
    let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::TcpNoDelay, &true).map_err(io::Error::from)
}
