//! A cell's bridge, and the leases of addresses on it.
//!
//! One bridge a cell; one veth pair a container, which the shim makes and the kernel removes
//! with the container's namespace. No NAT and no firewall here.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;

use super::depot::NetworkLease;
use super::netlink::{Netlink, interface_index};
use super::poll_until;
use super::subnet::Subnet;
use crate::garden::Error;

/// How long another cell may take to choose its network.
const CHOOSING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the kernel may take to remove an interface with its namespace. A connection whose
/// last packet is not acknowledged keeps a namespace for many seconds; an idle one goes in 20 ms.
const INTERFACE_TIMEOUT: Duration = Duration::from_millis(200);

/// The bridge, and which slots are leased.
#[derive(Debug)]
pub(super) struct Network {
    prefix: String,
    subnet: Subnet,
    leases: Mutex<Leases>,
}

#[derive(Debug, Default)]
struct Leases {
    taken: BTreeSet<u16>,
    /// Slots are given in turn, so that an address rests before it means another container.
    next: u16,
}

impl Network {
    /// Finds the cell's bridge or makes it.
    ///
    /// # Errors
    /// The configured network, or every default one, overlaps with that of another interface.
    pub(super) fn establish(prefix: &str, configured: Option<Subnet>) -> Result<Self, Error> {
        let bridge = bridge_name(prefix);
        let _only_one_chooses = choosing_lock()?;
        let interfaces =
            interface_networks().map_err(Error::host("list the machine's interfaces"))?;
        let own = interfaces.iter().find(|(name, _)| *name == bridge).map(|(_, subnet)| *subnet);
        let subnet = match (own, configured) {
            (Some(own), Some(wanted)) if own != wanted => {
                let reason = format!(
                    "bridge {bridge} has network {own}, not {wanted}; \
                     remove its containers and the bridge first"
                );
                return Err(Error::Unsupported { reason });
            }
            (Some(own), _) => own,
            (None, Some(wanted)) => free(wanted, &interfaces)?,
            (None, None) => Subnet::defaults(prefix)
                .find(|subnet| free(*subnet, &interfaces).is_ok())
                .ok_or_else(|| Error::Unsupported {
                    reason: "no /22 of 10.254.0.0/16 is free; configure a subnet".to_owned(),
                })?,
        };
        let network =
            Self { prefix: prefix.to_owned(), subnet, leases: Mutex::new(Leases::default()) };
        network.make_bridge().map_err(Error::host(format!("make bridge {bridge}")))?;
        Ok(network)
    }

    fn make_bridge(&self) -> io::Result<()> {
        let bridge = bridge_name(&self.prefix);
        let mut netlink = Netlink::open()?;
        if interface_index(&bridge).is_none() {
            netlink.create_bridge(&bridge)?;
        }
        let index =
            interface_index(&bridge).ok_or_else(|| io::Error::other("the bridge is gone"))?;
        netlink.add_address(index, self.subnet.gateway(), self.subnet.prefix_length())?;
        netlink.set_up(index)
    }

    /// Leases a slot that rested as long as possible; `None` if all are taken.
    pub(super) fn lease(&self) -> Option<NetworkLease> {
        let slots = self.subnet.slots();
        let mut leases = self.leases();
        let slot = (0..slots)
            .map(|step| (leases.next.checked_add(step).unwrap_or(step)) % slots)
            .find(|slot| !leases.taken.contains(slot))?;
        leases.taken.insert(slot);
        leases.next = slot + 1;
        Some(NetworkLease {
            slot,
            address: self.subnet.address_of(slot),
            prefix_length: self.subnet.prefix_length(),
            gateway: self.subnet.gateway(),
            bridge: bridge_name(&self.prefix),
            host_interface: format!("{}v{slot:x}", self.prefix),
        })
    }

    /// Takes up a lease that a container has from before.
    pub(super) fn retake(&self, lease: &NetworkLease) {
        let mut leases = self.leases();
        leases.taken.insert(lease.slot);
        leases.next = leases.next.max(lease.slot + 1);
    }

    pub(super) fn release(&self, lease: &NetworkLease) {
        self.leases().taken.remove(&lease.slot);
    }

    /// The network that the cell's containers are in.
    pub(super) fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// The names of all host ends of containers of this cell.
    pub(super) fn list_interfaces(&self) -> Vec<String> {
        let start = format!("{}v", self.prefix);
        let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(&start)).collect()
    }

    /// Removes the bridge; fine if it is not there.
    pub(super) fn remove_bridge(&self) -> io::Result<()> {
        match interface_index(&bridge_name(&self.prefix)) {
            Some(index) => Netlink::open()?.delete_link(index),
            None => Ok(()),
        }
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a host end has gone with its container's namespace; removes it if it does not,
/// which is slow and stops all other network set-up meanwhile.
pub(super) fn await_interface_gone(name: &str) -> io::Result<()> {
    let path = Path::new("/sys/class/net").join(name);
    if poll_until(INTERFACE_TIMEOUT, || !path.exists()) {
        return Ok(());
    }
    match interface_index(name) {
        Some(index) => Netlink::open()?.delete_link(index),
        None => Ok(()),
    }
}

fn bridge_name(prefix: &str) -> String {
    format!("{prefix}b")
}

/// Held while a cell looks for a free network and takes it: an abstract socket, so that it goes
/// with the process whatever happens.
fn choosing_lock() -> Result<UnixListener, Error> {
    let failed = || Error::host("lock the choice of a network");
    let address = SocketAddr::from_abstract_name("diario-choosing-network").map_err(failed())?;
    let mut lock = None;
    poll_until(CHOOSING_TIMEOUT, || {
        lock = UnixListener::bind_addr(&address).ok();
        lock.is_some()
    });
    lock.ok_or_else(|| failed()(io::ErrorKind::TimedOut.into()))
}

fn free(wanted: Subnet, interfaces: &[(String, Subnet)]) -> Result<Subnet, Error> {
    match interfaces.iter().find(|(_, subnet)| subnet.overlaps(wanted)) {
        None => Ok(wanted),
        Some((name, subnet)) => Err(Error::Unsupported {
            reason: format!("network {wanted} overlaps with {subnet} of interface {name}"),
        }),
    }
}

fn interface_networks() -> io::Result<Vec<(String, Subnet)>> {
    let mut networks = Vec::new();
    for interface in getifaddrs()? {
        let ipv4 = |address: Option<nix::sys::socket::SockaddrStorage>| -> Option<Ipv4Addr> {
            Some(address?.as_sockaddr_in()?.ip())
        };
        if let (Some(address), Some(netmask)) = (ipv4(interface.address), ipv4(interface.netmask)) {
            networks.push((interface.interface_name, Subnet::of_interface(address, netmask)));
        }
    }
    Ok(networks)
}
