//! Waits that are dropped, leaked or moved to another task, by hand and under combinators of other crates.

use super::*;
use crate::cases::drop_laws::leak;
use futures::FutureExt;
use futures::future::{Either, join, join_all, select};
use futures::stream::{FuturesUnordered, StreamExt};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

cases! {
    ($) "drop" in drops as __cases_drops;
    l6_dropped_before_it_was_granted: "L6 L4";
    l6_dropped_after_it_was_granted: "L6 L4";
    l6_dropped_after_it_was_granted_with_nobody_else_there: "L6 L4";
    l6_leaked_by_a_task_that_ended: "L6 L4";
    l6_leaked_by_a_task_that_goes_on: "L6 L4";
    l6_dropped_without_a_grant_it_calls_nobody: "L6 L4";
    l6_moved_before_it_was_granted_keeps_its_place: "L6 L4";
    l6_moved_to_a_task_that_awaits_it: "L6 L4";
    l6_moved_after_it_was_granted_is_served_at_once: "L6 L4";
    l6_moved_out_of_a_task_that_ended_is_not_forgotten: "L6 L4";
    l6_moved_after_its_task_was_cancelled: "L6 L4";
    under_select_the_loser_passes_its_grant_on: "L6 L4";
    under_select_the_winner_is_served_one_turn_later: "L2 L6";
    under_join_two_waits_of_one_task_are_served: "L6";
    under_join_a_cancelled_task_leaves_no_one_in_line: "L3 L6";
    under_futures_unordered_waits_are_served_in_the_order_of_coming: "L6";
    l6_an_event_forgets_who_left: "L6";
    l6_a_guard_whose_wait_was_dropped_holds_nothing: "L6";
    l6_a_party_that_is_dropped_has_not_come: "L6";
    l11_a_waker_may_wait_again: "L11";
}

pub(super) type Waiting = Pin<Box<dyn std::future::Future<Output = Result<()>>>>;

/// Something that can be waited for and given, one for one, in the order of coming.
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) wait: Box<dyn Fn() -> Waiting>,
    /// Gives one, if that is possible: a lock that is free cannot be released. Returns whether it was.
    pub(super) give: Box<dyn Fn() -> bool>,
    /// How many gifts nobody has taken; `None` where they are not kept.
    pub(super) kept: Box<dyn Fn() -> Option<usize>>,
}

/// One source of every kind. All are exhausted.
pub(super) fn sources() -> Vec<Source> {
    let lock = Rc::new(Lock::new());
    lock.acquire().now_or_never().unwrap().unwrap();
    let semaphore = Rc::new(Semaphore::new(0));
    let bounded = Rc::new(BoundedSemaphore::new(1000));
    for _ in 0..1000 {
        bounded.acquire().now_or_never().unwrap().unwrap();
    }
    let condition = Rc::new(Condition::new());
    let getting = Rc::new(Queue::new(0));
    let getting_least = Rc::new(PriorityQueue::new(0));
    let putting = Rc::new(Queue::new(3));
    (0..3).for_each(|item| putting.put_nowait(item).unwrap());

    fn source<P: 'static, W: std::future::Future<Output = Result<()>> + 'static>(
        name: &'static str,
        shared: &Rc<P>,
        wait: impl Fn(Rc<P>) -> W + 'static,
        give: impl Fn(&P) -> Result<()> + 'static,
        kept: impl Fn(&P) -> Option<usize> + 'static,
    ) -> Source {
        let (waiting, giving, keeping) = (Rc::clone(shared), Rc::clone(shared), Rc::clone(shared));
        Source {
            name,
            wait: Box::new(move || Box::pin(wait(Rc::clone(&waiting)))),
            give: Box::new(move || give(&giving).is_ok()),
            kept: Box::new(move || kept(&keeping)),
        }
    }
    let field = |text: String, name: &str| -> usize {
        let rest = text.split(name).nth(1).unwrap();
        rest.split(',').next().unwrap().parse().unwrap()
    };
    vec![
        source(
            "lock",
            &lock,
            async |lock| lock.acquire().await,
            |lock| lock.release(),
            |lock| Some(usize::from(!lock.locked())),
        ),
        source(
            "semaphore",
            &semaphore,
            async |semaphore| semaphore.acquire().await,
            |semaphore| {
                semaphore.release();
                Ok(())
            },
            move |semaphore| Some(field(format!("{semaphore:?}"), "value: ")),
        ),
        source(
            "bounded semaphore",
            &bounded,
            async |bounded| bounded.acquire().await,
            |bounded| bounded.release(),
            move |bounded| Some(field(format!("{bounded:?}"), "value: ")),
        ),
        source(
            "condition",
            &condition,
            async |condition| condition.lock().await?.wait().await,
            |condition| condition.lock().now_or_never().expect("the lock is free")?.notify(1),
            |_| None,
        ),
        source(
            "queue, getting",
            &getting,
            async |queue| queue.get().await,
            |queue| Ok(queue.put_nowait(())?),
            |queue| Some(queue.qsize()),
        ),
        source(
            "priority queue, getting",
            &getting_least,
            async |queue| queue.get().await,
            |queue| Ok(queue.put_nowait(())?),
            |queue| Some(queue.qsize()),
        ),
        source(
            "queue, putting",
            &putting,
            async |queue| queue.put(0).await,
            |queue| queue.get_nowait().map(drop),
            |queue| Some(3 - queue.qsize()),
        ),
    ]
}

/// Runs a case with every source.
fn each(on: &Machine, case: impl AsyncFn(&Source) -> Result<()> + Copy + 'static) {
    for index in 0..sources().len() {
        on.run(async move {
            let source = sources().remove(index);
            case(&source).await.map_err(|error| Error::msg(format!("{}: {error}", source.name)))
        });
    }
}

/// Polls once, by hand.
async fn poll_once(waiting: &mut Waiting) -> Poll<Result<()>> {
    poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await
}

/// A wait that has joined the line.
async fn joined(source: &Source) -> Waiting {
    let mut waiting = (source.wait)();
    assert!(poll_once(&mut waiting).await.is_pending(), "{}", source.name);
    waiting
}

async fn is_served(waiting: &mut Waiting) -> Result<bool> {
    match poll_once(waiting).await {
        Poll::Ready(result) => result.map(|()| true),
        Poll::Pending => Ok(false),
    }
}

fn l6_dropped_before_it_was_granted(on: &Machine) {
    each(on, async |source| {
        let (first, mut second) = (joined(source).await, joined(source).await);
        drop(first);
        assert!((source.give)());
        assert!(is_served(&mut second).await?, "{}", source.name);
        Ok(())
    });
}

fn l6_dropped_after_it_was_granted(on: &Machine) {
    each(on, async |source| {
        let (first, mut second) = (joined(source).await, joined(source).await);
        let mut third = joined(source).await;
        assert!((source.give)());
        assert!(!is_served(&mut second).await?, "{}", source.name);
        drop(first);
        assert!(is_served(&mut second).await?, "{}", source.name);
        assert!(!is_served(&mut third).await?, "{}", source.name);
        Ok(())
    });
}

fn l6_dropped_after_it_was_granted_with_nobody_else_there(on: &Machine) {
    each(on, async |source| {
        let alone = joined(source).await;
        assert!((source.give)());
        drop(alone);
        if let Some(kept) = (source.kept)() {
            assert_eq!(kept, 1, "{}", source.name);
            let mut next = (source.wait)();
            assert!(is_served(&mut next).await?, "{}", source.name);
        }
        Ok(())
    });
}

fn l6_leaked_by_a_task_that_ended(on: &Machine) {
    each(on, async |source| {
        let mut leaked = (source.wait)();
        let task = create_task(async move {
            assert!(poll_once(&mut leaked).await.is_pending());
            leak(leaked);
            Ok(())
        });
        task.await?;
        let mut next = joined(source).await;
        assert!((source.give)());
        assert!(is_served(&mut next).await?, "{}", source.name);
        Ok(())
    });
}

fn l6_leaked_by_a_task_that_goes_on(on: &Machine) {
    each(on, async |source| {
        let leaked = joined(source).await;
        leak(leaked);
        let mut next = joined(source).await;
        // The leaked one is granted, which wakes its task without harm.
        assert!((source.give)());
        sleep(1.0).await?;
        assert!(!is_served(&mut next).await?, "{}", source.name);
        if source.name != "lock" {
            assert!((source.give)());
            assert!(is_served(&mut next).await?, "{}", source.name);
        }
        Ok(())
    });
}

fn l6_dropped_without_a_grant_it_calls_nobody(on: &Machine) {
    each(on, async |source| {
        let (mut first, second) = (joined(source).await, joined(source).await);
        let (mut third, mut fourth) = (joined(source).await, joined(source).await);
        assert!((source.give)());
        drop(second);
        // Called without need, it would find nothing and go to the end of the line.
        assert!(!is_served(&mut fourth).await?, "{}", source.name);
        assert!(is_served(&mut first).await?, "{}", source.name);
        assert!(!is_served(&mut third).await?, "{}", source.name);
        assert!((source.give)());
        assert!(!is_served(&mut fourth).await?, "{}", source.name);
        assert!(is_served(&mut third).await?, "{}", source.name);
        Ok(())
    });
}

/// A wait that a task has joined the line with; the task stays suspended elsewhere, or ends.
async fn joined_elsewhere(source: &Source, ends: bool) -> Result<Waiting> {
    let handed = pending();
    let (mut waiting, hand) = ((source.wait)(), handed.clone());
    create_task(async move {
        assert!(poll_once(&mut waiting).await.is_pending());
        hand.set_result(waiting)?;
        if ends { Ok(()) } else { pending().await }
    });
    handed.await
}

fn l6_moved_before_it_was_granted_keeps_its_place(on: &Machine) {
    each(on, async |source| {
        let mut moved = joined_elsewhere(source, false).await?;
        let mut second = joined(source).await;
        assert!(!is_served(&mut moved).await?);
        assert!((source.give)());
        assert!(!is_served(&mut second).await?, "{}", source.name);
        // It wakes the task that polls it now.
        let before = turn();
        moved.await?;
        assert_eq!(turn(), before);
        assert!((source.give)());
        assert!(is_served(&mut second).await?, "{}", source.name);
        Ok(())
    });
}

fn l6_moved_to_a_task_that_awaits_it(on: &Machine) {
    each(on, async |source| {
        let moved = joined_elsewhere(source, false).await?;
        let task = create_task(moved);
        pump(2).await?;
        assert!(!task.done());
        assert!((source.give)());
        pump(1).await?;
        assert!(task.done(), "{}", source.name);
        task.await
    });
}

fn l6_moved_after_it_was_granted_is_served_at_once(on: &Machine) {
    each(on, async |source| {
        let mut moved = joined_elsewhere(source, false).await?;
        let mut second = joined(source).await;
        assert!((source.give)());
        assert!(!is_served(&mut second).await?, "{}", source.name);
        assert!(is_served(&mut moved).await?, "{}", source.name);
        Ok(())
    });
}

fn l6_moved_out_of_a_task_that_ended_is_not_forgotten(on: &Machine) {
    each(on, async |source| {
        // Passed over, since nobody waited with it; what was given is still there.
        let mut moved = joined_elsewhere(source, true).await?;
        pump(1).await?;
        assert!((source.give)());
        if (source.kept)().is_some() {
            let served = is_served(&mut moved).await? || is_served(&mut moved).await?;
            assert!(served, "{}", source.name);
        } else {
            assert!(!is_served(&mut moved).await?);
        }
        drop(moved);

        // Not passed over: its place is kept.
        let mut moved = joined_elsewhere(source, true).await?;
        let mut second = joined(source).await;
        pump(1).await?;
        assert!(!is_served(&mut moved).await?);
        assert!((source.give)());
        assert!(!is_served(&mut second).await?, "{}", source.name);
        assert!(is_served(&mut moved).await?, "{}", source.name);
        Ok(())
    });
}

fn l6_moved_after_its_task_was_cancelled(on: &Machine) {
    each(on, async |source| {
        let handed = pending::<Waiting>();
        let (mut waiting, hand) = ((source.wait)(), handed.clone());
        let task = create_task(async move {
            assert!(poll_once(&mut waiting).await.is_pending());
            hand.set_result(waiting)?;
            pending::<()>().await
        });
        let mut moved = handed.await?;
        // The request reaches every await point of the task; this one has left it before it returned.
        task.cancel(None);
        assert!(!is_served(&mut moved).await?, "{}", source.name);
        assert!(task.await.unwrap_err().is_cancelled());
        assert!((source.give)());
        assert!(is_served(&mut moved).await?, "{}", source.name);
        Ok(())
    });
}

fn under_select_the_loser_passes_its_grant_on(on: &Machine) {
    each(on, async |source| {
        let signal = pending::<()>();
        let (waiting, other) = ((source.wait)(), signal.clone());
        // The signal is polled first: it wins although the wait is granted in the same turn.
        let task = create_task(async move {
            match select(other, waiting).await {
                Either::Left((signal, _)) => signal.map(|()| "signal"),
                Either::Right((served, _)) => served.map(|()| "served"),
            }
        });
        sleep(0.0).await?;
        let mut next = joined(source).await;
        assert!((source.give)());
        signal.set_result(())?;
        assert_eq!(task.await?, "signal");
        assert!(is_served(&mut next).await?, "{}", source.name);
        Ok(())
    });
}

fn under_select_the_winner_is_served_one_turn_later(on: &Machine) {
    each(on, async |source| {
        let waiting = (source.wait)();
        let task = create_task(async move {
            let never = pending::<()>();
            match select(waiting, never).await {
                Either::Left((served, _)) => served.map(|()| turn()),
                Either::Right(_) => unreachable!(),
            }
        });
        sleep(0.0).await?;
        assert!((source.give)());
        let given = turn();
        assert_eq!(task.await? - given, 1, "{}", source.name);
        Ok(())
    });
}

fn under_join_two_waits_of_one_task_are_served(on: &Machine) {
    each(on, async |source| {
        let (first, second) = ((source.wait)(), (source.wait)());
        let task = create_task(async move {
            let (first, second) = join(first, second).await;
            first.and(second)
        });
        sleep(0.0).await?;
        for _ in 0..2 {
            assert!(!task.done(), "{}", source.name);
            assert!((source.give)());
            pump(1).await?;
        }
        assert!(task.done(), "{}", source.name);
        task.await
    });
}

fn under_join_a_cancelled_task_leaves_no_one_in_line(on: &Machine) {
    each(on, async |source| {
        let waits: Vec<_> = (0..5).map(|_| (source.wait)()).collect();
        let task = create_task(async move { Ok(join_all(waits).await) });
        sleep(0.0).await?;
        let mut next = joined(source).await;
        assert!((source.give)());
        task.cancel(None);
        let results = task.await?;
        assert!(results.iter().all(|result| result.as_ref().unwrap_err().is_cancelled()), "{}", source.name);
        pump(1).await?;
        assert!(is_served(&mut next).await?, "{}", source.name);
        Ok(())
    });
}

fn under_futures_unordered_waits_are_served_in_the_order_of_coming(on: &Machine) {
    each(on, async |source| {
        let wait = |name| {
            let waiting = (source.wait)();
            async move { waiting.await.map(|()| name) }
        };
        let mut waits: FuturesUnordered<_> = (0..100).map(wait).collect();
        let mut order = Vec::new();
        assert!(waits.next().now_or_never().is_none());
        for _ in 0..50 {
            assert!((source.give)());
            order.push(waits.next().await.unwrap()?);
        }
        assert!(order.is_sorted() || source.name == "lock" && order.len() == 50, "{}: {order:?}", source.name);
        drop(waits);
        if let Some(kept) = (source.kept)() {
            assert_eq!(kept, 0, "{}", source.name);
        }
        Ok(())
    });
}

fn l6_an_event_forgets_who_left(on: &Machine) {
    on.run(async {
        let event = Rc::new(Event::new());
        let wait = |event: &Rc<Event>| -> Waiting {
            let event = Rc::clone(event);
            Box::pin(async move { event.wait().await })
        };
        let (mut first, mut second, mut third) = (wait(&event), wait(&event), wait(&event));
        for waiting in [&mut first, &mut second, &mut third] {
            assert!(!is_served(waiting).await?);
        }
        drop(first);
        event.set();
        drop(second);
        event.clear();
        // It was set while this one waited.
        assert!(is_served(&mut third).await?);
        drop(third);
        assert_eq!(format!("{event:?}"), "Event { set: false, waiters: 0 }");

        // Set and cleared while nobody polled it.
        let (mut moved, hand) = (wait(&event), pending::<Waiting>());
        let handed = hand.clone();
        create_task(async move {
            assert!(!is_served(&mut moved).await?);
            hand.set_result(moved)
        });
        let mut moved = handed.await?;
        pump(1).await?;
        event.set();
        event.clear();
        assert!(is_served(&mut moved).await?);
        Ok(())
    });
}

fn l6_a_guard_whose_wait_was_dropped_holds_nothing(on: &Machine) {
    on.run(async {
        let condition = Condition::new();
        let mut guard = condition.lock().await?;
        {
            let mut wait = Box::pin(guard.wait());
            assert!(poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await.is_pending());
        }
        assert!(!guard.is_held() && !condition.locked());
        let other = condition.lock().await?;
        assert_eq!(kind(guard.notify(1)), ErrorKind::Runtime);
        drop(guard);
        assert!(condition.locked() && other.is_held());
        other.release()?;

        // Dropped while it waits for the lock: what it was notified of goes to another.
        let mut guard = condition.lock().await?;
        let mut wait = Box::pin(guard.wait());
        assert!(poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await.is_pending());
        let mut second: Pin<Box<dyn std::future::Future<Output = Result<()>>>> =
            Box::pin(async { condition.lock().await?.wait().await });
        assert!(poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx))).await.is_pending());
        let other = condition.lock().await?;
        other.notify(1)?;
        assert!(poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await.is_pending());
        drop(wait);
        assert!(!guard.is_held());
        drop(other);
        second.await?;
        guard.acquire().await?;
        assert!(guard.is_held());
        guard.release()?;
        assert!(!condition.locked());
        Ok(())
    });
}

fn l6_a_party_that_is_dropped_has_not_come(on: &Machine) {
    on.run(async {
        let barrier = Rc::new(Barrier::new(3)?);
        let arrive = || -> Pin<Box<dyn std::future::Future<Output = Result<usize>>>> {
            let barrier = Rc::clone(&barrier);
            Box::pin(async move { barrier.wait().await })
        };
        let (mut first, mut second) = (arrive(), arrive());
        for waiting in [&mut first, &mut second] {
            assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await.is_pending());
        }
        assert_eq!(barrier.n_waiting(), 2);
        drop(first);
        assert_eq!(barrier.n_waiting(), 1);
        let mut third = arrive();
        assert!(poll_fn(|cx| Poll::Ready(third.as_mut().poll(cx))).await.is_pending());
        assert_eq!(barrier.wait().await?, 2);

        // Dropped on the way out: the next round begins when the others have left.
        let mut next = arrive();
        assert!(poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await.is_pending());
        assert_eq!(barrier.n_waiting(), 0);
        drop(second);
        assert_eq!(barrier.n_waiting(), 0);
        drop(third);
        assert_eq!(barrier.n_waiting(), 0);
        pump(1).await?;
        assert!(poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await.is_pending());
        assert_eq!(barrier.n_waiting(), 1);
        drop(next);
        assert_eq!((barrier.n_waiting(), barrier.broken()), (0, false));
        Ok(())
    });
}

thread_local! {
    static EVENT: Rc<Event> = Rc::default();
    static AGAIN: RefCell<Vec<Waiting>> = RefCell::default();
}

/// A waker that clears the event and waits for it again.
struct WaitAgain;

impl Wake for WaitAgain {
    fn wake(self: Arc<Self>) {
        let event = EVENT.with(Rc::clone);
        event.clear();
        let mut waiting: Waiting = Box::pin(async move { event.wait().await });
        let waker = Waker::from(Arc::clone(&self));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        AGAIN.with(|again| again.borrow_mut().push(waiting));
    }
}

fn l11_a_waker_may_wait_again(on: &Machine) {
    on.run(async {
        Arc::new(WaitAgain).wake();
        Arc::new(WaitAgain).wake();
        let event = EVENT.with(Rc::clone);
        event.set();
        let mut waits = AGAIN.take();
        assert_eq!(waits.len(), 4);
        let mut served = Vec::new();
        for waiting in &mut waits {
            served.push(is_served(waiting).await?);
        }
        assert_eq!(served, [true, true, false, false]);
        drop(waits);
        assert_eq!(format!("{event:?}"), "Event { set: false, waiters: 0 }");
        Ok(())
    });
}
