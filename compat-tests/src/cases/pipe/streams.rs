//! Streams over pipes: what comes through, how it ends, and what is refused.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use aioli_core::{ErrorKind, Result, create_task, get_running_loop, sleep, timeout};
use aioli_io::{connect_read_pipe, connect_write_pipe};

use super::support::{kind, pair, until, until_nobody_reads, with_pipes};
use crate::case::cases;
use crate::cases::net::support::{Reports, settle, turn};
use crate::machine::Machine;

cases! {
    ($) "pipes" in pipe_streams as __cases_pipe_streams;
    bytes_come_through_and_then_the_end: "PI1 PI2 ST2"
        = "test_events::EventLoopTestsMixin::test_read_pipe",
          "test_events::EventLoopTestsMixin::test_write_pipe";
    what_was_written_before_the_end_is_read_beyond_the_limit: "PI1 PI2 ST1"
        = "test_streams::StreamTests::test_read_all_from_pipe_reader";
    connecting_takes_two_turns: "PI1 L2"
        = "test_unix_events::UnixReadPipeTransportTests::test_ctor",
          "test_unix_events::UnixWritePipeTransportTests::test_ctor";
    the_end_comes_one_turn_after_it_is_seen: "PI2 L2"
        = "test_unix_events::UnixReadPipeTransportTests::test__read_ready",
          "test_unix_events::UnixReadPipeTransportTests::test__read_ready_eof";
    reading_pauses_beyond_the_limit: "ST1 PI1"
        = "test_unix_events::UnixReadPipeTransportTests::test_pause_reading",
          "test_unix_events::UnixReadPipeTransportTests::test_resume_reading";
    writing_pauses_and_goes_on: "TP4 PI1"
        = "test_unix_events::UnixWritePipeTransportTests::test_write_partial",
          "test_unix_events::UnixWritePipeTransportTests::test__write_ready",
          "test_unix_events::UnixWritePipeTransportTests::test__write_ready_partial";
    a_cancelled_read_loses_nothing: "ST5 L4 PI1";
    a_reader_that_is_gone_closes_an_idle_writer: "PI2 TP3"
        = "test_unix_events::UnixWritePipeTransportTests::test__read_ready",
          "test_unix_events::UnixWritePipeTransportTests::test_write_close";
    a_reader_that_is_gone_breaks_a_writer_with_data: "PI2 ST7 ST8"
        = "test_unix_events::UnixWritePipeTransportTests::test__write_ready_err",
          "test_unix_events::UnixWritePipeTransportTests::test__call_connection_lost_with_err";
    a_reader_that_is_gone_at_once_breaks_the_next_write: "PI2 ST8"
        = "test_unix_events::UnixWritePipeTransportTests::test_write_err";
    write_eof_sends_what_was_written_and_closes: "PI2"
        = "test_unix_events::UnixWritePipeTransportTests::test_can_write_eof",
          "test_unix_events::UnixWritePipeTransportTests::test_write_eof",
          "test_unix_events::UnixWritePipeTransportTests::test_write_eof_pending",
          "test_proactor_events::ProactorSocketTransportTests::test_write_eof_write_pipe",
          "test_proactor_events::ProactorSocketTransportTests::test_write_eof_buffer_write_pipe";
    the_trace_of_both_ends: "PI2";
    a_socket_is_a_pipe_too: "PI1 PI2" = "test_events::EventLoopTestsMixin::test_write_pipe_disconnect_on_close";
    other_files_are_refused: "PI1";
    the_wrong_end_is_an_error: "PI1";
    pipes_leave_no_descriptor: "PI1 L6 D4";
}

fn bytes_come_through_and_then_the_end(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (reader, writer) = pair().await?;
        let data: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        let expected = data.clone();
        let writing = create_task(async move {
            for chunk in data.chunks(50_000) {
                writer.write(chunk)?;
                writer.drain().await?;
            }
            writer.close();
            writer.wait_closed().await
        });
        assert!(reader.read_to_end().await? == expected);
        assert!(reader.at_eof());
        writing.await
    });
}

/// More than twice the limit, and the writer is gone before anybody reads.
fn what_was_written_before_the_end_is_read_beyond_the_limit(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (end, mut start) = io::pipe()?;
        let reader = connect_read_pipe(end).limit(1).await?;
        start.write_all(b"data")?;
        drop(start);
        settle().await?;
        assert_eq!(reader.read_to_end().await?, "data");
        Ok(())
    });
}

fn connecting_takes_two_turns(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net_exact(|| async {
        let (end, start) = io::pipe()?;
        let before = turn();
        let _reader = connect_read_pipe(end).await?;
        assert_eq!(turn() - before, 2);
        let _writer = connect_write_pipe(start).await?;
        assert_eq!(turn() - before, 4);
        Ok(())
    });
}

fn the_end_comes_one_turn_after_it_is_seen(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net_exact(|| async {
        let (end, mut start) = io::pipe()?;
        let reader = connect_read_pipe(end).await?;
        start.write_all(b"abc")?;
        assert_eq!(reader.read(10).await?, "abc");
        let before = turn();
        drop(start);
        assert_eq!(reader.read(10).await?, "");
        // As CPython 3.13: seen in the first, told in the second, and read in the third.
        assert_eq!(turn() - before, 3);
        assert!(reader.transport().is_closing());
        Ok(())
    });
}

fn reading_pauses_beyond_the_limit(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (end, start) = io::pipe()?;
        let reader = connect_read_pipe(end).limit(16).await?;
        let writer = connect_write_pipe(start).await?;
        for _ in 0..10 {
            writer.write(&[b'y'; 20_000])?;
        }
        until(|| !reader.transport().is_reading()).await?;
        assert!(writer.transport().get_write_buffer_size() > 0);
        assert_eq!(reader.readexactly(200_000).await?.len(), 200_000);
        assert_eq!(writer.transport().get_write_buffer_size(), 0);
        assert!(reader.transport().is_reading());
        Ok(())
    });
}

fn writing_pauses_and_goes_on(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (mut end, start) = io::pipe()?;
        let writer = connect_write_pipe(start).await?;
        writer.write(&vec![b'x'; 300_000])?;
        assert!(writer.transport().get_write_buffer_size() > 65_536);
        let drain = timeout(Duration::from_millis(20), writer.drain()).await;
        assert!(drain.unwrap_err().is_timeout());
        let reading = get_running_loop()?.run_in_executor(None, move || {
            let mut data = vec![0; 300_000];
            end.read_exact(&mut data)?;
            Ok((end, data))
        });
        writer.drain().await?;
        let (_end, data) = reading.await?;
        assert!(data.iter().all(|byte| *byte == b'x'));
        until(|| writer.transport().get_write_buffer_size() == 0).await
    });
}

fn a_cancelled_read_loses_nothing(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (reader, writer) = pair().await?;
        for n in 0..20u8 {
            let late = timeout(Duration::ZERO, reader.readexactly(2)).await;
            assert!(late.is_err());
            writer.write(&[n])?;
            settle().await?;
            let late = timeout(Duration::ZERO, reader.readexactly(2)).await;
            assert!(late.is_err());
            writer.write(&[n])?;
            assert_eq!(reader.readexactly(2).await?, [n, n][..]);
        }
        Ok(())
    });
}

fn a_reader_that_is_gone_closes_an_idle_writer(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (end, start) = io::pipe()?;
        let writer = connect_write_pipe(start).await?;
        drop(end);
        until(|| writer.is_closing()).await?;
        writer.wait_closed().await?;
        let reports = Reports::new();
        for _ in 0..4 {
            writer.write(b"to nobody")?;
        }
        assert_eq!(reports.take(), [] as [String; 0]);
        for _ in 0..4 {
            writer.write(b"to nobody")?;
        }
        let reported = reports.take();
        assert!(!reported.is_empty() && reported[0].contains("a connection that is lost"), "{reported:?}");
        assert_eq!(writer.transport().get_write_buffer_size(), 0);
        let error = writer.drain().await.unwrap_err();
        assert_eq!(kind(&error), io::ErrorKind::ConnectionReset);
        Ok(())
    });
}

fn a_reader_that_is_gone_breaks_a_writer_with_data(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (end, start) = io::pipe()?;
        let writer = connect_write_pipe(start).await?;
        writer.write(&vec![0; 200_000])?;
        let draining = async {
            let error = writer.drain().await.unwrap_err();
            assert_eq!(kind(&error), io::ErrorKind::BrokenPipe);
            Ok(())
        };
        let closing = async {
            settle().await?;
            drop(end);
            Ok(())
        };
        let (drained, closed): (Result<()>, Result<()>) = futures::join!(draining, closing);
        drained?;
        closed?;
        let error = writer.wait_closed().await.unwrap_err();
        assert_eq!(kind(&error), io::ErrorKind::BrokenPipe);
        assert_eq!(writer.transport().get_write_buffer_size(), 0);
        Ok(())
    });
}

fn a_reader_that_is_gone_at_once_breaks_the_next_write(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (end, start) = io::pipe()?;
        let probe = start.try_clone()?;
        let writer = connect_write_pipe(start).await?;
        drop(end);
        until_nobody_reads(&probe);
        writer.write(b"x")?;
        assert!(writer.wait_closed().await.is_err_and(|error| kind(&error) == io::ErrorKind::BrokenPipe));
        // What is written then goes nowhere, and is no error of its own.
        writer.write(b"x")
    });
}

fn write_eof_sends_what_was_written_and_closes(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (reader, writer) = pair().await?;
        assert!(writer.can_write_eof());
        writer.write(&vec![b'z'; 500_000])?;
        writer.write_eof();
        assert!(writer.is_closing());
        assert_eq!(writer.write(b"more").unwrap_err().kind(), ErrorKind::Runtime);
        assert_eq!(reader.read_to_end().await?.len(), 500_000);
        writer.wait_closed().await?;

        let (reader, writer) = pair().await?;
        writer.write_eof();
        assert!(writer.is_closing());
        writer.wait_closed().await?;
        assert_eq!(reader.read(1).await?, "");
        Ok(())
    });
}

fn the_trace_of_both_ends(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    // O8 of CPython's trace: a write, then the writer closes; and a reader that closes ends both.
    on.net(|| async {
        let (reader, writer) = pair().await?;
        writer.write(b"abc")?;
        writer.close();
        writer.wait_closed().await?;
        assert_eq!(reader.read(100).await?, "abc");
        assert_eq!(reader.read(100).await?, "");

        let (reader, writer) = pair().await?;
        reader.transport().close();
        until(|| writer.is_closing()).await?;
        writer.wait_closed().await
    });
}

fn a_socket_is_a_pipe_too(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (a, b) = UnixStream::pair()?;
        let reader = connect_read_pipe(OwnedFd::from(a)).await?;
        let writer = connect_write_pipe(OwnedFd::from(b)).await?;
        writer.write(b"ciao\n")?;
        assert_eq!(reader.readline().await?, "ciao\n");
        assert!(!writer.is_closing());
        drop(reader);
        until(|| writer.is_closing()).await?;
        writer.wait_closed().await
    });
}

fn other_files_are_refused(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let file = || File::open("/proc/self/exe");
        let error = connect_read_pipe(file()?).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().ends_with("and this is a regular file"), "{error}");
        assert_eq!(connect_write_pipe(file()?).await.unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(connect_read_pipe(File::open("/")?).await.unwrap_err().kind(), ErrorKind::Value);
        let (end, _start) = io::pipe()?;
        assert_eq!(connect_read_pipe(end).limit(0).await.unwrap_err().kind(), ErrorKind::Value);
        // The loop goes on.
        sleep(0.001).await
    });
}

fn the_wrong_end_is_an_error(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.net(|| async {
        let (end, start) = io::pipe()?;
        assert!(connect_read_pipe(start).await.unwrap_err().as_io().is_some());
        assert!(connect_write_pipe(end).await.unwrap_err().as_io().is_some());
        Ok(())
    });
}

fn pipes_leave_no_descriptor(on: &Machine) {
    let Some(on) = with_pipes(on) else { return };
    on.leaves_no_descriptor(|| async {
        let (reader, writer) = pair().await?;
        writer.write(&vec![0; 200_000])?;
        drop(reader);
        drop(writer);
        let (reader, writer) = pair().await?;
        drop(writer);
        drop(reader);
        let (reader, writer) = pair().await?;
        writer.write(b"x")?;
        let reading = create_task(async move { reader.read_to_end().await });
        settle().await?;
        reading.cancel(None);
        settle().await?;
        assert!(writer.is_closing());
        let (end, start) = io::pipe()?;
        create_task(connect_read_pipe(end)).cancel(None);
        drop(connect_write_pipe(start));
        let (end, start) = io::pipe()?;
        let connecting = create_task(connect_read_pipe(end));
        let other = create_task(connect_write_pipe(start));
        sleep(0.0).await?;
        connecting.cancel(None);
        other.cancel(None);
        assert!(connect_read_pipe(File::open("/")?).await.is_err());
        settle().await
    });
}
