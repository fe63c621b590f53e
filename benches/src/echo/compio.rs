//! The echo server of a compio user.

use std::io;
use std::net::SocketAddr;

use compio::BufResult;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;

use super::{BUFFER, LOOPBACK};

pub(super) fn serve(bound: fn(SocketAddr)) -> io::Result<()> {
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind(LOOPBACK).await?;
        bound(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            compio::runtime::spawn(echo(stream)).detach();
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        let BufResult(received, lent) = stream.read(buffer).await;
        if received? == 0 {
            return Ok(());
        }
        let BufResult(sent, mut lent) = stream.write_all(lent).await;
        sent?;
        lent.clear();
        buffer = lent;
    }
}
