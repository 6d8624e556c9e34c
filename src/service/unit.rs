//! Whether systemd stops us for good or starts us again afterwards.

use crate::agent::Job;
use crate::sys::child::{Exec, Invocation};
use std::time::Duration;

/// Asks systemd for the job of our own unit.
pub fn job(exec: &mut dyn Exec) -> Job {
    if !is_started_by_systemd() {
        return Job::NoSystemd;
    }
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(unit) = unit(&cgroup) else { return Job::Unknown };
    let mut invocation = Invocation::new("systemctl", &["list-jobs", "--plain", "--no-legend", "--no-pager"]);
    invocation.deadline = Duration::from_secs(2);
    match exec.run(&invocation) {
        Ok(output) if output.status.success() => job_of(unit, &String::from_utf8_lossy(&output.stdout)),
        _ => Job::Unknown,
    }
}

/// A shell in a unit hands INVOCATION_ID down to whatever is typed into it; SYSTEMD_EXEC_PID (systemd 248) tells that
/// apart.
fn is_started_by_systemd() -> bool {
    let is_set = |name| std::env::var_os(name).is_some();
    let is_main =
        std::env::var("SYSTEMD_EXEC_PID").map_or(is_set("INVOCATION_ID"), |pid| pid.parse() == Ok(std::process::id()));
    sd_notify::booted().unwrap_or(false) && (is_main || is_set("NOTIFY_SOCKET"))
}

/// The last service in a cgroup path: `0::/system.slice/ip-masq-agent.service` (cgroups(7)).
pub fn unit(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        path.rsplit('/').find(|component| component.ends_with(".service"))
    })
}

/// The job of a unit in `systemctl list-jobs`: `ID UNIT TYPE STATE` a line.
pub fn job_of(unit: &str, listing: &str) -> Job {
    let kind = listing.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next()? == unit).then(|| words.next())?
    });
    match kind {
        Some("stop") => Job::Stop,
        // A restart that was asked for while another job ran shows as 'start' once its stop has begun.
        Some("restart" | "try-restart" | "start") => Job::Restart,
        _ => Job::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_last_service_of_the_cgroup() {
        let cases = [
            ("0::/system.slice/ip-masq-agent.service\n", Some("ip-masq-agent.service")),
            ("12:pids:/user.slice\n1:name=systemd:/system.slice/x@eth0.service/child\n0::/\n", Some("x@eth0.service")),
            ("0::/user.slice/user@1000.service/app.slice/mine.service\n", Some("mine.service")),
            ("0::/init.scope\n", None),
            ("", None),
        ];
        for (cgroup, expected) in cases {
            assert_eq!(unit(cgroup), expected, "{cgroup:?}");
        }
    }

    #[test]
    fn the_job_is_that_of_our_unit_and_of_no_other() {
        let listing = "120 ip-masq-agent-x.service stop running\n121 ip-masq-agent.service restart running\n 99 other.service stop waiting\n";
        assert_eq!(job_of("ip-masq-agent.service", listing), Job::Restart);
        assert_eq!(job_of("other.service", listing), Job::Stop);
        assert_eq!(job_of("agent.service", listing), Job::Unknown);
        assert_eq!(job_of("ip-masq-agent.service", "No jobs running.\n"), Job::Unknown);
        assert_eq!(job_of("ip-masq-agent.service", "1 ip-masq-agent.service"), Job::Unknown);
    }
}
