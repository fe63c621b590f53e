//! The echo server of a monoio user.

use std::io;
use std::net::SocketAddr;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::{BUFFER, LOOPBACK};

pub(super) fn serve_uring(bound: fn(SocketAddr)) -> io::Result<()> {
    RuntimeBuilder::<IoUringDriver>::new().build()?.block_on(listen(bound))
}

pub(super) fn serve_legacy(bound: fn(SocketAddr)) -> io::Result<()> {
    RuntimeBuilder::<LegacyDriver>::new().build()?.block_on(listen(bound))
}

async fn listen(bound: fn(SocketAddr)) -> io::Result<()> {
    let listener = TcpListener::bind(LOOPBACK)?;
    bound(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        monoio::spawn(echo(stream));
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        let (received, lent) = stream.read(buffer).await;
        if received? == 0 {
            return Ok(());
        }
        let (sent, lent) = stream.write_all(lent).await;
        sent?;
        buffer = lent;
        buffer.clear();
    }
}
