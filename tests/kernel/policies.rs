//! Policies that tests of several backends begin with.

use ip_masq_agent::policy::{Origin, PRIVATE_RANGES, Policy, PrefixSet, WithOrigin};

pub fn prefixes(texts: &[&str]) -> PrefixSet {
    PrefixSet::from_prefixes(texts.iter().map(|text| text.parse().unwrap()), &Origin::Default)
}

/// What a host without a configuration gets.
pub fn default_policy() -> Policy {
    Policy {
        exempt: PrefixSet::from_prefixes(PRIVATE_RANGES, &Origin::Default),
        random_fully: true,
        ..Policy::default()
    }
}

/// The same, in both families.
pub fn default_policy_of_both() -> Policy {
    Policy { enable_ipv6: true, ..default_policy() }
}

/// A policy that uses every word of the configuration that is not about several uplinks.
pub fn full_policy() -> Policy {
    let pattern = |text: &str| WithOrigin { value: text.parse().unwrap(), origin: Origin::Default };
    Policy {
        out_interfaces: ["eth0", "ppp+", "!wg0", "!docker+"].map(pattern).into(),
        sources: prefixes(&["10.0.0.0/8", "192.168.0.0/24", "fd00::/8"]),
        excluded_sources: prefixes(&["10.9.0.0/16", "fd00:9::/32"]),
        exceptions: prefixes(&["10.1.2.0/24", "fd00:1::/32"]),
        exempt: prefixes(&["10.0.0.0/8", "192.0.2.0/24", "192.0.3.0/24", "fc00::/7", "2001:db8::1/128"]),
        to_ports: Some("1024-2047,4000,60000-65535".parse().unwrap()),
        ..default_policy_of_both()
    }
}
