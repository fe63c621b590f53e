//! A function that a thread calls for a future of a loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::crew::Job;
use super::pool::ThreadPool;
use crate::callback::{Callback, Hook, HookRef};
use crate::context::{self, ContextMap};
use crate::error::{Error, Result};
use crate::event_loop::LoopCore;
use crate::future::{self, Future};
use crate::registry::Reply;
use crate::report::discard;
use crate::task::LoopRef;
use crate::unpoisoned::Unpoisoned;

/// A function, and where its result goes.
struct Call<F> {
    function: Mutex<Option<F>>,
    context: Option<ContextMap>,
    reply: Reply,
}

impl<F, T> Job for Call<F>
where
    F: FnOnce() -> Result<T> + Send,
    T: Send + 'static,
{
    fn run(&self, free: &mut dyn FnMut()) {
        let Some(function) = self.function.lock().unpoisoned().take() else { return };
        let call = AssertUnwindSafe(|| context::run_outside(self.context.clone(), function));
        let result = catch_unwind(call).unwrap_or_else(|panic| Err(Error::panicked(panic)));
        free();
        self.reply.send(result);
    }

    fn refuse(&self, error: Error) {
        self.withdraw();
        self.reply.send::<T>(Err(error));
    }

    fn withdraw(&self) {
        let function = self.function.lock().unpoisoned().take();
        discard(function);
    }
}

/// The future has ended: by its result, or because it was cancelled.
struct Ended {
    job: Arc<dyn Job>,
    number: u64,
}

impl Hook for Ended {
    fn run(&self, core: &LoopCore, _: u32) {
        if core.registry.take_future(self.number).is_some_and(|raw| raw.is_cancelled()) {
            self.job.withdraw();
        }
    }
}

/// Has a thread of `pool` call a function, in the given context.
pub(super) fn submit<F, T>(
    core: &LoopRef,
    pool: &ThreadPool,
    context: Option<ContextMap>,
    function: F,
) -> Result<Future<T>>
where
    F: FnOnce() -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    let future = future::pending::<T>(core);
    let reply = Reply::to(core, future.raw());
    let number = reply.number();
    let job: Arc<dyn Job> = Arc::new(Call { function: Mutex::new(Some(function)), context, reply });
    if let Err(error) = pool.submit(Arc::clone(&job)) {
        drop(core.registry.remove(number));
        return Err(error);
    }
    let ended: HookRef = Rc::new(Box::new(Ended { job, number }));
    future.raw().add_callback(Callback::Hook(ended, 0));
    Ok(future)
}
