//! [`probe`]: what the kernel carries out, found by asking for it.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;
use std::{io, ptr};

use aioli_exec_linux::Timeout;
use io_uring::{opcode, squeue, types};

use crate::buffers;
use crate::ring::{Event, Ring};
use crate::rung::{Rung, Rungs};
use crate::setup::explain;
use crate::stream::with_credit;
use crate::token::Token;

/// The kernel may take so long for what it does in a thread, a hundred times over.
const PATIENCE: Duration = Duration::from_millis(100);

/// A kind of request, made in a way that has no effect.
struct Trial {
    name: &'static str,
    /// What is done without. Nothing: there is no other way.
    rung: Option<Rung>,
    request: squeue::Entry,
}

/// One of each kind that the driver makes, with its flags. They are about a descriptor or a process that cannot be, or a path at no
/// address, which is found out only after the kind was. Flags of one kind are looked at after the descriptor by some kernels, so that
/// it has to be one: that of the ring, which is no socket. The second fails because it is linked to the first: it would take a thread.
fn trials(ring: RawFd) -> [Trial; 16] {
    let (none, no_socket) = (types::Fd(-1), types::Fd(ring));
    let (memory, path) = (ptr::null_mut(), ptr::null());
    let trial = |name, request| Trial { name, rung: None, request };
    let rung = |rung, name, request| Trial { name, rung: Some(rung), request };
    let receive = opcode::RecvMulti::new(no_socket, buffers::GROUP).build();
    let send = opcode::Send::new(none, memory, 0).flags(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_WAITALL);
    let send = send.build().flags(squeue::Flags::SKIP_SUCCESS);
    [
        trial("read", opcode::Read::new(none, memory, 0).build().flags(squeue::Flags::IO_LINK)),
        trial("fsync", opcode::Fsync::new(none).build()),
        trial("nop", opcode::Nop::new().build()),
        trial("poll", opcode::PollAdd::new(none, libc::POLLIN as u32).build()),
        trial("multishot poll", opcode::PollAdd::new(none, libc::POLLIN as u32).multi(true).build()),
        trial("cancel", opcode::AsyncCancel::new(u64::MAX).build()),
        trial("recv", opcode::Recv::new(none, memory, 0).build()),
        trial("send", opcode::Send::new(none, memory, 0).flags(libc::MSG_NOSIGNAL).build()),
        rung(Rung::MultishotReceive, "multishot recv", receive.clone()),
        rung(Rung::ReceiveCredit, "multishot recv with credit", with_credit(receive, 1)),
        rung(Rung::MultishotAccept, "multishot accept", opcode::AcceptMulti::new(no_socket).build()),
        rung(Rung::BatchedSends, "silent send", send),
        trial("open", opcode::OpenAt::new(none, path).build()),
        trial("statx", opcode::Statx::new(none, path, ptr::null_mut()).build()),
        rung(
            Rung::ProcessWaits,
            "waitid",
            opcode::WaitId::new(libc::P_PID, libc::id_t::MAX >> 1, libc::WEXITED).build(),
        ),
        trial("write", opcode::Write::new(none, memory, 0).build()),
    ]
}

/// Sends one request of each kind through the ring, which is a system call: the kernel may be too old for some, and a filter or a
/// restriction may forbid others, or the call.
///
/// # Errors
/// The kernel's, or `Unsupported` if it refuses what the driver cannot do without.
pub(crate) fn probe(ring: &mut Ring, rungs: &mut Rungs) -> io::Result<()> {
    let trials = trials(ring.uring().as_raw_fd());
    for (n, trial) in trials.iter().enumerate() {
        // SAFETY: a request refers to no memory, or to none that there is.
        unsafe { ring.push(trial.request.clone(), Token::Part(n as u32)) };
    }
    let mut answers = Vec::with_capacity(trials.len());
    for _ in 0..100 {
        ring.enter(Timeout::For(PATIENCE)).map_err(|error| explain("io_uring_enter", error))?;
        ring.take(&mut answers);
        if answers.len() >= trials.len() {
            break;
        }
    }
    for (n, trial) in trials.iter().enumerate() {
        let Some(Event { result, .. }) = answers.iter().find(|event| event.token() == Token::Part(n as u32)) else {
            let text = "io_uring takes requests but does not complete them; use AIOLI_BACKEND=epoll";
            return Err(io::Error::other(text));
        };
        if let libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM | libc::EACCES = -result {
            let error = io::Error::from_raw_os_error(-result);
            let Some(rung) = trial.rung else {
                let text =
                    format!("io_uring cannot be used: {}: {error}; allow it, or use AIOLI_BACKEND=epoll", trial.name);
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            };
            rungs.refuse(rung, error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use io_uring::IoUring;
    use io_uring::register::Restriction;

    /// What the probe says where one kind of request and some flags are forbidden.
    fn without(code: Option<u8>, flags: squeue::Flags) -> Option<(io::Result<()>, Rungs)> {
        let uring = IoUring::builder().setup_r_disabled().build(32).ok()?;
        let codes = trials(uring.as_raw_fd()).map(|trial| code_of(&trial.request));
        let others = codes.into_iter().filter(|known| Some(*known) != code);
        let mut allowed: Vec<_> = others.map(Restriction::sqe_op).collect();
        allowed.push(Restriction::sqe_flags_allowed(!flags.bits()));
        uring.submitter().register_restrictions(&mut allowed).ok()?;
        uring.submitter().register_enable_rings().ok()?;
        let mut rungs = Rungs::new(&[]);
        let result = probe(&mut Ring::new(uring, false), &mut rungs);
        Some((result, rungs))
    }

    /// The code is the first byte of a request.
    fn code_of(request: &squeue::Entry) -> u8 {
        // SAFETY: an entry is as the kernel has it: plain numbers.
        unsafe { (&raw const *request).cast::<u8>().read() }
    }

    /// Where the queue is short, a request is handed over apart from the one that it is linked to.
    #[test]
    fn any_ring_is_long_enough() {
        for entries in [1, 2, 4, 16] {
            for _ in 0..5 {
                let Ok(uring) = IoUring::builder().build(entries) else { return };
                probe(&mut Ring::new(uring, false), &mut Rungs::new(&[])).unwrap();
            }
        }
    }

    /// Linux before 5.19 finds fault with a descriptor that is none before it looks at the flags of a kind, so that it seemed to know
    /// those that are newer.
    #[test]
    fn flags_of_a_kind_are_tried_with_a_descriptor() {
        let Ok(uring) = IoUring::builder().build(32) else { return };
        let fd = uring.as_raw_fd();
        let mut ring = Ring::new(uring, false);
        let trials = trials(fd).into_iter().filter(|trial| trial.name.starts_with("multishot") && trial.rung.is_some());
        for trial in trials {
            // SAFETY: it refers to no memory.
            unsafe { ring.push(trial.request, Token::Nobody) };
            ring.enter(Timeout::For(PATIENCE)).unwrap();
            let mut answers = Vec::new();
            ring.take(&mut answers);
            assert!(matches!(-answers[0].result, libc::ENOTSOCK | libc::EINVAL), "{}: {answers:?}", trial.name);
        }
    }

    #[test]
    fn a_request_that_is_forbidden_is_found_out() {
        for trial in trials(-1) {
            let Some((result, rungs)) = without(Some(code_of(&trial.request)), squeue::Flags::empty()) else { return };
            if let ("waitid" | "multishot accept", Some(rung)) = (trial.name, trial.rung) {
                result.unwrap();
                assert!(!rungs.has(rung) && rungs.has(Rung::BatchedSends));
                continue;
            }
            let error = result.expect_err("a request of each other kind is needed");
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            assert!(error.to_string().contains("Permission denied"), "{error}");
            assert!(error.to_string().contains("AIOLI_BACKEND=epoll"), "{error}");
        }
        let Some((result, rungs)) = without(None, squeue::Flags::SKIP_SUCCESS) else { return };
        result.unwrap();
        assert!(!rungs.has(Rung::BatchedSends));
        assert!(rungs.lines().any(|(_, text)| text == "no (Permission denied (os error 13))"));
        assert!(without(None, squeue::Flags::IO_LINK).is_some_and(|(result, _)| result.is_err()));
    }
}
