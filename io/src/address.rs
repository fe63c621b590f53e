//! Addresses as text, and errors that name one.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;

use aioli_core::{Error, Result, op};

/// A host and a port, as in `"example.org:80"`, `"127.0.0.1:8080"` or `"[::1]:8080"`. The host may be empty, for a server that
/// listens on all interfaces.
///
/// ```
/// use aioli_io::Address;
///
/// let address: Address = "[::1]:8080".parse()?;
/// assert_eq!((address.host(), address.port()), ("::1", 8080));
/// assert!("example.org".parse::<Address>().is_err());
/// assert!("example.org:65536".parse::<Address>().unwrap_err().to_string().contains("65535"));
/// # Ok::<(), aioli_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The host: a name, or an IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Address {
    type Err = Error;

    /// # Errors
    /// `Value`, which says what is wrong.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::value(format!("invalid address {text:?}: {what}"));
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(|| wrong("the bracket is not closed"))?;
                let port = rest.strip_prefix(':').ok_or_else(|| wrong("a colon and a port must follow the bracket"))?;
                (host, port)
            }
            None => {
                let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
                if host.contains(':') {
                    return Err(wrong("an IPv6 address must be in brackets"));
                }
                (host, port)
            }
        };
        if host.contains('\0') {
            return Err(wrong("a host name contains no zero byte"));
        }
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits => Ok(Address { host: host.to_owned(), port }),
            _ if digits => Err(wrong("a port is a number from 0 to 65535")),
            _ => Err(wrong("the port is not a number")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a server listens on: one host, several, or all interfaces. It is the `host` of asyncio's `start_server`.
///
/// An empty host and `None` are all interfaces, IPv4 and IPv6.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_io::start_server;
/// use std::net::IpAddr;
///
/// let one = start_server(async |_, _| Ok(()), IpAddr::from([127, 0, 0, 1]), 80).await?;
/// assert_eq!(one.local_addrs(), ["127.0.0.1:80".parse()?]);
/// let two = start_server(async |_, _| Ok(()), ["127.0.0.1", "::1"], 81).await?;
/// assert_eq!(two.local_addrs().len(), 2);
/// let all = start_server(async |_, _| Ok(()), None::<&str>, 82).await?;
/// assert_eq!(all.local_addrs(), ["0.0.0.0:82".parse()?, "[::]:82".parse()?]);
/// # Ok(())
/// # }).unwrap();
/// ```
pub trait Hosts {
    /// The hosts; `None` for all interfaces.
    fn into_hosts(self) -> Vec<Option<String>>;
}

impl Hosts for &str {
    fn into_hosts(self) -> Vec<Option<String>> {
        vec![(!self.is_empty()).then(|| self.to_owned())]
    }
}

impl Hosts for String {
    fn into_hosts(self) -> Vec<Option<String>> {
        self.as_str().into_hosts()
    }
}

impl Hosts for IpAddr {
    fn into_hosts(self) -> Vec<Option<String>> {
        vec![Some(self.to_string())]
    }
}

impl<H: Hosts> Hosts for Option<H> {
    fn into_hosts(self) -> Vec<Option<String>> {
        self.map_or_else(|| vec![None], Hosts::into_hosts)
    }
}

impl<H: Hosts> Hosts for Vec<H> {
    fn into_hosts(self) -> Vec<Option<String>> {
        self.into_iter().flat_map(Hosts::into_hosts).collect()
    }
}

impl<H: Hosts, const N: usize> Hosts for [H; N] {
    fn into_hosts(self) -> Vec<Option<String>> {
        self.into_iter().flat_map(Hosts::into_hosts).collect()
    }
}

/// An error of the operating system that concerns an address.
#[derive(Debug)]
struct AtAddress {
    what: &'static str,
    address: op::Address,
    error: io::Error,
}

/// The same error, of the same kind, with the address in its text. The error as it was is its source.
pub(crate) fn at(what: &'static str, address: impl Into<op::Address>, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), AtAddress { what, address: address.into(), error })
}

impl fmt::Display for AtAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.what, self.address, self.error)
    }
}

impl StdError for AtAddress {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}
