//! Which backend a host gets, and why.

use super::iptables::Iptables;
use super::iptables::tools::{Tools, Variant, host_variant};
use super::{Backend, BackendName, Error, ErrorKind};
use crate::config::{BackendChoice, Settings};
use crate::host::child::Exec;

/// The backend that was chosen.
pub struct Choice {
    /// The backend, ready to use.
    pub backend: Box<dyn Backend>,
    /// Which one it is.
    pub name: BackendName,
    /// Why this one.
    pub reason: String,
    /// What the administrator should know about the host.
    pub warnings: Vec<String>,
}

/// Chooses a backend.
///
/// # Errors
/// When there is none that works.
pub fn choose<E: Exec + 'static>(settings: &Settings, mut exec: E) -> Result<Choice, Error> {
    let variant = match settings.backend {
        BackendChoice::Auto | BackendChoice::Iptables => host_variant(&mut exec)?,
        BackendChoice::IptablesNft => Variant::Nft,
        BackendChoice::IptablesLegacy => Variant::Legacy,
        BackendChoice::Nftables => return Err(Error::new(ErrorKind::Unsupported, "nftables is not built in yet")),
    };
    let tools = Tools::probe(&mut exec, variant)?;
    let backend = Box::new(Iptables::new(exec, tools, settings.masq_chain.clone()));
    let name = backend.name();
    Ok(Choice { backend, name, reason: "iptables works here".to_owned(), warnings: Vec::new() })
}
