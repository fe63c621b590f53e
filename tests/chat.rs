//! The chat server as a program, with five hundred clients, some of which misbehave.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use aioli::{Result, StreamReader, StreamWriter, create_task, gather, open_connection, sleep, timeout};

const CLIENTS: usize = 500;

/// The program, ended when the test is.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child =
            program().args(arguments).stdout(Stdio::piped()).spawn().expect("the example is built by cargo test");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.split(&[' ', ';']).nth(2).unwrap_or_else(|| panic!("unexpected output {line:?}"));
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        Server { child, port }
    }

    fn interrupt(&self) {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example, which cargo puts beside the directory of this test.
fn program() -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let mut command = Command::new("env");
    // What a shell starts in the background ignores Ctrl-C otherwise.
    command.arg("--default-signal=INT").arg(path.join("examples/chat"));
    command
}

async fn join(port: u16, nick: &str) -> Result<(StreamReader, StreamWriter)> {
    let (reader, writer) = open_connection("127.0.0.1", port).await?;
    writer.write(format!("{nick}\n").as_bytes())?;
    Ok((reader, writer))
}

/// Reads lines until one is `wanted`.
async fn expect(reader: &StreamReader, wanted: &str) -> Result<()> {
    loop {
        let line = reader.readline().await?;
        assert!(!line.is_empty(), "the connection ended before {wanted:?} came");
        if line == wanted.as_bytes() {
            return Ok(());
        }
    }
}

/// Reads lines until all of `wanted` have come, in any order.
async fn expect_all(reader: &StreamReader, mut wanted: HashSet<String>) -> Result<()> {
    while !wanted.is_empty() {
        let line = reader.readline().await?;
        assert!(!line.is_empty(), "the connection ended before {wanted:?} came");
        wanted.remove(&*String::from_utf8_lossy(&line));
    }
    Ok(())
}

#[test]
fn five_hundred_clients_talk_misbehave_and_get_a_goodbye() {
    let mut server = Server::start(&["--listen", "127.0.0.1:0"]);
    let port = server.port;
    let interrupt = {
        let pid = server.child.id();
        move || assert!(Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap().success())
    };
    aioli::run(async move {
        let talk = async move {
            let listener = join(port, "listener").await?;
            expect_nothing_wrong(&listener.0, port).await?;
            let mut kept = Vec::new();
            for n in 0..CLIENTS {
                let (reader, writer) = join(port, &format!("client{n}")).await?;
                match n % 5 {
                    // Breaks off at once, with what it was sent unread.
                    1 => writer.transport().abort(),
                    // Sends what is no text.
                    2 => writer.write(&[0xff, 0x00, 0x1b, b'\n', 0xc3, 0x28, b'\n'])?,
                    // Never ends its line.
                    3 => writer.write(&[b'x'; 20_000])?,
                    _ => (),
                }
                kept.push((n, reader, writer));
            }
            // Those who behave hear what is said after they came.
            let polite: Vec<_> = kept.iter().filter(|(n, ..)| n % 5 == 0).collect();
            expect_all(&listener.0, polite.iter().map(|(n, ..)| format!("*** client{n} is here\n")).collect()).await?;
            listener.1.write(b"is everybody here?\n")?;
            for (_, reader, _) in &polite {
                expect(reader, "listener: is everybody here?\n").await?;
            }
            // Nobody whose line never ends stays.
            for (_, reader, _) in kept.iter().filter(|(n, ..)| n % 5 == 3) {
                while !reader.readline().await.unwrap_or_default().is_empty() {}
            }
            interrupt();
            for (_, reader, _) in &polite {
                expect(reader, "*** goodbye\n").await?;
                assert!(reader.read_to_end().await?.is_empty(), "the goodbye is the last line");
            }
            expect(&listener.0, "*** goodbye\n").await
        };
        timeout(Duration::from_secs(60), talk).await
    })
    .unwrap();
    let status = server.child.wait().unwrap();
    assert!(status.success(), "{status}");
}

/// A message reaches the others and not its sender.
async fn expect_nothing_wrong(reader: &StreamReader, port: u16) -> Result<()> {
    let (other, writer) = join(port, "other").await?;
    expect(reader, "*** other is here\n").await?;
    writer.write(b"hello\n")?;
    expect(reader, "other: hello\n").await?;
    while let Ok(line) = timeout(Duration::from_millis(20), other.readline()).await {
        assert_eq!(line, "*** listener is here\n");
    }
    writer.close();
    writer.wait_closed().await?;
    expect(reader, "*** other is gone\n").await
}

#[test]
fn a_client_that_does_not_take_its_lines_is_dropped_and_the_others_are_served() {
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    let port = server.port;
    aioli::run(async move {
        let flood = async move {
            let (stalled, _stalled_writer) = open_connection("127.0.0.1", port).limit(1024).await?;
            _stalled_writer.write(b"stalled\n")?;
            let (reader, writer) = join(port, "listener").await?;
            expect(&stalled, "*** listener is here\n").await?;
            let (_, talker) = join(port, "talker").await?;
            let say = create_task(async move {
                let line = format!("{}\n", "x".repeat(4000));
                for _ in 0..4000 {
                    talker.write(line.as_bytes())?;
                    talker.drain().await?;
                    sleep(0.0).await?;
                }
                Ok(talker)
            });
            let hear = create_task(async move {
                expect(&reader, "*** stalled is gone\n").await?;
                Ok(reader)
            });
            let (_talker, _reader) = gather((say, hear)).await?;
            drop(writer);
            Ok(())
        };
        timeout(Duration::from_secs(60), flood).await
    })
    .unwrap();
}

#[test]
fn a_silent_client_is_told_and_dropped() {
    let server = Server::start(&["--listen", "127.0.0.1:0", "--idle", "0.05"]);
    let port = server.port;
    aioli::run(timeout(Duration::from_secs(20), async move {
        let (reader, _writer) = join(port, "silent").await?;
        expect(&reader, "*** you were silent for too long: bye\n").await?;
        assert!(reader.read_to_end().await?.is_empty());
        Ok(())
    }))
    .unwrap();
}

#[test]
fn bad_options_are_explained() {
    let says = |arguments: &[&str]| {
        let output = program().args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = says(&["--colour"]);
    assert!(code == Some(2) && text.contains("\"--colour\" is not an option"), "{text}");
    let (code, text) = says(&["--listen", "127.0.0.1:notaport"]);
    assert!(code == Some(1) && text.contains("127.0.0.1:notaport"), "{text}");
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    let taken = format!("127.0.0.1:{}", server.port);
    let (code, text) = says(&["--listen", &taken]);
    assert!(code == Some(1) && text.contains("in use") && text.contains(&server.port.to_string()), "{text}");
    let help = program().arg("--help").output().unwrap();
    assert!(help.status.success() && help.stdout.starts_with(b"A chat server"));
}

#[test]
fn clients_that_talk_and_are_slow_to_listen_get_the_goodbye() {
    let mut server = Server::start(&["--listen", "127.0.0.1:0"]);
    let port = server.port;
    let talk = |n: u32| {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut voice = client.try_clone().unwrap();
        let talking = thread::spawn(move || {
            let _ = voice.write_all(format!("talker{n}\n").as_bytes());
            let line = format!("{}\n", "x".repeat(1000));
            while voice.write_all(line.as_bytes()).is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let listening = thread::spawn(move || {
            let (mut heard, mut piece) = (Vec::new(), [0; 2000]);
            // An error counts as the end: what came before it is what was heard.
            while let Ok(length @ 1..) = client.read(&mut piece) {
                heard.extend_from_slice(&piece[..length]);
                thread::sleep(Duration::from_millis(4));
            }
            let _ = client.shutdown(Shutdown::Both);
            heard.ends_with(b"*** goodbye\n")
        });
        (talking, listening)
    };
    let clients: Vec<_> = (0..5).map(talk).collect();
    thread::sleep(Duration::from_millis(500));
    server.interrupt();
    for (talking, listening) in clients {
        assert!(listening.join().unwrap(), "the goodbye was lost");
        talking.join().unwrap();
    }
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn a_second_interrupt_ends_the_program_at_once() {
    let mut server = Server::start(&["--listen", "127.0.0.1:0"]);
    // Who goes on talking after the goodbye keeps the program from ending for three seconds.
    let client = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let mut voice = client.try_clone().unwrap();
    let talking = thread::spawn(move || {
        while voice.write_all(b"and\n").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    thread::sleep(Duration::from_millis(100));
    server.interrupt();
    let heard = BufReader::new(client).lines().map_while(|line| line.ok()).last();
    assert_eq!(heard.as_deref(), Some("*** goodbye"));
    let before = Instant::now();
    server.interrupt();
    let status = server.child.wait().unwrap();
    assert_eq!(status.signal(), Some(2), "{status}");
    assert!(before.elapsed() < Duration::from_secs(1));
    talking.join().unwrap();
}

#[test]
fn a_server_whose_output_nobody_reads_goes_on_and_says_goodbye() {
    let mut server = Server::start(&["--listen", "127.0.0.1:0"]);
    drop(server.child.stdout.take());
    let mut lines = BufReader::new(TcpStream::connect(("127.0.0.1", server.port)).unwrap()).lines();
    let mut other = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    other.write_all(b"other\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "*** other is here");
    server.interrupt();
    assert_eq!(lines.next().unwrap().unwrap(), "*** goodbye");
    assert!(server.child.wait().unwrap().success());
}
