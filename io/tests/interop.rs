//! Readers and writers under the traits of the `futures` crates.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use aioli_core::{Cancellable, ErrorKind, Result, create_task, sleep, timeout};
use aioli_io::{StreamWriter, connect_read_pipe, connect_write_pipe};
use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use futures::{FutureExt, StreamExt, pin_mut, select};

use common::{Peer, fill, pair, run_everywhere as run, settle, turn};

/// A result of aioli's, for blocks whose type is not known otherwise.
fn ok<T>(value: T) -> Result<T> {
    Ok(value)
}

#[test]
fn reading_through_the_traits() {
    run(|| async {
        let ((mut reader, _writer), (_peer_reader, peer_writer)) = pair().await?;
        peer_writer.write(b"0123456789")?;
        let mut buffer = [0; 4];
        reader.read_exact(&mut buffer).await?;
        assert_eq!(&buffer, b"0123");
        assert_eq!(AsyncReadExt::read(&mut reader, &mut []).await?, 0);
        peer_writer.write(b"rest")?;
        peer_writer.close();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).await?;
        assert_eq!(rest, "456789rest");
        assert_eq!(AsyncReadExt::read(&mut reader, &mut buffer).await?, 0);
        Ok(())
    });
}

#[test]
fn lines() {
    run(|| async {
        let ((reader, _writer), (_peer_reader, peer_writer)) = pair().await?;
        peer_writer.write(b"one\ntwo\nthr")?;
        let mut lines = reader.lines();
        assert_eq!(lines.next().await.unwrap()?, "one");
        assert_eq!(lines.next().await.unwrap()?, "two");
        let send = async {
            settle().await?;
            peer_writer.write(b"ee\nlast")?;
            peer_writer.close();
            ok(())
        };
        let (line, sent) = futures::join!(lines.next(), send);
        sent?;
        assert_eq!(line.unwrap()?, "three");
        assert_eq!(lines.next().await.unwrap()?, "last");
        assert!(lines.next().await.is_none());
        Ok(())
    });
}

/// What was borrowed and not used is there for every other read.
#[test]
fn a_buffer_that_was_borrowed_is_not_lost() {
    run(|| async {
        let peer = Peer::start().await?;
        let ((mut reader, writer), (_peer_reader, peer_writer)) = peer.connect_with_limit(4).await?;
        peer_writer.write(b"0123456789")?;
        settle().await?;
        assert!(!writer.transport().is_reading());
        assert_eq!(reader.fill_buf().await?, b"0123456789");
        reader.consume_unpin(2);
        assert_eq!(reader.fill_buf().await?, b"23456789");
        assert!(!reader.at_eof());
        assert!(!writer.transport().is_reading(), "8 bytes are not used, of a limit of 4");
        peer_writer.write(b"end\n")?;
        reader.consume_unpin(4);
        assert!(writer.transport().is_reading());
        settle().await?;
        assert_eq!(reader.readexactly(2).await?, "67");
        assert_eq!(reader.fill_buf().await?, b"89end\n");
        let mut byte = [0; 1];
        reader.read_exact(&mut byte).await?;
        assert_eq!(&byte, b"8");
        assert_eq!(reader.readline().await?, "9end\n");
        peer_writer.close();
        assert_eq!(reader.fill_buf().await?, b"");
        assert!(reader.at_eof());
        Ok(())
    });
}

#[test]
fn writing_through_the_traits() {
    run(|| async {
        let ((mut reader, mut writer), (mut peer_reader, mut peer_writer)) = pair().await?;
        let data = vec![b'x'; 5_000_000];
        let expected = data.len();
        let send = async {
            writer.write_all(&data).await?;
            assert!(writer.transport().get_write_buffer_size() <= writer.transport().get_write_buffer_limits().1 * 2);
            writer.flush().await?;
            assert_eq!(writer.transport().get_write_buffer_size(), 0);
            AsyncWriteExt::close(&mut writer).await?;
            ok(())
        };
        let receive = async {
            let mut all = Vec::new();
            AsyncReadExt::read_to_end(&mut peer_reader, &mut all).await?;
            ok(all.len())
        };
        let (sent, received) = futures::join!(send, receive);
        sent?;
        assert_eq!(received?, expected);
        // A close ends this direction only.
        peer_writer.write_all(b"answer").await?;
        let mut answer = [0; 6];
        reader.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"answer");
        let error = writer.write_all(b"late").await.unwrap_err();
        assert_eq!(aioli_core::Error::from(error).kind(), ErrorKind::Runtime);
        Ok(())
    });
}

#[test]
fn copying_between_connections() {
    run(|| async {
        let ((_, source), (from, _a)) = pair().await?;
        let ((sink, _b), (_, mut to)) = pair().await?;
        source.write(&vec![b'x'; 300_000])?;
        source.close();
        let copy = async {
            let count = futures::io::copy(from, &mut to).await?;
            AsyncWriteExt::close(&mut to).await?;
            ok(count)
        };
        let (copied, received) = futures::join!(copy, sink.read_to_end());
        assert_eq!(copied?, 300_000);
        assert_eq!(received?.len(), 300_000);
        Ok(())
    });
}

/// A task that is cancelled in a trait's read gets the cancellation as an error, and may clean up.
#[test]
fn cancellation_comes_through_the_traits() {
    run(|| async {
        let ((mut reader, mut writer), _peer) = pair().await?;
        let log = Rc::new(RefCell::new(Vec::new()));
        let entries = Rc::clone(&log);
        let task = create_task(async move {
            let error = AsyncReadExt::read(&mut reader, &mut [0; 9]).await.unwrap_err();
            entries.borrow_mut().push("read");
            let error = aioli_core::Error::from(error);
            assert!(error.is_cancelled());
            assert_eq!(error.cancel_message(), Some("enough"));
            sleep(0.001).await?;
            entries.borrow_mut().push("cleaned up");
            fill(&writer, 100_000)?;
            let error = writer.write_all(&vec![b'x'; 1_000_000]).await.unwrap_err();
            entries.borrow_mut().push("write");
            sleep(0.001).await?;
            let _ = writer.flush().await.unwrap_err();
            entries.borrow_mut().push("flush");
            Err::<(), _>(error.into())
        });
        settle().await?;
        let before = turn();
        task.cancel(Some("enough"));
        sleep(0.0).await?;
        assert_eq!((turn() - before, log.borrow().as_slice()), (1, ["read"].as_slice()));
        settle().await?;
        assert_eq!(*log.borrow(), ["read", "cleaned up"]);
        task.cancel(None);
        settle().await?;
        assert_eq!(*log.borrow(), ["read", "cleaned up", "write"]);
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(*log.borrow(), ["read", "cleaned up", "write", "flush"]);
        Ok(())
    });
}

#[test]
fn deadlines_reach_the_traits() {
    run(|| async {
        let ((mut reader, _writer), (_peer_reader, peer_writer)) = pair().await?;
        let late = timeout(0.005, async { Ok(AsyncReadExt::read(&mut reader, &mut [0; 9]).await?) });
        assert!(late.await.unwrap_err().is_timeout());
        peer_writer.write(b"x")?;
        assert_eq!(timeout(5.0, async { Ok(AsyncReadExt::read(&mut reader, &mut [0; 9]).await?) }).await?, 1);
        Ok(())
    });
}

/// A read that a `select!` gave up leaves nothing behind: the next read is not refused, the task can be cancelled.
#[test]
fn a_read_that_was_given_up_without_notice() {
    run(|| async {
        let ((mut reader, _writer), (_peer_reader, peer_writer)) = pair().await?;
        {
            let mut buffer = [0; 9];
            let read = AsyncReadExt::read(&mut reader, &mut buffer).fuse();
            let sleep = sleep(0.001).fuse();
            pin_mut!(read, sleep);
            select! {
                _ = read => panic!("there is nothing to read"),
                slept = sleep => slept?,
            }
        }
        let reading = create_task(async move { reader.read(9).await });
        settle().await?;
        peer_writer.write(b"data")?;
        assert_eq!(reading.await?, "data");
        Ok(())
    });
}

#[test]
fn reads_through_the_traits_yield() {
    run(|| async {
        let ((mut reader, mut writer), (_peer_reader, peer_writer)) = pair().await?;
        peer_writer.write(&[b'x'; 200])?;
        settle().await?;
        let before = turn();
        for _ in 0..64 {
            reader.read_exact(&mut [0]).await?;
        }
        assert_eq!(turn(), before);
        reader.read_exact(&mut [0]).await?;
        assert_eq!(turn(), before + 1);
        for _ in 0..64 {
            writer.write_all(b"x").await?;
        }
        assert_eq!(turn(), before + 1);
        writer.write_all(b"x").await?;
        assert_eq!(turn(), before + 2);
        Ok(())
    });
}

#[test]
fn a_broken_connection_is_an_error_of_the_traits() {
    run(|| async {
        let ((mut reader, mut writer), (_peer_reader, peer_writer)) = pair().await?;
        let waiting = create_task(async move {
            let error = AsyncReadExt::read(&mut reader, &mut [0; 9]).await.unwrap_err();
            Ok(error.kind())
        });
        settle().await?;
        peer_writer.transport().set_option(aioli_core::op::SocketOption::Linger(Some(0)))?;
        peer_writer.transport().abort();
        assert_eq!(waiting.await?, std::io::ErrorKind::ConnectionReset);
        assert_eq!(writer.write_all(b"x").await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(writer.flush().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        Ok(())
    });
}

#[test]
fn closing_a_pipe_that_took_its_time_is_no_error() {
    common::run(|| async {
        for count in [0, 10, 300_000] {
            let (ours, theirs) = std::io::pipe()?;
            let (reader, mut writer) = (connect_read_pipe(ours).await?, connect_write_pipe(theirs).await?);
            let read = create_task(async move { reader.read_to_end().await });
            writer.write_all(&vec![7; count]).await?;
            AsyncWriteExt::close(&mut writer).await?;
            assert_eq!(read.await?.len(), count);
            // It is closed by now, and stays as it is.
            writer.flush().await?;
            AsyncWriteExt::close(&mut writer).await?;
            assert!(writer.write_all(b"more").await.is_err());
        }
        Ok(())
    });
}

#[test]
fn a_flush_of_a_stream_that_was_closed_tells_whether_all_was_sent() {
    run(|| async {
        let ((_reader, mut writer), (peer_reader, _peer_writer)) = pair().await?;
        writer.write(&vec![7; 5_000_000])?;
        StreamWriter::close(&writer);
        let read = create_task(async move { peer_reader.read_to_end().await });
        writer.flush().await?;
        assert_eq!(read.await?.len(), 5_000_000);

        let ((_reader, mut writer), _peer) = pair().await?;
        writer.write(&vec![7; 50_000_000])?;
        writer.transport().abort();
        assert_eq!(writer.flush().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        writer.wait_closed().await?;
        assert_eq!(writer.flush().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert!(AsyncWriteExt::close(&mut writer).await.is_err());
        Ok(())
    });
}

#[test]
fn a_poll_under_cancellable_does_not_make_an_output_of_the_request() {
    run(|| async {
        let ((mut reader, _writer), (_peer_reader, peer_writer)) = pair().await?;
        let mut buffer = [0; 9];
        // A wrapper's error, in which nobody finds the cancellation again.
        let opaque = async { AsyncReadExt::read(&mut reader, &mut buffer).await.map_err(|_| "broken") };
        assert!(timeout(0.005, opaque.cancellable()).await.unwrap_err().is_timeout());
        peer_writer.write(b"abc")?;
        assert_eq!(timeout(5.0, AsyncReadExt::read(&mut reader, &mut buffer).cancellable()).await??, 3);

        // A deadline inside reaches the poll; one that comes with it from outside is heard after it.
        let mut seen = None;
        let inside = async {
            let late =
                timeout(0.005, async { ok(AsyncReadExt::read(&mut reader, &mut [0; 9]).await.map_err(|_| "broken")) });
            seen = Some(late.await);
        };
        timeout(5.0, inside.cancellable()).await?;
        assert_eq!(seen.unwrap()?, Err("broken"));

        let task = create_task(async move {
            let cancelled = AsyncReadExt::read(&mut reader, &mut [0; 9]).cancellable().await.unwrap_err();
            sleep(0.001).await?; // cleanup
            AsyncReadExt::read(&mut reader, &mut [0; 9]).cancellable().await??;
            Err::<(), _>(cancelled)
        });
        settle().await?;
        task.cancel(Some("enough"));
        settle().await?;
        peer_writer.write(b"x")?;
        assert_eq!(task.await.unwrap_err().cancel_message(), Some("enough"));
        Ok(())
    });
}
