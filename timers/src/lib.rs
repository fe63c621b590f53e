//! A timer queue.
#![forbid(unsafe_code)]
