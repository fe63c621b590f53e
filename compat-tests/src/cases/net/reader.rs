//! A reader that is fed by hand: what each read returns, takes and leaves. The lines of the trace J with the same names.

use std::cell::Cell;
use std::rc::Rc;

use crate::case::cases;
use crate::machine::Machine;
use aioli_core::{Error, ErrorKind, Result, create_task, sleep};
use aioli_io::StreamReader;
use bytes::Bytes;

cases! {
    ($) "streams" in net_reader as __cases_net_reader;
    readline_and_the_limit: "ST4" = "test_streams::StreamTests::test_readline_limit";
    readuntil_over_the_limit_keeps_the_buffer: "ST3";
    readuntil_waits_where_a_separator_may_have_begun: "ST3";
    the_end_of_the_stream: "ST2 ST3 ST4"
        = "test_streams::StreamTests::test_readline_eof",
          "test_streams::StreamTests::test_readline_empty_eof",
          "test_streams::StreamTests::test_readuntil_eof";
    several_separators: "ST3"
        = "test_streams::StreamTests::test_readuntil_multi_separator",
          "test_streams::StreamTests::test_readuntil_separator",
          "test_streams::StreamTests::test_readuntil_multi_separator_limit";
    counts: "ST2"
        = "test_streams::StreamTests::test_read_zero",
          "test_streams::StreamTests::test_readexactly_zero_or_less",
          "test_streams::StreamTests::test_invalid_limit",
          "test_streams::StreamTests::test_readexactly_limit";
    a_reader_outside_of_a_loop_is_an_error: "LP15";
    an_error_comes_before_buffered_data: "ST6";
    a_second_reader_is_refused_and_the_first_loses_nothing: "ST5";
    a_cancelled_read_leaves_the_reader_usable: "ST5 L4";
    data_that_races_with_a_cancellation_stays: "L4 ST5";
    a_cancelled_read_to_end_takes_nothing: "L4";
    data_that_was_taken_by_somebody_else_is_waited_for_again: "L4";
    a_read_may_be_dropped_or_moved: "L6";
    a_step_takes_64_reads_without_yielding: "L2";
    a_read_that_yields_can_be_cancelled: "L2 L3";
}

pub(super) fn fed(limit: usize, data: &[u8]) -> StreamReader {
    let reader = StreamReader::new(limit).unwrap();
    reader.feed_data(data);
    reader
}

fn ended(limit: usize, data: &[u8]) -> StreamReader {
    let reader = fed(limit, data);
    reader.feed_eof();
    reader
}

/// What is left in the buffer. Ends the stream.
pub(super) async fn rest(reader: &StreamReader) -> Bytes {
    reader.feed_eof();
    reader.read_to_end().await.unwrap()
}

pub(super) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Lets the tasks that are ready run until they wait.
pub(super) async fn pump() {
    for _ in 0..3 {
        sleep(0.0).await.unwrap();
    }
}

fn readline_and_the_limit(on: &Machine) {
    on.run(async {
        assert_eq!(fed(8, b"12345678\n").readline().await?, "12345678\n");

        let reader = fed(8, b"123456789\nrest");
        let error = reader.readline().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains("separator is found"), "{error}");
        assert_eq!(rest(&reader).await, "rest");

        let reader = fed(8, b"1234567890");
        let error = reader.readline().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains("separator is not found"), "{error}");
        assert_eq!(rest(&reader).await, "");

        let reader = Rc::new(fed(8, b"12345678"));
        let task = create_task({
            let reader = Rc::clone(&reader);
            async move { reader.readline().await }
        });
        pump().await;
        assert!(!task.done());
        reader.feed_data(b"\n");
        assert_eq!(task.await?, "12345678\n");
        Ok(())
    });
}

fn readuntil_over_the_limit_keeps_the_buffer(on: &Machine) {
    on.run(async {
        let reader = fed(8, b"123456789\nrest");
        let error = reader.readuntil(b"\n").await.unwrap_err();
        assert_eq!((error.kind(), error.consumed()), (ErrorKind::LimitOverrun, Some(9)));
        assert_eq!(rest(&reader).await, "123456789\nrest");

        let reader = fed(8, b"1234567890");
        let error = reader.readuntil(b"\n").await.unwrap_err();
        assert_eq!((error.kind(), error.consumed()), (ErrorKind::LimitOverrun, Some(10)));
        assert_eq!(rest(&reader).await, "1234567890");

        let error = fed(8, b"123456789").readuntil(b"\n").await.unwrap_err();
        assert_eq!(error.consumed(), Some(9));
        Ok(())
    });
}

/// Of a buffer that may end in the middle of a separator, one byte less counts.
fn readuntil_waits_where_a_separator_may_have_begun(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(8, b"123456789"));
        let task = create_task({
            let reader = Rc::clone(&reader);
            async move { reader.readuntil(b"\r\n").await }
        });
        pump().await;
        assert!(!task.done());
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(rest(&reader).await, "123456789");
        Ok(())
    });
}

fn the_end_of_the_stream(on: &Machine) {
    on.run(async {
        let error = ended(8, b"abc").readuntil(b"\n").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IncompleteRead);
        assert_eq!(error.partial().unwrap(), "abc");
        assert_eq!(error.to_string(), "3 bytes read before the stream ended, without the separator");
        assert_eq!(ended(8, b"abc").readline().await?, "abc");
        assert_eq!(ended(8, b"").readline().await?, "");

        let reader = ended(8, b"ab");
        let error = reader.readexactly(3).await.unwrap_err();
        assert_eq!(error.partial().unwrap(), "ab");
        assert_eq!(error.to_string(), "2 bytes read on a total of 3 expected bytes");
        assert!(reader.at_eof(), "the partial data is taken");

        assert_eq!(ended(8, &[b'x'; 30]).read_to_end().await?.len(), 30);
        assert_eq!(ended(8, b"").read(5).await?, "");
        Ok(())
    });
}

fn several_separators(on: &Machine) {
    on.run(async {
        assert_eq!(fed(8, b"xxABCyy").readuntil_any(&["BC", "AB"]).await?, "xxAB");
        // Of two that end at the same place the shorter counts: its start is what the limit bounds.
        let error = fed(3, b"some dataA").readuntil_any(&["A", "ome dataA"]).await.unwrap_err();
        assert_eq!(error.consumed(), Some(9));
        let reader = fed(3, b"some dataA");
        assert_eq!(kind(reader.readuntil_any(&["A", "ome dataA"]).await), ErrorKind::LimitOverrun);
        assert_eq!(rest(&reader).await, "some dataA", "nothing is taken");
        let reader = fed(8, b"");
        assert_eq!(kind(reader.readuntil(b"").await), ErrorKind::Value);
        assert_eq!(kind(reader.readuntil_any(&["a", ""]).await), ErrorKind::Value);
        assert_eq!(kind(reader.readuntil_any::<&str>(&[]).await), ErrorKind::Value);
        Ok(())
    });
}

fn counts(on: &Machine) {
    on.run(async {
        assert_eq!(fed(8, b"").readexactly(0).await?, "");
        assert_eq!(fed(8, &[b'x'; 20]).readexactly(20).await?.len(), 20, "more than the limit");
        let reader = fed(8, b"ab");
        assert_eq!(reader.read(0).await?, "");
        assert_eq!(reader.read(1).await?, "a");
        assert_eq!(rest(&reader).await, "b");
        assert_eq!(kind(StreamReader::new(0)), ErrorKind::Value);
        Ok(())
    });
}

fn a_reader_outside_of_a_loop_is_an_error(_: &Machine) {
    assert_eq!(kind(StreamReader::new(1)), ErrorKind::Runtime);
}

fn an_error_comes_before_buffered_data(on: &Machine) {
    on.run(async {
        let boom = Error::msg("boom");
        let reader = fed(8, b"");
        reader.set_exception(boom.clone());
        assert!(reader.read(1).await.unwrap_err().same(&boom));
        let reader = fed(8, b"data");
        reader.set_exception(boom.clone());
        assert!(reader.read(4).await.unwrap_err().same(&boom));
        assert!(reader.readexactly(0).await.unwrap_err().same(&boom));
        assert!(reader.readline().await.unwrap_err().same(&boom));
        assert!(reader.readuntil(b"a").await.unwrap_err().same(&boom));
        assert!(reader.read_to_end().await.unwrap_err().same(&boom));
        Ok(())
    });
}

fn a_second_reader_is_refused_and_the_first_loses_nothing(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(8, b""));
        let first = create_task({
            let reader = Rc::clone(&reader);
            async move { reader.read(1).await }
        });
        pump().await;
        let error = reader.readline().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Runtime);
        assert_eq!(error.to_string(), "readline() called while another task is already waiting for incoming data");
        assert_eq!(kind(reader.readexactly(1).await), ErrorKind::Runtime);
        reader.feed_data(b"zy");
        assert_eq!(first.await?, "z");
        assert_eq!(reader.read(9).await?, "y");
        Ok(())
    });
}

fn a_cancelled_read_leaves_the_reader_usable(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(8, b""));
        let task = create_task({
            let reader = Rc::clone(&reader);
            async move { reader.read(1).await }
        });
        pump().await;
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        reader.feed_data(b"z");
        assert_eq!(reader.read(1).await?, "z");
        Ok(())
    });
}

/// The request comes in the turn in which the data does, before or after it: the read returns Cancelled, the data stays.
fn data_that_races_with_a_cancellation_stays(on: &Machine) {
    on.run(async {
        for cancel_first in [true, false] {
            for exactly in [true, false] {
                let reader = Rc::new(fed(8, b""));
                let task = create_task({
                    let reader = Rc::clone(&reader);
                    async move { if exactly { reader.readexactly(4).await } else { reader.read(4).await } }
                });
                pump().await;
                if cancel_first {
                    task.cancel(None);
                }
                reader.feed_data(b"data");
                if !cancel_first {
                    task.cancel(None);
                }
                assert!(task.await.unwrap_err().is_cancelled());
                assert_eq!(reader.read(9).await?, "data");
            }
        }
        Ok(())
    });
}

fn a_cancelled_read_to_end_takes_nothing(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(8, b"one"));
        let task = create_task({
            let reader = Rc::clone(&reader);
            async move { reader.read_to_end().await }
        });
        pump().await;
        reader.feed_data(b"two");
        pump().await;
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(rest(&reader).await, "onetwo");
        Ok(())
    });
}

/// Between the arrival of data and the step of the task that waits for it, somebody else may take it: then the task waits on.
fn data_that_was_taken_by_somebody_else_is_waited_for_again(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(8, b""));
        let waiting = create_task({
            let reader = Rc::clone(&reader);
            async move { reader.read(9).await }
        });
        pump().await;
        reader.feed_data(b"first");
        assert_eq!(reader.read(9).await?, "first");
        pump().await;
        assert!(!waiting.done());
        reader.feed_data(b"second");
        assert_eq!(waiting.await?, "second");
        Ok(())
    });
}

/// A read that was dropped, or moved to another task after its first poll.
fn a_read_may_be_dropped_or_moved(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(8, b""));
        let owned = Rc::clone(&reader);
        let mut read = Box::pin(async move { owned.read(9).await });
        assert!(futures::poll!(&mut read).is_pending());
        let moved = create_task(read);
        pump().await;
        assert_eq!(kind(reader.read(1).await), ErrorKind::Runtime);
        reader.feed_data(b"moved");
        assert_eq!(moved.await?, "moved");

        let mut read = Box::pin(reader.read(9));
        assert!(futures::poll!(&mut read).is_pending());
        drop(read);
        reader.feed_data(b"dropped");
        assert_eq!(reader.read(9).await?, "dropped");
        Ok(())
    });
}

/// A stream whose data is always there yields nevertheless: the 65th read of a step lets the others run.
fn a_step_takes_64_reads_without_yielding(on: &Machine) {
    on.run(async {
        let reader = fed(8, &[b'x'; 200]);
        let others = Rc::new(Cell::new(0));
        let counter = Rc::clone(&others);
        let other = create_task(async move {
            loop {
                counter.set(counter.get() + 1);
                sleep(0.0).await?;
            }
            #[expect(unreachable_code, reason = "gives the task its type")]
            Ok(())
        });
        sleep(0.0).await?;
        let before = others.get();
        for count in 1..=64 {
            reader.read(1).await?;
            assert_eq!(others.get(), before, "{count} reads did not yield");
        }
        reader.read(1).await?;
        assert_eq!(others.get(), before + 1, "the 65th did");
        for _ in 0..64 {
            reader.read(1).await?;
        }
        assert_eq!(others.get(), before + 1);
        reader.read(1).await?;
        assert_eq!(others.get(), before + 2, "and after 64 more the next");
        other.cancel(None);
        Ok(())
    });
}

/// A read that yields can be cancelled there, and takes nothing.
fn a_read_that_yields_can_be_cancelled(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(8, &[b'x'; 200]));
        let task = create_task({
            let reader = Rc::clone(&reader);
            async move {
                for _ in 0..70 {
                    reader.read(1).await?;
                }
                Ok(())
            }
        });
        sleep(0.0).await?;
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(rest(&reader).await.len(), 200 - 64);
        Ok(())
    });
}
