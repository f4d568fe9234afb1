//! Whom a container may call: the rules of its security groups.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::invalid::{Invalid, InvalidField, field};

/// How many rules one definition may have.
const RULES_MAX: usize = 1_000;
/// How many destinations or ports one rule may have.
const RULE_LIST_MAX: usize = 1_000;

/// What a container may call. Without any rule it may call nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroupRule {
    /// Of which protocol.
    pub protocol: Protocol,
    /// Addresses, ranges of them (`1.2.3.4-1.2.3.9`) or networks (`1.2.3.0/24`); several may stand
    /// in one text, with commas between them.
    pub destinations: Vec<String>,
    /// Single ports. Of tcp and udp alone, which need these or a range.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// A range of ports.
    #[serde(default)]
    pub port_range: Option<PortRange>,
    /// What of icmp, which needs it.
    #[serde(default)]
    pub icmp_info: Option<IcmpInfo>,
    /// Whether its use is told in the machine's log.
    #[serde(default)]
    pub log: bool,
    /// Notes of the client's.
    #[serde(default)]
    pub annotations: Vec<String>,
}

/// A protocol of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// ICMP of version 6.
    Icmpv6,
    /// Every protocol.
    All,
}

/// Ports from one to another, both among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// The first.
    pub start: u16,
    /// The last.
    pub end: u16,
}

/// What of ICMP; -1 is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IcmpInfo {
    /// The type of the message, or -1.
    #[serde(rename = "type")]
    pub kind: i32,
    /// Its code, or -1.
    pub code: i32,
}

/// Says what is wrong with rules from outside.
pub(super) fn check(rules: &[SecurityGroupRule], path: &str, invalid: &mut Invalid) {
    invalid.at_most(path, rules.len(), RULES_MAX);
    for (index, rule) in rules.iter().enumerate() {
        check_rule(rule, &format!("{path}[{index}]"), invalid);
    }
}

fn check_rule(rule: &SecurityGroupRule, path: &str, invalid: &mut Invalid) {
    let destinations = field(path, "destinations");
    if rule.destinations.is_empty() {
        invalid.push(InvalidField::new(&destinations, "must hold at least one destination"));
    }
    invalid.at_most(&destinations, rule.destinations.len(), RULE_LIST_MAX);
    for (index, text) in rule.destinations.iter().enumerate() {
        let at = format!("{destinations}[{index}]");
        invalid.without_nul(&at, text, 4096);
        if !text.split(',').all(|one| is_destination(one.trim())) {
            let problem =
                "must be an IP address, a range from-to of them, or a network address/bits";
            invalid.push(InvalidField::new(&at, problem));
        }
    }
    invalid.at_most(&field(path, "ports"), rule.ports.len(), RULE_LIST_MAX);
    invalid.at_most(&field(path, "annotations"), rule.annotations.len(), RULE_LIST_MAX);
    for (index, note) in rule.annotations.iter().enumerate() {
        invalid.without_nul(&format!("{path}.annotations[{index}]"), note, 2048);
    }
    check_ports(rule, path, invalid);
    let is_icmp = match rule.protocol {
        Protocol::Icmp | Protocol::Icmpv6 => true,
        Protocol::Tcp | Protocol::Udp | Protocol::All => false,
    };
    if is_icmp != rule.icmp_info.is_some() {
        let problem = "must be there for icmp and icmpv6, and only for these";
        invalid.push(InvalidField::new(&field(path, "icmp_info"), problem));
    }
    if let Some(IcmpInfo { kind, code }) = rule.icmp_info {
        for (name, number) in [("type", kind), ("code", code)] {
            if !(-1..=255).contains(&number) {
                let problem = format!("must be from -1 to 255, but is {number}");
                invalid.push(InvalidField::new(&format!("{path}.icmp_info.{name}"), problem));
            }
        }
    }
}

fn check_ports(rule: &SecurityGroupRule, path: &str, invalid: &mut Invalid) {
    let path = field(path, "ports");
    let has_ports = !rule.ports.is_empty();
    match rule.protocol {
        Protocol::Tcp | Protocol::Udp => {
            if has_ports == rule.port_range.is_some() {
                let problem = "must be there for tcp and udp, or a port_range in their place";
                invalid.push(InvalidField::new(&path, problem));
            }
        }
        Protocol::Icmp | Protocol::Icmpv6 | Protocol::All => {
            if has_ports || rule.port_range.is_some() {
                let problem = "must be absent, like port_range: only tcp and udp have ports";
                invalid.push(InvalidField::new(&path, problem));
            }
        }
    }
    if rule.ports.contains(&0) {
        invalid.push(InvalidField::new(&path, "must each be from 1 to 65535"));
    }
    if rule.port_range.is_some_and(|range| range.start == 0 || range.start > range.end) {
        let problem = "must be a port_range from 1 on whose start is not above its end";
        invalid.push(InvalidField::new(&path, problem));
    }
}

fn is_destination(text: &str) -> bool {
    if let Some((from, to)) = text.split_once('-') {
        let ends = (from.trim().parse::<IpAddr>(), to.trim().parse::<IpAddr>());
        return matches!(ends, (Ok(from), Ok(to)) if from.is_ipv4() == to.is_ipv4() && from <= to);
    }
    if let Some((address, bits)) = text.split_once('/') {
        let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>()) else {
            return false;
        };
        return bits <= if address.is_ipv4() { 32 } else { 128 };
    }
    text.parse::<IpAddr>().is_ok()
}
