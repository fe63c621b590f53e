//! Differential testing: programs of a small language run on aioli and on CPython, and the traces must be equal.

mod campaign;
mod coroutine;
mod gathered;
mod generate;
mod oracle;
mod parse;
mod print;
mod program;
mod run;
mod shrink;
mod side_by_side;
mod trace;
mod world;

pub use campaign::{Campaign, Divergence, Findings};
pub use generate::generate;
pub use oracle::{Oracle, find_python};
pub use parse::ParseError;
pub use program::{Program, Stmt, Version};
pub use run::{Ran, driver, run};
pub use shrink::shrink;
pub use side_by_side::side_by_side;
pub use trace::{ErrorValue, Event, Trace, Value};
