//! The name of our chain.

use super::forward_chain::ForwardChain;
use super::id::{ChainId, Place, SectionId};
use std::fmt;
use std::str::FromStr;

/// A chain name that netfilter accepts and that is nobody else's word (`masqChain`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChainName(String);

/// Why a text is no [`ChainName`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainNameError {
    /// Not 1 to 28 characters (XT_FUNCTION_MAXNAMELEN less the terminator, linux/netfilter/x_tables.h).
    Length(usize),
    /// A character outside `A-Z a-z 0-9 _ . -`.
    Character(char),
    /// A leading `-` would read as an option.
    LeadingDash,
    /// A built-in chain or a target's name.
    Reserved(String),
}

impl fmt::Display for ChainNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainNameError::Length(length) => {
                write!(f, "a chain name has 1 to 28 characters, this one has {length}")
            }
            ChainNameError::Character(c) => write!(f, "{c:?} can't be part of a chain name"),
            ChainNameError::LeadingDash => f.write_str("a chain name can't begin with '-'"),
            ChainNameError::Reserved(name) => write!(f, "'{name}' is a built-in chain or a target"),
        }
    }
}

impl std::error::Error for ChainNameError {}

/// Built-in chains, built-in verdicts, and the targets of iptables and of xtables-addons: `-j` with such a name means these.
const RESERVED: [&str; 62] = [
    "PREROUTING",
    "INPUT",
    "FORWARD",
    "OUTPUT",
    "POSTROUTING",
    "ACCEPT",
    "DROP",
    "RETURN",
    "QUEUE",
    "ERROR",
    "ACCOUNT",
    "AUDIT",
    "CHAOS",
    "CHECKSUM",
    "CLASSIFY",
    "CLUSTERIP",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DELUDE",
    "DHCPMAC",
    "DNAT",
    "DNETMAP",
    "DNPT",
    "DSCP",
    "ECHO",
    "ECN",
    "HL",
    "HMARK",
    "IDLETIMER",
    "IPMARK",
    "LED",
    "LOG",
    "LOGMARK",
    "MARK",
    "MASQUERADE",
    "NAT",
    "NETMAP",
    "NFLOG",
    "NFQUEUE",
    "NOTRACK",
    "PROTO",
    "RATEEST",
    "RAWNAT",
    "REDIRECT",
    "REJECT",
    "SAME",
    "SECMARK",
    "SET",
    "SNAT",
    "SNPT",
    "SYNPROXY",
    "SYSRQ",
    "TARPIT",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TPROXY",
    "TRACE",
    "TTL",
    "ULOG",
];

/// XT_FUNCTION_MAXNAMELEN less the terminator.
const MAX_LENGTH: usize = 28;

impl ChainName {
    /// The longest name that leaves room for every suffix of entries of `egress`.
    pub const MAX_WITH_EGRESS: usize = MAX_LENGTH - "-e64-255".len();

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a chain: the parts of the top level are the name itself, `NAME-2` and so on, where a chain that is
    /// no part is `other`. Made to fit into 28 characters by shortening the name.
    pub fn of(&self, id: ChainId, other: usize) -> String {
        match id.place {
            Place::Part(number) => self.numbered(id.section, usize::from(number)),
            Place::Masquerade => self.numbered(id.section, other),
            Place::Branch(number) => self.with(&format!("-o{number}")),
            Place::Forward(chain) => self.with(&format!("-f{chain}")),
        }
    }

    fn numbered(&self, section: SectionId, number: usize) -> String {
        self.with(&match (section, number) {
            (SectionId::Top, 0 | 1) => String::new(),
            (SectionId::Top, number) => format!("-{number}"),
            (SectionId::Egress(entry), number) => format!("-e{entry}-{number}"),
            (SectionId::Forwards | SectionId::Forward(_), number) => format!("-f{number}"),
        })
    }

    fn with(&self, suffix: &str) -> String {
        let kept = self.0.len().min(MAX_LENGTH - suffix.len());
        let name = format!("{}{suffix}", &self.0[..kept]);
        // A name of full length may end like that already.
        if suffix.is_empty() || name != self.0 { name } else { format!("{}_{suffix}", &self.0[..kept - 1]) }
    }

    /// True when the chains of entries of `egress` have names of their own, none of them shortened.
    pub fn leaves_room_for_egress(&self) -> bool {
        self.0.len() <= Self::MAX_WITH_EGRESS
    }

    /// True for a name that [`Self::of`] gives to a chain.
    pub fn has_part(&self, chain: &str) -> bool {
        self.section(chain).is_some()
    }

    /// The section whose chain has a name that [`Self::of`] gives.
    pub fn section(&self, chain: &str) -> Option<SectionId> {
        if chain == self.0 {
            return Some(SectionId::Top);
        }
        let (front, number) = chain.rsplit_once('-')?;
        if let Some(found) = number.strip_prefix('f') {
            let found = ForwardChain::parse(found)?;
            return (self.with(&format!("-f{found}")) == chain).then_some(SectionId::Forwards);
        }
        if let Some(branch) = number.strip_prefix('o') {
            let branch = branch.parse::<u16>().ok().filter(|branch| *branch > 0)?;
            return (self.with(&format!("-o{branch}")) == chain).then_some(SectionId::Top);
        }
        let entry = front.rsplit_once("-e").and_then(|(_, entry)| entry.parse().ok());
        let number = usize::from(number.parse::<u8>().ok()?);
        let mut sections = [Some(SectionId::Top), entry.map(SectionId::Egress)].into_iter().flatten();
        sections.find(|section| self.numbered(*section, number) == chain)
    }
}

impl Default for ChainName {
    fn default() -> Self {
        ChainName("IP-MASQ-AGENT".to_owned())
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ChainName {
    type Err = ChainNameError;

    fn from_str(text: &str) -> Result<Self, ChainNameError> {
        if let Some(c) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '-')) {
            return Err(ChainNameError::Character(c));
        }
        if text.is_empty() || text.len() > MAX_LENGTH {
            return Err(ChainNameError::Length(text.len()));
        }
        if text.starts_with('-') {
            return Err(ChainNameError::LeadingDash);
        }
        if RESERVED.contains(&text) {
            return Err(ChainNameError::Reserved(text.to_owned()));
        }
        Ok(ChainName(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_iptables_would_refuse_later_are_refused_now() {
        use ChainNameError::*;
        let cases = [
            ("", Length(0)),
            ("a2345678901234567890123456789", Length(29)),
            ("-x", LeadingDash),
            ("a b", Character(' ')),
            ("é", Character('é')),
            ("MASQUERADE", Reserved("MASQUERADE".into())),
            ("POSTROUTING", Reserved("POSTROUTING".into())),
            ("SET", Reserved("SET".into())),
            ("TEE", Reserved("TEE".into())),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<ChainName>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_chain_behind_a_gate_fits_too() {
        let long: ChainName = "a234567890123456789012345678".parse().unwrap();
        let part = |section, number| long.of(ChainId { section, place: Place::Part(number) }, 3);
        assert_eq!(part(SectionId::Top, 1).len(), 28);
        assert_eq!(part(SectionId::Top, 2), "a2345678901234567890123456-2");
        assert_eq!(part(SectionId::Egress(64), 1), "a234567890123456789012-e64-1");
        let masquerade = ChainId { section: SectionId::Top, place: Place::Masquerade };
        assert_eq!(long.of(masquerade, 3), "a2345678901234567890123456-3");
    }

    #[test]
    fn a_name_that_ends_like_one_of_its_parts_is_not_that_part() {
        let long: ChainName = "a2345678901234567890123456-2".parse().unwrap();
        let part = |number| long.of(ChainId { section: SectionId::Top, place: Place::Part(number) }, 3);
        assert_eq!(
            [part(1), part(2), part(3)],
            ["a2345678901234567890123456-2", "a234567890123456789012345_-2", "a2345678901234567890123456-3",]
        );
        assert!(long.has_part("a234567890123456789012345_-2"));
    }

    #[test]
    fn our_names_are_known_again_and_no_others() {
        let name: ChainName = "M".parse().unwrap();
        for ours in ["M", "M-2", "M-17", "M-e1-1", "M-e64-3", "M-o1", "M-o256", "M-fp", "M-fcxt1f", "M-fdc6336407"] {
            assert!(name.has_part(ours), "{ours}");
        }
        for other in [
            "", "N", "M-", "M-1", "M-0", "M-02", "M-x", "M-e1", "M-e01-1", "MM-2", "M-2-2", "M-o0", "M-o01", "M-o",
            "M-f", "M-fz", "M-fcxt+1",
        ] {
            assert!(!name.has_part(other), "{other}");
        }
    }
}
