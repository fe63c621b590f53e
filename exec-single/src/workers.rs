//! [`Workers`]: threads for what epoll cannot wait for: disks.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use aioli_core::driver::{Kick, OpId};
use aioli_exec_linux::Wake;
use aioli_exec_linux::file::{FileDone, FileWork};

/// How many threads there are at most: as many calls wait at the same time.
const MOST: usize = 4;
/// So many more, where some wait for an open: that of a FIFO without another end, or on a machine that is gone, may take for ever.
const MOST_OPENING: usize = 28;
/// How long the end of the driver waits for those.
const LINGER: Duration = Duration::from_secs(1);
/// A thread without work ends after this time.
const PATIENCE: Duration = Duration::from_secs(5);

struct Job {
    id: OpId,
    file: Option<Arc<File>>,
    work: FileWork,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    done: Vec<(OpId, FileDone)>,
    threads: usize,
    idle: usize,
    /// How many jobs run.
    running: usize,
    /// How many, of those that wait, too, open a file.
    opening: usize,
    /// The driver is gone.
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// What is done and was not taken: looked at without the lock.
    done: AtomicUsize,
    /// A job is done: for a shutdown that waits.
    ended: Condvar,
    wake: Arc<Wake>,
}

/// The threads of a driver. They start with the first job, and leave the driver's thread alone but for a kick.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    /// Jobs that were given and not taken back.
    count: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            let Some(Job { id, file, work }) = state.waiting.pop_front() else {
                if state.closed {
                    return;
                }
                state.idle += 1;
                let (woken, result) = self.work.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
                state = woken;
                state.idle -= 1;
                if result.timed_out() && state.waiting.is_empty() {
                    state.threads -= 1;
                    return;
                }
                continue;
            };
            let opens = usize::from(opens(&work));
            state.running += 1;
            drop(state);
            let done = work.run(file.as_deref());
            drop(file);
            state = self.lock();
            state.running -= 1;
            state.opening -= opens;
            state.done.push((id, done));
            self.done.fetch_add(1, Ordering::Release);
            self.ended.notify_all();
            self.wake.kick();
        }
    }
}

fn opens(work: &FileWork) -> bool {
    matches!(work, FileWork::Open(..))
}

impl Workers {
    pub(crate) fn new(wake: Arc<Wake>) -> Self {
        let state = Mutex::new(State::default());
        let (work, ended, done) = (Condvar::new(), Condvar::new(), AtomicUsize::new(0));
        Workers { shared: Arc::new(Shared { state, work, done, ended, wake }), count: 0 }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.count == 0
    }

    /// Gives a job. The file stays open until it is done.
    ///
    /// # Errors
    /// If there is no thread and none can be started; the job comes back.
    pub(crate) fn give(
        &mut self,
        id: OpId,
        file: Option<Arc<File>>,
        work: FileWork,
    ) -> Result<(), (FileWork, io::Error)> {
        let mut state = self.shared.lock();
        state.opening += usize::from(opens(&work));
        let most = MOST + state.opening.min(MOST_OPENING);
        if state.idle <= state.waiting.len() && state.threads < most {
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new().name("aioli-file".to_owned()).spawn(move || shared.run());
            match started {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.opening -= usize::from(opens(&work));
                    return Err((work, error));
                }
                Err(_) => (),
            }
        }
        state.waiting.push_back(Job { id, file, work });
        self.count += 1;
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Takes a job back that was not begun.
    pub(crate) fn withdraw(&mut self, id: OpId) -> Option<FileWork> {
        let mut state = self.shared.lock();
        let n = state.waiting.iter().position(|job| job.id == id)?;
        let job = state.waiting.remove(n)?;
        state.opening -= usize::from(opens(&job.work));
        self.count -= 1;
        Some(job.work)
    }

    /// What was done since this was last asked.
    pub(crate) fn take(&mut self) -> Vec<(OpId, FileDone)> {
        if self.shared.done.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let done = std::mem::take(&mut self.shared.lock().done);
        self.shared.done.fetch_sub(done.len(), Ordering::Relaxed);
        self.count -= done.len();
        done
    }

    /// Waits for what is being done, but not long for files that are being opened: their threads close them, when they are. What was
    /// not begun is to be withdrawn before.
    pub(crate) fn finish(&mut self) {
        let begin = Instant::now();
        let mut state = self.shared.lock();
        while state.running > state.opening || state.running > 0 && begin.elapsed() < LINGER {
            state = self.shared.ended.wait_timeout(state, LINGER).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}
