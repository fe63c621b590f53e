//! [`refuse_sometimes`]: a system call that fails now and then.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

/// `_IOWR('!', 0, struct seccomp_notif)` and `_IOWR('!', 1, struct seccomp_notif_resp)`
const RECEIVE: libc::c_ulong = 0xc050_2100;
const ANSWER: libc::c_ulong = 0xc018_2101;

/// Has a thread be asked before each call of a kind that this thread makes: the call fails with what it says, or is made if that is 0.
/// This holds as long as the process lives. Returns whether this machine can do that.
pub fn refuse_sometimes(call: libc::c_long, mut ask: impl FnMut() -> i32 + Send + 'static) -> bool {
    let (give, take) = mpsc::channel::<OwnedFd>();
    // Made before, so that it is not asked itself.
    thread::spawn(move || {
        let Ok(calls) = take.recv() else { return };
        loop {
            // SAFETY: both structures are plain numbers, outlive the calls, and are as the numbers of the calls say.
            unsafe {
                let mut call: libc::seccomp_notif = std::mem::zeroed();
                if libc::ioctl(calls.as_raw_fd(), RECEIVE, &raw mut call) < 0 {
                    continue;
                }
                let errno = ask();
                let flags = if errno == 0 { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
                let answer = libc::seccomp_notif_resp { id: call.id, val: 0, error: -errno, flags };
                libc::ioctl(calls.as_raw_fd(), ANSWER, &raw const answer);
            }
        }
    });
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program and its filter outlive the call, which copies them; the descriptor that comes back is ours alone.
    let calls = unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        let fd = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program);
        if fd < 0 {
            eprintln!("skipped: {}", io::Error::last_os_error());
            return false;
        }
        OwnedFd::from_raw_fd(fd as i32)
    };
    give.send(calls).is_ok()
}
