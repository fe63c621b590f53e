//! What reaches a loop until it is stopped belongs to that run.

mod common;

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
