//! The chat server on a simulated machine, with fifty clients, delays and resets.
#![allow(missing_docs)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use aioli::sim::{Config, Trace, run_with};
use aioli::{
    Error, Report, Result, StreamReader, StreamWriter, create_task, gather_results, get_running_loop, open_connection,
    sleep, timeout, timeout_at,
};

#[path = "../examples/chat/server.rs"]
mod server;

const CLIENTS: usize = 50;
const MESSAGES: usize = 4;
const ADDRESS: (&str, u16) = ("127.0.0.1", 8765);

/// What came of a run.
#[derive(Clone, Default, Debug, PartialEq)]
struct Tally {
    /// Lines heard from other clients.
    heard: usize,
    goodbyes: usize,
    /// Connections that broke or were refused.
    broken: usize,
    /// What the loop reported.
    reports: Vec<String>,
}

type Shared = Rc<RefCell<Tally>>;

/// The chat server with its clients, on a machine.
fn chat(config: Config) -> Result<Tally> {
    run_with(config, async {
        let tally = Shared::default();
        let reports = Rc::clone(&tally);
        let handler = move |report: &Report| reports.borrow_mut().reports.push(report.to_string());
        get_running_loop()?.set_exception_handler(Some(Box::new(handler)));
        let address = format!("{}:{}", ADDRESS.0, ADDRESS.1);
        let server = create_task(server::chat(address, Duration::from_secs(600)));
        sleep(1.0).await?;
        let leaving = Rc::new(Cell::new(false));
        let clients: Vec<_> =
            (0..CLIENTS).map(|n| create_task(client(n, Rc::clone(&tally), Rc::clone(&leaving)))).collect();
        sleep(60.0).await?;
        leaving.set(true);
        server.cancel(None);
        let ended = (&server).await.unwrap_err();
        assert!(ended.is_cancelled(), "the server ends because it was asked to: {ended}");
        for ended in timeout(Duration::from_secs(600), gather_results(clients)).await? {
            ended?;
        }
        Ok(tally.take())
    })
}

/// A client that comes back when its connection breaks, until the server says goodbye.
async fn client(n: usize, tally: Shared, leaving: Rc<Cell<bool>>) -> Result<()> {
    let mut said = 0;
    while !leaving.get() {
        match visit(n, &mut said, &tally).await {
            Ok(true) => return Ok(()),
            Err(error) if error.is_cancelled() => return Err(error),
            Ok(false) | Err(_) => tally.borrow_mut().broken += 1,
        }
        sleep(0.1).await?;
    }
    Ok(())
}

/// One connection of a client's. Returns whether it ended with a goodbye.
async fn visit(n: usize, said: &mut usize, tally: &Shared) -> Result<bool> {
    let (reader, writer) = open_connection(ADDRESS.0, ADDRESS.1).await?;
    writer.write(format!("client{n}\n").as_bytes())?;
    let mut latest = BTreeMap::new();
    let mut goodbye = false;
    let mut next = get_running_loop()?.time() + Duration::from_secs(1);
    loop {
        let line = match timeout_at(next, reader.readline()).await {
            Err(error) if error.is_timeout() => {
                next += Duration::from_millis(500 + 13 * n as u64);
                if *said < MESSAGES {
                    *said += 1;
                    writer.write(format!("{said}\n").as_bytes())?;
                    writer.drain().await?;
                }
                continue;
            }
            line => line?,
        };
        if line.is_empty() {
            return Ok(goodbye);
        }
        let line = std::str::from_utf8(&line).expect("a whole line").trim_end_matches('\n');
        match line.split_once(": ") {
            _ if line == "*** goodbye" => {
                tally.borrow_mut().goodbyes += 1;
                goodbye = true;
            }
            Some((nick, number)) => {
                let other: usize = nick.strip_prefix("client").and_then(|n| n.parse().ok()).expect("a client's name");
                let number: usize = number.parse().expect("a client's message");
                assert!(other < CLIENTS && other != n, "{line:?} heard by client {n}");
                let before = latest.insert(other, number);
                assert!(before < Some(number), "{line:?} after {before:?}");
                tally.borrow_mut().heard += 1;
            }
            None => assert!(line.starts_with("*** client"), "{line:?}"),
        }
    }
}

#[test]
fn on_a_calm_machine_everybody_hears_everything() {
    let tally = chat(Config::new(1)).unwrap();
    let heard = CLIENTS * (CLIENTS - 1) * MESSAGES;
    assert_eq!(tally, Tally { heard, goodbyes: CLIENTS, ..Tally::default() });
}

#[test]
fn delays_and_pieces_lose_nothing() {
    for seed in 0..2 {
        let tally = chat(Config::lively(seed)).unwrap();
        let heard = CLIENTS * (CLIENTS - 1) * MESSAGES;
        assert_eq!(tally, Tally { heard, goodbyes: CLIENTS, ..Tally::default() }, "seed {seed}");
    }
}

#[test]
fn the_server_survives_resets_refusals_and_exhaustion() {
    for seed in 0..3 {
        let tally = chat(Config::hostile(seed)).unwrap();
        assert!(tally.broken > 0 && tally.heard > 1000, "seed {seed}: {tally:?}");
        // What the server tells of is that it had no descriptor, and nothing else.
        let unexpected = tally.reports.iter().find(|report| !report.contains("out of system resource"));
        assert_eq!(unexpected, None, "seed {seed}");
    }
}

/// A client with a mistake: it takes what one read gives for a line.
async fn careless() -> Result<()> {
    let serve = async |reader: StreamReader, writer: StreamWriter| {
        while let line = reader.readline().await?
            && !line.is_empty()
        {
            writer.write(&line)?;
            writer.drain().await?;
        }
        Ok(())
    };
    let server = aioli::start_server(serve, ADDRESS.0, ADDRESS.1).await?;
    let (reader, writer) = open_connection(ADDRESS.0, ADDRESS.1).await?;
    for n in 0..20 {
        let line = format!("this is line {n}\n");
        writer.write(line.as_bytes())?;
        let read = reader.read(100).await?;
        if read != line {
            return Err(Error::msg(format!("read {read:?} instead of {line:?}")));
        }
    }
    server.close();
    Ok(())
}

#[test]
fn a_failing_seed_is_replayed() {
    careless_on(Config::new(0)).0.expect("on a calm machine the mistake goes unnoticed");
    let failing =
        (0..100).find(|seed| careless_on(Config::lively(*seed)).0.is_err()).expect("a seed that shows the mistake");
    let (first, trace) = careless_on(Config::lively(failing));
    let text = first.unwrap_err().to_string();
    assert!(text.starts_with("read b\"") && trace.lines().count() > 20, "{text}\n{trace}");
    for _ in 0..10 {
        let (again, same) = careless_on(Config::lively(failing));
        assert_eq!(again.unwrap_err().to_string(), text);
        assert_eq!(same, trace);
    }
}

fn careless_on(config: Config) -> (Result<()>, String) {
    let trace = Trace::new();
    let result = run_with(config.trace(trace.clone()), careless());
    (result, trace.text())
}

/// The whole chat, with everything that goes wrong in it, again and again: a thousand times if `AIOLI_REPLAYS=1000`.
#[test]
fn the_same_seed_is_the_same_run_byte_for_byte() {
    let replays = std::env::var("AIOLI_REPLAYS").map_or(3, |count| count.parse().expect("a number"));
    let run = |seed| {
        let trace = Trace::new();
        let tally = chat(Config::hostile(seed).trace(trace.clone())).unwrap();
        (tally, trace.text())
    };
    let first = run(7);
    assert!(first.1.lines().count() > 10_000);
    for n in 1..replays {
        let again = run(7);
        assert!(again == first, "replay {n} differs");
    }
    assert_ne!(run(8).1, first.1);
}
