//! CPython's own tests of queues (`test_queues.py`), where they carry over.

use super::*;
use aioli_core::queue::Store;
use std::cell::Cell;
use std::ops::Deref;

cases! {
    ($) "queues" in upstream_queues as __cases_upstream_queues;
    upstream_maxsize: "Q1" = "test_queues::QueueBasicTests::test_maxsize";
    upstream_blocking_get_wait: "Q2" = "test_queues::QueueGetTests::test_blocking_get_wait";
    upstream_blocking_put_wait: "Q2" = "test_queues::QueuePutTests::test_blocking_put_wait";
    upstream_get_cancelled_race: "CA18" = "test_queues::QueueGetTests::test_get_cancelled_race";
    upstream_get_with_waiting_putters: "Q2"
        = "test_queues::QueueGetTests::test_get_with_waiting_putters",
          "test_queues::QueueGetTests::test_get_with_putters";
    upstream_why_are_getters_waiting: "Q2" = "test_queues::QueueGetTests::test_why_are_getters_waiting";
    upstream_why_are_putters_waiting: "Q2" = "test_queues::QueuePutTests::test_why_are_putters_waiting";
    upstream_cancelled_waiters_are_not_kept: "CA18"
        = "test_queues::QueueGetTests::test_cancelled_getters_not_being_held_in_self_getters",
          "test_queues::QueuePutTests::test_cancelled_puts_not_being_held_in_self_putters";
    upstream_get_cancel_drop_one_pending_reader: "CA18" = "test_queues::QueuePutTests::test_get_cancel_drop_one_pending_reader";
    upstream_get_cancel_drop_many_pending_readers: "CA18"
        = "test_queues::QueuePutTests::test_get_cancel_drop_many_pending_readers";
    upstream_put_cancel_drop: "CA18" = "test_queues::QueuePutTests::test_put_cancel_drop";
    upstream_put_cancelled_race: "CA18" = "test_queues::QueuePutTests::test_put_cancelled_race";
    upstream_put_with_waiting_getters: "Q2" = "test_queues::QueuePutTests::test_put_with_waiting_getters";
    upstream_task_done: "Q4"
        = "test_queues::_QueueJoinTestMixin::test_task_done",
          "test_queues::_QueueJoinTestMixin::test_task_done_underflow",
          "test_queues::_QueueJoinTestMixin::test_join_empty_queue";
    upstream_shutdown: "Q5"
        = "test_queues::_QueueShutdownTestMixin::test_shutdown_empty",
          "test_queues::_QueueShutdownTestMixin::test_shutdown_nonempty",
          "test_queues::_QueueShutdownTestMixin::test_shutdown_immediate",
          "test_queues::_QueueShutdownTestMixin::test_shutdown_immediate_with_unfinished";
    upstream_blocking_get_and_put: "Q1 L2"
        = "test_queues::QueueGetTests::test_blocking_get", "test_queues::QueuePutTests::test_blocking_put";
    upstream_put_cancelled: "Q2" = "test_queues::QueuePutTests::test_put_cancelled";
}

fn upstream_maxsize(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(2));
        let put = Rc::new(RefCell::new(Vec::new()));
        let (putting, noted) = (Rc::clone(&queue), Rc::clone(&put));
        let task = create_task(async move {
            for item in 0..3 {
                putting.put(item).await?;
                noted.borrow_mut().push(item);
            }
            Ok(true)
        });
        pump(2).await?;
        assert_eq!(*put.borrow(), [0, 1]);
        assert_eq!(queue.get().await?, 0);
        sleep(0.0).await?;
        assert_eq!(*put.borrow(), [0, 1, 2]);
        assert_eq!((queue.get().await?, queue.get().await?), (1, 2));
        assert!(task.await?);
        Ok(())
    });
}

fn upstream_blocking_get_wait(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        let getting = Rc::clone(&queue);
        let task = create_task(async move { getting.get().await });
        sleep(0.0).await?;
        assert!(!task.done());
        get_running_loop()?.call_later(0.01, move || queue.put_nowait(1).unwrap())?;
        assert_eq!(task.await?, 1);
        Ok(())
    });
}

fn upstream_blocking_get_and_put(on: &Machine) {
    on.run(async {
        let (queue, before) = (Queue::new(0), get_running_loop()?.turn());
        queue.put_nowait(1)?;
        assert_eq!(queue.get().await?, 1);
        queue.put(2).await?;
        assert_eq!(queue.get().await?, 2);
        assert!(queue.empty());
        assert_eq!(get_running_loop()?.turn(), before, "neither has to wait");
        Ok(())
    });
}

fn upstream_put_cancelled(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        let putter = put_soon(&queue, 1);
        assert_eq!(queue.get().await?, 1);
        assert!(putter.done() && !putter.cancelled());
        putter.await.map(drop)
    });
}

fn upstream_blocking_put_wait(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(1));
        let getting = Rc::clone(&queue);
        get_running_loop()?.call_later(0.01, move || assert_eq!(getting.get_nowait().unwrap(), 1))?;
        let before = get_running_loop()?.time();
        queue.put(1).await?;
        queue.put(2).await?;
        assert_eq!((get_running_loop()?.time() - before).as_millis(), 10);
        Ok(())
    });
}

fn upstream_get_cancelled_race(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        let [t1, t2] = [(); 2].map(|()| {
            let queue = Rc::clone(&queue);
            create_task(async move { queue.get().await })
        });
        sleep(0.0).await?;
        t1.cancel(None);
        sleep(0.0).await?;
        assert!(t1.done());
        queue.put("a").await?;
        sleep(0.0).await?;
        assert_eq!(t2.await?, "a");
        Ok(())
    });
}

fn put_soon<T: 'static>(queue: &Rc<Queue<T>>, item: T) -> Task<()> {
    let queue = Rc::clone(queue);
    create_task(async move { queue.put(item).await })
}

fn upstream_get_with_waiting_putters(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(1));
        let _tasks = ["a", "b"].map(|item| put_soon(&queue, item));
        assert_eq!((queue.get().await?, queue.get().await?), ("a", "b"));
        Ok(())
    });
}

fn upstream_why_are_getters_waiting(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(1));
        let (producing, consuming) = (Rc::clone(&queue), queue);
        task_group(async move |group| {
            group.create_task(async move {
                for item in 0..5 {
                    producing.put(item).await?;
                }
                Ok(())
            })?;
            group.create_task(async move {
                for item in 0..5 {
                    assert_eq!(consuming.get().await?, item);
                }
                Ok(())
            })?;
            Ok(())
        })
        .await
    });
}

fn upstream_why_are_putters_waiting(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(2));
        let got = Rc::clone(&queue);
        task_group(async move |group| {
            group.create_task(async move {
                sleep(0.0).await?;
                for _ in 0..got.qsize() {
                    got.get_nowait()?;
                }
                Ok(())
            })?;
            for item in 0..4 {
                let queue = Rc::clone(&queue);
                group.create_task(async move { queue.put(item).await })?;
            }
            Ok(())
        })
        .await
    });
}

fn upstream_cancelled_waiters_are_not_kept(on: &Machine) {
    on.run(async {
        let queue = Queue::new(1);
        assert!(wait_for(queue.get(), 0.1).await.unwrap_err().is_timeout());
        queue.put(1).await?;
        assert!(wait_for(queue.put(2), 0.1).await.unwrap_err().is_timeout());
        let state = format!("{queue:?}");
        assert!(state.contains("getters: 0, putters: 0"), "{state}");
        Ok(())
    });
}

fn upstream_get_cancel_drop_one_pending_reader(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        let reading = Rc::clone(&queue);
        let reader = create_task(async move { reading.get().await });
        sleep(0.0).await?;
        queue.put_nowait(1)?;
        queue.put_nowait(2)?;
        reader.cancel(None);
        assert!(reader.await.unwrap_err().is_cancelled());
        assert_eq!(queue.get().await?, 1);
        Ok(())
    });
}

fn upstream_get_cancel_drop_many_pending_readers(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        let [r1, r2, r3] = [(); 3].map(|()| {
            let queue = Rc::clone(&queue);
            create_task(async move { queue.get().await })
        });
        sleep(0.0).await?;
        queue.put_nowait(1)?;
        queue.put_nowait(2)?;
        r1.cancel(None);
        assert!(r1.await.unwrap_err().is_cancelled());
        let mut got = [r2.await?, r3.await?];
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        Ok(())
    });
}

fn upstream_put_cancel_drop(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(1));
        queue.put_nowait(1)?;
        let writer = put_soon(&queue, 2);
        sleep(0.0).await?;
        assert_eq!(queue.get_nowait()?, 1);
        writer.cancel(None);
        assert!(writer.await.unwrap_err().is_cancelled());
        queue.put(2).await?;
        assert_eq!(queue.get_nowait()?, 2);
        assert_eq!(queue.qsize(), 0);
        Ok(())
    });
}

fn upstream_put_cancelled_race(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(1));
        let [a, b, x] = ["a", "b", "X"].map(|item| put_soon(&queue, item));
        sleep(0.0).await?;
        assert!(a.done() && !b.done());
        x.cancel(None);
        sleep(0.0).await?;
        assert!(x.done());
        assert_eq!(queue.get_nowait()?, "a");
        sleep(0.0).await?;
        assert_eq!(queue.get_nowait()?, "b");
        b.await
    });
}

fn upstream_put_with_waiting_getters(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        let getting = Rc::clone(&queue);
        let task = create_task(async move { getting.get().await });
        sleep(0.0).await?;
        queue.put("a").await?;
        assert_eq!(task.await?, "a");
        Ok(())
    });
}

/// A queue of any kind, shared.
trait Kind: Deref<Target = Queue<u32, Self::Store>> + Sized + 'static {
    type Store: Store<u32> + 'static;

    fn make(maxsize: usize) -> Rc<Self>;
}

struct Plain(Queue<u32>);

impl Deref for Plain {
    type Target = Queue<u32>;

    fn deref(&self) -> &Queue<u32> {
        &self.0
    }
}

impl Kind for Plain {
    type Store = queue::Fifo<u32>;

    fn make(maxsize: usize) -> Rc<Self> {
        Rc::new(Plain(Queue::new(maxsize)))
    }
}

impl Kind for LifoQueue<u32> {
    type Store = queue::Lifo<u32>;

    fn make(maxsize: usize) -> Rc<Self> {
        Rc::new(LifoQueue::new(maxsize))
    }
}

impl Kind for PriorityQueue<u32> {
    type Store = queue::Heap<u32>;

    fn make(maxsize: usize) -> Rc<Self> {
        Rc::new(PriorityQueue::new(maxsize))
    }
}

fn task_done<Q: Kind>(on: &Machine) {
    on.run(async {
        let queue = Q::make(0);
        assert_eq!(kind(queue.task_done()), ErrorKind::Value);
        (0..100).try_for_each(|item| queue.put_nowait(item))?;
        let shared = Rc::new((Cell::new(true), Cell::new(0)));
        let workers = [(); 2].map(|()| {
            let (queue, shared) = (Rc::clone(&queue), Rc::clone(&shared));
            create_task(async move {
                while shared.0.get() {
                    let item = queue.get().await?;
                    shared.1.set(shared.1.get() + item);
                    queue.task_done()?;
                }
                Ok(())
            })
        });
        queue.join().await?;
        assert_eq!(shared.1.get(), (0..100).sum::<u32>());
        shared.0.set(false);
        for worker in workers {
            queue.put_nowait(0)?;
            worker.await?;
        }
        queue.join().await?;
        queue.join().await
    });
}

fn upstream_task_done(on: &Machine) {
    task_done::<Plain>(on);
    task_done::<LifoQueue<u32>>(on);
    task_done::<PriorityQueue<u32>>(on);
}

/// What `join`, `get` or `put` of a task came to.
fn joining<Q: Kind>(queue: &Rc<Q>) -> Task<()> {
    let queue = Rc::clone(queue);
    create_task(async move { queue.join().await })
}

async fn is_shut_down<Q: Kind>(queue: &Q) {
    assert_eq!(kind(queue.put(9).await), ErrorKind::QueueShutDown);
    assert_eq!(queue.put_nowait(9).unwrap_err().error.kind(), ErrorKind::QueueShutDown);
    assert_eq!(kind(queue.get().await), ErrorKind::QueueShutDown);
    assert_eq!(kind(queue.get_nowait()), ErrorKind::QueueShutDown);
}

fn shutdown_empty<Q: Kind>(on: &Machine) {
    on.run(async {
        let queue = Q::make(0);
        let getting = Rc::clone(&queue);
        let task = create_task(async move { getting.get().await });
        sleep(0.0).await?;
        queue.shutdown(false);
        assert_eq!(queue.qsize(), 0);
        queue.join().await?;
        sleep(0.0).await?;
        assert!(task.done());
        assert_eq!(kind(task.await), ErrorKind::QueueShutDown);
        is_shut_down(&*queue).await;
        Ok(())
    });
}

fn shutdown_nonempty<Q: Kind>(on: &Machine) {
    on.run(async {
        let queue = Q::make(1);
        queue.put_nowait(1)?;
        let joined = joining(&queue);
        let putting = Rc::clone(&queue);
        let task = create_task(async move { putting.put(2).await });
        sleep(0.0).await?;
        assert!(!task.done());
        queue.shutdown(false);
        assert_eq!(queue.qsize(), 1);
        sleep(0.0).await?;
        assert!(task.done());
        assert_eq!(kind(task.await), ErrorKind::QueueShutDown);
        assert_eq!(queue.get().await?, 1);
        sleep(0.0).await?;
        assert!(!joined.done());
        is_shut_down(&*queue).await;
        queue.task_done()?;
        sleep(0.0).await?;
        assert!(joined.done());
        assert_eq!(kind(queue.task_done()), ErrorKind::Value);
        Ok(())
    });
}

fn shutdown_immediate<Q: Kind>(on: &Machine, got: usize) {
    on.run(async move {
        let queue = Q::make(0);
        (0..2).try_for_each(|item| queue.put_nowait(item))?;
        let joined = joining(&queue);
        for _ in 0..got {
            queue.get().await?;
        }
        queue.shutdown(true);
        assert_eq!(queue.qsize(), 0);
        sleep(0.0).await?;
        sleep(0.0).await?;
        assert_eq!(joined.done(), got == 0);
        is_shut_down(&*queue).await;
        for _ in 0..got {
            queue.task_done()?;
        }
        assert_eq!(kind(queue.task_done()), ErrorKind::Value);
        sleep(0.0).await?;
        assert!(joined.done());
        Ok(())
    });
}

fn upstream_shutdown(on: &Machine) {
    fn all<Q: Kind>(on: &Machine) {
        shutdown_empty::<Q>(on);
        shutdown_nonempty::<Q>(on);
        shutdown_immediate::<Q>(on, 0);
        shutdown_immediate::<Q>(on, 1);
    }
    all::<Plain>(on);
    all::<LifoQueue<u32>>(on);
    all::<PriorityQueue<u32>>(on);
}
