//! TCP echo: servers that send back what they receive, and the load that is put on them.
//!
//! A server is a process of its own, on core 0. It is told over its standard input to report its CPU time and to end.

use std::io;
use std::net::SocketAddr;

mod aioli;
#[cfg(feature = "compio")]
mod compio;
#[cfg(feature = "glommio")]
mod glommio;
mod load;
#[cfg(feature = "monoio")]
mod monoio;
mod process;
mod raw;
mod raw_uring;
#[cfg(feature = "smol")]
mod smol;
#[cfg(feature = "tokio")]
mod tokio;

pub use load::Load;
pub use process::{Process, serve};

/// The buffer of a connection.
const BUFFER: usize = 16 * 1024;

/// The address servers bind: any port of the loopback device.
const LOOPBACK: &str = "127.0.0.1:0";

/// Calls its argument with the address once it is bound, and serves until the process ends.
type Serve = fn(fn(SocketAddr)) -> io::Result<()>;

/// An echo server that can be started in a process of its own.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// How it is called in the tables.
    pub name: &'static str,
    serve: Serve,
}

/// The servers that are built in.
pub fn servers() -> Vec<Server> {
    let servers: &[(&'static str, Serve)] = &[
        ("raw-epoll", raw::serve),
        ("raw-uring", raw_uring::serve),
        ("aioli-epoll", aioli::serve_epoll),
        ("aioli-uring", aioli::serve_uring),
        #[cfg(feature = "tokio")]
        ("tokio", tokio::serve),
        #[cfg(feature = "monoio")]
        ("monoio-uring", monoio::serve_uring),
        #[cfg(feature = "monoio")]
        ("monoio-legacy", monoio::serve_legacy),
        #[cfg(feature = "compio")]
        ("compio", compio::serve),
        #[cfg(feature = "glommio")]
        ("glommio", glommio::serve),
        #[cfg(feature = "smol")]
        ("smol", smol::serve),
    ];
    servers.iter().map(|&(name, serve)| Server { name, serve }).collect()
}
