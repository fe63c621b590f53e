//! Connections event by event, with the turns in which CPython 3.13 has the same events. Each expected line was printed by asyncio's
//! streams on a loop that counts its turns.

use aioli_core::op::SocketOption;
use aioli_core::{Error, ErrorKind, create_task, sleep};
use aioli_io::{StreamReader, StreamWriter, open_connection, start_server};

use super::support::{Log, settle, turn};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "streams" in net_trace as __cases_net_trace;
    a_conversation: "TP1 TP2 L2 DN1"
        = "test_events::EventLoopTestsMixin::test_create_connection",
          "test_streams::StreamTests::test_open_connection",
          "test_base_events::BaseEventLoopWithSelectorTests::test_create_connection_ip_addr",
          "test_selector_events::SelectorSocketTransportTests::test_read_ready",
          "test_proactor_events::ProactorSocketTransportTests::test_loop_reading_data";
    a_connection_that_is_reset: "TP5 ST8 L2"
        = "test_selector_events::SelectorSocketTransportTests::test_read_ready_err",
          "test_proactor_events::ProactorSocketTransportTests::test_loop_reading_conn_reset_lost";
    a_connection_that_is_refused: "CN1 L2";
    half_a_connection: "TP6 L2";
    writes_to_a_peer_that_is_gone: "TP5 TP3"
        = "test_selector_events::SelectorSocketTransportTests::test_write_exception",
          "test_selector_events::SelectorSocketTransportTests::test_write_ready_exception",
          "test_selector_events::SelectorSocketTransportTests::test_write_sendmsg_OSError",
          "test_proactor_events::ProactorSocketTransportTests::test_loop_writing_err";
    data_and_the_end_in_one: "TP2 L2" = "test_selector_events::SelectorSocketTransportTests::test_read_ready_eof";
    a_paused_connection_that_goes_on: "TP7 L2"
        = "test_selector_events::SelectorSocketTransportTests::test_pause_resume_reading",
          "test_proactor_events::ProactorSocketTransportTests::test_pause_resume_reading";
    serve_forever_that_is_cancelled_or_closed: "SV4 L2";
    a_read_that_is_cancelled: "ST5 L3";
    a_drain_after_a_close: "ST7 L2";
}

/// The name of an error, as Python has it for these.
fn name(error: &Error) -> String {
    match error.as_io() {
        Some(error) => format!("{:?}", error.kind()),
        None => format!("{:?}", error.kind()),
    }
}

fn a_conversation(on: &Machine) {
    on.net_exact(|| async {
        let log = Log::default();
        let server_log = log.clone();
        let handler = move |reader: StreamReader, writer: StreamWriter| {
            let log = server_log.clone();
            async move {
                log.add("handler");
                let data = reader.read(100).await?;
                log.add(&format!("S.read{}", data.len()));
                writer.write(&data)?;
                let data = reader.read(100).await?;
                log.add(&format!("S.read{}", data.len()));
                writer.close();
                log.add("S.close");
                writer.wait_closed().await?;
                log.add("S.closed");
                Ok(())
            }
        };
        log.start();
        let server = start_server(handler, "127.0.0.1", 0).await?;
        log.add("started");
        assert_eq!(log.take(), ["started@4"]);
        let port = server.local_addrs()[0].port();
        settle().await?;

        log.start();
        let (reader, writer) = open_connection("127.0.0.1", port).await?;
        log.add("connected");
        settle().await?;
        assert_eq!(log.take(), ["handler@4", "connected@4"]);

        log.start();
        writer.write(b"hello")?;
        let data = reader.read(100).await?;
        log.add(&format!("C.read{}", data.len()));
        settle().await?;
        assert_eq!(log.take(), ["S.read5@2", "C.read5@4"]);

        log.start();
        writer.close();
        log.add("C.close");
        writer.wait_closed().await?;
        log.add("C.closed");
        settle().await?;
        assert_eq!(log.take(), ["C.close@0", "C.closed@2", "S.read0@3", "S.close@3", "S.closed@5"]);
        assert_eq!(reader.read(1).await?, "");

        server.close();
        let before = turn();
        server.wait_closed().await?;
        assert_eq!(turn(), before, "nothing is left to wait for");
        Ok(())
    });
}

fn a_connection_that_is_reset(on: &Machine) {
    on.net_exact(|| async {
        let log = Log::default();
        let server_log = log.clone();
        let handler = move |_: StreamReader, writer: StreamWriter| {
            let log = server_log.clone();
            async move {
                writer.transport().set_option(SocketOption::Linger(Some(0)))?;
                writer.transport().abort();
                log.add("S.abort");
                writer.wait_closed().await?;
                log.add("S.closed");
                Ok(())
            }
        };
        let server = start_server(handler, "127.0.0.1", 0).await?;
        log.start();
        let (reader, writer) = open_connection("127.0.0.1", server.local_addrs()[0].port()).await?;
        log.add("connected");
        log.add(&name(&reader.read(1).await.unwrap_err()));
        log.add(&name(&writer.drain().await.unwrap_err()));
        log.add(&name(&writer.wait_closed().await.unwrap_err()));
        settle().await?;
        assert_eq!(
            log.take(),
            ["S.abort@4", "connected@4", "S.closed@6", "ConnectionReset@8", "ConnectionReset@8", "ConnectionReset@8"]
        );
        Ok(())
    });
}

fn a_connection_that_is_refused(on: &Machine) {
    on.net_exact(|| async {
        let (_socket, address) = super::support::refusing();
        let log = Log::default();
        log.start();
        let error = open_connection("127.0.0.1", address.port()).await.unwrap_err();
        log.add(&name(&error));
        assert_eq!(log.take(), ["ConnectionRefused@2"]);
        Ok(())
    });
}

fn half_a_connection(on: &Machine) {
    on.net_exact(|| async {
        let log = Log::default();
        let server_log = log.clone();
        let handler = move |reader: StreamReader, writer: StreamWriter| {
            let log = server_log.clone();
            async move {
                let data = reader.read_to_end().await?;
                log.add(&format!("S.eof{}", data.len()));
                writer.write(b"reply")?;
                writer.write_eof();
                writer.drain().await?;
                log.add("S.drained");
                writer.close();
                writer.wait_closed().await?;
                log.add("S.closed");
                Ok(())
            }
        };
        let server = start_server(handler, "127.0.0.1", 0).await?;
        let (reader, writer) = open_connection("127.0.0.1", server.local_addrs()[0].port()).await?;
        settle().await?;
        log.start();
        writer.write(b"request")?;
        writer.write_eof();
        let data = reader.read_to_end().await?;
        log.add(&format!("C.{}", data.len()));
        settle().await?;
        assert_eq!(log.take(), ["S.eof7@3", "S.drained@3", "S.closed@5", "C.5@6"]);
        assert!(!writer.is_closing());
        Ok(())
    });
}

/// The peer has closed: the first write is answered with a reset, the second finds the connection broken.
fn writes_to_a_peer_that_is_gone(on: &Machine) {
    on.net_exact(|| async {
        let handler = |_: StreamReader, writer: StreamWriter| async move {
            writer.close();
            writer.wait_closed().await
        };
        let server = start_server(handler, "127.0.0.1", 0).await?;
        let (reader, writer) = open_connection("127.0.0.1", server.local_addrs()[0].port()).await?;
        settle().await?;
        writer.write(b"a")?;
        settle().await?;
        let log = Log::default();
        log.start();
        writer.write(b"b")?;
        log.add("wrote");
        let error = writer.drain().await.unwrap_err();
        log.add(&name(&error));
        assert_eq!(error.to_string(), "connection lost");
        log.add(&name(&reader.read(1).await.unwrap_err()));
        assert_eq!(log.take(), ["wrote@0", "ConnectionReset@1", "BrokenPipe@1"]);
        Ok(())
    });
}

fn data_and_the_end_in_one(on: &Machine) {
    on.net_exact(|| async {
        let handler = |_: StreamReader, writer: StreamWriter| async move {
            writer.write(b"data")?;
            writer.close();
            Ok(())
        };
        let server = start_server(handler, "127.0.0.1", 0).await?;
        let (reader, _writer) = open_connection("127.0.0.1", server.local_addrs()[0].port()).await?;
        let log = Log::default();
        log.start();
        log.add(&format!("read{}", reader.read(10).await?.len()));
        log.add(&format!("read{}", reader.read(10).await?.len()));
        assert_eq!(log.take(), ["read4@2", "read0@3"]);
        Ok(())
    });
}

fn a_paused_connection_that_goes_on(on: &Machine) {
    on.net_exact(|| async {
        let handler = |_: StreamReader, writer: StreamWriter| async move {
            writer.write(&[b'x'; 40])?;
            sleep(0.005).await?;
            writer.write(&[b'y'; 5])?;
            sleep(1.0).await
        };
        let server = start_server(handler, "127.0.0.1", 0).await?;
        let (reader, writer) = open_connection("127.0.0.1", server.local_addrs()[0].port()).limit(8).await?;
        sleep(0.02).await?;
        assert!(!writer.transport().is_reading());
        let log = Log::default();
        log.start();
        log.add(&format!("read{}", reader.readexactly(45).await?.len()));
        assert_eq!(log.take(), ["read45@2"]);
        assert!(writer.transport().is_reading());
        writer.close();
        assert!(!writer.transport().is_reading());
        Ok(())
    });
}

fn serve_forever_that_is_cancelled_or_closed(on: &Machine) {
    on.net_exact(|| async {
        for closed in [false, true] {
            let server = start_server(async |_, _| Ok(()), "127.0.0.1", 0).await?;
            let served = server.clone();
            let task = create_task(async move { served.serve_forever().await });
            sleep(0.0).await?;
            let before = turn();
            if closed {
                server.close();
            } else {
                task.cancel(None);
            }
            assert!((&task).await.unwrap_err().is_cancelled());
            assert_eq!(turn() - before, 2);
            assert!(task.cancelled());
            assert!(!server.is_serving());
        }
        Ok(())
    });
}

fn a_read_that_is_cancelled(on: &Machine) {
    on.net_exact(|| async {
        let ((reader, _writer), _server) = super::support::pair().await?;
        let task = create_task(async move { reader.read(1).await });
        sleep(0.0).await?;
        let before = turn();
        task.cancel(None);
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(turn() - before, 2);
        Ok(())
    });
}

fn a_drain_after_a_close(on: &Machine) {
    on.net_exact(|| async {
        let ((_reader, writer), _server) = super::support::pair().await?;
        let before = turn();
        writer.close();
        let error = writer.drain().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(turn() - before, 1);
        Ok(())
    });
}
