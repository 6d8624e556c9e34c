//! What a chain of the tree of port forwards is known by.

use crate::policy::Protocol;
use std::fmt;

/// A chain of the tree that leads a packet to its forward, or to what its target says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardChain {
    /// What comes from elsewhere.
    Prerouting,
    /// What the host itself sends.
    Output,
    /// What one protocol of a forward asks that does not fit into a rule of a tree; by the forward's number.
    Gate(u32, Protocol),
    /// A part of a tree.
    In(Tree, Node),
}

/// What is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// The forward of a local address that is none of loopback.
    Common,
    /// That of a loopback address.
    Loopback,
    /// Whether what was forwarded goes to a target of ours.
    Targets,
}

/// A part of a tree: each begins where the one before it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// All of it.
    Root,
    /// The addresses with the same beginning: of so many bits, in the words of [`Host`].
    Hosts(Host, u8),
    /// One address; `None` for what is said of all of them.
    Host(Option<Host>),
    /// The ports of one protocol there that begin with so many hexadecimal digits.
    Ports(Option<Host>, Protocol, Digits),
}

/// An IPv4 address, or a digest of an IPv6 address that no other one of the tree has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub u32);

/// The beginning of a port in hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digits {
    /// Their value.
    pub value: u16,
    /// How many there are, up to three.
    pub count: u8,
}

const TREES: [(Tree, char); 3] = [(Tree::Common, 'c'), (Tree::Loopback, 'l'), (Tree::Targets, 'd')];
/// None of them is a hexadecimal digit.
const PROTOCOLS: [(Protocol, char); 3] = [(Protocol::Tcp, 't'), (Protocol::Udp, 'u'), (Protocol::Sctp, 's')];
const EVERY_HOST: &str = "x";
const HOSTS: char = 'h';
const GATE: char = 'g';

impl fmt::Display for ForwardChain {
    /// At most 13 characters, behind the name of our chain and `-f`: `p`, `cx`, `cc6336407t1f`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tree, node) = match self {
            ForwardChain::Prerouting => return f.write_str("p"),
            ForwardChain::Output => return f.write_str("o"),
            ForwardChain::Gate(number, protocol) => return write!(f, "{GATE}{number:x}{}", letter_of(*protocol)),
            ForwardChain::In(tree, node) => (tree, node),
        };
        let letter = TREES.iter().find(|(one, _)| one == tree).map_or('?', |(_, letter)| *letter);
        write!(f, "{letter}")?;
        match node {
            Node::Root => Ok(()),
            Node::Hosts(Host(host), length) => write!(f, "{HOSTS}{host:08x}{length:02x}"),
            Node::Host(host) => write_host(*host, f),
            Node::Ports(host, protocol, Digits { value, count }) => {
                write_host(*host, f)?;
                write!(f, "{}", letter_of(*protocol))?;
                if *count > 0 { write!(f, "{value:0width$x}", width = usize::from(*count)) } else { Ok(()) }
            }
        }
    }
}

fn letter_of(protocol: Protocol) -> char {
    PROTOCOLS.iter().find(|(one, _)| *one == protocol).map_or('?', |(_, letter)| *letter)
}

fn write_host(host: Option<Host>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match host {
        None => f.write_str(EVERY_HOST),
        Some(Host(host)) => write!(f, "{host:08x}"),
    }
}

impl ForwardChain {
    /// The chain of a text that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let found = match text {
            "p" => ForwardChain::Prerouting,
            "o" => ForwardChain::Output,
            _ if text.starts_with(GATE) => {
                let (protocol, letter) = PROTOCOLS.iter().find(|(_, letter)| text.ends_with(*letter))?;
                let number = text.strip_prefix(GATE)?.strip_suffix(*letter)?;
                ForwardChain::Gate(hexadecimal(number)?, *protocol)
            }
            _ => {
                let (tree, _) = TREES.iter().find(|(_, letter)| text.starts_with(*letter))?;
                ForwardChain::In(*tree, Node::parse(text.get(1..)?)?)
            }
        };
        (found.to_string() == text).then_some(found)
    }
}

impl Node {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Node::Root);
        }
        if let Some(hosts) = text.strip_prefix(HOSTS) {
            let (host, length) = hosts.split_at_checked(8)?;
            return Some(Node::Hosts(Host(hexadecimal(host)?), u8::try_from(hexadecimal(length)?).ok()?));
        }
        let (host, rest) = match text.strip_prefix(EVERY_HOST) {
            Some(rest) => (None, rest),
            None => {
                let (host, rest) = text.split_at_checked(8)?;
                (Some(Host(hexadecimal(host)?)), rest)
            }
        };
        if rest.is_empty() {
            return Some(Node::Host(host));
        }
        let (protocol, _) = PROTOCOLS.iter().find(|(_, letter)| rest.starts_with(*letter))?;
        let (digits, count) = (rest.get(1..)?, u8::try_from(rest.len() - 1).ok()?);
        let value = if digits.is_empty() { 0 } else { u16::try_from(hexadecimal(digits)?).ok()? };
        Some(Node::Ports(host, *protocol, Digits { value, count }))
    }
}

fn hexadecimal(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chain_is_read_back_from_its_name_and_no_two_have_the_same() {
        let host = Host(0xc633_6407);
        let mut nodes = vec![Node::Root, Node::Hosts(Host(0x0a00_0000), 8), Node::Host(None), Node::Host(Some(host))];
        for (protocol, _) in PROTOCOLS {
            for (value, count) in [(0, 0), (0, 1), (0, 2), (0xf, 1), (0x1f, 2), (0x1f9, 3), (9, 3)] {
                let digits = Digits { value, count };
                nodes.extend([None, Some(host), Some(Host(0x0123_4567))].map(|on| Node::Ports(on, protocol, digits)));
            }
        }
        let trees = TREES.iter().flat_map(|(tree, _)| nodes.iter().map(|node| ForwardChain::In(*tree, *node)));
        let gates = PROTOCOLS.iter().flat_map(|(protocol, _)| [1, 10_000].map(|n| ForwardChain::Gate(n, *protocol)));
        let hooks = [ForwardChain::Prerouting, ForwardChain::Output].into_iter();
        let chains: Vec<_> = hooks.chain(gates).chain(trees).collect();
        let mut names: Vec<String> = chains.iter().map(ToString::to_string).collect();
        for (chain, name) in chains.iter().zip(&names) {
            assert_eq!(ForwardChain::parse(name), Some(*chain), "{name}");
            assert!(name.len() <= 13, "{name}");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), chains.len());
        for other in ["", "q", "c+", "cx1", "cxt+1", "cxtABC", "cxt12345", "c0t", "ch0a0000008", "P", "g", "gt", "g01t"]
        {
            assert_eq!(ForwardChain::parse(other), None, "{other}");
        }
    }
}
