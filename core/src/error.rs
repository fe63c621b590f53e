//! [`Error`]: what asyncio raises, as a value.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::report::discard;
use crate::task::{Light, Weighed};

/// What aioli's functions and coroutines return: a value or an [`Error`].
///
/// Any error type of the standard library's kind becomes an [`Error`] by `?`.
///
/// ```
/// fn port(text: &str) -> aioli_core::Result<u16> {
///     Ok(text.trim().parse()?)
/// }
///
/// assert_eq!(port(" 80\n").unwrap(), 80);
/// assert!(port("http").unwrap_err().downcast_ref::<std::num::ParseIntError>().is_some());
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, or that a cancellation was requested: the counterpart of Python's exceptions.
///
/// An `Error` is two pointers wide and cheap to clone. A cancellation without a message allocates nothing. Any
/// `std::error::Error + Send + Sync` becomes an `Error` by `?`, and is found again with [`downcast_ref`](Self::downcast_ref).
/// `Error` itself does not implement `std::error::Error`, since that would forbid this conversion; [`into_std`](Self::into_std)
/// gives a type that does.
///
/// ```
/// use aioli_core::{Error, ErrorKind};
///
/// fn parse(s: &str) -> aioli_core::Result<u8> {
///     Ok(s.parse::<u8>()?)
/// }
/// let error = parse("many").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Other);
/// assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
/// assert!(Error::cancelled(Some("shutting down")).is_cancelled());
/// ```
#[derive(Clone)]
pub struct Error(Light<Repr>);

/// Each variant holds one pointer: results of this size travel in registers.
#[derive(Clone)]
enum Repr {
    Cancelled(Message),
    Timeout(Text),
    InvalidState(Text),
    QueueEmpty(Text),
    QueueFull(Text),
    QueueShutDown(Text),
    BrokenBarrier(Text),
    Runtime(Text),
    Value(Text),
    Interrupted(Text),
    Boxed(Arc<Inner>),
}

/// Errors, and results that hold none, are dropped wherever something is awaited: most of them hold nothing.
impl Weighed for Repr {
    #[inline(always)]
    fn weighs(&self) -> bool {
        matches!(self, Repr::Cancelled(Some(_)) | Repr::Boxed(_))
    }
}

/// A text that is known at compile time.
type Text = &'static &'static str;

const _: () = assert!(size_of::<std::task::Poll<Result<()>>>() == 16);

struct Inner {
    kind: ErrorKind,
    detail: Detail,
}

/// Errors are dropped in all places, some of which must not unwind.
impl Drop for Inner {
    fn drop(&mut self) {
        match &mut self.detail {
            Detail::Text(_) | Detail::LimitOverrun { .. } => (),
            Detail::Group(_, errors) => take_apart(std::mem::take(errors)),
            _ => discard(std::mem::replace(&mut self.detail, Detail::Text(String::new()))),
        }
    }
}

/// Drops the errors of groups one after the other: groups may be nested as deep as tasks wait for each other.
fn take_apart(mut errors: Vec<Error>) {
    while let Some(error) = errors.pop() {
        if let Repr::Boxed(inner) = error.into_repr()
            && let Some(mut inner) = Arc::into_inner(inner)
            && let Detail::Group(_, nested) = &mut inner.detail
        {
            errors.append(nested);
        }
    }
}

enum Detail {
    Text(String),
    Io(io::Error),
    Std(Box<dyn StdError + Send + Sync>),
    Panic(Option<String>, Mutex<Option<Box<dyn Any + Send>>>),
    Group(String, Vec<Error>),
    IncompleteRead { partial: Bytes, expected: Option<usize> },
    LimitOverrun { message: &'static str, consumed: usize },
}

/// The optional message of a cancellation.
pub(crate) type Message = Option<Arc<Box<str>>>;

pub(crate) fn message(text: Option<&str>) -> Message {
    text.map(|text| Arc::new(Box::from(text)))
}

/// The kinds of [`Error`], each with its counterpart in asyncio.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{ErrorKind, Queue};
///
/// let jobs = Queue::new(1);
/// jobs.put_nowait(1)?;
/// match jobs.put_nowait(2).map_err(aioli_core::Error::from) {
///     Ok(()) => unreachable!(),
///     Err(error) if error.kind() == ErrorKind::QueueFull => (), // try again later
///     Err(error) => return Err(error),
/// }
/// assert_eq!(jobs.get_nowait()?, 1);
/// assert_eq!(jobs.get_nowait().unwrap_err().kind(), ErrorKind::QueueEmpty);
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A cancellation was requested: `CancelledError`.
    Cancelled,
    /// A deadline passed: `TimeoutError`.
    Timeout,
    /// A future is not in the state that the call needs: `InvalidStateError`.
    InvalidState,
    /// `QueueEmpty`.
    QueueEmpty,
    /// `QueueFull`.
    QueueFull,
    /// `QueueShutDown`.
    QueueShutDown,
    /// `BrokenBarrierError`.
    BrokenBarrier,
    /// The stream ended before enough bytes came: `IncompleteReadError`.
    IncompleteRead,
    /// No separator within the reader's limit: `LimitOverrunError`.
    LimitOverrun,
    /// Misuse of the library: `RuntimeError`.
    Runtime,
    /// An argument that makes no sense: `ValueError`.
    Value,
    /// An error of the operating system: `OSError`.
    Io,
    /// The program was interrupted by Ctrl-C: `KeyboardInterrupt`.
    Interrupted,
    /// The program can never go on: everything waits, and nothing is left that could end a wait. Only a loop with a virtual clock
    /// can tell. The text has the tree of what waits on what.
    Deadlock,
    /// User code panicked.
    Panicked,
    /// Several errors at once: `ExceptionGroup`.
    Group,
    /// Any other error, made by `?` or [`Error::new`].
    Other,
}

impl Error {
    /// An error of the caller's own type.
    pub fn new(error: impl StdError + Send + Sync + 'static) -> Self {
        Error::from(error)
    }

    /// An error from a plain text, of kind [`Other`](ErrorKind::Other).
    pub fn msg(text: impl Into<String>) -> Self {
        Self::boxed(ErrorKind::Other, Detail::Text(text.into()))
    }

    /// An error from a boxed one, as other libraries hand them out.
    pub fn from_boxed(error: Box<dyn StdError + Send + Sync>) -> Self {
        match error.downcast::<io::Error>() {
            Ok(error) => Self::from_io(*error),
            Err(error) => match error.downcast::<AsStd>() {
                Ok(error) => error.0,
                Err(error) => Self::boxed(ErrorKind::Other, Detail::Std(error)),
            },
        }
    }

    /// An error that was made an `io::Error` of for an interface that has no other comes back as what it was.
    fn from_io(error: io::Error) -> Self {
        match error.downcast::<AsStd>() {
            Ok(error) => error.0,
            Err(error) => Self::boxed(ErrorKind::Io, Detail::Io(error)),
        }
    }

    /// A cancellation, as an await returns it. Returning one from a coroutine ends its task as cancelled.
    pub fn cancelled(message: Option<&str>) -> Self {
        Self::cancelled_with(self::message(message))
    }

    pub(crate) fn cancelled_with(message: Message) -> Self {
        Self::from_repr(Repr::Cancelled(message))
    }

    /// A deadline that passed.
    pub fn timeout() -> Self {
        Self::from_repr(Repr::Timeout(&"the deadline has passed"))
    }

    /// Misuse of the library, in words of the caller's.
    pub fn runtime(text: impl Into<String>) -> Self {
        Self::boxed(ErrorKind::Runtime, Detail::Text(text.into()))
    }

    /// An argument that makes no sense, in words of the caller's.
    pub fn value(text: impl Into<String>) -> Self {
        Self::boxed(ErrorKind::Value, Detail::Text(text.into()))
    }

    /// An error that allocates nothing, if its kind is one of the loop's own.
    pub(crate) fn fixed(kind: ErrorKind, text: Text) -> Self {
        Self::from_repr(match kind {
            ErrorKind::Timeout => Repr::Timeout(text),
            ErrorKind::InvalidState => Repr::InvalidState(text),
            ErrorKind::QueueEmpty => Repr::QueueEmpty(text),
            ErrorKind::QueueFull => Repr::QueueFull(text),
            ErrorKind::QueueShutDown => Repr::QueueShutDown(text),
            ErrorKind::BrokenBarrier => Repr::BrokenBarrier(text),
            ErrorKind::Runtime => Repr::Runtime(text),
            ErrorKind::Value => Repr::Value(text),
            ErrorKind::Interrupted => Repr::Interrupted(text),
            kind => return Self::boxed(kind, Detail::Text((*text).to_owned())),
        })
    }

    /// Several errors at once, as a task group raises them.
    pub fn group(message: impl Into<String>, errors: Vec<Error>) -> Self {
        Self::boxed(ErrorKind::Group, Detail::Group(message.into(), errors))
    }

    /// A stream that ended early: what came of it, and how many bytes were asked for, if a number was.
    pub fn incomplete_read(partial: Bytes, expected: Option<usize>) -> Self {
        Self::boxed(ErrorKind::IncompleteRead, Detail::IncompleteRead { partial, expected })
    }

    /// A separator that was not found within a reader's limit; `consumed` bytes of its buffer can be read off to go on.
    pub fn limit_overrun(message: &'static str, consumed: usize) -> Self {
        Self::boxed(ErrorKind::LimitOverrun, Detail::LimitOverrun { message, consumed })
    }

    /// The program was interrupted by Ctrl-C.
    pub fn interrupted() -> Self {
        Self::from_repr(Repr::Interrupted(&"interrupted (SIGINT)"))
    }

    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        let text = payload
            .downcast_ref::<&'static str>()
            .map(|text| text.to_string())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        Self::boxed(ErrorKind::Panicked, Detail::Panic(text, Mutex::new(Some(payload))))
    }

    pub(crate) fn deadlock(tree: String) -> Self {
        Self::boxed(ErrorKind::Deadlock, Detail::Text(tree))
    }

    #[inline(always)]
    fn from_repr(repr: Repr) -> Self {
        Error(Light::new(repr))
    }

    fn into_repr(self) -> Repr {
        self.0.into_inner()
    }

    fn boxed(kind: ErrorKind, detail: Detail) -> Self {
        Self::from_repr(Repr::Boxed(Arc::new(Inner { kind, detail })))
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Repr::Cancelled(_) => ErrorKind::Cancelled,
            Repr::Timeout(_) => ErrorKind::Timeout,
            Repr::InvalidState(_) => ErrorKind::InvalidState,
            Repr::QueueEmpty(_) => ErrorKind::QueueEmpty,
            Repr::QueueFull(_) => ErrorKind::QueueFull,
            Repr::QueueShutDown(_) => ErrorKind::QueueShutDown,
            Repr::BrokenBarrier(_) => ErrorKind::BrokenBarrier,
            Repr::Runtime(_) => ErrorKind::Runtime,
            Repr::Value(_) => ErrorKind::Value,
            Repr::Interrupted(_) => ErrorKind::Interrupted,
            Repr::Boxed(inner) => inner.kind,
        }
    }

    /// Whether this is a cancellation.
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.0, Repr::Cancelled(_))
    }

    /// Whether a deadline passed.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// The message that a cancellation was requested with, if any.
    pub fn cancel_message(&self) -> Option<&str> {
        match &*self.0 {
            Repr::Cancelled(message) => message.as_deref().map(|text| &**text),
            _ => None,
        }
    }

    /// The errors of a [`Group`](ErrorKind::Group), in the order in which they happened; empty for every other kind. Python's
    /// `ExceptionGroup.exceptions`.
    pub fn errors(&self) -> &[Error] {
        match self.detail() {
            Some(Detail::Group(_, errors)) => errors,
            _ => &[],
        }
    }

    /// What came of a stream before its end, for [`IncompleteRead`](ErrorKind::IncompleteRead). asyncio's
    /// `IncompleteReadError.partial`.
    pub fn partial(&self) -> Option<&Bytes> {
        match self.detail() {
            Some(Detail::IncompleteRead { partial, .. }) => Some(partial),
            _ => None,
        }
    }

    /// How many bytes were to come, for [`IncompleteRead`](ErrorKind::IncompleteRead); `None` also if it was a separator that did not
    /// come. asyncio's `IncompleteReadError.expected`.
    pub fn expected(&self) -> Option<usize> {
        match self.detail() {
            Some(Detail::IncompleteRead { expected, .. }) => *expected,
            _ => None,
        }
    }

    /// How many bytes of the buffer can be read off, for [`LimitOverrun`](ErrorKind::LimitOverrun). asyncio's
    /// `LimitOverrunError.consumed`.
    pub fn consumed(&self) -> Option<usize> {
        match self.detail() {
            Some(Detail::LimitOverrun { consumed, .. }) => Some(*consumed),
            _ => None,
        }
    }

    /// The operating system's error, for [`Io`](ErrorKind::Io).
    pub fn as_io(&self) -> Option<&io::Error> {
        match self.detail() {
            Some(Detail::Io(error)) => Some(error),
            _ => None,
        }
    }

    /// The payload of a panic, for `std::panic::resume_unwind`. Only the first call of all clones gets it.
    pub fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        match self.detail() {
            Some(Detail::Panic(_, payload)) => payload.lock().unwrap_or_else(PoisonError::into_inner).take(),
            _ => None,
        }
    }

    /// The error of type `E` that this one was made from.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        match self.detail()? {
            Detail::Std(error) => error.downcast_ref::<E>(),
            Detail::Io(error) => (error as &dyn StdError).downcast_ref::<E>(),
            _ => None,
        }
    }

    /// The same error as a `std::error::Error`.
    pub fn into_std(self) -> impl StdError + Send + Sync + 'static {
        AsStd(self)
    }

    /// Whether both are clones of one error. Python's `is`.
    pub fn same(&self, other: &Error) -> bool {
        match (&*self.0, &*other.0) {
            (Repr::Boxed(a), Repr::Boxed(b)) => Arc::ptr_eq(a, b),
            (Repr::Cancelled(a), Repr::Cancelled(b)) => a == b,
            (Repr::Boxed(_) | Repr::Cancelled(_), _) | (_, Repr::Boxed(_) | Repr::Cancelled(_)) => false,
            _ => self.kind() == other.kind() && self.text() == other.text(),
        }
    }

    /// The text of an error that allocates nothing.
    fn text(&self) -> Option<&'static str> {
        match *self.0 {
            Repr::Timeout(text)
            | Repr::InvalidState(text)
            | Repr::QueueEmpty(text)
            | Repr::QueueFull(text)
            | Repr::QueueShutDown(text)
            | Repr::BrokenBarrier(text)
            | Repr::Runtime(text)
            | Repr::Value(text)
            | Repr::Interrupted(text) => Some(text),
            Repr::Cancelled(_) | Repr::Boxed(_) => None,
        }
    }

    fn detail(&self) -> Option<&Detail> {
        match &*self.0 {
            Repr::Boxed(inner) => Some(&inner.detail),
            _ => None,
        }
    }
}

impl Error {
    /// Writes the text of this error, and not those of a group's.
    fn write_own(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Repr::Cancelled(None) => f.write_str("cancelled"),
            Repr::Cancelled(Some(message)) => write!(f, "cancelled: {message}"),
            Repr::Boxed(inner) => match &inner.detail {
                Detail::Text(text) => f.write_str(text),
                Detail::Io(error) => fmt::Display::fmt(error, f),
                Detail::Std(error) => fmt::Display::fmt(error, f),
                Detail::Panic(Some(text), _) => write!(f, "panicked: {text}"),
                Detail::Panic(None, _) => f.write_str("panicked"),
                Detail::Group(message, errors) => {
                    write!(f, "{message} ({} sub-error{})", errors.len(), if errors.len() == 1 { "" } else { "s" })
                }
                Detail::IncompleteRead { partial, expected: Some(expected) } => {
                    write!(f, "{} bytes read on a total of {expected} expected bytes", partial.len())
                }
                Detail::IncompleteRead { partial, expected: None } => {
                    write!(f, "{} bytes read before the stream ended, without the separator", partial.len())
                }
                Detail::LimitOverrun { message, .. } => f.write_str(message),
            },
            _ => f.write_str(self.text().unwrap_or_default()),
        }
    }
}

/// The text of an error of a group. A width or a precision is the whole text's.
struct Own<'a>(&'a Error);

impl fmt::Display for Own<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_own(f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_own(f)?;
        if self.errors().is_empty() {
            return Ok(());
        }
        // Not by recursion, as in `take_apart`.
        let mut groups = vec![self.errors().iter()];
        while let Some(group) = groups.last_mut() {
            let Some(error) = group.next() else {
                groups.pop();
                continue;
            };
            write!(f, "; {}", Own(error))?;
            groups.push(error.errors().iter());
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail() {
            Some(Detail::Std(error)) => error.fmt(f),
            Some(Detail::Io(error)) => error.fmt(f),
            _ => write!(f, "{:?}({self})", self.kind()),
        }
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let mut error = Some(error);
        if let Some(error) = (&mut error as &mut dyn Any).downcast_mut::<Option<io::Error>>() {
            return Self::from_io(error.take().expect("the error was just put here"));
        }
        if let Some(error) = (&mut error as &mut dyn Any).downcast_mut::<Option<AsStd>>() {
            return error.take().expect("the error was just put here").0;
        }
        Self::boxed(ErrorKind::Other, Detail::Std(Box::new(error.expect("the error was just put here"))))
    }
}

/// For interfaces that return `io::Error`. `?` turns it back into the same [`Error`].
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Io => error.as_io().map_or(io::ErrorKind::Other, io::Error::kind),
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            ErrorKind::IncompleteRead => io::ErrorKind::UnexpectedEof,
            ErrorKind::Value => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, AsStd(error))
    }
}

impl From<Error> for Box<dyn StdError + Send + Sync> {
    fn from(error: Error) -> Self {
        Box::new(AsStd(error))
    }
}

impl From<Error> for Box<dyn StdError> {
    fn from(error: Error) -> Self {
        Box::new(AsStd(error))
    }
}

/// An [`Error`] that implements `std::error::Error`.
struct AsStd(Error);

impl fmt::Display for AsStd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AsStd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for AsStd {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.0.detail()? {
            Detail::Std(error) => error.source(),
            Detail::Io(error) => error.source(),
            _ => None,
        }
    }
}
