//! aioli beside other single-threaded runtimes: the same workloads, on the same machine, side by side.
//!
//! A [`Runtime`] says how one runtime starts, spawns, yields and sleeps; the [`workload`]s are written once over that trait and
//! compiled anew for each runtime, so what is measured is the runtime's own call and nothing of ours. The peers are behind
//! features (`peers` turns them all on), because building them takes longer than building aioli.
//!
//! - `cargo bench -p aioli-benches --features peers --bench workloads`: scheduling and timers, with criterion.
//! - `cargo bench -p aioli-benches --features peers --bench tables`: memory a task, and the CPU time of firing timers.
//! - `cargo run -p aioli-benches --bin ratios`: what criterion measured, as one table with aioli's ratio to the best peer.
//! - `cargo run -p aioli-benches --profile bench --features peers --bin echo`: TCP echo servers side by side.
//! - `cargo run -p aioli-benches --profile bench --features tokio --bin children`: starting children and waiting for them.
//! - `cargo run -p aioli-benches --profile bench --bin files`: reads from the page cache beside an io_uring driven by hand.
#![deny(unsafe_code)]

pub mod aioli;
pub mod comparison;
pub mod echo;
pub mod files;
pub mod machine;
pub mod peers;
mod promise;
pub mod random;
pub mod runtime;
mod slot;
pub mod workload;

pub use runtime::Runtime;
