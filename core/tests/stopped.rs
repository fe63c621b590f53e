//! What reaches a loop until it is stopped belongs to that run.

mod common;

use std::sync::{Arc, Mutex};

use aioli_core::*;
use aioli_exec_sim::SimDriver;
use common::*;

/// A main that cancelled itself passed for interrupted, if one that was interrupted had been stopped before.
#[test]
fn an_interruption_of_a_main_that_was_stopped_is_not_the_next_mains() {
    for in_last_turn in [false, true] {
        let runner = Runner::new(SimDriver::new());
        let stopped = runner.run(async move {
            event_loop().remote().interrupt();
            if !in_last_turn {
                assert!(sleep(1.0).await.unwrap_err().is_cancelled());
            }
            event_loop().stop();
            sleep(100.0).await
        });
        assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Runtime);
        let cancelled = runner.run(async {
            me().cancel(None);
            hang().await
        });
        assert_eq!(cancelled.unwrap_err().kind(), ErrorKind::Cancelled);
    }
}

/// It came behind what the program scheduled after the run.
#[test]
fn what_a_thread_sent_before_the_stop_is_called_before_what_is_scheduled_after_it() {
    let runner = Runner::new(SimDriver::new());
    let order = Arc::new(Mutex::new(Vec::new()));
    let (remote, sent) = (runner.get_loop().remote(), Arc::clone(&order));
    runner
        .run(async move {
            let send = move || remote.call_soon_threadsafe(move || sent.lock().unwrap().push("sent")).map(drop);
            event_loop().stop();
            std::thread::spawn(send).join().unwrap()
        })
        .unwrap();
    let scheduled = Arc::clone(&order);
    runner.get_loop().call_soon(move || scheduled.lock().unwrap().push("scheduled")).unwrap();
    runner.run(pump(2)).unwrap();
    assert_eq!(*order.lock().unwrap(), ["sent", "scheduled"]);
}
