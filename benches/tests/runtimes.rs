//! That the workloads do what they say, on each runtime that is built in.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aioli_benches::Runtime;
use aioli_benches::runtime::{self, wake_yield};
use aioli_benches::workload::{self, Workload, disqualified, memory, timer_fire};

struct AllWorkloads;

impl workload::Visitor for AllWorkloads {
    fn visit<W: Workload>(&mut self) {
        runtime::visit_available(&mut OneRound(PhantomData::<W>));
    }
}

struct OneRound<W>(PhantomData<W>);

impl<W: Workload> runtime::Visitor for OneRound<W> {
    fn visit<R: Runtime>(&mut self) {
        if W::suits::<R>() {
            let start = Instant::now();
            let took = W::run::<R>(1);
            assert!(took > Duration::ZERO && took <= start.elapsed(), "{}/{}: {took:?}", W::NAME, R::NAME);
        }
    }
}

#[test]
fn each_workload_runs_on_each_runtime() {
    workload::visit_all(&mut AllWorkloads);
}

struct Order;

impl runtime::Visitor for Order {
    fn visit<R: Runtime>(&mut self) {
        let order = R::run(async |runtime| {
            let seen = Rc::new(RefCell::new(String::new()));
            let handles: Vec<_> = (0..3)
                .map(|task| {
                    let seen = seen.clone();
                    runtime.spawn(async move {
                        for _ in 0..3 {
                            seen.borrow_mut().push_str(&task.to_string());
                            wake_yield().await;
                        }
                        R::ok(())
                    })
                })
                .collect();
            for handle in handles {
                R::value(handle.await);
            }
            seen.take()
        });
        let expected = if disqualified("yield_rr_wake", R::NAME).is_none() { "012012012" } else { "000111222" };
        assert_eq!(order, expected, "{}", R::NAME);
    }
}

#[test]
fn tasks_take_turns_unless_disqualified() {
    runtime::visit_available(&mut Order);
}

struct Fire;

impl runtime::Visitor for Fire {
    fn visit<R: Runtime>(&mut self) {
        let start = Instant::now();
        let fired = timer_fire::run::<R>(200).unwrap();
        assert!(start.elapsed() >= timer_fire::SPREAD * 9 / 10, "{}: too early", R::NAME);
        assert!(fired.cpu > Duration::ZERO && fired.late_p50 <= fired.late_p99, "{}: {fired:?}", R::NAME);
    }
}

#[test]
fn timers_fire_when_due() {
    runtime::visit_available(&mut Fire);
}

struct Memory;

impl runtime::Visitor for Memory {
    fn visit<R: Runtime>(&mut self) {
        // What one run freed the next one uses, so only that a run comes to its end and an answer is seen here.
        assert!(memory::idle::<R>(1_000).unwrap().is_finite(), "{}", R::NAME);
        assert!(memory::sleeping::<R>(1_000).unwrap().is_finite(), "{}", R::NAME);
    }
}

#[test]
fn waiting_tasks_can_be_weighed() {
    runtime::visit_available(&mut Memory);
}
