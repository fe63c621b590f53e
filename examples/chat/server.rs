//! The chat server itself.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use aioli::{Event, Queue, Result, StreamReader, StreamWriter, cancellable_task_group, start_server_on, timeout};

/// The longest line that a client may send, in bytes.
const LINE: usize = 4096;
/// How many lines may wait for a client that is slow to take them.
const BACKLOG: usize = 2048;
/// How long the goodbyes may take.
const GRACE: Duration = Duration::from_secs(3);
/// A client that has said nothing for so long is not speaking.
const PAUSE: Duration = Duration::from_millis(200);

type Line = Rc<str>;

/// A client, as the others see it.
struct Client {
    lines: Rc<Queue<Line>>,
    writer: Rc<StreamWriter>,
}

#[derive(Default)]
struct Room {
    clients: RefCell<BTreeMap<u64, Client>>,
    joined: Cell<u64>,
    closing: Cell<bool>,
    empty: Event,
}

impl Room {
    fn enter(&self, lines: &Rc<Queue<Line>>, writer: &Rc<StreamWriter>) -> u64 {
        let id = self.joined.get() + 1;
        self.joined.set(id);
        self.clients.borrow_mut().insert(id, Client { lines: Rc::clone(lines), writer: Rc::clone(writer) });
        self.empty.clear();
        id
    }

    fn leave(&self, id: u64) {
        self.clients.borrow_mut().remove(&id);
        if self.clients.borrow().is_empty() {
            self.empty.set();
        }
    }

    /// Sends a line to everybody but one. Whoever has too many waiting already is dropped.
    fn say(&self, from: u64, line: &Line) {
        for (_, client) in self.clients.borrow().iter().filter(|(id, _)| **id != from) {
            if client.lines.full() {
                client.lines.shutdown(true);
                client.writer.transport().abort();
            } else {
                // It may have left already.
                let _ = client.lines.put_nowait(Rc::clone(line));
            }
        }
    }

    /// Says goodbye to everybody, and waits until all have got it.
    async fn close(&self) -> Result<()> {
        self.closing.set(true);
        if self.clients.borrow().is_empty() {
            return Ok(());
        }
        self.say(0, &Line::from("*** goodbye"));
        self.clients.borrow().values().for_each(|client| client.lines.shutdown(false));
        timeout(GRACE, self.empty.wait()).await.map(drop)
    }
}

/// One client, from its connection to its end.
async fn serve(room: Rc<Room>, idle: Duration, reader: StreamReader, writer: StreamWriter) -> Result<()> {
    let (lines, reader, writer) = (Rc::new(Queue::new(BACKLOG)), Rc::new(reader), Rc::new(writer));
    let id = room.enter(&lines, &writer);
    if room.closing.get() {
        lines.shutdown(true);
    }
    let served = cancellable_task_group(async |group| {
        let (room, queue, reader) = (Rc::clone(&room), Rc::clone(&lines), Rc::clone(&reader));
        group.create_task(async move {
            let listened = listen(&room, id, &queue, &reader, idle).await;
            queue.shutdown(false);
            listened
        })?;
        let sent = send(&lines, &writer).await;
        group.cancel();
        sent
    })
    .await;
    if timeout(GRACE, part(&reader, &writer)).await.is_err() {
        writer.transport().abort();
    }
    room.leave(id);
    // That a client breaks off is no error of the server's.
    served.or_else(|error| if error.is_cancelled() { Err(error) } else { Ok(None) }).map(drop)
}

/// Takes a client's lines until it ends, and passes them on.
async fn listen(room: &Room, id: u64, own: &Queue<Line>, reader: &StreamReader, idle: Duration) -> Result<()> {
    let mut nick = None;
    loop {
        let line = match timeout(idle, reader.readline()).await {
            Ok(line) if line.is_empty() => break,
            Ok(line) => printable(&line),
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                let reason = if error.is_timeout() { "you were silent for too long" } else { "that was no line" };
                let _ = own.put_nowait(format!("*** {reason}: bye").into());
                break;
            }
        };
        match &nick {
            None if line.is_empty() => {
                let _ = own.put_nowait("*** please send a nickname".into());
            }
            None => {
                room.say(id, &format!("*** {line} is here").into());
                nick = Some(line);
            }
            Some(nick) => room.say(id, &format!("{nick}: {line}").into()),
        }
    }
    if let Some(nick) = nick {
        room.say(id, &format!("*** {nick} is gone").into());
    }
    Ok(())
}

/// Sends a client what is meant for it, until its queue is shut down and empty.
async fn send(lines: &Queue<Line>, writer: &StreamWriter) -> Result<()> {
    loop {
        match lines.get().await {
            Ok(line) => {
                writer.write(format!("{line}\n").as_bytes())?;
                writer.drain().await?;
            }
            Err(error) if error.is_cancelled() => return Err(error),
            Err(_) => return Ok(()),
        }
    }
}

/// Closes the connection of a client when it has what was sent to it. A socket that is closed with something unread throws away what it
/// has not delivered yet, so whoever is in the middle of talking is listened to.
async fn part(reader: &StreamReader, writer: &StreamWriter) -> Result<()> {
    writer.write_eof();
    loop {
        match timeout(PAUSE, reader.read(LINE)).await {
            Ok(rest) if !rest.is_empty() => (),
            Err(error) if error.is_cancelled() => return Err(error),
            _ => break,
        }
    }
    writer.close();
    writer.wait_closed().await
}

/// A line without its end and without what would play tricks on a terminal.
fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().chars().filter(|c| !c.is_control()).collect()
}

/// Prints a line. That nobody reads it is no reason to stop serving.
fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Serves until it is cancelled, and then says goodbye to everybody.
pub async fn chat(listen: String, idle: Duration) -> Result<()> {
    let room = Rc::new(Room::default());
    let served = Rc::clone(&room);
    let server = start_server_on(move |reader, writer| serve(Rc::clone(&served), idle, reader, writer), &listen)
        .limit(LINE)
        .backlog(1024)
        .await?;
    for address in server.local_addrs() {
        tell(format_args!("listening on {address}; Ctrl-C ends"));
    }
    let forever = Event::new();
    let interrupted = forever.wait().await;
    // Cancelled by Ctrl-C: no more clients, a goodbye to those who are there, and only then the end.
    server.close();
    if room.close().await.is_err() {
        server.abort_clients();
    }
    tell(format_args!("goodbye"));
    interrupted.map(drop)
}
