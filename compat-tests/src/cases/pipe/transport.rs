//! The transports of pipes: CPython's tests of them, written with streams.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use aioli_core::{ErrorKind, create_task, sleep};
use aioli_io::{connect_read_pipe, connect_write_pipe};

use super::support::{kind, pair, until, until_nobody_reads, with_pipes};
use crate::case::cases;
use crate::cases::net::support::{fill, settle};
use crate::machine::Machine;

cases! {
    ($) "pipes" in pipe_transport as __cases_pipe_transport;
    who_finds_that_another_was_faster_waits_on: "PI1 L4"
        = "test_unix_events::UnixReadPipeTransportTests::test__read_ready_blocked";
    an_error_of_the_other_end_is_that_of_the_read: "PI2 ST6"
        = "test_unix_events::UnixReadPipeTransportTests::test__read_ready_error",
          "test_unix_events::UnixReadPipeTransportTests::test__call_connection_lost_with_err";
    a_reader_that_closes_gives_up_its_end: "PI1 PI2 TP5"
        = "test_unix_events::UnixReadPipeTransportTests::test_close",
          "test_unix_events::UnixReadPipeTransportTests::test_close_already_closing",
          "test_unix_events::UnixReadPipeTransportTests::test__close",
          "test_unix_events::UnixReadPipeTransportTests::test__call_connection_lost";
    empty_writes_to_a_pipe_are_ignored: "PI1 TP3" = "test_unix_events::UnixWritePipeTransportTests::test_write_no_data";
    what_fits_is_written_at_once: "PI1 TP3" = "test_unix_events::UnixWritePipeTransportTests::test_write";
    writes_to_a_full_pipe_wait_in_order: "PI1 TP3"
        = "test_unix_events::UnixWritePipeTransportTests::test_write_buffer",
          "test_unix_events::UnixWritePipeTransportTests::test_write_again",
          "test_unix_events::UnixWritePipeTransportTests::test__write_ready_again";
    a_writer_that_closes_sends_the_rest_first: "PI2 TP5"
        = "test_unix_events::UnixWritePipeTransportTests::test_close",
          "test_unix_events::UnixWritePipeTransportTests::test_close_closing",
          "test_unix_events::UnixWritePipeTransportTests::test__write_ready_closing",
          "test_unix_events::UnixWritePipeTransportTests::test__call_connection_lost";
    a_writer_that_aborts_drops_the_rest: "PI2 TP5" = "test_unix_events::UnixWritePipeTransportTests::test_abort";
}

fn who_finds_that_another_was_faster_waits_on(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (end, mut start) = io::pipe()?;
        let readers = [connect_read_pipe(end.try_clone()?).await?, connect_read_pipe(end).await?];
        for n in 0..20u8 {
            start.write_all(&[n])?;
            settle().await?;
        }
        drop(start);
        let mut all = Vec::new();
        for reader in &readers {
            all.extend_from_slice(&reader.read_to_end().await?);
        }
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<u8>>());
        Ok(())
    });
}

fn an_error_of_the_other_end_is_that_of_the_read(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let ours = TcpStream::connect(listener.local_addr()?)?;
        let (theirs, _) = listener.accept()?;
        let reader = connect_read_pipe(OwnedFd::from(ours)).await?;
        let reading = create_task(async move {
            let error = reader.read(10).await.unwrap_err();
            assert_eq!(kind(&error), io::ErrorKind::ConnectionReset);
            assert!(reader.transport().is_closing());
            assert_eq!(kind(&reader.read(10).await.unwrap_err()), io::ErrorKind::ConnectionReset);
            Ok(())
        });
        settle().await?;
        rustix::net::sockopt::set_socket_linger(&theirs, Some(std::time::Duration::ZERO))?;
        drop(theirs);
        reading.await
    });
}

fn a_reader_that_closes_gives_up_its_end(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (end, mut start) = io::pipe()?;
        let reader = connect_read_pipe(end).await?;
        start.write_all(b"abc")?;
        assert_eq!(reader.read(3).await?, "abc");
        let transport = reader.transport();
        assert!(transport.is_reading() && !transport.is_closing());
        transport.close();
        assert!(!transport.is_reading() && transport.is_closing());
        transport.close();
        sleep(0.0).await?;
        until_nobody_reads(&start);
        assert_eq!(start.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(reader.read(1).await?, "");
        assert_eq!(reader.readexactly(1).await.unwrap_err().kind(), ErrorKind::IncompleteRead);
        transport.abort();
        assert!(reader.at_eof());
        Ok(())
    });
}

fn empty_writes_to_a_pipe_are_ignored(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (reader, writer) = pair().await?;
        writer.write(b"")?;
        writer.writelines([b"", b""])?;
        writer.write(b"a")?;
        writer.write(b"")?;
        assert_eq!(reader.readexactly(1).await?, "a");
        reader.transport().close();
        until(|| writer.is_closing()).await?;
        writer.write(b"")?;
        writer.wait_closed().await
    });
}

fn what_fits_is_written_at_once(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (mut end, start) = io::pipe()?;
        let writer = connect_write_pipe(start).await?;
        writer.write(b"data")?;
        let mut data = [0; 4];
        // Without an immediate send it is taken in the next turn.
        until(|| writer.transport().get_write_buffer_size() == 0).await?;
        end.read_exact(&mut data)?;
        assert_eq!(&data, b"data");
        Ok(())
    });
}

fn writes_to_a_full_pipe_wait_in_order(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (reader, writer) = pair().await?;
        let clogging = fill(&writer, 0)?;
        for n in 0..200_u32 {
            writer.write(&n.to_be_bytes())?;
            if n % 50 == 0 {
                settle().await?;
            }
        }
        reader.readexactly(clogging).await?;
        for n in 0..200_u32 {
            assert_eq!(reader.readexactly(4).await?, &n.to_be_bytes()[..]);
        }
        writer.drain().await?;
        assert_eq!(writer.transport().get_write_buffer_size(), 0);
        Ok(())
    });
}

fn a_writer_that_closes_sends_the_rest_first(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (mut end, start) = io::pipe()?;
        let writer = connect_write_pipe(start).await?;
        writer.write(&vec![b'r'; 200_000])?;
        assert!(writer.transport().get_write_buffer_size() > 0);
        writer.close();
        assert!(writer.is_closing());
        writer.close();
        assert_eq!(writer.write(b"more").unwrap_err().kind(), ErrorKind::Runtime);
        settle().await?;
        let reading = aioli_core::to_thread(move || {
            let mut data = Vec::new();
            end.read_to_end(&mut data)?;
            Ok(data)
        });
        let closed = create_task(async move {
            writer.wait_closed().await?;
            Ok(writer.transport().get_write_buffer_size())
        });
        assert_eq!(reading.await?, vec![b'r'; 200_000]);
        assert_eq!(closed.await?, 0);
        Ok(())
    });
}

fn a_writer_that_aborts_drops_the_rest(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (mut end, start) = io::pipe()?;
        let aborted = connect_write_pipe(start).await?;
        aborted.write(&vec![b'a'; 300_000])?;
        assert!(aborted.transport().get_write_buffer_size() > 0);
        aborted.transport().abort();
        assert!(aborted.is_closing());
        assert_eq!(aborted.transport().get_write_buffer_size(), 0);
        aborted.wait_closed().await?;
        let mut data = Vec::new();
        // No more than a pipe holds.
        assert!(end.read_to_end(&mut data)? <= 65_536);
        Ok(())
    });
}
