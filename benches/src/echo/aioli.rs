//! The echo server of an aioli user.
use std::io;
use std::net::SocketAddr;

pub(super) fn serve_epoll(bound: fn(SocketAddr)) -> io::Result<()> {
    serve(aioli_exec_single::EpollDriver::new()?, bound)
}

pub(super) fn serve_uring(bound: fn(SocketAddr)) -> io::Result<()> {
    serve(aioli_exec_uring::UringDriver::new()?, bound)
}

fn serve(driver: impl aioli_core::driver::Driver, bound: fn(SocketAddr)) -> io::Result<()> {
    aioli_core::run(driver, async move {
        let server = aioli_io::start_server(echo, "127.0.0.1", 0).backlog(1024).await?;
        bound(server.local_addrs()[0]);
        server.serve_forever().await
    })
    .map_err(|e: aioli_core::Error| io::Error::from(e))
}

async fn echo(reader: aioli_io::StreamReader, writer: aioli_io::StreamWriter) -> aioli_core::Result<()> {
    while reader.read_with(|data| writer.write(data).map(|()| !data.is_empty())).await?? {
        writer.drain().await?;
    }
    Ok(())
}
