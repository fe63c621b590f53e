//! What belongs to one loop, in a task of another.

mod common;

use std::future::Future;
use std::os::unix::net::UnixStream;

use aioli_core::{ErrorKind, Result, Runner, timeout};
use aioli_exec_single::EpollDriver;
use aioli_io::{File, Signal, Socket, connect_read_pipe, create_subprocess_exec, signals, start_unix_server};

/// That a wait, which would last for ever, is refused.
async fn is_refused<T>(wait: impl Future<Output = Result<T>>) -> Result<()> {
    let Err(error) = timeout(5.0, wait).await else { panic!("it has ended") };
    assert_eq!(error.kind(), ErrorKind::Runtime, "{error}");
    assert!(error.to_string().starts_with("attached to a different event loop"), "{error}");
    Ok(())
}

#[test]
fn a_wait_for_what_another_loop_has_is_an_error() -> Result<()> {
    for first_closes in [false, true] {
        let first = Runner::new(EpollDriver::new()?);
        let path = std::env::temp_dir().join(format!("aioli-test-{}-other-loop", std::process::id()));
        let server = path.clone();
        let all = first.run(async move {
            let (ours, theirs) = UnixStream::pair()?;
            let reader = connect_read_pipe(ours).await?;
            let file = File::open("/dev/null").await?;
            let server = start_unix_server(async |_reader, _writer| Ok(()), server).await?;
            let process = create_subprocess_exec("sleep", ["60"]).kill_on_drop(true).await?;
            Ok((reader, Socket::from_fd(theirs.into())?, file, server, process, signals([Signal::USR2])?))
        })?;
        let first = if first_closes { first.close().map(|()| None)? } else { Some(first) };
        let second = Runner::new(EpollDriver::new()?);
        let all = second.run(async move {
            let (reader, socket, file, server, process, signals) = all;
            is_refused(process.wait()).await?;
            is_refused(signals.recv()).await?;
            is_refused(socket.recv(1)).await?;
            is_refused(file.metadata()).await?;
            if !first_closes {
                is_refused(reader.read(1)).await?;
                is_refused(server.wait_closed()).await?;
                is_refused(server.serve_forever()).await?;
            }
            Ok((reader, socket, file, server, process, signals))
        })?;
        drop(all);
        second.close()?;
        first.map_or(Ok(()), Runner::close)?;
    }
    Ok(())
}
