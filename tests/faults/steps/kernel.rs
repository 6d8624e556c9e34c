//! What the kernel, asked over netlink, does to those who ask: it refuses, it loses what it has to tell, it is busy for
//! others. The tools of iptables that hang and lie have their counterpart here.

use super::breaks::{self, TABLE};
use super::pass;
use crate::background::Worker;
use crate::config::{Config, Ladder};
use crate::finding::Finding;
use crate::gateway::CampaignGateway;
use crate::lab::Namespace;
use crate::promise;
use crate::random::Random;
use crate::report::say;
use crate::stream::Excused;
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Done = Result<Duration, Finding>;

/// The protocol of /proc/net/netlink that nf_tables speaks (NETLINK_NETFILTER).
const NETFILTER: &str = "12";
/// How long a socket may take to run over.
const LONGEST_FLOOD: Duration = Duration::from_secs(20);

/// A table of our name and comment belongs to another program, and the kernel refuses everything else; half of the time
/// there is something to be done. When that program ends its table goes.
pub fn owned_by_another(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.need_short_resync()?;
    gateway.excuse("the table is another program's", Excused::Anything);
    let start =
        || Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut nft = gateway.lab.gateway.enter(start).expect("nft -i");
    let mut input = nft.stdin.take().expect("standard input is piped");
    let flags = "{ comment \"managed by ip-masq-agent\"; flags owner; }";
    // Where it is owned by the service the first of these is refused, and the rest with it.
    let taken = writeln!(input, "delete table {TABLE}; add table {TABLE} {flags}");
    pass(Duration::from_millis(200 + random.below(2000)));
    if random.once_in(2) {
        let mut config = Config::draw(random, gateway.config.backend);
        config.resync = 1;
        let text = gateway.expect("an edit while the kernel refuses", config).yaml();
        gateway.write(&text);
        gateway.reload();
    }
    pass(Duration::from_millis(random.below(1000)));
    drop(input);
    let ended = nft.wait();
    assert!(taken.is_ok() && ended.is_ok(), "nft -i: {taken:?}, {ended:?}");
    Ok(promise::after_tools(gateway))
}

/// So much is committed while the service can't listen that its socket runs over; in between the rules are deleted.
pub fn events_are_lost(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.may("events that are lost", &[]);
    let listens = has_listener(&gateway.lab.gateway);
    gateway.life().signal(Signal::STOP);
    let before = lost(&gateway.lab.gateway);
    let promise = breaks::delete_ours(gateway, random)?;
    let commits = Worker::commits(&gateway.lab.gateway, 1000.0);
    let begun = Instant::now();
    while listens && lost(&gateway.lab.gateway) == before && begun.elapsed() < LONGEST_FLOOD {
        pass(Duration::from_millis(20));
    }
    if listens && lost(&gateway.lab.gateway) == before {
        say(&format!("no event was lost within {LONGEST_FLOOD:?}: on a machine that is busy too little is committed"));
    }
    drop(commits);
    let life = gateway.life();
    life.excuse_silence();
    life.signal(Signal::CONT);
    Ok(promise)
}

/// A program in another network namespace commits as fast as it can, and one there listens to all of it, while a long list
/// goes into the kernel.
pub fn flood_elsewhere(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let node = Namespace::new("elsewhere").expect("a namespace");
    let listen = || Command::new("nft").arg("monitor").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let mut listener = node.enter(listen).expect("nft monitor");
    let flood = Worker::commits(&node, 1000.0);
    let mut config = Config::draw(random, gateway.config.backend);
    config.ladder = Ladder { from: random.below(8) as u32, count: random.pick(&[5_000, 20_000]) };
    let text = gateway.expect("a long list while others commit elsewhere", config).yaml();
    gateway.write(&text);
    let reloaded = gateway.must_reload();
    drop(flood);
    let ended = listener.kill().and_then(|()| listener.wait());
    assert!(ended.is_ok(), "nft monitor: {ended:?}");
    reloaded?;
    Ok(promise::EDIT)
}

fn has_listener(node: &Namespace) -> bool {
    netlink(node).iter().any(|(groups, _)| *groups != 0)
}

/// How many messages the kernel could not deliver to sockets for netfilter.
fn lost(node: &Namespace) -> u64 {
    netlink(node).iter().map(|(_, lost)| lost).sum()
}

/// Groups and losses of each such socket in a network namespace.
fn netlink(node: &Namespace) -> Vec<(u64, u64)> {
    let text = node.enter(|| fs::read_to_string("/proc/thread-self/net/netlink")).expect("/proc/net/netlink");
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let of_netfilter = rows.filter(|row| row.get(1) == Some(&NETFILTER));
    let numbers = |row: Vec<&str>| Some((u64::from_str_radix(row.get(3)?, 16).ok()?, row.get(8)?.parse().ok()?));
    of_netfilter.filter_map(numbers).collect()
}
