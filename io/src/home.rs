//! Which loop something belongs to.

use aioli_core::{Error, Loop, Result, get_running_loop};

/// # Errors
/// `Runtime` if another loop runs here than the one that would end the await: it would last for ever.
#[inline]
pub(crate) fn check_home(event_loop: &Loop) -> Result<()> {
    if event_loop.is_running() { Ok(()) } else { elsewhere(event_loop) }
}

#[cold]
fn elsewhere(event_loop: &Loop) -> Result<()> {
    // Outside of every loop there is no task either, which whoever awaits is told.
    get_running_loop().map_or(Ok(()), |_| {
        let text = if event_loop.is_closed() { CLOSED } else { DIFFERENT };
        Err(Error::runtime(text))
    })
}

const DIFFERENT: &str = "this belongs to a different event loop: only tasks of the one that made it can wait for it";

/// What is told of everything that belonged to a loop that is closed.
const CLOSED: &str = "the event loop is closed";

/// The error that comes of the end of the loop rather than of what was done on it.
pub(crate) fn closed_error() -> Error {
    Error::runtime(CLOSED)
}
