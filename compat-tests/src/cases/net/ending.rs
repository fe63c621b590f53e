//! How connections end: closed, aborted, reset, dropped, half closed.

use std::cell::RefCell;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use aioli_core::op::SocketOption;
use aioli_core::{Error, ErrorKind, create_task, sleep};
use aioli_io::{OpenConnection, Socket};

use super::support::{Reports, fill, pair, settle};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "streams" in net_ending as __cases_net_ending;
    closing_sends_what_was_written: "TP5 ST8"
        = "test_selector_events::SelectorTransportTests::test_close_write_buffer",
          "test_selector_events::SelectorTransportTests::test_close",
          "test_proactor_events::ProactorSocketTransportTests::test_close";
    waiting_for_the_end_waits_until_everything_is_sent: "ST8 TP5"
        = "test_selector_events::SelectorSocketTransportTests::test_write_ready_closing",
          "test_proactor_events::ProactorSocketTransportTests::test_loop_writing_closing";
    aborting_sends_nothing_more: "TP5"
        = "test_selector_events::SelectorTransportTests::test_abort",
          "test_proactor_events::ProactorSocketTransportTests::test_abort";
    writes_after_the_end_are_errors: "TP3"
        = "test_selector_events::SelectorSocketTransportTests::test_write_eof_after_close",
          "test_selector_events::SelectorSocketTransportTests::test_write_eof",
          "test_selector_events::SelectorSocketTransportTests::test_write_closing",
          "test_streams::StreamTests::test_async_writer_api_exception_after_close",
          "test_proactor_events::ProactorSocketTransportTests::test_write_eof";
    writes_on_a_broken_connection_are_reported: "TP3 X6"
        = "test_selector_events::SelectorSocketTransportTests::test_write_exception",
          "test_proactor_events::ProactorSocketTransportTests::test_loop_writing_err";
    the_end_of_one_direction_leaves_the_other_open: "TP6 TP2"
        = "test_selector_events::SelectorSocketTransportTests::test_read_ready_eof_keep_open",
          "test_selector_events::SelectorSocketTransportTests::test_write_eof_buffer",
          "test_proactor_events::ProactorSocketTransportTests::test_write_eof_buffer";
    a_reset_is_seen_by_everybody: "ST6 ST7 ST8"
        = "test_selector_events::SelectorSocketTransportTests::test_read_ready_conn_reset",
          "test_streams::StreamTests::test_drain_raises";
    a_paused_reader_learns_of_the_end_when_it_goes_on: "TP7 ST1";
    addresses_and_options: "TP9 TP1"
        = "test_transports::TransportTests::test_get_extra_info";
    small_writes_are_not_held_back: "TP1 TP9" = "test_base_events::TestSelectorUtils::test_set_nodelay";
    halves_may_be_dropped_in_any_order: "ST9 L6";
    a_writer_goes_on_without_its_reader: "ST9 L6";
    streams_may_outlive_their_loop: "L9 L6";
    an_error_of_the_reader_is_that_of_the_read: "ST6" = "test_streams::StreamTests::test_open_connection_error";
    upstream_drain_raises: "ST7 TP3" = "test_streams::StreamTests::test_drain_raises";
    upstream_wait_closed_on_close_with_unread_data: "ST8 TP5"
        = "test_streams::StreamTests::test_wait_closed_on_close_with_unread_data",
          "test_streams::StreamTests::test_wait_closed_on_close",
          "test_streams::StreamTests::test_async_writer_api";
    upstream_writelines_after_connection_lost: "TP3 ST6"
        = "test_selector_events::SelectorSocketTransportTests::test_writelines_after_connection_lost";
}

fn io_kind(error: &Error) -> io::ErrorKind {
    error.as_io().expect("an error of the operating system").kind()
}

fn closing_sends_what_was_written(on: &Machine) {
    on.net(|| async {
        for dropped in [false, true] {
            let ((reader, writer), (peer_reader, _peer_writer)) = pair().await?;
            let transport = writer.transport();
            let written = fill(&writer, 100_000)?;
            if dropped {
                drop(writer);
            } else {
                writer.close();
                assert!(writer.is_closing());
                writer.close();
                drop(writer);
            }
            assert!(transport.is_closing());
            assert!(!transport.is_reading());
            assert_eq!(peer_reader.read_to_end().await?.len(), written);
            // The reader of a connection that was closed at this end is at its end too.
            assert_eq!(reader.read(1).await?, "");
            assert!(reader.at_eof());
        }
        Ok(())
    });
}

fn upstream_writelines_after_connection_lost(on: &Machine) {
    on.net(|| async {
        let ((reader, writer), (_peer_reader, peer_writer)) = pair().await?;
        peer_writer.transport().set_option(SocketOption::Linger(Some(0)))?;
        peer_writer.transport().abort();
        assert_eq!(io_kind(&reader.read(1).await.unwrap_err()), io::ErrorKind::ConnectionReset);
        writer.writelines(["one", "two"])?;
        assert_eq!(writer.transport().get_write_buffer_size(), 0, "nothing is kept");
        assert_eq!(io_kind(&writer.drain().await.unwrap_err()), io::ErrorKind::ConnectionReset);
        Ok(())
    });
}

fn an_error_of_the_reader_is_that_of_the_read(on: &Machine) {
    on.net(|| async {
        let ((reader, writer), _peer) = pair().await?;
        reader.set_exception(Error::msg("broken"));
        assert_eq!(reader.read_to_end().await.unwrap_err().to_string(), "broken");
        writer.close();
        Ok(())
    });
}

fn upstream_drain_raises(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), peer) = pair().await?;
        drop(peer);
        let error = loop {
            let sent = writer.write(b"foo\n");
            if let Err(error) = sent.and(writer.drain().await) {
                break error;
            }
        };
        let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionAborted, io::ErrorKind::BrokenPipe];
        assert!(kinds.contains(&io_kind(&error)), "{error:?}");
        Ok(())
    });
}

/// A client of a server that answers, as those of HTTP do, and closes.
fn upstream_wait_closed_on_close_with_unread_data(on: &Machine) {
    on.net(|| async {
        for reads_all in [true, false] {
            let ((reader, writer), (peer_reader, peer_writer)) = pair().await?;
            let server = create_task(async move {
                assert_eq!(peer_reader.readline().await?, "GET / HTTP/1.0\r\n");
                peer_writer.write(b"HTTP/1.0 200 OK\r\n\r\nTest message")?;
                peer_writer.close();
                peer_writer.wait_closed().await
            });
            writer.write(b"GET / HTTP/1.0\r\n\r\n")?;
            assert_eq!(reader.readline().await?, "HTTP/1.0 200 OK\r\n");
            if reads_all {
                assert_eq!(reader.read_to_end().await?, "\r\nTest message");
            }
            assert!(!writer.is_closing());
            writer.close();
            assert!(writer.is_closing());
            writer.wait_closed().await?;
            // It closes with a part of the request unread, which may reset the connection.
            server.await.unwrap_or(());
        }
        Ok(())
    });
}

fn waiting_for_the_end_waits_until_everything_is_sent(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), (peer_reader, _peer_writer)) = pair().await?;
        let written = fill(&writer, 0)?;
        writer.close();
        let writer = Rc::new(writer);
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let writer = Rc::clone(&writer);
                create_task(async move { writer.wait_closed().await })
            })
            .collect();
        settle().await?;
        assert!(tasks.iter().all(|task| !task.done()));
        // One that is cancelled leaves the others waiting.
        tasks[0].cancel(None);
        settle().await?;
        assert!(tasks[0].cancelled() && !tasks[1].done());
        assert_eq!(peer_reader.read_to_end().await?.len(), written);
        (&tasks[1]).await?;
        (&tasks[2]).await?;
        writer.wait_closed().await?;
        Ok(())
    });
}

fn aborting_sends_nothing_more(on: &Machine) {
    on.net(|| async {
        let ((reader, writer), (peer_reader, _peer_writer)) = pair().await?;
        let written = fill(&writer, 100_000)?;
        let queued = writer.transport().get_write_buffer_size();
        writer.transport().abort();
        assert_eq!(writer.transport().get_write_buffer_size(), 0);
        writer.transport().abort();
        writer.wait_closed().await?;
        assert_eq!(reader.read(1).await?, "");
        assert_eq!(peer_reader.read_to_end().await?.len(), written - queued);
        Ok(())
    });
}

/// A write after the end is an error, and what was written before arrives.
fn writes_after_the_end_are_errors(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), (peer_reader, _peer_writer)) = pair().await?;
        let written = fill(&writer, 0)?;
        assert!(writer.can_write_eof());
        writer.write_eof();
        writer.write_eof();
        let error = writer.write(b"late").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Runtime);
        assert_eq!(error.to_string(), "cannot write after write_eof()");
        assert_eq!(writer.writelines(["late", "r"]).unwrap_err().kind(), ErrorKind::Runtime);
        assert_eq!(peer_reader.read_to_end().await?.len(), written);

        for aborted in [false, true] {
            let ((_reader, writer), (peer_reader, _peer_writer)) = pair().await?;
            writer.write(b"early")?;
            if aborted {
                writer.transport().abort();
            } else {
                writer.close();
            }
            for _ in 0..2 {
                let error = writer.write(b"late").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Runtime);
                assert_eq!(error.to_string(), "cannot write to a stream that is closed");
                writer.write_eof();
                assert_eq!(io_kind(&writer.drain().await.unwrap_err()), io::ErrorKind::ConnectionReset);
                writer.wait_closed().await?;
            }
            assert_eq!(peer_reader.read_to_end().await?, "early");
        }
        Ok(())
    });
}

/// Writes on a connection that broke are ignored, as asyncio does, and reported from the fifth on.
fn writes_on_a_broken_connection_are_reported(on: &Machine) {
    on.net(|| async {
        let reports = Reports::new();
        let ((_reader, writer), (_peer_reader, peer_writer)) = pair().await?;
        peer_writer.transport().set_option(SocketOption::Linger(Some(0)))?;
        peer_writer.transport().abort();
        assert_eq!(io_kind(&writer.wait_closed().await.unwrap_err()), io::ErrorKind::ConnectionReset);
        for _ in 0..7 {
            writer.write(b"x")?;
        }
        assert_eq!(reports.take().len(), 3);
        Ok(())
    });
}

fn the_end_of_one_direction_leaves_the_other_open(on: &Machine) {
    on.net(|| async {
        let ((reader, writer), (peer_reader, peer_writer)) = pair().await?;
        writer.write(b"question")?;
        writer.write_eof();
        assert_eq!(peer_reader.read_to_end().await?, "question");
        settle().await?;
        assert!(!peer_writer.is_closing());
        peer_writer.write(b"answer")?;
        assert_eq!(reader.readexactly(6).await?, "answer");
        let written = fill(&peer_writer, 0)?;
        peer_writer.write_eof();
        assert_eq!(reader.read_to_end().await?.len(), written);
        Ok(())
    });
}

/// What was buffered before the reset cannot be read any more, as in asyncio.
fn a_reset_is_seen_by_everybody(on: &Machine) {
    on.net(|| async {
        let ((reader, writer), (_peer_reader, peer_writer)) = pair().await?;
        peer_writer.write(b"data")?;
        settle().await?;
        let waiting = create_task(
            async move {
                let read = reader.readexactly(100).await;
                (read.unwrap_err(), reader)
            }
            .map_ok(),
        );
        settle().await?;
        peer_writer.transport().set_option(SocketOption::Linger(Some(0)))?;
        peer_writer.transport().abort();
        let (error, reader) = waiting.await?;
        assert_eq!(io_kind(&error), io::ErrorKind::ConnectionReset);
        assert!(reader.exception().unwrap().same(&error));
        assert!(reader.read(1).await.unwrap_err().same(&error));
        assert!(writer.drain().await.unwrap_err().same(&error));
        assert!(writer.wait_closed().await.unwrap_err().same(&error));
        assert!(writer.is_closing());
        Ok(())
    });
}

trait MapOk: Future + Sized {
    async fn map_ok(self) -> aioli_core::Result<Self::Output> {
        Ok(self.await)
    }
}
impl<F: Future> MapOk for F {}

fn a_paused_reader_learns_of_the_end_when_it_goes_on(on: &Machine) {
    on.net(|| async {
        let peer = super::support::Peer::start().await?;
        let ((reader, _writer), (_peer_reader, peer_writer)) = peer.connect_with_limit(8).await?;
        peer_writer.write(&[b'x'; 100])?;
        peer_writer.close();
        settle().await?;
        assert!(!reader.at_eof());
        assert_eq!(reader.readexactly(100).await?.len(), 100);
        assert_eq!(reader.read(1).await?, "");
        Ok(())
    });
}

fn addresses_and_options(on: &Machine) {
    on.net(|| async {
        let ((_reader, writer), (_peer_reader, peer_writer)) = pair().await?;
        assert_eq!(writer.local_addr(), peer_writer.peer_addr());
        assert_eq!(writer.peer_addr(), peer_writer.local_addr());
        let transport = writer.transport();
        assert!(writer.local_addr().unwrap().ip().is_loopback());
        transport.set_nodelay(false)?;
        transport.set_option(SocketOption::KeepAlive(true))?;
        let address = writer.local_addr();
        writer.close();
        writer.wait_closed().await?;
        assert_eq!(io_kind(&transport.set_nodelay(true).unwrap_err()), io::ErrorKind::ConnectionReset);
        assert_eq!((transport.local_addr(), writer.local_addr()), (address, address));
        assert!(format!("{transport:?}").contains("closed"), "{transport:?}");
        Ok(())
    });
}

/// Either half may go at any time, in any order, whatever the other does.
fn small_writes_are_not_held_back(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        for nonblocking in [false, true] {
            let ours = TcpStream::connect(listener.local_addr()?)?;
            ours.set_nonblocking(nonblocking)?;
            let probe = ours.try_clone()?;
            assert!(!probe.nodelay()?);
            let (_reader, writer) = OpenConnection::with_socket(Socket::from_fd(OwnedFd::from(ours))?).await?;
            assert!(probe.nodelay()?);
            writer.transport().set_nodelay(false)?;
            assert!(!probe.nodelay()?);
        }
        Ok(())
    });
}

fn halves_may_be_dropped_in_any_order(on: &Machine) {
    on.net(|| async {
        for reader_first in [true, false] {
            for queued in [true, false] {
                let ((reader, writer), (peer_reader, peer_writer)) = pair().await?;
                let mut written = 5;
                writer.write(b"hello")?;
                if queued {
                    written += fill(&writer, 0)?;
                }
                if reader_first {
                    drop(reader);
                    drop(writer);
                } else {
                    drop(writer);
                    drop(reader);
                }
                let count = peer_reader.read_to_end().await?.len();
                assert_eq!(count, written);
                peer_writer.write(b"to nobody")?;
                sleep(0.002).await?;
            }
        }
        Ok(())
    });
}

/// Dropping the reader alone does not close the connection.
fn a_writer_goes_on_without_its_reader(on: &Machine) {
    on.net(|| async {
        let ((reader, writer), (peer_reader, peer_writer)) = pair().await?;
        drop(reader);
        peer_writer.write(b"to nobody")?;
        settle().await?;
        writer.write(b"hello")?;
        writer.drain().await?;
        assert_eq!(peer_reader.readexactly(5).await?, "hello");
        Ok(())
    });
}

fn streams_may_outlive_their_loop(on: &Machine) {
    let kept = Rc::new(RefCell::new(None));
    on.net(|| {
        let keep = Rc::clone(&kept);
        async move {
            let pair = pair().await?;
            fill(&pair.0.1, 0)?;
            keep.replace(Some(pair));
            Ok(())
        }
    });
    let Some(((reader, writer), (_, peer_writer))) = kept.take() else { return };
    assert!(reader.at_eof() || reader.exception().is_some());
    assert!(writer.is_closing());
    drop((reader, writer));
    peer_writer.close();
    peer_writer.transport().abort();
}
