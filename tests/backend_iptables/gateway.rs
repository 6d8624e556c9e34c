//! A namespace with an iptables backend of one variant and a policy.

use crate::lab::Namespace;
use ip_masq_agent::backend::iptables::Iptables;
use ip_masq_agent::backend::iptables::tools::{Tools, Variant};
use ip_masq_agent::backend::{Backend, Plan};
use ip_masq_agent::host::child::Children;
use ip_masq_agent::policy::{Family, Origin, PRIVATE_RANGES, Policy, PrefixSet};
use ip_masq_agent::ruleset::{ChainName, HostFacts, JumpPosition, Ruleset};

/// Makes a test of each variant from one body; the body's module is the variant's name.
macro_rules! both_variants {
    ($(fn $name:ident($host:ident: Gateway) $body:block)*) => {
        $(mod $name {
            #[allow(unused_imports, reason = "what the bodies need together")]
            use super::*;
            fn body($host: Gateway) $body
            #[test]
            fn nft() {
                $crate::gateway::with(ip_masq_agent::backend::iptables::tools::Variant::Nft, body);
            }
            #[test]
            fn legacy() {
                $crate::gateway::with(ip_masq_agent::backend::iptables::tools::Variant::Legacy, body);
            }
        })*
    };
}
pub(crate) use both_variants;

/// Runs a test's body on a gateway of its own.
pub fn with(variant: Variant, body: fn(Gateway)) {
    if crate::lab::possible() {
        body(Gateway::new(variant));
    }
}

/// The namespace and what a service in it would hold.
pub struct Gateway {
    pub namespace: Namespace,
    pub variant: Variant,
    pub policy: Policy,
    pub position: JumpPosition,
    pub facts: HostFacts,
    pub backend: Iptables<Children>,
}

impl Gateway {
    pub fn new(variant: Variant) -> Self {
        let tools = Tools::probe(&mut Children, variant).unwrap();
        Gateway {
            namespace: Namespace::new("gateway").unwrap(),
            variant,
            policy: default_policy(),
            position: JumpPosition::Last,
            facts: HostFacts::default(),
            backend: Iptables::new(Children, tools, ChainName::default()),
        }
    }

    pub fn ruleset(&self, family: Family) -> Option<Ruleset> {
        Ruleset::new(&self.policy, family, self.position, self.facts)
    }

    pub fn plan(&mut self, family: Family) -> Plan {
        let desired = self.ruleset(family);
        let backend = &mut self.backend;
        self.namespace.enter(|| backend.plan(family, desired.as_ref())).unwrap()
    }

    /// Plans and commits IPv4, as a service does; returns what was committed.
    pub fn apply(&mut self) -> Plan {
        let plan = self.plan(Family::V4);
        let backend = &mut self.backend;
        self.namespace.enter(|| backend.commit(&plan)).unwrap();
        plan
    }
}

/// What a host without a configuration gets.
pub fn default_policy() -> Policy {
    Policy {
        exempt: PrefixSet::from_prefixes(PRIVATE_RANGES, &Origin::Default),
        random_fully: true,
        ..Policy::default()
    }
}
