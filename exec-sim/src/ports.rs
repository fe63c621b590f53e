//! [`Ports`]: who holds which ports of the machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aioli_core::Instant;

use crate::errno::Errno;
use crate::random::Random;

/// The ports that are given out where none is asked for, as on Linux.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;
/// How long the port of a connection that was closed from this side first is held, as on Linux.
const TIME_WAIT: Duration = Duration::from_secs(60);

/// A claim to a port on one address or on all.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) ip: IpAddr,
    /// On `::`, IPv6 alone.
    pub(crate) only_v6: bool,
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
}

/// Names a holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HolderId(u64);

#[derive(Debug)]
struct Holder {
    id: HolderId,
    claim: Claim,
    /// The socket that listens.
    listener: Option<usize>,
    /// The socket is gone, and the port held until then.
    until: Option<Instant>,
}

/// The ports of one protocol.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: BTreeMap<u16, Vec<Holder>>,
    last_id: u64,
    /// The ephemeral port that was given out last.
    last_port: Option<u16>,
}

impl Claim {
    /// Whether packets for one address could be meant for both.
    fn overlaps(&self, other: &Claim) -> bool {
        let covers = |a: &Claim, b: &Claim| match a.ip {
            IpAddr::V4(ip) => ip.is_unspecified() && b.ip.is_ipv4(),
            IpAddr::V6(ip) => ip.is_unspecified() && (b.ip.is_ipv6() || !a.only_v6),
        };
        self.ip == other.ip || covers(self, other) || covers(other, self)
    }

    /// How well it matches an address: `None` if not at all.
    fn matches(&self, ip: IpAddr) -> Option<u8> {
        match self.ip {
            own if own == ip => Some(2),
            IpAddr::V4(own) if own.is_unspecified() && ip.is_ipv4() => Some(1),
            IpAddr::V6(own) if own.is_unspecified() && ip.is_ipv6() => Some(1),
            IpAddr::V6(own) if own.is_unspecified() && !self.only_v6 => Some(0),
            _ => None,
        }
    }
}

impl Holder {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Whether it keeps another from a port. As on Linux a socket that listens shares with none.
    fn conflicts(&self, claim: &Claim) -> bool {
        let both_may = self.claim.reuse_address && claim.reuse_address && self.listener.is_none();
        self.claim.overlaps(claim) && !(self.claim.reuse_port && claim.reuse_port) && !both_may
    }
}

impl Ports {
    /// Claims a port, or any if it is 0.
    pub(crate) fn claim(
        &mut self,
        claim: Claim,
        port: u16,
        now: Instant,
        random: &mut Random,
    ) -> Result<(HolderId, u16), Errno> {
        let port = match port {
            0 => self.free_port(now, random).ok_or(Errno::ADDRINUSE)?,
            port => port,
        };
        self.forget(port, now);
        let conflict = self.held.get(&port).is_some_and(|held| held.iter().any(|holder| holder.conflicts(&claim)));
        if conflict { Err(Errno::ADDRINUSE) } else { Ok((self.hold(claim, port), port)) }
    }

    /// Has one more socket hold a port, whatever others do: a connection that was accepted there.
    pub(crate) fn hold(&mut self, claim: Claim, port: u16) -> HolderId {
        self.last_id += 1;
        let id = HolderId(self.last_id);
        self.held.entry(port).or_default().push(Holder { id, claim, listener: None, until: None });
        id
    }

    /// Has a holder listen, with the options that it has now.
    pub(crate) fn listen(&mut self, id: HolderId, port: u16, socket: usize, claim: Claim) -> Result<(), Errno> {
        let Some(held) = self.held.get_mut(&port) else { return Err(Errno::INVAL) };
        if held.iter().any(|holder| holder.id != id && holder.listener.is_some() && holder.conflicts(&claim)) {
            return Err(Errno::ADDRINUSE);
        }
        if let Some(holder) = held.iter_mut().find(|holder| holder.id == id) {
            holder.listener = Some(socket);
            holder.claim = claim;
        }
        Ok(())
    }

    /// A holder does not listen any more.
    pub(crate) fn unlisten(&mut self, id: HolderId, port: u16) {
        if let Some(holder) = self.held.get_mut(&port).and_then(|held| held.iter_mut().find(|holder| holder.id == id)) {
            holder.listener = None;
        }
    }

    /// Gives a port up: at once, or after the time that a connection may have stragglers.
    pub(crate) fn release(&mut self, id: HolderId, port: u16, lingers: bool, now: Instant) {
        let Some(held) = self.held.get_mut(&port) else { return };
        match held.iter_mut().find(|holder| holder.id == id) {
            Some(holder) if lingers => (holder.listener, holder.until) = (None, Some(now + TIME_WAIT)),
            _ => held.retain(|holder| holder.id != id),
        }
        self.forget(port, now);
    }

    /// Who listens at an address: the sockets that match it best.
    pub(crate) fn listeners(&self, address: SocketAddr) -> Vec<usize> {
        let mut best = (0, Vec::new());
        for holder in self.held.get(&address.port()).into_iter().flatten() {
            let (Some(socket), Some(rank)) = (holder.listener, holder.claim.matches(address.ip())) else { continue };
            if rank > best.0 {
                best = (rank, Vec::new());
            }
            if rank == best.0 {
                best.1.push(socket);
            }
        }
        best.1
    }

    fn forget(&mut self, port: u16, now: Instant) {
        if let Some(held) = self.held.get_mut(&port) {
            held.retain(|holder| !holder.is_over(now));
            if held.is_empty() {
                self.held.remove(&port);
            }
        }
    }

    /// A port that nobody holds. They are given out in turns, from one that is drawn.
    fn free_port(&mut self, now: Instant, random: &mut Random) -> Option<u16> {
        let (first, last) = (*EPHEMERAL.start(), *EPHEMERAL.end());
        let count = usize::from(last - first) + 1;
        let start = match self.last_port {
            Some(port) => usize::from(port - first) + 1,
            None => random.below(count),
        };
        for step in 0..count {
            let port = first + ((start + step) % count) as u16;
            self.forget(port, now);
            if !self.held.contains_key(&port) {
                self.last_port = Some(port);
                return Some(port);
            }
        }
        None
    }
}

/// An address as the machine knows it: an IPv4 address in IPv6's clothes is an IPv4 address.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An address as a socket of a family shows it.
pub(crate) fn shown(address: SocketAddr, v6: bool) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if v6 => SocketAddr::new(IpAddr::V6(mapped(ip)), address.port()),
        _ => address,
    }
}

fn mapped(ip: Ipv4Addr) -> Ipv6Addr {
    if ip.is_unspecified() { Ipv6Addr::UNSPECIFIED } else { ip.to_ipv6_mapped() }
}
