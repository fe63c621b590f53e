//! Rules of queues that are no traces.

use super::*;

cases! {
    ($) "queues" in queues as __cases_queues;
    q1_limits: "Q1" = "test_queues::QueueBasicTests::test_empty", "test_queues::QueueBasicTests::test_full";
    a_refused_item_is_dropped_by_the_question_mark: "L4 Q1";
    l4_a_put_that_fails_still_has_its_item: "L4";
    l4_a_get_that_is_cancelled_leaves_the_item: "L4 CA18";
    l11_items_may_use_the_queue_while_they_are_dropped: "L11";
    the_three_kinds_have_one_interface: "Q1";
    an_immediate_shutdown_empties_every_kind: "Q5" = "test_queues::_QueueShutdownTestMixin::test_shutdown_immediate";
    debug_output_tells_the_state: "X8"
        = "test_queues::QueueBasicTests::test_repr",
          "test_queues::QueueBasicTests::test_str",
          "test_queues::_QueueJoinTestMixin::test_format",
          "test_queues::_QueueShutdownTestMixin::test_format";
}

fn q1_limits(_: &Machine) {
    let queue = Queue::new(2);
    assert_eq!(queue.maxsize(), 2);
    assert!(queue.empty() && !queue.full());
    assert_eq!(kind(queue.get_nowait()), ErrorKind::QueueEmpty);
    queue.put_nowait(1).unwrap();
    queue.put_nowait(2).unwrap();
    assert!(queue.full() && !queue.empty());
    assert_eq!(queue.qsize(), 2);
    let refused = queue.put_nowait(3).unwrap_err();
    assert_eq!((refused.error.kind(), refused.item), (ErrorKind::QueueFull, 3));
    let unlimited = LifoQueue::new(0);
    (0..1000).for_each(|item| unlimited.put_nowait(item).unwrap());
    assert!(!unlimited.full());
}

fn a_refused_item_is_dropped_by_the_question_mark(_: &Machine) {
    fn fill(queue: &Queue<Rc<()>>, item: &Rc<()>) -> Result<()> {
        loop {
            queue.put_nowait(Rc::clone(item))?;
        }
    }
    let (queue, item) = (Queue::new(3), Rc::new(()));
    let error = fill(&queue, &item).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QueueFull);
    assert_eq!(Rc::strong_count(&item), 4);
    let refused = queue.put_nowait(item).unwrap_err();
    assert_eq!(format!("{refused}"), "the queue is full");
    assert_eq!(format!("{refused:?}"), "PutError { error: QueueFull(the queue is full), .. }");
}

fn l4_a_put_that_fails_still_has_its_item(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(1));
        queue.put(0).await?;

        // A deadline.
        let mut put = queue.put(1);
        assert!(timeout(1.0, &mut put).await.unwrap_err().is_timeout());
        // It can be tried again, and be cancelled again.
        assert!(timeout(1.0, &mut put).await.unwrap_err().is_timeout());
        assert_eq!(queue.get().await?, 0);
        (&mut put).await?;
        assert_eq!(kind((&mut put).await), ErrorKind::InvalidState);
        assert_eq!(put.into_item(), None);
        assert_eq!(queue.get().await?, 1);

        // A cancelled task.
        queue.put(2).await?;
        let owner = Rc::clone(&queue);
        let task = create_task(async move {
            let mut put = owner.put(3);
            let error = (&mut put).await.unwrap_err();
            assert!(error.is_cancelled());
            Ok(put.into_item())
        });
        sleep(0.0).await?;
        task.cancel(None);
        assert_eq!(task.await?, Some(3));

        // A shutdown.
        let owner = Rc::clone(&queue);
        let task = create_task(async move {
            let mut put = owner.put(4);
            assert_eq!(kind((&mut put).await), ErrorKind::QueueShutDown);
            Ok(put.into_item())
        });
        sleep(0.0).await?;
        queue.shutdown(false);
        assert_eq!(task.await?, Some(4));
        let mut late = queue.put(5);
        assert_eq!(kind((&mut late).await), ErrorKind::QueueShutDown);
        assert_eq!(late.into_item(), Some(5));
        assert_eq!(queue.get().await?, 2);
        Ok(())
    });
}

fn l4_a_get_that_is_cancelled_leaves_the_item(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        assert!(timeout(1.0, queue.get()).await.unwrap_err().is_timeout());
        queue.put(1).await?;
        assert_eq!(timeout(1.0, queue.get()).await?, 1);
        Ok(())
    });
}

/// An item whose destructor uses its queue.
struct Nosy {
    queue: Rc<Queue<Nosy>>,
    seen: Rc<RefCell<Vec<(usize, bool)>>>,
}

impl Drop for Nosy {
    fn drop(&mut self) {
        let refused = self.queue.get_nowait().is_err();
        self.seen.borrow_mut().push((self.queue.qsize(), refused));
        self.queue.shutdown(true);
    }
}

fn l11_items_may_use_the_queue_while_they_are_dropped(on: &Machine) {
    on.run(async {
        let (queue, seen) = (Rc::new(Queue::new(0)), Rc::default());
        for _ in 0..3 {
            queue.put_nowait(Nosy { queue: Rc::clone(&queue), seen: Rc::clone(&seen) })?;
        }
        let joined = Rc::clone(&queue);
        let joined = create_task(async move { joined.join().await });
        sleep(0.0).await?;
        queue.shutdown(true);
        assert_eq!(*seen.borrow(), [(0, true); 3]);
        joined.await
    });
}

fn the_three_kinds_have_one_interface(on: &Machine) {
    async fn through<S: queue::Store<u32>>(queue: &Queue<u32, S>) -> Result<Vec<u32>> {
        for item in [3, 1, 2] {
            queue.put(item).await?;
        }
        let mut items = Vec::new();
        while !queue.empty() {
            items.push(queue.get().await?);
            queue.task_done()?;
        }
        queue.join().await?;
        Ok(items)
    }
    on.run(async {
        assert_eq!(through(&Queue::new(3)).await?, [3, 1, 2]);
        assert_eq!(through(&LifoQueue::new(3)).await?, [2, 1, 3]);
        assert_eq!(through(&PriorityQueue::new(3)).await?, [1, 2, 3]);
        Ok(())
    });
}

fn an_immediate_shutdown_empties_every_kind(_: &Machine) {
    fn emptied<S: queue::Store<Rc<u32>>>(queue: &Queue<Rc<u32>, S>) {
        let item = Rc::new(1);
        (0..3).for_each(|_| queue.put_nowait(Rc::clone(&item)).unwrap());
        queue.shutdown(true);
        assert_eq!((queue.qsize(), Rc::strong_count(&item)), (0, 1));
        assert_eq!(kind(queue.get_nowait()), ErrorKind::QueueShutDown);
        assert_eq!(kind(queue.task_done()), ErrorKind::Value);
    }
    emptied(&Queue::new(0));
    emptied(&LifoQueue::new(0));
    emptied(&PriorityQueue::new(0));
}

fn debug_output_tells_the_state(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(1));
        queue.put(1).await?;
        let putter = Rc::clone(&queue);
        create_task(async move { putter.put(2).await });
        sleep(0.0).await?;
        let state = "Queue { maxsize: 1, qsize: 1, getters: 0, putters: 1, unfinished: 1, shut_down: false }";
        assert_eq!(format!("{queue:?}"), state);
        let lifo = format!("{:?}", LifoQueue::<u32>::new(0));
        assert!(lifo.starts_with("LifoQueue(Queue { maxsize: 0, qsize: 0,"), "{lifo}");
        Ok(())
    });
}
