//! Cancellation under combinators and futures of other crates.

use std::future::Future as StdFuture;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;
use futures::future::{Either, FutureExt, join_all, select};
use futures::stream::{FuturesUnordered, StreamExt};

pub(super) mod foreign_waits;
pub(super) mod leaves;
pub(super) mod scopes;

cases! {
    ($) "foreign" in scopes_foreign as __cases_scopes_foreign;
    a_future_polled_outside_of_a_task_is_an_error: "L6 W1"
        = "test_timeouts::TimeoutTests::test_timeout_without_task",
          "test_taskgroups::TestTaskGroup::test_taskgroup_without_parent_task";
}

/// A foreign channel: what is sent wakes the receiver.
fn channel<T>() -> (futures::channel::oneshot::Sender<T>, impl StdFuture<Output = Result<T>>) {
    let (sender, receiver) = futures::channel::oneshot::channel();
    (sender, async move { Ok(receiver.await?) })
}

/// Logs how a coroutine ended, and the number of the turn.
fn logged<F>(name: &'static str, trace: &Trace, coroutine: F) -> impl StdFuture<Output = Result<()>> + use<F>
where
    F: StdFuture<Output = Result<()>>,
{
    let trace = trace.clone();
    async move {
        let result = coroutine.await;
        match &result {
            Err(error) if error.is_cancelled() => trace.mark(format_args!("{name} cancelled {}", me().cancelling())),
            Err(error) if error.is_timeout() => trace.mark(format_args!("{name} timeout {}", me().cancelling())),
            result => trace.mark(format_args!("{name} {result:?}")),
        }
        result
    }
}

fn a_future_polled_outside_of_a_task_is_an_error(on: &Machine) {
    on.run(async {
        soon(|| {
            let mut cx = std::task::Context::from_waker(futures::task::noop_waker_ref());
            let mut refused = |future: Pin<Box<dyn StdFuture<Output = Result<()>>>>| {
                let mut future = future;
                let polled = future.as_mut().poll(&mut cx);
                let Poll::Ready(Err(error)) = polled else { panic!("{polled:?}") };
                assert_eq!(error.kind(), ErrorKind::Runtime);
            };
            refused(Box::pin(sleep(1.0)));
            refused(Box::pin(sleep(0.0)));
            refused(Box::pin(pending::<()>()));
            refused(Box::pin(create_task(hang())));
            refused(Box::pin(async { wait([pending::<()>()]).await.map(drop) }));
            refused(Box::pin(wait_for(pending::<()>(), 0.0)));
            refused(Box::pin(task_group(async |_| Ok(()))));
        });
        pump(2).await
    });
}
