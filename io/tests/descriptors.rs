//! Descriptors: that none is lost, whatever is cancelled or dropped, and what a server does when there are none left.
//!
//! The tests look at all descriptors of the process, so each runs in a process of its own.

mod common;

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use aioli_core::op::Domain;
use aioli_core::{Result, create_task, get_running_loop, sleep, timeout};
use aioli_io::{
    Socket, StreamReader, StreamWriter, open_connection, open_unix_connection, start_server, start_unix_server,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use common::{Peer, Reports, alone, descriptors, fill, leaves_nothing, run, run_deaf, settle};

#[test]
fn connections_leave_no_descriptor() {
    if !alone("connections_leave_no_descriptor") {
        return;
    }
    run(|| {
        leaves_nothing(async || {
            let peer = Peer::start().await?;
            // Closed, aborted, dropped in either order, with and without data on the way.
            for kind in 0..8 {
                let ((reader, writer), (peer_reader, peer_writer)) = peer.connect().await?;
                if kind % 2 == 0 {
                    fill(&writer, 1000)?;
                }
                match kind / 2 {
                    0 => writer.close(),
                    1 => writer.transport().abort(),
                    2 => drop(writer),
                    _ => drop(reader),
                }
                drop((peer_reader, peer_writer));
                settle().await?;
            }
            peer.server.close();
            Ok(())
        })
    });
}

#[test]
fn what_is_given_up_leaves_no_descriptor() {
    if !alone("what_is_given_up_leaves_no_descriptor") {
        return;
    }
    async fn round() -> Result<()> {
        let peer = Peer::start().await?;
        // Connecting, cancelled or dropped after each number of turns that it takes.
        for turns in 0..6 {
            let mut connecting = Box::pin(open_connection("127.0.0.1", peer.port()));
            for _ in 0..turns {
                if futures::poll!(&mut connecting).is_ready() {
                    break;
                }
                sleep(0.0).await?;
            }
            drop(connecting);
            let connecting = create_task(open_connection("localhost", peer.port()));
            for _ in 0..turns {
                sleep(0.0).await?;
            }
            connecting.cancel(None);
            let _ = connecting.await;
        }
        settle().await?;
        peer.server.close();
        peer.server.close_clients();
        drop(peer);

        // A server that is not started, or closed while clients come.
        drop(start_server(async |_, _| Ok(()), "127.0.0.1", 0));
        let mut starting = Box::pin(start_server(async |_, _| Ok(()), "127.0.0.1", 0));
        let _ = futures::poll!(&mut starting);
        drop(starting);
        for turns in 0..6 {
            let server = start_server(async |_, _| Ok(()), "127.0.0.1", 0).await?;
            let client = TcpStream::connect(server.local_addrs()[0])?;
            for _ in 0..turns {
                sleep(0.0).await?;
            }
            server.close();
            drop((server, client));
        }

        // Sockets whose operations are given up.
        let listener = Socket::stream(Domain::Ipv4)?;
        listener.bind(([127, 0, 0, 1], 0).into())?;
        listener.listen(5)?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (socket, _) = listener.accept().await?;
        {
            let (mut accept, mut recv) = (Box::pin(listener.accept()), Box::pin(socket.recv(1)));
            assert!(futures::poll!(&mut accept).is_pending());
            assert!(futures::poll!(&mut recv).is_pending());
        }
        let late = TcpStream::connect(listener.local_addr()?)?;
        settle().await?;
        drop((listener, socket, client, late));
        settle().await
    }
    run(|| leaves_nothing(round));
    run_deaf(|| leaves_nothing(round));
}

/// What is open when the loop closes is closed with it.
#[test]
fn a_loop_that_closes_leaves_no_descriptor() {
    if !alone("a_loop_that_closes_leaves_no_descriptor") {
        return;
    }
    let before = descriptors();
    let kept = Rc::new(RefCell::new(Vec::new()));
    for round in 1..=2 {
        let keep = Rc::clone(&kept);
        run(move || {
            let keep = Rc::clone(&keep);
            async move {
                let peer = Peer::start().await?;
                let pair = peer.connect().await?;
                fill(&pair.0.1, 1000)?;
                let hanging = peer.connect().await?;
                create_task(async move {
                    let ((reader, _writer), _peer) = hanging;
                    // Goes on while the loop cancels what is left.
                    let read = reader.read(1).await;
                    sleep(0.001).await?;
                    read
                });
                let _connecting = TcpStream::connect(peer.server.local_addrs()[0])?;
                sleep(0.0).await?;
                keep.borrow_mut().push((peer, pair, get_running_loop()?));
                Ok(())
            }
        });
        // Each of the loops that a round runs has left what other threads wake it with, for as long as somebody knows it.
        let loops = kept.borrow().len();
        assert!(loops >= 2 * round);
        assert_eq!(descriptors(), before + loops);
    }
    kept.take();
    assert_eq!(descriptors(), before);
}

/// Opens files until there is no descriptor left.
fn use_up() -> Vec<File> {
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(100), ..limits }).unwrap();
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// With no descriptor left a server says so, pauses for a second, and goes on.
#[test]
fn a_server_without_descriptors_pauses() {
    if !alone("a_server_without_descriptors_pauses") {
        return;
    }
    run(|| async {
        let reports = Reports::new();
        let count = Rc::new(std::cell::Cell::new(0));
        let counter = Rc::clone(&count);
        let callback = move |_: StreamReader, _: StreamWriter| {
            counter.set(counter.get() + 1);
            async { Ok(()) }
        };
        let server = start_server(callback, "127.0.0.1", 0).await?;
        let address = server.local_addrs()[0];
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address)).collect::<io::Result<_>>()?;
        let filling = use_up();
        let event_loop = get_running_loop()?;
        let begin = event_loop.time();
        settle().await?;
        assert_eq!(reports.take(), ["socket.accept() out of system resource: Too many open files (os error 24)"]);
        drop(filling);
        assert!(server.is_serving());
        sleep(0.5).await?;
        assert_eq!(count.get(), 0);
        while count.get() < 3 {
            sleep(0.01).await?;
        }
        let paused = event_loop.time() - begin;
        assert!(paused >= Duration::from_secs(1) && paused < Duration::from_millis(1500), "{paused:?}");
        assert_eq!(reports.take(), [] as [String; 0]);

        // Closing while it pauses.
        drop(clients);
        let mut filling = use_up();
        // Only when nothing is left: the kernel may accept it at once.
        drop(filling.pop());
        let client = TcpStream::connect(address)?;
        let error = open_connection("127.0.0.1", address.port()).await.unwrap_err();
        assert_eq!(error.as_io().unwrap().raw_os_error(), Some(24));
        assert_eq!(
            start_server(async |_, _| Ok(()), "", 0).await.unwrap_err().as_io().unwrap().raw_os_error(),
            Some(24)
        );
        settle().await?;
        assert_eq!(reports.take().len(), 1);
        drop(filling);
        server.close();
        server.wait_closed().await?;
        TcpListener::bind(address)?;
        drop(client);
        Ok(())
    });
}

/// Five hundred connections at the same time, each of which echoes.
#[test]
fn many_connections() {
    if !alone("many_connections") {
        return;
    }
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).unwrap();
    run(|| async {
        let echo = async |reader: StreamReader, writer: StreamWriter| {
            loop {
                let data = reader.read(1000).await?;
                if data.is_empty() {
                    return Ok(());
                }
                writer.write(&data)?;
                writer.drain().await?;
            }
        };
        let server = start_server(echo, "127.0.0.1", 0).backlog(500).await?;
        let port = server.local_addrs()[0].port();
        let before = descriptors();
        let clients: Vec<_> = (0..500_u32)
            .map(|n| {
                create_task(async move {
                    let (reader, writer) = open_connection("127.0.0.1", port).await?;
                    for round in 0..10 {
                        let message = format!("{n} {round}\n");
                        writer.write(message.as_bytes())?;
                        assert_eq!(reader.readline().await?, message);
                    }
                    Ok((reader, writer))
                })
            })
            .collect();
        let streams = aioli_core::gather(clients).await?;
        assert_eq!(descriptors(), before + 1000);
        drop(streams);
        server.close();
        server.wait_closed().await?;
        assert_eq!(descriptors(), before - 1);
        Ok(())
    });
}

#[test]
fn unix_sockets_leave_no_descriptor() {
    if !alone("unix_sockets_leave_no_descriptor") {
        return;
    }
    run(|| {
        leaves_nothing(async || {
            let name = format!("\0aioli-{}", std::process::id());
            let server = start_unix_server(async |reader, _writer| reader.read_to_end().await, &*name).await?;
            let (reader, writer) = open_unix_connection(&*name).await?;
            assert!(start_unix_server(async |_, _| Ok(()), &*name).await.is_err());
            assert!(open_unix_connection("/nonexistent").await.is_err());
            assert!(start_unix_server(async |_, _| Ok(()), "/nonexistent/x").await.is_err());
            let path = std::env::temp_dir().join(&name[1..]);
            let other = start_unix_server(async |_, _| Ok(()), &path).await?;
            assert!(start_unix_server(async |_, _| Ok(()), &path).await.is_err());
            create_task(open_unix_connection(&path)).cancel(None);
            drop(open_unix_connection(&path));
            settle().await?;
            other.close();
            drop((reader, writer));
            server.close();
            server.wait_closed().await
        })
    });
}

/// Waits until only so many descriptors are open: a thread of the kernel's or of the driver's may still be at work.
async fn come_back_to(before: usize) -> Result<()> {
    timeout(Duration::from_secs(10), async {
        while descriptors() != before {
            sleep(0.001).await?;
        }
        Ok(())
    })
    .await
}

/// An open that is cancelled leaves nothing open, at whatever moment the cancellation comes.
#[test]
fn upstream_monoio_318_an_open_that_is_cancelled_loses_no_descriptor() {
    if !alone("upstream_monoio_318_an_open_that_is_cancelled_loses_no_descriptor") {
        return;
    }
    run(|| async {
        let path = std::env::temp_dir().join(format!("aioli-test-{}-cancelled", std::process::id()));
        drop(aioli_io::File::create(&path).await?);
        sleep(0.001).await?;
        let before = descriptors();
        for turns in 0..6 {
            for dropped in [false, true] {
                let path = path.clone();
                let task = create_task(async move {
                    let open = aioli_io::File::open(path);
                    if dropped {
                        let mut open = Box::pin(open);
                        let _ = futures::poll!(&mut open);
                        return Ok(());
                    }
                    open.await.map(drop)
                });
                for _ in 0..turns {
                    sleep(0.0).await?;
                }
                task.cancel(None);
                let _: Result<()> = task.await;
            }
        }
        come_back_to(before).await?;
        // A read that is cancelled, and its file closed.
        let file = aioli_io::File::open(&path).await?;
        let read = create_task(async move { file.metadata().await.map(|_| ()) });
        sleep(0.0).await?;
        read.cancel(None);
        assert!(read.await.unwrap_err().is_cancelled());
        come_back_to(before).await?;
        std::fs::remove_file(path)?;
        Ok(())
    });
}
