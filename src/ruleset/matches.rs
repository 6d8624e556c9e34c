//! What a rule looks at and what it does: one vocabulary, which each backend puts into its words.
//!
//! A list and a chain are whatever names them: a [`ListId`] and a [`ChainId`] in what is desired, the names of a backend
//! in what it writes and reads. Every `match` on a [`Test`] or a [`Fact`] names them all: a new one does not
//! compile until each backend can say it.

use super::id::{ChainId, ListId};
use crate::policy::{AddressRange, Family, ForwardMark, MaskedMark, PortRange, Prefix, Protocol};
use std::net::IpAddr;

/// Which address of a packet; nft's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The source.
    Saddr,
    /// The destination.
    Daddr,
}

/// Which address is looked for among those of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// The destination, among all of them.
    Daddr,
    /// The source, among all of them.
    Saddr,
    /// The source, among those of the outgoing interface.
    SaddrOnOutInterface,
}

/// What a rule looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Match<List = ListId> {
    /// A test must hold.
    Is(Test<List>),
    /// It must not hold.
    IsNot(Test<List>),
    /// A fact, of which no match can ask the opposite.
    Holds(Fact),
}

/// What can be asked of the first packet of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test<List = ListId> {
    /// It is of the family.
    Family(Family),
    /// An address is in a prefix.
    In(Side, Prefix),
    /// An address is in a list.
    InList(Side, List),
    /// The name of the outgoing interface.
    OutInterface {
        /// The name, or its beginning.
        name: String,
        /// Only the beginning was named.
        prefix: bool,
    },
    /// The name of the incoming interface; packets of the host itself have none.
    InInterface {
        /// The name, or its beginning.
        name: String,
        /// Only the beginning was named.
        prefix: bool,
    },
    /// The transport protocol.
    Protocol(Protocol),
    /// The destination port, behind [`Test::Protocol`] of one that has ports.
    DestinationPort(PortRange),
    /// Of SYN, RST, ACK and FIN only SYN is set; asked behind [`Test::Protocol`] of TCP alone.
    OnlySyn,
    /// The address is one of the host's own.
    Local(Address),
    /// The packet mark.
    Mark(MaskedMark),
}

/// What can be asked of it in one way only: not every backend has a match for the opposite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Connection tracking has given the flow another destination.
    Dnated,
    /// The frame was bridged.
    Bridged,
    /// The route carries an IPsec policy.
    Ipsec,
    /// By chance, in `part` of `of` cases.
    Share {
        /// How many cases.
        part: u32,
        /// Of how many.
        of: u32,
    },
}

/// What happens to a packet that a rule matches. Where rules are lowered for a kernel with maps one may ask a map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect<Chain = ChainId, Map = NoMap> {
    /// Our rules leave its source alone.
    Return,
    /// Another chain goes on, and nothing comes back.
    Goto(Chain),
    /// Another chain is asked first.
    Jump(Chain),
    /// Its source becomes the address of the outgoing interface.
    Masquerade {
        /// The kernel chooses ports at random.
        random_fully: bool,
        /// The ports to choose from.
        ports: Option<PortRange>,
    },
    /// Its source becomes one of these addresses; of several always the same one for one source.
    Snat {
        /// The addresses.
        to: AddressRange,
        /// The kernel chooses ports at random.
        random_fully: bool,
        /// The ports to choose from.
        ports: Option<PortRange>,
    },
    /// Its source becomes the one that its route prefers; other rules follow for packets whose route prefers none.
    SnatByRoute(Map),
    /// Its destination becomes another one.
    Dnat {
        /// The address.
        to: IpAddr,
        /// The port; of a range, what the first one becomes while the others follow it. `None` where ports stay.
        port: Option<ShiftedPort>,
    },
    /// It is marked, and asked on.
    Mark(ForwardMark),
    /// It goes no further.
    Drop,
}

/// How a map of the sources that routes prefer translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByRoute {
    /// The kernel chooses ports at random.
    pub random_fully: bool,
    /// The ports to choose from.
    pub ports: Option<PortRange>,
}

/// No rule asks a map: a backend has none, or has its own words for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoMap {}

/// What a destination port becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShiftedPort {
    /// The ports of the host.
    pub from: PortRange,
    /// What the first of them becomes.
    pub to: u16,
}

/// Asks whether an address is in a prefix. One of length 0 holds every address.
pub(super) fn within(side: Side, prefix: Prefix) -> Vec<Match> {
    let test = (prefix.length() > 0).then_some(Test::In(side, prefix));
    test.into_iter().map(Match::Is).collect()
}

impl<List> Match<List> {
    /// The test that must hold, or must not.
    pub fn test(&self) -> Option<&Test<List>> {
        match self {
            Match::Is(test) | Match::IsNot(test) => Some(test),
            Match::Holds(_) => None,
        }
    }

    /// The list that is looked into.
    pub fn list(&self) -> Option<&List> {
        match self.test()? {
            Test::InList(_, list) => Some(list),
            Test::Family(_)
            | Test::In(..)
            | Test::OutInterface { .. }
            | Test::InInterface { .. }
            | Test::Protocol(_)
            | Test::DestinationPort(_)
            | Test::OnlySyn
            | Test::Local(_)
            | Test::Mark(_) => None,
        }
    }

    /// The same with the list under another name.
    pub fn rename<Name>(self, name: impl FnOnce(List) -> Name) -> Match<Name> {
        match self {
            Match::Is(test) => Match::Is(test.rename(name)),
            Match::IsNot(test) => Match::IsNot(test.rename(name)),
            Match::Holds(fact) => Match::Holds(fact),
        }
    }
}

impl<List> Test<List> {
    /// The same with the list under another name.
    fn rename<Name>(self, name: impl FnOnce(List) -> Name) -> Test<Name> {
        match self {
            Test::InList(side, list) => Test::InList(side, name(list)),
            Test::Family(family) => Test::Family(family),
            Test::In(side, prefix) => Test::In(side, prefix),
            Test::OutInterface { name, prefix } => Test::OutInterface { name, prefix },
            Test::InInterface { name, prefix } => Test::InInterface { name, prefix },
            Test::Protocol(protocol) => Test::Protocol(protocol),
            Test::DestinationPort(ports) => Test::DestinationPort(ports),
            Test::OnlySyn => Test::OnlySyn,
            Test::Local(address) => Test::Local(address),
            Test::Mark(mark) => Test::Mark(mark),
        }
    }
}

impl Match {
    /// The one match that holds where this one does not; `None` where not every backend has one.
    pub fn inverse(&self) -> Option<Self> {
        match self.clone() {
            Match::Is(test) => Some(Match::IsNot(test)),
            Match::IsNot(test) => Some(Match::Is(test)),
            Match::Holds(_) => None,
        }
    }
}

impl<Chain, Map> Effect<Chain, Map> {
    /// True when the source becomes another one.
    pub fn translates(&self) -> bool {
        match self {
            Effect::Masquerade { .. } | Effect::Snat { .. } | Effect::SnatByRoute(_) => true,
            Effect::Return
            | Effect::Goto(_)
            | Effect::Jump(_)
            | Effect::Dnat { .. }
            | Effect::Mark(_)
            | Effect::Drop => false,
        }
    }

    /// The same with the chain under another name.
    pub fn rename<Name>(self, name: impl FnOnce(Chain) -> Name) -> Effect<Name, Map> {
        match self {
            Effect::Return => Effect::Return,
            Effect::Goto(chain) => Effect::Goto(name(chain)),
            Effect::Jump(chain) => Effect::Jump(name(chain)),
            Effect::Masquerade { random_fully, ports } => Effect::Masquerade { random_fully, ports },
            Effect::Snat { to, random_fully, ports } => Effect::Snat { to, random_fully, ports },
            Effect::SnatByRoute(map) => Effect::SnatByRoute(map),
            Effect::Dnat { to, port } => Effect::Dnat { to, port },
            Effect::Mark(mark) => Effect::Mark(mark),
            Effect::Drop => Effect::Drop,
        }
    }

    /// The same where it asks no map.
    ///
    /// # Errors
    /// The map.
    pub fn without_map(self) -> Result<Effect<Chain>, Map> {
        Ok(match self {
            Effect::SnatByRoute(map) => return Err(map),
            Effect::Return => Effect::Return,
            Effect::Goto(chain) => Effect::Goto(chain),
            Effect::Jump(chain) => Effect::Jump(chain),
            Effect::Masquerade { random_fully, ports } => Effect::Masquerade { random_fully, ports },
            Effect::Snat { to, random_fully, ports } => Effect::Snat { to, random_fully, ports },
            Effect::Dnat { to, port } => Effect::Dnat { to, port },
            Effect::Mark(mark) => Effect::Mark(mark),
            Effect::Drop => Effect::Drop,
        })
    }
}

/// One of each kind, for tests of what a backend writes and reads again: a new one does not compile until it is among them.
#[cfg(test)]
pub mod each {
    use super::*;

    /// Each test as it holds and as it does not, and each fact.
    pub fn one<List: Clone>(list: &List) -> impl Iterator<Item = Match<List>> {
        let tests = test(list).flat_map(|test| [Match::Is(test.clone()), Match::IsNot(test)]);
        tests.chain(fact().map(Match::Holds))
    }

    fn test<List: Clone>(list: &List) -> impl Iterator<Item = Test<List>> {
        let (name, port) = ("eth0".to_owned(), PortRange { first: 80, last: 81 });
        let after = move |test: Option<&Test<List>>| {
            Some(match test {
                None => Test::Family(Family::V4),
                Some(Test::Family(_)) => Test::In(Side::Saddr, "10.0.0.0/8".parse().unwrap()),
                Some(Test::In(..)) => Test::InList(Side::Saddr, list.clone()),
                Some(Test::InList(..)) => Test::OutInterface { name: name.clone(), prefix: false },
                Some(Test::OutInterface { .. }) => Test::InInterface { name: name.clone(), prefix: true },
                Some(Test::InInterface { .. }) => Test::Protocol(Protocol::Udp),
                Some(Test::Protocol(_)) => Test::DestinationPort(port),
                Some(Test::DestinationPort(_)) => Test::OnlySyn,
                Some(Test::OnlySyn) => Test::Local(Address::Saddr),
                Some(Test::Local(_)) => Test::Mark(MaskedMark { value: 1, mask: 3 }),
                Some(Test::Mark(_)) => return None,
            })
        };
        std::iter::successors(after(None), move |test| after(Some(test)))
    }

    fn fact() -> impl Iterator<Item = Fact> {
        let after = |fact: Option<&Fact>| {
            Some(match fact {
                None => Fact::Dnated,
                Some(Fact::Dnated) => Fact::Bridged,
                Some(Fact::Bridged) => Fact::Ipsec,
                Some(Fact::Ipsec) => Fact::Share { part: 3079, of: 6561 },
                Some(Fact::Share { .. }) => return None,
            })
        };
        std::iter::successors(after(None), move |fact| after(Some(fact)))
    }

    pub fn effect<Chain: Clone>(chain: &Chain) -> impl Iterator<Item = Effect<Chain>> {
        let (random_fully, ports) = (true, Some(PortRange { first: 1024, last: 2047 }));
        let after = move |effect: Option<&Effect<Chain>>| {
            Some(match effect {
                None => Effect::Return,
                Some(Effect::Return) => Effect::Goto(chain.clone()),
                Some(Effect::Goto(_)) => Effect::Jump(chain.clone()),
                Some(Effect::Jump(_)) => Effect::Masquerade { random_fully, ports },
                Some(Effect::Masquerade { .. }) => {
                    Effect::Snat { to: "192.0.2.1-192.0.2.9".parse().unwrap(), random_fully, ports }
                }
                Some(Effect::SnatByRoute(none)) => match *none {},
                Some(Effect::Snat { .. }) => Effect::Dnat { to: Family::V4.whole().last(), port: None },
                Some(Effect::Dnat { .. }) => Effect::Mark(ForwardMark::Bit(7)),
                Some(Effect::Mark(_)) => Effect::Drop,
                Some(Effect::Drop) => return None,
            })
        };
        std::iter::successors(after(None), move |effect| after(Some(effect)))
    }
}
