//! What goes wrong unseen reaches the loop's exception handler; and how a runner leaves.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::case::cases;
use crate::cases::support::*;
use crate::machine::Machine;
use aioli_core::*;

pub(crate) mod errors;
pub(super) mod handler;
pub(super) mod runner;

fn text(report: &Report) -> String {
    report.error.as_ref().map_or_else(String::new, ToString::to_string)
}
