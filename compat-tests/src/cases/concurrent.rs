//! Coroutines that other threads run on the loop.

use std::cell::RefCell;
use std::future::Future as StdFuture;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use crate::case::cases;
use crate::cases::support::{event_loop, foreign, pump, turn};
use crate::machine::Machine;
use aioli_core::*;

cases! {
    ($) "threads" in concurrent as __cases_concurrent;
    a_coroutine_from_a_thread_takes_the_turns_that_it_takes_in_cpython: "TH4 L10"
        = "test_tasks::RunCoroutineThreadsafeTests::test_run_coroutine_threadsafe";
    cancelling_it_cancels_the_task_as_in_cpython: "TH4"
        = "test_tasks::RunCoroutineThreadsafeTests::test_run_coroutine_threadsafe_task_cancelled";
    a_thread_waits_for_a_coroutine: "TH4 L10"
        = "test_tasks::RunCoroutineThreadsafeTests::test_run_coroutine_threadsafe",
          "test_tasks::RunCoroutineThreadsafeTests::test_run_coroutine_threadsafe_with_exception";
    a_timeout_leaves_the_coroutine_alone: "TH4";
    blocking_the_loops_own_thread_is_refused: "TH4";
    other_runtimes_and_the_loop_itself_await_the_future: "TH4 L10";
    the_last_waker_that_polled_it_is_woken: "L10";
    what_another_thread_sent_comes_before_what_the_loop_sends_itself_later: "L10 LP7"
        = "test_events::EventLoopTestsMixin::test_call_soon_threadsafe_same_thread",
          "test_events::EventLoopTestsMixin::test_call_soon_threadsafe";
    a_panic_in_making_the_coroutine_is_its_error_and_is_reported: "TH4 L7"
        = "test_tasks::RunCoroutineThreadsafeTests::test_run_coroutine_threadsafe_task_factory_exception";
    the_error_of_a_coroutine_that_nobody_asks_for_is_reported: "L8 X1";
    a_closed_loop_leaves_nobody_waiting: "L9 L10 LP13";
    ten_thousand_coroutines_reach_a_loop_that_works: "L10 LP17";
    ten_thousand_coroutines_reach_a_loop_that_idles: "L10 LP17";
    ten_thousand_calls_arrive_in_the_order_of_each_thread: "L10 LP7 LP17";
    cancelling_races_with_ending_and_each_ends_once: "L10";
    nobody_hangs_when_the_loop_closes_under_fire: "L9 L10";
    one_that_is_cancelled_and_dropped_before_it_begins_is_cancelled: "TH4 L10";
}

const SHORT: Duration = Duration::from_millis(20);

/// What the loop's exception handler was told.
fn listen() -> Rc<RefCell<Vec<String>>> {
    let reports = Rc::<RefCell<Vec<String>>>::default();
    let log = Rc::clone(&reports);
    event_loop().set_exception_handler(Some(Box::new(move |report| log.borrow_mut().push(report.to_string()))));
    reports
}

/// A coroutine that notes the turns in which it starts and ends, counted from `start`.
async fn noting(log: Rc<RefCell<Vec<(&'static str, u64)>>>, start: u64) -> Result<u32> {
    log.borrow_mut().push(("start", turn() - start));
    let slept = sleep(0.0).await;
    log.borrow_mut().push((if slept.is_ok() { "end" } else { "cancelled" }, turn() - start));
    slept.map(|()| 3)
}

thread_local! {
    static LOG: Rc<RefCell<Vec<(&'static str, u64)>>> = Rc::default();
}

fn a_coroutine_from_a_thread_takes_the_turns_that_it_takes_in_cpython(on: &Machine) {
    on.run(async {
        let log = LOG.with(Rc::clone);
        let start = turn();
        let future = event_loop().remote().run_coroutine_threadsafe(move || noting(LOG.with(Rc::clone), start));
        while !future.done() {
            sleep(0.0).await?;
        }
        assert_eq!(future.result()?, 3);
        assert_eq!(log.take(), [("start", 2), ("end", 3)]);
        assert_eq!(turn() - start, 4);
        Ok(())
    });
}

fn one_that_is_cancelled_and_dropped_before_it_begins_is_cancelled(on: &Machine) {
    on.run(async {
        for dropped in [false, true] {
            let future = event_loop().remote().run_coroutine_threadsafe(async || foreign().await);
            assert!(future.cancel());
            let kept = (!dropped).then_some(future);
            pump(6).await?;
            assert_eq!(all_tasks().len(), 1);
            drop(kept);
        }
        Ok(())
    });
}

fn cancelling_it_cancels_the_task_as_in_cpython(on: &Machine) {
    on.run(async {
        let log = LOG.with(Rc::clone);
        for (wait, cancelled) in [(0, true), (1, true), (2, false), (3, false), (4, false)] {
            let start = turn();
            let future = event_loop().remote().run_coroutine_threadsafe(move || noting(LOG.with(Rc::clone), start));
            pump(wait).await?;
            // At 2 and 3 the coroutine has ended, or will before the request arrives: it does not hear of it.
            assert_eq!((future.cancel(), future.cancelled()), (wait < 4, wait < 4));
            pump(6).await?;
            assert_eq!(log.take(), [("start", 2), (if cancelled { "cancelled" } else { "end" }, 3)]);
            assert_eq!(future.cancel(), wait < 4);
        }
        assert_eq!(all_tasks().len(), 1);
        Ok(())
    });
}

fn a_thread_waits_for_a_coroutine(on: &Machine) {
    on.run(async {
        let remote = event_loop().remote();
        let waiting = to_thread(move || {
            let local = |value: u32| {
                move || {
                    let unsendable = Rc::new(value);
                    async move {
                        sleep(0.0).await?;
                        Ok(*unsendable)
                    }
                }
            };
            let first = remote.run_coroutine_threadsafe(local(1));
            let sendable = async { Ok(2) };
            let second = remote.run_coroutine_threadsafe(move || sendable);
            assert_eq!((second.result()?, first.result()?), (2, 1));
            assert_eq!(first.result().unwrap_err().kind(), ErrorKind::InvalidState);
            let failed = remote.run_coroutine_threadsafe(async || Err::<(), _>(Error::msg("no")));
            assert_eq!(failed.result().unwrap_err().to_string(), "no");
            assert_eq!(failed.result().unwrap_err().to_string(), "no");
            let gone = remote.run_coroutine_threadsafe(async || Err::<(), _>(Error::cancelled(Some("by itself"))));
            assert_eq!(gone.result().unwrap_err().cancel_message(), Some("by itself"));
            assert!(gone.done() && gone.cancelled());
            Ok(())
        });
        waiting.await
    });
}

fn a_timeout_leaves_the_coroutine_alone(on: &Machine) {
    on.run(async {
        let gate = event_loop().create_future::<()>();
        thread_local!(static GATE: RefCell<Option<aioli_core::Future<()>>> = const { RefCell::new(None) });
        GATE.set(Some(gate.clone()));
        let remote = event_loop().remote();
        let (late, is_late) = mpsc::channel();
        let thread = thread::spawn(move || {
            let future = remote.run_coroutine_threadsafe(|| {
                let gate = GATE.take().unwrap();
                async move { gate.await.map(|()| "through") }
            });
            late.send(future.result_timeout(SHORT).unwrap_err().kind()).unwrap();
            future.result_timeout(Duration::MAX).unwrap()
        });
        while is_late.try_recv() != Ok(ErrorKind::Timeout) {
            sleep(0.0).await?;
        }
        gate.set_result(())?;
        assert_eq!(to_thread(move || Ok(thread.join().unwrap())).await?, "through");
        Ok(())
    });
}

fn blocking_the_loops_own_thread_is_refused(on: &Machine) {
    on.run(async {
        let future = event_loop().remote().run_coroutine_threadsafe(async || Ok(1));
        assert_eq!(future.result().unwrap_err().kind(), ErrorKind::Runtime);
        assert_eq!(future.result_timeout(SHORT).unwrap_err().kind(), ErrorKind::Runtime);
        pump(4).await?;
        assert_eq!(future.result()?, 1);
        Ok(())
    });
}

fn other_runtimes_and_the_loop_itself_await_the_future(on: &Machine) {
    on.run(async {
        let remote = event_loop().remote();
        let inner = remote.clone();
        let other = to_thread(move || {
            futures::executor::block_on(async {
                let both =
                    (inner.run_coroutine_threadsafe(async || Ok(1)), inner.run_coroutine_threadsafe(async || Ok(2)));
                let (one, two) = futures::join!(both.0, both.1);
                Ok(one? + two?)
            })
        });
        assert_eq!(other.await?, 3);
        assert_eq!(remote.run_coroutine_threadsafe(async || Ok(4)).await?, 4);
        // Cancelling whoever awaits it leaves the coroutine alone.
        let future = remote.run_coroutine_threadsafe(async || foreign().await);
        let waiter = create_task(async move {
            let mut future = future;
            let cut = (&mut future).cancellable().await.unwrap_err();
            Ok((cut, future))
        });
        pump(3).await?;
        waiter.cancel(None);
        let (cut, future) = waiter.await?;
        assert!(cut.is_cancelled() && !future.done());
        assert!(future.cancel());
        Ok(())
    });
}

fn the_last_waker_that_polled_it_is_woken(on: &Machine) {
    on.run(async {
        let mut future = event_loop().remote().run_coroutine_threadsafe(async || Ok(1));
        let wakers = [observed(), observed()];
        for (_, waker) in &wakers {
            assert!(Pin::new(&mut future).poll(&mut Context::from_waker(waker)).is_pending());
        }
        pump(3).await?;
        assert!(future.done());
        assert_eq!(wakers.map(|(woken, _)| woken.0.load(Ordering::SeqCst)), [false, true]);
        Ok(())
    });
}

/// Remembers that it was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn observed() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    (Arc::clone(&woken), Waker::from(woken))
}

fn what_another_thread_sent_comes_before_what_the_loop_sends_itself_later(on: &Machine) {
    on.run(async {
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |name: &'static str| {
            let order = Arc::clone(&order);
            move || order.lock().unwrap().push(name)
        };
        let (remote, first, second) = (event_loop().remote(), note("thread"), note("home"));
        let inner = remote.clone();
        event_loop().call_soon(note("before"))?;
        thread::spawn(move || inner.call_soon_threadsafe(first).map(drop)).join().unwrap()?;
        remote.call_soon_threadsafe(second)?;
        event_loop().call_soon(note("after"))?;
        pump(1).await?;
        assert_eq!(*order.lock().unwrap(), ["before", "thread", "home", "after"]);
        Ok(())
    });
}

fn a_panic_in_making_the_coroutine_is_its_error_and_is_reported(on: &Machine) {
    on.run(async {
        let reports = listen();
        let make = || -> std::future::Ready<Result<()>> { panic!("not made") };
        let future = event_loop().remote().run_coroutine_threadsafe(make);
        let error = future.await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Panicked, "panicked: not made".into()));
        assert_eq!(reports.borrow().len(), 1);
        assert!(reports.borrow()[0].starts_with("exception in callback: panicked: not made (scheduled at "));
        Ok(())
    });
}

fn the_error_of_a_coroutine_that_nobody_asks_for_is_reported(on: &Machine) {
    on.run(async {
        let reports = listen();
        let fails = || async { Err::<(), _>(Error::msg("lost")) };
        drop(event_loop().remote().run_coroutine_threadsafe(fails));
        pump(4).await?;
        assert!(reports.take()[0].starts_with("task exception was never retrieved: lost"));
        let unheard = event_loop().remote().run_coroutine_threadsafe(fails);
        pump(4).await?;
        assert!(unheard.done());
        drop(unheard);
        pump(1).await?;
        assert_eq!(reports.take(), ["exception of a coroutine from another thread was never retrieved: lost"]);
        let heard = event_loop().remote().run_coroutine_threadsafe(fails);
        pump(4).await?;
        assert!(heard.result().is_err());
        drop(heard);
        pump(1).await?;
        assert!(reports.borrow().is_empty());
        Ok(())
    });
}

fn a_closed_loop_leaves_nobody_waiting(on: &Machine) {
    let runner = on.runner();
    let remote = runner.get_loop().remote();
    // One that the loop never gets to see, and one whose task does not end before the loop does.
    let unseen = remote.run_coroutine_threadsafe(async || Ok(1));
    runner.close().unwrap();
    assert_eq!(unseen.result().unwrap_err().kind(), ErrorKind::Runtime);
    assert_eq!(remote.run_coroutine_threadsafe(async || Ok(1)).result().unwrap_err().kind(), ErrorKind::Runtime);

    let runner = on.runner();
    let remote = runner.get_loop().remote();
    let ends = remote.run_coroutine_threadsafe(async || foreign().await);
    runner.run(async { pump(3).await }).unwrap();
    runner.close().unwrap();
    assert!(ends.cancelled());

    let runner = on.runner();
    let remote = runner.get_loop().remote();
    let (spawned, made) = mpsc::channel();
    let stubborn = runner.run(async move {
        listen();
        // While the runner leaves, a task makes another that nobody cancels.
        create_task(async move {
            let cancelled = sleep(1.0).await;
            spawned.send(remote.run_coroutine_threadsafe(async || foreign().await)).unwrap();
            pump(2).await?;
            cancelled
        });
        pump(1).await
    });
    stubborn.unwrap();
    runner.close().unwrap();
    assert_eq!(made.recv().unwrap().result().unwrap_err().kind(), ErrorKind::Runtime);
}

// --- many at once ------------------------------------------------------------------------------------------------------------

const THREADS: usize = 4;
const CALLS: usize = 2500;

/// Runs `each` in several threads, with a remote handle, while the loop runs `meanwhile`. Gives what they return.
async fn besiege<T: Send + 'static>(
    each: impl Fn(usize, RemoteLoop) -> T + Send + Clone + 'static,
    meanwhile: impl AsyncFn() -> Result<()>,
) -> Result<Vec<T>> {
    let pool = ThreadPool::builder().max_workers(THREADS).build()?;
    let sieges: Vec<_> = (0..THREADS)
        .map(|n| {
            let (each, remote) = (each.clone(), event_loop().remote());
            event_loop().run_in_executor(Some(&pool), move || Ok(each(n, remote)))
        })
        .collect();
    while !sieges.iter().all(aioli_core::Future::done) {
        meanwhile().await?;
    }
    gather(sieges).await
}

fn add_up(n: usize, remote: RemoteLoop) -> usize {
    let futures: Vec<_> =
        (0..CALLS).map(|call| remote.run_coroutine_threadsafe(move || async move { Ok(call + n) })).collect();
    futures.into_iter().map(|future| future.result().unwrap()).sum()
}

fn sums() -> Vec<usize> {
    (0..THREADS).map(|n| (0..CALLS).map(|call| call + n).sum()).collect()
}

fn ten_thousand_coroutines_reach_a_loop_that_works(on: &Machine) {
    on.run(async {
        assert_eq!(besiege(add_up, async || sleep(0.0).await).await?, sums());
        Ok(())
    });
}

fn ten_thousand_coroutines_reach_a_loop_that_idles(on: &Machine) {
    on.run(async {
        let sieges: Vec<_> = (0..THREADS)
            .map(|n| {
                let remote = event_loop().remote();
                event_loop().run_in_executor(None, move || Ok(add_up(n, remote)))
            })
            .collect();
        assert_eq!(gather(sieges).await?, sums());
        Ok(())
    });
}

fn ten_thousand_calls_arrive_in_the_order_of_each_thread(on: &Machine) {
    on.run(async {
        let calls = Arc::new(Mutex::new(vec![Vec::new(); THREADS]));
        let log = Arc::clone(&calls);
        let call = move |n: usize, remote: RemoteLoop| {
            for call in 0..CALLS {
                let log = Arc::clone(&log);
                remote.call_soon_threadsafe(move || log.lock().unwrap()[n].push(call)).unwrap();
            }
        };
        besiege(call, async || sleep(0.0).await).await?;
        pump(2).await?;
        assert_eq!(*calls.lock().unwrap(), vec![(0..CALLS).collect::<Vec<_>>(); THREADS]);
        Ok(())
    });
}

fn cancelling_races_with_ending_and_each_ends_once(on: &Machine) {
    on.run(async {
        let race = |n: usize, remote: RemoteLoop| {
            let mut outcomes = [0; 2];
            for call in 0..CALLS / 5 {
                let future = remote.run_coroutine_threadsafe(move || async move { sleep(0.0).await.map(|()| call) });
                if (call + n).is_multiple_of(3) {
                    thread::yield_now();
                }
                let cancelled = future.cancel();
                assert_eq!(cancelled, future.cancelled());
                match future.result() {
                    Ok(value) => assert_eq!((value, cancelled), (call, false)),
                    Err(error) => assert!(error.is_cancelled() && cancelled),
                }
                outcomes[usize::from(cancelled)] += 1;
            }
            outcomes
        };
        let outcomes = besiege(race, async || sleep(0.0).await).await?;
        assert!(outcomes.iter().all(|[ended, cancelled]| ended + cancelled == CALLS / 5));
        pump(5).await?;
        assert_eq!(all_tasks().len(), 1);
        Ok(())
    });
}

fn nobody_hangs_when_the_loop_closes_under_fire(on: &Machine) {
    for round in 0..50 {
        let runner = on.runner();
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let remote = runner.get_loop().remote();
                thread::spawn(move || {
                    loop {
                        drop(remote.call_soon_threadsafe(|| ()));
                        let future = remote.run_coroutine_threadsafe(async || sleep(0.0).await);
                        if let Err(error) = future.result() {
                            return error.kind();
                        }
                    }
                })
            })
            .collect();
        runner
            .run(async move {
                listen();
                pump(round).await
            })
            .unwrap();
        runner.close().unwrap();
        for thread in threads {
            let last = thread.join().unwrap();
            assert!(matches!(last, ErrorKind::Runtime | ErrorKind::Cancelled), "{last:?}");
        }
    }
}
