//! The few rtnetlink requests that a container needs, spoken directly.
//!
//! Blocking, one request at a time, each acknowledged by the kernel in well under a
//! millisecond; small enough for the shim, which can have no runtime. Knows nothing of
//! containers: only of interfaces, addresses and routes.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use nix::unistd::Pid;

// Message types and flags of linux/rtnetlink.h and linux/netlink.h.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const HEADER_BYTES: usize = 16;

// Attributes of linux/if_link.h, if_addr.h and rtnetlink.h.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_GATEWAY: u16 = 5;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;

/// One end of a veth pair in another network namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VethPeer<'a> {
    /// Its name there.
    pub(crate) name: &'a str,
    /// Its hardware address.
    pub(crate) hardware_address: [u8; 6],
    /// A process in that namespace.
    pub(crate) namespace_of: Pid,
}

/// A socket to the kernel's routing tables, of the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes a bridge, up.
    pub(crate) fn create_bridge(&mut self, name: &str) -> io::Result<()> {
        let mut message = link_message(0, IFF_UP);
        message.text(IFLA_IFNAME, name);
        message.nested(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge"));
        self.request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &message)
    }

    /// Makes a veth pair: this end up and in a bridge, the other in another namespace.
    pub(crate) fn create_veth(
        &mut self,
        name: &str,
        bridge: u32,
        peer: &VethPeer<'_>,
    ) -> io::Result<()> {
        let mut message = link_message(0, IFF_UP);
        message.text(IFLA_IFNAME, name);
        message.attribute(IFLA_MASTER, &bridge.to_ne_bytes());
        message.nested(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nested(IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |other| {
                    other.0.extend_from_slice(&link_message(0, 0).0);
                    other.text(IFLA_IFNAME, peer.name);
                    other.attribute(IFLA_ADDRESS, &peer.hardware_address);
                    let pid = peer.namespace_of.as_raw();
                    other.attribute(IFLA_NET_NS_PID, &pid.to_ne_bytes());
                });
            });
        });
        self.request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &message)
    }

    /// Brings an interface up.
    pub(crate) fn set_up(&mut self, interface: u32) -> io::Result<()> {
        self.request(RTM_NEWLINK, 0, &link_message(interface, IFF_UP))
    }

    /// Removes an interface; slow, for it waits until no packet can be in flight.
    pub(crate) fn delete_link(&mut self, interface: u32) -> io::Result<()> {
        self.request(RTM_DELLINK, 0, &link_message(interface, 0))
    }

    /// Gives an interface an address; fine if it has it already.
    pub(crate) fn add_address(
        &mut self,
        interface: u32,
        address: Ipv4Addr,
        prefix_length: u8,
    ) -> io::Result<()> {
        let mut message = Message(vec![AF_INET, prefix_length, 0, 0]);
        message.0.extend_from_slice(&interface.to_ne_bytes());
        message.attribute(IFA_LOCAL, &address.octets());
        message.attribute(IFA_ADDRESS, &address.octets());
        match self.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &message) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// Sends all other traffic through a gateway.
    pub(crate) fn add_default_route(&mut self, gateway: Ipv4Addr) -> io::Result<()> {
        // Family, lengths of destination and source, tos, main table, by an administrator
        // (RTPROT_STATIC), universe, unicast, no flags.
        let mut message = Message(vec![AF_INET, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]);
        message.attribute(RTA_GATEWAY, &gateway.octets());
        self.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &message)
    }

    fn request(&mut self, kind: u16, flags: u16, message: &Message) -> io::Result<()> {
        self.sequence += 1;
        let length = u32::try_from(HEADER_BYTES + message.0.len()).map_err(io::Error::other)?;
        let mut packet = Vec::with_capacity(HEADER_BYTES + message.0.len());
        packet.extend_from_slice(&length.to_ne_bytes());
        packet.extend_from_slice(&kind.to_ne_bytes());
        packet.extend_from_slice(&(flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        packet.extend_from_slice(&self.sequence.to_ne_bytes());
        packet.extend_from_slice(&0_u32.to_ne_bytes());
        packet.extend_from_slice(&message.0);
        send(self.socket.as_raw_fd(), &packet, MsgFlags::empty())?;
        self.acknowledgement()
    }

    fn acknowledgement(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let count = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let answer = buffer.get(..count).unwrap_or(&[]);
            if field(answer, 4).map(u16::from_ne_bytes) != Some(NLMSG_ERROR)
                || field(answer, 8).map(u32::from_ne_bytes) != Some(self.sequence)
            {
                continue;
            }
            // An acknowledgement is an error message with the number 0.
            return match field(answer, HEADER_BYTES).map(i32::from_ne_bytes) {
                Some(0) => Ok(()),
                Some(negated) => Err(io::Error::from_raw_os_error(negated.saturating_neg())),
                None => Err(io::Error::other("netlink answered with a truncated message")),
            };
        }
    }
}

/// The number of an interface in the current network namespace; `None` if there is none.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    if_nametoindex(name).ok()
}

/// The body of a netlink message: a fixed part, then attributes, each padded to 4 bytes.
#[derive(Debug)]
struct Message(Vec<u8>);

impl Message {
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |message| message.0.extend_from_slice(value));
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.nested(kind, |message| {
            message.0.extend_from_slice(value.as_bytes());
            message.0.push(0);
        });
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        // Every value is an interface's name, an address or a number: far below 64 KiB.
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX).to_ne_bytes();
        for (place, byte) in self.0.iter_mut().skip(start).zip(length) {
            *place = byte;
        }
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
    }
}

/// `struct ifinfomsg`: family, padding, type, index, flags, which flags change.
fn link_message(interface: u32, flags: u32) -> Message {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&interface.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    Message(bytes)
}

fn field<const BYTES: usize>(packet: &[u8], at: usize) -> Option<[u8; BYTES]> {
    packet.get(at..at + BYTES)?.try_into().ok()
}
