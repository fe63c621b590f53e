//! The echo server of a smol user.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use async_executor::LocalExecutor;
use async_io::Async;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::{BUFFER, LOOPBACK};

pub(super) fn serve(bound: fn(SocketAddr)) -> io::Result<()> {
    let executor = LocalExecutor::new();
    async_io::block_on(executor.run(async {
        let listener = Async::new(TcpListener::bind(LOOPBACK)?)?;
        bound(listener.get_ref().local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.get_ref().set_nodelay(true)?;
            executor.spawn(echo(stream)).detach();
        }
    }))
}

async fn echo(mut stream: Async<TcpStream>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..received]).await?;
    }
}
