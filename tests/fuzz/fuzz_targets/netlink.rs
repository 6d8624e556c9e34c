//! A datagram of the kernel, read as everything that we read from it.
#![no_main]

use ip_masq_agent::backend::nftables;
use ip_masq_agent::service::foreign_nat;
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
        let _ = listing::tracking::user(&message);
        let _ = (listing::set::header(&message), listing::set::elements(&message));
    }
    let _ = foreign_nat::around_ours(chains.into_iter().map(|chain| (chain, rules.clone())).collect());
});
