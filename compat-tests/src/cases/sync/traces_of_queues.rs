//! Traces of queues.

use super::*;

cases! {
    ($) "queues" in traces_of_queues as __cases_traces_of_queues;
    d6_an_item_for_a_cancelled_getter_goes_to_the_next_or_stays: "CA18 L4";
    d6_room_for_a_cancelled_putter_goes_to_the_next: "CA18";
    d6_q3_a_getter_whose_item_was_taken_waits_again_at_the_end: "Q3";
    l1_a_consumer_that_does_not_suspend_drains_ahead_of_the_putters: "Q2";
    l2_q2_getters_are_served_in_the_order_of_coming: "Q2";
    l3_q3_a_putter_whose_room_was_taken_waits_again_at_the_end: "Q3";
    l4_q4_join_returns_when_the_count_was_zero: "Q4";
    l5_q5_a_shutdown_refuses_putters_though_there_is_room_and_drains_for_getters: "Q5";
    l5_q5_a_shutdown_ends_every_getter: "Q5";
    l5_q5_an_immediate_shutdown_counts_what_was_left_as_done: "Q5";
    l5_q5_an_immediate_shutdown_waits_for_what_was_got: "Q5"
        = "test_queues::_QueueShutdownTestMixin::test_shutdown_immediate_with_unfinished";
    l6_q1_orders: "Q1"
        = "test_queues::QueueBasicTests::test_order",
          "test_queues::LifoQueueTests::test_order",
          "test_queues::PriorityQueueTests::test_order";
}

fn getters<T: Debug + 'static>(trace: &Trace, queue: &Rc<Queue<T>>, names: &[&'static str]) -> Vec<Task<T>> {
    let spawn = |name: &&'static str| {
        let queue = Rc::clone(queue);
        trace.spawn(*name, async move { queue.get().await })
    };
    names.iter().map(spawn).collect()
}

fn putters(trace: &Trace, queue: &Rc<Queue<&'static str>>, items: &[&'static str]) -> Vec<Task<()>> {
    let spawn = |item: &&'static str| {
        let (queue, item) = (Rc::clone(queue), *item);
        trace.spawn(item, async move { queue.put(item).await })
    };
    items.iter().map(spawn).collect()
}

fn d6_an_item_for_a_cancelled_getter_goes_to_the_next_or_stays(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        let trace = Trace::begin();
        let tasks = getters(&trace, &queue, &["t1", "t2"]);
        pump(1).await?;
        queue.put_nowait("item")?;
        tasks[0].cancel(None);
        pump(4).await?;
        trace.note(queue.qsize());
        trace.expect(&["t1!Cancelled+2", "t2:\"item\"+3", "0+5"]);

        let trace = Trace::begin();
        let tasks = getters(&trace, &queue, &["t1"]);
        pump(1).await?;
        queue.put_nowait("item")?;
        tasks[0].cancel(None);
        pump(4).await?;
        trace.note(queue.qsize());
        trace.expect(&["t1!Cancelled+2", "1+5"]);
        Ok(())
    });
}

fn d6_room_for_a_cancelled_putter_goes_to_the_next(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(1));
        queue.put_nowait("0")?;
        let trace = Trace::begin();
        let tasks = putters(&trace, &queue, &["1", "2"]);
        pump(1).await?;
        queue.get_nowait()?;
        tasks[0].cancel(None);
        pump(4).await?;
        trace.note(queue.get_nowait()?);
        trace.expect(&["1!Cancelled+2", "2:()+3", "2+5"]);
        assert!(queue.empty());
        Ok(())
    });
}

fn d6_q3_a_getter_whose_item_was_taken_waits_again_at_the_end(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        let trace = Trace::begin();
        let _tasks = getters(&trace, &queue, &["t1", "t2"]);
        pump(1).await?;
        queue.put_nowait("A")?;
        trace.note(queue.get_nowait()?);
        pump(3).await?;
        queue.put_nowait("B")?;
        pump(2).await?;
        queue.put_nowait("C")?;
        pump(2).await?;
        trace.expect(&["A+1", "t2:\"B\"+5", "t1:\"C\"+7"]);
        Ok(())
    });
}

fn l1_a_consumer_that_does_not_suspend_drains_ahead_of_the_putters(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(2));
        let trace = Trace::begin();
        for item in 0..5 {
            let (trace, queue) = (trace.clone(), Rc::clone(&queue));
            create_task(async move {
                queue.put(item).await?;
                trace.note(format!("put{item}"));
                Ok(())
            });
        }
        pump(2).await?;
        trace.note(format!("{} {}", queue.full(), queue.qsize()));
        for _ in 0..5 {
            let item = queue.get().await?;
            trace.note(format!("got{item}"));
        }
        pump(2).await?;
        let mut expected = vec!["put0+1", "put1+1", "true 2+2", "got0+2", "got1+2", "put2+3", "put3+3"];
        expected.extend(["got2+4", "got3+4", "put4+5", "got4+6"]);
        trace.expect(&expected);
        Ok(())
    });
}

fn l2_q2_getters_are_served_in_the_order_of_coming(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        let trace = Trace::begin();
        let _tasks = getters(&trace, &queue, &["g0", "g1", "g2"]);
        pump(1).await?;
        queue.put_nowait('a')?;
        queue.put_nowait('b')?;
        sleep(0.0).await?;
        queue.put_nowait('c')?;
        pump(3).await?;
        trace.expect(&["g0:'a'+2", "g1:'b'+2", "g2:'c'+3"]);
        Ok(())
    });
}

fn l3_q3_a_putter_whose_room_was_taken_waits_again_at_the_end(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(1));
        queue.put_nowait("x")?;
        let trace = Trace::begin();
        let _tasks = putters(&trace, &queue, &["waiter", "second"]);
        pump(1).await?;
        queue.get_nowait()?;
        queue.put_nowait("barger")?;
        pump(2).await?;
        trace.note(queue.get_nowait()?);
        pump(2).await?;
        trace.note(queue.get_nowait()?);
        pump(2).await?;
        trace.note(queue.get_nowait()?);
        trace.expect(&["barger+3", "second:()+4", "second+5", "waiter:()+6", "waiter+7"]);
        Ok(())
    });
}

fn join<T: 'static>(trace: &Trace, queue: &Rc<Queue<T>>) -> Task<()> {
    let queue = Rc::clone(queue);
    trace.spawn("join", async move { queue.join().await })
}

fn l4_q4_join_returns_when_the_count_was_zero(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        assert_eq!(kind(queue.task_done()), ErrorKind::Value);
        queue.put_nowait(1)?;
        let trace = Trace::begin();
        let joined = join(&trace, &queue);
        pump(1).await?;
        queue.get_nowait()?;
        pump(1).await?;
        trace.note(joined.done());
        queue.task_done()?;
        queue.put_nowait(2)?;
        pump(2).await?;
        trace.expect(&["false+2", "join:()+3"]);
        queue.get_nowait()?;
        queue.task_done()?;
        assert_eq!(kind(queue.task_done()), ErrorKind::Value);
        Ok(())
    });
}

fn l5_q5_a_shutdown_refuses_putters_though_there_is_room_and_drains_for_getters(on: &Machine) {
    let seen = on.reports(async {
        let queue = Rc::new(Queue::new(1));
        queue.put_nowait("a")?;
        let trace = Trace::begin();
        let _tasks = putters(&trace, &queue, &["b"]);
        pump(1).await?;
        queue.shutdown(false);
        assert_eq!(queue.get().await?, "a");
        pump(2).await?;
        trace.expect(&["b!QueueShutDown+2"]);
        let before = turn();
        assert_eq!(kind(queue.get().await), ErrorKind::QueueShutDown);
        assert_eq!(kind(queue.put("c").await), ErrorKind::QueueShutDown);
        assert_eq!(kind(queue.get_nowait()), ErrorKind::QueueShutDown);
        let refused = queue.put_nowait("c").unwrap_err();
        assert_eq!((refused.error.kind(), refused.item), (ErrorKind::QueueShutDown, "c"));
        assert_eq!(turn(), before);
        Ok(())
    });
    assert_eq!(messages(&seen), ["task exception was never retrieved"; 1]);
}

fn l5_q5_a_shutdown_ends_every_getter(on: &Machine) {
    let seen = on.reports(async {
        let queue = Rc::new(Queue::<u32>::new(0));
        let trace = Trace::begin();
        let _tasks = getters(&trace, &queue, &["g0", "g1"]);
        pump(1).await?;
        queue.shutdown(false);
        pump(2).await?;
        trace.expect(&["g0!QueueShutDown+2", "g1!QueueShutDown+2"]);
        Ok(())
    });
    assert_eq!(messages(&seen), ["task exception was never retrieved"; 2]);
}

fn l5_q5_an_immediate_shutdown_counts_what_was_left_as_done(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        queue.put_nowait(1)?;
        queue.put_nowait(2)?;
        let trace = Trace::begin();
        join(&trace, &queue);
        pump(1).await?;
        queue.shutdown(true);
        pump(2).await?;
        trace.expect(&["join:()+2"]);
        assert!(queue.empty());
        assert_eq!(kind(queue.task_done()), ErrorKind::Value);
        Ok(())
    });
}

fn l5_q5_an_immediate_shutdown_waits_for_what_was_got(on: &Machine) {
    on.run(async {
        let queue = Rc::new(Queue::new(0));
        queue.put_nowait(1)?;
        queue.get_nowait()?;
        let trace = Trace::begin();
        let joined = join(&trace, &queue);
        pump(1).await?;
        queue.shutdown(false);
        queue.shutdown(true);
        queue.shutdown(true);
        pump(2).await?;
        trace.note(joined.done());
        queue.task_done()?;
        pump(2).await?;
        trace.expect(&["false+3", "join:()+4"]);
        Ok(())
    });
}

fn l6_q1_orders(_: &Machine) {
    let (fifo, lifo, priority) = (Queue::new(0), LifoQueue::new(0), PriorityQueue::new(0));
    for item in [3, 1, 2] {
        fifo.put_nowait(item).unwrap();
        lifo.put_nowait(item).unwrap();
        priority.put_nowait(item).unwrap();
    }
    let next = || (fifo.get_nowait().unwrap(), lifo.get_nowait().unwrap(), priority.get_nowait().unwrap());
    assert_eq!([next(), next(), next()], [(3, 2, 1), (1, 1, 2), (2, 3, 3)]);
}
