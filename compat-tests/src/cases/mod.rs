//! The cases. Each file has a table of its own; all tables stand in [`TABLES`].

mod support;

mod as_completed;
mod cancel;
mod cancellable;
mod concurrent;
mod deadline_ports;
mod driver;
mod drop_laws;
mod eager;
mod futures;
mod gather;
mod group_ports;
mod groups;
mod loop_ports;
mod net;
mod newer;
mod order;
mod pipe;
mod process;
mod reentrancy;
mod reports;
mod scopes_foreign;
mod shield;
mod signals;
mod sync;
mod task_ports;
mod tasks;
mod threads;
mod timeouts;
mod token;
mod turns;
mod wait;
mod wait_for;

/// Makes, of one list, the table of all tables, and [`conformance!`](crate::conformance).
macro_rules! tables {
    (($d:tt) $($($module:ident)::+ as $tests:ident;)*) => {
        pub(crate) const TABLES: &[&[crate::Case]] = &[$($($module)::+::CASES),*];

        /// Turns the whole suite into `#[test]`s for a [`Backend`](crate::Backend): a module for each file of cases, and a test
        /// for each case.
        ///
        /// It takes an expression for the backend that can be a `static`: a unit struct, say.
        ///
        /// ```
        /// mod epoll {
        ///     use aioli_compat_tests::{Epoll, conformance};
        ///
        ///     conformance!(Epoll);
        /// }
        /// ```
        #[macro_export]
        macro_rules! conformance {
            ($d backend:expr) => {
                $($d crate::$tests! { $d backend })*
            };
        }
    };
}

tables! {
    ($)
    as_completed as __cases_as_completed;
    cancel as __cases_cancel;
    cancellable as __cases_cancellable;
    concurrent as __cases_concurrent;
    deadline_ports as __cases_deadline_ports;
    driver::files as __cases_driver_files;
    driver::laws as __cases_driver_laws;
    driver::process as __cases_driver_process;
    drop_laws::awaits as __cases_drop_laws_awaits;
    drop_laws::fates as __cases_drop_laws_fates;
    drop_laws::groups as __cases_drop_laws_groups;
    drop_laws::handles as __cases_drop_laws_handles;
    drop_laws::timeouts as __cases_drop_laws_timeouts;
    eager as __cases_eager;
    futures as __cases_futures;
    gather as __cases_gather;
    group_ports as __cases_group_ports;
    groups as __cases_groups;
    loop_ports as __cases_loop_ports;
    net::busy as __cases_net_busy;
    net::connect as __cases_net_connect;
    net::descriptors as __cases_net_descriptors;
    net::ending as __cases_net_ending;
    net::flow as __cases_net_flow;
    net::in_place as __cases_net_in_place;
    net::reader as __cases_net_reader;
    net::reader_ports as __cases_net_reader_ports;
    net::server as __cases_net_server;
    net::socket as __cases_net_socket;
    net::told as __cases_net_told;
    net::trace as __cases_net_trace;
    net::transport as __cases_net_transport;
    net::unix as __cases_net_unix;
    newer as __cases_newer;
    order as __cases_order;
    pipe::devices as __cases_pipe_devices;
    pipe::standard as __cases_pipe_standard;
    pipe::streams as __cases_pipe_streams;
    pipe::transport as __cases_pipe_transport;
    process::ends as __cases_process_ends;
    process::pipes as __cases_process_pipes;
    process::start as __cases_process_start;
    process::talk as __cases_process_talk;
    reentrancy as __cases_reentrancy;
    reentrancy::clones as __cases_reentrancy_clones;
    reentrancy::destructors as __cases_reentrancy_destructors;
    reentrancy::panics as __cases_reentrancy_panics;
    reentrancy::wakers as __cases_reentrancy_wakers;
    reports::errors as __cases_reports_errors;
    reports::handler as __cases_reports_handler;
    reports::runner as __cases_reports_runner;
    scopes_foreign as __cases_scopes_foreign;
    scopes_foreign::foreign_waits as __cases_scopes_foreign_foreign_waits;
    scopes_foreign::leaves as __cases_scopes_foreign_leaves;
    scopes_foreign::scopes as __cases_scopes_foreign_scopes;
    shield as __cases_shield;
    signals::forks as __cases_signals_forks;
    signals::handlers as __cases_signals_handlers;
    signals::interrupts as __cases_signals_interrupts;
    sync::comparisons as __cases_comparisons;
    sync::drops as __cases_drops;
    sync::locks as __cases_locks;
    sync::model as __cases_model;
    sync::queues as __cases_queues;
    sync::traces as __cases_traces;
    sync::traces_of_conditions as __cases_traces_of_conditions;
    sync::traces_of_queues as __cases_traces_of_queues;
    sync::upstream_barriers as __cases_upstream_barriers;
    sync::upstream_locks as __cases_upstream_locks;
    sync::upstream_queues as __cases_upstream_queues;
    task_ports as __cases_task_ports;
    tasks as __cases_tasks;
    threads as __cases_threads;
    timeouts as __cases_timeouts;
    token as __cases_token;
    turns as __cases_turns;
    wait as __cases_wait;
    wait_for as __cases_wait_for;
}
