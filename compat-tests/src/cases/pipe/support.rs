//! What the cases of pipes share.

use std::io::{self, PipeWriter};
use std::os::fd::AsFd;
use std::time::Duration;

use aioli_core::{Error, Result, sleep};
use aioli_io::{StreamReader, StreamWriter, connect_read_pipe, connect_write_pipe, open_stdin, open_stdout};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::machine::Machine;

/// The machine for a case of pipes. One without descriptors must refuse them, and close what it was given: that is then what the case
/// tests, and there is no machine.
pub fn with_pipes(on: &Machine) -> Option<&Machine> {
    let on = on.network()?;
    if on.has_descriptors() {
        return Some(on);
    }
    on.run(async {
        let (end, start) = io::pipe()?;
        let probe = start.try_clone()?;
        let refused = connect_read_pipe(end).await.unwrap_err();
        assert!(is_refusal(&refused), "{refused}");
        until_nobody_reads(&probe);
        let refused = connect_write_pipe(start).await.unwrap_err();
        assert!(is_refusal(&refused), "{refused}");
        assert!(is_refusal(&open_stdin().await.unwrap_err()));
        assert!(is_refusal(&open_stdout().await.unwrap_err()));
        sleep(1.0).await
    });
    None
}

/// Whether an error says that the backend has nothing of the kind.
pub fn is_refusal(error: &Error) -> bool {
    let unsupported = error.as_io().is_some_and(|error| error.kind() == io::ErrorKind::Unsupported);
    unsupported && error.to_string().ends_with("use another backend")
}

/// A pipe as two streams.
pub async fn pair() -> Result<(StreamReader, StreamWriter)> {
    let (end, start) = io::pipe()?;
    Ok((connect_read_pipe(end).await?, connect_write_pipe(start).await?))
}

pub fn kind(error: &Error) -> io::ErrorKind {
    error.as_io().unwrap_or_else(|| panic!("{error:?} is no error of the operating system")).kind()
}

/// Waits until nobody can read from a pipe any more. A process that another case is just starting has all descriptors for a moment.
#[track_caller]
pub fn until_nobody_reads(start: &PipeWriter) {
    let mut probe = [PollFd::from_borrowed_fd(start.as_fd(), PollFlags::empty())];
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(poll(&mut probe, Some(&limit)), Ok(1), "somebody still reads");
}

/// Lets time pass until something is so.
pub async fn until(mut is_so: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..2000 {
        if is_so() {
            return Ok(());
        }
        sleep(Duration::from_millis(1)).await?;
    }
    panic!("it does not come about");
}
