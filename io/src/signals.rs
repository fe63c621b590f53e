//! Signals that come to the program: [`LoopSignals`] and [`signals`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use aioli_core::{Context as TaskContext, Loop, Result, get_running_loop};
use futures::Stream;

use crate::catcher::Catcher;
use crate::home::check_home;
use crate::signal::Signal;
use crate::waiters::{Waiters, wake};

thread_local! {
    /// The handlers of the loops of this thread.
    static HANDLERS: RefCell<Vec<Rc<Catcher>>> = const { RefCell::new(Vec::new()) };
}

/// Handlers of signals, as methods of a loop.
///
/// Signals are registered with the `signal-hook` library, so that other users of it in the program get them as well, and a handler that
/// was there before is still called. Loops on several threads may handle the same signal: each is told.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_core::{get_running_loop, sleep};
/// use aioli_io::{LoopSignals, Signal};
/// use std::{cell::Cell, rc::Rc};
///
/// let event_loop = get_running_loop()?;
/// let count = Rc::new(Cell::new(0));
/// let counter = Rc::clone(&count);
/// event_loop.add_signal_handler(Signal::USR1, move || counter.set(counter.get() + 1))?;
/// signal_hook::low_level::raise(Signal::USR1.number())?;
/// while count.get() == 0 {
///     sleep(0.001).await?;
/// }
/// assert!(event_loop.remove_signal_handler(Signal::USR1));
/// assert!(!event_loop.remove_signal_handler(Signal::USR1));
///
/// let error = event_loop.add_signal_handler(Signal::KILL, || ()).unwrap_err();
/// assert_eq!(error.to_string(), "SIGKILL cannot be caught");
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub trait LoopSignals {
    /// Has `callback` called for each signal that comes, in the place of a callback that was set before: asyncio's
    /// `add_signal_handler`. It is called in the context that holds now, in the turn after the one in which the loop learns of the
    /// signal. Several signals at the same time may be one.
    ///
    /// A handler of [`INT`](Signal::INT) takes the place of what `run` does on this loop: Ctrl-C does not cancel the main task then.
    /// The handler goes when the loop closes.
    ///
    /// # Errors
    /// `Runtime` if the signal cannot be caught, or the loop is closed; `Io` from the operating system, or on a backend without signals.
    fn add_signal_handler(&self, signal: Signal, callback: impl FnMut() + 'static) -> Result<()>;

    /// Removes a handler: asyncio's `remove_signal_handler`. Returns whether there was one. When the program has no handler of the
    /// signal any more, it does what it did before the first one was added: by default most end the program. Real-time signals, `SIGIO`,
    /// `SIGPWR` and `SIGSTKFLT` end it then by an exit with 128 and their number.
    fn remove_signal_handler(&self, signal: Signal) -> bool;
}

impl LoopSignals for Loop {
    fn add_signal_handler(&self, signal: Signal, callback: impl FnMut() + 'static) -> Result<()> {
        let (event_loop, context) = (self.clone(), TaskContext::copy_current());
        let callback = Rc::new(RefCell::new(callback));
        let on_signal = move |_| {
            let callback = Rc::clone(&callback);
            // A closed loop calls nothing.
            let _ = context.clone().run(|| event_loop.call_soon(move || (callback.borrow_mut())()));
        };
        let catcher = Catcher::start(self, signal, Box::new(on_signal))?;
        let event_loop = self.clone();
        catcher.on_closed(move || drop(take(&event_loop, signal)));
        let old = take(self, signal);
        HANDLERS.with_borrow_mut(|handlers| handlers.push(catcher));
        stop(old);
        Ok(())
    }

    fn remove_signal_handler(&self, signal: Signal) -> bool {
        stop(take(self, signal))
    }
}

fn take(event_loop: &Loop, signal: Signal) -> Option<Rc<Catcher>> {
    // A thread that ends has no handlers any more.
    HANDLERS
        .try_with(|handlers| {
            let mut handlers = handlers.borrow_mut();
            let is = |known: &Rc<Catcher>| known.signal() == signal && known.event_loop().same(event_loop);
            let place = handlers.iter().position(is)?;
            Some(handlers.swap_remove(place))
        })
        .ok()
        .flatten()
}

fn stop(catcher: Option<Rc<Catcher>>) -> bool {
    let Some(catcher) = catcher else { return false };
    catcher.on_closed(|| ());
    catcher.stop();
    true
}

/// The signals that come from now on, of these kinds, as a stream. They are caught until it is dropped.
///
/// While [`INT`](Signal::INT) is among them, Ctrl-C does not cancel the main task of this loop.
///
/// # Errors
/// As [`LoopSignals::add_signal_handler`]; `Runtime` outside of a running loop.
///
/// ```no_run
/// # async fn example() -> aioli_core::Result<()> {
/// use aioli_io::{Signal, signals};
///
/// let signals = signals([Signal::TERM, Signal::HUP])?;
/// loop {
///     match signals.recv().await? {
///         Signal::HUP => println!("reading the configuration again"),
///         _ => return Ok(()),
///     }
/// }
/// # }
/// ```
pub fn signals(which: impl IntoIterator<Item = Signal>) -> Result<Signals> {
    let event_loop = get_running_loop()?;
    let mut signals = Signals { event_loop, catchers: Vec::new(), arrived: Rc::default() };
    for signal in which {
        let arrived = Rc::clone(&signals.arrived);
        let on_signal = Box::new(move |signal| arrived.push(signal));
        signals.catchers.push(Catcher::start(&signals.event_loop, signal, on_signal)?);
    }
    Ok(signals)
}

/// The stream of [`signals`]. Several tasks may wait on it; each signal goes to one. It is a `futures::Stream` as well. When it is
/// dropped, a signal that nothing else handles has its default effect again, if it had that before. asyncio has handlers only, see
/// [`LoopSignals`].
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::{Signal, create_subprocess_shell, signals};
///
/// let hangups = signals([Signal::HUP])?;
/// create_subprocess_shell("kill -HUP $PPID").await?.wait().await?;
/// assert_eq!(hangups.recv().await?, Signal::HUP);
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub struct Signals {
    event_loop: Loop,
    catchers: Vec<Rc<Catcher>>,
    arrived: Rc<Arrived>,
}

/// Signals that nobody has taken yet.
#[derive(Default)]
struct Arrived {
    queue: RefCell<VecDeque<Signal>>,
    waiters: Waiters,
    poll: Cell<Option<Waker>>,
}

impl Arrived {
    fn push(&self, signal: Signal) {
        self.queue.borrow_mut().push_back(signal);
        self.waiters.wake_all();
        if let Some(waker) = self.poll.take() {
            wake(waker);
        }
    }

    fn pop(&self) -> Option<Signal> {
        self.queue.borrow_mut().pop_front()
    }
}

impl Signals {
    /// Waits for the next signal. One that comes when this is cancelled stays for the next call. The kernel makes one of several signals
    /// of a kind that it could not deliver yet.
    ///
    /// # Errors
    /// Cancelled; `Runtime` outside of a task.
    pub async fn recv(&self) -> Result<Signal> {
        loop {
            if let Some(signal) = self.arrived.pop() {
                return Ok(signal);
            }
            check_home(&self.event_loop)?;
            self.arrived.waiters.wait().await?;
        }
    }
}

impl Stream for Signals {
    type Item = Signal;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Signal>> {
        if let Some(signal) = self.arrived.pop() {
            return Poll::Ready(Some(signal));
        }
        let old = self.arrived.poll.replace(Some(cx.waker().clone()));
        drop(old);
        Poll::Pending
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.catchers.iter().for_each(|catcher| catcher.stop());
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signals")
            .field(&self.catchers.iter().map(|catcher| catcher.signal()).collect::<Vec<_>>())
            .finish()
    }
}
