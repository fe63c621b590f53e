//! [`Errno`]: the kernel's error numbers, so that the errors of this machine have the texts of a real one's.

use std::io;

/// An error number of Linux.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    pub(crate) const NOENT: Errno = Errno(2);
    pub(crate) const IO: Errno = Errno(5);
    pub(crate) const BADF: Errno = Errno(9);
    pub(crate) const AGAIN: Errno = Errno(11);
    pub(crate) const EXIST: Errno = Errno(17);
    pub(crate) const INVAL: Errno = Errno(22);
    pub(crate) const MFILE: Errno = Errno(24);
    pub(crate) const FBIG: Errno = Errno(27);
    pub(crate) const NOSPC: Errno = Errno(28);
    pub(crate) const PIPE: Errno = Errno(32);
    pub(crate) const DESTADDRREQ: Errno = Errno(89);
    pub(crate) const MSGSIZE: Errno = Errno(90);
    pub(crate) const NOPROTOOPT: Errno = Errno(92);
    pub(crate) const OPNOTSUPP: Errno = Errno(95);
    pub(crate) const AFNOSUPPORT: Errno = Errno(97);
    pub(crate) const ADDRINUSE: Errno = Errno(98);
    pub(crate) const ADDRNOTAVAIL: Errno = Errno(99);
    pub(crate) const NETUNREACH: Errno = Errno(101);
    pub(crate) const CONNABORTED: Errno = Errno(103);
    pub(crate) const CONNRESET: Errno = Errno(104);
    pub(crate) const ISCONN: Errno = Errno(106);
    pub(crate) const NOTCONN: Errno = Errno(107);
    pub(crate) const TIMEDOUT: Errno = Errno(110);
    pub(crate) const CONNREFUSED: Errno = Errno(111);
    pub(crate) const HOSTUNREACH: Errno = Errno(113);
    pub(crate) const ALREADY: Errno = Errno(114);
    pub(crate) const CANCELED: Errno = Errno(125);
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        io::Error::from_raw_os_error(errno.0)
    }
}
