//! What rules do to a packet, read by somebody who knows the tools that list them and not us.

#![allow(dead_code, reason = "each test uses its own part of it")]

pub mod iptables;
pub mod nftables;

use std::net::IpAddr;

/// The first packet of a flow to an address of the host itself.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub interface: &'static str,
    /// As both programs write it.
    pub protocol: &'static str,
    pub port: u16,
}

/// Ranges of addresses of either family.
#[derive(Debug, Default)]
pub struct Ranges {
    /// First and last address of each, the family before them.
    ranges: Vec<(bool, u128, u128)>,
}

impl Ranges {
    /// Adds `ADDRESS` or `ADDRESS/LENGTH`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn add_network(&mut self, text: &str) -> Result<(), String> {
        let bad = || format!("'{text}' is no network");
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let width: u32 = if address.is_ipv6() { 128 } else { 32 };
        let length: u32 = length.map_or(Ok(width), str::parse).map_err(|_| bad())?;
        let free = u128::MAX.checked_shr(128 - width.checked_sub(length).ok_or_else(bad)?).unwrap_or(0);
        self.add(address, number(address) & !free, number(address) | free);
        Ok(())
    }

    /// Adds both ends and what is between.
    pub fn add_between(&mut self, first: IpAddr, last: IpAddr) {
        self.add(first, number(first), number(last));
    }

    fn add(&mut self, family: IpAddr, first: u128, last: u128) {
        self.ranges.push((family.is_ipv6(), first, last));
    }

    /// Has to be done before anything is looked for among more than one.
    pub fn sort(&mut self) {
        self.ranges.sort_unstable();
    }

    pub fn contain(&self, address: IpAddr) -> bool {
        let (v6, address) = (address.is_ipv6(), number(address));
        let next = self.ranges.partition_point(|(other, first, _)| (*other, *first) <= (v6, address));
        // Sets hold no ranges that overlap.
        next.checked_sub(1).is_some_and(|index| {
            let (family, _, last) = self.ranges[index];
            family == v6 && address <= last
        })
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}
