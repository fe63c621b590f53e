//! The threads of a pool and the queue that they work off.
//!
//! A thread is *idle* from the end of a job until it takes another; *called* when it was woken or made for a job and has not looked
//! into the queue since. At most one is called at a time: it calls the next when it finds more than its own job. So a burst of jobs
//! costs whoever submits it one wake, and not one each, and yet as many threads work as there are jobs and room.
//!
//! That no job is left behind: whoever adds a job then reads the [`word`](Crew::word), and a thread that gives up being called or
//! becomes idle changes the word and then looks into the queue. One of the two sees the other.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_deque::{Injector, Steal};

use crate::error::{Error, ErrorKind, Result};
use crate::unpoisoned::Unpoisoned;

/// Something for a thread to do.
pub(super) trait Job: Send + Sync {
    /// Does it, unless it was withdrawn, and does not unwind. `free` is to be called when the thread can be given other work, before anybody learns of the
    /// result: whoever waits for it then finds this thread idle.
    fn run(&self, free: &mut dyn FnMut());

    /// There is no thread for it.
    fn refuse(&self, error: Error);

    /// Nobody wants it any more: it does nothing if it was not begun.
    fn withdraw(&self);
}

/// How many threads a pool can have, as the word has room for.
pub(super) const MOST_THREADS: usize = (1 << 20) - 1;

/// The word: how many are idle, how many there are, and whether one is called.
const IDLE: u64 = 1;
const THREAD: u64 = 1 << 20;
const CALLED: u64 = 1 << 40;

fn idle(word: u64) -> u64 {
    word % THREAD
}

fn threads(word: u64) -> u64 {
    word % CALLED / THREAD
}

/// What the threads of a pool share.
pub(super) struct Crew {
    name: String,
    limit: usize,
    queue: Injector<Arc<dyn Job>>,
    word: AtomicU64,
    /// Whether jobs are accepted. Held for reading while one is added.
    open: RwLock<bool>,
    berth: Mutex<Berth>,
    /// Something changed in the berth that an idle thread waits for.
    call: Condvar,
    /// The last thread has ended.
    ended: Condvar,
}

/// Where idle threads sleep.
#[derive(Default)]
struct Berth {
    /// Calls that no thread has answered yet. For each, one was taken off the number of idle ones.
    calls: usize,
    closing: bool,
    threads: Vec<JoinHandle<()>>,
}

/// What an idle thread is to do.
enum Orders {
    /// There is work, which it found itself.
    Work,
    /// It was called.
    Answer,
    Leave,
}

impl Crew {
    pub(super) fn new(name: String, limit: usize) -> Self {
        Crew {
            name,
            limit,
            queue: Injector::new(),
            word: AtomicU64::new(0),
            open: RwLock::new(true),
            berth: Mutex::new(Berth::default()),
            call: Condvar::new(),
            ended: Condvar::new(),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How many threads there are now.
    pub(super) fn threads(&self) -> usize {
        usize::try_from(threads(self.word.load(Ordering::SeqCst))).unwrap_or(usize::MAX)
    }

    /// Adds a job.
    pub(super) fn submit(self: &Arc<Self>, job: Arc<dyn Job>) -> Result<()> {
        let open = self.open.read().unpoisoned();
        if !*open {
            return Err(Error::fixed(ErrorKind::Runtime, &"the thread pool was shut down: it takes no more jobs"));
        }
        self.queue.push(job);
        if let Err(error) = self.call_one() {
            let error = Error::from(error);
            while let Some(job) = self.steal() {
                job.refuse(error.clone());
            }
        }
        Ok(())
    }

    /// Has a thread look into the queue: the one that is called already, an idle one, or a new one. If all are busy, the first that
    /// is done will.
    ///
    /// # Errors
    /// If there is no thread at all and none can be made.
    fn call_one(self: &Arc<Self>) -> io::Result<()> {
        let mut failed = None;
        let mut word = self.word.load(Ordering::SeqCst);
        while word < CALLED {
            let wake = idle(word) > 0;
            let make = !wake && failed.is_none() && threads(word) < self.limit as u64;
            if !wake && !make {
                return failed.filter(|_| threads(word) == 0).map_or(Ok(()), Err);
            }
            let next = if wake { word - IDLE + CALLED } else { word + THREAD + CALLED };
            if let Err(seen) = self.word.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                word = seen;
                continue;
            }
            if wake {
                self.berth.lock().unpoisoned().calls += 1;
                self.call.notify_one();
                return Ok(());
            }
            match self.make_thread(threads(word)) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    // Others may have relied on this call: an idle thread is to answer it, if there is one now.
                    failed = Some(error);
                    word = self.word.fetch_sub(THREAD + CALLED, Ordering::SeqCst) - THREAD - CALLED;
                }
            }
        }
        Ok(())
    }

    fn make_thread(self: &Arc<Self>, number: u64) -> io::Result<()> {
        let crew = Arc::clone(self);
        // Locked meanwhile, so that the thread finds itself in the list.
        let mut berth = self.berth.lock().unpoisoned();
        let thread = thread::Builder::new().name(format!("{}_{number}", self.name)).spawn(move || crew.work())?;
        berth.threads.push(thread);
        Ok(())
    }

    /// The oldest job.
    fn steal(&self) -> Option<Arc<dyn Job>> {
        loop {
            match self.queue.steal() {
                Steal::Success(job) => return Some(job),
                Steal::Retry => continue,
                Steal::Empty => return None,
            }
        }
    }

    /// What a thread does, from its first call to its end.
    fn work(self: &Arc<Self>) {
        let mut called = true;
        loop {
            let mut free = false;
            match self.steal() {
                Some(job) => {
                    if std::mem::take(&mut called) {
                        self.word.fetch_sub(CALLED, Ordering::SeqCst);
                        if !self.queue.is_empty() {
                            // This thread lives, so there is one to work off the queue even if no other can be made.
                            let _ = self.call_one();
                        }
                    }
                    job.run(&mut || {
                        free = true;
                        self.word.fetch_add(IDLE, Ordering::SeqCst);
                    });
                }
                None => {
                    free = true;
                    let change = if called { IDLE.wrapping_sub(CALLED) } else { IDLE };
                    self.word.fetch_add(change, Ordering::SeqCst);
                }
            }
            if free {
                match self.idle() {
                    Orders::Work => called = false,
                    Orders::Answer => called = true,
                    Orders::Leave => return,
                }
            }
        }
    }

    /// Waits as an idle thread, which this one was counted as already.
    fn idle(&self) -> Orders {
        if !self.queue.is_empty() && self.stop_idling() {
            return Orders::Work;
        }
        let mut berth = self.berth.lock().unpoisoned();
        loop {
            if berth.calls > 0 {
                berth.calls -= 1;
                return Orders::Answer;
            }
            if berth.closing && self.stop_idling() {
                if !self.queue.is_empty() {
                    return Orders::Work;
                }
                if threads(self.word.fetch_sub(THREAD, Ordering::SeqCst)) == 1 {
                    self.ended.notify_all();
                }
                return Orders::Leave;
            }
            berth = self.call.wait(berth).unpoisoned();
        }
    }

    /// Takes this thread off the number of idle ones. If none is left there, it is being called.
    fn stop_idling(&self) -> bool {
        let one_less = |word| (idle(word) > 0).then(|| word - IDLE);
        self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    }

    /// Accepts no more jobs. The threads end when the queue is empty.
    pub(super) fn shut_down(&self) {
        *self.open.write().unpoisoned() = false;
        self.berth.lock().unpoisoned().closing = true;
        self.call.notify_all();
    }

    /// Shuts down and waits until the threads have ended. Returns whether they have: not if time ran out, nor on one of them.
    pub(super) fn join(&self, deadline: Option<Instant>) -> bool {
        self.shut_down();
        let this = thread::current().id();
        let mut berth = self.berth.lock().unpoisoned();
        if berth.threads.iter().any(|thread| thread.thread().id() == this) {
            return false;
        }
        while self.threads() > 0 {
            match deadline {
                None => berth = self.ended.wait(berth).unpoisoned(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let late;
                    (berth, late) = self.ended.wait_timeout(berth, left).unpoisoned();
                    if late.timed_out() && self.threads() > 0 {
                        return false;
                    }
                }
            }
        }
        let threads = std::mem::take(&mut berth.threads);
        drop(berth);
        for thread in threads {
            // Jobs catch panics.
            let _ = thread.join();
        }
        true
    }
}
