//! What a signal does to the program when nobody handles it any more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use signal_hook::flag;

use crate::signal::Signal;

/// As shells have it, a program that was ended by a signal has this and its number for an exit status.
const ENDED_BY: i32 = 128;

/// What is known of a signal, from its first handler on.
struct Entry {
    handlers: usize,
    /// While true, the signal does what it does to a program that does not handle it. `None` if it did not at first.
    unhandled: Option<Arc<AtomicBool>>,
}

static ENTRIES: Mutex<BTreeMap<Signal, Entry>> = Mutex::new(BTreeMap::new());

/// That a signal is handled. When the last of these is dropped, the signal does again what it did before, as far as that was the
/// default.
#[derive(Debug)]
pub(crate) struct Handled(Signal);

impl Handled {
    /// Called before a handler is registered. The library that registers handlers never takes its own back, so what the signal does
    /// otherwise has to be done by another handler.
    pub(crate) fn new(signal: Signal) -> io::Result<Self> {
        let mut entries = ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&signal) {
            entry.handlers += 1;
            if let Some(unhandled) = &entry.unhandled {
                unhandled.store(false, Ordering::SeqCst);
            }
            return Ok(Handled(signal));
        }
        let unhandled = if is_default(signal) {
            let unhandled = Arc::new(AtomicBool::new(false));
            let (number, condition) = (signal.number(), Arc::clone(&unhandled));
            if ends_by_exit(signal) {
                flag::register_conditional_shutdown(number, ENDED_BY + number, condition)?;
            } else {
                flag::register_conditional_default(number, condition)?;
            }
            Some(unhandled)
        } else {
            None
        };
        entries.insert(signal, Entry { handlers: 1, unhandled });
        Ok(Handled(signal))
    }
}

impl Drop for Handled {
    fn drop(&mut self) {
        let mut entries = ENTRIES.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get_mut(&self.0) else { return };
        entry.handlers -= 1;
        if let (0, Some(unhandled)) = (entry.handlers, &entry.unhandled) {
            unhandled.store(true, Ordering::SeqCst);
        }
    }
}

/// Whether the library does not know that this signal ends the program by default: SIGSTKFLT, SIGIO, SIGPWR and the real-time ones.
fn ends_by_exit(signal: Signal) -> bool {
    matches!(signal.number(), 16 | 29 | 30 | 34..)
}

/// Whether the program neither handles nor ignores a signal, as far as the system tells.
fn is_default(signal: Signal) -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return true };
    let has = |name: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask >> (signal.number() - 1) & 1 == 1)
    };
    !has("SigCgt:") && !has("SigIgn:")
}
