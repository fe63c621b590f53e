//! Programs made at random of aioli's awaits and scopes and of other crates' combinators, in which everybody passes a cancellation on.
//! One request ends each of them, at whatever moment it comes; and that of a scope reaches nobody outside of it.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future as StdFuture, IntoFuture};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use aioli_core::*;
use common::*;
use futures::future::{AbortHandle, Abortable, Either, FutureExt, join_all, select, select_all, try_join_all};
use futures::stream::{FuturesOrdered, FuturesUnordered, StreamExt};

type Boxed = Pin<Box<dyn StdFuture<Output = Result<()>>>>;

#[derive(Clone)]
struct World {
    random: Random,
    shared: Rc<Shared>,
    /// What was made, for the message of a failure.
    made: Rc<RefCell<String>>,
    /// Whether anything in it ends by itself.
    lively: bool,
    /// How many combinators that poll only what was woken are around what is made now.
    inside: Rc<Cell<u32>>,
}

struct Shared {
    lock: Lock,
    event: Event,
    semaphore: Semaphore,
    condition: Condition,
    empty: Queue<u32>,
    full: Queue<u32>,
    /// Of the channels that stay silent.
    senders: RefCell<Vec<futures::channel::oneshot::Sender<()>>>,
}

impl World {
    /// In even programs some things end by themselves.
    fn new(seed: u64) -> Self {
        let shared = Shared {
            lock: Lock::new(),
            event: Event::new(),
            semaphore: Semaphore::new(0),
            condition: Condition::new(),
            empty: Queue::new(0),
            full: Queue::new(1),
            senders: RefCell::default(),
        };
        let random = Random::new(seed);
        shared.full.put_nowait(1).unwrap();
        World {
            random,
            shared: Rc::new(shared),
            made: Rc::default(),
            lively: seed.is_multiple_of(2),
            inside: Rc::default(),
        }
    }

    fn below(&self, n: u64) -> u64 {
        self.random.below(n)
    }

    fn leaf(&self) -> Boxed {
        let shared = Rc::clone(&self.shared);
        let kind = self.below(if self.lively { 20 } else { 14 });
        self.made.borrow_mut().push_str(&format!("leaf{kind} "));
        let turns = self.below(6) as u32;
        let (sender, receiver) = futures::channel::oneshot::channel();
        if kind == 18 {
            let _ = event_loop().call_later(f64::from(turns) / 8.0, move || _ = sender.send(()));
        } else {
            self.shared.senders.borrow_mut().push(sender);
        }
        Box::pin(async move {
            match kind {
                0 => sleep(1000.0).await,
                1 => hang().await,
                2 => shared.event.wait().await,
                3 => shared.lock.lock().await.map(drop),
                4 => shared.semaphore.acquire().await,
                5 => shared.empty.get().await.map(drop),
                6 => shared.full.put(7).await,
                7 => {
                    let mut guard = shared.condition.lock().await?;
                    guard.wait().await
                }
                8 => timeout(1000.0, foreign()).await,
                9 => foreign().cancellable().await?,
                10 => pump(5000).await,
                11 => create_task(hang()).await,
                12 => gather((hang(), sleep(1000.0))).await.map(drop),
                13 => shield(sleep(1000.0)).await,
                14 | 15 => sleep(f64::from(turns) / 8.0).await,
                16 => pump(turns).await,
                17 => ready(()).await,
                18 => match timeout(1000.0, async { Ok(receiver.await) }).await {
                    Ok(received) => Ok(received?),
                    Err(error) => Err(error),
                },
                _ => timeout(f64::from(turns) / 8.0, sleep(f64::from(turns) / 8.0))
                    .await
                    .or_else(|error| if error.is_timeout() { Ok(()) } else { Err(error) }),
            }
        })
    }

    fn coroutine(&self, depth: u32) -> Boxed {
        if depth == 0 || self.below(6) == 0 {
            return self.leaf();
        }
        let kind = self.below(27);
        self.made.borrow_mut().push_str(&format!("{kind}( "));
        let count = 2 + self.below(3);
        let selective = u32::from(matches!(kind, 14 | 17 | 18 | 23 | 24));
        self.inside.set(self.inside.get() + selective);
        // What moves out of such a combinator to another task is a leaf: it would not be noticed that a combinator does.
        let one = if kind == 15 && self.inside.get() > 0 { self.leaf() } else { self.coroutine(depth - 1) };
        let other = self.coroutine(depth - 1);
        let more: Vec<_> =
            (0..if (20..26).contains(&kind) { count } else { 0 }).map(|_| self.coroutine(depth - 1)).collect();
        self.inside.set(self.inside.get() - selective);
        self.made.borrow_mut().push_str(") ");
        let world = self.clone();
        Box::pin(async move {
            match kind {
                0 => timeout(1000.0, one).await.and(Ok(())),
                1 => CancelToken::new().run(one).await,
                2 => {
                    task_group(async |group| {
                        group.create_task(one)?;
                        other.await
                    })
                    .await
                }
                3 => {
                    let (a, b) = futures::join!(one, other);
                    a.and(b)
                }
                4 => futures::try_join!(one, other).map(drop),
                5 => match select(one, other).await {
                    Either::Left((result, other)) => {
                        result?;
                        other.await
                    }
                    Either::Right((result, _)) => result,
                },
                6 => match select(one, other).await {
                    Either::Left((result, _)) | Either::Right((result, _)) => result,
                },
                7 => {
                    let (mut a, mut b) = (one.fuse(), other.fuse());
                    let mut left = 2;
                    while left > 0 {
                        left -= 1;
                        futures::select! {
                            result = a => result?,
                            result = b => result?,
                        }
                    }
                    Ok(())
                }
                8 => {
                    let (handle, registration) = AbortHandle::new_pair();
                    let result = Abortable::new(one, registration).await;
                    drop(handle);
                    result?
                }
                9 => one.cancellable().await?,
                10 => create_task(one).await,
                11 => {
                    let task = TaskBuilder::new().eager_start(true).create_task(one);
                    (&task).await
                }
                12 => gather((one, other)).await.map(drop),
                13 => {
                    let mut one = one;
                    match touch(one.as_mut()).await {
                        Poll::Ready(result) => result,
                        Poll::Pending => timeout(1000.0, one).await,
                    }
                }
                14 => {
                    let mut one = one;
                    match touch(one.as_mut()).await {
                        Poll::Ready(result) => result,
                        Poll::Pending => {
                            let mut all: FuturesUnordered<_> = [one, other].into_iter().collect();
                            while let Some(result) = all.next().await {
                                result?;
                            }
                            Ok(())
                        }
                    }
                }
                15 => {
                    let mut one = one;
                    // Until combinators in combinators have polled all and no longer yield: before, it would not be noticed that
                    // the outer one moves.
                    for _ in 0..=depth {
                        if let Poll::Ready(result) = touch(one.as_mut()).await {
                            return result;
                        }
                    }
                    create_task(one).await
                }
                16 => {
                    let (remote, handle) = one.remote_handle();
                    let (_, result) = futures::join!(remote, handle);
                    result
                }
                17 => {
                    let shared = one.shared();
                    let (a, b) = futures::join!(shared.clone(), shared);
                    a.and(b)
                }
                18 => {
                    let mut all = futures::stream::iter([one, other]).buffer_unordered(2);
                    while let Some(result) = all.next().await {
                        result?;
                    }
                    Ok(())
                }
                19 => wait_for(one, 1000.0).await,
                20 => join_all(more).await.into_iter().collect(),
                21 => try_join_all(more).await.map(drop),
                22 => {
                    let (result, _, rest) = select_all(more).await;
                    result?;
                    try_join_all(rest).await.map(drop)
                }
                23 => {
                    let mut all: FuturesUnordered<_> = more.into_iter().collect();
                    while let Some(result) = all.next().await {
                        result?;
                    }
                    Ok(())
                }
                24 => {
                    let mut all: FuturesOrdered<_> = more.into_iter().collect();
                    while let Some(result) = all.next().await {
                        result?;
                    }
                    Ok(())
                }
                26 => {
                    let mut aside = other;
                    match touch(aside.as_mut()).await {
                        Poll::Ready(result) => result.and(one.await),
                        Poll::Pending => one.await,
                    }
                }
                _ => {
                    let tasks: Vec<_> = more.into_iter().map(create_task).collect();
                    let (done, pending) = match world.below(2) {
                        0 => wait(&tasks).await?,
                        _ => wait(&tasks).return_when(ReturnWhen::FirstCompleted).await?,
                    };
                    drop((done, pending));
                    for task in &tasks {
                        task.into_future().await?;
                    }
                    Ok(())
                }
            }
        })
    }
}

fn is_cancellation(error: &Error) -> bool {
    error.is_cancelled() || error.kind() == ErrorKind::Group && error.errors().iter().all(is_cancellation)
}

/// Waits until `done`, while no time passes.
async fn soon_done(done: impl Fn() -> bool) -> Result<bool> {
    for _ in 0..400 {
        if done() {
            return Ok(true);
        }
        sleep(0.0).await?;
    }
    Ok(false)
}

/// Ends all other tasks. More than one round: a request may find a task about to make another one.
async fn end_all() -> Result<()> {
    for _ in 0..3 {
        all_tasks().into_iter().filter(|task| *task != me()).for_each(|task| _ = task.cancel(None));
        soon_done(|| all_tasks().len() == 1).await?;
    }
    assert_eq!(all_tasks(), [me()]);
    Ok(())
}

fn programs(program: fn(u64)) {
    seeds(500).for_each(program);
}

#[test]
fn to_a_task_is_enough() {
    programs(|seed| {
        let seen = reports(async move {
            let world = World::new(seed);
            let held = world.shared.lock.lock().await?;
            let task = create_task(world.coroutine(1 + (seed % 4) as u32));
            let turns = world.below(12) as u32;
            if world.lively {
                sleep(f64::from(turns) / 16.0).await?;
            }
            pump(turns).await?;
            let asked = task.cancel(Some("enough"));
            let ended = soon_done(|| task.done()).await?;
            let text = format!("seed {seed}, after {turns} turns: {}", world.made.borrow());
            assert!(ended, "{text}");
            if asked {
                let error = task.take_result().err();
                assert!(error.as_ref().is_some_and(is_cancellation), "{text}: {error:?}");
            }
            end_all().await?;
            drop(held);
            Ok(())
        });
        assert!(
            seen.iter().all(|report| report.error.as_ref().is_none_or(|error| error.kind() != ErrorKind::Panicked))
        );
    });
}

/// Something under a scope that is asked to end.
fn scope(kind: u64, delay: f64, token: CancelToken, body: Boxed) -> Boxed {
    match kind {
        0 => Box::pin(timeout(delay, body)),
        1 | 2 => Box::pin(async move { token.run(body).await }),
        _ => Box::pin(async move {
            let left = cancellable_task_group(async |group| {
                let inside = group.clone();
                event_loop().call_later(delay, move || inside.cancel())?;
                group.create_task(body)?;
                hang().await
            });
            left.await.map(drop)
        }),
    }
}

#[test]
fn to_a_scope_is_enough_and_reaches_nobody_else() {
    programs(|seed| {
        sim(async move {
            event_loop().set_exception_handler(Some(Box::new(|_| ())));
            let world = World::new(seed);
            let held = world.shared.lock.lock().await?;
            let (depth, order) = (1 + (seed % 4) as u32, world.below(3));
            world.inside.set(u32::from(order == 1));
            let (body, beside) = (world.coroutine(depth), world.coroutine(depth));
            let (turns, kind) = (world.below(12) as u32, world.below(4));
            let text = format!("seed {seed}, {kind}, {order}, after {turns} turns: {}", world.made.borrow());

            let delay = f64::from(turns) / 16.0;
            let token = CancelToken::new();
            let inside = scope(kind, delay, token.clone(), body);
            // Whether the scope has ended, what is beside it was cancelled, and the test itself cancels.
            let [ended, reached, over]: [Rc<Cell<bool>>; 3] = Default::default();
            let (e, r, o) = (Rc::clone(&ended), Rc::clone(&reached), Rc::clone(&over));
            let task = create_task(async move {
                let stops = Rc::clone(&o);
                let inside: Boxed = Box::pin(async move {
                    let result = inside.await;
                    e.set(true);
                    result
                });
                let beside: Boxed = Box::pin(async move {
                    let result = beside.await;
                    r.set(result.as_ref().is_err_and(is_cancellation) && !stops.get());
                    result
                });
                match order {
                    0 => drop(select(beside, inside).await),
                    1 => drop(FuturesUnordered::from_iter([inside, beside]).collect::<Vec<_>>().await),
                    _ => drop(futures::join!(inside, beside)),
                }
                Ok((o.get(), me().cancelling()))
            });
            sleep(delay).await?;
            if matches!(kind, 1 | 2) {
                pump(turns).await?;
                token.cancel(None);
            }
            assert!(soon_done(|| task.done() || ended.get()).await?, "{text}");
            assert!(!reached.get(), "{text}");
            over.set(true);
            end_all().await?;
            if let Ok((cancelled, counted)) = task.take_result() {
                assert!(cancelled || counted == 0, "{text}");
            }
            drop(held);
            Ok(())
        });
    });
}
