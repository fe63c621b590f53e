//! Scheduling and timers under criterion: nanoseconds an op, for each workload and runtime that is built in.
#![forbid(unsafe_code)]

use std::marker::PhantomData;
use std::time::Duration;

use aioli_benches::workload::{self, Workload};
use aioli_benches::{Runtime, machine, runtime};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};

struct EachWorkload<'c>(&'c mut Criterion);

impl workload::Visitor for EachWorkload<'_> {
    fn visit<W: Workload>(&mut self) {
        let mut group = self.0.benchmark_group(W::NAME);
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1));
        runtime::visit_available(&mut EachRuntime(&mut group, PhantomData::<W>));
        group.finish();
    }
}

struct EachRuntime<'g, 'c, W>(&'g mut BenchmarkGroup<'c, WallTime>, PhantomData<W>);

impl<W: Workload> runtime::Visitor for EachRuntime<'_, '_, W> {
    fn visit<R: Runtime>(&mut self) {
        if W::suits::<R>() {
            self.0.bench_function(R::NAME, |bencher| bencher.iter_custom(ops::<W, R>));
        }
    }
}

/// The time of `iterations` ops. Whole rounds are run, and the time of the ops that were not asked for is taken off.
fn ops<W: Workload, R: Runtime>(iterations: u64) -> Duration {
    let rounds = iterations.div_ceil(W::ROUND);
    W::run::<R>(rounds).mul_f64(iterations as f64 / (rounds * W::ROUND) as f64)
}

fn main() {
    machine::pin_to(0);
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    workload::visit_all(&mut EachWorkload(&mut criterion));
    criterion.final_summary();
}
