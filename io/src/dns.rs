//! Names to addresses.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use aioli_core::op::Domain;
use aioli_core::{Error, Result, get_running_loop, sleep};

/// The addresses of a host, in the order in which they are to be tried. An IP address is itself; a name is looked up by a thread of the
/// loop's default executor, unless the driver knows.
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

/// Asks the driver, if it has names of its own, or the operating system.
async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let event_loop = get_running_loop()?;
    if let Some(found) = event_loop.look_up(host) {
        sleep(0.0).await?;
        let found = found.map_err(|error| unknown(host, &error))?;
        return Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
    }
    let host = host.to_owned();
    let asking = event_loop.run_in_executor(None, move || {
        let found = (&*host, port).to_socket_addrs().map_err(|error| unknown(&host, &error))?;
        Ok(found.collect())
    });
    asking.await
}

/// The resolver does not tell which of many names it is that it does not know.
fn unknown(host: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot look up {host:?}: {error}"))
}
