//! Streams and sockets of aioli, written once over the operations of [`aioli_core`]: they work on every backend.
//!
//! [`open_connection`] gives a [`StreamReader`] and a [`StreamWriter`]; [`start_server`] has a task run for each connection that comes
//! in. [`Socket`] is the layer below, without buffers of its own.
//!
//! ```
//! # aioli_exec_single::run(async {
//! use aioli_io::{StreamReader, StreamWriter, open_connection, start_server};
//!
//! async fn echo(reader: StreamReader, writer: StreamWriter) -> aioli_core::Result<()> {
//!     loop {
//!         let line = reader.readline().await?;
//!         if line.is_empty() {
//!             return Ok(());
//!         }
//!         writer.write(&line)?;
//!         writer.drain().await?;
//!     }
//! }
//!
//! let server = start_server(echo, "127.0.0.1", 0).await?;
//! let (reader, writer) = open_connection("127.0.0.1", server.local_addrs()[0].port()).await?;
//! writer.write(b"ciao\n")?;
//! assert_eq!(reader.readline().await?, "ciao\n");
//! writer.close();
//! writer.wait_closed().await?;
//! server.close();
//! server.wait_closed().await
//! # })?;
//! # Ok::<(), aioli_core::Error>(())
//! ```
//!
//! Beside them there are streams over [pipes](connect_read_pipe) and the program's [own input and output](open_stdin),
//! [Unix-domain sockets](open_unix_connection), [child processes](create_subprocess_exec), [signals](signals()) and [files](File).
//!
//! Names are looked up on a thread, and the epoll backend has threads for files; everything else happens on the loop's own.
#![forbid(unsafe_code)]

mod address;
mod arrival;
mod buffer;
mod catcher;
mod child;
mod connect;
mod connection;
mod descriptors;
mod disposition;
mod dns;
mod fairness;
mod file;
mod handle;
mod home;
mod input;
mod interop;
mod landing;
mod lane;
mod names;
mod output;
mod perform;
mod pipe;
mod process;
mod reader;
mod reaper;
mod restore;
mod serve;
mod server;
mod signal;
mod signals;
mod socket;
mod socket_file;
mod spare;
mod starting;
mod stdio;
mod subprocess;
mod transport;
mod unix;
mod waiters;
mod watch;
mod writer;

pub use address::{Address, Hosts};
pub use aioli_core::op::{FileOptions, FileStatus, UnixAddress};
pub use connect::{OpenConnection, open_connection, open_connection_to};
pub use descriptors::LoopDescriptors;
pub use file::File;
pub use names::{NameFlags, getaddrinfo, getnameinfo};
pub use pipe::{ConnectReadPipe, ConnectWritePipe, connect_read_pipe, connect_write_pipe};
pub use process::Process;
pub use reader::{DEFAULT_LIMIT, StreamReader};
pub use serve::{StartServer, start_server, start_server_on};
pub use server::Server;
pub use signal::Signal;
pub use signals::{LoopSignals, Signals, signals};
pub use socket::Socket;
pub use stdio::{open_stderr, open_stdin, open_stdout};
pub use subprocess::{CreateSubprocess, DEVNULL, PIPE, STDOUT, Stdio, create_subprocess_exec, create_subprocess_shell};
pub use transport::Transport;
pub use unix::{OpenUnixConnection, StartUnixServer, open_unix_connection, start_unix_server};
pub use writer::StreamWriter;
