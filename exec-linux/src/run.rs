//! [`run`]: a program from its beginning to its end.

use std::future::Future;
use std::io;

use aioli_core::driver::Driver;
use aioli_core::{Error, Result, Runner};

use crate::Interrupt;

/// Makes a driver and runs `main` on it, with Ctrl-C as a cancellation.
///
/// # Errors
/// What `main` returns; `Panicked` if it panicked; `Interrupted` if Ctrl-C cancelled it, or came in its last step or after it. `Runtime` if
/// a loop runs on this thread already. `Io` if the driver cannot be made.
#[track_caller]
pub fn run<D, F, T>(driver: impl FnOnce() -> io::Result<D>, main: F) -> Result<T>
where
    D: Driver,
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    if aioli_core::get_running_loop().is_ok() {
        return Err(Error::runtime("run cannot be called from a running event loop: await the coroutine instead"));
    }
    let runner = Runner::new(driver()?);
    let interrupt = Interrupt::install(&runner.get_loop().remote());
    let result = runner.run(main);
    drop(interrupt);
    let closed = runner.close();
    result.and_then(|value| closed.map(|()| value))
}
