//! A namespace with an iptables backend of one variant and a policy.

use crate::lab::Namespace;
use crate::policies::default_policy;
use crate::written::{Written, write};
use ip_masq_agent::backend::iptables::Iptables;
use ip_masq_agent::backend::iptables::tools::{Tools, Variant};
use ip_masq_agent::backend::{Backend, Counters, Error, Fingerprint, Plan};
use ip_masq_agent::policy::{Family, Origin, Policy, PrefixSet};
use ip_masq_agent::ruleset::{ChainName, HostFacts, JumpPosition, Ruleset};
use ip_masq_agent::sys::child::Children;
use std::net::IpAddr;
use std::process::Output;

/// Makes a test of each variant from one body; the body's module is the variant's name.
macro_rules! both_variants {
    ($(fn $name:ident($host:ident: IptablesGateway) $body:block)*) => {
        $(mod $name {
            #[allow(unused_imports, reason = "what the bodies need together")]
            use super::*;
            #[allow(unused_mut, reason = "some bodies only look")]
            fn body(mut $host: IptablesGateway) $body
            #[test]
            fn nft() {
                $crate::backend_iptables::gateway::with(ip_masq_agent::backend::iptables::tools::Variant::Nft, body);
            }
            #[test]
            fn legacy() {
                $crate::backend_iptables::gateway::with(ip_masq_agent::backend::iptables::tools::Variant::Legacy, body);
            }
        })*
    };
}
pub(crate) use both_variants;

/// Runs a test's body on a gateway of its own.
pub fn with(variant: Variant, body: fn(IptablesGateway)) {
    if crate::lab::possible() {
        body(IptablesGateway::new(variant));
    }
}

/// The namespace and what a service in it would hold.
pub struct IptablesGateway {
    pub namespace: Namespace,
    pub variant: Variant,
    pub policy: Policy,
    pub position: JumpPosition,
    pub facts: HostFacts,
    pub backend: Iptables<Children>,
}

impl IptablesGateway {
    pub fn new(variant: Variant) -> Self {
        let mut gateway = IptablesGateway {
            namespace: Namespace::new("gateway").unwrap(),
            variant,
            policy: default_policy(),
            position: JumpPosition::Last,
            facts: HostFacts::default(),
            backend: Iptables::new(Children, Tools::assumed(variant), ChainName::default()),
        };
        gateway.restart("IP-MASQ-AGENT");
        gateway
    }

    /// A new service, that remembers nothing, with a chain of the name.
    pub fn restart(&mut self, chain: &str) {
        let tools = Tools::probe(&mut Children, self.variant).unwrap();
        self.backend = Iptables::new(Children, tools, chain.parse().unwrap());
    }

    pub fn ruleset(&self, family: Family) -> Option<Ruleset> {
        Ruleset::new(&self.policy, family, self.position, &self.facts)
    }

    pub fn try_plan(&mut self, family: Family) -> Result<Plan, Error> {
        let desired = self.ruleset(family);
        let backend = &mut self.backend;
        self.namespace.enter(|| backend.plan(family, desired.as_ref()))
    }

    pub fn plan(&mut self, family: Family) -> Plan {
        self.try_plan(family).unwrap()
    }

    pub fn commit(&mut self, plan: Plan) -> Result<(), Error> {
        let backend = &mut self.backend;
        self.namespace.enter(|| backend.commit(plan))
    }

    /// Plans and commits one family, as a service does; afterwards nothing may differ.
    pub fn apply_to(&mut self, family: Family) -> Written {
        let desired = self.ruleset(family);
        self.write(family, desired)
    }

    pub fn apply(&mut self) -> Written {
        self.apply_to(Family::V4)
    }

    /// Plans that nothing of ours is there, and commits.
    pub fn flush(&mut self, family: Family) -> Written {
        self.write(family, None)
    }

    fn write(&mut self, family: Family, desired: Option<Ruleset>) -> Written {
        let backend = &mut self.backend;
        self.namespace.enter(|| write(backend, family, desired.as_ref()))
    }

    pub fn fingerprint(&mut self) -> Fingerprint {
        let backend = &mut self.backend;
        self.namespace.enter(|| backend.fingerprint()).unwrap()
    }

    /// What a resync looks at: rules, and members of sets.
    pub fn content_fingerprints(&mut self) -> [Fingerprint; 2] {
        let backend = &mut self.backend;
        self.namespace.enter(|| [backend.content_fingerprint().unwrap(), backend.member_fingerprint().unwrap()])
    }

    /// Whether sets hold of destinations what they should.
    pub fn sets_hold(&mut self, family: Family, destinations: &[&str]) -> bool {
        let destinations: Vec<IpAddr> = destinations.iter().map(|address| address.parse().unwrap()).collect();
        let (ruleset, backend) = (self.ruleset(family).unwrap(), &mut self.backend);
        self.namespace.enter(|| backend.sets_hold(&ruleset, &destinations)).unwrap()
    }

    pub fn counters(&mut self) -> Counters {
        let backend = &mut self.backend;
        self.namespace.enter(|| backend.counters(Family::V4)).unwrap()
    }

    fn program(&self, family: Family, suffix: &str) -> String {
        let name = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let infix = match self.variant {
            Variant::Nft => "nft",
            Variant::Legacy => "legacy",
        };
        format!("{name}-{infix}{suffix}")
    }

    /// The nat table as iptables-save lists it, without comments and counters.
    pub fn save(&self, family: Family) -> String {
        let listing = self.namespace.must(&self.program(family, "-save"), &["-t", "nat"]);
        listing.lines().filter(|line| !line.starts_with('#')).map(|line| uncounted(line) + "\n").collect()
    }

    /// The rules of POSTROUTING, as listed.
    pub fn postrouting(&self) -> Vec<String> {
        let listing = self.save(Family::V4);
        listing.lines().filter_map(|line| line.strip_prefix("-A POSTROUTING ")).map(str::to_owned).collect()
    }

    /// What somebody else does with `iptables -t nat`.
    pub fn iptables(&self, arguments: &str) {
        let arguments: Vec<&str> = ["-t", "nat"].into_iter().chain(arguments.split_whitespace()).collect();
        self.namespace.must(&self.program(Family::V4, ""), &arguments);
    }

    /// What somebody else does with `iptables-restore --noflush`.
    pub fn restore(&self, family: Family, lines: &str) {
        let output = self.try_restore(family, lines);
        assert!(output.status.success(), "{lines}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn try_restore(&self, family: Family, lines: &str) -> Output {
        let transaction = format!("*nat\n{lines}\nCOMMIT\n");
        self.namespace.run_with_input(&self.program(family, "-restore"), &["--noflush"], &transaction)
    }

    pub fn ipset(&self, arguments: &str) -> String {
        self.namespace.must("ipset", &arguments.split_whitespace().collect::<Vec<_>>())
    }

    /// The names of all sets.
    pub fn sets(&self) -> Vec<String> {
        self.ipset("list -n").lines().map(str::to_owned).collect()
    }

    /// A prefix list of so many networks, none touching another.
    pub fn exempt(&mut self, count: u32) {
        self.policy.exempt = PrefixSet::from_prefixes(networks(count), &Origin::Default);
    }
}

/// `:CHAIN POLICY [12:345]` without the numbers, which move by themselves.
fn uncounted(line: &str) -> String {
    match line.split_once(" [") {
        Some((chain, _)) if line.starts_with(':') => chain.to_owned(),
        _ => line.to_owned(),
    }
}

/// So many networks of IPv4, none touching another.
pub fn networks(count: u32) -> Vec<ip_masq_agent::policy::Prefix> {
    let network = |number: u32| std::net::Ipv4Addr::from((11 << 24) + (number << 9));
    (0..count).map(|number| format!("{}/24", network(number)).parse().unwrap()).collect()
}
