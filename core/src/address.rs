//! [`Address`]: where a socket is.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};

/// The address of a socket, in one of the families that the operations know.
///
/// ```
/// use aioli_core::op::{Address, UnixAddress};
///
/// let internet: Address = ([127, 0, 0, 1], 80).into();
/// assert_eq!(internet.to_string(), "127.0.0.1:80");
/// let file = Address::Unix(UnixAddress::Path("/run/app.sock".into()));
/// assert_eq!(file.to_string(), "\"/run/app.sock\"");
/// assert!(file.internet().is_none());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// An IP address and a port.
    Internet(SocketAddr),
    /// A Unix-domain socket of this machine.
    Unix(UnixAddress),
}

/// The address of a Unix-domain socket.
///
/// ```
/// use aioli_core::op::UnixAddress;
///
/// let (socket, _) = std::os::unix::net::UnixDatagram::pair()?;
/// assert_eq!(UnixAddress::from(&socket.local_addr()?), UnixAddress::Unnamed);
/// for address in [UnixAddress::Unnamed, UnixAddress::Path("a".into()), UnixAddress::Abstract(b"a\0b".to_vec())] {
///     assert_eq!(UnixAddress::from(&address.to_std()?), address);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum UnixAddress {
    /// None: that of a socket which was not bound. To bind a socket to it is to have the kernel choose an abstract name.
    Unnamed,
    /// A socket file. It outlives its socket.
    Path(PathBuf),
    /// A name that is no file, and is gone with its socket.
    Abstract(Vec<u8>),
}

impl Address {
    /// The address as the standard library has it, if it is an internet one.
    pub fn internet(&self) -> Option<SocketAddr> {
        match self {
            Address::Internet(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    /// The address if it is that of a Unix-domain socket.
    pub fn unix(&self) -> Option<&UnixAddress> {
        match self {
            Address::Internet(_) => None,
            Address::Unix(address) => Some(address),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Internet(address)
    }
}

impl<I: Into<std::net::IpAddr>> From<(I, u16)> for Address {
    fn from(address: (I, u16)) -> Self {
        Address::Internet(address.into())
    }
}

impl From<UnixAddress> for Address {
    fn from(address: UnixAddress) -> Self {
        Address::Unix(address)
    }
}

/// A path; one that begins with a zero byte is an abstract name, as in Python.
impl From<&Path> for UnixAddress {
    fn from(path: &Path) -> Self {
        match path.as_os_str().as_bytes() {
            [0, name @ ..] => UnixAddress::Abstract(name.to_owned()),
            _ => UnixAddress::Path(path.to_owned()),
        }
    }
}

impl From<PathBuf> for UnixAddress {
    fn from(path: PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&PathBuf> for UnixAddress {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&str> for UnixAddress {
    fn from(path: &str) -> Self {
        Path::new(path).into()
    }
}

impl From<String> for UnixAddress {
    fn from(path: String) -> Self {
        Path::new(&path).into()
    }
}

impl From<&net::SocketAddr> for UnixAddress {
    fn from(address: &net::SocketAddr) -> Self {
        match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => UnixAddress::Path(path.to_owned()),
            (None, Some(name)) => UnixAddress::Abstract(name.to_owned()),
            (None, None) => UnixAddress::Unnamed,
        }
    }
}

impl UnixAddress {
    /// The address as the standard library has it.
    ///
    /// # Errors
    /// `InvalidInput` if it is longer than the system's addresses, which hold 107 bytes, or a path contains a zero byte.
    pub fn to_std(&self) -> io::Result<net::SocketAddr> {
        match self {
            UnixAddress::Unnamed => net::SocketAddr::from_pathname(""),
            UnixAddress::Path(path) if path.as_os_str().is_empty() => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "the path of a socket must not be empty"))
            }
            UnixAddress::Path(path) => net::SocketAddr::from_pathname(path),
            UnixAddress::Abstract(name) => net::SocketAddr::from_abstract_name(name),
        }
    }

    /// The bytes by which `bind` and `connect` of most libraries know the address: a path as it is, an abstract name after a zero byte.
    ///
    /// # Errors
    /// As [`to_std`](Self::to_std).
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        self.to_std()?;
        Ok(match self {
            UnixAddress::Unnamed => Vec::new(),
            UnixAddress::Path(path) => path.as_os_str().as_bytes().to_vec(),
            UnixAddress::Abstract(name) => [b"\0", &name[..]].concat(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Internet(address) => address.fmt(f),
            Address::Unix(address) => address.fmt(f),
        }
    }
}

/// A path in quotation marks, an abstract name with an `@` before it.
impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixAddress::Unnamed => f.write_str("(unnamed)"),
            UnixAddress::Path(path) => write!(f, "{path:?}"),
            UnixAddress::Abstract(name) => write!(f, "\"@{}\"", name.escape_ascii()),
        }
    }
}
