//! What many connections write in every turn, which a backend may gather and send together.

use std::fs;
use std::future::Future;
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use aioli_core::{Result, Runner, create_task, sleep};
use aioli_io::{StreamReader, StreamWriter, open_connection};

use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "streams" in net_busy as __cases_net_busy;
    what_many_write_leaves_when_the_loop_stops: "TP3";
    what_many_write_leaves_at_the_end_of_the_turn: "TP3";
    an_aborted_connection_of_many_is_closed: "TP5";
}

const MANY: usize = 20;

type Streams = Rc<Vec<(StreamReader, StreamWriter)>>;

/// Many connections that have all been writing in every turn, and their peers, which are no part of the loop.
struct Busy {
    runner: Runner,
    streams: Streams,
}

impl Busy {
    fn new(on: &Machine) -> (Self, Vec<TcpStream>) {
        let runner = on.plain_runner();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connecting = async move {
            let mut streams = Vec::new();
            for _ in 0..MANY {
                streams.push(open_connection("127.0.0.1", port).await?);
            }
            Ok(Rc::new(streams))
        };
        let streams = runner.run(connecting).unwrap();
        let peer = |_| {
            let (peer, _) = listener.accept()?;
            peer.set_read_timeout(Some(Duration::from_secs(10)))?;
            Ok(peer)
        };
        let mut peers = (0..MANY).map(peer).collect::<io::Result<Vec<_>>>().unwrap();
        let busy = Busy { runner, streams };
        busy.run(|streams| async move { write_all_the_time(&streams).await });
        peers.iter_mut().for_each(|peer| peer.read_exact(&mut [0; 30]).unwrap());
        (busy, peers)
    }

    #[track_caller]
    fn run<F: Future<Output = Result<()>> + 'static>(&self, main: impl FnOnce(Streams) -> F) {
        self.runner.run(main(Rc::clone(&self.streams))).unwrap();
    }

    #[track_caller]
    fn close(self) {
        drop(self.streams);
        self.runner.close().unwrap();
    }
}

async fn write_all_the_time(streams: &Streams) -> Result<()> {
    for _ in 0..30 {
        write_all(streams, b".")?;
        // The loop has nothing else to do, and looks for events.
        sleep(0.001).await?;
    }
    Ok(())
}

fn write_all(streams: &Streams, data: &[u8]) -> Result<()> {
    streams.iter().try_for_each(|(_, writer)| writer.write(data))
}

fn what_many_write_leaves_when_the_loop_stops(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    let (busy, mut peers) = Busy::new(on);
    busy.run(|streams| async move {
        write_all_the_time(&streams).await?;
        write_all(&streams, b"last")
    });
    for peer in &mut peers {
        let mut found = [0; 34];
        peer.read_exact(&mut found).unwrap();
        assert_eq!(found[30..], *b"last");
    }
    busy.close();
}

/// Also while other handles are ready all the time, so that the loop has no reason to look for events.
fn what_many_write_leaves_at_the_end_of_the_turn(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    let (busy, mut peers) = Busy::new(on);
    busy.run(|streams| async move {
        write_all_the_time(&streams).await?;
        let other = create_task(async {
            loop {
                sleep(0.0).await?;
            }
        });
        for _ in 0..10 {
            write_all(&streams, b"last")?;
            sleep(0.0).await?;
            for peer in &mut peers {
                let mut found = [0];
                while found != *b"t" {
                    peer.read_exact(&mut found)?;
                }
            }
        }
        other.cancel(None);
        let ended: Result<()> = other.await;
        assert!(ended.unwrap_err().is_cancelled());
        Ok(())
    });
    busy.close();
}

/// Though its peer does not read, so that what was written cannot leave.
fn an_aborted_connection_of_many_is_closed(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.apart("aborted", || {
        let (busy, _peers) = Busy::new(on);
        let before = open_descriptors();
        busy.run(|streams| async move {
            let is_full = |writer: &StreamWriter| writer.transport().get_write_buffer_size() > 0;
            while !streams.iter().all(|(_, writer)| is_full(writer)) {
                for (_, writer) in streams.iter().filter(|(_, writer)| !is_full(writer)) {
                    writer.write(&[0; 2000])?;
                }
                sleep(0.0).await?;
            }
            for (_, writer) in streams.iter() {
                writer.transport().abort();
            }
            for (_, writer) in streams.iter() {
                writer.wait_closed().await?;
            }
            sleep(0.01).await
        });
        assert_eq!(open_descriptors(), before - MANY);
        busy.close();
    });
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}
