//! What has to be so after each step, beside the rules.

use crate::config::Config;
use crate::finding::{Finding, WRONG_SOURCE, finding};
use crate::forwards::Forward;
use crate::gateway::CampaignGateway;
use serde_json::Value;
use std::time::{Duration, Instant};

/// WatchdogSec of the unit is twice the rhythm that systemd advises: a loop that is silent for as long as the rhythm
/// may miss it.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);
/// A client that says nothing holds a descriptor for so long.
const CLIENTS: Duration = Duration::from_secs(6);
/// What a heap may hold beyond what it held at first, in KiB, and for each member of the longest list.
const HEAP: u64 = 4096;
const HEAP_PER_MEMBER: u64 = 1;
/// What one step may make the service write.
const LOG: usize = 64 << 10;
/// A fight is reported until there was a quiet minute.
const FIGHT: Duration = Duration::from_secs(90);

/// `status` and the line that systemd shows say what is true. Returns the process and its generation of configurations.
pub fn status(gateway: &CampaignGateway<'_>) -> Result<(u64, u64), Finding> {
    let output = gateway.agent.command("status", &["--json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = |what: &str| Err(finding("status", format!("{what}: {:?}: {text}", output.status.code())));
    let Ok(report) = serde_json::from_str::<Value>(&text) else { return wrong("no answer") };
    let families: Vec<&Value> = report["families"].as_array().into_iter().flatten().collect();
    if families.len() != 1 + usize::from(gateway.config.ipv6) || families.iter().any(|family| family["in_sync"] != true)
    {
        return wrong("the rules are in the kernel, and that is not what it says");
    }
    if report["backend"]["name"] != gateway.config.backend.to_string() {
        return wrong("another backend");
    }
    let degraded: Vec<&str> = report["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let of_the_fight = |reason: &&str| reason.contains("keeps changing");
    let fought = gateway.repairs.iter().any(|at| at.elapsed() < FIGHT);
    let reasons = degraded.iter().filter(|reason| !(fought && of_the_fight(reason))).count();
    let healthy = (report["state"] == "ready", output.status.code() == Some(0));
    match (gateway.files_good, healthy) {
        (true, _) if reasons > 0 => return wrong("nothing is wrong any more, and it says there is"),
        (false, _) if reasons == 0 => return wrong("the files are bad, and it does not say so"),
        (_, (ready, zero)) if ready != degraded.is_empty() || ready != zero => return wrong("at odds with itself"),
        _ => {}
    }
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let now = (number(&report["pid"]), number(&report["configuration"]["generation"]));
    if gateway.unread && gateway.files_good && now == gateway.generation {
        return wrong("the edit has not been read");
    }
    match gateway.life.as_ref().map(|life| life.status()) {
        Some(line) if report["summary"] != line => wrong(&format!("systemd was told '{line}'")),
        _ => Ok(now),
    }
}

/// Everything else. Only what is on its way out is waited for.
pub fn after_step(gateway: &mut CampaignGateway<'_>) -> Result<(), Finding> {
    gateway.foreign_is_untouched()?;
    if let Some(wrong) = gateway.stream.take_wrong() {
        return Err(finding(WRONG_SOURCE, wrong));
    }
    let patience = gateway.patience;
    let Config { backend, poll, owner, fixed, .. } = *gateway.config;
    let follows = gateway.config.forwards.iter().any(Forward::follows_the_network);
    let key = format!("{backend} {poll} {owner} {}", fixed || follows);
    let least = gateway.descriptors.get(&key).copied().unwrap_or(usize::MAX);
    let life = gateway.life();
    eventually(patience, || {
        let children = life.children();
        if children.is_empty() { Ok(()) } else { Err(finding("children", children.join(", "))) }
    })?;
    eventually(CLIENTS + patience, || {
        let now = life.descriptors();
        if now <= least { Ok(()) } else { Err(finding("descriptors", format!("{now}, before {least}"))) }
    })?;
    let now = life.descriptors();
    gateway.descriptors.insert(key, now.min(least));
    memory(gateway)?;
    let life = gateway.life();
    let silence = life.longest_silence();
    if silence > LONGEST_SILENCE {
        return Err(finding("watchdog", format!("silent for {silence:?}\n{}", life.tail())));
    }
    let before = life.logged;
    life.read_log();
    if life.logged - before > LOG {
        return Err(finding("log", format!("{} bytes in one step\n{}", life.logged - before, life.tail())));
    }
    Ok(())
}

fn memory(gateway: &mut CampaignGateway<'_>) -> Result<(), Finding> {
    let longest = u64::from(gateway.longest_list);
    let life = gateway.life();
    let now = life.memory();
    let then = *life.memory_then.get_or_insert(now);
    match now > then + HEAP + HEAP_PER_MEMBER * longest {
        true => Err(finding("memory", format!("{now} KiB, {then} KiB at first, {longest} CIDRs at most"))),
        false => Ok(()),
    }
}

fn eventually(patience: Duration, mut check: impl FnMut() -> Result<(), Finding>) -> Result<(), Finding> {
    let end = Instant::now() + patience;
    loop {
        match check() {
            Err(_) if Instant::now() < end => std::thread::park_timeout(Duration::from_millis(5)),
            result => return result,
        }
    }
}
