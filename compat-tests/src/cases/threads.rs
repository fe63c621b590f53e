//! Functions in threads: the pool and the default executor.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::case::cases;
use crate::cases::support::{event_loop, pump, turn};
use crate::machine::Machine;
use aioli_core::driver::{Completions, Driver, DriverReport, Kick, OpId, Submit, Wait};
use aioli_core::op::Op;
use aioli_core::*;

cases! {
    ($) "threads" in threads as __cases_threads;
    a_function_gives_its_value_its_error_or_its_panic: "TH1 TH3"
        = "test_threads::ToThreadTests::test_to_thread",
          "test_threads::ToThreadTests::test_to_thread_exception",
          "test_events::EventLoopTestsMixin::test_run_in_executor";
    to_thread_takes_the_context_along_and_run_in_executor_does_not: "TH2"
        = "test_threads::ToThreadTests::test_to_thread_contextvars";
    a_completion_that_was_posted_takes_two_turns: "TA4 TH3";
    a_burst_of_jobs_costs_the_loop_one_kick: "L10";
    nothing_is_awaited_before_it_is_polled_nor_outside_of_a_loop: "LP15";
    an_idle_thread_is_used_before_another_is_made: "TH1";
    as_many_threads_are_made_as_jobs_need_and_no_more_than_the_limit: "TH1";
    jobs_begin_in_the_order_in_which_they_came: "TH1";
    what_a_pool_cannot_be_is_refused: "TH1";
    a_pool_that_was_shut_down_does_what_it_has_and_takes_no_more: "TH1 L9";
    a_pool_that_nobody_refers_to_ends_when_its_jobs_are_done: "TH1";
    a_job_may_submit_another_to_its_own_pool_and_does_not_wait_for_itself: "TH1";
    a_cancelled_job_that_was_not_begun_is_dropped_on_the_loop: "CA23" = "test_futures::BaseFutureTests::test_wrap_future_cancel";
    a_cancelled_job_that_runs_goes_on_and_its_result_is_lost: "CA23"
        = "test_events::EventLoopTestsMixin::test_run_in_executor_cancel";
    cancelling_to_thread_returns_at_once: "CA23";
    a_job_whose_future_was_set_by_somebody_else_ends_unheard: "TH3";
    a_result_that_comes_in_the_turn_in_which_somebody_sets_another_is_dropped: "TH3";
    an_error_that_nobody_retrieves_is_reported: "X1 L8";
    a_shutdown_of_an_executor_whose_threads_have_left_takes_its_turns: "TH5";
    the_loop_goes_on_while_the_default_executor_shuts_down: "TH5";
    a_default_executor_that_was_never_used_shuts_down_at_once: "TH5";
    an_executor_that_does_not_end_in_time_is_reported_and_left: "TH5"
        = "test_base_events::BaseEventLoopTests::test_shutdown_default_executor_timeout";
    a_shutdown_may_be_cancelled: "TH5";
    a_runner_waits_for_its_threads: "RN1 TH5 L9";
    a_runner_leaves_threads_that_take_too_long_and_drops_what_comes: "TH3 TH5"
        = "test_events::EventLoopTestsMixin::test_run_in_executor_cancel";
    a_future_whose_job_outlives_the_loop_is_not_kept: "TH3 L6";
    jobs_race_with_their_cancellation: "CA23";
    bursts_from_a_loop_are_all_done: "L10";
}

const SHORT: Duration = Duration::from_millis(20);

/// Blocks the thread, and with it the loop, until something is the case.
fn block_until(is: impl Fn() -> bool) {
    while !is() {
        thread::sleep(Duration::from_micros(100));
    }
}

/// A job that runs until the sender is dropped.
fn held() -> (mpsc::Sender<()>, impl FnOnce() -> Result<()> + Send + 'static) {
    let (release, held) = mpsc::channel::<()>();
    let job = move || {
        let _ = held.recv();
        Ok(())
    };
    (release, job)
}

/// Counts its drops, and remembers the thread of the last.
#[derive(Clone, Default, Debug)]
struct Drops(Arc<Mutex<Vec<thread::ThreadId>>>);

#[derive(Debug)]
struct Dropped(Drops);

impl Drops {
    fn one(&self) -> Dropped {
        Dropped(self.clone())
    }

    fn threads(&self) -> Vec<thread::ThreadId> {
        self.0.lock().unwrap().clone()
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().push(thread::current().id());
    }
}

/// What the loop's exception handler was told.
fn listen() -> Rc<RefCell<Vec<String>>> {
    let reports = Rc::<RefCell<Vec<String>>>::default();
    let log = Rc::clone(&reports);
    event_loop().set_exception_handler(Some(Box::new(move |report| log.borrow_mut().push(report.to_string()))));
    reports
}

/// A machine, counting how often it is kicked.
struct Counted {
    driver: Box<dyn Driver>,
    kicker: Arc<Kicker>,
}

#[derive(Debug)]
struct Kicker {
    inner: Arc<dyn Kick>,
    kicks: Arc<AtomicUsize>,
}

impl Kick for Kicker {
    fn kick(&self) {
        self.kicks.fetch_add(1, Ordering::SeqCst);
        self.inner.kick();
    }
}

impl Counted {
    fn new(driver: Box<dyn Driver>) -> (Self, Arc<AtomicUsize>) {
        let kicks = Arc::default();
        let kicker = Arc::new(Kicker { inner: driver.kicker(), kicks: Arc::clone(&kicks) });
        (Counted { driver, kicker }, kicks)
    }
}

impl Driver for Counted {
    fn report(&self) -> DriverReport {
        self.driver.report()
    }
    fn now(&self) -> Instant {
        self.driver.now()
    }
    fn is_virtual(&self) -> bool {
        true
    }
    fn submit(&mut self, id: OpId, op: Op) -> Submit {
        self.driver.submit(id, op)
    }
    fn cancel(&mut self, id: OpId) {
        self.driver.cancel(id);
    }
    fn turn(&mut self, wait: Wait, completions: &mut Completions) -> io::Result<()> {
        self.driver.turn(wait, completions)
    }
    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.kicker) as Arc<dyn Kick>
    }
    fn shutdown(&mut self, completions: &mut Completions) {
        self.driver.shutdown(completions);
    }
}

// --- functions in threads ----------------------------------------------------------------------------------------------------

fn a_function_gives_its_value_its_error_or_its_panic(on: &Machine) {
    on.run(async {
        let main = thread::current().id();
        assert_ne!(to_thread(|| Ok(thread::current().id())).await?, main);
        let failed = to_thread(|| Ok("many".parse::<u8>()?)).await.unwrap_err();
        assert!(failed.downcast_ref::<std::num::ParseIntError>().is_some());
        let panicked = event_loop().run_in_executor(None, || -> Result<()> { panic!("oh no") }).await.unwrap_err();
        assert_eq!(panicked.kind(), ErrorKind::Panicked);
        assert_eq!(panicked.to_string(), "panicked: oh no");
        // Returning a cancellation is an error like others: the future was not cancelled.
        let odd = event_loop().run_in_executor(None, || Err::<(), _>(Error::cancelled(None)));
        assert!((&odd).await.unwrap_err().is_cancelled());
        assert!(!odd.cancelled());
        Ok(())
    });
}

fn to_thread_takes_the_context_along_and_run_in_executor_does_not(on: &Machine) {
    on.run(async {
        let pool = ThreadPool::builder().max_workers(1).build()?;
        event_loop().set_default_executor(pool.clone());
        let var = Arc::new(ContextVar::<u32>::new());
        var.set(7);
        let (inside, again) = (Arc::clone(&var), Arc::clone(&var));
        let seen = to_thread(move || {
            let before = inside.get();
            inside.set(8);
            Ok((before, inside.get()))
        });
        assert_eq!(seen.await?, (Some(7), Some(8)));
        assert_eq!(var.get(), Some(7));
        // The same thread, and nothing is left of it.
        assert_eq!(event_loop().run_in_executor(None, move || Ok(again.get())).await?, None);
        assert_eq!(pool.threads(), 1);
        Ok(())
    });
}

fn a_completion_that_was_posted_takes_two_turns(on: &Machine) {
    let (driver, kicks) = Counted::new(on.driver());
    let main = async move {
        to_thread(|| Ok(())).await?;
        let before = kicks.load(Ordering::SeqCst);
        let future = event_loop().run_in_executor(None, || Ok(5));
        block_until(|| kicks.load(Ordering::SeqCst) > before);
        assert!(!future.done());
        let start = turn();
        assert_eq!(future.await?, 5);
        assert_eq!(turn() - start, 2);
        Ok(())
    };
    aioli_core::run(driver, main).unwrap();
}

fn a_burst_of_jobs_costs_the_loop_one_kick(on: &Machine) {
    let (driver, kicks) = Counted::new(on.driver());
    let main = async move {
        let done = Arc::new(AtomicUsize::new(0));
        let before = kicks.load(Ordering::SeqCst);
        let futures: Vec<_> = (0..100)
            .map(|n| {
                let done = Arc::clone(&done);
                event_loop().run_in_executor(None, move || Ok((done.fetch_add(1, Ordering::SeqCst), n).1))
            })
            .collect();
        block_until(|| done.load(Ordering::SeqCst) == 100);
        thread::sleep(SHORT);
        assert_eq!(kicks.load(Ordering::SeqCst) - before, 1);
        let start = turn();
        assert_eq!(gather(futures).await?, (0..100).collect::<Vec<_>>());
        assert_eq!(turn() - start, 3);
        Ok(())
    };
    aioli_core::run(driver, main).unwrap();
}

fn nothing_is_awaited_before_it_is_polled_nor_outside_of_a_loop(on: &Machine) {
    assert_eq!(futures::executor::block_on(to_thread(|| Ok(()))).unwrap_err().kind(), ErrorKind::Runtime);
    on.run(async {
        let pool = ThreadPool::new();
        event_loop().set_default_executor(pool.clone());
        drop(to_thread(|| Ok(())));
        pump(3).await?;
        assert_eq!(pool.threads(), 0);
        Ok(())
    });
}

// --- the pool ----------------------------------------------------------------------------------------------------------------

fn an_idle_thread_is_used_before_another_is_made(on: &Machine) {
    on.run(async {
        let pool = ThreadPool::new();
        let processors = thread::available_parallelism().unwrap().get();
        assert_eq!(pool.max_workers(), (processors + 4).min(32));
        for _ in 0..200 {
            let name = event_loop().run_in_executor(Some(&pool), || Ok(thread::current().name().map(String::from)));
            assert_eq!(name.await?.as_deref(), Some("aioli_0"));
        }
        assert_eq!(pool.threads(), 1);
        Ok(())
    });
}

fn as_many_threads_are_made_as_jobs_need_and_no_more_than_the_limit(on: &Machine) {
    on.run(async {
        let pool = ThreadPool::builder().max_workers(3).thread_name_prefix("trio").build()?;
        for _ in 0..20 {
            let meeting = Arc::new(Barrier::new(3));
            let meet = || {
                let meeting = Arc::clone(&meeting);
                event_loop().run_in_executor(Some(&pool), move || Ok(meeting.wait().is_leader()))
            };
            let leaders = gather(vec![meet(), meet(), meet()]).await?;
            assert_eq!(leaders.iter().filter(|leader| **leader).count(), 1);
        }
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs: Vec<_> = (0..30)
            .map(|_| {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                event_loop().run_in_executor(Some(&pool), move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                })
            })
            .collect();
        gather(jobs).await?;
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert_eq!(pool.threads(), 3);
        Ok(())
    });
}

fn jobs_begin_in_the_order_in_which_they_came(on: &Machine) {
    on.run(async {
        let pool = ThreadPool::builder().max_workers(1).build()?;
        let order = Arc::new(Mutex::new(Vec::new()));
        let jobs: Vec<_> = (0..50)
            .map(|n| {
                let order = Arc::clone(&order);
                event_loop().run_in_executor(Some(&pool), move || {
                    order.lock().unwrap().push(n);
                    Ok(())
                })
            })
            .collect();
        gather(jobs).await?;
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
        Ok(())
    });
}

fn what_a_pool_cannot_be_is_refused(_: &Machine) {
    let too_many = ThreadPool::builder().max_workers(usize::MAX).build();
    for built in
        [ThreadPool::builder().max_workers(0).build(), too_many, ThreadPool::builder().thread_name_prefix("\0").build()]
    {
        assert_eq!(built.unwrap_err().kind(), ErrorKind::Value);
    }
}

fn a_pool_that_was_shut_down_does_what_it_has_and_takes_no_more(on: &Machine) {
    on.run(async {
        let pool = ThreadPool::builder().max_workers(1).build()?;
        let (release, job) = held();
        let running = event_loop().run_in_executor(Some(&pool), job);
        let queued = event_loop().run_in_executor(Some(&pool), || Ok(2));
        pool.shutdown();
        let refused = event_loop().run_in_executor(Some(&pool), || Ok(3));
        assert!(refused.done());
        assert_eq!(refused.await.unwrap_err().kind(), ErrorKind::Runtime);
        assert!(!pool.join_timeout(Duration::from_millis(1)));
        drop(release);
        assert_eq!(gather((running, queued)).await?, ((), 2));
        pool.join();
        assert!(pool.join_timeout(Duration::ZERO));
        assert_eq!(pool.threads(), 0);
        Ok(())
    });
}

fn a_pool_that_nobody_refers_to_ends_when_its_jobs_are_done(on: &Machine) {
    thread_local!(static LAST: RefCell<Option<Dropped>> = const { RefCell::new(None) });
    on.run(async {
        let pool = ThreadPool::builder().max_workers(1).build()?;
        let (release, job) = held();
        let ended = Drops::default();
        let last = ended.one();
        let running = event_loop().run_in_executor(Some(&pool), move || {
            LAST.set(Some(last));
            job()
        });
        let queued: Vec<_> = (0..5).map(|n| event_loop().run_in_executor(Some(&pool), move || Ok(n))).collect();
        let other = pool.clone();
        drop(pool);
        drop(release);
        running.await?;
        assert_eq!(gather(queued).await?, [0, 1, 2, 3, 4]);
        assert!(ended.threads().is_empty());
        drop(other);
        // The thread ends, and with it what is local to it.
        block_until(|| ended.threads().len() == 1);
        Ok(())
    });
}

fn a_job_may_submit_another_to_its_own_pool_and_does_not_wait_for_itself(on: &Machine) {
    on.run(async {
        let pool = ThreadPool::builder().max_workers(2).build()?;
        let remote = event_loop().remote();
        let inner = pool.clone();
        let outer = event_loop().run_in_executor(Some(&pool), move || {
            let nested = remote.run_coroutine_threadsafe(async move || {
                event_loop().run_in_executor(Some(&inner), || Ok(thread::current().name().map(String::from))).await
            });
            nested.result()
        });
        assert_eq!(outer.await?.as_deref(), Some("aioli_1"));
        let inside = pool.clone();
        let joined =
            event_loop().run_in_executor(Some(&pool), move || Ok(inside.join_timeout(Duration::from_secs(60))));
        assert!(!joined.await?);
        pool.join();
        Ok(())
    });
}

// --- cancelling --------------------------------------------------------------------------------------------------------------

fn a_cancelled_job_that_was_not_begun_is_dropped_on_the_loop(on: &Machine) {
    on.run(async {
        let pool = ThreadPool::builder().max_workers(1).build()?;
        let (release, job) = held();
        let running = event_loop().run_in_executor(Some(&pool), job);
        let (drops, ran) = (Drops::default(), Arc::new(AtomicBool::new(false)));
        let (captured, flag) = (drops.one(), Arc::clone(&ran));
        let queued = event_loop().run_in_executor(Some(&pool), move || {
            flag.store(true, Ordering::SeqCst);
            drop(captured);
            Ok(())
        });
        let waiter = create_task(queued);
        sleep(0.0).await?;
        let before = turn();
        waiter.cancel(Some("enough"));
        let error = waiter.await.unwrap_err();
        assert_eq!(error.cancel_message(), Some("enough"));
        assert_eq!(turn() - before, 2);
        assert_eq!(drops.threads(), [thread::current().id()]);
        drop(release);
        running.await?;
        event_loop().run_in_executor(Some(&pool), || Ok(())).await?;
        assert!(!ran.load(Ordering::SeqCst));
        Ok(())
    });
}

fn a_cancelled_job_that_runs_goes_on_and_its_result_is_lost(on: &Machine) {
    on.run(async {
        let pool = ThreadPool::builder().max_workers(1).build()?;
        let (release, job) = held();
        let drops = Drops::default();
        let result = drops.one();
        let (begun, begins) = mpsc::channel();
        let running = event_loop().run_in_executor(Some(&pool), move || {
            begun.send(()).unwrap();
            job()?;
            Ok(result)
        });
        begins.recv().unwrap();
        assert!(running.cancel(None));
        assert!(running.cancelled());
        assert!(running.await.unwrap_err().is_cancelled());
        pump(3).await?;
        assert!(drops.threads().is_empty());
        drop(release);
        pool.join();
        pump(2).await?;
        assert_eq!(drops.threads(), [thread::current().id()]);
        Ok(())
    });
}

fn cancelling_to_thread_returns_at_once(on: &Machine) {
    on.run(async {
        let (release, job) = held();
        let task = create_task(to_thread(job));
        pump(2).await?;
        let before = turn();
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(turn() - before, 2);
        drop(release);
        Ok(())
    });
}

fn a_job_whose_future_was_set_by_somebody_else_ends_unheard(on: &Machine) {
    on.run(async {
        let (release, job) = held();
        let future = event_loop().run_in_executor(None, move || job().map(|()| 1));
        future.set_result(2)?;
        assert_eq!((&future).await?, 2);
        drop(release);
        event_loop().shutdown_default_executor(None::<Duration>).await?;
        pump(2).await?;
        assert_eq!(future.await?, 2);
        Ok(())
    });
}

fn a_result_that_comes_in_the_turn_in_which_somebody_sets_another_is_dropped(on: &Machine) {
    let (driver, kicks) = Counted::new(on.driver());
    let main = async move {
        let reports = listen();
        let future = event_loop().run_in_executor(None, || Ok(1));
        block_until(|| kicks.load(Ordering::SeqCst) == 1);
        pump(1).await?;
        // The result has arrived, and this turn would set it after this step.
        future.set_result(2)?;
        pump(2).await?;
        assert_eq!((future.await?, reports.borrow().len()), (2, 0));
        Ok(())
    };
    aioli_core::run(driver, main).unwrap();
}

fn an_error_that_nobody_retrieves_is_reported(on: &Machine) {
    on.run(async {
        let reports = listen();
        drop(event_loop().run_in_executor(None, || Err::<(), _>(Error::msg("lost"))));
        event_loop().shutdown_default_executor(None::<Duration>).await?;
        pump(1).await?;
        assert_eq!(*reports.borrow(), ["future exception was never retrieved: lost"]);
        Ok(())
    });
}

fn a_shutdown_of_an_executor_whose_threads_have_left_takes_its_turns(on: &Machine) {
    on.run(async {
        event_loop().set_default_executor(ThreadPool::new());
        let before = turn();
        event_loop().shutdown_default_executor(None::<Duration>).await?;
        assert!(turn() > before);
        Ok(())
    });
}

// --- leaving -----------------------------------------------------------------------------------------------------------------

fn the_loop_goes_on_while_the_default_executor_shuts_down(on: &Machine) {
    on.run(async {
        let ticks = Rc::new(Cell::new(0));
        let (release, job) = held();
        let running = event_loop().run_in_executor(None, job);
        let count = Rc::clone(&ticks);
        let ticker = create_task(async move {
            for _ in 0..5 {
                count.set(count.get() + 1);
                sleep(0.0).await?;
            }
            drop(release);
            Ok(())
        });
        event_loop().shutdown_default_executor(None::<Duration>).await?;
        assert_eq!(ticks.get(), 5);
        assert!(ticker.done() && running.done());
        let refused = event_loop().run_in_executor(None, || Ok(())).await.unwrap_err();
        assert_eq!(
            (refused.kind(), to_thread(|| Ok(())).await.unwrap_err().kind()),
            (ErrorKind::Runtime, ErrorKind::Runtime)
        );
        event_loop().shutdown_default_executor(1.0).await?;
        // A pool of one's own is not concerned.
        let pool = ThreadPool::new();
        assert_eq!(event_loop().run_in_executor(Some(&pool), || Ok(1)).await?, 1);
        Ok(())
    });
}

fn a_default_executor_that_was_never_used_shuts_down_at_once(on: &Machine) {
    on.run(async {
        let before = turn();
        event_loop().shutdown_default_executor(None::<Duration>).await?;
        assert_eq!(turn(), before);
        assert_eq!(to_thread(|| Ok(())).await.unwrap_err().kind(), ErrorKind::Runtime);
        // As in asyncio, another one changes nothing.
        event_loop().set_default_executor(ThreadPool::new());
        assert_eq!(to_thread(|| Ok(())).await.unwrap_err().kind(), ErrorKind::Runtime);
        event_loop().shutdown_default_executor(None::<Duration>).await?;
        assert_eq!(event_loop().shutdown_default_executor(f64::NAN).await.unwrap_err().kind(), ErrorKind::Value);
        Ok(())
    });
}

fn an_executor_that_does_not_end_in_time_is_reported_and_left(on: &Machine) {
    on.run(async {
        let reports = listen();
        let (release, job) = held();
        let running = event_loop().run_in_executor(None, job);
        event_loop().shutdown_default_executor(SHORT).await?;
        assert_eq!(*reports.borrow(), ["the executor did not finish joining its threads within 20ms"]);
        assert!(!running.done());
        drop(release);
        running.await
    });
}

fn a_shutdown_may_be_cancelled(on: &Machine) {
    on.run(async {
        let (release, job) = held();
        let running = event_loop().run_in_executor(None, job);
        let task = create_task(async { event_loop().shutdown_default_executor(None::<Duration>).await });
        pump(1).await?;
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(event_loop().run_in_executor(None, || Ok(())).await.unwrap_err().kind(), ErrorKind::Runtime);
        drop(release);
        running.await
    });
}

fn a_runner_waits_for_its_threads(on: &Machine) {
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    on.run(async move {
        event_loop().run_in_executor(None, move || {
            thread::sleep(SHORT);
            flag.store(true, Ordering::SeqCst);
            Ok(())
        });
        Ok(())
    });
    assert!(done.load(Ordering::SeqCst));
}

fn a_runner_leaves_threads_that_take_too_long_and_drops_what_comes(on: &Machine) {
    let drops = Drops::default();
    let (release, job) = held();
    let result = drops.one();
    let runner = on.runner().executor_timeout(Some(SHORT));
    let kept = runner
        .run(async move {
            let pool = ThreadPool::new();
            event_loop().set_default_executor(pool.clone());
            let running = event_loop().run_in_executor(None, move || {
                job()?;
                Ok(result)
            });
            Ok((pool, running, listen()))
        })
        .unwrap();
    let (pool, running, reports) = kept;
    let handle = runner.get_loop();
    runner.close().unwrap();
    assert_eq!(reports.borrow().len(), 1);
    assert!(reports.borrow()[0].contains("did not finish joining"));
    let refused = handle.run_in_executor(Some(&ThreadPool::new()), || Ok(()));
    assert_eq!(refused.exception().unwrap().unwrap().kind(), ErrorKind::Runtime);
    drop(release);
    pool.join();
    assert_eq!(drops.threads().len(), 1);
    assert!(!running.done());
}

fn a_future_whose_job_outlives_the_loop_is_not_kept(on: &Machine) {
    let value = Rc::new(());
    let kept = Rc::clone(&value);
    let (release, job) = held();
    let runner = on.runner().executor_timeout(Some(Duration::ZERO));
    let ran = runner.run(async move {
        listen();
        event_loop().run_in_executor(None, job).add_done_callback(move |_| drop(kept));
        Ok(())
    });
    ran.unwrap();
    runner.close().unwrap();
    assert_eq!(Rc::strong_count(&value), 1);
    drop(release);
}

// --- many at once ------------------------------------------------------------------------------------------------------------

fn jobs_race_with_their_cancellation(on: &Machine) {
    on.run(async {
        let pool = ThreadPool::builder().max_workers(3).build()?;
        let drops = Drops::default();
        let mut lost = 0;
        for round in 0..1000 {
            let (captured, result) = (drops.one(), drops.one());
            let future = event_loop().run_in_executor(Some(&pool), move || {
                drop(captured);
                Ok(result)
            });
            pump(round % 3).await?;
            future.cancel(None);
            lost += usize::from(future.await.is_err());
        }
        pool.join();
        pump(2).await?;
        assert!(lost > 0);
        assert_eq!(drops.threads().len(), 2000);
        Ok(())
    });
}

fn bursts_from_a_loop_are_all_done(on: &Machine) {
    on.run(async {
        let pool = ThreadPool::builder().max_workers(3).build()?;
        for round in 0..200 {
            let jobs: Vec<_> =
                (0..round % 7 + 1).map(|n| event_loop().run_in_executor(Some(&pool), move || Ok(n))).collect();
            let expected: Vec<_> = (0..round % 7 + 1).collect();
            assert_eq!(gather(jobs).await?, expected);
        }
        Ok(())
    });
}
