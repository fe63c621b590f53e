//! An epoll loop written by hand, for this one purpose: what a runtime can at best come close to.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{BUFFER, LOOPBACK};

const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
}

pub(super) fn serve(bound: fn(SocketAddr)) -> io::Result<()> {
    let listener = TcpListener::bind(LOOPBACK)?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    bound(listener.local_addr()?);

    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = [EpollEvent::empty(); 256];
    let mut buffer = vec![0; BUFFER];
    loop {
        let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..ready] {
            if event.data() == LISTENER {
                accept(&listener, &epoll, &mut connections)?;
                continue;
            }
            let slot = &mut connections[event.data() as usize];
            if let Some(connection) = slot
                && !connection.advance(&epoll, event.data(), &mut buffer).unwrap_or(false)
            {
                *slot = None;
            }
        }
    }
}

fn accept(listener: &TcpListener, epoll: &Epoll, connections: &mut Vec<Option<Connection>>) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, connections.len() as u64))?;
        connections.push(Some(Connection { stream, unsent: Vec::new() }));
    }
}

impl Connection {
    /// Sends what is left, or else receives once and sends that. False once the peer has closed.
    fn advance(&mut self, epoll: &Epoll, token: u64, buffer: &mut [u8]) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let sent = send(&mut self.stream, &self.unsent)?;
            self.unsent.drain(..sent);
            if self.unsent.is_empty() {
                epoll.modify(&self.stream, &mut EpollEvent::new(EpollFlags::EPOLLIN, token))?;
            }
            return Ok(true);
        }
        let received = match self.stream.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        let sent = send(&mut self.stream, &buffer[..received])?;
        if sent < received {
            self.unsent.extend_from_slice(&buffer[sent..received]);
            epoll.modify(&self.stream, &mut EpollEvent::new(EpollFlags::EPOLLOUT, token))?;
        }
        Ok(true)
    }
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        outcome => outcome,
    }
}
