//! Tools that can't be relied upon, locks, neighbours, clocks.

use super::{breaks, pass};
use crate::background::Worker;
use crate::config::Config;
use crate::finding::{Finding, finding};
use crate::gateway::{CampaignGateway, STOP};
use crate::promise;
use crate::random::Random;
use crate::tools::{self, Fault};
use ip_masq_agent::backend::BackendName;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::process::Signal;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

type Done = Result<Duration, Finding>;

/// Another program begins to commit; before, if it does already, at another rate.
pub fn commits_begin(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.may("commits of another program", &[]);
    let rate = random.pick(&[0.5, 1.4, 2.0, 10.0, 20.0, 100.0, 1000.0]);
    gateway.background.commits = None;
    gateway.background.commits = Some(Worker::commits(&gateway.lab.gateway, rate));
    pass(Duration::from_millis(200));
    Ok(Duration::ZERO)
}

pub fn commits_end(gateway: &mut CampaignGateway<'_>, _: &mut Random) -> Done {
    gateway.background.commits = None;
    Ok(Duration::ZERO)
}

/// Something in the directory of the configuration stirs again and again.
pub fn stir_begins(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.may("a stir", &[]);
    let every = Duration::from_millis(random.pick(&[10, 100, 150, 1000]));
    gateway.background.stir = Some(Worker::stir(&gateway.lab.gateway, "/run/lab/config.d", every));
    Ok(Duration::ZERO)
}

pub fn stir_ends(gateway: &mut CampaignGateway<'_>, _: &mut Random) -> Done {
    gateway.background.stir = None;
    Ok(Duration::ZERO)
}

/// The programs that the backend needs.
fn programs(gateway: &CampaignGateway<'_>) -> Vec<&'static str> {
    let mut programs = match gateway.config.backend {
        BackendName::IptablesLegacy => vec!["iptables-legacy-save", "iptables-legacy-restore", "iptables-legacy"],
        _ => vec!["iptables-nft-save", "iptables-nft-restore", "iptables-nft"],
    };
    if gateway.config.ipv6 {
        programs.extend(match gateway.config.backend {
            BackendName::IptablesLegacy => ["ip6tables-legacy-save", "ip6tables-legacy-restore"],
            _ => ["ip6tables-nft-save", "ip6tables-nft-restore"],
        });
    }
    programs.push("ipset");
    programs
}

/// A tool fails, is slow, lies or is gone for a moment, while something is to be done.
pub fn tools(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.need_short_resync()?;
    let faults = [
        Fault::Fails,
        Fault::FailsOnce,
        Fault::Slow(5 + random.below(25)),
        Fault::SaysNothing,
        Fault::SaysHalf,
        Fault::SaysGarbage,
        Fault::Vanishes,
        Fault::LeavesChild,
    ];
    let (fault, program) = (random.pick(&faults), random.pick(&programs(gateway)));
    with_trouble(gateway, random, program, fault, Duration::from_millis(500 + random.clone().below(3000)))
}

/// A tool never ends.
pub fn tool_hangs(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.need_short_resync()?;
    let program = random.pick(&programs(gateway));
    // Less than its deadline, once, and several times.
    let time = Duration::from_secs(random.clone().pick(&[4, 15, 35]));
    with_trouble(gateway, random, program, Fault::Hangs, time)
}

/// What is to be done meanwhile need not succeed; afterwards all has to come right without help.
fn with_trouble(
    gateway: &mut CampaignGateway<'_>,
    random: &mut Random,
    program: &str,
    fault: Fault,
    time: Duration,
) -> Done {
    let why = format!("{program}: {fault:?}");
    gateway.may(&why, &[]);
    tools::tamper(gateway.view, program, fault);
    let done = meanwhile(gateway, random, &why, time);
    let asked = Instant::now();
    let lives = gateway.life.as_mut().is_some_and(|life| life.ended().is_none() && life.ready() > 0);
    let answered = gateway.agent.command("status", &[]).status.code() != Some(3) || !lives;
    let jumps = gateway.listing().most_jumps();
    tools::mend(gateway.view, program);
    done?;
    if jumps > 1 {
        return Err(finding("jumps", format!("{why}: the jump is there {jumps} times")));
    }
    if asked.elapsed() > STOP || !answered {
        return Err(finding("status", format!("{why}: an answer took {:?}", asked.elapsed())));
    }
    bring_up(gateway)?;
    Ok(promise::after_tools(gateway))
}

/// What systemd does about a service that has ended, or that is still on its way up.
fn bring_up(gateway: &mut CampaignGateway<'_>) -> Result<(), Finding> {
    match gateway.life.as_mut().map(|life| (life.ended(), life.ready())) {
        Some((None, 0)) => gateway.life().wait_ready(1, Duration::from_secs(90)),
        Some((None, _)) => Ok(()),
        _ => gateway.start(),
    }
}

fn meanwhile(gateway: &mut CampaignGateway<'_>, random: &mut Random, why: &str, time: Duration) -> Result<(), Finding> {
    let begun = Instant::now();
    match random.below(5) {
        0 => {
            let mut config = Config::draw(random, gateway.config.backend);
            config.resync = 1;
            let text = gateway.expect(why, config).yaml();
            gateway.write(&text);
            gateway.reload();
        }
        1 => drop(breaks::delete_ours(gateway, random)?),
        2 => drop(breaks::flush_everything(gateway, random)?),
        3 => {
            gateway.stop_for_restart()?;
            let command = gateway.agent.prepare("run", &[]);
            gateway.begin_start(command);
        }
        _ => {}
    }
    pass(time.saturating_sub(begun.elapsed()));
    Ok(())
}

/// Another program holds the lock of x_tables, while something is to be done.
pub fn lock_held(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.need_short_resync()?;
    gateway.may("the xtables lock is held", &[]);
    let lock = gateway.view.enter(|| fs::File::create("/run/xtables.lock")).expect("the lock");
    let held = Duration::from_millis(random.pick(&[200, 1000, 4000, 8000]));
    let hold = move || {
        if flock(&lock, FlockOperation::LockExclusive).is_ok() {
            pass(held);
        }
    };
    if random.once_in(3) {
        // A stop has the time that the unit gives it.
        gateway.may("a stop against a held lock", &[None]);
        std::thread::spawn(hold);
        gateway.stop()?;
        gateway.nothing_is_left()?;
        gateway.start()?;
    } else {
        // What breaks the rules needs the lock itself.
        let broken = random.once_in(2).then(|| breaks::delete_ours(gateway, random)).transpose()?;
        let holder = std::thread::spawn(hold);
        if broken.is_none() {
            let mut config = Config::draw(random, gateway.config.backend);
            config.resync = 1;
            let text = gateway.expect("an edit against a held lock", config).yaml();
            gateway.write(&text);
            gateway.reload();
        }
        let _ = holder.join();
    }
    Ok(promise::after_tools(gateway))
}

/// SIGSTOP for a while: to the service it is as if its clock had jumped. Something happens meanwhile.
pub fn paused(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.may("SIGSTOP", &[]);
    gateway.life().signal(Signal::STOP);
    let promise = match random.below(3) {
        0 => super::edits::in_place(gateway, random)?,
        1 => breaks::delete_ours(gateway, random)?,
        _ => Duration::ZERO,
    };
    pass(Duration::from_millis(200 + random.below(4000)));
    let life = gateway.life();
    life.excuse_silence();
    life.signal(Signal::CONT);
    Ok(promise)
}

/// A restart into another time namespace: the clock that it goes by has jumped, forwards or back.
pub fn other_clock(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    gateway.may("another clock", &[]);
    gateway.stop_for_restart()?;
    // Seconds. To 0 is as far back as the kernel allows.
    let offset = random.pick(&[i64::MIN, -5, 3600, 86_400 * 365 * 100]);
    let offset = if offset == i64::MIN { -(uptime() as i64) } else { offset };
    let mut command = gateway.agent.prepare("run", &[]);
    let offsets = format!("monotonic {offset} 0\nboottime {offset} 0\n");
    // SAFETY: system calls only.
    unsafe { command.pre_exec(move || enter_other_time(offsets.as_bytes())) };
    gateway.start_as(command)?;
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/time")).ok();
    if namespace("self") == namespace(&gateway.life().pid().to_string()) {
        crate::lab::skip("execve(2) of this kernel does not enter a new time namespace");
    }
    Ok(Duration::ZERO)
}

/// The calling process is in a time namespace of its own once it executes a program.
fn enter_other_time(offsets: &[u8]) -> std::io::Result<()> {
    // SAFETY: nothing but clocks is concerned.
    unsafe { unshare_unsafe(UnshareFlags::NEWTIME) }?;
    let file = rustix::fs::open("/proc/self/timens_offsets", OFlags::WRONLY, Mode::empty())?;
    rustix::io::write(file, offsets)?;
    Ok(())
}

fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0.0)
}

/// Clients that connect and say nothing, or that ask and never read. A reload gets its turn all the same.
pub fn silent_clients(gateway: &mut CampaignGateway<'_>, random: &mut Random) -> Done {
    let mut clients = gateway.connect(40);
    let asks = random.once_in(2);
    for client in clients.iter_mut().filter(|_| asks) {
        let _ = client.write_all(b"status\n");
    }
    let mut config = Config::draw(random, gateway.config.backend);
    config.poll = gateway.config.poll;
    let text = gateway.expect("an edit among silent clients", config).yaml();
    gateway.write(&text);
    let begun = Instant::now();
    gateway.must_reload()?;
    drop(clients);
    match begun.elapsed() {
        took if took > STOP => Err(finding("reload", format!("{took:?} among silent clients"))),
        _ => Ok(Duration::ZERO),
    }
}
