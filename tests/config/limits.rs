//! Large is ordinary; absurd is refused before it costs much.

use super::{source, yaml};
use ip_masq_agent::config::{Flags, parse};
use ip_masq_agent::policy::Family;
use rustix::time::{ClockId, clock_gettime};
use std::fmt::Write;
use std::time::Duration;

/// The processor time that a debug build may take for something that must be quick; a release build takes a twentieth.
const QUICK: Duration = Duration::from_secs(3);

/// Processor time, since others may keep the machine busy.
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let start = now();
    let result = work();
    let taken = now() - start;
    assert!(taken < QUICK, "{what} took {taken:?}");
    result
}

fn refused(name: &str, text: &str) -> String {
    timed(name, || parse(&[source(name, text)], &Flags::default())).expect_err(name).to_string()
}

#[test]
fn a_hundred_thousand_cidrs_are_ordinary_in_every_language() {
    let cidr = |i: u32| format!("{}.{}.{}.0/24", 1 + (i >> 16), i >> 8 & 255, i & 255);
    let mut yaml = String::from("nonMasqueradeCIDRs:\n");
    let mut list = String::new();
    for i in 0..100_000 {
        writeln!(yaml, "  - {}", cidr(i)).unwrap();
        write!(list, "{}\"{}\"", if i == 0 { "" } else { ",\n" }, cidr(i)).unwrap();
    }
    let json = format!("{{\"nonMasqueradeCIDRs\": [\n{list}]}}");
    let toml = format!("nonMasqueradeCIDRs = [\n{list}]");
    for (name, text) in [("a.yaml", &yaml), ("a.json", &json), ("a.toml", &toml)] {
        let config = timed(name, || parse(&[source(name, text)], &Flags::default())).unwrap();
        let exempt = &config.policy.exempt;
        assert_eq!(exempt.entries().len(), 100_000);
        let last = exempt.entries()[99_999].origin.to_string();
        assert!(last.starts_with(&format!("{name}:{}:", 100_001)), "{last}");
        assert!(exempt.len(Family::V4) < 100, "{}", exempt.len(Family::V4));
    }
}

#[test]
fn entries_that_take_all_of_another_one_are_found_once_for_all_interfaces_that_they_do_not_tell_apart() {
    let cidrs =
        |number: u32| -> Vec<String> { (0..1000).map(|i| format!("{number}.{}.{}.0/25", i >> 8, i & 255)).collect() };
    let names: Vec<String> = (0..200).map(|number| format!("if{number}")).collect();
    let mut text = format!("egress:\n- {{sourceCIDRs: [192.0.2.0/24], outInterfaces: [{}]}}\n", names.join(", "));
    for number in (1..62).chain([61]) {
        writeln!(text, "- {{sourceCIDRs: [{}]}}", cidrs(number).join(", ")).unwrap();
    }
    let message = refused("a.yaml", &text);
    assert!(message.contains("egress[63]: can never match: all of its scope is taken by egress[62]"), "{message:.300}");
}

#[test]
fn ten_thousand_forwards_are_compared_in_no_time() {
    let parsed = |entry: &dyn Fn(u32) -> String| {
        let mut text = String::from("portForwards:\n");
        for i in 0..10_000 {
            writeln!(text, "- {{{}}}", entry(i)).unwrap();
        }
        timed("a.yaml", || parse(&[source("a.yaml", &text)], &Flags::default()))
    };
    let one_each = parsed(&|i| format!("hostPort: {}, address: 10.0.0.5, protocol: [tcp, udp]", 1000 + i)).unwrap();
    assert_eq!(one_each.policy.forwards.len(), 10_000);
    let all_equal = parsed(&|_| "hostPort: 80, address: 10.0.0.5".to_owned()).unwrap_err().to_string();
    assert!(all_equal.ends_with("… and 9949 more"), "{}", &all_equal[all_equal.len() - 100..]);
    let stairs = parsed(&|i| format!("hostPort: {}-{}, address: 10.0.0.5", 1 + i, 40_000 + i)).unwrap_err().to_string();
    assert!(stairs.ends_with("… and 9949 more"), "{}", &stairs[stairs.len() - 100..]);
    let gated = |i: u32| {
        format!(
            "hostPort: 80-90, address: 10.0.0.5, sourceCIDRs: [10.{}.{}.0/24], inInterfaces: [\"!wan0\"]",
            i >> 8,
            i & 255
        )
    };
    let one_port = parsed(&gated).unwrap_err().to_string();
    assert!(one_port.contains("more than 64 entries for tcp port 80 of every IPv4 address"), "{one_port}");
}

#[test]
fn every_port_may_become_another_one_and_ten_thousand_ranges_of_them_are_refused_in_no_time() {
    let whole = "hostPort: 1-65534, port: 2, protocol: [tcp, udp, sctp], address: 10.0.0.5";
    let one = format!("portForwards: [{{{whole}}}]");
    assert_eq!(parse(&[source("a.yaml", &one)], &Flags::default()).unwrap().policy.forwards.len(), 1);
    let mut many = String::from("portForwards:\n");
    for i in 0..10_000 {
        writeln!(many, "- {{{whole}, hostIP: 10.{}.{}.1}}", i >> 8, i & 255).unwrap();
    }
    let message = refused("a.yaml", &many);
    let too_many = "a.yaml:3:3: portForwards[2]: with this entry 393204 ports of ranges become other ports, ";
    assert!(message.starts_with(too_many), "{message:.300}");
    assert_eq!(message.lines().count(), 3, "{message:.300}");
}

#[test]
fn a_hundred_thousand_errors_are_counted_not_printed() {
    let text = format!("nonMasqueradeCIDRs: [{}]", vec!["10.0.0.1/8"; 100_000].join(", "));
    let message = refused("a.yaml", &text);
    assert!(message.ends_with("\n… and 99950 more"), "{}", &message[message.len() - 100..]);
    assert!(message.len() < 50_000, "{}", message.len());
}

#[test]
fn a_hundred_thousand_unknown_keys_are_not_all_compared_with_the_known_ones() {
    for (name, sign) in [("a.yaml", ": "), ("a.toml", " = ")] {
        let mut text = String::new();
        // The other way round than by name.
        for number in (100_000..200_000).rev() {
            writeln!(text, "k{number}{sign}1").unwrap();
        }
        let text = text.replacen("k199999", "onstop", 1).replacen("k199960", "backnd", 1);
        let message = refused(name, &text);
        assert!(message.contains("did you mean onStop?") && message.contains("did you mean backend?"), "{message}");
        assert!(message.ends_with("\n… and 99950 more"), "{}", &message[message.len() - 100..]);
    }
}

#[test]
fn aliases_are_refused_before_they_multiply() {
    let mut bomb = String::from("a0: &a0 [10.0.0.0/8]\n");
    for i in 1..60 {
        let name = format!("*a{}", i - 1);
        writeln!(bomb, "a{i}: &a{i} [{}]", vec![name; 9].join(", ")).unwrap();
    }
    bomb += "nonMasqueradeCIDRs: *a59\n";
    let message = refused("a.yaml", &bomb);
    assert!(message.contains("*a0 is a YAML alias, which is not allowed here"), "{message}");
}

#[test]
fn deep_nesting_is_refused_where_it_becomes_too_deep() {
    for opening in ["[", "{a: ", "- ", "? ", "[{a: "] {
        let message = refused("a.yaml", &opening.repeat(1_000_000));
        assert!(message.contains("nested deeper than 32 levels"), "{opening}: {message}");
    }
    let message = refused("a.json", &format!("{}1{}", "[".repeat(1_000_000), "]".repeat(1_000_000)));
    assert!(message.contains("nested deeper than 32 levels"), "{message}");
    for opening in ["[", "{a = ", "[{a = "] {
        let message = refused("a.toml", &format!("a = {}", opening.repeat(1_000_000)));
        assert!(message.contains("nested deeper than 32 levels"), "{opening}: {message}");
    }
}

/// What takes the square of its length takes seconds here in a debug build, and else some milliseconds.
#[test]
fn nothing_takes_the_square_of_its_length() {
    let pieces = [
        "[",
        "]",
        "{",
        "}",
        ",",
        ": ",
        "- ",
        "? ",
        "# x\n",
        "&a ",
        "*a ",
        "!a ",
        "'",
        "\"",
        "\\",
        "|\n",
        "---\n",
        "\t",
        "\r",
        "a, ",
        "a: ",
        "=",
        "a=1\n",
        "a.",
        "[a]\n",
        "[[a]]\n",
        "\"\"",
        "{},",
        "é",
        "a b\n ",
        "\"a\": 1,\n",
    ];
    let frames = [
        ("a.yaml", "nonMasqueradeCIDRs: ["),
        ("a.json", "{\"nonMasqueradeCIDRs\": ["),
        ("a.toml", "nonMasqueradeCIDRs = ["),
        ("a.yaml", ""),
        ("a.toml", ""),
    ];
    for (name, frame) in frames {
        for piece in pieces {
            let text = format!("{frame}{}", piece.repeat((1 << 16) / piece.len()));
            let what = format!("{name} {frame:?} {piece:?}");
            let _ = timed(&what, || parse(&[source(name, &text)], &Flags::default()));
        }
    }
}

#[test]
fn of_a_large_broken_file_the_first_error_will_do() {
    let message = refused("a.toml", &"masqLinkLocal\n".repeat(100_000));
    assert!(message.starts_with("a.toml:1:"), "{message}");
    assert_eq!(message.lines().count(), 3, "{message}");
    let twice = format!("masqLinkLocal = true\n#{}\nmasqLinkLocal = true\n", "x".repeat(1 << 20));
    assert!(refused("a.toml", &twice).starts_with("a.toml:3:1: masqLinkLocal: written twice"));
}

/// YAML 1.2.2, section 7.4.2. The parser keeps in memory whatever it reads until it knows that it is no key.
#[test]
fn a_key_of_more_than_1024_characters_is_refused_where_it_begins() {
    let long = "k".repeat(1025);
    let cases = [
        ("a.yaml", format!("{long}: 1"), "1:1"),
        ("a.yaml", format!("masqLinkLocal: true\n{long}: 1"), "2:1"),
        ("a.yaml", format!("{{masqLinkLocal: true, {long}: 1}}"), "1:23"),
        ("a.yaml", format!("nonMasqueradeCIDRs: [{long}: 1]"), "1:22"),
        ("a.json", format!("{{\"masqLinkLocal\": true, \"{long}\": 1}}"), "1:25"),
    ];
    for (name, text, place) in cases {
        let message = refused(name, &text);
        assert!(message.starts_with(&format!("{name}:{place}: a key of more than 1024 characters")), "{message}");
        let shorter = refused(name, &text.replace(&long, &long[..1022]));
        assert!(!shorter.contains("characters"), "{shorter}");
    }
}

#[test]
fn a_long_text_is_not_repeated_in_what_is_said_about_it() {
    let long = "1".repeat(100_000);
    let key = "k".repeat(100_000);
    let cases = [
        format!("masqLinkLocal: true\n? {key}\n: 1\n"),
        format!("resyncInterval: {long}"),
        format!("resyncInterval: 1{key}"),
        format!("resyncInterval: '{long}'"),
        format!("cidrLimit: {long}.5"),
        format!("toPorts: {key}"),
        format!("toPorts: {long}"),
        format!("masqChain: {key}"),
        format!("masqChain: {long}"),
        format!("backend: {key}"),
        format!("enableIPv6: {long}"),
        format!("outInterfaces: [{key}, {long}, '{key}*']"),
        format!("nonMasqueradeCIDRs: [{key}, 10.0.0.0/{long}, '{long},{long}', '10.0.0.0/8 {long}']"),
        format!("nonMasqueradeCIDRs: '{}'", "a,".repeat(100_000)),
        format!("sourceCIDRs: !{key} a"),
        format!("sourceCIDRs: *{key}"),
    ];
    for text in cases {
        let message = refused("a.yaml", &text);
        assert!(message.len() < 4000, "{} bytes: {}", message.len(), &message[..1000]);
    }
}

#[test]
fn a_file_of_nothing_but_directives_is_refused() {
    let message = refused("a.yaml", &format!("masqLinkLocal: true\n...\n{}", "%TAG !a! b\n".repeat(17)));
    assert!(message.starts_with("a.yaml:19:1: more than 16 YAML directives"), "{message}");
    assert!(yaml("%YAML 1.2\n---\nmasqLinkLocal: true\n").is_ok());
}
