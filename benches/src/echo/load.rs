//! The load generator: a closed loop with one message in flight on each connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::BUFFER;
use crate::random::Random;

/// How many messages there are: each is the same random bytes from another start on.
const MESSAGES: usize = 1_021;

/// Connections to an echo server. All that comes back is compared with what was sent.
#[derive(Debug)]
pub struct Load {
    epoll: Epoll,
    connections: Vec<Connection>,
    bytes: Vec<u8>,
    size: usize,
    buffer: Vec<u8>,
    in_flight: usize,
    answered: u64,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    message: usize,
    sent: usize,
    received: usize,
}

impl Load {
    /// Opens `connections` connections for messages of `size` bytes, and exchanges a message on each.
    ///
    /// # Errors
    ///
    /// If one cannot be opened, or its message does not come back within five seconds as it was sent.
    pub fn connect(server: SocketAddr, connections: usize, size: usize) -> io::Result<Self> {
        let mut random = Random::new(3);
        let mut load = Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            connections: Vec::with_capacity(connections),
            bytes: (0..size + MESSAGES).map(|_| random.next_u64() as u8).collect(),
            size,
            buffer: vec![0; BUFFER],
            in_flight: 0,
            answered: 0,
        };
        for index in 0..connections {
            let mut stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let message = &load.bytes[index % MESSAGES..][..size];
            let mut echo = vec![0; size];
            stream.write_all(message)?;
            stream.read_exact(&mut echo)?;
            expect_same(&echo, message)?;
            stream.set_nonblocking(true)?;
            // Edges: a message is always sent and received to its end, and nothing else comes.
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            load.epoll.add(&stream, EpollEvent::new(interest, index as u64))?;
            load.connections.push(Connection { stream, message: index, sent: size, received: size });
        }
        Ok(load)
    }

    /// Sends on all connections for `time`, each message as soon as the one before has come back, and waits for the last ones.
    /// Returns how many messages came back, and how long that took. The thread spins meanwhile.
    ///
    /// # Errors
    ///
    /// If a connection fails or brings back other bytes than were sent.
    pub fn run(&mut self, time: Duration) -> io::Result<(u64, Duration)> {
        let start = Instant::now();
        self.answered = 0;
        for index in 0..self.connections.len() {
            self.next_message(index)?;
        }
        let mut events = [EpollEvent::empty(); 256];
        while self.in_flight > 0 {
            let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO)?;
            let over = start.elapsed() >= time;
            for event in &events[..ready] {
                let index = event.data() as usize;
                if self.advance(index)? && !over {
                    self.next_message(index)?;
                }
            }
        }
        Ok((self.answered, start.elapsed()))
    }

    fn next_message(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        connection.message = (connection.message + 1) % MESSAGES;
        (connection.sent, connection.received) = (0, 0);
        self.in_flight += 1;
        connection.send(&self.bytes[connection.message..][..self.size])
    }

    /// Sends and receives what is possible. True if the message is now complete.
    fn advance(&mut self, index: usize) -> io::Result<bool> {
        let connection = &mut self.connections[index];
        let message = &self.bytes[connection.message..][..self.size];
        connection.send(message)?;
        while connection.received < message.len() {
            match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Ok(received) => {
                    let expected = &message[connection.received..];
                    expect_same(&self.buffer[..received], &expected[..received.min(expected.len())])?;
                    connection.received += received;
                    if connection.received == message.len() {
                        self.in_flight -= 1;
                        self.answered += 1;
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

impl Connection {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        while self.sent < message.len() {
            match self.stream.write(&message[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn expect_same(received: &[u8], sent: &[u8]) -> io::Result<()> {
    if received == sent { Ok(()) } else { Err(io::Error::other("the echo differs from what was sent")) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Echoes the first message on one connection, and the others with their last byte changed.
    fn corrupting_server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut message = [0; 64];
            stream.read_exact(&mut message).unwrap();
            stream.write_all(&message).unwrap();
            while stream.read_exact(&mut message).is_ok() {
                message[63] ^= 1;
                stream.write_all(&message).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut load = Load::connect(corrupting_server(), 1, 64).unwrap();
        let error = load.run(Duration::from_millis(10)).unwrap_err();
        assert_eq!(error.to_string(), "the echo differs from what was sent");
    }
}
