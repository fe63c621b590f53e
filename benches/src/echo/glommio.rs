//! The echo server of a glommio user.

use std::io;
use std::net::SocketAddr;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};

use super::{BUFFER, LOOPBACK};
use crate::peers::glommio::executor;

pub(super) fn serve(bound: fn(SocketAddr)) -> io::Result<()> {
    executor()?.run(async {
        let listener = TcpListener::bind(LOOPBACK)?;
        bound(listener.local_addr()?);
        loop {
            let stream = listener.accept().await?;
            stream.set_nodelay(true)?;
            glommio::spawn_local(echo(stream)).detach();
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..received]).await?;
    }
}
