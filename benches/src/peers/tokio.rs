//! tokio on its current-thread scheduler.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{self, JoinError, JoinHandle, LocalSet};

use crate::Runtime;
use crate::promise::Kept;

/// Tasks in a `LocalSet`, or (`LOCAL_SET` false) in a `LocalRuntime`, whose scheduler is the one of `tokio::spawn`.
#[derive(Clone, Copy, Debug)]
pub struct Tokio<const LOCAL_SET: bool>;

/// tokio with a `LocalSet`.
pub type Local = Tokio<true>;
/// tokio's `LocalRuntime`.
pub type LocalRt = Tokio<false>;

impl<const LOCAL_SET: bool> Runtime for Tokio<LOCAL_SET> {
    const NAME: &'static str = if LOCAL_SET { "tokio-local" } else { "tokio-lrt" };

    type Output<T: 'static> = T;
    type Handle<T: 'static> = JoinHandle<T>;

    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> T {
        let mut builder = Builder::new_current_thread();
        builder.enable_all();
        if LOCAL_SET {
            let runtime = builder.build().expect("tokio starts");
            LocalSet::new().block_on(&runtime, main(Self))
        } else {
            let runtime = builder.build_local(LocalOptions::default()).expect("tokio starts");
            runtime.block_on(main(Self))
        }
    }

    fn ok<T: 'static>(value: T) -> T {
        value
    }

    fn spawn<T: 'static>(self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        task::spawn_local(future)
    }

    fn value<T: 'static>(joined: Result<T, JoinError>) -> T {
        joined.expect("the task ends well")
    }

    fn detach<T: 'static>(handle: JoinHandle<T>) {
        drop(handle);
    }

    fn yield_now() -> impl Future {
        task::yield_now()
    }

    fn sleep(delay: Duration) -> impl Future + 'static {
        tokio::time::sleep(delay)
    }

    fn oneshot<T: 'static>() -> (impl FnOnce(T) + 'static, impl Future<Output = T> + 'static) {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let send = move |value| sender.send(value).ok().expect("somebody waits for it");
        (send, Kept(receiver))
    }

    fn unrationed<F: Future>(future: F) -> impl Future<Output = F::Output> {
        // A task may poll 128 of tokio's own futures; the next ones do nothing but ask it to yield.
        task::unconstrained(future)
    }
}
