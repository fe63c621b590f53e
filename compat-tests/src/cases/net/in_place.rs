//! Reads that allocate nothing: into memory of the caller's, and where the data lies.

use std::rc::Rc;
use std::time::Duration;

use aioli_core::{ErrorKind, Result, create_task, gather, timeout};
use aioli_io::StreamReader;
use bytes::Bytes;

use super::reader::{fed, kind, pump, rest};
use super::support::pair;
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "streams" in net_in_place as __cases_net_in_place;
    read_into_takes_what_fits_and_leaves_the_rest: "ST2";
    read_into_waits_for_what_comes_first: "ST2";
    read_into_at_the_end_of_the_stream: "ST2";
    read_into_no_memory_does_not_wait: "ST2";
    read_into_that_is_cancelled_takes_nothing: "L4 ST5";
    read_into_beside_another_read_is_refused: "ST5";
    read_into_after_an_error_is_that_error: "ST6";
    read_into_between_other_reads_keeps_the_order: "ST2";
    read_into_has_a_connection_that_was_full_go_on: "ST1";
    read_with_shows_all_there_is_and_takes_it: "ST2";
    read_with_shows_nothing_at_the_end_of_the_stream: "ST2";
    read_with_is_not_called_if_it_is_cancelled: "L4 ST5";
    read_with_may_use_the_stream_meanwhile: "ST2";
    read_with_that_panics_has_read_what_it_was_shown: "ST2 L11";
    read_with_echoes_what_comes: "ST2";
}

fn read_into_takes_what_fits_and_leaves_the_rest(on: &Machine) {
    on.run(async {
        let reader = fed(8, b"123456");
        let mut buffer = *b"____";
        assert_eq!(reader.read_into(&mut buffer).await?, 4);
        assert_eq!(&buffer, b"1234");
        assert_eq!(reader.read_into(&mut buffer).await?, 2);
        assert_eq!(&buffer, b"5634");
        Ok(())
    });
}

fn read_into_waits_for_what_comes_first(on: &Machine) {
    on.run(async {
        let reader = Rc::new(StreamReader::new(8)?);
        let reading = into(&reader, 4);
        pump().await;
        assert!(!reading.done());
        reader.feed_data(b"12");
        reader.feed_data(b"3");
        assert_eq!(reading.await?, b"123");
        Ok(())
    });
}

fn read_into_at_the_end_of_the_stream(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(8, b"1"));
        reader.feed_eof();
        assert_eq!(into(&reader, 4).await?, b"1");
        assert_eq!(into(&reader, 4).await?, b"");
        assert_eq!(into(&reader, 4).await?, b"");
        Ok(())
    });
}

fn read_into_no_memory_does_not_wait(on: &Machine) {
    on.run(async {
        assert_eq!(StreamReader::new(8)?.read_into(&mut []).await?, 0);
        let reader = fed(8, b"1");
        assert_eq!(reader.read_into(&mut []).await?, 0);
        assert_eq!(rest(&reader).await, "1");
        Ok(())
    });
}

fn read_into_that_is_cancelled_takes_nothing(on: &Machine) {
    on.run(async {
        let reader = Rc::new(StreamReader::new(8)?);
        let reading = into(&reader, 4);
        pump().await;
        reader.feed_data(b"12");
        assert!(reading.cancel(None));
        assert!(reading.await.unwrap_err().is_cancelled());
        assert_eq!(rest(&reader).await, "12");
        Ok(())
    });
}

fn read_into_beside_another_read_is_refused(on: &Machine) {
    on.run(async {
        let reader = Rc::new(StreamReader::new(8)?);
        let reading = into(&reader, 4);
        pump().await;
        let error = reader.read_into(&mut [0; 4]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Runtime);
        assert!(error.to_string().contains("read_into() called while another task"), "{error}");
        reader.feed_data(b"12");
        assert_eq!(reading.await?, b"12");
        Ok(())
    });
}

fn read_into_after_an_error_is_that_error(on: &Machine) {
    on.run(async {
        let reader = fed(8, b"12");
        reader.set_exception(aioli_core::Error::value("broken"));
        assert_eq!(kind(reader.read_into(&mut [0; 4]).await), ErrorKind::Value);
        Ok(())
    });
}

/// Pieces of many sizes, taken by all kinds of reads, are in the end what was sent.
fn read_into_between_other_reads_keeps_the_order(on: &Machine) {
    on.net(|| async {
        let ((reader, _writer), (_reader, peer)) = pair().await?;
        let sent: Bytes = (0..400_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let sending = {
            let sent = sent.clone();
            create_task(async move {
                for piece in sent.chunks(30_000) {
                    peer.write(piece)?;
                    peer.drain().await?;
                }
                peer.close();
                peer.wait_closed().await
            })
        };
        let mut received = Vec::new();
        let mut buffer = [0; 20_000];
        for size in [1, 100, 600, 5_000, 20_000].into_iter().cycle() {
            let count = reader.read_into(&mut buffer[..size]).await?;
            received.extend_from_slice(&buffer[..count]);
            let data = reader.read(size).await?;
            received.extend_from_slice(&data);
            if count == 0 {
                break;
            }
        }
        assert_eq!(received.len(), sent.len());
        assert!(received == sent);
        sending.await
    });
}

fn read_into_has_a_connection_that_was_full_go_on(on: &Machine) {
    on.net(|| async {
        let peer = super::support::Peer::start().await?;
        let ((reader, _writer), (_reader, writer)) = peer.connect_with_limit(1000).await?;
        let sending = create_task(async move {
            writer.write(&vec![b'x'; 3_000_000])?;
            writer.drain().await?;
            writer.close();
            writer.wait_closed().await
        });
        let receiving = async move {
            let (mut buffer, mut total) = ([0; 700], 0);
            loop {
                match reader.read_into(&mut buffer).await? {
                    0 => return Ok(total),
                    count => total += count,
                }
            }
        };
        let (total, ()) = timeout(Duration::from_secs(60), gather((receiving, sending))).await?;
        assert_eq!(total, 3_000_000);
        Ok(())
    });
}

/// A task that reads once into a buffer of this size, and returns what came.
fn into(reader: &Rc<StreamReader>, size: usize) -> aioli_core::Task<Vec<u8>> {
    let reader = Rc::clone(reader);
    create_task(async move {
        let mut buffer = vec![0; size];
        let count = reader.read_into(&mut buffer).await?;
        buffer.truncate(count);
        Result::Ok(buffer)
    })
}

fn read_with_shows_all_there_is_and_takes_it(on: &Machine) {
    on.run(async {
        let reader = fed(8, b"123");
        reader.feed_data(b"456");
        assert_eq!(reader.read_with(<[u8]>::to_vec).await?, b"123456");
        reader.feed_data(b"78");
        assert_eq!(reader.read_with(<[u8]>::len).await?, 2);
        assert_eq!(rest(&reader).await, "");
        Ok(())
    });
}

fn read_with_shows_nothing_at_the_end_of_the_stream(on: &Machine) {
    on.run(async {
        let reader = fed(8, b"1");
        reader.feed_eof();
        assert_eq!(reader.read_with(<[u8]>::to_vec).await?, b"1");
        assert_eq!(reader.read_with(<[u8]>::to_vec).await?, b"");
        assert!(reader.at_eof());
        Ok(())
    });
}

fn read_with_is_not_called_if_it_is_cancelled(on: &Machine) {
    on.run(async {
        let reader = Rc::new(StreamReader::new(8)?);
        let reading = {
            let reader = Rc::clone(&reader);
            create_task(async move { reader.read_with(|_| panic!("it was cancelled")).await })
        };
        pump().await;
        reader.feed_data(b"12");
        assert!(reading.cancel(None));
        let ended: Result<()> = reading.await;
        assert!(ended.unwrap_err().is_cancelled());
        assert_eq!(rest(&reader).await, "12");
        Ok(())
    });
}

fn read_with_may_use_the_stream_meanwhile(on: &Machine) {
    on.run(async {
        let reader = fed(4, b"1234567890");
        reader
            .read_with(|data| {
                assert_eq!(data, b"1234567890");
                assert!(!reader.at_eof());
                reader.feed_data(b"more");
                reader.feed_eof();
                assert!(format!("{reader:?}").contains("bytes: 4"));
            })
            .await?;
        assert_eq!(reader.read_to_end().await?, "more");
        Ok(())
    });
}

fn read_with_that_panics_has_read_what_it_was_shown(on: &Machine) {
    on.run(async {
        let reader = Rc::new(fed(8, b"12"));
        let reading = {
            let reader = Rc::clone(&reader);
            create_task(async move { reader.read_with(|_| panic!("by the test")).await })
        };
        let ended: Result<()> = reading.await;
        assert_eq!(kind(ended), ErrorKind::Panicked);
        reader.feed_data(b"34");
        assert_eq!(rest(&reader).await, "34");
        Ok(())
    });
}

fn read_with_echoes_what_comes(on: &Machine) {
    on.net(|| async {
        let ((reader, writer), (echoed, peer)) = pair().await?;
        let echo = create_task(async move {
            while reader.read_with(|data| writer.write(data).map(|()| !data.is_empty())).await?? {
                writer.drain().await?;
            }
            writer.close();
            writer.wait_closed().await
        });
        let sent: Bytes = (0..500_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let sending = {
            let sent = sent.clone();
            create_task(async move {
                for piece in [&sent[..10], &sent[10..70_000], &sent[70_000..70_001], &sent[70_001..]] {
                    peer.write(piece)?;
                    peer.drain().await?;
                }
                peer.write_eof();
                Ok(peer)
            })
        };
        let received = timeout(Duration::from_secs(60), echoed.read_to_end()).await?;
        assert!(received == sent);
        drop(sending.await?);
        echo.await
    });
}
