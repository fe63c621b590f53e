//! The tests of a reader in CPython's `test_streams.py` that carry over.

use std::rc::Rc;

use super::reader::{fed, kind, pump, rest};
use crate::case::cases;
use crate::machine::Machine;
use aioli_core::{Error, ErrorKind, create_task, get_running_loop, sleep};
use aioli_io::StreamReader;

cases! {
    ($) "streams" in net_reader_ports as __cases_net_reader_ports;
    upstream_feed_empty_data: "ST2"
        = "test_streams::StreamTests::test_feed_empty_data",
          "test_streams::StreamTests::test_feed_nonempty_data";
    upstream_read: "ST2" = "test_streams::StreamTests::test_read";
    upstream_read_line_breaks: "ST2" = "test_streams::StreamTests::test_read_line_breaks";
    upstream_read_eof: "ST2" = "test_streams::StreamTests::test_read_eof";
    upstream_read_until_eof: "ST2" = "test_streams::StreamTests::test_read_until_eof";
    upstream_read_exception: "ST6" = "test_streams::StreamTests::test_read_exception";
    upstream_read_limit: "ST1" = "test_streams::StreamTests::test_read_limit";
    upstream_readline: "ST4" = "test_streams::StreamTests::test_readline";
    upstream_line_by_line: "ST4" = "test_pep492::StreamReaderTests::test_readline";
    upstream_readline_limit_with_existing_data: "ST4" = "test_streams::StreamTests::test_readline_limit_with_existing_data";
    upstream_at_eof: "ST2" = "test_streams::StreamTests::test_at_eof";
    upstream_readline_limit: "ST4" = "test_streams::StreamTests::test_readline_limit";
    upstream_readline_nolimit_nowait: "ST4" = "test_streams::StreamTests::test_readline_nolimit_nowait";
    upstream_readline_read_byte_count: "ST4 ST2" = "test_streams::StreamTests::test_readline_read_byte_count";
    upstream_readline_exception: "ST6" = "test_streams::StreamTests::test_readline_exception";
    upstream_readuntil_multi_chunks: "ST3" = "test_streams::StreamTests::test_readuntil_multi_chunks";
    upstream_readuntil_multi_chunks_1: "ST3" = "test_streams::StreamTests::test_readuntil_multi_chunks_1";
    upstream_readuntil_limit_found_sep: "ST3" = "test_streams::StreamTests::test_readuntil_limit_found_sep";
    upstream_readuntil_multi_separator: "ST3" = "test_streams::StreamTests::test_readuntil_multi_separator";
    upstream_readuntil_multi_separator_negative_offset: "ST3"
        = "test_streams::StreamTests::test_readuntil_multi_separator_negative_offset";
    upstream_readexactly: "ST2" = "test_streams::StreamTests::test_readexactly";
    upstream_readexactly_eof: "ST2" = "test_streams::StreamTests::test_readexactly_eof";
    upstream_exception_waiter: "ST6"
        = "test_streams::StreamTests::test_exception_waiter",
          "test_streams::StreamTests::test_exception";
    upstream_exception_cancel: "ST5" = "test_streams::StreamTests::test_exception_cancel";
    upstream_repr: "X8"
        = "test_streams::StreamTests::test___repr__",
          "test_streams::StreamTests::test___repr__nondefault_limit",
          "test_streams::StreamTests::test___repr__eof",
          "test_streams::StreamTests::test___repr__data",
          "test_streams::StreamTests::test___repr__exception",
          "test_streams::StreamTests::test___repr__waiter";
    upstream_readexactly_exception: "ST6" = "test_streams::StreamTests::test_readexactly_exception";
}

const DATA: &[u8] = b"line1\nline2\nline3\n";

/// Feeds, in the next turn, what a test's read then finds.
fn feed_soon(reader: &Rc<StreamReader>, feed: impl FnOnce(&StreamReader) + 'static) {
    let reader = Rc::clone(reader);
    get_running_loop().unwrap().call_soon(move || feed(&reader)).unwrap();
}

fn upstream_feed_empty_data(on: &Machine) {
    on.run(async {
        let reader = fed(100, b"");
        assert!(!reader.at_eof());
        assert_eq!(rest(&reader).await, "");
        assert_eq!(rest(&fed(100, DATA)).await, DATA);
        Ok(())
    });
}

fn upstream_read(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(100, b""));
        feed_soon(&reader, |reader| reader.feed_data(DATA));
        assert_eq!(reader.read(30).await?, DATA);
        assert_eq!(rest(&reader).await, "");
        Ok(())
    });
}

fn upstream_read_line_breaks(on: &Machine) {
    on.run(async {
        let reader = fed(100, b"line1");
        reader.feed_data(b"line2");
        assert_eq!(reader.read(5).await?, "line1");
        assert_eq!(rest(&reader).await, "line2");
        Ok(())
    });
}

fn upstream_read_eof(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(100, b""));
        feed_soon(&reader, StreamReader::feed_eof);
        assert_eq!(reader.read(1024).await?, "");
        Ok(())
    });
}

fn upstream_read_until_eof(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(100, b""));
        feed_soon(&reader, |reader| {
            reader.feed_data(b"chunk1\n");
            reader.feed_data(b"chunk2");
            reader.feed_eof();
        });
        assert_eq!(reader.read_to_end().await?, "chunk1\nchunk2");
        Ok(())
    });
}

fn upstream_read_exception(on: &Machine) {
    on.run(async {
        let reader = fed(100, b"line\n");
        assert_eq!(reader.read(2).await?, "li");
        reader.set_exception(Error::value("no"));
        assert_eq!(kind(reader.read(2).await), ErrorKind::Value);
        Ok(())
    });
}

fn upstream_read_limit(on: &Machine) {
    on.run(async {
        let reader = fed(3, b"chunk");
        assert_eq!(reader.read(5).await?, "chunk");
        Ok(())
    });
}

fn upstream_readline(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(100, b"chunk1 "));
        feed_soon(&reader, |reader| {
            reader.feed_data(b"chunk2 ");
            reader.feed_data(b"chunk3 ");
            reader.feed_data(b"\n chunk4");
        });
        assert_eq!(reader.readline().await?, "chunk1 chunk2 chunk3 \n");
        assert_eq!(rest(&reader).await, " chunk4");
        Ok(())
    });
}

/// What `async for` does in Python.
fn upstream_line_by_line(on: &Machine) {
    on.run(async {
        let reader = fed(100, b"line1\nline2\nline3");
        reader.feed_eof();
        let mut lines = Vec::new();
        loop {
            let line = reader.readline().await?;
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        assert_eq!(lines, ["line1\n", "line2\n", "line3"]);
        Ok(())
    });
}

fn upstream_readline_limit_with_existing_data(on: &Machine) {
    on.run(async {
        let reader = fed(3, b"li");
        reader.feed_data(b"ne1\nline2\n");
        assert_eq!(kind(reader.readline().await), ErrorKind::Value);
        assert_eq!(rest(&reader).await, "line2\n");

        let reader = fed(3, b"li");
        reader.feed_data(b"ne1");
        reader.feed_data(b"li");
        assert_eq!(kind(reader.readline().await), ErrorKind::Value);
        assert_eq!(rest(&reader).await, "");
        Ok(())
    });
}

fn upstream_at_eof(on: &Machine) {
    on.run(async {
        let reader = fed(100, b"");
        assert!(!reader.at_eof());
        reader.feed_data(b"some data\n");
        assert!(!reader.at_eof());
        reader.readline().await?;
        assert!(!reader.at_eof());
        reader.feed_data(b"some data\n");
        reader.feed_eof();
        assert!(!reader.at_eof(), "there is data yet");
        reader.readline().await?;
        assert!(reader.at_eof());
        Ok(())
    });
}

fn upstream_readline_limit(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(7, b""));
        feed_soon(&reader, |reader| {
            reader.feed_data(b"chunk1");
            reader.feed_data(b"chunk2");
            reader.feed_data(b"chunk3\n");
            reader.feed_eof();
        });
        assert_eq!(kind(reader.readline().await), ErrorKind::Value);
        assert_eq!(rest(&reader).await, "");

        let reader = Rc::new(fed(7, b""));
        feed_soon(&reader, |reader| {
            reader.feed_data(b"chunk1");
            reader.feed_data(b"chunk2\n");
            reader.feed_data(b"chunk3\n");
            reader.feed_eof();
        });
        assert_eq!(kind(reader.readline().await), ErrorKind::Value);
        assert_eq!(rest(&reader).await, "chunk3\n");

        let reader = fed(7, b"1234567\n");
        assert_eq!(reader.readline().await?, "1234567\n");
        reader.feed_data(b"12345678\n");
        assert_eq!(kind(reader.readline().await), ErrorKind::Value);
        reader.feed_data(b"12345678");
        assert_eq!(kind(reader.readline().await), ErrorKind::Value);
        assert_eq!(rest(&reader).await, "");
        Ok(())
    });
}

fn upstream_readline_nolimit_nowait(on: &Machine) {
    on.run(async {
        let reader = fed(100, &DATA[..6]);
        reader.feed_data(&DATA[6..]);
        assert_eq!(reader.readline().await?, "line1\n");
        assert_eq!(rest(&reader).await, "line2\nline3\n");
        Ok(())
    });
}

fn upstream_readline_read_byte_count(on: &Machine) {
    on.run(async {
        let reader = fed(100, DATA);
        reader.readline().await?;
        assert_eq!(reader.read(7).await?, "line2\nl");
        assert_eq!(rest(&reader).await, "ine3\n");
        Ok(())
    });
}

fn upstream_readline_exception(on: &Machine) {
    on.run(async {
        let reader = fed(100, b"line\n");
        assert_eq!(reader.readline().await?, "line\n");
        reader.set_exception(Error::value("no"));
        assert_eq!(kind(reader.readline().await), ErrorKind::Value);
        Ok(())
    });
}

fn upstream_readuntil_multi_chunks(on: &Machine) {
    on.run(async {
        let reader = fed(100, b"lineAAA");
        assert_eq!(reader.readuntil(b"AAA").await?, "lineAAA");
        reader.feed_data(b"lineAAA");
        assert_eq!(reader.readuntil("AAA").await?, "lineAAA");
        reader.feed_data(b"lineAAAxxx");
        assert_eq!(reader.readuntil(vec![b'A'; 3]).await?, "lineAAA");
        assert_eq!(rest(&reader).await, "xxx");
        Ok(())
    });
}

fn upstream_readuntil_multi_chunks_1(on: &Machine) {
    on.run(async {
        let reader = fed(100, b"");
        let cases: [(&[&[u8]], &str); 5] = [
            (&[b"QWEaa", b"XYaa", b"a"], "QWEaaXYaaa"),
            (&[b"QWEaa", b"XYa", b"aa"], "QWEaaXYaaa"),
            (&[b"aaa"], "aaa"),
            (&[b"Xaaa"], "Xaaa"),
            (&[b"XXX", b"a", b"a", b"a"], "XXXaaa"),
        ];
        for (chunks, expected) in cases {
            chunks.iter().for_each(|chunk| reader.feed_data(chunk));
            assert_eq!(reader.readuntil(b"aaa").await?, expected);
        }
        assert_eq!(rest(&reader).await, "");
        Ok(())
    });
}

fn upstream_readuntil_limit_found_sep(on: &Machine) {
    on.run(async {
        let reader = fed(3, b"some dataAA");
        let error = reader.readuntil(b"AAA").await.unwrap_err();
        assert!(error.to_string().contains("not found"), "{error}");
        reader.feed_data(b"A");
        let error = reader.readuntil(b"AAA").await.unwrap_err();
        assert!(error.to_string().contains("is found"), "{error}");
        assert_eq!(rest(&reader).await, "some dataAAA");
        Ok(())
    });
}

fn upstream_readuntil_multi_separator(on: &Machine) {
    on.run(async {
        let reader = fed(100, b"line 1\nline 2\r");
        assert_eq!(reader.readuntil_any(&["\r", "\n"]).await?, "line 1\n");
        assert_eq!(reader.readuntil_any(&["\r", "\n"]).await?, "line 2\r");
        reader.feed_data(b"ABCDEFG");
        assert_eq!(reader.readuntil_any(&["DEF", "BCDE"]).await?, "ABCDE");
        assert_eq!(rest(&reader).await, "FG");
        Ok(())
    });
}

fn upstream_readuntil_multi_separator_negative_offset(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(100, b"data"));
        feed_soon(&reader, |reader| reader.feed_data(b"Z"));
        feed_soon(&reader, |reader| reader.feed_data(b"Aaaa"));
        assert_eq!(reader.readuntil_any(&["A", "long sep"]).await?, "dataZA");
        assert_eq!(rest(&reader).await, "aaa");
        Ok(())
    });
}

fn upstream_readexactly(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(100, b""));
        feed_soon(&reader, |reader| (0..3).for_each(|_| reader.feed_data(DATA)));
        assert_eq!(reader.readexactly(2 * DATA.len()).await?, [DATA, DATA].concat());
        assert_eq!(rest(&reader).await, DATA);
        Ok(())
    });
}

fn upstream_readexactly_exception(on: &Machine) {
    on.run(async {
        let reader = fed(100, b"line\n");
        assert_eq!(reader.readexactly(2).await?, "li");
        reader.set_exception(Error::value("no"));
        assert_eq!(kind(reader.readexactly(2).await), ErrorKind::Value);
        Ok(())
    });
}

fn upstream_readexactly_eof(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(100, b""));
        feed_soon(&reader, |reader| {
            reader.feed_data(DATA);
            reader.feed_eof();
        });
        let error = reader.readexactly(36).await.unwrap_err();
        assert_eq!(error.partial().unwrap(), DATA);
        assert_eq!(error.to_string(), "18 bytes read on a total of 36 expected bytes");
        assert_eq!(rest(&reader).await, "");
        Ok(())
    });
}

fn upstream_exception_waiter(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(100, b"partial"));
        assert!(reader.exception().is_none());
        feed_soon(&reader, |reader| reader.set_exception(Error::value("no")));
        assert_eq!(kind(reader.readline().await), ErrorKind::Value);
        assert_eq!(reader.exception().unwrap().kind(), ErrorKind::Value);
        Ok(())
    });
}

fn upstream_exception_cancel(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(100, b""));
        let task = create_task({
            let reader = Rc::clone(&reader);
            async move { reader.readline().await }
        });
        pump().await;
        task.cancel(None);
        sleep(0.0).await?;
        reader.set_exception(Error::runtime("message"));
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(kind(reader.read(1).await), ErrorKind::Runtime);
        Ok(())
    });
}

fn upstream_repr(on: &Machine) {
    on.run(async {
        let reader = fed(123, b"data");
        let text = format!("{reader:?}");
        assert!(text.starts_with("StreamReader { bytes: 4, eof: false, limit: 123, error: None"), "{text}");
        reader.feed_eof();
        reader.set_exception(Error::msg("boom"));
        let text = format!("{reader:?}");
        assert!(text.contains("eof: true") && text.contains("boom"), "{text}");
        Ok(())
    });
}
