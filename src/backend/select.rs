//! Which backend a host gets, and why.

use super::iptables::Iptables;
use super::iptables::rules::render::Table;
use super::iptables::tools::{Tools, Variant, list_or_nothing};
use super::nftables::Nftables;
use super::{Backend, BackendName, Error, ErrorKind};
use crate::config::{BackendChoice, Settings};
use crate::policy::Family;
use crate::sys::child::Exec;
use std::fmt;

/// The backend of a host.
pub struct Choice {
    /// The backend.
    pub backend: Box<dyn Backend>,
    /// Why it is this one: a named reason, for journal and status.
    pub reason: String,
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Choice").field("backend", &self.backend.name()).field("reason", &self.reason).finish()
    }
}

/// Picks the backend that the settings name; with `auto` iptables where it works, else nftables.
///
/// # Errors
/// When the backend that is named does not work here, or with `auto` none does.
pub fn choose(settings: &Settings, mut exec: impl Exec + 'static) -> Result<Choice, Error> {
    let configured = |name: BackendName| format!("configured: {name}");
    Ok(match settings.backend {
        BackendChoice::Nftables => nftables(settings, configured(BackendName::Nftables))?,
        BackendChoice::IptablesNft => {
            let tools = Tools::probe(&mut exec, Variant::Nft)?;
            iptables(settings, exec, tools, configured(BackendName::IptablesNft))
        }
        BackendChoice::IptablesLegacy => {
            let tools = Tools::probe(&mut exec, Variant::Legacy)?;
            iptables(settings, exec, tools, configured(BackendName::IptablesLegacy))
        }
        BackendChoice::Iptables => {
            let tools = Tools::of_host(&mut exec)?;
            let reason = format!("configured: iptables, variant {}", tools.variant);
            iptables(settings, exec, tools, reason)
        }
        // Asked twice before it is called unusable: a program may fail once, and the answer holds until a restart.
        BackendChoice::Auto => match usable(&mut exec).or_else(|_| usable(&mut exec)) {
            Ok(tools) => {
                let reason = format!("auto: iptables is installed, variant {}", tools.variant);
                iptables(settings, exec, tools, reason)
            }
            Err(error) => instead_of_iptables(settings, &error)?,
        },
    })
}

/// The backend of `auto` where iptables is of no use.
///
/// # Errors
/// When nftables does not work here either.
pub fn instead_of_iptables(settings: &Settings, error: &Error) -> Result<Choice, Error> {
    nftables(settings, format!("auto: no usable iptables ({error})"))
}

fn iptables(settings: &Settings, exec: impl Exec + 'static, tools: Tools, reason: String) -> Choice {
    Choice { backend: Box::new(Iptables::new(exec, tools, settings.masq_chain.clone())), reason }
}

fn nftables(settings: &Settings, reason: String) -> Result<Choice, Error> {
    Ok(Choice { backend: Box::new(Nftables::new(settings.table_owner)?), reason })
}

/// The programs behind `iptables`, if they are all there and can list the nat table. Without the capability to ask they count as usable:
/// the missing capability is the error to report then, and no reason to take another backend.
fn usable(exec: &mut impl Exec) -> Result<Tools, Error> {
    let tools = Tools::of_host(exec)?;
    let restore = tools.program(Family::V4, "-restore");
    if !exec.has(&restore) {
        return Err(Error::new(ErrorKind::MissingTool, format!("no program '{restore}'")));
    }
    match list_or_nothing(exec, &tools, Family::V4, Table::Nat, false) {
        Err(error) if error.kind != ErrorKind::Permission => Err(error),
        _ => Ok(tools),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::child::{ChildError, Invocation, Output};
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    /// A host by its programs: name and first argument, exit status, what it prints and says.
    struct Host(&'static [(&'static str, i32, &'static str, &'static str)]);

    impl Exec for Host {
        fn run(&mut self, invocation: &Invocation) -> Result<Output, ChildError> {
            let line = invocation.to_string();
            let found = self.0.iter().find(|(command, ..)| line.starts_with(command));
            let (_, status, stdout, stderr) = found.ok_or(ChildError::NotFound(invocation.program.clone()))?;
            Ok(Output {
                status: ExitStatus::from_raw(status << 8),
                stdout: stdout.as_bytes().to_vec(),
                stderr: (*stderr).to_owned(),
            })
        }

        fn has(&self, program: &str) -> bool {
            self.0.iter().any(|(command, ..)| command.split(' ').next() == Some(program))
        }
    }

    fn choice(backend: BackendChoice, host: Host) -> Result<(BackendName, String), Error> {
        let settings = Settings { backend, ..Settings::default() };
        choose(&settings, host).map(|choice| (choice.backend.name(), choice.reason))
    }

    const TABLE: &str = "*nat\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n";
    const NFT: (&str, i32, &str, &str) = ("iptables --version", 0, "iptables v1.8.9 (nf_tables)\n", "");
    const LEGACY: (&str, i32, &str, &str) = ("iptables --version", 0, "iptables v1.8.9 (legacy)\n", "");

    #[test]
    fn auto_takes_the_variant_of_the_host_where_it_works() {
        let host = Host(&[NFT, ("iptables-nft-restore", 0, "", ""), ("iptables-nft-save -t nat", 0, TABLE, "")]);
        let (name, reason) = choice(BackendChoice::Auto, host).unwrap();
        assert_eq!(name, BackendName::IptablesNft);
        assert_eq!(reason, "auto: iptables is installed, variant iptables-nft");
    }

    /// A host whose first run of a program fails.
    struct FailsOnce(Host, bool);

    impl Exec for FailsOnce {
        fn run(&mut self, invocation: &Invocation) -> Result<Output, ChildError> {
            if std::mem::take(&mut self.1) {
                return Err(ChildError::Deadline(invocation.to_string(), invocation.deadline));
            }
            self.0.run(invocation)
        }

        fn has(&self, program: &str) -> bool {
            self.0.has(program)
        }
    }

    #[test]
    fn a_program_that_fails_once_is_no_reason_for_another_backend() {
        let host = Host(&[NFT, ("iptables-nft-restore", 0, "", ""), ("iptables-nft-save -t nat", 0, TABLE, "")]);
        let choice = choose(&Settings::default(), FailsOnce(host, true)).unwrap();
        assert_eq!(choice.backend.name(), BackendName::IptablesNft);
    }

    #[test]
    fn a_missing_capability_is_no_reason_for_another_backend() {
        let said = "iptables-nft-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied";
        let host = Host(Vec::leak(vec![NFT, ("iptables-nft-restore", 0, "", ""), ("iptables-nft-save", 4, "", said)]));
        assert_eq!(choice(BackendChoice::Auto, host).unwrap().0, BackendName::IptablesNft);
    }

    #[test]
    fn a_nat_table_that_only_nft_understands_is_left_to_nftables() {
        let said = "# Table `nat' is incompatible, use 'nft' tool.\n";
        let host =
            Host(Vec::leak(vec![NFT, ("iptables-nft-restore", 0, "", ""), ("iptables-nft-save -t nat", 0, said, "")]));
        let (name, reason) = choice(BackendChoice::Auto, host).unwrap();
        assert_eq!(name, BackendName::Nftables);
        assert!(reason.contains("only 'nft' understands"), "{reason}");
    }

    #[test]
    fn the_plain_name_is_used_where_it_is_the_only_one() {
        let host = Host(&[LEGACY, ("iptables-save -t nat", 0, TABLE, ""), ("iptables-restore", 0, "", "")]);
        assert_eq!(choice(BackendChoice::Auto, host).unwrap().0, BackendName::IptablesLegacy);
        let without = Host(&[LEGACY, ("iptables-save -t nat", 0, TABLE, "")]);
        let (name, reason) = choice(BackendChoice::Auto, without).unwrap();
        assert_eq!(
            (name, &*reason),
            (BackendName::Nftables, "auto: no usable iptables (no program 'iptables-restore')")
        );
    }

    #[test]
    fn a_variant_that_is_not_there_is_a_missing_tool() {
        let error = choice(BackendChoice::IptablesLegacy, Host(&[NFT])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::MissingTool);
        assert_eq!(error.message, "no iptables-legacy on this host: 'iptables' is iptables-nft");
        assert_eq!(choice(BackendChoice::Iptables, Host(&[])).unwrap_err().kind, ErrorKind::MissingTool);
    }
}
