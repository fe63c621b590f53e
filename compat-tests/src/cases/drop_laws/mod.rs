//! Futures that are dropped, leaked or moved to another task, at any moment.

use std::cell::RefCell;
use std::future::Future as StdFuture;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

pub(super) mod awaits;
pub(super) mod fates;
pub(super) mod groups;
pub(super) mod handles;
pub(super) mod timeouts;

/// Moves a future that this task has polled to another one, and gives what comes of it there.
async fn moved<T: 'static>(future: Boxed<T>) -> Result<T> {
    create_task(future).await
}

/// Sleeps, and sees that no other timer fires meanwhile.
async fn quiet_for(time: f64) -> Result<()> {
    let turns = turn();
    sleep(time).await?;
    assert_eq!(turn() - turns, 2, "nothing but this sleep was scheduled");
    Ok(())
}

/// The requests of the current task and all its scopes, as other tasks see them.
fn counted() -> u32 {
    let view = me();
    TaskBuilder::new().eager_start(true).create_task(async move { Ok(view.cancelling()) }).take_result().unwrap()
}

/// Leaks a value, so that a leak checker finds it where leaks are meant to be.
pub(super) fn leak<T>(value: T) {
    static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let leaked = std::ptr::from_mut(Box::leak(Box::new(value))).cast::<u8>();
    LEAKED.lock().unwrap().push(leaked.addr());
}
