//! Another program that commits to a table of its own all the time.

use super::service::Host;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// It runs until this is dropped, and stops by itself after a minute.
pub struct Noise {
    child: Child,
    commits: BufReader<ChildStdout>,
}

impl Noise {
    /// Starts it: a commit, a pause, and so on.
    pub fn start(host: &Host, pause: Duration) -> Self {
        let script = format!(
            "end=$(($(date +%s) + 60))
             while [ $(date +%s) -lt $end ]; do iptables-nft -t mangle -N noise && iptables-nft -t mangle -X noise
             echo; sleep {}; done",
            pause.as_secs_f64()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("PATH", ip_masq_agent::sys::child::PATH);
        let mut child = host
            .node
            .enter(|| command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn())
            .unwrap();
        let commits = BufReader::new(child.stdout.take().unwrap());
        Noise { child, commits }
    }

    /// Waits until it has committed once more.
    pub fn wait_for_commit(&mut self) {
        let mut line = String::new();
        assert!(self.commits.read_line(&mut line).is_ok_and(|length| length > 0));
    }
}

/// So many chains that nothing leads to, in a table of another program.
pub fn foreign_chains(count: usize) -> String {
    let chains: String = (0..count).map(|number| format!(" chain c{number} {{\n  counter accept\n }}\n")).collect();
    format!("table inet foreign {{\n{chains}}}\n")
}

impl Drop for Noise {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The program that it ran goes on, and holds the pipe until it ends.
        let _ = self.commits.read_to_end(&mut Vec::new());
    }
}
