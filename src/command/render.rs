//! `render`: the rules of the configuration as text, from an empty kernel.

use super::{Context, exit, refuse};
use crate::backend::iptables::Iptables;
use crate::backend::iptables::tools::{Tools, Variant};
use crate::backend::nftables::render::render as render_nftables;
use crate::backend::{Backend, BackendName};
use crate::config::{BackendChoice, Config};
use crate::host::child::Children;
use crate::host::view;
use crate::policy::Family;
use crate::ruleset::Ruleset;

/// Prints the rules of each family. Needs no privileges and asks no kernel.
pub fn run(context: &Context) -> u8 {
    let (config, _) = match context.load() {
        Ok(loaded) => loaded,
        Err(diagnostics) => return refuse(&diagnostics),
    };
    for family in [Family::V4, Family::V6] {
        if let Some(ruleset) = Ruleset::new(&config.policy, family, config.settings.jump_position, view::facts()) {
            println!("# {family}, {}", backend(&config));
            print!("{}", text(&config, &ruleset));
        }
    }
    exit::OK
}

/// The backend whose words are used: as configured, and the words of iptables where that leaves it open.
fn backend(config: &Config) -> BackendName {
    match config.settings.backend {
        BackendChoice::Nftables => BackendName::Nftables,
        BackendChoice::IptablesLegacy => BackendName::IptablesLegacy,
        BackendChoice::Auto | BackendChoice::Iptables | BackendChoice::IptablesNft => BackendName::IptablesNft,
    }
}

fn text(config: &Config, ruleset: &Ruleset) -> String {
    let variant = match backend(config) {
        BackendName::Nftables => return render_nftables(ruleset),
        BackendName::IptablesNft => Variant::Nft,
        BackendName::IptablesLegacy => Variant::Legacy,
    };
    Iptables::new(Children, Tools::assumed(variant), config.settings.masq_chain.clone()).render(ruleset)
}
