//! [`submit`]: what each operation comes down to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use aioli_core::driver::{OpId, Submit};
use aioli_core::op::{Interest, Op, Outcome, Resource, ShutdownHow};
use bytes::BytesMut;
use socket2::SockRef;

use crate::file::FileWork;
use crate::{Kind, Work, socket};

/// What a driver does in a way of its own, with entries that it knows by their places.
pub trait Entries {
    /// The place of a resource.
    fn find(&self, resource: Resource) -> Option<usize>;
    /// Makes a resource of a descriptor that does not block.
    fn insert(&mut self, fd: OwnedFd, kind: Kind) -> Resource;
    /// A descriptor, for a call that completes at once. What was sent before has been handed to the kernel.
    fn descriptor(&mut self, n: usize) -> Option<BorrowedFd<'_>>;
    /// Starts what may have to wait.
    fn start(&mut self, id: OpId, n: usize, work: Work) -> Submit;
    /// Starts what is done with a file, or opening one.
    fn file(&mut self, id: OpId, n: Option<usize>, work: FileWork) -> Submit;
    /// Starts a poll.
    fn poll(&mut self, id: OpId, n: usize, interest: Interest) -> Submit;
    /// Starts a poll of a descriptor of the caller's.
    fn poll_fd(&mut self, id: OpId, fd: RawFd, interest: Interest) -> Submit;
    /// Starts a watch.
    fn watch(&mut self, id: OpId, n: usize) -> Submit;
    /// Starts to wait for a process.
    fn wait_process(&mut self, id: OpId, pid: u32) -> Submit;
    /// Sends a signal to a process that is waited for.
    ///
    /// # Errors
    /// The kernel's; `ESRCH` if it is not waited for.
    fn signal_process(&mut self, wait: OpId, signal: i32) -> io::Result<()>;
    /// Ends one or both directions of a connection, after what was sent before.
    ///
    /// # Errors
    /// The kernel's.
    fn shut_down(&mut self, n: usize, how: ShutdownHow) -> io::Result<()>;
    /// Closes an entry.
    fn close(&mut self, n: usize);
}

/// Starts an operation.
pub fn submit(entries: &mut impl Entries, id: OpId, op: Op) -> Submit {
    let n = match resource(&op) {
        None => usize::MAX,
        Some(resource) => match entries.find(resource) {
            Some(n) => n,
            None => return Submit::Done(op.refuse(io::Error::from_raw_os_error(libc::EBADF))),
        },
    };
    Submit::Done(match op {
        Op::Recv { buffer, .. } if is_full(&buffer) => no_room(buffer, "a receive needs spare capacity"),
        Op::Recv { buffer, .. } => return entries.start(id, n, Work::Recv(buffer)),
        Op::Send { data, .. } => return entries.start(id, n, Work::Send(data)),
        Op::Connect { address, .. } => return entries.start(id, n, Work::Connect(Some(Box::new(address)))),
        Op::Accept { credit: 0, .. } => Outcome::Accepted(Err(io::ErrorKind::InvalidInput.into())),
        Op::Accept { credit, .. } => return entries.start(id, n, Work::Accept { credit }),
        Op::Poll { interest, .. } => return entries.poll(id, n, interest),
        Op::Watch { .. } => return entries.watch(id, n),
        Op::PollFd { fd, interest } => return entries.poll_fd(id, fd, interest),
        Op::WaitProcess { pid } => return entries.wait_process(id, pid),
        Op::SignalProcess { wait, signal } => Outcome::Done(entries.signal_process(wait, signal)),
        Op::OpenFile { path, options } => return entries.file(id, None, FileWork::Open(path, options)),
        Op::ReadFile { buffer, .. } if is_full(&buffer) => no_room(buffer, "a read needs spare capacity"),
        Op::ReadFile { offset, buffer, .. } => return entries.file(id, Some(n), FileWork::Read(offset, buffer)),
        Op::WriteFile { offset, data, .. } => return entries.file(id, Some(n), FileWork::Write(offset, data)),
        Op::SyncFile { data_only, .. } => return entries.file(id, Some(n), FileWork::Sync(data_only)),
        Op::FileStatus { .. } => return entries.file(id, Some(n), FileWork::Status),
        Op::Socket { domain, kind } => {
            Outcome::Opened(socket::open(domain, kind).map(|(fd, kind)| entries.insert(fd, kind)))
        }
        Op::Adopt { fd } => Outcome::Opened(SockRef::from(&fd).set_nonblocking(true).map(|()| {
            let kind = Kind::of(fd.as_fd());
            entries.insert(fd, kind)
        })),
        Op::Bind { address, .. } => {
            Outcome::Done(call(entries, n, |socket| socket.bind(&socket::to_kernel(&address)?)))
        }
        Op::Listen { backlog, .. } => Outcome::Done(call(entries, n, |socket| socket::listen(socket, backlog))),
        Op::SetOption { option, .. } => Outcome::Done(call(entries, n, |socket| socket::set(socket, option))),
        Op::LocalAddress { .. } => {
            Outcome::Address(call(entries, n, |socket| socket::from_kernel(&socket.local_addr()?)))
        }
        Op::PeerAddress { .. } => {
            Outcome::Address(call(entries, n, |socket| socket::from_kernel(&socket.peer_addr()?)))
        }
        Op::Shutdown { how, .. } => Outcome::Done(entries.shut_down(n, how)),
        Op::Close { .. } => {
            entries.close(n);
            Outcome::Done(Ok(()))
        }
        op => op.refuse(io::ErrorKind::Unsupported.into()),
    })
}

/// Makes a call that completes at once.
fn call<T>(entries: &mut impl Entries, n: usize, call: impl FnOnce(&SockRef<'_>) -> io::Result<T>) -> io::Result<T> {
    match entries.descriptor(n) {
        Some(fd) => call(&SockRef::from(&fd)),
        None => Err(io::Error::from_raw_os_error(libc::EBADF)),
    }
}

/// What an operation is about, if that is a resource.
fn resource(op: &Op) -> Option<Resource> {
    match *op {
        Op::Recv { socket, .. }
        | Op::Send { socket, .. }
        | Op::Connect { socket, .. }
        | Op::Watch { socket }
        | Op::Bind { socket, .. }
        | Op::Listen { socket, .. }
        | Op::SetOption { socket, .. }
        | Op::LocalAddress { socket }
        | Op::PeerAddress { socket }
        | Op::Shutdown { socket, .. } => Some(socket),
        Op::Accept { listener, .. } => Some(listener),
        Op::ReadFile { file, .. }
        | Op::WriteFile { file, .. }
        | Op::SyncFile { file, .. }
        | Op::FileStatus { file } => Some(file),
        Op::Poll { resource, .. } | Op::Close { resource } => Some(resource),
        _ => None,
    }
}

fn is_full(buffer: &BytesMut) -> bool {
    buffer.len() == buffer.capacity()
}

fn no_room(buffer: BytesMut, text: &'static str) -> Outcome {
    Outcome::Received { result: Err(io::Error::new(io::ErrorKind::InvalidInput, text)), buffer }
}
