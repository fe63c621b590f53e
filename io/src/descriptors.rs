//! Callbacks for descriptors that are ready: [`LoopDescriptors`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::Location;
use std::rc::{Rc, Weak};

use aioli_core::{Error, Loop, Result};

use crate::connection::Connection;
use crate::watch::{Side, Watch};

thread_local! {
    /// What the loops of this thread watch.
    static WATCHED: RefCell<Vec<Watched>> = const { RefCell::new(Vec::new()) };

    /// The streams over descriptors that came from elsewhere, whose numbers the program may know.
    static STREAMS: RefCell<HashMap<RawFd, Weak<Connection>>> = RefCell::new(HashMap::new());
}

/// The descriptors that a loop watches; none has no entry.
struct Watched {
    event_loop: Loop,
    watches: HashMap<(RawFd, Side), Rc<Watch>>,
}

/// Callbacks for descriptors that are ready, as methods of a loop.
///
/// This is for descriptors whose system calls the program makes itself, such as those of a C library. A descriptor has one callback for
/// reading and one for writing. Each is called once in every turn in which the descriptor is ready, also at the end of the stream and
/// after an error, until it is removed: a callback that neither reads nor removes itself is called again and again. It is called in the
/// context that held where it was added. A panic of it is reported to the loop's exception handler, and it stays.
///
/// A callback is to be removed before its descriptor is closed: until then the backend may keep the file open, and does not tell that it
/// is gone. What is registered when the loop closes goes with it. The simulated machine has no descriptors.
///
/// For sockets, [`Socket`](crate::Socket) mostly fits better: it waits by itself.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_core::{get_running_loop, sleep};
/// use aioli_io::LoopDescriptors;
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use std::{cell::RefCell, rc::Rc};
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// ours.set_nonblocking(true)?;
/// let ours = Rc::new(ours);
/// let event_loop = get_running_loop()?;
/// let text = Rc::new(RefCell::new(String::new()));
///
/// let (reading, sink) = (Rc::clone(&ours), Rc::clone(&text));
/// event_loop.add_reader(&*ours, move || {
///     let mut buffer = [0; 100];
///     if let Ok(count) = (&*reading).read(&mut buffer) {
///         sink.borrow_mut().push_str(&String::from_utf8_lossy(&buffer[..count]));
///     }
/// })?;
/// theirs.write_all(b"ciao")?;
/// while text.borrow().is_empty() {
///     sleep(0.001).await?;
/// }
/// assert_eq!(*text.borrow(), "ciao");
/// assert!(event_loop.remove_reader(&*ours));
/// assert!(!event_loop.remove_reader(&*ours));
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub trait LoopDescriptors {
    /// Has `callback` called whenever reading from the descriptor would not block, in the place of a callback that was added before:
    /// asyncio's `add_reader`. A number is a descriptor, too.
    ///
    /// # Errors
    /// `Runtime` if a stream uses the descriptor, or the loop is closed; `Value` if its number is negative; `Io` if it is not open, and
    /// on a backend without descriptors.
    #[track_caller]
    fn add_reader(&self, fd: &impl AsRawFd, callback: impl FnMut() + 'static) -> Result<()>;

    /// Removes the callback for reading: asyncio's `remove_reader`. Returns whether there was one. It is not called any more, even if
    /// the descriptor is ready already.
    fn remove_reader(&self, fd: &impl AsRawFd) -> bool;

    /// Has `callback` called whenever writing to the descriptor would not block: asyncio's `add_writer`. As
    /// [`add_reader`](Self::add_reader) otherwise.
    ///
    /// # Errors
    /// As [`add_reader`](Self::add_reader).
    #[track_caller]
    fn add_writer(&self, fd: &impl AsRawFd, callback: impl FnMut() + 'static) -> Result<()>;

    /// Removes the callback for writing: asyncio's `remove_writer`. Returns whether there was one.
    fn remove_writer(&self, fd: &impl AsRawFd) -> bool;
}

impl LoopDescriptors for Loop {
    #[track_caller]
    fn add_reader(&self, fd: &impl AsRawFd, callback: impl FnMut() + 'static) -> Result<()> {
        add(self, fd.as_raw_fd(), Side::Reading, Box::new(callback))
    }

    fn remove_reader(&self, fd: &impl AsRawFd) -> bool {
        remove(self, fd.as_raw_fd(), Side::Reading)
    }

    #[track_caller]
    fn add_writer(&self, fd: &impl AsRawFd, callback: impl FnMut() + 'static) -> Result<()> {
        add(self, fd.as_raw_fd(), Side::Writing, Box::new(callback))
    }

    fn remove_writer(&self, fd: &impl AsRawFd) -> bool {
        remove(self, fd.as_raw_fd(), Side::Writing)
    }
}

#[track_caller]
fn add(event_loop: &Loop, fd: RawFd, side: Side, callback: Box<dyn FnMut()>) -> Result<()> {
    if fd < 0 {
        return Err(Error::value(format!("{fd} is no file descriptor")));
    }
    if is_used_by_stream(fd) {
        return Err(Error::runtime(format!("file descriptor {fd} is used by a stream")));
    }
    let watch = Watch::start(event_loop, fd, side, Location::caller(), callback)?;
    let old = WATCHED.with_borrow_mut(|loops| {
        let known = loops.iter().position(|known| known.event_loop.same(event_loop));
        let known = known.unwrap_or_else(|| {
            loops.push(Watched { event_loop: event_loop.clone(), watches: HashMap::new() });
            loops.len() - 1
        });
        loops[known].watches.insert((fd, side), watch)
    });
    if let Some(old) = old {
        old.stop();
    }
    Ok(())
}

fn remove(event_loop: &Loop, fd: RawFd, side: Side) -> bool {
    let watch = take(event_loop, |watches| watches.remove(&(fd, side)));
    watch.is_some_and(|watch| watch.stop())
}

/// A watch has ended by itself.
pub(crate) fn forget(watch: &Watch) {
    let gone = take(watch.event_loop(), |watches| match watches.entry(watch.place()) {
        Entry::Occupied(entry) if std::ptr::eq(&**entry.get(), watch) => Some(entry.remove()),
        _ => None,
    });
    drop(gone);
}

fn take(
    event_loop: &Loop,
    from: impl FnOnce(&mut HashMap<(RawFd, Side), Rc<Watch>>) -> Option<Rc<Watch>>,
) -> Option<Rc<Watch>> {
    // A thread that ends watches nothing any more.
    let taken = WATCHED.try_with(|loops| {
        let mut loops = loops.borrow_mut();
        let n = loops.iter().position(|known| known.event_loop.same(event_loop))?;
        let watch = from(&mut loops[n].watches)?;
        let last = loops[n].watches.is_empty().then(|| loops.swap_remove(n));
        Some((watch, last))
    });
    // The last handle to a loop may be among them.
    taken.ok().flatten().map(|(watch, _)| watch)
}

/// Notes that a stream uses a descriptor, which is not watched for others meanwhile.
pub(crate) fn note_stream(fd: RawFd, connection: &Rc<Connection>) {
    // A thread that ends watches nothing any more.
    let _ = STREAMS.try_with(|streams| {
        let mut streams = streams.borrow_mut();
        if streams.len() == streams.capacity() {
            streams.retain(|_, connection| connection.strong_count() > 0);
        }
        streams.insert(fd, Rc::downgrade(connection));
    });
}

fn is_used_by_stream(fd: RawFd) -> bool {
    let connection = STREAMS.try_with(|streams| streams.borrow().get(&fd).and_then(Weak::upgrade));
    connection.ok().flatten().is_some_and(|connection| !connection.is_closing())
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("watches", &self.watches.len()).finish_non_exhaustive()
    }
}
