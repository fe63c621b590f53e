//! Which task is the current one, and which is suspended, for code that runs where one hardly expects any.

mod common;

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use aioli_core::*;
use common::*;

/// The waker of a combinator that calls a function of this thread instead of waking anybody.
struct Calls;

thread_local! {
    static CALLED: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        if let Some(call) = CALLED.take() {
            call();
        }
    }
}

/// The task was taken for one that is being polled, and its request for one that the end of its step would pass on: it never ended.
#[test]
fn a_task_whose_step_has_ended_is_suspended_for_one_that_its_waker_starts() {
    sim(async {
        let token = CancelToken::new();
        let inner = token.clone();
        let task: Task<()> = create_task(async move {
            let mut scope = Box::pin(inner.run(std::future::pending::<Result<()>>()));
            let mut asked = false;
            poll_fn(|_| {
                // Nobody but the combinator's waker is told of the token.
                let polled = scope.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Calls))));
                if !std::mem::replace(&mut asked, true) {
                    assert!(polled.is_pending());
                    let (itself, token) = (current_task().unwrap(), token.clone());
                    CALLED.set(Some(Box::new(move || {
                        let cancel = async move { Ok(itself.cancel(Some("by the waker"))) };
                        drop(TaskBuilder::new().eager_start(true).create_task(cancel));
                    })));
                    token.cancel(None);
                }
                polled
            })
            .await
        });
        assert_eq!(task.await.unwrap_err().cancel_message(), Some("by the waker"));
        Ok(())
    });
}
