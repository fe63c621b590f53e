//! aioli's side of the comparison.

use std::future::Future;
use std::time::Duration;

use aioli_core::driver::Driver;
use aioli_core::{Result, Sleep, Task};

use crate::Runtime;
use crate::promise::Kept;

/// A backend of aioli.
pub trait Backend: Copy + 'static {
    /// How it is called in the tables.
    const NAME: &'static str;
    /// A driver with the backend's defaults.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    fn driver() -> std::io::Result<impl Driver>;
}

/// aioli on the backend `B`.
#[derive(Clone, Copy, Debug)]
pub struct Aioli<B>(B);

impl<B: Backend + Default> Runtime for Aioli<B> {
    const NAME: &'static str = B::NAME;

    type Output<T: 'static> = Result<T>;
    type Handle<T: 'static> = Task<T>;

    fn available() -> std::result::Result<(), String> {
        B::driver().map(drop).map_err(|error| error.to_string())
    }

    fn run<T: 'static>(main: impl AsyncFnOnce(Self) -> T + 'static) -> T {
        let driver = B::driver().expect("the backend starts");
        aioli_core::run(driver, async move { Ok(main(Self(B::default())).await) }).expect("the main function ends well")
    }

    fn ok<T: 'static>(value: T) -> Result<T> {
        Ok(value)
    }

    fn spawn<T: 'static>(self, future: impl Future<Output = Result<T>> + 'static) -> Task<T> {
        aioli_core::create_task(future)
    }

    fn value<T: 'static>(joined: Result<T>) -> T {
        joined.expect("the task ends well")
    }

    fn detach<T: 'static>(handle: Task<T>) {
        drop(handle);
    }

    fn yield_now() -> impl Future {
        aioli_core::sleep(Duration::ZERO)
    }

    fn promise<T: 'static>() -> (impl FnOnce(T) + 'static, impl Future<Output = T> + 'static) {
        let current = aioli_core::get_running_loop().expect("inside of the loop");
        let future: aioli_core::Future<T> = current.create_future();
        let setter = future.clone();
        (move |value| setter.set_result(value).expect("it is set once"), Kept(future))
    }

    fn oneshot<T: 'static>() -> (impl FnOnce(T) + 'static, impl Future<Output = T> + 'static) {
        Self::promise()
    }

    fn sleep(delay: Duration) -> impl Future + 'static {
        let sleep: Sleep = aioli_core::sleep(delay);
        sleep
    }
}

/// aioli on epoll.
#[derive(Clone, Copy, Default, Debug)]
pub struct Epoll;

impl Backend for Epoll {
    const NAME: &'static str = "aioli-epoll";

    fn driver() -> std::io::Result<impl Driver> {
        aioli_exec_single::EpollDriver::new()
    }
}
