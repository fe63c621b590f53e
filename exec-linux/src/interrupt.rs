//! [`Interrupt`]: Ctrl-C as a cancellation of the main task.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use aioli_core::{Diversion, RemoteLoop};

/// The loop whose main task SIGINT cancels; null while none is.
static TARGET: AtomicPtr<RemoteLoop> = AtomicPtr::new(ptr::null_mut());
/// Handlers that are running, on any thread: the target is freed when there are none.
static RUNNING: AtomicU32 = AtomicU32::new(0);
/// The handler that has taken the place of ours, and calls it; 0 while none has.
static BEFORE_OURS: AtomicUsize = AtomicUsize::new(0);
/// Interrupts since the target was set.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A handler of SIGINT that cancels the main task of a loop the first time and ends the program the second time. Dropping it restores
/// the default.
#[derive(Debug)]
pub struct Interrupt {
    target: *mut RemoteLoop,
}

extern "C" fn handle(signal: libc::c_int) {
    RUNNING.fetch_add(1, Ordering::SeqCst);
    let target = TARGET.load(Ordering::SeqCst);
    // SAFETY: a target that is not null is freed no sooner than RUNNING is back to zero.
    let target = unsafe { target.as_ref() };
    // Without a target, this is called by a handler that was put before ours and stayed.
    let diverted = target.map_or_else(Diversion::is_any, RemoteLoop::has_diverted_interrupts);
    match target {
        _ if diverted => (),
        Some(target) if COUNT.fetch_add(1, Ordering::SeqCst) == 0 => target.interrupt(),
        _ => {
            // SAFETY: both calls are async-signal-safe. The signal is blocked during this handler and acts when it returns.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                libc::raise(signal);
            }
        }
    }
    RUNNING.fetch_sub(1, Ordering::SeqCst);
}

impl Interrupt {
    /// Installs the handler for a loop, on the program's main thread and if nobody else handles SIGINT.
    pub fn install(remote: &RemoteLoop) -> Option<Self> {
        let before = handler();
        let is_ours = before != libc::SIG_DFL && before == BEFORE_OURS.load(Ordering::SeqCst);
        if !is_main_thread() || before != libc::SIG_DFL && !is_ours {
            return None;
        }
        let target = Box::into_raw(Box::new(remote.clone()));
        if TARGET.compare_exchange(ptr::null_mut(), target, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            // SAFETY: nobody has seen it.
            drop(unsafe { Box::from_raw(target) });
            return None;
        }
        COUNT.store(0, Ordering::SeqCst);
        let interrupt = Interrupt { target };
        if is_ours {
            return Some(interrupt);
        }
        // SAFETY: the handler is async-signal-safe; a zeroed sigaction is a valid one without flags and with an empty mask.
        let installed = unsafe {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            action.sa_sigaction = ours();
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGINT, &action, ptr::null_mut())
        };
        (installed == 0).then_some(interrupt)
    }
}

/// Forgets, in a child that was just forked, the loop of the parent: Ctrl-C ends the child, until it runs a loop of its own.
pub(crate) fn forked() {
    if !TARGET.swap(ptr::null_mut(), Ordering::SeqCst).is_null() {
        remove_handler();
    }
    // The threads that were in a handler are not here.
    RUNNING.store(0, Ordering::SeqCst);
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        remove_handler();
        TARGET.store(ptr::null_mut(), Ordering::SeqCst);
        // A handler on another thread may have loaded the target just before.
        while RUNNING.load(Ordering::SeqCst) != 0 {
            std::hint::spin_loop();
        }
        // SAFETY: it came from `Box::into_raw`, and no handler can reach it any more.
        drop(unsafe { Box::from_raw(self.target) });
    }
}

/// Restores the default, unless somebody has put another handler before ours: that one may call ours, and cannot be removed.
fn remove_handler() {
    let now = handler();
    if now == ours() {
        // SAFETY: restores the default, which was found when the handler was installed.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    } else {
        BEFORE_OURS.store(now, Ordering::SeqCst);
    }
}

fn is_main_thread() -> bool {
    // SAFETY: neither call has preconditions.
    unsafe { libc::gettid() == libc::getpid() }
}

fn ours() -> libc::sighandler_t {
    handle as extern "C" fn(libc::c_int) as libc::sighandler_t
}

/// The handler of SIGINT, whosever it is.
fn handler() -> libc::sighandler_t {
    // SAFETY: a zeroed sigaction is valid to be written over.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        libc::sigaction(libc::SIGINT, ptr::null(), &raw mut action);
        action.sa_sigaction
    }
}
