//! Flow control: when receiving pauses, when draining waits, and that nothing is lost by either.

use std::cell::Cell;
use std::io::Read;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aioli_core::{ErrorKind, Result, create_task, gather, sleep};
use aioli_io::{StreamReader, StreamWriter, open_connection};
use bytes::Bytes;

use super::support::{Peer, fill, pair, settle};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "streams" in net_flow as __cases_net_flow;
    receiving_pauses_above_twice_the_limit: "ST1";
    received_data_pauses_as_well: "ST1";
    a_line_that_was_too_long_lets_receiving_go_on: "ST1 ST4";
    a_reader_that_does_not_read_holds_the_writer_back: "TP4 ST7";
    limits_of_the_write_buffer: "TP4" = "test_transports::TransportTests::test_flowcontrol_mixin_set_write_limits";
    what_is_written_leaves_before_the_step_ends: "TP3";
    what_the_kernel_takes_is_not_buffered: "TP3"
        = "test_selector_events::SelectorSocketTransportTests::test_write",
          "test_proactor_events::ProactorSocketTransportTests::test_write";
    draining_waits_between_the_limits: "TP4 ST7"
        = "test_proactor_events::ProactorSocketTransportTests::test_pause_resume_writing",
          "test_proactor_events::ProactorSocketTransportTests::test_pause_writing_2write",
          "test_proactor_events::ProactorSocketTransportTests::test_pause_writing_3write",
          "test_streams::StreamTests::test_multiple_drain";
    a_limit_that_is_lowered_pauses: "TP4" = "test_transports::TransportTests::test_flowcontrol_mixin_set_write_limits";
    writing_lines_pauses_too: "TP4"
        = "test_transports::TransportTests::test_writelines",
          "test_selector_events::SelectorSocketTransportTests::test_writelines_send_partial",
          "test_selector_events::SelectorSocketTransportTests::test_writelines_pauses_protocol";
    draining_ends_with_the_connection: "ST7";
    a_step_takes_64_drains_without_yielding: "L2";
    a_slow_reader_gets_everything: "TP3 TP4 L4"
        = "test_selector_events::SelectorSocketTransportTests::test_write_partial",
          "test_selector_events::SelectorSocketTransportTests::test_write_ready_partial";
    data_that_is_kept_stays_as_it_is: "D3 L4";
    large_messages: "TP2 TP3";
}

/// A step may wait for the answer without the loop.
fn what_is_written_leaves_before_the_step_ends(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let (tell, told) = mpsc::channel();
        let peer = thread::spawn(move || -> std::io::Result<()> {
            let (mut socket, _) = listener.accept()?;
            let mut found = [0; 10];
            socket.read_exact(&mut found)?;
            socket.read_exact(&mut [0])?;
            let _ = tell.send(found);
            Ok(())
        });
        let (_reader, writer) = open_connection("127.0.0.1", port).await?;
        writer.write(b"first")?;
        sleep(0.0).await?;
        writer.write(b"sec")?;
        writer.write(b"on")?;
        writer.writelines(["d"])?;
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(*b"firstsecon"));
        peer.join().expect("it does not panic")?;
        Ok(())
    });
}

fn receiving_pauses_above_twice_the_limit(on: &Machine) {
    on.net(|| async {
        let peer = Peer::start().await?;
        let ((reader, writer), _server) = peer.connect_with_limit(8).await?;
        let transport = writer.transport();
        assert!(transport.is_reading());
        reader.feed_data(&[b'x'; 16]);
        assert!(transport.is_reading(), "16 is twice the limit");
        reader.feed_data(b"x");
        assert!(!transport.is_reading(), "17 is more");
        reader.read(8).await?;
        assert!(!transport.is_reading(), "9 are left");
        reader.read(1).await?;
        assert!(transport.is_reading(), "8 are left: the limit");

        reader.feed_data(&[b'y'; 20]);
        assert!(!transport.is_reading());
        let reader = Rc::new(reader);
        let task = create_task({
            let reader = Rc::clone(&reader);
            async move { reader.readexactly(40).await }
        });
        sleep(0.0).await?;
        assert!(transport.is_reading(), "a read that has to wait needs more than there is");
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        Ok(())
    });
}

fn received_data_pauses_as_well(on: &Machine) {
    on.net(|| async {
        let peer = Peer::start().await?;
        for (count, reading) in [(16, true), (17, false)] {
            let ((reader, writer), (_, sender)) = peer.connect_with_limit(8).await?;
            sender.write(&vec![b'x'; count])?;
            settle().await?;
            assert_eq!(writer.transport().is_reading(), reading, "{count} bytes");
            reader.readexactly(count - 8).await?;
            assert!(writer.transport().is_reading());
        }
        Ok(())
    });
}

fn a_line_that_was_too_long_lets_receiving_go_on(on: &Machine) {
    on.net(|| async {
        let peer = Peer::start().await?;
        let ((reader, writer), _server) = peer.connect_with_limit(8).await?;
        reader.feed_data(b"much longer than the limit\nrest");
        assert!(!writer.transport().is_reading());
        assert_eq!(reader.readline().await.unwrap_err().kind(), ErrorKind::Value);
        assert!(writer.transport().is_reading());
        Ok(())
    });
}

/// While nobody reads, the peer is held back: what can be written to it is bounded.
fn a_reader_that_does_not_read_holds_the_writer_back(on: &Machine) {
    on.net(|| async {
        let peer = Peer::start().await?;
        let ((reader, writer), (_, sender)) = peer.connect_with_limit(1024).await?;
        let sent = fill(&sender, 0)?;
        settle().await?;
        assert!(!writer.transport().is_reading());
        // The rest of the message goes on when the reader does.
        sender.write(b"end\n")?;
        sender.write_eof();
        let data = reader.read_to_end().await?;
        assert_eq!(data.len(), sent + 4);
        assert!(data.ends_with(b"xend\n"));
        Ok(())
    });
}

fn limits_of_the_write_buffer(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), _server) = pair().await?;
        let transport = writer.transport();
        assert_eq!(transport.get_write_buffer_limits(), (16 * 1024, 64 * 1024));
        transport.set_write_buffer_limits(Some(100), None)?;
        assert_eq!(transport.get_write_buffer_limits(), (25, 100));
        transport.set_write_buffer_limits(None, Some(100))?;
        assert_eq!(transport.get_write_buffer_limits(), (100, 400));
        transport.set_write_buffer_limits(Some(7), Some(7))?;
        assert_eq!(transport.get_write_buffer_limits(), (7, 7));
        let error = transport.set_write_buffer_limits(Some(7), Some(8)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert_eq!(transport.get_write_buffer_limits(), (7, 7));
        transport.set_write_buffer_limits(None, None)?;
        assert_eq!(transport.get_write_buffer_limits(), (16 * 1024, 64 * 1024));
        Ok(())
    });
}

fn what_the_kernel_takes_is_not_buffered(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), (peer_reader, _peer_writer)) = pair().await?;
        writer.write(b"hello")?;
        writer.drain().await?;
        assert_eq!(peer_reader.readexactly(5).await?, "hello");
        assert_eq!(writer.transport().get_write_buffer_size(), 0);
        Ok(())
    });
}

/// Draining waits with more than the high limit queued, until no more than the low one is.
fn draining_waits_between_the_limits(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), (peer_reader, _peer_writer)) = pair().await?;
        let transport = writer.transport();
        // More than the kernel takes at once: the high limit is passed long before the low one.
        transport.set_write_buffer_limits(Some(usize::MAX), None)?;
        let written = fill(&writer, 16 * 1024 * 1024)?;
        let size = transport.get_write_buffer_size();
        transport.set_write_buffer_limits(Some(size), Some(size / 8))?;
        writer.drain().await?;
        writer.write(b"1")?;
        assert_eq!(transport.get_write_buffer_size(), size + 1);

        let writer = Rc::new(writer);
        let drained = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (writer, drained) = (Rc::clone(&writer), Rc::clone(&drained));
                create_task(async move {
                    writer.drain().await?;
                    drained.set(drained.get() + 1);
                    Ok(writer.transport().get_write_buffer_size())
                })
            })
            .collect();
        settle().await?;
        assert_eq!(drained.get(), 0, "one byte more than the high limit");
        let read = create_task(async move { peer_reader.readexactly(written + 1).await });
        for left in gather(tasks).await? {
            assert!(left <= size / 8, "{left} bytes are left, of {size}");
        }
        read.await?;
        Ok(())
    });
}

fn a_limit_that_is_lowered_pauses(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), _server) = pair().await?;
        let transport = writer.transport();
        fill(&writer, 0)?;
        transport.set_write_buffer_limits(Some(usize::MAX), Some(0))?;
        writer.drain().await?;
        transport.set_write_buffer_limits(Some(0), None)?;
        let mut drain = Box::pin(writer.drain());
        assert!(futures::poll!(&mut drain).is_pending());
        Ok(())
    });
}

fn writing_lines_pauses_too(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), (peer_reader, _peer_writer)) = pair().await?;
        let written = fill(&writer, 0)?;
        writer.writelines([vec![b'x'; 60_000], vec![b'y'; 60_000]])?;
        let mut drain = Box::pin(writer.drain());
        assert!(futures::poll!(&mut drain).is_pending());
        peer_reader.readexactly(written + 60_000).await?;
        drain.await?;
        assert_eq!(peer_reader.readexactly(60_000).await?, vec![b'y'; 60_000]);
        writer.writelines::<[&[u8]; 0]>([])?;
        writer.writelines(["one", "two"])?;
        writer.writelines(["three"])?;
        assert_eq!(peer_reader.readexactly(11).await?, "onetwothree");
        Ok(())
    });
}

/// Whoever drains when the connection ends goes on: with its error, or without if there is none.
fn draining_ends_with_the_connection(on: &Machine) {
    on.net(|| async {
        for reset in [true, false] {
            let ((_reader, writer), (peer_reader, peer_writer)) = pair().await?;
            fill(&writer, 100_000)?;
            let writer = Rc::new(writer);
            let drain = create_task({
                let writer = Rc::clone(&writer);
                async move { writer.drain().await }
            });
            settle().await?;
            assert!(!drain.done());
            if reset {
                // With data unread, which resets the connection.
                peer_writer.transport().abort();
                let error = drain.await.unwrap_err();
                assert_eq!(error.as_io().unwrap().kind(), std::io::ErrorKind::ConnectionReset);
            } else {
                writer.transport().abort();
                drain.await?;
            }
            assert!(writer.drain().await.is_err());
            drop(peer_reader);
        }
        Ok(())
    });
}

/// A task that writes and drains yields now and then, although it never has to wait.
fn a_step_takes_64_drains_without_yielding(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), _server) = pair().await?;
        let before = super::support::turn();
        for _ in 0..64 {
            writer.write(b"x")?;
            writer.drain().await?;
        }
        assert_eq!(super::support::turn(), before);
        writer.drain().await?;
        assert_eq!(super::support::turn(), before + 1);
        Ok(())
    });
}

/// Everything that is written arrives, in order, in whatever way it was written, whatever the reader does.
fn a_slow_reader_gets_everything(on: &Machine) {
    async fn send(writer: StreamWriter) -> Result<Vec<u8>> {
        let mut sent = Vec::new();
        for round in 0..120_usize {
            let size = [1, 100, 4095, 4096, 70_000][round % 5];
            let data: Vec<u8> = (0..size).map(|n| (n * 7 + round) as u8).collect();
            sent.extend_from_slice(&data);
            match round % 3 {
                0 => writer.write(&data)?,
                1 => writer.write_bytes(Bytes::from(data))?,
                _ => writer.writelines(data.chunks(1000))?,
            }
            if round % 10 == 0 {
                writer.drain().await?;
            }
        }
        writer.close();
        writer.wait_closed().await?;
        Ok(sent)
    }
    async fn receive(reader: StreamReader) -> Result<Vec<u8>> {
        let mut received = Vec::new();
        for round in 0.. {
            let data = reader.read([3, 1000, 100_000][round % 3]).await?;
            if data.is_empty() {
                break;
            }
            received.extend_from_slice(&data);
            if round % 50 == 0 {
                sleep(0.001).await?;
            }
        }
        Ok(received)
    }
    on.net(|| async {
        let peer = Peer::start().await?;
        for limit in [16, 1024, 65536] {
            let ((reader, _writer), (_reader, writer)) = peer.connect_with_limit(limit).await?;
            let (sent, received) = gather((send(writer), receive(reader))).await?;
            assert!(sent == received, "{} bytes of {} arrived as they were sent", received.len(), sent.len());
        }
        Ok(())
    });
}

/// Small parts of what was received are kept, so that the buffer's memory is not free for the next data.
fn data_that_is_kept_stays_as_it_is(on: &Machine) {
    on.net(|| async {
        let ((reader, _writer), (_peer_reader, peer_writer)) = pair().await?;
        let mut kept = Vec::new();
        for n in 0..2000_u32 {
            peer_writer.write(&n.to_le_bytes())?;
            kept.push(reader.readexactly(4).await?);
        }
        for (n, data) in (0..2000_u32).zip(kept) {
            assert_eq!(data, n.to_le_bytes().as_slice());
        }
        Ok(())
    });
}

/// What comes regularly is received at once, though it does not fit the first buffer; small data makes the buffer small again.
fn large_messages(on: &Machine) {
    on.net(|| async {
        let ((reader, _writer), (_peer_reader, peer_writer)) = pair().await?;
        for size in [8192, 16_384, 200_000, 600_000, 10, 8192] {
            for n in 0..40 {
                let data = vec![n; size];
                let send = async {
                    peer_writer.write(&data)?;
                    peer_writer.drain().await
                };
                let (received, sent) = futures::join!(reader.readexactly(size), send);
                sent?;
                assert!(received? == data);
            }
        }
        Ok(())
    });
}
