//! Streams over sockets of the Unix domain.

mod common;

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use aioli_core::{ErrorKind, Result, create_task, gather, timeout};
use aioli_io::{
    OpenConnection, Server, Socket, StartServer, StreamReader, StreamWriter, UnixAddress, open_unix_connection,
    start_unix_server,
};
use common::{run, settle};

/// A directory for socket files, which is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        thread_local!(static COUNT: Cell<u32> = const { Cell::new(0) });
        let count = COUNT.replace(COUNT.get() + 1);
        let thread = format!("{:?}", std::thread::current().id());
        let name = format!("aioli-{}-{}-{count}", std::process::id(), thread.trim_matches(|c: char| !c.is_numeric()));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn echo(reader: StreamReader, writer: StreamWriter) -> Result<()> {
    loop {
        let data = reader.read(100_000).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write(&data)?;
        writer.drain().await?;
    }
}

async fn serve(path: &Path) -> Result<Server> {
    start_unix_server(echo, path).await
}

fn kind(error: &aioli_core::Error) -> io::ErrorKind {
    error.as_io().expect("an error of the operating system").kind()
}

#[test]
fn bytes_go_there_and_back() {
    run(|| async {
        let directory = Directory::new();
        let path = directory.file("echo");
        let server = serve(&path).await?;
        assert_eq!(server.unix_addrs(), [UnixAddress::Path(path.clone())]);
        assert!(server.local_addrs().is_empty());
        let clients = (0..20).map(|n| {
            let path = path.clone();
            async move {
                let (reader, writer) = open_unix_connection(&path).limit(1000).await?;
                assert_eq!(writer.transport().peer_unix_addr(), Some(UnixAddress::Path(path)));
                assert_eq!(writer.transport().local_unix_addr(), Some(UnixAddress::Unnamed));
                assert_eq!((writer.local_addr(), writer.peer_addr()), (None, None));
                let data: Vec<u8> = (0..1_000_000u32).map(|i| (i * (n + 1)) as u8).collect();
                let expected = data.clone();
                let writing = create_task(async move {
                    writer.write(&data)?;
                    writer.drain().await?;
                    writer.write_eof();
                    Ok(writer)
                });
                let back = reader.read_to_end().await?;
                assert!(back == expected);
                let writer = writing.await?;
                writer.close();
                writer.wait_closed().await
            }
        });
        gather(clients.collect::<Vec<_>>()).await?;
        server.close();
        server.wait_closed().await
    });
}

#[test]
fn the_file_is_removed_when_the_server_closes() {
    run(|| async {
        let directory = Directory::new();
        let path = directory.file("server");
        let server = serve(&path).await?;
        assert!(path.exists());
        server.close();
        assert!(!path.exists());

        let kept = start_unix_server(echo, &path).cleanup_socket(false).await?;
        kept.close();
        assert!(path.exists());
        Ok(())
    });
}

#[test]
fn a_file_that_has_taken_the_place_stays() {
    run(|| async {
        let directory = Directory::new();
        let path = directory.file("server");
        let server = serve(&path).await?;
        std::fs::remove_file(&path)?;
        std::fs::write(&path, "mine")?;
        server.close();
        assert_eq!(std::fs::read_to_string(&path)?, "mine");
        Ok(())
    });
}

#[test]
fn the_end_of_the_loop_removes_the_file() {
    let directory = Directory::new();
    let path = directory.file("server");
    let at = path.clone();
    aioli_exec_single::run(async move {
        let server = serve(&at).await?;
        assert!(at.exists());
        open_unix_connection(&at).await?;
        drop(server);
        Ok(())
    })
    .unwrap();
    assert!(!path.exists());
}

#[test]
fn a_stale_file_is_replaced() {
    run(|| async {
        let directory = Directory::new();
        let path = directory.file("stale");
        drop(UnixListener::bind(&path)?);
        assert!(path.exists());
        let server = serve(&path).await?;
        let (reader, writer) = open_unix_connection(&path).await?;
        writer.write(b"ciao\n")?;
        assert_eq!(reader.readline().await?, "ciao\n");
        server.close();
        assert!(!path.exists());
        Ok(())
    });
}

#[test]
fn a_file_in_use_is_an_error_and_its_server_goes_on() {
    run(|| async {
        let directory = Directory::new();
        let path = directory.file("used");
        let first = serve(&path).await?;
        let error = serve(&path).await.unwrap_err();
        assert_eq!(kind(&error), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        let (reader, writer) = open_unix_connection(&path).await?;
        writer.write(b"ciao\n")?;
        assert_eq!(reader.readline().await?, "ciao\n");
        first.close();
        Ok(())
    });
}

#[test]
fn a_file_that_is_no_socket_is_an_error_and_stays() {
    run(|| async {
        let directory = Directory::new();
        let path = directory.file("text");
        std::fs::write(&path, "mine")?;
        assert_eq!(kind(&serve(&path).await.unwrap_err()), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path)?, "mine");
        assert_eq!(kind(&open_unix_connection(&path).await.unwrap_err()), io::ErrorKind::ConnectionRefused);
        Ok(())
    });
}

#[test]
fn abstract_names() {
    run(|| async {
        let name = format!("\0aioli-{}-{:?}", std::process::id(), std::thread::current().id());
        let server = start_unix_server(echo, &*name).await?;
        assert_eq!(server.unix_addrs(), [UnixAddress::Abstract(name.as_bytes()[1..].to_vec())]);
        let (reader, writer) = open_unix_connection(&*name).await?;
        writer.write(b"ciao\n")?;
        assert_eq!(reader.readline().await?, "ciao\n");
        assert_eq!(kind(&start_unix_server(echo, &*name).await.unwrap_err()), io::ErrorKind::AddrInUse);
        server.close();
        writer.close();
        let error = open_unix_connection(&*name).await.unwrap_err();
        assert_eq!(kind(&error), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("\"@aioli-"), "{error}");
        Ok(())
    });
}

#[test]
fn addresses_that_cannot_be_are_errors_with_the_address() {
    run(|| async {
        let long = "/tmp/".to_owned() + &"x".repeat(103);
        for error in
            [start_unix_server(echo, &*long).await.unwrap_err(), open_unix_connection(&*long).await.unwrap_err()]
        {
            assert_eq!(kind(&error), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&long), "{error}");
        }
        assert_eq!(kind(&open_unix_connection("a\0b").await.unwrap_err()), io::ErrorKind::InvalidInput);
        assert_eq!(kind(&open_unix_connection("").await.unwrap_err()), io::ErrorKind::InvalidInput);
        let nowhere = "/nonexistent/directory/server";
        for error in
            [start_unix_server(echo, nowhere).await.unwrap_err(), open_unix_connection(nowhere).await.unwrap_err()]
        {
            assert_eq!(kind(&error), io::ErrorKind::NotFound);
            assert!(error.to_string().contains(nowhere), "{error}");
        }
        assert_eq!(open_unix_connection("x").limit(0).await.unwrap_err().kind(), ErrorKind::Value);
        Ok(())
    });
}

#[test]
fn a_connection_waits_for_room_in_the_line() {
    run(|| async {
        let directory = Directory::new();
        let path = directory.file("full");
        let server = start_unix_server(echo, &path).backlog(0).start_serving(false).await?;
        let listener = UnixListener::bind(directory.file("other"))?;
        drop(listener);
        // It is bound, and does not listen.
        assert_eq!(kind(&open_unix_connection(&path).await.unwrap_err()), io::ErrorKind::ConnectionRefused);
        server.close();

        let listener = UnixListener::bind(&path)?;
        rustix::net::listen(&listener, 0)?;
        let first = open_unix_connection(&path).await?;
        let late = timeout(Duration::from_millis(30), open_unix_connection(&path)).await;
        assert!(late.unwrap_err().is_timeout());
        let second = create_task(open_unix_connection(&path));
        settle().await?;
        assert!(!second.done());
        drop(first);
        drop(listener.accept()?);
        let (_reader, writer) = second.await?;
        writer.write(b"x")
    });
}

#[test]
fn sockets_of_the_user_become_streams() {
    run(|| async {
        let directory = Directory::new();
        let path = directory.file("user");
        let listener = Socket::from_fd(OwnedFd::from(UnixListener::bind(&path)?))?;
        let server = StartServer::with_socket(echo, listener).await?;
        assert_eq!(server.unix_addrs(), [UnixAddress::Path(path.clone())]);
        let client = Socket::from_fd(OwnedFd::from(std::os::unix::net::UnixStream::connect(&path)?))?;
        let (reader, writer) = OpenConnection::with_socket(client).await?;
        writer.write(b"ciao\n")?;
        assert_eq!(reader.readline().await?, "ciao\n");
        server.close();
        // Whoever made the file keeps it.
        assert!(path.exists());
        Ok(())
    });
}

#[test]
fn clients_are_closed_and_aborted_with_the_server() {
    run(|| async {
        let directory = Directory::new();
        let path = directory.file("clients");
        let served = Rc::new(Cell::new(0));
        let count = Rc::clone(&served);
        let hold = move |reader: StreamReader, writer: StreamWriter| {
            count.set(count.get() + 1);
            async move {
                reader.read_to_end().await?;
                drop(writer);
                Ok(())
            }
        };
        let server = start_unix_server(hold, &path).await?;
        let clients = [open_unix_connection(&path).await?, open_unix_connection(&path).await?];
        while served.get() < 2 {
            settle().await?;
        }
        server.close();
        server.abort_clients();
        server.wait_closed().await?;
        for (reader, _writer) in &clients {
            assert_eq!(reader.read_to_end().await?, "");
        }
        Ok(())
    });
}
