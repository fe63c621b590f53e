//! Names to addresses.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::thread;

use aioli_core::op::Domain;
use aioli_core::{Error, Future, Result, get_running_loop};
use slab::Slab;

/// The addresses of a host, in the order in which they are to be tried. An IP address is itself; a name is looked up on a thread.
///
/// # Errors
/// Cancelled; `Io` from the resolver, and if there is no address of the family; `Value` if the name contains a zero byte.
pub(crate) async fn resolve(host: &str, port: u16, family: Option<Domain>) -> Result<Vec<SocketAddr>> {
    let found = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) if host.contains('\0') => return Err(Error::value("a host name contains no zero byte")),
        Err(_) => look_up(host, port).await?,
    };
    let mut addresses = Vec::with_capacity(found.len());
    for address in found {
        if family.is_none_or(|family| family == Domain::of(&address)) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        let text = format!("{host:?} has no address of the address family that was asked for");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text).into());
    }
    Ok(addresses)
}

type Found = Result<Vec<SocketAddr>>;

thread_local! {
    /// The look-ups that threads work on for the loop of this thread.
    static LOOK_UPS: RefCell<Slab<Future<Vec<SocketAddr>>>> = const { RefCell::new(Slab::new()) };
}

async fn look_up(host: &str, port: u16) -> Found {
    let event_loop = get_running_loop()?;
    let future = event_loop.create_future();
    let key = LOOK_UPS.with_borrow_mut(|all| all.insert(future.clone()));
    let (remote, host) = (event_loop.remote(), host.to_owned());
    thread::Builder::new().name("aioli-dns".to_owned()).spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect).map_err(Error::from);
        // A loop that is closed does not ask any more.
        let _ = remote.call_soon_threadsafe(move || arrive(key, found));
    })?;
    future.await
}

fn arrive(key: usize, found: Found) {
    let future = LOOK_UPS.with_borrow_mut(|all| all.remove(key));
    // Whoever asked may have been cancelled.
    let _ = match found {
        Ok(addresses) => future.set_result(addresses),
        Err(error) => future.set_exception(error),
    };
}
