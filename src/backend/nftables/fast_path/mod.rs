//! `fastPath`: a flowtable for open connections, in a table of its own whatever backend keeps the other rules.
//!
//! Nothing in the table holds any state that matters: it is replaced as a whole where it is not right, and its flows go the
//! ordinary way until their next packet.

mod table;

pub use table::TABLE;

use super::ask::{self, GETFLOWTABLE};
use super::wire::batch::attribute::*;
use super::wire::batch::{INET, is_late};
use super::wire::expression::Expression;
use super::wire::userdata;
use crate::backend::error::{Error, ErrorKind};
use crate::backend::nftables::rules::table::TABLE_COMMENT;
use crate::policy::Policy;
use crate::sys::nfnetlink::message::{Malformed, Message, Writer};
use crate::sys::nfnetlink::{Batch, BatchRefusal, Consistency, Nfnetlink, Request, kept};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use table::{Contents, FastPathChain, Needs};

/// How often what another program's commit spoiled is tried again.
const ATTEMPTS: usize = 16;

/// What is wanted of the fast path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    names: BTreeSet<String>,
    /// Those of them that exist, with their indexes: one that went and came is another one, and has to be added again.
    devices: BTreeMap<String, u32>,
}

impl Wanted {
    /// What a policy wants where these interfaces exist; `None` is nothing.
    pub fn of(policy: &Policy, present: &BTreeMap<String, u32>) -> Option<Self> {
        let names: BTreeSet<String> = policy.fast_path.iter().map(|entry| entry.value.name.clone()).collect();
        let devices: BTreeMap<String, u32> = present
            .iter()
            .filter(|(name, _)| names.contains(*name))
            .map(|(name, index)| (name.clone(), *index))
            .collect();
        (!devices.is_empty()).then_some(Wanted { names, devices })
    }

    /// What it becomes in the kernel, as nft writes it.
    pub fn text(&self) -> String {
        table::text(&self.names, &self.device_names())
    }

    fn contents(&self) -> Contents {
        Contents::wanted(&self.names, self.present())
    }

    /// Without those that went since; rtnetlink tells of them.
    fn present(&self) -> BTreeSet<String> {
        self.devices.keys().filter(|name| exists(name)).cloned().collect()
    }

    fn device_names(&self) -> BTreeSet<String> {
        self.devices.keys().cloned().collect()
    }
}

/// As a policy has it where every interface exists: for those who ask no kernel. Empty where nothing is wanted.
pub fn render(policy: &Policy) -> String {
    let names: BTreeMap<String, u32> = policy.fast_path.iter().map(|entry| (entry.value.name.clone(), 0)).collect();
    Wanted::of(policy, &names).map(|wanted| wanted.text()).unwrap_or_default()
}

/// The fast path in the kernel.
#[derive(Debug, Default)]
pub struct FastPath {
    netlink: Option<Nfnetlink>,
    state: State,
}

/// What is known of it.
#[derive(Debug, Default)]
enum State {
    /// Nothing: an earlier process may have left one, or it could not be removed.
    #[default]
    Unknown,
    /// It is as it was wanted when the rule set was of this generation; `None` is not there.
    Right(Option<Wanted>, u32),
    /// It can't be made, and whether trying again may help.
    Failed { may_pass: bool },
}

/// What is there under our name.
enum There {
    Nothing,
    /// Somebody else's table.
    Foreign,
    Ours(Contents),
}

impl FastPath {
    /// What differs from what is wanted, in words. Reads only, and nothing while nobody has committed.
    ///
    /// # Errors
    /// When the kernel can't be read, or the table is not ours.
    pub fn differences(&mut self, wanted: Option<&Wanted>) -> Result<Vec<String>, Error> {
        match &self.state {
            State::Right(known, generation) if known.as_ref() == wanted => {
                let generation = *generation;
                // A kernel without nf_tables has no generation, and nothing to read.
                if self.generation().is_ok_and(|now| now == generation) {
                    return Ok(Vec::new());
                }
            }
            _ => {}
        }
        self.compare(wanted).map(|(_, words, _)| words)
    }

    /// Makes it as it is wanted; what differed, in words.
    ///
    /// # Errors
    /// Why it could not be made. Nothing else depends on it.
    pub fn enforce(&mut self, wanted: Option<&Wanted>) -> Result<Vec<String>, Error> {
        let result = self.replace(wanted);
        if let Err(error) = &result {
            self.state = match wanted {
                Some(_) => State::Failed { may_pass: !error.is_the_hosts() },
                None => State::Unknown,
            };
        }
        result
    }

    /// False where it may not be as it was last made. With `again` also where making or removing it failed and may not
    /// fail now.
    pub fn stands(&mut self, again: bool) -> bool {
        match &self.state {
            State::Unknown if !again => true,
            State::Failed { may_pass } => !(again && *may_pass),
            State::Right(Some(wanted), _) => {
                let wanted = wanted.clone();
                self.differences(Some(&wanted)).is_ok_and(|words| words.is_empty())
            }
            // Where none is wanted, one that can't be looked for is no reason to write anything.
            State::Unknown | State::Right(None, _) => self.differences(None).map_or(true, |words| words.is_empty()),
        }
    }

    /// The interfaces that it has, while it is there.
    pub fn interfaces(&self) -> Option<BTreeSet<String>> {
        match &self.state {
            State::Right(Some(wanted), _) => Some(wanted.device_names()),
            _ => None,
        }
    }

    /// Takes it away; true when it was there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(&mut self) -> Result<bool, Error> {
        self.state = State::Unknown;
        self.enforce(None).map(|words| !words.is_empty())
    }

    /// Whether the kernel would take it: it checks it and keeps nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn probe(&mut self, wanted: &Wanted) -> Result<(), Error> {
        let (generation, _, there) = self.compare(Some(wanted))?;
        if matches!(there, There::Ours(_)) {
            return Ok(());
        }
        let mut batch = Batch::new(generation).dry();
        let needs = table::write(&wanted.names, &wanted.present(), false, &mut batch);
        match self.netlink()?.commit(batch) {
            // The kernel acknowledges, or says nothing of, what it would have done.
            Err(refusal) if !refusal.is_silence() && !is_late(&refusal) => Err(explain(refusal, Some(needs))),
            _ => Ok(()),
        }
    }

    fn replace(&mut self, wanted: Option<&Wanted>) -> Result<Vec<String>, Error> {
        let mut written = Vec::new();
        for _ in 0..ATTEMPTS {
            let (generation, words, there) = self.compare(wanted)?;
            if words.is_empty() {
                return Ok(written);
            }
            let mut batch = Batch::new(generation);
            let present = wanted.map(Wanted::present).unwrap_or_default();
            let is_there = matches!(there, There::Ours(_));
            let needs = match wanted {
                Some(wanted) => Some(table::write(&wanted.names, &present, is_there, &mut batch)),
                None => {
                    table::remove(&mut batch);
                    None
                }
            };
            match self.netlink()?.commit(batch) {
                Ok(()) => written = words,
                Err(refusal) if is_late(&refusal) => {}
                // An interface that went meanwhile is left out the next time.
                Err(refusal) if wanted.is_some_and(|wanted| wanted.present() != present) => drop(refusal),
                Err(refusal) => return Err(explain(refusal, needs)),
            }
        }
        let message = format!("table inet {TABLE}: other programs changed the rule set {ATTEMPTS} times in a row");
        Err(Error::new(ErrorKind::Busy, message))
    }

    /// The generation, what differs from what is wanted, and what is there; remembered where nothing differs.
    fn compare(&mut self, wanted: Option<&Wanted>) -> Result<(u32, Vec<String>, There), Error> {
        let (generation, there) = match self.observe() {
            // A kernel without nf_tables has none of it.
            Err(error) if wanted.is_none() && error.is_the_hosts() => (0, There::Nothing),
            other => other?,
        };
        let words = match (&there, wanted) {
            (There::Nothing | There::Foreign, None) => Vec::new(),
            (There::Nothing, Some(_)) => vec![format!("table inet {TABLE} is missing")],
            (There::Foreign, Some(_)) => {
                let message = format!(
                    "table inet {TABLE} is not ip-masq-agent's: it has no comment '{TABLE_COMMENT}'; \
                     'nft delete table inet {TABLE}' makes room"
                );
                return Err(Error::new(ErrorKind::Foreign, message));
            }
            (There::Ours(_), None) => vec![format!("table inet {TABLE} is not wanted")],
            (There::Ours(contents), Some(wanted)) => contents.differences(&wanted.contents(), &wanted.names),
        };
        if words.is_empty() {
            self.state = State::Right(wanted.cloned(), generation);
        }
        Ok((generation, words, there))
    }

    fn observe(&mut self) -> Result<(u32, There), Error> {
        for _ in 0..ATTEMPTS {
            let before = self.generation()?;
            let there = read(self.netlink()?);
            if self.generation()? == before {
                match there {
                    Ok(Some(there)) => return Ok((before, there)),
                    Ok(None) => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        let message = format!("reading table inet {TABLE}: other programs kept changing the rule set");
        Err(Error::new(ErrorKind::Busy, message))
    }

    fn generation(&mut self) -> Result<u32, Error> {
        self.netlink()?.generation().map_err(failed)
    }

    fn netlink(&mut self) -> Result<&mut Nfnetlink, Error> {
        kept(&mut self.netlink, Nfnetlink::open).map_err(failed)
    }
}

fn exists(interface: &str) -> bool {
    nix::net::if_::if_nametoindex(interface).is_ok()
}

/// Reads what is there; `None` when somebody committed meanwhile.
fn read(netlink: &mut Nfnetlink) -> io::Result<Option<There>> {
    let mut comment = None;
    let request = |message| Request { message, family: INET };
    let table = netlink.get(
        request(libc::NFT_MSG_GETTABLE),
        |writer| writer.text(TABLE_NAME, TABLE),
        |message| {
            let data = message.attributes()?.find(TABLE_USERDATA)?;
            comment = data.and_then(|data| userdata::read_comment(userdata::TABLE_COMMENT, data.value));
            Ok(())
        },
    );
    match table {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Some(There::Nothing)),
        other => other?,
    }
    if comment.as_deref() != Some(TABLE_COMMENT) {
        return Ok(Some(There::Foreign));
    }
    let mut contents = Contents::default();
    let mut is_whole = true;
    let mut dump =
        |message, body: &dyn Fn(&mut Writer), each: &mut dyn FnMut(&Message<'_>) -> Result<(), Malformed>| {
            let consistency = netlink.dump(request(message), body, |message| match of_table(message)? {
                true => each(message),
                false => Ok(()),
            })?;
            is_whole &= consistency == Consistency::Whole;
            io::Result::Ok(())
        };
    let of_ours = |writer: &mut Writer| writer.text(TABLE_NAME, TABLE);
    dump(GETFLOWTABLE, &of_ours, &mut |message| {
        contents.devices = read_flowtable(message)?.or(contents.devices.take());
        Ok(())
    })?;
    dump(libc::NFT_MSG_GETCHAIN, &|_| {}, &mut |message| {
        contents.chains.push(read_chain(message)?);
        Ok(())
    })?;
    dump(libc::NFT_MSG_GETRULE, &of_ours, &mut |message| {
        let (chain, rule) = read_rule(message)?;
        contents.chains.iter_mut().filter(|one| one.name == chain).for_each(|one| one.rules.push(rule.clone()));
        Ok(())
    })?;
    contents.chains.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(is_whole.then_some(There::Ours(contents)))
}

fn of_table(message: &Message<'_>) -> Result<bool, Malformed> {
    Ok(text(message, TABLE_NAME)? == TABLE)
}

fn text(message: &Message<'_>, kind: u16) -> Result<String, Malformed> {
    Ok(message.attributes()?.find(kind)?.map(|found| found.text()).unwrap_or_default())
}

/// The devices of our flowtable; `None` of another one.
fn read_flowtable(message: &Message<'_>) -> Result<Option<BTreeSet<String>>, Malformed> {
    let flags = message.attributes()?.find(table::FLOWTABLE_FLAGS)?.map(|flags| flags.be32()).transpose()?;
    if text(message, FLOWTABLE_NAME)? != table::FLOWTABLE || flags != Some(table::COUNTER) {
        return Ok(None);
    }
    let mut devices = BTreeSet::new();
    if let Some(hook) = message.attributes()?.find(table::FLOWTABLE_HOOK)?
        && let Some(list) = hook.nested().find(table::HOOK_DEVICES)?
    {
        for device in list.nested() {
            devices.insert(device?.text());
        }
    }
    Ok(Some(devices))
}

fn read_chain(message: &Message<'_>) -> Result<FastPathChain, Malformed> {
    let hook = match message.attributes()?.find(CHAIN_HOOK)? {
        None => None,
        Some(hook) => {
            let number = |kind| hook.nested().find(kind)?.map(|found| found.be32()).transpose();
            let policy = message.attributes()?.find(CHAIN_POLICY)?.map(|policy| policy.be32()).transpose()?;
            let priority = number(HOOK_PRIORITY)?.unwrap_or_default() as i32;
            Some((number(HOOK_NUMBER)?.unwrap_or_default(), priority, policy.unwrap_or_default()))
        }
    };
    Ok(FastPathChain { name: text(message, CHAIN_NAME)?, hook, rules: Vec::new() })
}

/// A rule, and the chain that it is in.
fn read_rule(message: &Message<'_>) -> Result<(String, Vec<Expression>), Malformed> {
    let list = message.attributes()?.find(RULE_EXPRESSIONS)?;
    let expressions = list.into_iter().flat_map(|list| list.nested()).map(|element| Expression::read(element?));
    Ok((text(message, RULE_CHAIN)?, expressions.collect::<Result<_, _>>()?))
}

fn failed(error: io::Error) -> Error {
    ask::failed(&format!("table inet {TABLE}"), error)
}

fn explain(refusal: BatchRefusal, needs: Option<Needs>) -> Error {
    let (errno, message) = (refusal.error.raw_os_error(), refusal.message.unwrap_or_default());
    let lacks = matches!(errno, Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL));
    let (kind, what) = match needs {
        _ if refusal.is_silence() => (ErrorKind::Busy, "no answer to a change of table inet"),
        Some(needs) if lacks && message >= needs.flowtable => {
            let message = format!("this kernel has no flowtables (nf_flow_table, nft_flow_offload): {refusal}");
            return Error::new(ErrorKind::Unsupported, message).with_source(refusal);
        }
        _ if errno == Some(libc::EPERM) => (ErrorKind::Permission, "CAP_NET_ADMIN is missing to change table inet"),
        _ => (ErrorKind::Refused, "the kernel refused table inet"),
    };
    Error::new(kind, format!("{what} {TABLE}: {refusal}")).with_source(refusal)
}
