//! Opening connections: names, addresses, errors, and giving up.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use aioli_core::op::Domain;
use aioli_core::{Error, ErrorKind, all_tasks, create_task, get_running_loop, sleep, timeout};
use aioli_io::{
    Address, NameFlags, OpenConnection, Socket, getaddrinfo, getnameinfo, open_connection, open_connection_to,
    start_server,
};

use super::support::{Peer, refusing, settle, turn, unresponsive};
use crate::case::cases;
use crate::machine::Machine;
use crate::varied::TWO_FAMILIES;

cases! {
    ($) "connect" in net_connect as __cases_net_connect;
    a_name_is_looked_up: "DN1 CN1";
    an_unknown_name_is_an_error: "DN1"
        = "test_base_events::BaseEventLoopWithSelectorTests::test_create_connection_no_getaddrinfo",
          "test_base_events::BaseEventLoopWithSelectorTests::test_create_server_no_getaddrinfo";
    a_look_up_can_be_cancelled: "DN1 CA23";
    addresses_of_a_name: "DN1";
    the_name_of_an_address: "DN1" = "test_base_events::BaseEventLoopWithSelectorTests::test_getnameinfo";
    a_single_error_is_raised_as_it_is: "CN1"
        = "test_base_events::BaseEventLoopWithSelectorTests::test_create_connection_connect_err";
    every_address_is_tried_in_order: "CN1"
        = "test_base_events::BaseEventLoopWithSelectorTests::test_create_connection_multiple",
          "test_base_events::BaseEventLoopWithSelectorTests::test_create_connection_multiple_errors";
    the_limit_must_not_be_0: "ST1";
    a_connection_from_an_address: "CN2"
        = "test_events::EventLoopTestsMixin::test_create_connection_local_addr",
          "test_events::EventLoopTestsMixin::test_create_connection_local_addr_in_use",
          "test_base_events::BaseEventLoopWithSelectorTests::test_create_connection_multiple_errors_local_addr",
          "test_base_events::BaseEventLoopWithSelectorTests::test_create_connection_no_local_addr",
          "test_events::EventLoopTestsMixin::test_create_connection_local_addr_nomatch_family";
    local_addresses_of_another_family_are_skipped: "CN1 CN2"
        = "test_events::EventLoopTestsMixin::test_create_connection_local_addr_skip_different_family";
    addresses_as_text: "CN2";
    a_connection_of_ipv6: "CN1";
    an_attempt_can_be_given_up: "CN3 L4";
    sockets_that_come_to_nothing_are_closed: "CN3 L6"
        = "test_base_events::BaseEventLoopWithSelectorTests::test_create_connection_timeout",
          "test_base_events::BaseEventLoopWithSelectorTests::test_create_connection_multiple_errors_local_addr",
          "test_base_events::BaseEventLoopWithSelectorTests::test_create_server_cant_bind";
    happy_eyeballs: "CN3"
        = "test_staggered::StaggeredTests::test_first_timeout_second_successful",
          "test_staggered::StaggeredTests::test_cancelled";
    happy_eyeballs_do_not_wait_after_an_error: "CN3"
        = "test_staggered::StaggeredTests::test_first_error_second_successful",
          "test_staggered::StaggeredTests::test_one_successful";
    of_two_connections_at_once_the_first_is_taken: "CN3" = "test_staggered::StaggeredTests::test_multiple_winners";
    happy_eyeballs_that_fail: "CN1 CN3"
        = "test_staggered::StaggeredTests::test_none_successful",
          "test_staggered::StaggeredTests::test_empty";
    streams_over_a_socket: "TP1 ST2" = "test_sock_lowlevel::BaseSockTestsMixin::test_create_connection_sock";
    a_connection_is_opened_once: "CN1";
    outside_of_a_loop: "LP15";
}

fn io_kind(error: &Error) -> io::ErrorKind {
    error.as_io().unwrap_or_else(|| panic!("{error:?} is no error of the operating system")).kind()
}

fn a_name_is_looked_up(on: &Machine) {
    on.net(|| async {
        let peer = Peer::start().await?;
        let (_reader, writer) = open_connection("localhost", peer.port()).await?;
        assert_eq!(writer.peer_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
        let (_reader, writer) = open_connection("localhost", peer.port()).family(Domain::Ipv4).await?;
        assert_eq!(writer.peer_addr().unwrap().port(), peer.port());
        Ok(())
    });
}

fn an_unknown_name_is_an_error(on: &Machine) {
    on.net(|| async {
        // Longer than a name may be, so that nobody is asked.
        let error = open_connection("x".repeat(64), 80).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("lookup"), "{error}");
        let error = open_connection("zero\0byte", 80).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        Ok(())
    });
}

fn a_look_up_can_be_cancelled(on: &Machine) {
    on.net(|| async {
        let task = create_task(open_connection("localhost", 1));
        sleep(0.0).await?;
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        sleep(0.02).await
    });
}

fn addresses_of_a_name(on: &Machine) {
    on.net_exact(|| async {
        let before = turn();
        let numeric = [("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7")];
        for (host, address) in numeric {
            assert_eq!(getaddrinfo(host, 7).await?, [address.parse()?]);
        }
        assert_eq!(turn(), before, "nobody was asked");
        let both: [SocketAddr; 2] = ["[::1]:7".parse()?, "127.0.0.1:7".parse()?];
        assert_eq!(getaddrinfo(TWO_FAMILIES, 7).await?, both);
        let found = getaddrinfo("localhost", 7).await?;
        assert!(found.contains(&both[1]) && found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
        assert_eq!(getaddrinfo("zero\0byte", 7).await.unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(getaddrinfo(&"x".repeat(64), 7).await.unwrap_err().kind(), ErrorKind::Io);
        Ok(())
    });
}

fn the_name_of_an_address(on: &Machine) {
    on.net(|| async {
        let numeric = NameFlags { numeric_host: true, numeric_service: true, ..NameFlags::default() };
        let before = turn();
        for (address, host) in [("127.0.0.1:7", "127.0.0.1"), ("[::1]:7", "::1")] {
            assert_eq!(getnameinfo(address.parse()?, numeric).await?, (host.into(), "7".into()));
        }
        assert!(turn() > before, "it is asked elsewhere");
        let named = NameFlags { name_required: true, ..numeric };
        assert_eq!(getnameinfo(([127, 0, 0, 1], 7).into(), named).await.unwrap_err().kind(), ErrorKind::Io);
        // What they are called is the machine's affair.
        let (host, service) = getnameinfo(([127, 0, 0, 1], 7).into(), NameFlags::default()).await?;
        assert!(!host.is_empty() && !service.is_empty());
        let task = create_task(getnameinfo(([127, 0, 0, 1], 7).into(), numeric));
        sleep(0.0).await?;
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        Ok(())
    });
}

fn a_single_error_is_raised_as_it_is(on: &Machine) {
    on.net(|| async {
        let (_socket, address) = refusing();
        let port = address.port();
        let error = open_connection("127.0.0.1", port).await.unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::ConnectionRefused);
        assert_eq!(
            error.to_string(),
            format!("connect call failed 127.0.0.1:{port}: Connection refused (os error 111)")
        );
        let error = open_connection("127.0.0.1", port).all_errors(true).await.unwrap_err();
        assert_eq!((error.kind(), error.errors().len()), (ErrorKind::Group, 1));
        assert_eq!(error.to_string().split(';').next(), Some("open_connection failed (1 sub-error)"));
        Ok(())
    });
}

fn every_address_is_tried_in_order(on: &Machine) {
    on.net(|| async {
        let peer = Peer::start().await?;
        let (sockets, closed): (Vec<_>, Vec<_>) = [refusing(), refusing()].into_iter().unzip();
        let closed = [closed[0], closed[1]];
        let open: SocketAddr = ([127, 0, 0, 1], peer.port()).into();
        let (_reader, writer) = OpenConnection::with_addresses([closed[0], open, closed[1]]).await?;
        assert_eq!(writer.peer_addr(), Some(open));

        for delay in [None, Some(Duration::from_secs(9))] {
            let connect = || {
                let connection = OpenConnection::with_addresses(closed);
                match delay {
                    None => connection,
                    // A failure begins the next attempt at once.
                    Some(delay) => connection.happy_eyeballs_delay(delay),
                }
            };
            let errors = connect().all_errors(true).await.unwrap_err();
            let texts: Vec<_> = errors.errors().iter().map(ToString::to_string).collect();
            assert_eq!(
                texts,
                closed.map(|address| format!("connect call failed {address}: Connection refused (os error 111)"))
            );
            assert_eq!(connect().await.unwrap_err().to_string(), format!("multiple errors: {}", texts.join(", ")));
        }
        // The same text twice is one error.
        let twice = OpenConnection::with_addresses([closed[0], closed[0]]).await.unwrap_err();
        assert_eq!(io_kind(&twice), io::ErrorKind::ConnectionRefused);
        drop(sockets);

        let none = OpenConnection::with_addresses([open]).family(Domain::Ipv6).await.unwrap_err();
        assert_eq!(none.kind(), ErrorKind::Value);
        Ok(())
    });
}

fn the_limit_must_not_be_0(on: &Machine) {
    on.net(|| async {
        assert_eq!(open_connection("127.0.0.1", 1).limit(0).await.unwrap_err().kind(), ErrorKind::Value);
        Ok(())
    });
}

fn a_connection_from_an_address(on: &Machine) {
    on.net(|| async {
        let peer = Peer::start().await?;
        let (_reader, writer) = open_connection("127.0.0.1", peer.port()).local_addr("127.0.0.2", 0).await?;
        assert_eq!(writer.local_addr().unwrap().ip(), Ipv4Addr::new(127, 0, 0, 2));
        // A port that was free a moment ago, at an address that nobody else uses.
        let (address, free) = ("127.0.0.3", writer.local_addr().unwrap().port());
        let (_reader, writer) = open_connection("127.0.0.1", peer.port()).local_addr(address, free).await?;
        assert_eq!(writer.local_addr().unwrap().to_string(), format!("{address}:{free}"));

        let taken = peer.port();
        let error = open_connection("127.0.0.1", 1).local_addr("127.0.0.1", taken).await.unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::AddrInUse);
        assert!(
            error.to_string().starts_with(&format!("error while attempting to bind on address 127.0.0.1:{taken}: ")),
            "{error}"
        );
        let error = open_connection("127.0.0.1", peer.port()).local_addr("::1", 0).await.unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains("no local address of the family"), "{error}");
        // Each address fails in its own way.
        let both = ["[::1]:1", "127.0.0.1:1"].map(|address| address.parse::<SocketAddr>().unwrap());
        let open = || OpenConnection::with_addresses(both).local_addr("127.0.0.1", taken);
        let error = open().await.unwrap_err();
        assert!(error.to_string().starts_with("multiple errors: "), "{error}");
        let errors = open().all_errors(true).await.unwrap_err();
        let kinds: Vec<_> = errors.errors().iter().map(io_kind).collect();
        assert_eq!(kinds, [io::ErrorKind::AddrNotAvailable, io::ErrorKind::AddrInUse]);
        let error = open_connection("127.0.0.1", 1).family(Domain::Ipv6).await.unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::AddrNotAvailable);
        Ok(())
    });
}

fn local_addresses_of_another_family_are_skipped(on: &Machine) {
    on.net(|| async {
        let peer = Peer::start().await?;
        let (_reader, writer) = open_connection("127.0.0.1", peer.port()).local_addr(TWO_FAMILIES, 0).await?;
        assert_eq!(writer.local_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
        let server = start_server(|_, _| async { Ok(()) }, "::1", 0).await?;
        let (_reader, writer) =
            open_connection("::1", server.local_addrs()[0].port()).local_addr(TWO_FAMILIES, 0).await?;
        assert_eq!(writer.local_addr().unwrap().ip(), Ipv6Addr::LOCALHOST);

        let (_socket, refused) = refusing();
        let error = open_connection("127.0.0.1", refused.port()).local_addr(TWO_FAMILIES, 0).await.unwrap_err();
        assert_eq!(io_kind(&error), io::ErrorKind::ConnectionRefused);
        let error = open_connection(TWO_FAMILIES, peer.port()).local_addr("::1", 0).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("multiple errors: connect call failed [::1]:"), "{text}");
        assert!(text.contains("no local address of the family of 127.0.0.1:"), "{text}");
        Ok(())
    });
}

fn addresses_as_text(on: &Machine) {
    on.net(|| async {
        let peer = Peer::start().await?;
        let (_reader, writer) = open_connection_to(&format!("127.0.0.1:{}", peer.port())).await?;
        assert_eq!(writer.peer_addr().unwrap().port(), peer.port());
        for (text, problem) in [
            ("localhost", "it has no port"),
            ("localhost:", "the port is not a number"),
            ("localhost:http", "the port is not a number"),
            ("localhost:+80", "the port is not a number"),
            ("localhost:-1", "the port is not a number"),
            ("localhost:65536", "a port is a number from 0 to 65535"),
            ("localhost:99999999999999999999", "a port is a number from 0 to 65535"),
            ("::1:80", "an IPv6 address must be in brackets"),
            ("[::1:80", "the bracket is not closed"),
            ("[::1]80", "a colon and a port must follow the bracket"),
            ("", "it has no port"),
            ("a\0b:1", "a host name contains no zero byte"),
        ] {
            let error = open_connection_to(text).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Value);
            assert_eq!(error.to_string(), format!("invalid address {text:?}: {problem}"));
        }
        for text in ["example.org:0", "[::1]:80", ":65535", "127.0.0.1:1"] {
            assert_eq!(text.parse::<Address>()?.to_string(), text);
        }
        Ok(())
    });
}

fn a_connection_of_ipv6(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return on.skip("the machine has no IPv6");
    }
    on.net(|| async {
        let server = start_server(async |_, writer| writer.write(b"six"), "::1", 0).await?;
        let address = server.local_addrs()[0];
        let (reader, writer) = open_connection_to(&address.to_string()).await?;
        assert_eq!(writer.peer_addr(), Some(address));
        assert_eq!(reader.read_to_end().await?, "six");
        Ok(())
    });
}

fn sockets_that_come_to_nothing_are_closed(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.leaves_no_descriptor(|| async {
        let (listener, _busy) = unresponsive(Ipv4Addr::LOCALHOST, 0)?;
        let silent = listener.local_addr()?;
        assert!(timeout(0.01, open_connection("127.0.0.1", silent.port())).await.unwrap_err().is_timeout());
        let from_taken = open_connection("127.0.0.1", 1).local_addr("127.0.0.1", silent.port());
        assert_eq!(io_kind(&from_taken.await.unwrap_err()), io::ErrorKind::AddrInUse);
        let (_socket, refused) = refusing();
        assert_eq!(
            io_kind(&open_connection("127.0.0.1", refused.port()).await.unwrap_err()),
            io::ErrorKind::ConnectionRefused
        );
        let server = start_server(async |_, _| Ok(()), "127.0.0.1", silent.port());
        assert_eq!(io_kind(&server.await.unwrap_err()), io::ErrorKind::AddrInUse);
        settle().await
    });
}

fn an_attempt_can_be_given_up(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let (listener, _busy) = unresponsive(Ipv4Addr::LOCALHOST, 0)?;
        let port = listener.local_addr()?.port();
        let task = create_task(open_connection("127.0.0.1", port));
        settle().await?;
        assert!(!task.done());
        let before = turn();
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(turn() - before, 2);

        assert!(timeout(0.01, open_connection("127.0.0.1", port)).await.unwrap_err().is_timeout());

        let mut dropped = Box::pin(open_connection("127.0.0.1", port));
        assert!(futures::poll!(&mut dropped).is_pending());
        drop(dropped);
        settle().await
    });
}

/// An address that does not answer is not waited for: the next is tried meanwhile, and the first attempt is given up.
fn happy_eyeballs(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let (silent, _busy) = unresponsive(Ipv4Addr::LOCALHOST, 0)?;
        let silent = silent.local_addr()?;
        let peer = Peer::start().await?;
        let open: SocketAddr = ([127, 0, 0, 1], peer.port()).into();
        let event_loop = get_running_loop()?;
        let delay = Duration::from_millis(20);

        let begin = event_loop.time();
        let (_reader, writer) = OpenConnection::with_addresses([silent, open]).happy_eyeballs_delay(delay).await?;
        assert_eq!(writer.peer_addr(), Some(open));
        let took = event_loop.time() - begin;
        assert!(took >= delay && took < Duration::from_millis(500), "{took:?}");
        assert_eq!(all_tasks().len(), 1, "no attempt is left over");

        // When one that was given up is dropped, so are its attempts.
        let connection = OpenConnection::with_addresses([silent, silent]).happy_eyeballs_delay(delay);
        assert!(timeout(0.05, connection).await.unwrap_err().is_timeout());
        settle().await?;
        assert_eq!(all_tasks().len(), 1);
        Ok(())
    });
}

fn happy_eyeballs_do_not_wait_after_an_error(on: &Machine) {
    on.net(|| async {
        let (_socket, refused) = refusing();
        let peer = Peer::start().await?;
        let open: SocketAddr = ([127, 0, 0, 1], peer.port()).into();
        let delay = Duration::from_secs(100);
        for addresses in [&[open, refused][..], &[refused, open], &[refused, refused, open]] {
            let addresses = addresses.iter().copied();
            let (_reader, writer) = OpenConnection::with_addresses(addresses).happy_eyeballs_delay(delay).await?;
            assert_eq!(writer.peer_addr(), Some(open));
            assert_eq!(all_tasks().len(), 1, "no attempt is left over");
        }
        Ok(())
    });
}

fn of_two_connections_at_once_the_first_is_taken(on: &Machine) {
    on.net(|| async {
        let (one, other) = (Peer::start().await?, Peer::start().await?);
        let addresses = [&one, &other].map(|peer| SocketAddr::from(([127, 0, 0, 1], peer.port())));
        let (_reader, writer) = OpenConnection::with_addresses(addresses).happy_eyeballs_delay(Duration::ZERO).await?;
        assert_eq!(writer.peer_addr(), Some(addresses[0]));
        assert_eq!(all_tasks().len(), 1, "no attempt is left over");
        Ok(())
    });
}

fn happy_eyeballs_that_fail(on: &Machine) {
    on.net(|| async {
        let ((_one, a), (_other, b)) = (refusing(), refusing());
        let open = |addresses: &[SocketAddr]| {
            OpenConnection::with_addresses(addresses.iter().copied()).happy_eyeballs_delay(Duration::from_secs(100))
        };
        let texts = [a, b].map(|address| format!("connect call failed {address}: Connection refused (os error 111)"));
        // The errors come in the order of the addresses.
        let error = open(&[a, b]).all_errors(true).await.unwrap_err();
        assert_eq!(error.errors().iter().map(Error::to_string).collect::<Vec<_>>(), texts);
        let error = open(&[a, b]).await.unwrap_err();
        assert_eq!(error.to_string(), format!("multiple errors: {}", texts.join(", ")));
        assert_eq!(open(&[a]).await.unwrap_err().to_string(), texts[0]);
        assert_eq!(open(&[]).await.unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(all_tasks().len(), 1, "no attempt is left over");
        Ok(())
    });
}

fn streams_over_a_socket(on: &Machine) {
    on.net(|| async {
        let peer = Peer::start().await?;
        let socket = Socket::stream(Domain::Ipv4)?;
        socket.connect(([127, 0, 0, 1], peer.port()).into()).await?;
        let (reader, writer) = OpenConnection::with_socket(socket).limit(10).await?;
        assert_eq!(reader.limit(), 10);
        assert_eq!(writer.peer_addr().unwrap().port(), peer.port());
        writer.write(b"x")?;
        let (peer_reader, peer_writer) = peer.accept().await?;
        assert_eq!(peer_reader.readexactly(1).await?, "x");
        peer_writer.write(b"answer")?;
        peer_writer.close();
        assert_eq!(reader.read_to_end().await?, "answer");
        Ok(())
    });
}

fn a_connection_is_opened_once(on: &Machine) {
    on.net(|| async {
        let (_socket, address) = refusing();
        let mut opening = open_connection("127.0.0.1", address.port());
        assert_eq!((&mut opening).await.unwrap_err().kind(), ErrorKind::Io);
        assert_eq!((&mut opening).await.unwrap_err().kind(), ErrorKind::Runtime);
        Ok(())
    });
}

fn outside_of_a_loop(_: &Machine) {
    let error = futures::executor::block_on(open_connection("127.0.0.1", 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Runtime);
}
