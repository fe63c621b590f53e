//! What happens between the turn that tells of new data and the turn in which the read that waits for it goes on. asyncio has received
//! it by then; a stream of large pieces may put that off.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use aioli_core::op::SocketOption;
use aioli_core::{Error, ErrorKind, Result, Task, create_task, get_running_loop, timeout};
use aioli_io::{StreamReader, StreamWriter};
use bytes::Bytes;

use super::support::{Log, pair, settle};
use crate::case::cases;
use crate::cases::drop_laws::leak;
use crate::machine::Machine;

cases! {
    ($) "streams" in net_told as __cases_net_told;
    a_stream_that_is_closed_has_what_had_come: "ST2 TP5";
    a_read_that_is_cancelled_leaves_what_had_come: "L4 ST5";
    a_read_that_is_dropped_leaves_what_had_come: "L6 ST5";
    a_read_that_is_leaked_leaves_what_had_come: "L6 ST5";
    data_that_is_fed_comes_after_what_had_come: "ST2";
    an_error_that_is_set_comes_after_what_had_come: "ST6";
    the_end_is_known_before_the_read_is_resumed: "ST2";
    a_reset_is_noticed_though_nobody_reads_any_more: "ST6 L6";
    a_reset_is_told_in_its_turn: "ST6 TP5";
}

/// A connection through which large pieces have gone.
async fn large_pair() -> Result<((StreamReader, StreamWriter), (StreamReader, StreamWriter))> {
    let (ours, peer) = pair().await?;
    for _ in 0..2 {
        peer.1.write(&[b'x'; 20_000])?;
        assert_eq!(ours.0.readexactly(20_000).await?.len(), 20_000);
    }
    Ok((ours, peer))
}

/// A task that reads, and what happens in the turn that tells of the data.
struct Told {
    reader: Rc<StreamReader>,
    writer: Rc<StreamWriter>,
    reading: Task<Bytes>,
}

impl Told {
    /// Calls `then` in the turn in which the read is told of data. Returns what the read gave and what is there afterwards.
    async fn of_data(then: impl FnOnce(&StreamReader, &StreamWriter) + 'static) -> Result<(Bytes, Result<Bytes>)> {
        let (told, peer) = Self::start().await?;
        peer.write(b"data")?;
        told.then(then)?;
        let read = told.reading.await?;
        Ok((read, rest(&told.reader).await))
    }

    async fn start() -> Result<(Self, StreamWriter)> {
        let ((reader, writer), (_, peer)) = large_pair().await?;
        let (reader, writer) = (Rc::new(reader), Rc::new(writer));
        let reading = create_task({
            let reader = Rc::clone(&reader);
            async move { reader.read(100).await }
        });
        settle().await?;
        Ok((Told { reader, writer, reading }, peer))
    }

    /// Timers come after what the driver tells of in a turn.
    fn then(&self, then: impl FnOnce(&StreamReader, &StreamWriter) + 'static) -> Result<()> {
        let (reader, writer) = (Rc::clone(&self.reader), Rc::clone(&self.writer));
        get_running_loop()?.call_later(0.0, move || then(&reader, &writer)).map(drop)
    }
}

/// What is there to read, or comes soon.
async fn rest(reader: &StreamReader) -> Result<Bytes> {
    timeout(Duration::from_millis(20), reader.read(100)).await
}

fn a_stream_that_is_closed_has_what_had_come(on: &Machine) {
    on.net(|| async {
        let (read, rest) = Told::of_data(|_, writer| writer.close()).await?;
        assert_eq!((read, rest?), ("data".into(), "".into()));
        let (read, rest) = Told::of_data(|_, writer| writer.transport().abort()).await?;
        assert_eq!((read, rest?), ("data".into(), "".into()));
        Ok(())
    });
}

fn a_read_that_is_cancelled_leaves_what_had_come(on: &Machine) {
    on.net(|| async {
        let (told, peer) = Told::start().await?;
        let reading = told.reading.view();
        peer.write(b"data")?;
        told.then(move |_, _| assert!(reading.cancel(None)))?;
        assert!(told.reading.await.unwrap_err().is_cancelled());
        assert_eq!(rest(&told.reader).await?, "data");
        Ok(())
    });
}

/// Has a read dropped, or leaked, between the turn that tells of data and its next poll.
async fn given_up(reader: &Rc<StreamReader>, peer: &StreamWriter, leaked: bool) -> Result<()> {
    let reader = Rc::clone(reader);
    let read = Rc::new(RefCell::new(Some(Box::pin(async move { reader.read(100).await }))));
    let polling = create_task({
        let read = Rc::clone(&read);
        std::future::poll_fn(move |cx| match read.borrow_mut().as_mut() {
            Some(read) => read.as_mut().poll(cx),
            None => std::task::Poll::Ready(Ok(Bytes::from_static(b"given up"))),
        })
    });
    settle().await?;
    peer.write(b"data")?;
    get_running_loop()?.call_later(0.0, move || {
        let read = read.take();
        if leaked {
            leak(read);
        }
    })?;
    assert_eq!(polling.await?, "given up");
    Ok(())
}

fn a_read_that_is_dropped_leaves_what_had_come(on: &Machine) {
    on.net(|| async {
        let ((reader, _writer), (_, peer)) = large_pair().await?;
        let reader = Rc::new(reader);
        given_up(&reader, &peer, false).await?;
        assert_eq!(rest(&reader).await?, "data");
        Ok(())
    });
}

fn a_read_that_is_leaked_leaves_what_had_come(on: &Machine) {
    on.net(|| async {
        let ((reader, _writer), (_, peer)) = large_pair().await?;
        let reader = Rc::new(reader);
        given_up(&reader, &peer, true).await?;
        assert_eq!(rest(&reader).await?, "data");
        Ok(())
    });
}

fn a_reset_is_noticed_though_nobody_reads_any_more(on: &Machine) {
    on.net(|| async {
        let ((reader, writer), (_peer_reader, peer)) = large_pair().await?;
        given_up(&Rc::new(reader), &peer, false).await?;
        settle().await?;
        peer.transport().set_option(SocketOption::Linger(Some(0)))?;
        peer.transport().abort();
        let lost = timeout(1.0, writer.wait_closed()).await;
        assert_eq!(lost.unwrap_err().kind(), ErrorKind::Io);
        Ok(())
    });
}

fn data_that_is_fed_comes_after_what_had_come(on: &Machine) {
    on.net(|| async {
        let (read, _) = Told::of_data(|reader, _| reader.feed_data(b"more")).await?;
        assert_eq!(read, "datamore");
        let (read, rest) = Told::of_data(|reader, _| reader.feed_eof()).await?;
        assert_eq!((read, rest?), ("data".into(), "".into()));
        Ok(())
    });
}

fn an_error_that_is_set_comes_after_what_had_come(on: &Machine) {
    on.net(|| async {
        let (read, rest) = Told::of_data(|reader, _| reader.set_exception(Error::value("late"))).await?;
        assert_eq!(read, "data");
        assert_eq!(rest.unwrap_err().to_string(), "late");
        Ok(())
    });
}

fn the_end_is_known_before_the_read_is_resumed(on: &Machine) {
    on.net(|| async {
        let (told, peer) = Told::start().await?;
        let seen = Rc::new(Cell::new(None));
        peer.write_eof();
        told.then({
            let seen = Rc::clone(&seen);
            move |reader, _| seen.set(Some(reader.at_eof()))
        })?;
        assert_eq!(told.reading.await?, "");
        assert_eq!(seen.get(), Some(true));
        Ok(())
    });
}

/// Of an error the connection takes note first, and the read a turn later: it is received in the turn that tells of it.
fn a_reset_is_told_in_its_turn(on: &Machine) {
    on.net(|| async {
        let ((reader, _writer), (_peer_reader, peer)) = large_pair().await?;
        let log = Log::default();
        let reading = create_task({
            let log = log.clone();
            async move {
                assert_eq!(reader.read(100).await.unwrap_err().kind(), ErrorKind::Io);
                log.add("failed");
                Ok(())
            }
        });
        settle().await?;
        peer.transport().set_option(SocketOption::Linger(Some(0)))?;
        log.start();
        peer.transport().abort();
        reading.await?;
        assert_eq!(log.take(), ["failed@4"]);
        Ok(())
    });
}
