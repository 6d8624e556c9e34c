//! Stops, starts and deaths of the service.

use super::pass;
use crate::background::Worker;
use crate::finding::{Finding, finding};
use crate::gateway::CampaignGateway;
use crate::random::Random;
use ip_masq_agent::backend::BackendName;
use std::time::Duration;

type Done = Result<Duration, Finding>;

/// `systemctl stop`: nothing of ours is left anywhere, and then `systemctl start`.
pub fn stop_and_start(gateway: &mut CampaignGateway<'_>, _: &mut Random) -> Done {
    gateway.may("a stop", &[None]);
    gateway.stop()?;
    gateway.nothing_is_left()?;
    gateway.may("a start", &[None]);
    gateway.start()?;
    Ok(Duration::ZERO)
}

/// `systemctl restart`: the rules stay meanwhile.
pub fn restart(gateway: &mut CampaignGateway<'_>, _: &mut Random) -> Done {
    gateway.may("a restart", &[]);
    gateway.stop_for_restart()?;
    gateway.start()?;
    Ok(Duration::ZERO)
}

/// The same while another program commits a thousand times a second.
pub fn restart_under_load(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let _load = Worker::commits(&gateway.lab.gateway, 1000.0);
    restart(gateway, random)
}

/// SIGKILL, then what systemd does about it.
pub fn kill(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.may("SIGKILL", &[]);
    gateway.kill()?;
    pass(Duration::from_millis(random.below(100)));
    gateway.start()?;
    Ok(Duration::ZERO)
}

/// A second service beside the first is refused, and harms nobody.
pub fn start_twice(gateway: &mut CampaignGateway<'_>, _: &mut Random) -> Done {
    gateway.may("a second service", &[]);
    let second = gateway.agent.command("run", &[]);
    match second.status.code() {
        Some(1) => Ok(Duration::ZERO),
        _ => Err(finding("second", format!("it was not refused: {second:?}"))),
    }
}

/// Another backend at a restart, and the first one again.
pub fn switch_there_and_back(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let here = gateway.config.backend;
    let others = crate::lab::BACKENDS.iter().copied().filter(|other| *other != here);
    let other = random.pick(&others.collect::<Vec<_>>());
    switch_to(gateway, other)?;
    gateway.settle(Duration::ZERO)?;
    crate::checks::after_step(gateway)?;
    switch_to(gateway, here)?;
    Ok(Duration::ZERO)
}

/// Another backend at a restart.
pub fn switch_to(gateway: &mut CampaignGateway<'_>, backend: BackendName) -> Result<(), Finding> {
    let mut config = (*gateway.config).clone();
    config.backend = backend;
    config.owner &= backend == BackendName::Nftables;
    let text = gateway.expect("another backend", config).yaml();
    gateway.stop_for_restart()?;
    gateway.write(&text);
    gateway.start()
}
