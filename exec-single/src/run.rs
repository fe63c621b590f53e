//! [`run`]: a program on epoll, from its beginning to its end.

use std::future::Future;

use aioli_core::{Error, Result, Runner};

use crate::EpollDriver;
use crate::interrupt::Interrupt;

/// Runs `main` on epoll and leaves in good order: asyncio's `run`.
///
/// Ctrl-C cancels `main`, which may clean up with further awaits; a second Ctrl-C ends the program at once. This holds on the
/// program's main thread, unless the program has a SIGINT handler of its own.
///
/// # Errors
/// What `main` returns; `Panicked` if it panicked; `Interrupted` if Ctrl-C cancelled it. `Runtime` if a loop runs on this thread
/// already. `Io` if the kernel refuses what the backend needs.
///
/// ```
/// let answer = aioli_exec_single::run(async { Ok(6 * 7) });
/// assert_eq!(answer.unwrap(), 42);
/// ```
#[track_caller]
pub fn run<F, T>(main: F) -> Result<T>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    if aioli_core::get_running_loop().is_ok() {
        return Err(Error::runtime("run cannot be called from a running event loop: await the coroutine instead"));
    }
    let runner = Runner::new(EpollDriver::new()?);
    let interrupt = Interrupt::install(&runner.get_loop().remote());
    let result = runner.run(main);
    drop(interrupt);
    let closed = runner.close();
    result.and_then(|value| closed.map(|()| value))
}
