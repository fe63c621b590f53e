//! Programs made at random: tasks, scopes, locks, queues and combinators that are cancelled, dropped and moved at any moment. Nothing
//! panics, requests repeated often enough end everything, and then no lock is held, no permit and no item is missing.

mod common;

use std::cell::{Cell, RefCell};
use std::future::IntoFuture;
use std::rc::Rc;

use aioli_core::*;
use common::*;
use futures::future::{Either, FutureExt, join_all, select};
use futures::stream::{FuturesUnordered, StreamExt};

type Boxed = common::Boxed<()>;

/// What all coroutines of a program share.
#[derive(Clone)]
struct World {
    random: Random,
    futures: Rc<RefCell<Vec<Future<()>>>>,
    tasks: Rc<RefCell<Vec<AnyTask>>>,
    shared: Rc<Shared>,
}

/// What they meet at.
struct Shared {
    lock: Lock,
    semaphore: Semaphore,
    event: Event,
    condition: Condition,
    barrier: Barrier,
    queue: Queue<u32>,
    /// Items put, less those got.
    items: Cell<usize>,
    /// One that is shut down now and then, and replaced.
    shutting: RefCell<Rc<Queue<u32>>>,
    token: RefCell<CancelToken>,
}

const PERMITS: usize = 2;

impl Shared {
    fn new() -> Self {
        Shared {
            lock: Lock::new(),
            semaphore: Semaphore::new(PERMITS),
            event: Event::new(),
            condition: Condition::new(),
            barrier: Barrier::new(2).unwrap(),
            queue: Queue::new(2),
            items: Cell::new(0),
            shutting: RefCell::new(Rc::new(Queue::new(1))),
            token: RefCell::new(CancelToken::new()),
        }
    }

    /// Nobody is left that uses any of it.
    async fn check(&self) -> Result<()> {
        assert_eq!(self.queue.qsize(), self.items.get());
        assert_eq!(self.barrier.n_waiting(), 0);
        let before = turn();
        drop(self.lock.lock().await?);
        drop(self.condition.lock().await?);
        let mut permits = Vec::new();
        for _ in 0..PERMITS {
            permits.push(self.semaphore.permit().await?);
        }
        assert!(turn() == before && self.semaphore.locked());
        Ok(())
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let random = Random::new(seed);
        World { random, futures: Rc::default(), tasks: Rc::default(), shared: Rc::new(Shared::new()) }
    }

    /// A number below `n`.
    fn below(&self, n: u64) -> u64 {
        self.random.below(n)
    }

    fn delay(&self) -> f64 {
        self.below(8) as f64 / 2.0
    }

    fn future(&self) -> Future<()> {
        let known = self.futures.borrow();
        if !known.is_empty() && self.below(3) == 0 {
            return known[self.below(known.len() as u64) as usize].clone();
        }
        drop(known);
        let fresh = pending();
        self.futures.borrow_mut().push(fresh.clone());
        fresh
    }

    fn spawn(&self, coroutine: Boxed) -> Task<()> {
        let eager = self.below(4) == 0;
        let task = TaskBuilder::new().eager_start(eager).create_task(coroutine);
        self.tasks.borrow_mut().push(task.view());
        task
    }

    /// Something without an await.
    fn meddle(&self) {
        let task = {
            let tasks = self.tasks.borrow();
            (!tasks.is_empty()).then(|| tasks[self.below(tasks.len() as u64) as usize].clone())
        };
        let future = self.future();
        match (self.below(12), task) {
            (0 | 1, Some(task)) => drop(task.cancel(Some("chaos")).then_some(task)),
            (2, _) => drop(future.set_result(())),
            (3, _) => drop(future.cancel(None).then_some(future)),
            (4, Some(task)) => drop((task.uncancel(), task)),
            (5, _) => self.shared.event.set(),
            (6, _) => self.shared.event.clear(),
            (7, _) => {
                let token = self.shared.token.replace(CancelToken::new());
                token.cancel(Some("token"));
            }
            (8, _) => {
                let queue = self.shared.shutting.replace(Rc::new(Queue::new(1)));
                queue.shutdown(self.below(2) == 0);
            }
            (9, Some(_)) => drop(self.shared.shutting.borrow().get_nowait()),
            _ => drop(self.spawn(self.coroutine(1))),
        }
    }

    /// Has something be done with the task when it is done.
    fn watch(&self, task: &Task<()>) {
        let world = self.clone();
        let id = task.add_done_callback(move |_| world.meddle());
        if self.below(8) == 0 {
            task.remove_done_callback(id);
        }
    }

    fn several(&self, depth: u32) -> FuturesUnordered<Boxed> {
        (0..1 + self.below(5)).map(|_| self.coroutine(depth)).collect()
    }

    /// A coroutine made at random.
    fn coroutine(&self, depth: u32) -> Boxed {
        let world = self.clone();
        // The first and the last of them need no other.
        let kind = match self.below(if depth == 0 { 13 } else { 50 }) {
            kind if depth == 0 && kind >= 9 => kind + 37,
            kind => kind,
        };
        Box::pin(async move {
            let inner = || world.coroutine(depth - 1);
            let shared = &world.shared;
            match kind {
                0 => sleep(world.delay()).await,
                1 => pump(1 + world.below(3) as u32).await,
                2 => (&world.future()).await,
                3 if world.below(4) == 0 => foreign().await,
                3 | 4 => {
                    world.meddle();
                    sleep(0.0).await
                }
                5 => {
                    shared.queue.put(1).await?;
                    shared.items.set(shared.items.get() + 1);
                    Ok(())
                }
                6 => {
                    shared.queue.get().await?;
                    shared.items.set(shared.items.get() - 1);
                    Ok(())
                }
                7 => shared.event.wait().await,
                8 => shared.barrier.wait().await.map(drop),
                9 | 10 => timeout(world.delay(), inner()).await,
                11 => {
                    task_group(async |group| {
                        for _ in 0..1 + world.below(3) {
                            let task = group.create_task(inner())?;
                            world.tasks.borrow_mut().push(task.view());
                        }
                        inner().await
                    })
                    .await
                }
                12 => {
                    let (one, other) = futures::join!(inner(), inner());
                    one.and(other)
                }
                13 => match select(inner(), inner()).await {
                    Either::Left((result, other)) if world.below(2) == 0 => result.and(other.await),
                    Either::Left((result, _)) | Either::Right((result, _)) => result,
                },
                14 => {
                    let mut all: FuturesUnordered<_> = (0..1 + world.below(4)).map(|_| inner()).collect();
                    while let Some(result) = all.next().await {
                        result.or_else(|error| if world.below(2) == 0 { Ok(()) } else { Err(error) })?;
                    }
                    Ok(())
                }
                15 => join_all((0..1 + world.below(3)).map(|_| inner())).await.into_iter().collect(),
                16 => world.spawn(inner()).await,
                17 => gather([inner(), inner()]).await.map(drop),
                18 => gather_results((world.spawn(inner()), world.future(), inner())).await.map(drop),
                19 => shield(inner()).await,
                20 => {
                    let tasks = [world.spawn(inner()), world.spawn(inner())];
                    wait(&tasks).timeout(world.delay()).return_when(ReturnWhen::FirstCompleted).await.map(drop)
                }
                21 => {
                    // Swallows a cancellation, and then goes on.
                    drop(inner().await);
                    inner().await
                }
                22 => {
                    let mut begun = inner();
                    match touch(begun.as_mut()).await {
                        std::task::Poll::Ready(result) => result,
                        std::task::Poll::Pending if world.below(3) == 0 => Ok(()),
                        std::task::Poll::Pending if world.below(2) == 0 => world.spawn(begun).await,
                        std::task::Poll::Pending => timeout(world.delay(), begun).await,
                    }
                }
                23 => {
                    let task = world.spawn(inner());
                    wait_for(&task, if world.below(2) == 0 { 0.0 } else { world.delay() }).await
                }
                24 => {
                    me().cancel(None);
                    inner().await
                }
                25 => {
                    let _guard = shared.lock.lock().await?;
                    inner().await
                }
                26 => {
                    let _permit = shared.semaphore.permit().await?;
                    inner().await
                }
                27 => {
                    let mut guard = shared.condition.lock().await?;
                    if world.below(2) == 0 {
                        guard.notify(1)?;
                        // A waiter takes the lock again before it is cancelled, so what holds the lock must be one that can be:
                        // foreign awaits can in a scope of their own.
                        return timeout(100.0, inner()).await;
                    }
                    guard.wait().await
                }
                28 => {
                    let token = shared.token.borrow().child();
                    token.run(inner()).await
                }
                29 => std::future::pending::<()>().cancellable().await,
                31..=45 => world.knot(kind, depth).await,
                46 => {
                    let queue = Rc::clone(&shared.shutting.borrow());
                    let put = queue.put(1);
                    match select(put, Box::pin(sleep(world.delay()))).await {
                        Either::Left((result, _)) => shut_down_or(result),
                        Either::Right((result, _)) => result,
                    }
                }
                47 => {
                    let queue = Rc::clone(&shared.shutting.borrow());
                    shut_down_or(queue.get().await)?;
                    drop(queue.task_done());
                    Ok(())
                }
                48 => {
                    let queue = Rc::clone(&shared.shutting.borrow());
                    queue.join().await
                }
                49 if world.below(3) == 0 => shared.barrier.abort().await,
                49 => shared.barrier.reset().await,
                _ => {
                    let future = world.future();
                    let (one, other) = futures::join!((&future).into_future(), timeout(world.delay(), foreign()));
                    one.and(other)
                }
            }
        })
    }
}

fn shut_down_or<T>(result: Result<T>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::QueueShutDown => Ok(()),
        result => result.map(drop),
    }
}

impl World {
    /// Several things at once.
    fn knot(&self, kind: u64, depth: u32) -> Boxed {
        let world = self.clone();
        Box::pin(async move {
            let inner = || world.coroutine(depth - 1);
            match kind {
                31 | 32 => {
                    let all = as_completed([inner(), inner(), inner()]).timeout(world.delay());
                    for _ in 0..world.below(4) {
                        if let Some(result) = all.next().await {
                            result?;
                        }
                    }
                    Ok(())
                }
                33 => {
                    WORLD.set(Some(world.clone()));
                    let made = || WORLD.with_borrow(|world| world.as_ref().map(|world| world.coroutine(1)));
                    let future = event_loop().remote().run_coroutine_threadsafe(async move || match made() {
                        Some(coroutine) => coroutine.await,
                        None => Ok(()),
                    });
                    match world.below(5) {
                        0 => drop(future.cancel()),
                        1 => return Ok(()),
                        2 => {
                            inner().await?;
                            future.cancel();
                        }
                        3 => return timeout(world.delay(), future).await,
                        _ => (),
                    }
                    future.cancellable().await?
                }
                34 => {
                    let (parent, deed) = (me(), inner());
                    let child = TaskBuilder::new().eager_start(true).create_task(async move {
                        parent.cancel(Some("child"));
                        deed.await
                    });
                    world.tasks.borrow_mut().push(child.view());
                    child.await
                }
                35 | 36 => {
                    let task = world.spawn(inner());
                    world.watch(&task);
                    if world.below(2) == 0 { task.await } else { inner().await }
                }
                37 => {
                    let failing = task_group(async |group| {
                        for _ in 0..3 {
                            let deed = inner();
                            let task = group.create_task(async move { deed.await.and(fail("a child").await) })?;
                            world.watch(&task);
                        }
                        inner().await.and(fail("the body").await)
                    });
                    failing.await.or_else(|error| if error.kind() == ErrorKind::Group { Ok(()) } else { Err(error) })
                }
                38 => {
                    let nested =
                        timeout(world.delay(), timeout(world.delay(), wait_for(shield(inner()), world.delay())));
                    shield(nested).await
                }
                39 => {
                    // Abandoned when some are done, or at any moment.
                    let mut all = world.several(depth - 1);
                    let some = async {
                        for _ in 0..world.below(4) {
                            all.next().await.unwrap_or(Ok(()))?;
                        }
                        Ok(())
                    };
                    timeout(world.delay(), some).await
                }
                40 | 41 => {
                    // Begun here, and gone on with elsewhere.
                    let mut all = world.several(depth - 1);
                    if let std::task::Poll::Ready(Some(result)) = touch(std::pin::pin!(all.next())).await {
                        result?;
                    }
                    let beside = inner();
                    let rest = async move { futures::join!(all.collect::<Vec<_>>(), beside).1 };
                    let task = world.spawn(Box::pin(rest));
                    if world.below(2) == 0 { task.await } else { inner().await }
                }
                42 => {
                    // One is put aside while others are awaited.
                    let mut aside = inner();
                    for _ in 0..3 {
                        match select(aside, inner()).await {
                            Either::Left((result, _)) => return result,
                            Either::Right((result, rest)) => {
                                result?;
                                aside = rest;
                            }
                        }
                        if world.below(3) == 0 {
                            timeout(world.delay(), foreign()).await?;
                        }
                    }
                    aside.await
                }
                43 => {
                    let left = cancellable_task_group(async |group| {
                        world.watch(&group.create_task(inner())?);
                        let outside = group.clone();
                        event_loop().call_later(world.delay(), move || outside.cancel())?;
                        inner().await
                    });
                    left.await.map(drop)
                }
                44 => {
                    let mut guard = world.shared.condition.lock().await?;
                    guard.wait_for(|| world.below(3) == 0).await?;
                    guard.notify_all()
                }
                _ => {
                    let (one, other) = (inner().shared(), inner());
                    let task = world.spawn(Box::pin(one.clone()));
                    let (a, b) = futures::join!(one, other);
                    drop(task);
                    a.and(b)
                }
            }
        })
    }
}

thread_local! {
    /// For what is sent to the loop as from another thread.
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Runs one program. Returns how many tasks it made.
fn program(seed: u64) -> usize {
    let made = Rc::new(Cell::new(0));
    let count = Rc::clone(&made);
    let seen = reports(async move {
        let world = World::new(seed);
        for _ in 0..8 {
            drop(world.spawn(world.coroutine(4)));
        }
        for _ in 0..20 {
            sleep(world.delay()).await?;
            world.meddle();
        }
        for _ in 0..200 {
            let left: Vec<_> = all_tasks().into_iter().filter(|task| *task != me()).collect();
            if left.is_empty() {
                break;
            }
            left.iter().for_each(|task| _ = task.cancel(None));
            sleep(20.0).await?;
        }
        assert_eq!(all_tasks(), [me()], "seed {seed}");
        assert_eq!(me().cancelling(), 0);
        WORLD.take();
        world.shared.check().await?;
        count.set(world.tasks.borrow().len());
        for task in world.tasks.borrow().iter() {
            let error = task.exception().unwrap_or_else(Some);
            assert!(error.is_none_or(|error| error.kind() != ErrorKind::Panicked), "seed {seed}: {task:?}");
        }
        Ok(())
    });
    for report in seen {
        assert!(report.error.is_some_and(|error| error.kind() != ErrorKind::Panicked), "seed {seed}");
    }
    made.get()
}

#[test]
fn ends_when_it_is_cancelled_often_enough() {
    let programs = seeds(1500);
    let count = programs.end - programs.start;
    let tasks: usize = programs.map(program).sum();
    assert!(tasks as u64 >= count, "{tasks}");
    assert!(count < 100 || tasks as u64 > count * 10, "{tasks}");
}
