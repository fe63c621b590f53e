//! monoio on its io_uring driver, and on the epoll driver that it calls legacy.

use std::future::Future;
use std::time::Duration;

use monoio::task::JoinHandle;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::Runtime;
use crate::runtime::wake_yield;

/// On io_uring, or (`URING` false) on epoll.
#[derive(Clone, Copy, Debug)]
pub struct Monoio<const URING: bool>;

/// monoio on io_uring.
pub type Uring = Monoio<true>;
/// monoio on epoll.
pub type Legacy = Monoio<false>;

impl<const URING: bool> Runtime for Monoio<URING> {
    const NAME: &'static str = if URING { "monoio-uring" } else { "monoio-legacy" };
    const HAS_YIELD: bool = false;

    type Output<T: 'static> = T;
    type Handle<T: 'static> = JoinHandle<T>;

    fn available() -> Result<(), String> {
        if URING {
            RuntimeBuilder::<IoUringDriver>::new().build().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> T {
        if URING {
            RuntimeBuilder::<IoUringDriver>::new().enable_timer().build().expect("monoio starts").block_on(main(Self))
        } else {
            RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().expect("monoio starts").block_on(main(Self))
        }
    }

    fn ok<T: 'static>(value: T) -> T {
        value
    }

    fn spawn<T: 'static>(self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        monoio::spawn(future)
    }

    fn value<T: 'static>(joined: T) -> T {
        joined
    }

    fn detach<T: 'static>(handle: JoinHandle<T>) {
        drop(handle);
    }

    fn yield_now() -> impl Future {
        wake_yield()
    }

    fn sleep(delay: Duration) -> impl Future + 'static {
        monoio::time::sleep(delay)
    }
}
