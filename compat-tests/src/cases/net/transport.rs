//! What goes through a connection: CPython's tests of its transports, written with streams.

use std::net::{Ipv6Addr, TcpListener};

use aioli_core::{Result, create_task, gather};
use aioli_io::{StreamReader, StreamWriter, open_connection, start_server};
use bytes::Bytes;

use super::support::{fill, pair, settle};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "streams" in net_transport as __cases_net_transport;
    empty_writes_are_ignored: "TP3"
        = "test_selector_events::SelectorSocketTransportTests::test_write_no_data",
          "test_selector_events::SelectorSocketTransportTests::test_write_sendmsg_no_data",
          "test_proactor_events::ProactorSocketTransportTests::test_write_no_data";
    writes_that_wait_stay_in_order: "TP3"
        = "test_selector_events::SelectorSocketTransportTests::test_write_buffer",
          "test_selector_events::SelectorSocketTransportTests::test_write_partial_none",
          "test_selector_events::SelectorSocketTransportTests::test_write_tryagain",
          "test_selector_events::SelectorSocketTransportTests::test_write_ready",
          "test_selector_events::SelectorSocketTransportTests::test_write_ready_partial_none",
          "test_selector_events::SelectorSocketTransportTests::test_write_ready_tryagain",
          "test_proactor_events::ProactorSocketTransportTests::test_write_more";
    lines_are_written_as_one: "TP3 TP4"
        = "test_selector_events::SelectorSocketTransportTests::test_writelines_sendmsg_full",
          "test_selector_events::SelectorSocketTransportTests::test_writelines_sendmsg_partial",
          "test_selector_events::SelectorSocketTransportTests::test_writelines_send_full",
          "test_selector_events::SelectorSocketTransportTests::test_write_sendmsg_full",
          "test_selector_events::SelectorSocketTransportTests::test_write_sendmsg_partial",
          "test_selector_events::SelectorSocketTransportTests::test_write_sendmsg_half_buffer";
    a_closed_server_is_not_reached_any_more: "SV3" = "test_events::EventLoopTestsMixin::test_server_close";
    a_server_on_two_addresses_of_ipv6: "SV1"
        = "test_events::EventLoopTestsMixin::test_create_server_multiple_hosts_ipv6",
          "test_base_events::BaseEventLoopWithSelectorTests::test_create_server_ipv6";
    many_connections_at_once: "SV2 CN1 L4";
}

fn empty_writes_are_ignored(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), (peer, _peer_writer)) = pair().await?;
        writer.write(b"")?;
        writer.write_bytes(Bytes::new())?;
        writer.writelines([b"", b""])?;
        writer.write(b"a")?;
        writer.write(b"")?;
        assert_eq!(peer.readexactly(1).await?, "a");
        let waiting = fill(&writer, 0)?;
        let size = writer.transport().get_write_buffer_size();
        writer.write(b"")?;
        assert_eq!(writer.transport().get_write_buffer_size(), size);
        writer.close();
        assert_eq!(peer.read_to_end().await?.len(), waiting);
        writer.wait_closed().await
    });
}

fn writes_that_wait_stay_in_order(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), (peer, _peer_writer)) = pair().await?;
        let clogging = fill(&writer, 0)?;
        for n in 0..200_u32 {
            writer.write(&n.to_be_bytes())?;
            if n % 50 == 0 {
                settle().await?;
            }
        }
        writer.write_bytes(Bytes::from_static(b"end"))?;
        peer.readexactly(clogging).await?;
        for n in 0..200_u32 {
            assert_eq!(peer.readexactly(4).await?, &n.to_be_bytes()[..]);
        }
        assert_eq!(peer.readexactly(3).await?, "end");
        writer.drain().await?;
        assert_eq!(writer.transport().get_write_buffer_size(), 0);
        Ok(())
    });
}

fn lines_are_written_as_one(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), (peer, _peer_writer)) = pair().await?;
        writer.writelines([&b"one"[..], b"two", b"three"])?;
        assert_eq!(peer.readexactly(11).await?, "onetwothree");
        let lines: Vec<Vec<u8>> = (0..5000_u32).map(|n| format!("{n:0>200}\n").into_bytes()).collect();
        let whole = lines.concat();
        let writing = create_task(async move {
            writer.writelines(lines)?;
            writer.drain().await?;
            writer.close();
            writer.wait_closed().await
        });
        assert!(peer.read_to_end().await? == whole);
        writing.await
    });
}

fn a_closed_server_is_not_reached_any_more(on: &Machine) {
    on.net(|| async {
        let server = start_server(async |_, _| Ok(()), "127.0.0.1", 0).await?;
        let port = server.local_addrs()[0].port();
        let (_reader, writer) = open_connection("127.0.0.1", port).await?;
        writer.write(b"xxx")?;
        writer.close();
        server.close();
        settle().await?;
        let refused = open_connection("127.0.0.1", port).await.unwrap_err();
        assert_eq!(refused.as_io().map(std::io::Error::kind), Some(std::io::ErrorKind::ConnectionRefused));
        Ok(())
    });
}

fn a_server_on_two_addresses_of_ipv6(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return on.skip("the machine has no IPv6");
    }
    on.net(|| async {
        let server = start_server(async |_, writer| writer.write(b"hello"), ["::1", "127.0.0.1", "::1"], 0).await?;
        let addresses = server.local_addrs();
        assert_eq!((addresses.len(), addresses[0].is_ipv6()), (2, true));
        for address in addresses {
            let (reader, _writer) = open_connection(address.ip().to_string(), address.port()).await?;
            assert_eq!(reader.read_to_end().await?, "hello");
        }
        Ok(())
    });
}

async fn echo(reader: StreamReader, writer: StreamWriter) -> Result<()> {
    let data = reader.read_to_end().await?;
    writer.write(&data)
}

fn many_connections_at_once(on: &Machine) {
    on.net(|| async {
        let server = start_server(echo, "127.0.0.1", 0).await?;
        let port = server.local_addrs()[0].port();
        let clients = (0..50_u32).map(|n| async move {
            let (reader, writer) = open_connection("127.0.0.1", port).await?;
            writer.write(&n.to_be_bytes())?;
            writer.write_eof();
            reader.read_to_end().await
        });
        for (n, answer) in gather(clients.collect::<Vec<_>>()).await?.into_iter().enumerate() {
            assert_eq!(answer, &u32::try_from(n).unwrap().to_be_bytes()[..]);
        }
        server.close();
        server.wait_closed().await
    });
}
