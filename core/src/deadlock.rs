//! The report of a deadlock: what waits on what, when nothing can go on.

use crate::shared::Arc;
use std::collections::HashSet;
use std::fmt::Write;

use crate::await_point;
use crate::error::Error;
use crate::event_loop::LoopCore;
use crate::task::header::{TaskHead, flag};
use crate::task::{RawFuture, RawTask};

/// A report has so many lines at most; the tree may be that of a hundred thousand tasks.
const LINES: usize = 200;
/// A chain of tasks is followed for so many steps; what is further down is in the list by itself.
const DEPTH: usize = 32;

impl LoopCore {
    /// Nothing is ready and no timer is armed. Whether nothing can change that: the driver has nothing to wait for, and no other
    /// thread knows this loop.
    #[cold]
    pub(crate) fn is_deadlocked(&self) -> bool {
        let alone = Arc::strong_count(&self.shared) == 1 && !self.shared.is_pending();
        alone && self.driver().as_ref().is_some_and(|driver| driver.is_stuck())
    }

    /// The error that tells what waits on what.
    #[cold]
    pub(crate) fn deadlock(&self) -> Error {
        let tasks = self.all_tasks();
        let mut tree = Tree { text: String::new(), lines: 0, left_out: 0, path: Vec::new() };
        tree.text
            .push_str("deadlock: nothing is ready, no timer is armed, and nothing is under way that could end a wait");
        // Those that nothing waits on come first, each with what it waits on; what is left are circles.
        let mut awaited = Set::new();
        for task in &tasks {
            let targets = await_point::covered(task, None).into_iter().filter_map(|wait| wait.target);
            targets.for_each(|target| gather_tasks(&target, &mut awaited));
        }
        let roots = tasks.iter().filter(|task| !awaited.contains(&at(task)));
        let mut shown = Set::new();
        for root in roots {
            tree.task(root, 1, &mut shown);
        }
        for task in &tasks {
            if !shown.contains(&at(task)) {
                tree.task(task, 1, &mut shown);
            }
        }
        if tree.left_out > 0 {
            let _ = write!(tree.text, "\n  … and {} more", tree.left_out);
        }
        Error::deadlock(tree.text)
    }
}

/// The tasks that a future leads to: itself, or the children of a gather.
fn gather_tasks(target: &RawFuture, found: &mut Set) {
    if let Some(task) = target.as_task() {
        found.insert(at(task));
    } else if let Some(delegate) = target.delegate() {
        found.extend(delegate.children().iter().filter_map(|child| child.as_task().map(at)));
    }
}

/// Tasks of the loop, which all live as long as the report is made.
type Set = HashSet<*const TaskHead>;

fn at(task: &RawTask) -> *const TaskHead {
    task.head()
}

struct Tree {
    text: String,
    lines: usize,
    left_out: usize,
    path: Vec<RawTask>,
}

impl Tree {
    fn line(&mut self, depth: usize, text: std::fmt::Arguments<'_>) {
        if self.lines == LINES {
            self.left_out += 1;
            return;
        }
        self.lines += 1;
        let _ = write!(self.text, "\n{:1$}{text}", "", 2 * depth);
    }

    fn task(&mut self, task: &RawTask, depth: usize, shown: &mut Set) {
        let name = task.name();
        if self.path.contains(task) {
            return self.line(depth, format_args!("task {name:?}: a circle"));
        }
        let location = task.head().location;
        let waits = await_point::covered(task, None);
        let ends = match &*waits {
            [] => ", waits for a foreign future".to_owned(),
            [wait] if wait.target.is_none() => format!(", waits for {}", wait.state.awaited),
            [_] => ", waits for".to_owned(),
            several => format!(", waits for {} things at once:", several.len()),
        };
        self.line(depth, format_args!("task {name:?}, created at {location}{ends}"));
        shown.insert(at(task));
        if depth == DEPTH {
            return;
        }
        self.path.push(task.clone());
        for wait in &waits {
            match &wait.target {
                Some(target) => self.future(target, depth + 1, shown),
                None if waits.len() > 1 => self.line(depth + 1, format_args!("{}", wait.state.awaited)),
                None => (),
            }
        }
        self.path.pop();
    }

    fn future(&mut self, future: &RawFuture, depth: usize, shown: &mut Set) {
        if let Some(task) = future.as_task() {
            return self.task(task, depth, shown);
        }
        if !future.header().has(flag::GATHER) {
            return self.line(depth, format_args!("a future or a shield"));
        }
        self.line(depth, format_args!("a gather of"));
        let Some(delegate) = future.delegate().filter(|_| depth < DEPTH) else { return };
        for child in delegate.children().iter().filter(|child| !child.is_done()) {
            self.future(child, depth + 1, shown);
        }
    }
}
