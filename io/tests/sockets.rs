//! Sockets on which an await was given up, on drivers that cannot end the operation.

mod common;

use std::io::Write;
use std::os::unix::net::UnixStream;

use aioli_core::op::Domain;
use aioli_core::{create_task, sleep, timeout};
use aioli_io::Socket;

use common::{run_deaf, settle};

#[test]
fn what_came_for_a_call_that_was_given_up_makes_a_socket_readable() {
    run_deaf(|| async {
        let (ours, mut theirs) = UnixStream::pair()?;
        let socket = Socket::from_fd(ours.into())?;
        assert!(timeout(0.001, socket.recv(100)).await.unwrap_err().is_timeout());
        theirs.write_all(b"hello")?;
        settle().await?;
        // For the call that was given up; then what the next one has left over.
        for expected in ["he", "llo"] {
            timeout(1.0, socket.readable()).await?;
            assert_eq!(socket.recv(expected.len()).await?, expected);
        }
        assert!(timeout(0.001, socket.readable()).await.unwrap_err().is_timeout());
        Ok(())
    });
    run_deaf(|| async {
        let listener = Socket::stream(Domain::Ipv4)?;
        listener.bind(([127, 0, 0, 1], 0).into())?;
        listener.listen(1)?;
        assert!(timeout(0.001, listener.accept()).await.unwrap_err().is_timeout());
        let _peer = std::net::TcpStream::connect(listener.local_addr()?)?;
        settle().await?;
        timeout(1.0, listener.readable()).await?;
        let accepting = create_task(async move { listener.accept().await });
        sleep(0.0).await?;
        accepting.await.map(drop)
    });
}
