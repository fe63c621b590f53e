//! Addresses to names.

use std::io;
use std::net::SocketAddr;

use aioli_core::{Result, get_running_loop, sleep};

use crate::dns::resolve;

/// What [`getnameinfo`] is to find out: the flags of asyncio's, and of `socket`'s, `getnameinfo`.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::{NameFlags, getnameinfo};
///
/// let numbers = NameFlags { numeric_host: true, numeric_service: true, ..NameFlags::default() };
/// let (host, service) = getnameinfo("[::1]:443".parse()?, numbers).await?;
/// assert_eq!((&*host, &*service), ("::1", "443"));
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NameFlags {
    /// The address as text instead of a name: `NI_NUMERICHOST`.
    pub numeric_host: bool,
    /// The port as text instead of a service: `NI_NUMERICSERV`.
    pub numeric_service: bool,
    /// An address without a name is an error, as is one that is to be given as text; otherwise it stands for itself: `NI_NAMEREQD`.
    pub name_required: bool,
    /// The service is one of datagrams: `NI_DGRAM`.
    pub datagram: bool,
}

impl NameFlags {
    /// As Linux numbers them.
    fn bits(self) -> i32 {
        let flags = [(self.numeric_host, 1), (self.numeric_service, 2), (self.name_required, 8), (self.datagram, 16)];
        flags.into_iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum()
    }
}

/// The addresses of a host, each once, in the order in which they are to be tried: asyncio's `getaddrinfo` for streams. A name is looked
/// up by a thread of the loop's default executor; an IP address is itself, and needs none.
///
/// A cancelled look-up goes on in its thread, and what it finds is dropped.
///
/// # Errors
/// Cancelled; `Io` from the resolver; `Value` if the name contains a zero byte; `Runtime` outside of a running loop.
///
/// ```
/// # aioli_exec_single::run(async {
/// assert_eq!(aioli_io::getaddrinfo("::1", 80).await?, ["[::1]:80".parse()?]);
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub async fn getaddrinfo(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    resolve(host, port, None).await
}

/// The names of a host and of a service: asyncio's `getnameinfo`. They are looked up by a thread of the loop's default executor. On a
/// backend with names of its own, such as the simulated machine, addresses have none.
///
/// # Errors
/// Cancelled, as [`getaddrinfo`]; `Io` from the resolver, and if a name is required and there is none; `Runtime` outside of a running
/// loop.
///
/// ```
/// # aioli_exec_single::run(async {
/// use aioli_io::{NameFlags, getnameinfo};
///
/// let flags = NameFlags { numeric_host: true, numeric_service: true, ..NameFlags::default() };
/// assert_eq!(getnameinfo(([127, 0, 0, 1], 80).into(), flags).await?, ("127.0.0.1".into(), "80".into()));
/// # Ok(())
/// # })?;
/// # Ok::<(), aioli_core::Error>(())
/// ```
pub async fn getnameinfo(address: SocketAddr, flags: NameFlags) -> Result<(String, String)> {
    let event_loop = get_running_loop()?;
    let host = address.ip().to_string();
    if event_loop.look_up(&host).is_some() {
        sleep(0.0).await?;
        if flags.name_required {
            return Err(io::Error::other(format!("{host} has no name")).into());
        }
        return Ok((host, address.port().to_string()));
    }
    let asking = event_loop.run_in_executor(None, move || {
        dns_lookup::getnameinfo(&address, flags.bits()).map_err(|error| io::Error::from(error).into())
    });
    asking.await
}
