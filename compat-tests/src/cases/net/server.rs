//! Servers: what they listen on, what becomes of their connections, and how they close. With the tests of CPython's `test_server.py`
//! that carry over.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use aioli_core::op::{Domain, SocketOption};
use aioli_core::{ContextVar, Error, ErrorKind, Result, create_task, current_task, gather, get_running_loop, sleep};
use aioli_io::{
    Server, Socket, StartServer, StreamReader, StreamWriter, open_connection, start_server, start_server_on,
};

use super::support::{Reports, fill, settle};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "servers" in net_server as __cases_net_server;
    all_interfaces: "SV1"
        = "test_base_events::BaseEventLoopWithSelectorTests::test_create_server_empty_host",
          "test_events::EventLoopTestsMixin::test_create_server",
          "test_events::EventLoopTestsMixin::test_create_server_dual_stack";
    ipv6_is_ipv6_only: "SV1";
    several_hosts_each_once: "SV1" = "test_events::EventLoopTestsMixin::test_create_server_multiple_hosts_ipv4";
    an_address_in_use_is_named: "SV1"
        = "test_events::EventLoopTestsMixin::test_create_server_addr_in_use",
          "test_base_events::BaseEventLoopWithSelectorTests::test_create_server_cant_bind";
    a_port_that_is_shared: "SV1" = "test_events::EventLoopTestsMixin::test_create_server_reuse_port";
    an_address_is_reused: "SV1";
    serving_may_begin_later: "SV4 SV3";
    serve_forever_is_awaited_once: "SV4";
    serve_forever_that_is_cancelled_waits_for_connections: "SV4";
    an_error_of_the_callback_is_reported_and_closes_the_connection: "ST8 L8 X6"
        = "test_streams::StreamTests::test_unhandled_exception";
    a_panic_of_the_callback_is_reported_and_closes_the_connection: "ST8 L7";
    a_callback_that_is_cancelled_closes_the_connection: "ST8" = "test_streams::StreamTests::test_unhandled_cancel";
    a_callback_that_returns_closes_the_connection: "ST8 ST9";
    upstream_start_server_with_a_callback: "ST8" = "test_streams::StreamTests::test_start_server";
    a_connection_has_the_context_of_its_server: "CV2";
    accepting_goes_on: "SV2 D7" = "test_selector_events::BaseSelectorEventLoopTests::test_accept_connection_multiple";
    a_server_goes_on_without_its_handles: "SV3";
    a_server_that_is_left_open_ends_with_the_loop: "L9 SV3";
    a_connection_that_comes_in_while_the_server_closes: "SV3 L4";
    a_server_over_a_socket: "SV1" = "test_events::EventLoopTestsMixin::test_create_server_sock";
    debug_output: "X8";
    upstream_start_server_1: "SV4 SV3" = "test_server::BaseStartServer::test_start_server_1";
    upstream_wait_closed_basic: "SV3" = "test_server::TestServer2::test_wait_closed_basic";
    upstream_wait_closed_race: "SV3" = "test_server::TestServer2::test_wait_closed_race";
    upstream_close_clients: "SV3" = "test_server::TestServer2::test_close_clients";
    upstream_abort_clients: "SV3" = "test_server::TestServer2::test_abort_clients";
    upstream_unhandled_exception: "ST8" = "test_streams::StreamTests::test_unhandled_exception";
}

fn io_kind(error: &Error) -> io::ErrorKind {
    error.as_io().unwrap_or_else(|| panic!("{error:?} is no error of the operating system")).kind()
}

fn port(server: &Server) -> u16 {
    server.local_addrs()[0].port()
}

/// What CPython's tests mostly serve: reads to the end, then closes.
async fn serve(reader: StreamReader, writer: StreamWriter) -> Result<()> {
    let read = reader.read_to_end().await;
    writer.close();
    writer.wait_closed().await?;
    read.map(|_| ())
}

async fn greet(_: StreamReader, writer: StreamWriter) -> Result<()> {
    writer.write(b"welcome")
}

async fn greeting(address: SocketAddr) -> Result<()> {
    let (reader, _writer) = open_connection(address.ip().to_string(), address.port()).await?;
    assert_eq!(reader.read_to_end().await?, "welcome");
    Ok(())
}

fn all_interfaces(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let ipv6 = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
        let servers = [start_server(greet, "", 0), start_server(greet, None::<&str>, 0), start_server_on(greet, ":0")];
        for server in servers {
            let addresses = server.await?.local_addrs();
            assert_eq!(addresses[0].ip(), Ipv4Addr::UNSPECIFIED);
            greeting((Ipv4Addr::LOCALHOST, addresses[0].port()).into()).await?;
            if ipv6 {
                assert_eq!(addresses[1].ip(), Ipv6Addr::UNSPECIFIED);
                greeting((Ipv6Addr::LOCALHOST, addresses[1].port()).into()).await?;
            } else {
                assert_eq!(addresses.len(), 1);
            }
        }
        let server = start_server(greet, "", 0).family(Domain::Ipv4).await?;
        assert_eq!(server.local_addrs().len(), 1);
        Ok(())
    });
}

/// The IPv6 socket leaves the IPv4 port to others, unless somebody else happens to have it.
fn ipv6_is_ipv6_only(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    if TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err() {
        return on.skip("the machine has no IPv6");
    }
    on.net(|| async {
        let mut left = Vec::new();
        while !left.contains(&true) && left.len() < 20 {
            let server = start_server(greet, "", 0).family(Domain::Ipv6).await?;
            left.push(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port(&server))).is_ok());
        }
        assert!(left.contains(&true));
        Ok(())
    });
}

fn several_hosts_each_once(on: &Machine) {
    on.net(|| async {
        let hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.1", "localhost"];
        let server = start_server(greet, hosts, 0).family(Domain::Ipv4).await?;
        let addresses = server.local_addrs();
        let ips: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
        assert_eq!(ips, ["127.0.0.1", "127.0.0.2"]);
        for address in addresses {
            greeting(address).await?;
        }
        Ok(())
    });
}

fn an_address_in_use_is_named(on: &Machine) {
    on.net(|| async {
        let first = start_server(greet, "127.0.0.1", 0).await?;
        let address = first.local_addrs()[0];
        let error = start_server(greet, "127.0.0.1", address.port()).await.unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::AddrInUse);
        assert_eq!(
            error.to_string(),
            format!("error while attempting to bind on address {address}: Address already in use (os error 98)")
        );
        // An address of another machine is left out, and here nothing remains.
        let error = start_server(greet, "192.0.2.1", 0).await.unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::AddrNotAvailable);
        assert_eq!(error.to_string(), "could not bind on any address out of [192.0.2.1:0]");
        let server = start_server(greet, ["192.0.2.1", "127.0.0.1"], 0).await?;
        assert_eq!(server.local_addrs().len(), 1);
        assert_eq!(start_server(greet, "127.0.0.1", 0).limit(0).await.unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(start_server_on(greet, "nowhere").await.unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(start_server(greet, "x".repeat(64), 0).await.unwrap_err().kind(), ErrorKind::Io);
        Ok(())
    });
}

fn a_port_that_is_shared(on: &Machine) {
    on.net(|| async {
        let first = start_server(greet, "127.0.0.1", 0).reuse_port(true).keep_alive(true).await?;
        let second = start_server(greet, "127.0.0.1", port(&first)).reuse_port(true).await?;
        assert_eq!(first.local_addrs(), second.local_addrs());
        Ok(())
    });
}

/// The address of a server that has just closed can be bound again, though its connections linger; without the option it cannot.
fn an_address_is_reused(on: &Machine) {
    on.net(|| async {
        let server = start_server(greet, "127.0.0.1", 0).await?;
        let port = port(&server);
        greeting(server.local_addrs()[0]).await?;
        server.close();
        settle().await?;
        let error = start_server(greet, "127.0.0.1", port).reuse_address(false).await.unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::AddrInUse);
        start_server(greet, "127.0.0.1", port).await?;
        Ok(())
    });
}

fn serving_may_begin_later(on: &Machine) {
    on.net(|| async {
        let server = start_server(greet, "127.0.0.1", 0).start_serving(false).await?;
        let address = server.local_addrs()[0];
        assert!(!server.is_serving());
        assert!(open_connection("127.0.0.1", address.port()).await.is_err());
        server.start_serving().await?;
        assert!(server.is_serving());
        server.start_serving().await?;
        greeting(address).await?;
        server.close();
        assert!(!server.is_serving());
        assert_eq!(server.local_addrs(), []);
        assert_eq!(server.start_serving().await.unwrap_err().kind(), ErrorKind::Runtime);
        assert_eq!(server.serve_forever().await.unwrap_err().to_string(), "the server is closed");
        server.close();
        server.wait_closed().await
    });
}

fn serve_forever_is_awaited_once(on: &Machine) {
    on.net(|| async {
        let server = start_server(greet, "127.0.0.1", 0).start_serving(false).await?;
        let address = server.local_addrs()[0];
        let mut forever = Box::pin(server.serve_forever());
        assert!(futures::poll!(&mut forever).is_pending());
        assert!(server.is_serving());
        let error = server.serve_forever().await.unwrap_err();
        assert_eq!(error.to_string(), "the server is already being awaited on serve_forever()");
        greeting(address).await?;
        // Dropping it closes the server.
        drop(forever);
        assert!(!server.is_serving());
        assert_eq!(io_kind(&greeting(address).await.unwrap_err()), io::ErrorKind::ConnectionRefused);
        Ok(())
    });
}

/// It returns when the last connection has ended, not before.
fn serve_forever_that_is_cancelled_waits_for_connections(on: &Machine) {
    on.net(|| async {
        let server = start_server(serve, "127.0.0.1", 0).await?;
        let (reader, writer) = open_connection("127.0.0.1", port(&server)).await?;
        let served = server.clone();
        let task = create_task(async move { served.serve_forever().await });
        sleep(0.0).await?;
        task.cancel(None);
        settle().await?;
        assert!(!task.done() && !server.is_serving());
        writer.close();
        assert!(task.await.unwrap_err().is_cancelled());
        drop(reader);
        Ok(())
    });
}

fn an_error_of_the_callback_is_reported_and_closes_the_connection(on: &Machine) {
    on.net(|| async {
        let reports = Reports::new();
        let kept = Rc::new(RefCell::new(Vec::new()));
        let keep = Rc::clone(&kept);
        let fail = move |reader: StreamReader, writer: StreamWriter| {
            // They are kept, so that it is not their drop that closes the connection.
            keep.borrow_mut().push((reader, writer));
            async { Err::<(), _>(Error::msg("handler")) }
        };
        let server = start_server(fail, "127.0.0.1", 0).await?;
        let (reader, _writer) = open_connection("127.0.0.1", port(&server)).await?;
        assert_eq!(reader.read_to_end().await?, "");
        assert_eq!(reports.take(), ["unhandled exception in client_connected_cb: handler"]);
        assert!(kept.borrow()[0].1.is_closing());
        Ok(())
    });
}

fn a_panic_of_the_callback_is_reported_and_closes_the_connection(on: &Machine) {
    async fn panicking(_: StreamReader, _writer: StreamWriter) -> Result<()> {
        panic!("in the task")
    }
    async fn unreached() -> Result<()> {
        Ok(())
    }
    let at_once = |_: StreamReader, _: StreamWriter| {
        if true {
            panic!("at once");
        }
        unreached()
    };
    on.net(move || async move {
        let reports = Reports::new();
        let server = start_server(panicking, "127.0.0.1", 0).await?;
        let (reader, _writer) = open_connection("127.0.0.1", port(&server)).await?;
        assert_eq!(reader.read_to_end().await?, "");
        settle().await?;
        assert_eq!(reports.take(), ["unhandled exception in client_connected_cb: panicked: in the task"]);

        let server = start_server(at_once, "127.0.0.1", 0).await?;
        let (reader, _writer) = open_connection("127.0.0.1", port(&server)).await?;
        assert_eq!(reader.read_to_end().await?, "");
        assert_eq!(reports.take(), ["exception in callback: panicked: at once"]);
        // The server goes on.
        let (reader, _writer) = open_connection("127.0.0.1", port(&server)).await?;
        assert_eq!(reader.read_to_end().await?, "");
        reports.take();
        server.close();
        server.wait_closed().await
    });
}

fn a_callback_that_is_cancelled_closes_the_connection(on: &Machine) {
    on.net(|| async {
        let kept = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&kept);
        let cancelled = move |reader: StreamReader, writer: StreamWriter| {
            keep.replace(Some((reader, writer)));
            async {
                current_task().unwrap().cancel(None);
                sleep(0.0).await
            }
        };
        let server = start_server(cancelled, "127.0.0.1", 0).await?;
        let (reader, _writer) = open_connection("127.0.0.1", port(&server)).await?;
        assert_eq!(reader.read_to_end().await?, "");
        assert!(kept.borrow().as_ref().unwrap().1.is_closing());
        Ok(())
    });
}

/// Streams that are dropped without being closed close their connection.
fn a_callback_that_returns_closes_the_connection(on: &Machine) {
    on.net(|| async {
        let server = start_server(async |_, _| Ok("anything"), "127.0.0.1", 0).await?;
        let (reader, _writer) = open_connection("127.0.0.1", port(&server)).await?;
        assert_eq!(reader.read_to_end().await?, "");
        server.close();
        server.wait_closed().await
    });
}

/// A callback may leave the streams to a task of its own.
fn upstream_start_server_with_a_callback(on: &Machine) {
    on.net(|| async {
        let callback = |reader: StreamReader, writer: StreamWriter| {
            create_task(async move {
                writer.write(&reader.readline().await?)?;
                writer.drain().await?;
                writer.close();
                writer.wait_closed().await
            });
            async { Ok(()) }
        };
        let server = start_server(callback, "127.0.0.1", 0).await?;
        let (reader, writer) = open_connection("127.0.0.1", port(&server)).await?;
        writer.write(b"hello world!\n")?;
        assert_eq!(reader.readline().await?, "hello world!\n");
        writer.close();
        writer.wait_closed().await?;
        server.close();
        server.wait_closed().await
    });
}

fn a_connection_has_the_context_of_its_server(on: &Machine) {
    on.net(|| async {
        let variable = Rc::new(ContextVar::<u32>::new());
        let seen = Rc::new(RefCell::new(Vec::new()));
        variable.set(1);
        let (of_task, log) = (Rc::clone(&variable), Rc::clone(&seen));
        let callback = move |_: StreamReader, _: StreamWriter| {
            let (variable, log) = (Rc::clone(&of_task), Rc::clone(&log));
            async move {
                log.borrow_mut().push(variable.get());
                // It is a copy: another connection does not see this.
                variable.set(9);
                Ok(())
            }
        };
        let server = start_server(callback, "127.0.0.1", 0).await?;
        variable.set(2);
        for _ in 0..2 {
            let (reader, _writer) = open_connection("127.0.0.1", port(&server)).await?;
            reader.read_to_end().await?;
        }
        assert_eq!(*seen.borrow(), [Some(1), Some(1)]);
        assert_eq!(variable.get(), Some(2));
        Ok(())
    });
}

/// More connections than are accepted at once, and than may wait.
fn accepting_goes_on(on: &Machine) {
    on.net(|| async {
        for backlog in [0, 1, 100] {
            let count = Rc::new(Cell::new(0));
            let counter = Rc::clone(&count);
            let callback = move |_: StreamReader, _: StreamWriter| {
                counter.set(counter.get() + 1);
                async { Ok(()) }
            };
            let server = start_server(callback, "127.0.0.1", 0).backlog(backlog).await?;
            // One after another: the kernel has no room for many that wait.
            for _ in 0..60 {
                let (reader, _writer) = open_connection("127.0.0.1", port(&server)).await?;
                assert_eq!(reader.read_to_end().await?, "");
            }
            assert_eq!(count.get(), 60);
            if backlog == 100 {
                let opening = (0..90).map(|_| open_connection("127.0.0.1", port(&server))).collect::<Vec<_>>();
                for (reader, _writer) in gather(opening).await? {
                    assert_eq!(reader.read_to_end().await?, "");
                }
                assert_eq!(count.get(), 150);
            }
        }
        Ok(())
    });
}

fn a_server_goes_on_without_its_handles(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let address = start_server(greet, "127.0.0.1", 0).await?.local_addrs()[0];
        settle().await?;
        greeting(address).await?;
        // One that never served does not.
        let address = start_server(greet, "127.0.0.1", 0).start_serving(false).await?.local_addrs()[0];
        TcpListener::bind(address)?;
        Ok(())
    });
}

/// The end of the loop is the end of the server, and nothing to report.
fn a_server_that_is_left_open_ends_with_the_loop(on: &Machine) {
    let reports = Reports::default();
    let left = Rc::new(RefCell::new(None));
    on.net(|| {
        let (keep, handler) = (Rc::clone(&left), reports.clone());
        async move {
            handler.install();
            keep.replace(Some(start_server(serve, "127.0.0.1", 0).await?));
            settle().await
        }
    });
    assert_eq!(reports.take(), [] as [String; 0]);
    let Some(server) = left.take() else { return };
    assert!(!server.is_serving());
    assert_eq!(server.local_addrs(), []);
    server.close();
    server.close_clients();
}

/// Whenever a server is closed while a connection comes in, the client is served or sees the end, and nothing keeps the server open.
fn a_connection_that_comes_in_while_the_server_closes(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        for turns in 0..8 {
            let server = start_server(greet, "127.0.0.1", 0).await?;
            let mut client = TcpStream::connect(server.local_addrs()[0])?;
            for _ in 0..turns {
                sleep(0.0).await?;
            }
            if turns == 7 {
                settle().await?;
            }
            server.close();
            server.wait_closed().await?;
            settle().await?;
            client.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut data = Vec::new();
            match client.read_to_end(&mut data) {
                Ok(_) => assert!(data.is_empty() || data == b"welcome"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
            }
            assert!(turns < 7 || data == b"welcome");
        }
        Ok(())
    });
}

fn a_server_over_a_socket(on: &Machine) {
    on.net(|| async {
        let socket = Socket::stream(Domain::Ipv4)?;
        socket.set_option(SocketOption::ReuseAddress(true))?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let server = StartServer::with_socket(greet, socket).await?;
        greeting(server.local_addrs()[0]).await
    });
}

fn debug_output(on: &Machine) {
    on.net(|| async {
        let server = start_server(serve, "127.0.0.1", 0).await?;
        let _client = open_connection("127.0.0.1", port(&server)).await?;
        settle().await?;
        assert_eq!(
            format!("{server:?}"),
            format!("Server {{ serving: true, addresses: [127.0.0.1:{}], clients: 1, .. }}", port(&server))
        );
        Ok(())
    });
}

fn upstream_start_server_1(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
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
        let server = start_server(callback, "127.0.0.1", 0).start_serving(false).await?;
        assert!(!server.is_serving());
        let address = server.local_addrs()[0];
        let talk = move || -> io::Result<Vec<u8>> {
            let mut client = TcpStream::connect(address)?;
            client.write_all(&[&[b'1'; 5 * 1024][..], b"\n"].concat())?;
            let mut answer = vec![0; 1];
            client.read_exact(&mut answer)?;
            Ok(answer)
        };
        let serving = server.clone();
        let client = create_task(async move {
            while !serving.is_serving() {
                sleep(0.001).await?;
            }
            Ok(thread::spawn(talk))
        });
        // This is what makes it serve.
        let error = server.serve_forever().await.unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(current_task().unwrap().uncancel(), 0);
        assert_eq!(client.await?.join().unwrap()?, b"1");
        assert_eq!(server.local_addrs(), []);
        assert!(!server.is_serving());
        assert_eq!(server.serve_forever().await.unwrap_err().kind(), ErrorKind::Runtime);
        Ok(())
    });
}

fn upstream_wait_closed_basic(on: &Machine) {
    on.net(|| async {
        let server = start_server(serve, "127.0.0.1", 0).await?;
        let wait = || {
            let server = server.clone();
            create_task(async move { server.wait_closed().await })
        };
        let task1 = wait();
        sleep(0.0).await?;
        assert!(!task1.done());
        let (_reader, writer) = open_connection("127.0.0.1", port(&server)).await?;
        let task2 = wait();
        sleep(0.0).await?;
        assert!(!task1.done() && !task2.done());
        server.close();
        sleep(0.0).await?;
        let task3 = wait();
        sleep(0.0).await?;
        assert!(!task1.done() && !task2.done() && !task3.done());
        writer.close();
        writer.wait_closed().await?;
        task1.await?;
        task2.await?;
        task3.await?;
        server.wait_closed().await
    });
}

fn upstream_wait_closed_race(on: &Machine) {
    on.net(|| async {
        let server = start_server(serve, "127.0.0.1", 0).await?;
        let waiting = server.clone();
        let task = create_task(async move { waiting.wait_closed().await });
        sleep(0.0).await?;
        assert!(!task.done());
        let (_reader, writer) = open_connection("127.0.0.1", port(&server)).await?;
        let (closing, writer) = (server.clone(), Rc::new(writer));
        let event_loop = get_running_loop()?;
        event_loop.call_soon(move || closing.close())?;
        event_loop.call_soon(move || writer.close())?;
        server.wait_closed().await?;
        task.await
    });
}

fn upstream_close_clients(on: &Machine) {
    on.net(|| async {
        let server = start_server(serve, "127.0.0.1", 0).await?;
        let _client = open_connection("127.0.0.1", port(&server)).await?;
        let waiting = server.clone();
        let task = create_task(async move { waiting.wait_closed().await });
        sleep(0.0).await?;
        assert!(!task.done());
        server.close();
        server.close_clients();
        sleep(0.0).await?;
        sleep(0.0).await?;
        assert!(task.done());
        Ok(())
    });
}

fn upstream_abort_clients(on: &Machine) {
    on.net(|| async {
        let streams = Rc::new(RefCell::new(None));
        let (keep, served) = (Rc::clone(&streams), Rc::new(Cell::new(false)));
        let serving = Rc::clone(&served);
        let callback = move |reader: StreamReader, writer: StreamWriter| {
            let transport = writer.transport();
            keep.replace(Some((reader, writer)));
            let served = Rc::clone(&serving);
            async move {
                while !transport.is_closing() {
                    sleep(0.001).await?;
                }
                served.set(true);
                Ok(())
            }
        };
        let server = start_server(callback, "127.0.0.1", 0).await?;
        let (_reader, writer) = open_connection("127.0.0.1", port(&server)).limit(4096).await?;
        while streams.borrow().is_none() {
            sleep(0.0).await?;
        }
        let (_server_reader, server_writer) = streams.take().unwrap();
        server_writer.transport().set_option(SocketOption::SendBuffer(65536))?;
        writer.transport().set_option(SocketOption::ReceiveBuffer(65536))?;
        fill(&server_writer, 4096)?;
        while writer.transport().is_reading() {
            sleep(0.001).await?;
        }
        assert_ne!(server_writer.transport().get_write_buffer_size(), 0);

        let waiting = server.clone();
        let task = create_task(async move { waiting.wait_closed().await });
        sleep(0.0).await?;
        assert!(!task.done());
        server.close();
        server.abort_clients();
        sleep(0.0).await?;
        sleep(0.0).await?;
        assert!(task.done());
        settle().await?;
        assert!(served.get());
        Ok(())
    });
}

fn upstream_unhandled_exception(on: &Machine) {
    on.net(|| async {
        let reports = Reports::new();
        let server = start_server(async |_, _| Err::<(), _>(Error::msg("test")), "localhost", 0).await?;
        server.start_serving().await?;
        let (_reader, writer) = open_connection("localhost", port(&server)).await?;
        writer.write(b"test msg")?;
        writer.drain().await?;
        writer.close();
        writer.wait_closed().await?;
        server.close();
        server.wait_closed().await?;
        assert_eq!(reports.take(), ["unhandled exception in client_connected_cb: test"]);
        Ok(())
    });
}
