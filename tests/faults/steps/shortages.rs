//! A host that has too little of something.

use super::{breaks, pass};
use crate::config::Config;
use crate::finding::{Finding, finding};
use crate::gateway::CampaignGateway;
use crate::promise;
use crate::random::Random;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::fs;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

type Done = Result<Duration, Finding>;

const STATE: &str = "/run/lab/state";

/// The disk of the state directory is full or read-only for a while. Nothing is lost but what could not be saved, and
/// that is saved at the next resync after.
pub fn state_disk(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.need_short_resync()?;
    let options = random.pick(&["ro", "size=4k,nr_inodes=2"]);
    gateway.view.must("mount", &["-t", "tmpfs", "-o", options, "tmpfs", STATE]);
    let mut config = Config::draw(random, gateway.config.backend);
    config.ladder.count = config.ladder.count.max(200);
    config.resync = 1;
    let text = gateway.expect("an edit without a disk", config).yaml();
    gateway.write(&text);
    let reloaded = gateway.must_reload();
    unmount(gateway)?;
    reloaded?;
    let resync = Duration::from_secs(gateway.config.resync.into());
    gateway.settle(Duration::ZERO)?;
    let end = Instant::now() + resync + gateway.patience;
    let saved = || gateway.view.enter(|| fs::read_to_string(format!("{STATE}/last-good"))).unwrap_or_default();
    while !saved().contains(&text) {
        if Instant::now() > end {
            return Err(finding("last-good", format!("not saved although there is room again:\n{}", saved())));
        }
        pass(Duration::from_millis(20));
    }
    Ok(Duration::ZERO)
}

/// Not while the service has a file open there.
fn unmount(gateway: &CampaignGateway<'_>) -> Result<(), Finding> {
    let end = Instant::now() + gateway.patience;
    loop {
        let output = gateway.view.run("umount", &[STATE]);
        if output.status.success() {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(finding("state", format!("kept busy: {}", String::from_utf8_lossy(&output.stderr))));
        }
        pass(Duration::from_millis(20));
    }
}

fn limit(gateway: &mut CampaignGateway<'_>, resource: Resource, current: Option<u64>) -> Rlimit {
    let pid = Pid::from_raw(gateway.life().pid() as i32);
    // Only the soft limit: it can be raised again by anybody.
    let before = prlimit(pid, resource, Rlimit { current, maximum: hard(pid, resource) });
    before.unwrap_or(Rlimit { current: None, maximum: None })
}

fn hard(pid: Option<Pid>, resource: Resource) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/limits", pid.map_or(0, Pid::as_raw_pid))).unwrap_or_default();
    let name = match resource {
        Resource::Nofile => "Max open files",
        _ => "Max address space",
    };
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|field| field.parse().ok())
}

/// Hardly a descriptor is free, and forty clients say nothing. The rules are looked after all the same, and the
/// processor is not kept busy by those who wait.
pub fn few_descriptors(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let held = gateway.life().descriptors() as u64;
    let before = limit(gateway, Resource::Nofile, Some(held + 4));
    let clients = gateway.connect(40);
    let (begun, used) = (Instant::now(), gateway.life().processor_time());
    pass(Duration::from_millis(1500));
    let used = gateway.life().processor_time().saturating_sub(used);
    let share = used.as_secs_f64() / begun.elapsed().as_secs_f64();
    let broken = random.once_in(2).then(|| breaks::delete_ours(gateway, random)).transpose()?;
    pass(Duration::from_millis(500));
    drop(clients);
    limit(gateway, Resource::Nofile, before.current);
    if share > 0.5 {
        return Err(finding("processor", format!("{:.0} % of a core for clients that say nothing", share * 100.0)));
    }
    // What failed for want of a descriptor is tried again like anything else that failed.
    Ok(broken.map_or(Duration::ZERO, |promise| promise.max(promise::after_tools(gateway))))
}

/// Too little address space for a longer list. The service may end, and is started again by systemd; the rules stay.
pub fn little_memory(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let size = {
        let statm = fs::read_to_string(format!("/proc/{}/statm", gateway.life().pid())).unwrap_or_default();
        statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    };
    let before = limit(gateway, Resource::As, Some(size + (random.below(4) << 20)));
    let mut config = Config::draw(random, gateway.config.backend);
    config.ladder.count = 20_000;
    config.resync = 1;
    let text = gateway.expect("a long list and no memory", config).yaml();
    gateway.write(&text);
    // A busy machine takes its time to run out of memory.
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end && gateway.life().ended().is_none() {
        pass(Duration::from_millis(20));
    }
    if gateway.life().ended().is_none() {
        limit(gateway, Resource::As, before.current);
    }
    if gateway.life().ended().is_some() {
        gateway.start()?;
    }
    Ok(promise::after_tools(gateway))
}

impl CampaignGateway<'_> {
    /// So many clients of the control socket that say nothing.
    pub fn connect(&self, count: usize) -> Vec<UnixStream> {
        let path = format!("/run/lab/runtime/{}", ip_masq_agent::service::control::NAME);
        self.view.enter(|| (0..count).map_while(|_| UnixStream::connect(&path).ok()).collect())
    }
}
