//! Several files and the flags become one configuration.

use super::{flags, shown, source, yaml};
use ip_masq_agent::config::{BackendChoice, Config, Diagnostics, Flags, Key, OnStop, parse};
use ip_masq_agent::policy::Origin;
use std::time::Duration;

#[test]
fn lists_are_joined_and_the_later_scalar_wins() {
    let files = [
        source(
            "config.yaml",
            "nonMasqueradeCIDRs: [10.0.0.0/8]\noutInterfaces: [eth0]\nbackend: nftables\nonStop: keep\n",
        ),
        source("10.toml", "nonMasqueradeCIDRs = ['172.16.0.0/12']\nbackend = 'iptables'\n"),
        source(
            "20.json",
            r#"{"nonMasqueradeCIDRs": ["10.0.0.0/8"], "outInterfaces": ["eth1"], "resyncInterval": "2m"}"#,
        ),
    ];
    let config = parse(&files, &Flags::default()).unwrap();
    assert_eq!(shown(&config.policy.exempt), ["10.0.0.0/8", "172.16.0.0/12", "10.0.0.0/8"]);
    let interfaces: Vec<String> = config.policy.out_interfaces.iter().map(|entry| entry.value.to_string()).collect();
    assert_eq!(interfaces, ["eth0", "eth1"]);
    assert_eq!(config.settings.backend, BackendChoice::Iptables);
    assert_eq!(config.settings.on_stop, OnStop::Keep);
    assert_eq!(config.settings.resync_interval, Duration::from_secs(120));
}

#[test]
fn every_entry_remembers_its_place() {
    let files = [
        source("/etc/x/config.yaml", "nonMasqueradeCIDRs:\n  # lan\n  - 10.0.0.0/8\n\n  - 172.16.0.0/12\n"),
        source("/etc/x/config.d/a.toml", "outInterfaces = [\n  'eth0',\n]\n"),
        source("/etc/x/config.d/b.json", "{\n  \"sourceCIDRs\": [\n    \"192.168.0.0/16\"]}"),
    ];
    let config = parse(&files, &flags(&[(key("excludeSourceCIDRs"), "192.168.1.1/32")])).unwrap();
    let exempt: Vec<String> = config.policy.exempt.entries().iter().map(|entry| entry.origin.to_string()).collect();
    assert_eq!(exempt, ["/etc/x/config.yaml:3:5", "/etc/x/config.yaml:5:5"]);
    assert_eq!(config.policy.out_interfaces[0].origin.to_string(), "/etc/x/config.d/a.toml:2:3");
    assert_eq!(config.policy.sources.entries()[0].origin.to_string(), "/etc/x/config.d/b.json:3:5");
    assert_eq!(config.policy.excluded_sources.entries()[0].origin, Origin::Flag("exclude-source-cidrs"));
}

#[test]
fn the_first_list_replaces_the_default_list() {
    let default = yaml("masqLinkLocal: true").unwrap();
    assert_eq!(default.policy.exempt.entries().len(), 3);
    assert_eq!(default.policy.exempt.entries()[0].origin, Origin::Default);
    let reserved = yaml("nomasqAllReservedRanges: true").unwrap();
    assert_eq!(reserved.policy.exempt.entries().len(), 11);
    let own = yaml("nomasqAllReservedRanges: true\nnonMasqueradeCIDRs: [10.0.0.0/8]").unwrap();
    assert_eq!(shown(&own.policy.exempt), ["10.0.0.0/8"]);
    let none = yaml("nonMasqueradeCIDRs: []").unwrap();
    assert!(none.policy.exempt.is_empty());
}

#[test]
fn flags_beat_files_and_their_lists_replace() {
    let file = [source(
        "config.yaml",
        "nonMasqueradeCIDRs: [10.0.0.0/8]\nmasqLinkLocal: true\nbackend: nftables\nsourceCIDRs: [192.168.0.0/16]\n",
    )];
    let mut given = flags(&[
        (key("nonMasqueradeCIDRs"), "172.16.0.0/12,192.168.0.0/16"),
        (key("masqLinkLocal"), "false"),
        (key("backend"), "iptables-nft"),
        (key("sourceCIDRs"), ""),
        (key("resyncInterval"), "90s"),
        (key("cidrLimit"), "3"),
    ]);
    given.add(key("nonMasqueradeCIDRs"), ["100.64.0.0/10".to_owned()]);
    let config = parse(&file, &given).unwrap();
    assert_eq!(shown(&config.policy.exempt), ["172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]);
    assert!(!config.policy.masq_link_local);
    assert_eq!(config.settings.backend, BackendChoice::IptablesNft);
    assert!(config.policy.sources.is_empty());
    assert_eq!(config.settings.resync_interval, Duration::from_secs(90));
}

#[test]
fn a_flag_can_enable_what_a_file_needs() {
    let file = [source("config.yaml", "nonMasqueradeCIDRs: [fd00::/8]")];
    assert!(parse(&file, &Flags::default()).is_err());
    assert!(parse(&file, &flags(&[(key("enableIPv6"), "true")])).is_ok());
    let file = [source("config.yaml", "enableIPv6: true\nnonMasqueradeCIDRs: [fd00::/8]")];
    assert!(parse(&file, &flags(&[(key("enableIPv6"), "false")])).is_err());
    // A list that a flag replaces needs nothing any more.
    assert!(parse(&file, &flags(&[(key("enableIPv6"), "false"), (key("nonMasqueradeCIDRs"), "10.0.0.0/8")])).is_ok());
}

#[test]
fn the_limit_counts_what_is_written_and_never_the_default_list() {
    assert!(yaml("cidrLimit: 0").is_ok());
    assert!(yaml("cidrLimit: 0\nnomasqAllReservedRanges: true").is_ok());
    assert!(yaml("cidrLimit: 2\nenableIPv6: true\nnonMasqueradeCIDRs: [10.0.0.0/8, fd00::/8]").is_ok());
    assert!(yaml("cidrLimit: 2\nnonMasqueradeCIDRs: [10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8]").is_err());
    assert!(yaml("cidrLimit: 1\nmasqueradeExceptionCIDRs: [10.1.0.0/16, 10.2.0.0/16]").is_ok());
    let entry = "egress: [{outInterfaces: [a0], nonMasqueradeCIDRs: [10.1.0.0/16, 10.2.0.0/16]}]";
    assert!(yaml(&format!("cidrLimit: 2\n{entry}")).is_ok());
    assert!(yaml(&format!("cidrLimit: 2\n{entry}\nnonMasqueradeCIDRs: [10.0.0.0/8]")).is_err());
    let files = [
        source("a.yaml", "cidrLimit: 1\nnonMasqueradeCIDRs: [10.0.0.0/8]"),
        source("b.yaml", "nonMasqueradeCIDRs: [172.16.0.0/12]"),
    ];
    let error = parse(&files, &Flags::default()).unwrap_err().to_string();
    assert!(error.starts_with("a.yaml:1:12: cidrLimit: nonMasqueradeCIDRs has 2 CIDRs"), "{error}");
    assert!(parse(&files, &flags(&[(key("cidrLimit"), "2")])).is_ok());
}

fn key(name: &str) -> Key {
    Key::named(name).unwrap()
}

/// Files in their order, named by their numbers.
fn files(texts: &[&str]) -> Result<Config, Diagnostics> {
    let sources: Vec<_> = (0..).zip(texts).map(|(number, text)| source(&format!("{number}.yaml"), text)).collect();
    parse(&sources, &Flags::default())
}

#[test]
fn extra_ranges_join_the_list_that_is_there_or_the_built_in_one() {
    let built_in = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];
    let exempt = |texts: &[&str]| shown(&files(texts).unwrap().policy.exempt);
    assert_eq!(exempt(&["", "extraNonMasqueradeCIDRs: [100.64.0.0/10]"]), built_in);
    let both = ["nonMasqueradeCIDRs: [10.1.0.0/16]", "extraNonMasqueradeCIDRs: [100.64.0.0/10]"];
    assert_eq!(exempt(&both), ["10.1.0.0/16", "100.64.0.0/10"]);
    assert_eq!(exempt(&["nonMasqueradeCIDRs: []", both[1]]), ["100.64.0.0/10"]);
    assert_eq!(exempt(&["nomasqAllReservedRanges: true", both[1]]).len(), 12);
    let limited = "cidrLimit: 1\nnonMasqueradeCIDRs: [10.1.0.0/16]\nextraNonMasqueradeCIDRs: [100.64.0.0/10]";
    assert!(files(&[limited]).is_err());
}

#[test]
fn a_later_file_whose_list_leaves_built_in_ranges_out_is_known_with_its_place() {
    let replaced = |texts: &[&str]| {
        let replaced = files(texts).unwrap().replaced_ranges;
        replaced
            .map(|ranges| (ranges.origin.to_string(), ranges.value.iter().map(ToString::to_string).collect::<Vec<_>>()))
    };
    let vpn = "nonMasqueradeCIDRs: [100.64.0.0/10, 10.0.0.0/8]";
    let left_out = vec!["172.16.0.0/12".to_owned(), "192.168.0.0/16".to_owned()];
    assert_eq!(replaced(&["", vpn]), Some(("1.yaml:1:21".to_owned(), left_out)));
    let alone = [source("/etc/ip-masq-agent/config.d/vpn.yaml", vpn)];
    let replaced_alone = parse(&alone, &Flags::default()).unwrap().replaced_ranges.unwrap();
    assert_eq!(replaced_alone.origin.to_string(), "/etc/ip-masq-agent/config.d/vpn.yaml:1:21");
    // It is the administrator's own list there, and joined or repeated here.
    for texts in [
        &[vpn][..],
        &["nonMasqueradeCIDRs: [192.0.2.0/24]", vpn],
        &["", &format!("{vpn}\nextraNonMasqueradeCIDRs: [172.16.0.0/12, 192.168.0.0/16]")],
    ] {
        assert_eq!(replaced(texts), None, "{texts:?}");
    }
}
