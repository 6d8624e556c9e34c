//! A namespace with one backend in it and a policy.

use crate::lab::{self, Namespace};
use crate::policies::default_policy_of_both;
use crate::written::write;
use ip_masq_agent::backend::iptables::Iptables;
use ip_masq_agent::backend::iptables::tools::{Tools, Variant};
use ip_masq_agent::backend::nftables::Nftables;
use ip_masq_agent::backend::{Backend, BackendName, Error, Fingerprint, Plan};
use ip_masq_agent::config::{self, Flags, SourceText, TableOwner};
use ip_masq_agent::policy::{Family, Origin, Policy, Prefix, PrefixSet};
use ip_masq_agent::ruleset::{ChainName, HostFacts, JumpPosition, Ruleset};
use ip_masq_agent::sys::child::Children;
use std::path::Path;

/// Makes a test of each backend from one body; the body's module is the test's name.
macro_rules! every_backend {
    ($($(#[$documentation:meta])* fn $name:ident($host:ident: Host) $body:block)*) => {
        $($(#[$documentation])* mod $name {
            #[allow(unused_imports, reason = "what the bodies need together")]
            use super::*;
            #[allow(unused_mut, reason = "some bodies only look")]
            fn body(mut $host: $crate::contract::host::Host) $body
            #[test]
            fn iptables_nft() {
                $crate::contract::host::with(ip_masq_agent::backend::BackendName::IptablesNft, body);
            }
            #[test]
            fn iptables_legacy() {
                $crate::contract::host::with(ip_masq_agent::backend::BackendName::IptablesLegacy, body);
            }
            #[test]
            fn nftables() {
                $crate::contract::host::with(ip_masq_agent::backend::BackendName::Nftables, body);
            }
        })*
    };
}
pub(crate) use every_backend;

/// Runs a test's body on a host of its own.
pub fn with(name: BackendName, body: fn(Host)) {
    if lab::possible() {
        body(Host::new(name));
    }
}

/// The namespace, and what a service in it would hold.
pub struct Host {
    pub namespace: Namespace,
    pub name: BackendName,
    pub policy: Policy,
    pub position: JumpPosition,
    pub facts: HostFacts,
    backend: Box<dyn Backend + Send>,
}

impl Host {
    pub fn new(name: BackendName) -> Self {
        let namespace = Namespace::new("host").unwrap();
        let backend = namespace.enter(|| backend_here(name));
        let (position, facts) = (JumpPosition::Last, HostFacts::default());
        Host { namespace, name, policy: default_policy_of_both(), position, facts, backend }
    }

    /// A new service, that remembers nothing.
    pub fn restart(&mut self) {
        let name = self.name;
        self.backend = self.namespace.enter(|| backend_here(name));
    }

    /// Does something with the backend where it lives.
    pub fn ask<T: Send>(&mut self, what: impl FnOnce(&mut dyn Backend) -> T + Send) -> T {
        let backend = &mut self.backend;
        self.namespace.enter(|| what(backend.as_mut()))
    }

    pub fn desired(&self, family: Family) -> Option<Ruleset> {
        Ruleset::new(&self.policy, family, self.position, &self.facts)
    }

    pub fn plan(&mut self, family: Family) -> Result<Plan, Error> {
        let desired = self.desired(family);
        self.ask(|backend| backend.plan(family, desired.as_ref()))
    }

    pub fn commit(&mut self, plan: Plan) -> Result<(), Error> {
        self.ask(|backend| backend.commit(plan))
    }

    /// Plans and commits one family, as a service does; afterwards nothing differs. Returns what did.
    pub fn apply(&mut self, family: Family) -> Vec<String> {
        let desired = self.desired(family);
        self.make(family, desired)
    }

    pub fn apply_all(&mut self) -> Vec<String> {
        Family::ALL.into_iter().flat_map(|family| self.apply(family)).collect()
    }

    /// Takes everything of ours out of a family; returns what went.
    pub fn flush(&mut self, family: Family) -> Vec<String> {
        self.make(family, None)
    }

    pub fn flush_all(&mut self) -> Vec<String> {
        Family::ALL.into_iter().flat_map(|family| self.flush(family)).collect()
    }

    fn make(&mut self, family: Family, desired: Option<Ruleset>) -> Vec<String> {
        self.ask(|backend| write(backend, family, desired.as_ref()).drift)
    }

    /// Everything that moves when rules of ours move.
    pub fn fingerprints(&mut self) -> [Fingerprint; 3] {
        let read = |backend: &mut dyn Backend| {
            [backend.own_fingerprint(), backend.content_fingerprint(), backend.member_fingerprint()].map(Result::unwrap)
        };
        self.ask(read)
    }

    /// What the host's own tools list of all rules and sets, without counters.
    pub fn listing(&self) -> String {
        let infix = match self.name {
            BackendName::Nftables => return self.namespace.must("nft", &["--stateless", "list", "ruleset"]),
            BackendName::IptablesNft => "nft",
            BackendName::IptablesLegacy => "legacy",
        };
        let save = |program| self.namespace.must(&format!("{program}-{infix}-save"), &["-t", "nat"]);
        let rules = [save("iptables"), save("ip6tables")].concat();
        let uncounted = |line: &str| line.split(" [").next().unwrap_or_default().to_owned() + "\n";
        let rules: String = rules.lines().filter(|line| !line.starts_with('#')).map(uncounted).collect();
        rules + &self.namespace.must("ipset", &["list", "-n"])
    }

    /// What somebody else does with `nft -f` or `iptables-restore --noflush`.
    pub fn load(&self, script: &str) {
        let (program, arguments, script) = match self.name {
            BackendName::Nftables => ("nft", ["-f", "-"].as_slice(), format!("{script}\n")),
            BackendName::IptablesNft => ("iptables-nft-restore", ["--noflush"].as_slice(), nat(script)),
            BackendName::IptablesLegacy => ("iptables-legacy-restore", ["--noflush"].as_slice(), nat(script)),
        };
        let output = self.namespace.run_with_input(program, arguments, &script);
        assert!(output.status.success(), "{script}: {}", lab::text(&output.stderr));
    }

    /// The rules of a family as [`Backend::render`] says them.
    pub fn render(&self, family: Family) -> String {
        self.desired(family).map(|desired| self.backend.render(&desired)).unwrap_or_default()
    }

    /// Loads that text with the host's own tools.
    pub fn load_text(&self, family: Family) {
        let text = self.render(family);
        let program = match (self.name, family) {
            (BackendName::Nftables, _) => return self.load(&text),
            (BackendName::IptablesNft, Family::V4) => "iptables-nft-restore",
            (BackendName::IptablesNft, Family::V6) => "ip6tables-nft-restore",
            (BackendName::IptablesLegacy, Family::V4) => "iptables-legacy-restore",
            (BackendName::IptablesLegacy, Family::V6) => "ip6tables-legacy-restore",
        };
        let output = self.namespace.run_with_input(program, &["--noflush"], &text);
        assert!(output.status.success(), "{text}: {}", lab::text(&output.stderr));
    }

    /// One of two scripts, by what the backend is loaded with.
    pub fn either<T>(&self, iptables: T, nft: T) -> T {
        if self.name == BackendName::Nftables { nft } else { iptables }
    }

    /// A prefix list of so many networks of each family, none touching another.
    pub fn exempt(&mut self, count: u16) {
        let networks = |number: u16| [format!("11.{}.0/24", pair(number)), format!("2001:db8:{:x}::/48", number * 2)];
        let prefixes = (0..count).flat_map(networks).map(|text| text.parse::<Prefix>().unwrap());
        self.policy.exempt = PrefixSet::from_prefixes(prefixes, &Origin::Default);
    }
}

fn pair(number: u16) -> String {
    let [high, low] = (number * 2).to_be_bytes();
    format!("{high}.{low}")
}

fn nat(script: &str) -> String {
    format!("*nat\n{script}\nCOMMIT\n")
}

/// A backend for the namespace of the calling thread.
pub fn backend_here(name: BackendName) -> Box<dyn Backend + Send> {
    let iptables =
        |variant| Iptables::new(Children, Tools::probe(&mut Children, variant).unwrap(), ChainName::default());
    match name {
        BackendName::Nftables => Box::new(Nftables::new(TableOwner::Never).unwrap()),
        BackendName::IptablesNft => Box::new(iptables(Variant::Nft)),
        BackendName::IptablesLegacy => Box::new(iptables(Variant::Legacy)),
    }
}

/// A policy that uses every word that is about several uplinks.
pub fn gateway_policy() -> Policy {
    let text = "enableIPv6: true
exemptMarks: [0x100/0xff00, 1]
exemptIpsec: true
evaluation: longest-prefix
snat: [203.0.113.1, '2001:db8::1-2001:db8::7']
nonMasqueradeCIDRs: [10.0.0.0/8, 'fd00::/8']
masqueradeExceptionCIDRs: [10.1.0.0/16, 169.254.7.0/24, 'fd00:1::/32', 'fe80::/64']
egress:
- {outInterfaces: [wan0], sourceCIDRs: [10.7.0.0/24, 'fd00:7::/64'], snat: 203.0.113.9-203.0.113.12, toPorts: '1024-2047,4000'}
- {outInterfaces: ['ppp+', '!ppp0'], randomFully: false, nonMasqueradeCIDRs: []}
- {excludeSourceCIDRs: [10.9.0.0/16], snat: ['2001:db8::9', 203.0.113.17-203.0.113.19], toPorts: '1024-2047', randomFully: false}
- {sourceCIDRs: [10.9.1.0/24], snat: none}
- {sourceCIDRs: [10.9.2.0/24, 'fd00:9::/64'], snat: route-source, toPorts: '1024-2047,4000'}
";
    let source = SourceText { path: Path::new("gateway.yaml").into(), text: text.to_owned() };
    config::parse(&[source], &Flags::default()).unwrap_or_else(|error| panic!("{error}")).policy
}
