//! A datagram of the kernel, read as everything that we read from it.
#![no_main]

use ip_masq_agent::backend::nftables;
use ip_masq_agent::network::hook::{BaseChain, Packet, Rule, translations};
use ip_masq_agent::policy::Family;
use ip_masq_agent::service::instance;
use ip_masq_agent::sys::listing;
use ip_masq_agent::sys::nfnetlink::message::{Attributes, Messages};
use ip_masq_agent::sys::nfnetlink::{RuleEvent, ipset};
use ip_masq_agent::sys::{conntrack, rtnetlink};
use libfuzzer_sys::fuzz_target;

fn walk(attributes: Attributes<'_>, depth: u32) {
    for attribute in attributes.flatten() {
        let _ = (attribute.be32(), attribute.be64(), attribute.text());
        if depth > 0 {
            walk(attribute.nested(), depth - 1);
        }
    }
}

fuzz_target!(|datagram: &[u8]| {
    let _ = RuleEvent::of_datagram(datagram).count();
    let (mut chains, mut rules) = (Vec::new(), Vec::new());
    for message in Messages(datagram).flatten() {
        walk(message.attributes().unwrap_or(Attributes(&[])), 4);
        nftables::read_any(&message);
        ipset::read_any(&message);
        let _ = (rtnetlink::read_any(&message), conntrack::read_any(&message));
        chains.extend(listing::chain(&message));
        rules.extend(listing::rule(&message, &mut ()));
        instance::read_any(&message);
        let _ = listing::tracking::user(&message);
        let _ = (listing::set::header(&message), listing::set::elements(&message));
    }
    let rules: Vec<_> = rules.into_iter().map(|rule| Rule { text: rule.text, comment: rule.comment, is_ours: false }).collect();
    let chains: Vec<_> = chains
        .into_iter()
        .map(|chain| BaseChain { name: chain.name, is_nat: true, rules: rules.clone(), ..BaseChain::default() })
        .collect();
    let _ = translations(&chains.iter().collect::<Vec<_>>(), &Packet::any(Family::V4));
});
