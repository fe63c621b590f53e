//! smol's parts: a `LocalExecutor` of async-executor, driven by async-io's reactor.

use std::future::Future;
use std::time::Duration;

use async_executor::{LocalExecutor, StaticLocalExecutor, Task};
use async_io::Timer;

use crate::Runtime;

thread_local! {
    // Leaked, so that tasks can name them; once a thread, because each run uses the same.
    static LOCAL: &'static LocalExecutor<'static> = Box::leak(Box::default());
    static STATIC: &'static StaticLocalExecutor = LocalExecutor::new().leak();
}

/// One of async-executor's two executors for one thread.
pub trait Executor: Copy + 'static {
    /// How it is called in the tables.
    const NAME: &'static str;
    /// This thread's.
    fn here() -> Self;
    /// Starts a task.
    fn spawn<T: 'static>(self, future: impl Future<Output = T> + 'static) -> Task<T>;
    /// Runs the tasks until `main` has ended.
    fn run<T>(self, main: impl Future<Output = T>) -> impl Future<Output = T>;
}

impl Executor for &'static LocalExecutor<'static> {
    const NAME: &'static str = "smol-local";

    fn here() -> Self {
        LOCAL.with(|executor| *executor)
    }

    fn spawn<T: 'static>(self, future: impl Future<Output = T> + 'static) -> Task<T> {
        LocalExecutor::spawn(self, future)
    }

    fn run<T>(self, main: impl Future<Output = T>) -> impl Future<Output = T> {
        LocalExecutor::run(self, main)
    }
}

impl Executor for &'static StaticLocalExecutor {
    const NAME: &'static str = "smol-static";

    fn here() -> Self {
        STATIC.with(|executor| *executor)
    }

    fn spawn<T: 'static>(self, future: impl Future<Output = T> + 'static) -> Task<T> {
        StaticLocalExecutor::spawn(self, future)
    }

    fn run<T>(self, main: impl Future<Output = T>) -> impl Future<Output = T> {
        StaticLocalExecutor::run(self, main)
    }
}

/// smol on the executor `E`.
#[derive(Clone, Copy, Debug)]
pub struct Smol<E>(E);

/// smol with a `LocalExecutor`.
pub type Local = Smol<&'static LocalExecutor<'static>>;
/// smol with a leaked `LocalExecutor`, which keeps no list of its tasks.
pub type Static = Smol<&'static StaticLocalExecutor>;

impl<E: Executor> Runtime for Smol<E> {
    const NAME: &'static str = E::NAME;

    type Output<T: 'static> = T;
    type Handle<T: 'static> = Task<T>;

    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> T {
        let executor = E::here();
        async_io::block_on(executor.run(main(Self(executor))))
    }

    fn ok<T: 'static>(value: T) -> T {
        value
    }

    fn spawn<T: 'static>(self, future: impl Future<Output = T> + 'static) -> Task<T> {
        self.0.spawn(future)
    }

    fn value<T: 'static>(joined: T) -> T {
        joined
    }

    fn detach<T: 'static>(handle: Task<T>) {
        handle.detach();
    }

    fn yield_now() -> impl Future {
        futures_lite::future::yield_now()
    }

    fn sleep(delay: Duration) -> impl Future + 'static {
        Timer::after(delay)
    }
}
