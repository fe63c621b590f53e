//! Attempts to connect that a busy loop hears of late.
#![allow(missing_docs)]

mod common;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use aioli_core::{create_task, sleep, timeout};
use aioli_io::OpenConnection;

use common::{run, unresponsive};

#[test]
fn of_an_attempt_that_connected_and_a_delay_that_ran_out_meanwhile_the_connection_counts() {
    run(|| async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let open = listener.local_addr()?;
        let (silent, _busy) = unresponsive(Ipv4Addr::LOCALHOST, 0)?;
        let silent: SocketAddr = silent.local_addr()?;
        for turns in 0..6 {
            create_task(async move {
                for _ in 0..turns {
                    sleep(0.0).await?;
                }
                thread::sleep(Duration::from_millis(20));
                Ok(())
            });
            let connection =
                OpenConnection::with_addresses([open, silent]).happy_eyeballs_delay(Duration::from_millis(10));
            let (_reader, writer) = connection.await?;
            assert_eq!(writer.peer_addr(), Some(open), "busy after {turns} turns");
        }
        Ok(())
    });
}

/// There is no address after the last to go on with.
#[test]
fn where_the_last_address_refuses_the_first_is_waited_for() {
    run(|| async {
        let refused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let (silent, _busy) = unresponsive(Ipv4Addr::LOCALHOST, 0)?;
        let silent = silent.local_addr()?;
        let connection =
            OpenConnection::with_addresses([silent, refused]).happy_eyeballs_delay(Duration::from_millis(1));
        assert!(timeout(0.05, connection).await.unwrap_err().is_timeout());
        Ok(())
    });
}
