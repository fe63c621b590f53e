//! The loop's hand-over between threads in every order that loom finds: wakers, the inbox, and what goes through it (L10).
//!
//! `RUSTFLAGS="--cfg aioli_loom" cargo test -p aioli-core --test loom --release`
#![cfg(aioli_loom)]

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, Wait};
use aioli_core::op::{Op, Outcome};
use aioli_core::{Error, Instant, RemoteLoop, Result, Runner, create_task, get_running_loop};
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// A driver that waits for nothing but kicks.
#[derive(Debug)]
struct Waiter {
    bell: std::sync::Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    rung: Mutex<bool>,
    waiting: Condvar,
}

impl Kick for Bell {
    fn kick(&self) {
        *self.rung.lock().unwrap() = true;
        self.waiting.notify_one();
    }
}

impl Driver for Waiter {
    fn report(&self) -> DriverReport {
        DriverReport { name: "loom", capabilities: Vec::new() }
    }

    fn now(&self) -> Instant {
        Instant::default()
    }

    fn submit(&mut self, _: OpId, _: Op) -> Submit {
        Submit::Done(Outcome::Done(Err(io::ErrorKind::Unsupported.into())))
    }

    fn cancel(&mut self, _: OpId) {}

    fn turn(&mut self, wait: Wait, _: &mut Completions) -> io::Result<()> {
        if let Wait::Forever = wait {
            let mut rung = self.bell.rung.lock().unwrap();
            while !std::mem::take(&mut *rung) {
                rung = self.bell.waiting.wait(rung).unwrap();
            }
        }
        Ok(())
    }

    fn kicker(&self) -> std::sync::Arc<dyn Kick> {
        self.bell.clone()
    }

    fn shutdown(&mut self, _: &mut Completions) {}
}

/// Tries `program` in every order with at most `preemptions` switches that no thread asked for.
fn model(preemptions: usize, program: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let tried = count.clone();
    builder.check(move || {
        tried.fetch_add(1, Ordering::Relaxed);
        program();
    });
    println!("{} executions", count.load(Ordering::Relaxed));
}

fn runner() -> Runner {
    Runner::new(Waiter { bell: std::sync::Arc::new(Bell { rung: Mutex::new(false), waiting: Condvar::new() }) })
}

fn run<T: 'static>(main: impl Future<Output = Result<T>> + 'static) -> T {
    let runner = runner();
    let result = runner.run(main).unwrap();
    runner.close().unwrap();
    result
}

/// Runs `there` on another thread while `here` runs on this one, and joins both: it may borrow.
fn beside(there: impl FnOnce() + Send, here: impl FnOnce()) {
    let there: Box<dyn FnOnce() + Send> = Box::new(there);
    // SAFETY: the thread is joined before this returns; where `here` panics, loom ends the whole execution.
    let there: Box<dyn FnOnce() + Send + 'static> = unsafe { std::mem::transmute(there) };
    let thread = thread::spawn(there);
    here();
    thread.join().unwrap();
}

/// A flag that says nothing about the order of anything else.
#[derive(Clone)]
struct Flag(Arc<AtomicBool>);

impl Flag {
    fn new() -> Self {
        Flag(Arc::new(AtomicBool::new(false)))
    }

    fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Suspends until the flags are up; hands its waker to `begin` on the first poll.
async fn until(flags: Vec<Flag>, begin: impl FnOnce(&Waker)) -> Result<()> {
    let mut begin = Some(begin);
    poll_fn(move |cx| {
        if let Some(begin) = begin.take() {
            begin(cx.waker());
        }
        if flags.iter().all(Flag::is_up) { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

#[test]
fn a_wake_from_another_thread_is_seen() {
    model(3, || {
        run(async {
            let flag = Flag::new();
            until(vec![flag.clone()], |waker| {
                let waker = waker.clone();
                thread::spawn(move || {
                    flag.raise();
                    waker.wake();
                });
            })
            .await
        });
    });
}

#[test]
fn two_wakes_of_one_thread_are_seen() {
    model(2, || {
        run(async {
            let (one, two) = (Flag::new(), Flag::new());
            until(vec![one.clone(), two.clone()], |waker| {
                let waker = waker.clone();
                thread::spawn(move || {
                    one.raise();
                    waker.wake_by_ref();
                    two.raise();
                    waker.wake();
                });
            })
            .await
        });
    });
}

#[test]
fn wakes_of_two_threads_are_seen() {
    model(2, || {
        run(async {
            let (one, two) = (Flag::new(), Flag::new());
            until(vec![one.clone(), two.clone()], |waker| {
                for flag in [one, two] {
                    let waker = waker.clone();
                    thread::spawn(move || {
                        flag.raise();
                        waker.wake();
                    });
                }
            })
            .await
        });
    });
}

#[test]
fn the_first_clones_are_made_on_two_threads_at_once() {
    model(3, || {
        run(async {
            let flag = Flag::new();
            until(vec![flag.clone()], |waker| {
                let mut here = None;
                beside(
                    || {
                        let waker = waker.clone();
                        thread::spawn(move || {
                            flag.raise();
                            waker.wake();
                        });
                    },
                    || here = Some(waker.clone()),
                );
                assert!(here.unwrap().will_wake(&waker.clone()));
            })
            .await
        });
    });
}

#[test]
fn a_borrowed_waker_is_woken_on_another_thread_during_the_poll() {
    model(3, || {
        run(async {
            let flag = Flag::new();
            until(vec![flag.clone()], |waker| {
                beside(
                    || {
                        flag.raise();
                        waker.wake_by_ref();
                    },
                    || drop(waker.clone()),
                );
            })
            .await
        });
    });
}

#[test]
fn a_waker_is_woken_while_its_task_ends() {
    model(3, || {
        run(async {
            let task = create_task(until(Vec::new(), |waker| {
                let waker = waker.clone();
                thread::spawn(move || {
                    waker.wake_by_ref();
                    let again = waker.clone();
                    drop(waker);
                    again.wake();
                });
            }));
            task.await
        });
    });
}

#[test]
fn clones_are_dropped_where_they_were_not_made_while_their_task_goes() {
    model(3, || {
        let made_there = Arc::new(Mutex::new(None));
        let theirs = made_there.clone();
        run(async move {
            let task = create_task(until(Vec::new(), |waker| {
                let waker = waker.clone();
                thread::spawn(move || {
                    *theirs.lock().unwrap() = Some(waker.clone());
                    drop(waker);
                });
            }));
            task.await?;
            // The task's memory has gone: its counts are added up.
            drop(made_there.lock().unwrap().take());
            Ok(())
        });
    });
}

#[test]
fn clones_of_both_places_end_in_the_other_before_their_task_goes() {
    model(2, || {
        run(async {
            let there = Flag::new();
            let raised = there.clone();
            let mut rounds = 0;
            poll_fn(move |cx| {
                rounds += 1;
                if rounds == 1 {
                    let (one, two) = (cx.waker().clone(), cx.waker().clone());
                    let raised = raised.clone();
                    let third = thread::spawn(move || {
                        let third = two.clone();
                        drop(two);
                        raised.raise();
                        one.wake();
                        third
                    });
                    drop(third.join().unwrap());
                }
                if there.is_up() { Poll::Ready(Ok(())) } else { Poll::Pending }
            })
            .await
        });
    });
}

#[test]
fn a_waker_is_woken_while_the_loop_closes() {
    model(3, || {
        let waker = Rc::new(RefCell::new(None));
        let kept = waker.clone();
        let runner = runner();
        let task = runner.get_loop().create_task(until(vec![Flag::new()], move |waker| {
            *kept.borrow_mut() = Some(waker.clone());
        }));
        runner.run(aioli_core::sleep(0.0)).unwrap();
        let waker: Waker = waker.take().unwrap();
        let other = thread::spawn(move || {
            let again = waker.clone();
            waker.wake();
            again.wake();
        });
        runner.close().unwrap();
        drop(task);
        other.join().unwrap();
    });
}

#[test]
fn a_waker_outlives_its_loop() {
    model(2, || {
        let waker = run(poll_fn(|cx| Poll::Ready(Ok(cx.waker().clone()))));
        let other = waker.clone();
        let thread = thread::spawn(move || other.wake());
        waker.wake();
        thread.join().unwrap();
    });
}

#[test]
fn a_wake_at_home_meets_one_from_another_thread() {
    model(3, || {
        run(async {
            let (here, there) = (Flag::new(), Flag::new());
            let (flag, remote) = (here.clone(), there.clone());
            until(vec![here, there], |waker| {
                let (other, waker) = (waker.clone(), waker.clone());
                thread::spawn(move || {
                    remote.raise();
                    other.wake();
                });
                create_task(async move {
                    flag.raise();
                    waker.wake();
                    Ok(())
                });
            })
            .await
        });
    });
}

#[test]
fn a_clone_of_another_thread_is_consumed_at_home() {
    model(3, || {
        run(async {
            let (here, there) = (Flag::new(), Flag::new());
            let (flag, remote) = (here.clone(), there.clone());
            until(vec![here, there], |waker| {
                let made = thread::spawn({
                    let waker = waker.clone();
                    move || (waker.clone(), waker)
                });
                let (clone, other) = made.join().unwrap();
                thread::spawn(move || {
                    remote.raise();
                    other.wake();
                });
                create_task(async move {
                    flag.raise();
                    clone.wake();
                    Ok(())
                });
            })
            .await
        });
    });
}

#[test]
fn a_call_from_another_thread_is_made_once_or_refused() {
    model(3, || {
        let made = Arc::new(AtomicUsize::new(0));
        let dropped = Arc::new(AtomicUsize::new(0));
        let runner = runner();
        let remote = runner.get_loop().remote();
        let (count, guard) = (made.clone(), Count(dropped.clone()));
        let other = thread::spawn(move || {
            let call = remote.call_soon_threadsafe(move || {
                let _guard = guard;
                count.fetch_add(1, Ordering::Relaxed);
            });
            call.is_ok()
        });
        runner.run(aioli_core::sleep(0.0)).unwrap();
        runner.close().unwrap();
        let accepted = other.join().unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 1, "the function is dropped, called or not");
        assert!(accepted || made.load(Ordering::Relaxed) == 0, "a refused function is not called");
    });
}

/// Counts its drops.
struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn calls_of_one_thread_keep_their_order() {
    model(2, || {
        run(async {
            let remote = get_running_loop()?.remote();
            let seen = Arc::new(Mutex::new(Vec::new()));
            let (log, done) = (seen.clone(), get_running_loop()?.create_future::<()>());
            thread::spawn(move || {
                for n in 0..2 {
                    let log = log.clone();
                    remote.call_soon_threadsafe(move || log.lock().unwrap().push(n)).unwrap();
                }
            });
            let log = seen.clone();
            poll_until(move || log.lock().unwrap().len() == 2).await?;
            done.set_result(())?;
            assert_eq!(*seen.lock().unwrap(), [0, 1]);
            done.await
        });
    });
}

/// Yields to the loop until `done`, which something that comes from another thread brings about.
async fn poll_until(done: impl Fn() -> bool) -> Result<()> {
    while !done() {
        thread::yield_now();
        aioli_core::sleep(0.0).await?;
    }
    Ok(())
}

#[test]
fn a_call_is_made_or_cancelled_not_both() {
    model(3, || {
        let made = Flag::new();
        let runner = runner();
        let call = runner.get_loop().remote();
        let flag = made.clone();
        let handle = call.call_soon_threadsafe(move || flag.raise()).unwrap();
        let other = thread::spawn(move || {
            handle.cancel();
            handle.cancelled()
        });
        runner.run(aioli_core::sleep(0.0)).unwrap();
        let cancelled = other.join().unwrap();
        runner.close().unwrap();
        assert_ne!(made.is_up(), cancelled);
    });
}

#[test]
fn a_task_waits_for_a_call_from_another_thread() {
    model(3, || {
        run(async {
            let current = get_running_loop()?;
            let answer = current.create_future::<u32>();
            let here = Rc::new(RefCell::new(Some(answer.clone())));
            HERE.with(|known| *known.borrow_mut() = here.borrow_mut().take());
            let remote: RemoteLoop = current.remote();
            thread::spawn(move || {
                let set = || HERE.with(|known| known.borrow_mut().take().unwrap().set_result(7).unwrap());
                remote.call_soon_threadsafe(set).unwrap();
            });
            assert_eq!(answer.await?, 7);
            Ok(())
        });
    });
}

loom::thread_local! {
    static HERE: RefCell<Option<aioli_core::Future<u32>>> = RefCell::new(None);
}

#[test]
fn an_interrupt_reaches_the_main_task() {
    model(3, || {
        let runner = runner();
        let remote = runner.get_loop().remote();
        thread::spawn(move || remote.interrupt());
        let main = until(vec![Flag::new()], |_| ());
        let error: Error = runner.run(main).unwrap_err();
        assert_eq!(error.kind(), aioli_core::ErrorKind::Interrupted);
        runner.close().unwrap();
    });
}
