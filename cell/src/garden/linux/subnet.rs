//! IPv4 networks: parsing, overlap, and the addresses a cell gives out.
//!
//! Pure arithmetic; never looks at the machine.

use std::fmt;
use std::net::Ipv4Addr;

use sha2::{Digest, Sha256};

use crate::garden::Error;

/// A cell's network, such as `10.254.4.0/22`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    address: u32,
    prefix_length: u8,
}

/// The networks that a cell picks from when none is configured: the /22s of 10.254.0.0/16.
const DEFAULT_BASE: Ipv4Addr = Ipv4Addr::new(10, 254, 0, 0);
const DEFAULT_PREFIX_LENGTH: u8 = 22;
const DEFAULTS: u8 = 64;

impl Subnet {
    /// Reads `address/length`; the length is 16 to 29.
    ///
    /// # Errors
    /// [`Error::InvalidSpec`] if it is not a network's address and length.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidSpec {
            reason: format!("subnet {text:?} is not like 10.254.0.0/22, with a length of 16 to 29"),
        };
        let (address, length) = text.split_once('/').ok_or_else(invalid)?;
        let address: Ipv4Addr = address.parse().map_err(|_| invalid())?;
        let prefix_length: u8 = length.parse().map_err(|_| invalid())?;
        let subnet = Self { address: address.to_bits(), prefix_length };
        let is_valid = (16..=29).contains(&prefix_length) && subnet.address & !subnet.mask() == 0;
        if is_valid { Ok(subnet) } else { Err(invalid()) }
    }

    /// The network that an interface's address and netmask describe.
    pub(super) fn of_interface(address: Ipv4Addr, netmask: Ipv4Addr) -> Self {
        let prefix_length = u8::try_from(netmask.to_bits().leading_ones()).unwrap_or(32);
        Self { address: address.to_bits() & netmask.to_bits(), prefix_length }
    }

    /// The default networks, beginning with the one that belongs to a prefix.
    pub(super) fn defaults(prefix: &str) -> impl Iterator<Item = Self> {
        let first = Sha256::digest(prefix.as_bytes()).first().copied().unwrap_or(0) % DEFAULTS;
        (0..DEFAULTS).map(move |step| {
            let index = u32::from((first + step) % DEFAULTS);
            let address = DEFAULT_BASE.to_bits() + (index << (32 - DEFAULT_PREFIX_LENGTH));
            Self { address, prefix_length: DEFAULT_PREFIX_LENGTH }
        })
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        let mask = self.mask() & other.mask();
        self.address & mask == other.address & mask
    }

    pub(super) fn prefix_length(self) -> u8 {
        self.prefix_length
    }

    /// The bridge's own address: the first one.
    pub(super) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address + 1)
    }

    /// How many containers have room: without network, gateway and broadcast, and no more than
    /// a bridge has ports.
    pub(super) fn slots(self) -> u16 {
        const BRIDGE_PORTS_MAX: u32 = 1000;
        u16::try_from((!self.mask() - 2).min(BRIDGE_PORTS_MAX)).unwrap_or(u16::MAX)
    }

    /// The address of a slot.
    pub(super) fn address_of(self, slot: u16) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address + 2 + u32::from(slot))
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(u32::from(32 - self.prefix_length)).unwrap_or(0)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", Ipv4Addr::from_bits(self.address), self.prefix_length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_are_none_are_refused() {
        for text in ["", "10.0.0.0", "10.0.0.1/22", "10.0.0.0/30", "10.0.0.0/8", "10.0.0/16"] {
            assert!(Subnet::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn addresses_lie_in_the_network_and_are_not_the_bridges() {
        let subnet = Subnet::parse("10.254.4.0/29").unwrap();

        assert_eq!(subnet.to_string(), "10.254.4.0/29");
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 254, 4, 1));
        assert_eq!(subnet.slots(), 5);
        assert_eq!(subnet.address_of(0), Ipv4Addr::new(10, 254, 4, 2));
        assert_eq!(subnet.address_of(4), Ipv4Addr::new(10, 254, 4, 6));
    }

    #[test]
    fn overlap_is_seen_both_ways_and_the_defaults_have_none() {
        let wide = Subnet::parse("10.254.0.0/16").unwrap();
        let defaults: Vec<_> = Subnet::defaults("d0a1b2c").collect();

        assert_eq!(defaults.len(), 64);
        for (index, one) in defaults.iter().enumerate() {
            assert!(wide.overlaps(*one) && one.overlaps(wide));
            assert!(defaults.iter().skip(index + 1).all(|other| !one.overlaps(*other)));
        }
    }
}
