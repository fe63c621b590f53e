//! Sockets of the Unix domain.
#![allow(missing_docs)]

mod common;

use std::io;
use std::path::PathBuf;

use aioli_core::op::{Address, Domain, Op, Outcome, Resource, SocketKind, UnixAddress};
use bytes::Bytes;
use common::{Rig, again_on_uring, done, opened};

/// A path for a socket, which is removed at the end.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        File(std::env::temp_dir().join(format!("aioli-{}-{name}", std::process::id())))
    }

    fn address(&self) -> UnixAddress {
        UnixAddress::Path(self.0.clone())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn socket(rig: &mut Rig) -> Resource {
    opened(rig.now(Op::Socket { domain: Domain::Unix, kind: SocketKind::Stream })).unwrap()
}

fn bind(rig: &mut Rig, address: UnixAddress) -> io::Result<Resource> {
    let socket = socket(rig);
    done(rig.now(Op::Bind { socket, address: address.into() }))?;
    Ok(socket)
}

#[track_caller]
fn local(rig: &mut Rig, socket: Resource) -> UnixAddress {
    match rig.now(Op::LocalAddress { socket }) {
        Outcome::Address(Ok(Address::Unix(address))) => address,
        outcome => panic!("{outcome:?}"),
    }
}

/// Connects to a listener; both ends must know its address.
fn converse(rig: &mut Rig, listener: Resource) {
    done(rig.now(Op::Listen { socket: listener, backlog: 5 })).unwrap();
    let address = local(rig, listener);
    let client = socket(rig);
    done(rig.run(Op::Connect { socket: client, address: address.clone().into() })).unwrap();
    let Outcome::Accepted(Ok((server, from))) = rig.run(Op::Accept { listener, credit: 1 }) else { panic!() };
    assert_eq!(from, UnixAddress::Unnamed.into());
    let peer = rig.now(Op::PeerAddress { socket: client });
    assert!(matches!(peer, Outcome::Address(Ok(Address::Unix(peer))) if peer == address));
    assert_eq!(local(rig, server), address);
    assert_eq!(local(rig, client), UnixAddress::Unnamed);
    rig.send_all(client, Bytes::from_static(b"ciao"));
    assert_eq!(rig.recv(server).unwrap(), b"ciao");
}

#[test]
fn a_path() {
    let mut rig = Rig::new();
    let file = File::new("path");
    let listener = bind(&mut rig, file.address()).unwrap();
    assert_eq!(local(&mut rig, listener), file.address());
    converse(&mut rig, listener);
}

#[test]
fn an_abstract_name() {
    let mut rig = Rig::new();
    let name = UnixAddress::Abstract(format!("aioli\0{}", std::process::id()).into_bytes());
    let listener = bind(&mut rig, name.clone()).unwrap();
    assert_eq!(local(&mut rig, listener), name);
    converse(&mut rig, listener);
}

#[test]
fn a_name_of_the_kernels_choice() {
    let mut rig = Rig::new();
    let listener = bind(&mut rig, UnixAddress::Unnamed).unwrap();
    assert!(matches!(local(&mut rig, listener), UnixAddress::Abstract(name) if name.len() == 5));
    converse(&mut rig, listener);
}

#[test]
fn addresses_that_cannot_be() {
    let mut rig = Rig::new();
    let too_long = UnixAddress::Path("x".repeat(108).into());
    assert_eq!(bind(&mut rig, too_long).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let too_long = UnixAddress::Abstract(vec![b'x'; 108]);
    assert_eq!(bind(&mut rig, too_long).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let zero = UnixAddress::Path("a\0b".into());
    assert_eq!(bind(&mut rig, zero).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let empty = UnixAddress::Path("".into());
    assert_eq!(bind(&mut rig, empty).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(bind(&mut rig, UnixAddress::Abstract(vec![b'x'; 107])).is_ok());
    let client = socket(&mut rig);
    let nobody = File::new("nobody").address();
    let error = done(rig.run(Op::Connect { socket: client, address: nobody.into() })).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_listener_whose_line_is_full() {
    let mut rig = Rig::new();
    let listener = bind(&mut rig, UnixAddress::Unnamed).unwrap();
    done(rig.now(Op::Listen { socket: listener, backlog: 0 })).unwrap();
    let address = local(&mut rig, listener);
    let mut connect = || {
        let client = socket(&mut rig);
        done(rig.run(Op::Connect { socket: client, address: address.clone().into() }))
    };
    connect().unwrap();
    assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn on_uring_too() {
    again_on_uring();
}
