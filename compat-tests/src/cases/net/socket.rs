//! Sockets without buffers: that cancelling loses nothing, that operations of a direction run in order; with the tests of CPython's
//! `test_sock_lowlevel.py` that carry over.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use aioli_core::op::{Domain, ShutdownHow, SocketOption};
use aioli_core::{Error, ErrorKind, Result, create_task, gather, sleep, timeout};
use aioli_io::{OpenConnection, Socket, StartServer, StreamWriter};

use super::support::{settle, turn};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "sockets" in net_socket as __cases_net_socket;
    immediate_operations_do_not_suspend: "SK3 L2" = "test_sock_lowlevel::BaseSockTestsMixin::test_sock_client_ops";
    a_receive_waits_for_data: "SK3" = "test_sock_lowlevel::BaseSockTestsMixin::test_sock_client_ops";
    a_cancelled_receive_loses_nothing: "SK3 SK5 L4" = "test_events::EventLoopTestsMixin::test_prompt_cancellation";
    a_dropped_receive_loses_nothing: "SK5 L4 L6";
    streams_get_what_was_received_for_nobody: "L4";
    a_cancelled_accept_loses_no_connection: "L4 SK3";
    a_connection_for_nobody_is_served_by_the_server_that_the_listener_becomes: "L4 L6 SV1";
    a_connection_for_nobody_is_closed: "L4 L6 D4";
    receives_are_in_line: "L4 SK3";
    a_lane_that_was_given_in_vain_is_passed_on: "L4 L6";
    a_send_waits_until_everything_is_taken: "SK3";
    sends_stay_in_order: "SK3 L4" = "test_sock_lowlevel::BaseSockTestsMixin::test_sock_client_racing";
    errors_of_the_operating_system: "SK4";
    a_poll_can_be_cancelled: "SK1 D2 SK2";
    a_descriptor_from_elsewhere: "SK3 D3" = "test_sock_lowlevel::BaseSockTestsMixin::test_unix_sock_client_ops";
    a_step_takes_64_operations_without_yielding: "L2";
    outside_of_a_loop: "LP15";
    upstream_sock_client_racing: "SK3 L4" = "test_sock_lowlevel::BaseSockTestsMixin::test_sock_client_racing";
    upstream_sock_client_connect_racing: "SK3 SK4" = "test_sock_lowlevel::BaseSockTestsMixin::test_sock_client_connect_racing";
    upstream_sock_client_fail: "SK4" = "test_sock_lowlevel::BaseSockTestsMixin::test_sock_client_fail";
    upstream_cancel_sock_accept: "SK3 L4" = "test_sock_lowlevel::BaseSockTestsMixin::test_cancel_sock_accept";
    upstream_huge_content: "SK3"
        = "test_sock_lowlevel::BaseSockTestsMixin::test_huge_content",
          "test_sock_lowlevel::BaseSockTestsMixin::test_huge_content_recvinto";
    upstream_sock_accept: "SK3" = "test_sock_lowlevel::BaseSockTestsMixin::test_sock_accept";
}

fn io_kind(error: &Error) -> io::ErrorKind {
    error.as_io().unwrap_or_else(|| panic!("{error:?} is no error of the operating system")).kind()
}

fn listener() -> Result<Socket> {
    let listener = Socket::stream(Domain::Ipv4)?;
    listener.bind(([127, 0, 0, 1], 0).into())?;
    listener.listen(10)?;
    Ok(listener)
}

/// Two sockets that are connected.
async fn pair() -> Result<(Rc<Socket>, Rc<Socket>)> {
    let listener = listener()?;
    let client = Socket::stream(Domain::Ipv4)?;
    client.connect(listener.local_addr()?).await?;
    let (server, peer) = listener.accept().await?;
    assert_eq!(peer, client.local_addr()?);
    assert_eq!(server.peer_addr()?, peer);
    Ok((Rc::new(client), Rc::new(server)))
}

/// Two sockets that are connected, the first of which cannot send a single byte before the second has received.
async fn clogged_pair() -> Result<(Rc<Socket>, Rc<Socket>)> {
    let listener = listener()?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept().await?;
    client.set_nonblocking(true)?;
    for size in [65_536, 1024, 1] {
        while client.write(&vec![b' '; size]).is_ok() {}
    }
    Ok((Rc::new(Socket::from_fd(OwnedFd::from(client))?), Rc::new(server)))
}

fn immediate_operations_do_not_suspend(on: &Machine) {
    on.net(|| async {
        let (client, server) = pair().await?;
        let before = turn();
        client.sendall(b"hello").await?;
        assert_eq!(turn(), before);
        server.readable().await?;
        // The first receive may wait until the driver has heard of the data.
        assert_eq!(server.recv(3).await?, "hel");
        let before = turn();
        let mut buffer = [0; 10];
        assert_eq!(server.recv_into(&mut buffer).await?, 2);
        assert_eq!(&buffer[..2], b"lo");
        server.writable().await?;
        assert_eq!(server.recv(0).await?, "");
        assert_eq!(server.recv_into(&mut []).await?, 0);
        assert_eq!(turn(), before);
        client.shutdown(ShutdownHow::Write)?;
        assert_eq!(server.recv(3).await?, "");
        assert_eq!(server.recv_into(&mut buffer).await?, 0);
        Ok(())
    });
}

fn a_receive_waits_for_data(on: &Machine) {
    on.net(|| async {
        let (client, server) = pair().await?;
        let receiving = Rc::clone(&server);
        let task = create_task(async move { receiving.recv(100).await });
        settle().await?;
        assert!(!task.done());
        client.sendall(b"data").await?;
        assert_eq!(task.await?, "data");
        Ok(())
    });
}

/// On a backend that finishes what was cancelled, data that came for nobody is the first that the next receive returns.
fn a_cancelled_receive_loses_nothing(on: &Machine) {
    async fn test() -> Result<()> {
        let (client, server) = pair().await?;
        for into in [false, true] {
            let receiving = Rc::clone(&server);
            let task = create_task(async move { receiving.recv(3).await });
            settle().await?;
            let before = turn();
            task.cancel(None);
            assert!(task.await.unwrap_err().is_cancelled());
            assert_eq!(turn() - before, 2, "one for the request, one for the task that awaits the other");
            client.sendall(b"abcdef").await?;
            settle().await?;
            let mut all = Vec::new();
            while all.len() < 6 {
                let mut buffer = [0; 2];
                let data = if into {
                    let count = server.recv_into(&mut buffer).await?;
                    &buffer[..count]
                } else {
                    &server.recv(2).await?
                };
                assert!(!data.is_empty() && data.len() <= 2);
                all.extend_from_slice(data);
            }
            assert_eq!(all, b"abcdef");
        }
        Ok(())
    }
    on.net(test);
    on.net_deaf(test);
}

fn a_dropped_receive_loses_nothing(on: &Machine) {
    async fn test() -> Result<()> {
        let (client, server) = pair().await?;
        let mut receive = Box::pin(server.recv(3));
        assert!(futures::poll!(&mut receive).is_pending());
        drop(receive);
        client.sendall(b"abc").await?;
        assert_eq!(server.recv(100).await?, "abc");
        client.shutdown(ShutdownHow::Write)?;
        assert_eq!(server.recv(100).await?, "");
        Ok(())
    }
    on.net(test);
    on.net_deaf(test);
}

/// Data that came for a receive that was given up also goes to the streams that are made of the socket.
fn streams_get_what_was_received_for_nobody(on: &Machine) {
    async fn test() -> Result<()> {
        let (client, server) = pair().await?;
        let mut receive = Box::pin(server.recv(3));
        assert!(futures::poll!(&mut receive).is_pending());
        drop(receive);
        client.sendall(b"abcdef").await?;
        settle().await?;
        assert_eq!(server.recv(1).await?, "a");
        let server = Rc::into_inner(server).unwrap();
        let (reader, _writer) = OpenConnection::with_socket(server).await?;
        assert_eq!(reader.readexactly(5).await?, "bcdef");
        Ok(())
    }
    on.net(test);
    on.net_deaf(test);
}

fn a_cancelled_accept_loses_no_connection(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    async fn test() -> Result<()> {
        let listener = Rc::new(listener()?);
        let accepting = Rc::clone(&listener);
        let task = create_task(async move { accepting.accept().await.map(|_| ()) });
        settle().await?;
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        let clients = [TcpStream::connect(listener.local_addr()?)?, TcpStream::connect(listener.local_addr()?)?];
        settle().await?;
        for client in clients {
            let (_socket, peer) = listener.accept().await?;
            assert_eq!(peer, client.local_addr()?);
        }
        Ok(())
    }
    on.net(test);
    on.net_deaf(test);
}

/// A connection that came for an accept that was given up is closed with the listener.
fn a_connection_for_nobody_is_closed(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    async fn test() -> Result<()> {
        let listener = listener()?;
        let mut accept = Box::pin(listener.accept());
        assert!(futures::poll!(&mut accept).is_pending());
        drop(accept);
        let mut client = TcpStream::connect(listener.local_addr()?)?;
        settle().await?;
        drop(listener);
        settle().await?;
        match client.read(&mut [0]) {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
        Ok(())
    }
    on.net(test);
    on.net_deaf(test);
}

fn a_connection_for_nobody_is_served_by_the_server_that_the_listener_becomes(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    async fn test() -> Result<()> {
        let listener = listener()?;
        let address = listener.local_addr()?;
        let mut accept = Box::pin(listener.accept());
        assert!(futures::poll!(&mut accept).is_pending());
        drop(accept);
        let mut clients = [TcpStream::connect(address)?, TcpStream::connect(address)?];
        settle().await?;
        let greeting = async |_reader, writer: StreamWriter| writer.write(b"welcome");
        let server = StartServer::with_socket(greeting, listener).start_serving(false).await?;
        server.start_serving().await?;
        settle().await?;
        server.close();
        server.wait_closed().await?;
        for client in &mut clients {
            let mut text = String::new();
            client.read_to_string(&mut text)?;
            assert_eq!(text, "welcome");
        }
        Ok(())
    }
    on.net(test);
    on.net_deaf(test);
}

/// Operations of one direction take turns, in the order in which they were called.
fn receives_are_in_line(on: &Machine) {
    on.net(|| async {
        let (client, server) = pair().await?;
        let log = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..4)
            .map(|n| {
                let (server, log) = (Rc::clone(&server), Rc::clone(&log));
                create_task(async move {
                    let data = server.recv(1).await?;
                    log.borrow_mut().push((n, data[0]));
                    Ok(())
                })
            })
            .collect();
        settle().await?;
        // One leaves the line, another is given up although its turn has come.
        tasks[1].cancel(None);
        tasks[0].cancel(None);
        settle().await?;
        assert!(tasks[0].cancelled() && tasks[1].cancelled());
        client.sendall(b"xyz").await?;
        settle().await?;
        assert_eq!(*log.borrow(), [(2, b'x'), (3, b'y')]);
        assert_eq!(server.recv(9).await?, "z");
        Ok(())
    });
}

/// The lane is given to a receive in the turn in which that is cancelled: the next one gets it.
fn a_lane_that_was_given_in_vain_is_passed_on(on: &Machine) {
    on.net(|| async {
        let (client, server) = pair().await?;
        let receive = |count| {
            let server = Rc::clone(&server);
            create_task(async move { server.recv(count).await })
        };
        let (first, second, third) = (receive(1), receive(2), receive(3));
        settle().await?;
        client.sendall(b"1").await?;
        while !first.done() {
            sleep(0.0).await?;
        }
        second.cancel(None);
        client.sendall(b"234").await?;
        assert_eq!(third.await?, "234");
        assert!(second.cancelled());
        assert_eq!(first.await?, "1");
        Ok(())
    });
}

fn a_send_waits_until_everything_is_taken(on: &Machine) {
    on.net(|| async {
        let (client, server) = pair().await?;
        let data: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        let expected = data.clone();
        let sending = create_task(async move { client.sendall(&data).await });
        let mut received = Vec::new();
        while received.len() < expected.len() {
            received.extend_from_slice(&server.recv(1 << 20).await?);
        }
        sending.await?;
        assert!(received == expected);
        Ok(())
    });
}

/// A send that is given up leaves the order of those after it alone, and what the kernel took of it is sent.
fn sends_stay_in_order(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    async fn test() -> Result<()> {
        let (client, server) = clogged_pair().await?;
        let send = |data: &'static [u8]| {
            let client = Rc::clone(&client);
            create_task(async move { client.sendall(data).await })
        };
        let given_up = send(b"hello");
        settle().await?;
        assert!(!given_up.done());
        given_up.cancel(None);
        let (one, two) = (send(b"wor"), send(b"ld"));
        let mut received = Vec::new();
        while !received.ends_with(b"world") {
            received.extend_from_slice(&server.recv(8192).await?);
        }
        one.await?;
        two.await?;
        let text: Vec<u8> = received.into_iter().filter(|byte| *byte != b' ').collect();
        assert!(text == b"world" || text == b"helloworld", "{text:?}");
        Ok(())
    }
    on.net(test);
    on.net_deaf(test);
}

fn errors_of_the_operating_system(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let address = taken.local_addr()?;
        let socket = Socket::stream(Domain::Ipv4)?;
        let error = socket.bind(address).unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert_eq!(io_kind(&socket.peer_addr().unwrap_err()), io::ErrorKind::NotConnected);
        assert_eq!(io_kind(&socket.recv(1).await.unwrap_err()), io::ErrorKind::NotConnected);
        assert_eq!(io_kind(&socket.shutdown(ShutdownHow::Both).unwrap_err()), io::ErrorKind::NotConnected);
        assert_eq!(socket.sendall(b"x").await.unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(socket.accept().await.unwrap_err().kind(), ErrorKind::Io);

        let (client, server) = pair().await?;
        server.set_option(SocketOption::Linger(Some(0)))?;
        drop(server);
        assert_eq!(io_kind(&client.recv(1).await.unwrap_err()), io::ErrorKind::ConnectionReset);
        assert_eq!(io_kind(&client.sendall(b"x").await.unwrap_err()), io::ErrorKind::BrokenPipe);
        Ok(())
    });
}

fn a_poll_can_be_cancelled(on: &Machine) {
    on.net(|| async {
        let (client, server) = pair().await?;
        assert!(timeout(0.005, server.readable()).await.unwrap_err().is_timeout());
        client.sendall(b"x").await?;
        server.readable().await?;
        server.readable().await?;
        assert_eq!(server.recv(9).await?, "x");
        Ok(())
    });
}

fn a_descriptor_from_elsewhere(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let (ours, mut theirs) = UnixStream::pair()?;
        let socket = Socket::from_fd(OwnedFd::from(ours))?;
        theirs.write_all(b"question")?;
        assert_eq!(socket.recv(4).await?, "ques");
        let mut rest = [0; 100];
        assert_eq!(socket.recv_into(&mut rest).await?, 4);
        assert_eq!(&rest[..4], b"tion");
        socket.sendall(b"answer").await?;
        let mut answer = [0; 6];
        theirs.read_exact(&mut answer)?;
        assert_eq!(&answer, b"answer");
        assert_eq!(socket.local_addr().unwrap_err().kind(), ErrorKind::Io);
        let (reader, writer) = OpenConnection::with_socket(socket).await?;
        assert_eq!(writer.peer_addr(), None);
        writer.write(b"bye")?;
        writer.close();
        assert_eq!(reader.read(1).await?, "");
        let mut rest = Vec::new();
        theirs.read_to_end(&mut rest)?;
        assert_eq!(rest, b"bye");
        Ok(())
    });
}

/// A socket whose data is always there lets others run nevertheless.
fn a_step_takes_64_operations_without_yielding(on: &Machine) {
    on.net(|| async {
        let (client, server) = pair().await?;
        client.sendall(&[b'x'; 200]).await?;
        server.readable().await?;
        server.recv(1).await?;
        sleep(0.0).await?;
        let before = turn();
        for _ in 0..64 {
            server.recv(1).await?;
        }
        assert_eq!(turn(), before);
        server.recv(1).await?;
        assert_eq!(turn(), before + 1);
        Ok(())
    });
}

fn outside_of_a_loop(_: &Machine) {
    assert_eq!(Socket::stream(Domain::Ipv4).unwrap_err().kind(), ErrorKind::Runtime);
}

fn upstream_sock_client_racing(on: &Machine) {
    on.net(|| async {
        let (client, server) = pair().await?;
        let receiving = Rc::clone(&server);
        let task = create_task(async move { receiving.recv(1024).await });
        sleep(0.0).await?;
        task.cancel(None);
        let sending = create_task(async move { client.sendall(b"GET / HTTP/1.0\r\n\r\n").await });
        assert!(server.recv(1024).await?.starts_with(b"GET"));
        sending.await?;
        assert!(task.await.unwrap_err().is_cancelled());

        let (client, server) = pair().await?;
        let receiving = Rc::clone(&server);
        let task = create_task(async move { receiving.recv_into(&mut [0; 1024]).await });
        sleep(0.0).await?;
        task.cancel(None);
        let sending = create_task(async move { client.sendall(b"GET / HTTP/1.0\r\n\r\n").await });
        let mut data = [0; 1024];
        assert!(server.recv_into(&mut data).await? >= 3 && data.starts_with(b"GET"));
        sending.await?;
        assert!(task.await.unwrap_err().is_cancelled());
        Ok(())
    });
}

fn upstream_sock_client_connect_racing(on: &Machine) {
    on.net(|| async {
        let listener = Socket::stream(Domain::Ipv4)?;
        listener.bind(([127, 0, 0, 1], 0).into())?;
        let address = listener.local_addr()?;
        let socket = Rc::new(Socket::stream(Domain::Ipv4)?);
        let connecting = Rc::clone(&socket);
        let task = create_task(async move { connecting.connect(address).await });
        sleep(0.0).await?;
        task.cancel(None);
        listener.listen(1)?;
        let mut tries = 0;
        while let Err(error) = socket.connect(address).await {
            assert_eq!(io_kind(&error), io::ErrorKind::ConnectionRefused);
            tries += 1;
            assert!(tries < 128);
        }
        listener.accept().await?;
        Ok(())
    });
}

fn upstream_sock_client_fail(on: &Machine) {
    on.net(|| async {
        let (_refusing, address) = super::support::refusing();
        let socket = Socket::stream(Domain::Ipv4)?;
        let error = socket.connect(address).await.unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::ConnectionRefused);
        assert_eq!(error.to_string(), format!("connect call failed {address}: Connection refused (os error 111)"));
        Ok(())
    });
}

fn upstream_sock_accept(on: &Machine) {
    on.net(|| async {
        let listener = listener()?;
        let client = Socket::stream(Domain::Ipv4)?;
        client.connect(listener.local_addr()?).await?;
        let (accepted, address) = listener.accept().await?;
        assert_eq!(address, client.local_addr()?);
        assert_eq!(client.peer_addr()?, listener.local_addr()?);
        assert_eq!(accepted.local_addr()?, listener.local_addr()?);
        // It does not block.
        assert!(timeout(0.005, accepted.recv(1)).await.unwrap_err().is_timeout());
        Ok(())
    });
}

fn upstream_cancel_sock_accept(on: &Machine) {
    on.net(|| async {
        let listener = Socket::stream(Domain::Ipv4)?;
        listener.set_option(SocketOption::ReusePort(true))?;
        listener.bind(([127, 0, 0, 1], 0).into())?;
        let address = listener.local_addr()?;
        // So that nobody else gets the port meanwhile.
        let holder = Socket::stream(Domain::Ipv4)?;
        holder.set_option(SocketOption::ReusePort(true))?;
        holder.bind(address)?;
        listener.listen(1)?;
        assert!(timeout(0.01, listener.accept()).await.unwrap_err().is_timeout());
        drop(listener);
        let error = Socket::stream(Domain::Ipv4)?.connect(address).await.unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::ConnectionRefused);
        Ok(())
    });
}

fn upstream_huge_content(on: &Machine) {
    on.net(|| async {
        let (client, server) = pair().await?;
        let echo = create_task(async move {
            loop {
                let data = server.recv(1 << 20).await?;
                if data.is_empty() {
                    return Ok(());
                }
                server.sendall(&data).await?;
            }
        });
        let sent: Vec<u8> = b"0123456789".repeat(100_000);
        let receive = async {
            let mut received = vec![0; sent.len()];
            let mut count = 0;
            while count < received.len() {
                count += client.recv_into(&mut received[count..]).await?;
            }
            Ok::<_, Error>(received)
        };
        let (sending, received) = futures::join!(client.sendall(&sent), receive);
        sending?;
        assert!(received? == sent);
        client.shutdown(ShutdownHow::Write)?;
        gather(vec![echo]).await?;
        Ok(())
    });
}
