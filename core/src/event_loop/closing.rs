//! The end of a loop: what it leaves unfinished, and what it leaves to another process.

use super::LoopCore;
use crate::error::{Error, Result};
use crate::task::header::flag;
use crate::task::{LoopRef, RawTask, home};

impl LoopCore {
    /// This process is a fork, in the middle of a step: the step is the last of this loop here. What was ready is the parent's.
    pub(crate) fn leave_to_parent(&self) {
        let parents = self.ready.close();
        std::mem::forget(parents);
        self.tasks.end_all();
    }

    /// Closes a loop that belongs to another process: closes the driver's descriptors and nothing else. Coroutines, and what they
    /// would undo as they are dropped, are that process's.
    pub(crate) fn close_elsewhere(&self) {
        let parents = self.ready.close();
        std::mem::forget(parents);
        self.closed_at.set(self.now());
        let driver = self.driver.borrow_mut().take();
        drop(driver);
    }

    /// Ends a task that the closing loop leaves unfinished: its coroutine is dropped as the current task, and it counts as cancelled.
    fn destroy_pending(&self, task: &RawTask) {
        if task.raw().is_done() {
            return;
        }
        if !task.raw().header().has(flag::QUIET) {
            self.report_destroyed(task);
        }
        self.current.run(task, || self.abandon(task));
        self.finish(task);
    }
}

impl LoopRef {
    /// Drops every pending coroutine, shuts the driver down and forgets what was scheduled.
    pub(crate) fn close(&self) -> Result<()> {
        if self.running.get() {
            return Err(Error::runtime("cannot close a running event loop"));
        }
        if self.is_closed() {
            return Ok(());
        }
        let unrun = self.ready.close();
        self.shared.close();
        let entered = home::enter(self);
        drop(unrun);
        for task in self.all_tasks() {
            self.destroy_pending(&task);
        }
        let timers = self.timers.drain();
        drop(timers);
        let driver = self.driver.borrow_mut().take();
        if let Some(mut driver) = driver {
            driver.shutdown(&mut self.operations.arrived());
            self.closed_at.set(driver.now());
            self.operations.abandon(self);
            drop(driver);
        }
        // Last: destructors may have made some more.
        self.part_remembered();
        self.forget_registered();
        self.set_main(None);
        self.set_handler(None);
        drop(entered);
        Ok(())
    }
}
