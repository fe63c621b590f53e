//! glommio, on one unbound executor: pinning is left to the benches, as for all.

use std::future::Future;
use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, Task};

use crate::Runtime;

/// glommio.
#[derive(Clone, Copy, Debug)]
pub struct Glommio;

/// An executor that locks little memory and keeps glommio's other defaults.
pub(crate) fn executor() -> glommio::Result<LocalExecutor, ()> {
    LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20).ring_depth(256).make()
}

impl Runtime for Glommio {
    const NAME: &'static str = "glommio";

    type Output<T: 'static> = T;
    type Handle<T: 'static> = Task<T>;

    fn available() -> Result<(), String> {
        executor().map(drop).map_err(|error| error.to_string())
    }

    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> T {
        executor().expect("glommio starts").run(main(Self))
    }

    fn ok<T: 'static>(value: T) -> T {
        value
    }

    fn spawn<T: 'static>(self, future: impl Future<Output = T> + 'static) -> Task<T> {
        glommio::spawn_local(future)
    }

    fn value<T: 'static>(joined: T) -> T {
        joined
    }

    fn detach<T: 'static>(handle: Task<T>) {
        handle.detach();
    }

    fn yield_now() -> impl Future {
        async { glommio::executor().yield_now().await }
    }

    fn sleep(delay: Duration) -> impl Future + 'static {
        glommio::timer::Timer::new(delay)
    }
}
