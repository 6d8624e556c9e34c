//! What procfs says of a process that changed rules: in which unit it is, and who logged in to start it.

use std::fs::File;
use std::io::Read;

/// More is not read of a file of a process that is not ours.
const LONGEST: u64 = 4096;
/// More is not shown of a name that others chose.
const SHOWN: usize = 64;
/// The value of loginuid where nobody logged in.
const NOBODY: u32 = u32::MAX;

/// `cron.service, login uid 1000`; `None` where nothing of it is known.
pub fn origin(pid: u32) -> Option<String> {
    let unit = text(pid, "cgroup").as_deref().and_then(unit);
    let login = text(pid, "loginuid").and_then(|uid| uid.trim().parse().ok()).filter(|uid: &u32| *uid != NOBODY);
    let parts: Vec<String> = unit.into_iter().chain(login.map(|uid| format!("login uid {uid}"))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Its name, as long as the kernel keeps it.
pub fn name(pid: u32) -> Option<String> {
    text(pid, "comm").map(|name| name.trim_end_matches('\n').to_owned())
}

/// `NAME[PID]` of its parent.
pub fn parent(pid: u32) -> Option<String> {
    let parent = parent_in(&text(pid, "status")?)?;
    Some(format!("{}[{parent}]", name(parent)?.trim()))
}

fn parent_in(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Reads a text as `cgroup` and as `status`, for `tests/fuzz`: the unit and the parent.
#[cfg(fuzzing)]
pub fn read_any(text: &str) -> (Option<String>, Option<u32>) {
    (unit(text), parent_in(text))
}

fn text(pid: u32, name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/{name}")).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The innermost service or scope of a file as cgroups(7) describes it: in the hierarchy of systemd, or in the only one.
fn unit(cgroups: &str) -> Option<String> {
    let of_systemd = |line: &&str| line.starts_with("0::") || line.contains(":name=systemd:");
    let path = cgroups.lines().find(of_systemd)?.splitn(3, ':').nth(2)?;
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    path.rsplit('/').find(is_unit).map(|unit| unit.chars().take(SHOWN).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_unit_is_named_in_both_layouts_of_cgroups() {
        assert_eq!(unit("0::/system.slice/cron.service\n").as_deref(), Some("cron.service"));
        assert_eq!(unit("0::/user.slice/user-1000.slice/session-3.scope/sub\n").as_deref(), Some("session-3.scope"));
        let old = "12:cpuset:/\n1:name=systemd:/system.slice/docker.service\n";
        assert_eq!(unit(old).as_deref(), Some("docker.service"));
        assert_eq!(unit("0::/\n"), None);
        assert_eq!(unit(""), None);
        assert_eq!(unit(&format!("0::/{}.service\n", "x".repeat(200))).map(|unit| unit.len()), Some(SHOWN));
    }

    #[test]
    fn of_a_process_that_is_gone_nothing_is_known() {
        assert_eq!(origin(u32::MAX), None);
    }
}
