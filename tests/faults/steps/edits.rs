//! Edits of the configuration, and reloads.

use super::pass;
use crate::config::{Config, Ladder};
use crate::finding::{Finding, finding};
use crate::forwards::Forward;
use crate::gateway::CampaignGateway;
use crate::promise;
use crate::random::Random;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

type Done = Result<Duration, Finding>;

/// A new configuration that is expected from now on, and its text.
fn draw(gateway: &mut CampaignGateway<'_>, random: &mut Random, why: &str) -> String {
    let config = Config::draw(random, gateway.config.backend);
    gateway.expect(why, config).yaml()
}

/// Written over what was there, in one go.
pub fn in_place(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let text = draw(gateway, random, "an edit in place");
    gateway.write(&text);
    Ok(promise::EDIT)
}

/// A new file takes the name of the old one, as editors and configuration managers do it.
pub fn by_rename(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let text = draw(gateway, random, "an edit by rename");
    gateway.replace(&text);
    Ok(promise::EDIT)
}

/// The name becomes a link to a file of a new directory.
pub fn by_link(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let text = draw(gateway, random, "an edit by link");
    gateway.link(random, &text);
    Ok(promise::EDIT)
}

/// What the configuration is a link to is edited: nobody watches there, the resync reads it.
pub fn behind_link(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.need_short_resync()?;
    let text = gateway.config.yaml();
    let file = gateway.link(random, &text);
    gateway.files_good = true;
    gateway.settle(promise::EDIT)?;
    let resync = gateway.config.resync;
    let mut config = Config::draw(random, gateway.config.backend);
    config.resync = resync;
    let text = gateway.expect("an edit behind a link", config).yaml();
    gateway.in_files(|_| fs::write(&file, text));
    Ok(Duration::from_secs(resync.into()))
}

/// A part of the list is in a file of `config.d`.
pub fn fragment(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let config = Config::draw(random, gateway.config.backend);
    let config = gateway.expect("a fragment", config);
    let mut main = (*config).clone();
    let ladder = std::mem::take(&mut main.ladder);
    let list: String = ladder.cidrs().map(|cidr| format!("- {cidr}\n")).collect();
    let list = if list.is_empty() { "{}\n".to_owned() } else { format!("nonMasqueradeCIDRs:\n{list}") };
    let text = main.yaml();
    gateway.may_also(&[Some(&main.into())]);
    gateway.write(&text);
    gateway.add_fragment(&list);
    Ok(promise::EDIT)
}

/// The first half is there for a while before the rest follows.
pub fn half_written(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let mut config = Config::draw(random, gateway.config.backend);
    config.ladder = Ladder { from: 0, count: 200 };
    let config = gateway.expect("a half-written file", config);
    let text = config.yaml();
    let pause = Duration::from_millis(20 + random.below(600));
    let mut half = (*config).clone();
    half.ladder.count = 100 + random.below(50) as u32;
    let mut at = half.yaml().len();
    if random.once_in(2) {
        // At the end of a line it is a shorter list, and a valid one.
        gateway.may_also(&[Some(&half.into())]);
    } else {
        at += "  - '10".len();
    }
    gateway.make_plain();
    let mut file = gateway.in_files(fs::File::create);
    file.write_all(&text.as_bytes()[..at]).expect("the first half");
    pass(pause);
    file.write_all(&text.as_bytes()[at..]).expect("the second half");
    Ok(promise::EDIT)
}

/// Nothing that a service may take.
pub fn bad(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let good = gateway.config.yaml();
    gateway.may("a bad file", &[]);
    gateway.make_plain();
    gateway.files_good = false;
    let texts = [
        format!("{good}noSuchKey: 1\n"),
        format!("{good}nonMasqueradeCIDRs: [10.0.0.0/8]\n"),
        good.replace("10.20.0.0/16", "10.20.0.0/33"),
        good.replace("enableIPv6", "enableIPv6: [["),
        format!("{good}resyncInterval: 10\n"),
        String::from_utf8_lossy(&(0..4096).map(|_| random.next() as u8).collect::<Vec<u8>>()).into_owned(),
        format!("{}\n", "[".repeat(100_000)),
        "a: &a [1, 1]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n".to_owned(),
    ];
    let number = random.below(texts.len() as u64 + 4) as usize;
    if let Some(text) = texts.get(number) {
        gateway.write(text);
        return Ok(promise::EDIT);
    }
    gateway.in_files(|path| {
        // It may have gone before.
        let _ = fs::remove_file(path);
        match number - texts.len() {
            0 => Ok(()),
            1 => fs::write(path, good).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o666))),
            2 => fs::create_dir(path),
            _ => Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0)?),
        }
    });
    Ok(promise::EDIT)
}

/// A hundred thousand networks.
pub fn huge(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let mut config = Config::plain(gateway.config.backend);
    config.ladder = Ladder { from: random.below(8) as u32, count: 100_000 };
    let text = gateway.expect("a hundred thousand networks", config).yaml();
    gateway.replace(&text);
    // The edit is read in time; how long the kernel needs for it is another matter.
    Ok(promise::EDIT + Duration::from_secs(20))
}

/// A megabyte that a parser might choke on.
pub fn huge_and_bad(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let text = match random.below(4) {
        0 => "[a: b, ".repeat(150_000),
        1 => format!("nonMasqueradeCIDRs: [{}]\n", "x".repeat(1 << 20)),
        2 => (0..30_000).map(|number| format!("key{number}: {number}\n")).collect(),
        _ => format!("nonMasqueradeCIDRs:\n{}", "- 10.0.0.1/8\n".repeat(50_000)),
    };
    gateway.may("a huge bad file", &[]);
    gateway.files_good = false;
    gateway.replace(&text);
    Ok(promise::EDIT + Duration::from_secs(10))
}

/// Nothing but the forwards: one comes, leads elsewhere or goes, or all of them are others.
pub fn forwards(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let mut config = (*gateway.config).clone();
    let drawn = Forward::draw(random, config.ipv6);
    let count = config.forwards.len() as u64;
    match random.below(4) {
        0 if count > 0 => drop(config.forwards.remove(random.below(count) as usize)),
        1 | 2 if count > 0 => config.forwards[random.below(count) as usize].change(random),
        _ => config.forwards = drawn,
    }
    let text = gateway.expect("an edit of forwards", config).yaml();
    gateway.write(&text);
    Ok(promise::EDIT)
}

/// `systemctl reload` after an edit.
pub fn reload(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    in_place(gateway, random)?;
    gateway.must_reload()?;
    Ok(Duration::ZERO)
}

/// SIGHUP after an edit.
pub fn reload_by_signal(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    in_place(gateway, random)?;
    let life = gateway.life();
    let ready = life.ready();
    life.signal(Signal::HUP);
    life.wait_ready(ready + 1, promise::EDIT + Duration::from_secs(10))?;
    Ok(Duration::ZERO)
}

/// Fifty at once, and an edit in the middle.
pub fn reload_by_fifty(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let text = draw(gateway, random, "fifty reloads");
    gateway.make_plain();
    let agent = &gateway.agent;
    let begin = || agent.prepare("reload", &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let spawn = || gateway.view.enter(|| (0..25).filter_map(|_| begin().ok()).collect::<Vec<_>>());
    let mut reloads = spawn();
    agent.configure(&text);
    reloads.extend(spawn());
    let codes: Vec<Option<i32>> =
        reloads.iter_mut().filter_map(|child| child.wait().ok()).map(|end| end.code()).collect();
    // The first ones may have met half of the edit, or an earlier file that was bad.
    if codes.len() != 50 || codes[25..].iter().any(|code| *code != Some(0)) {
        return Err(finding("reload", format!("fifty at once: {codes:?}")));
    }
    Ok(Duration::ZERO)
}

/// The table comes to be owned, or is no more.
pub fn table_owner(gateway: &mut CampaignGateway<'_>, _: &mut Random) -> Done {
    let mut config = (*gateway.config).clone();
    config.owner = !config.owner;
    let text = gateway.expect("tableOwner", config).yaml();
    gateway.write(&text);
    Ok(promise::EDIT)
}
