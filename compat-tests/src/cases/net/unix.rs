//! Connections over sockets of the Unix domain, by paths and by abstract names. Where names are the machine's own, and no files, the
//! cases are the same but for the files.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use aioli_core::{Error, ErrorKind, Result, create_task, current_task, gather, sleep, timeout};
use aioli_io::{
    OpenConnection, Server, Socket, StartServer, StartUnixServer, StreamReader, StreamWriter, UnixAddress,
    open_unix_connection, start_unix_server,
};

use super::support::{Log, fill, settle};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "unix" in net_unix as __cases_net_unix;
    bytes_go_there_and_back: "SV5 TP9 ST2"
        = "test_events::EventLoopTestsMixin::test_create_unix_connection",
          "test_events::EventLoopTestsMixin::test_create_unix_server",
          "test_streams::StreamTests::test_open_unix_connection",
          "test_streams::StreamTests::test_start_unix_server";
    a_conversation_takes_the_turns_of_cpython: "SV5 TP1 TP6 ST8 L2";
    a_slow_reader_holds_the_writer_up: "TP4 ST1 ST7";
    an_error_of_the_reader_is_that_of_the_read: "ST6" = "test_streams::StreamTests::test_open_unix_connection_error";
    a_server_that_is_started_later: "SV4 SV5" = "test_server::SelectorStartServerTests::test_start_unix_server_1";
    the_file_goes_when_the_server_closes: "SV5"
        = "test_server::UnixServerCleanupTests::test_unix_server_addr_cleanup",
          "test_server::UnixServerCleanupTests::test_unix_server_cleanup_prevented";
    the_file_of_a_bound_socket_goes_too: "SV5" = "test_server::UnixServerCleanupTests::test_unix_server_sock_cleanup";
    a_file_that_is_gone_already_is_no_error: "SV5" = "test_server::UnixServerCleanupTests::test_unix_server_cleanup_gone";
    a_file_that_has_taken_the_place_stays: "SV5" = "test_server::UnixServerCleanupTests::test_unix_server_cleanup_replaced";
    a_machine_without_files_leaves_files_alone: "SV5";
    the_end_of_the_loop_removes_the_file: "SV5 L9";
    a_stale_file_is_replaced: "SV5"
        = "test_unix_events::SelectorEventLoopUnixSocketTests::test_create_unix_server_existing_path_sock";
    a_file_in_use_is_an_error_and_its_server_goes_on: "SV5";
    a_file_that_is_no_socket_is_an_error_and_stays: "SV5"
        = "test_unix_events::SelectorEventLoopUnixSocketTests::test_create_unix_server_existing_path_nonsock";
    abstract_names: "SV5";
    addresses_that_cannot_be_are_errors_with_the_address: "SV5 CN1";
    a_socket_of_another_family_is_an_error: "SV5"
        = "test_unix_events::SelectorEventLoopUnixSocketTests::test_create_unix_server_path_inetsock";
    nobody_listens_yet: "SV5 CN1";
    a_start_that_is_cancelled_leaves_no_server: "SV5 L6 D4";
    a_connection_waits_for_room_in_the_line: "SV5 CN1";
    sockets_of_the_user_become_streams: "SV5 CN1";
    clients_are_closed_and_aborted_with_the_server: "SV3 SV5";
    errors_leave_no_descriptor: "SV5 D4 L6"
        = "test_unix_events::SelectorEventLoopUnixSocketTests::test_create_unix_server_bind_error";
}

/// A directory for socket files, which is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = format!("aioli-unix-{}-{:x}", std::process::id(), fastrand::u64(..));
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

/// A server at this address answers.
async fn answers(address: impl Into<UnixAddress>) -> Result<()> {
    let (reader, writer) = open_unix_connection(address).await?;
    writer.write(b"ciao\n")?;
    assert_eq!(reader.readline().await?, "ciao\n");
    writer.close();
    writer.wait_closed().await
}

fn kind(error: &Error) -> io::ErrorKind {
    error.as_io().unwrap_or_else(|| panic!("{error:?} is no error of the operating system")).kind()
}

fn bytes_go_there_and_back(on: &Machine) {
    on.net(|| async {
        let directory = Directory::new();
        let path = directory.file("echo");
        let server = serve(&path).await?;
        assert_eq!(server.unix_addrs(), [UnixAddress::Path(path.clone())]);
        assert!(server.local_addrs().is_empty());
        let clients = (0..10).map(|n| {
            let path = path.clone();
            async move {
                let (reader, writer) = open_unix_connection(&path).limit(1000).await?;
                assert_eq!(writer.transport().peer_unix_addr(), Some(UnixAddress::Path(path)));
                assert_eq!(writer.transport().local_unix_addr(), Some(UnixAddress::Unnamed));
                assert_eq!((writer.local_addr(), writer.peer_addr()), (None, None));
                let data: Vec<u8> = (0..500_000u32).map(|i| (i * (n + 1)) as u8).collect();
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

fn a_conversation_takes_the_turns_of_cpython(on: &Machine) {
    on.net_exact(|| async {
        let directory = Directory::new();
        let log = Log::default();
        let server_log = log.clone();
        let handler = move |reader: StreamReader, writer: StreamWriter| {
            let log = server_log.clone();
            async move {
                log.add("handler");
                for _ in 0..2 {
                    let data = reader.read(100).await?;
                    log.add(&format!("S.read{}", data.len()));
                }
                writer.write(b"bye")?;
                writer.close();
                writer.wait_closed().await?;
                log.add("S.closed");
                Ok(())
            }
        };
        log.start();
        let server = start_unix_server(handler, directory.file("s")).await?;
        log.add("started");
        assert_eq!(log.take(), ["started@1"]);

        log.start();
        let (reader, writer) = open_unix_connection(directory.file("s")).await?;
        log.add("connected");
        settle().await?;
        assert_eq!(log.take(), ["connected@2", "handler@4"]);

        log.start();
        writer.write(b"hello")?;
        settle().await?;
        assert_eq!(log.take(), ["S.read5@2"]);

        log.start();
        writer.write_eof();
        log.add(&format!("C.read{}", reader.read(10).await?.len()));
        // A program that is being started elsewhere may have the connection for a moment, and delay its end.
        assert_eq!(reader.read(10).await?, "");
        settle().await?;
        let mut events = log.take();
        events.sort();
        assert_eq!(events, ["C.read3@4", "S.closed@4", "S.read0@2"]);

        log.start();
        writer.close();
        writer.wait_closed().await?;
        log.add("C.closed");
        assert_eq!(log.take(), ["C.closed@2"]);
        server.close();
        server.wait_closed().await
    });
}

fn a_slow_reader_holds_the_writer_up(on: &Machine) {
    on.net(|| async {
        let directory = Directory::new();
        let path = directory.file("slow");
        let hold = async |reader: StreamReader, writer: StreamWriter| {
            settle().await?;
            let count = reader.read_to_end().await?.len();
            writer.write(&count.to_be_bytes())
        };
        let server = start_unix_server(hold, &path).limit(16).await?;
        let (reader, writer) = open_unix_connection(&path).await?;
        let count = fill(&writer, 100_000)?;
        let late = timeout(Duration::ZERO, writer.drain()).await;
        assert!(late.unwrap_err().is_timeout());
        writer.drain().await?;
        writer.write_eof();
        assert_eq!(reader.readexactly(8).await?, &count.to_be_bytes()[..]);
        server.close();
        Ok(())
    });
}

fn an_error_of_the_reader_is_that_of_the_read(on: &Machine) {
    on.net(|| async {
        let directory = Directory::new();
        let server = serve(&directory.file("error")).await?;
        let (reader, writer) = open_unix_connection(directory.file("error")).await?;
        reader.set_exception(Error::msg("broken"));
        assert_eq!(reader.read(1).await.unwrap_err().to_string(), "broken");
        writer.close();
        server.close();
        Ok(())
    });
}

fn a_server_that_is_started_later(on: &Machine) {
    on.net(|| async {
        let directory = Directory::new();
        let path = directory.file("later");
        let main = current_task().unwrap();
        let callback = move |reader: StreamReader, writer: StreamWriter| {
            let main = main.clone();
            async move {
                reader.readline().await?;
                main.cancel(None);
                writer.write(b"1")?;
                writer.close();
                writer.wait_closed().await
            }
        };
        let server = start_unix_server(callback, &path).start_serving(false).await?;
        assert!(!server.is_serving());
        server.start_serving().await?;
        assert!(server.is_serving());
        let client = create_task(async move {
            let (reader, writer) = open_unix_connection(&path).await?;
            writer.write(&[&[b'1'; 5 * 1024][..], b"\n"].concat())?;
            reader.readexactly(1).await
        });
        assert!(server.serve_forever().await.unwrap_err().is_cancelled());
        assert_eq!(current_task().unwrap().uncancel(), 0);
        assert_eq!(client.await?, "1");
        assert_eq!(server.unix_addrs(), []);
        assert!(!server.is_serving());
        assert_eq!(server.serve_forever().await.unwrap_err().kind(), ErrorKind::Runtime);
        Ok(())
    });
}

fn the_file_goes_when_the_server_closes(on: &Machine) {
    let files = on.has_descriptors();
    on.net(|| async move {
        let directory = Directory::new();
        let path = directory.file("server");
        let server = serve(&path).await?;
        assert_eq!(path.exists(), files);
        server.close();
        assert!(!path.exists());

        let kept = start_unix_server(echo, &path).cleanup_socket(false).await?;
        kept.close();
        assert_eq!(path.exists(), files);
        // It is stale, or the name is free.
        let again = serve(&path).await?;
        answers(&path).await?;
        again.close();
        assert!(!path.exists());
        Ok(())
    });
}

fn the_file_of_a_bound_socket_goes_too(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let directory = Directory::new();
        let path = directory.file("bound");
        let bound = || Socket::from_fd(OwnedFd::from(UnixListener::bind(&path)?));
        let server = StartUnixServer::with_socket(echo, bound()?).await?;
        assert_eq!(server.unix_addrs(), [UnixAddress::Path(path.clone())]);
        answers(&path).await?;
        server.close();
        assert!(!path.exists());

        let kept = StartUnixServer::with_socket(echo, bound()?).cleanup_socket(false).await?;
        kept.close();
        assert!(path.exists());
        Ok(())
    });
}

fn a_file_that_is_gone_already_is_no_error(on: &Machine) {
    let files = on.has_descriptors();
    on.net(|| async move {
        let directory = Directory::new();
        let path = directory.file("gone");
        let server = serve(&path).await?;
        if files {
            std::fs::remove_file(&path)?;
        }
        server.close();
        server.wait_closed().await
    });
}

fn a_file_that_has_taken_the_place_stays(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let directory = Directory::new();
        let path = directory.file("server");
        let server = serve(&path).await?;
        std::fs::remove_file(&path)?;
        let _other = UnixListener::bind(&path)?;
        server.close();
        assert!(path.exists());

        std::fs::remove_file(&path)?;
        let server = serve(&path).await?;
        std::fs::remove_file(&path)?;
        std::fs::write(&path, "mine")?;
        server.close();
        assert_eq!(std::fs::read_to_string(&path)?, "mine");
        Ok(())
    });
}

fn a_machine_without_files_leaves_files_alone(on: &Machine) {
    let files = on.has_descriptors();
    on.net(|| async move {
        let directory = Directory::new();
        let path = directory.file("real");
        // Stale, for who has files.
        drop(UnixListener::bind(&path)?);
        let first = start_unix_server(echo, &path).start_serving(false).await?;
        let second = start_unix_server(echo, &path).start_serving(false).await;
        assert_eq!(second.is_ok(), files, "what is bound and does not listen is stale, but no name is taken away");
        drop(second);
        first.close();
        assert_eq!(path.exists(), !files);
        Ok(())
    });
}

fn the_end_of_the_loop_removes_the_file(on: &Machine) {
    let Some(on) = on.network() else { return };
    let files = on.has_descriptors();
    let directory = Directory::new();
    let path = directory.file("server");
    let at = path.clone();
    let runner = on.plain_runner();
    let program = async move {
        let server = serve(&at).await?;
        assert_eq!(at.exists(), files);
        open_unix_connection(&at).await?;
        drop(server);
        Ok(())
    };
    runner.run(program).unwrap();
    runner.close().unwrap();
    assert!(!path.exists());
}

fn a_stale_file_is_replaced(on: &Machine) {
    let files = on.has_descriptors();
    on.net(|| async move {
        let directory = Directory::new();
        let path = directory.file("stale");
        if files {
            drop(UnixListener::bind(&path)?);
            assert!(path.exists());
        } else {
            start_unix_server(echo, &path).cleanup_socket(false).await?.close();
        }
        let server = serve(&path).await?;
        answers(&path).await?;
        server.close();
        assert!(!path.exists());
        server.wait_closed().await
    });
}

fn a_file_in_use_is_an_error_and_its_server_goes_on(on: &Machine) {
    on.net(|| async {
        let directory = Directory::new();
        let path = directory.file("used");
        let first = serve(&path).await?;
        let error = serve(&path).await.unwrap_err();
        assert_eq!(kind(&error), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        answers(&path).await?;
        first.close();
        Ok(())
    });
}

fn a_file_that_is_no_socket_is_an_error_and_stays(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let directory = Directory::new();
        let path = directory.file("text");
        std::fs::write(&path, "mine")?;
        assert_eq!(kind(&serve(&path).await.unwrap_err()), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path)?, "mine");
        assert_eq!(kind(&open_unix_connection(&path).await.unwrap_err()), io::ErrorKind::ConnectionRefused);
        Ok(())
    });
}

fn abstract_names(on: &Machine) {
    on.net(|| async {
        let name = format!("\0aioli-{}-{:x}", std::process::id(), fastrand::u64(..));
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
        let again = start_unix_server(echo, &*name).await?;
        answers(&*name).await?;
        again.close();
        Ok(())
    });
}

fn addresses_that_cannot_be_are_errors_with_the_address(on: &Machine) {
    let files = on.has_descriptors();
    on.net(|| async move {
        let long = "/tmp/".to_owned() + &"x".repeat(103);
        for error in
            [start_unix_server(echo, &*long).await.unwrap_err(), open_unix_connection(&*long).await.unwrap_err()]
        {
            assert_eq!(kind(&error), io::ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains(&long), "{error}");
        }
        assert_eq!(kind(&open_unix_connection("a\0b").await.unwrap_err()), io::ErrorKind::InvalidInput);
        assert_eq!(kind(&open_unix_connection("").await.unwrap_err()), io::ErrorKind::InvalidInput);
        let nowhere = "/nonexistent/directory/server";
        let error = open_unix_connection(nowhere).await.unwrap_err();
        assert_eq!(kind(&error), io::ErrorKind::NotFound);
        assert!(error.to_string().contains(nowhere), "{error}");
        if files {
            let error = start_unix_server(echo, nowhere).await.unwrap_err();
            assert_eq!(kind(&error), io::ErrorKind::NotFound);
            assert!(error.to_string().contains(nowhere), "{error}");
        }
        assert_eq!(open_unix_connection("x").limit(0).await.unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(start_unix_server(echo, "x").limit(0).await.unwrap_err().kind(), ErrorKind::Value);
        // The loop goes on.
        settle().await
    });
}

fn a_socket_of_another_family_is_an_error(on: &Machine) {
    on.net(|| async {
        let socket = Socket::stream(aioli_core::op::Domain::Ipv4)?;
        let error = StartUnixServer::with_socket(echo, socket).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains("Unix domain"), "{error}");
        Ok(())
    });
}

fn nobody_listens_yet(on: &Machine) {
    on.net(|| async {
        let directory = Directory::new();
        let path = directory.file("bound");
        let server = start_unix_server(echo, &path).start_serving(false).await?;
        assert_eq!(kind(&open_unix_connection(&path).await.unwrap_err()), io::ErrorKind::ConnectionRefused);
        server.start_serving().await?;
        answers(&path).await?;
        server.close();
        Ok(())
    });
}

fn a_start_that_is_cancelled_leaves_no_server(on: &Machine) {
    on.net(|| async {
        let directory = Directory::new();
        let path = directory.file("start");
        for cancels in [true, false] {
            let starting = create_task(start_unix_server(echo, &path));
            if cancels {
                sleep(0.0).await?;
                starting.cancel(None);
                assert!(starting.await.unwrap_err().is_cancelled());
            } else {
                // It is dropped there.
                assert!(timeout(Duration::ZERO, start_unix_server(echo, directory.file("other"))).await.is_err());
                starting.await?.close();
            }
            assert!(!path.exists());
            assert!(open_unix_connection(&path).await.is_err());
            let server = serve(&path).await?;
            answers(&path).await?;
            server.close();
        }
        assert!(open_unix_connection(directory.file("other")).await.is_err());
        Ok(())
    });
}

fn a_connection_waits_for_room_in_the_line(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let directory = Directory::new();
        let path = directory.file("full");
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

fn sockets_of_the_user_become_streams(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let directory = Directory::new();
        let path = directory.file("user");
        let listener = Socket::from_fd(OwnedFd::from(UnixListener::bind(&path)?))?;
        let server = StartServer::with_socket(echo, listener).await?;
        assert_eq!(server.unix_addrs(), [UnixAddress::Path(path.clone())]);
        let client = Socket::from_fd(OwnedFd::from(UnixStream::connect(&path)?))?;
        let (reader, writer) = OpenConnection::with_socket(client).await?;
        writer.write(b"ciao\n")?;
        assert_eq!(reader.readline().await?, "ciao\n");
        server.close();
        // Whoever made the file keeps it, as with `start_server(sock=…)`.
        assert!(path.exists());
        Ok(())
    });
}

fn clients_are_closed_and_aborted_with_the_server(on: &Machine) {
    on.net(|| async {
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

fn errors_leave_no_descriptor(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.leaves_no_descriptor(|| async {
        let directory = Directory::new();
        let path = directory.file("s");
        let server = serve(&path).await?;
        assert!(serve(&path).await.is_err());
        assert!(start_unix_server(echo, "/nonexistent/s").await.is_err());
        assert!(start_unix_server(echo, &*"x".repeat(200)).await.is_err());
        assert!(open_unix_connection("/nonexistent/s").await.is_err());
        answers(&path).await?;
        drop(open_unix_connection(&path).await?);
        create_task(open_unix_connection(&path)).cancel(None);
        drop(open_unix_connection(&path));
        let starting = create_task(start_unix_server(echo, directory.file("t")));
        sleep(0.0).await?;
        starting.cancel(None);
        settle().await?;
        server.close();
        server.wait_closed().await
    });
}
