//! `render`: the rules of the configuration as text, from an empty kernel.

use super::{ConfigInForce, Context, eprint_line, print_diagnostics, print_text};
use crate::backend::iptables::Iptables;
use crate::backend::iptables::tools::{Tools, Variant};
use crate::backend::nftables::{self, fast_path};
use crate::backend::{Backend, BackendName};
use crate::config::{BackendChoice, Config};
use crate::policy::Family;
use crate::ruleset::{HostFacts, Ruleset};
use crate::service::{enforcer, view};
use crate::sys::child::Children;

/// Prints the rules of each family. Needs no privileges and asks no kernel.
pub fn run(context: &Context) -> u8 {
    match context.load_or_in_force() {
        Ok(ConfigInForce { config, .. }) => {
            let network = view::network_facts(&config.policy).unwrap_or_else(|why| {
                eprint_line(format_args!("{why}; no client counts as a neighbour of a target"));
                Default::default()
            });
            print_text(text(&config, &view::facts(network)))
        }
        Err(diagnostics) => print_diagnostics(&diagnostics),
    }
}

/// The rules of each family, behind a line that names it.
pub fn text(config: &Config, facts: &HostFacts) -> String {
    let backend = backend(config.settings.backend);
    Family::ALL
        .into_iter()
        .filter_map(|family| enforcer::desired(config, family, facts))
        .map(|ruleset| format!("# {}, {backend}\n{}", ruleset.family, rules(config, backend, &ruleset)))
        .chain(
            Some(fast_path::render(&config.policy))
                .filter(|text| !text.is_empty())
                .map(|text| format!("# fastPath\n{text}")),
        )
        .collect()
}

/// The backend whose words are used: as configured, and the words of iptables where that leaves it open.
fn backend(choice: BackendChoice) -> BackendName {
    match choice {
        BackendChoice::Nftables => BackendName::Nftables,
        BackendChoice::IptablesLegacy => BackendName::IptablesLegacy,
        BackendChoice::Auto | BackendChoice::Iptables | BackendChoice::IptablesNft => BackendName::IptablesNft,
    }
}

fn rules(config: &Config, backend: BackendName, ruleset: &Ruleset) -> String {
    let variant = match backend {
        BackendName::Nftables => return nftables::render(ruleset, config.settings.table_owner),
        BackendName::IptablesNft => Variant::Nft,
        BackendName::IptablesLegacy => Variant::Legacy,
    };
    Iptables::new(Children, Tools::assumed(variant), config.settings.masq_chain.clone()).render(ruleset)
}
