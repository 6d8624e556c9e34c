//! Child processes with an empty environment, no inherited descriptors, and a deadline.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::cell::Cell;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Where programs are looked for; the caller's environment is not asked.
pub const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// No program that we run has more to say; one that does is broken.
const LONGEST_OUTPUT: usize = 256 << 20;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program's name, looked up in [`PATH`].
    pub program: String,
    pub arguments: Vec<String>,
    /// What it reads on standard input.
    pub input: Vec<u8>,
    /// After this it is killed.
    pub deadline: Duration,
    /// So much later where that much is to be done: the piece of work that it is part of may take that much longer, too.
    pub allowance: Duration,
}

impl Invocation {
    /// A program with arguments, nothing to read, and ten seconds.
    pub fn new(program: impl Into<String>, arguments: &[&str]) -> Self {
        Invocation {
            program: program.into(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            input: Vec::new(),
            deadline: Duration::from_secs(10),
            allowance: Duration::ZERO,
        }
    }

    /// The same with something to read.
    pub fn with_input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub status: ExitStatus,
    /// What it wrote on standard output.
    pub stdout: Vec<u8>,
    /// What it wrote on standard error, as text.
    pub stderr: String,
}

/// Why there is no [`Output`].
#[derive(Debug)]
pub enum ChildError {
    /// No such program in [`PATH`].
    NotFound(String),
    /// It could not be started or talked to.
    Io(String, io::Error),
    /// It ran past its deadline and was killed.
    Deadline(String, Duration),
    /// It was not started, because the piece of work that it belongs to has had its time.
    NoTimeLeft(String),
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChildError::NotFound(program) => write!(f, "no program '{program}' in {PATH}"),
            ChildError::Io(invocation, error) => write!(f, "'{invocation}' could not be run: {error}"),
            ChildError::Deadline(invocation, deadline) => {
                write!(f, "'{invocation}' did not end within {:.1} s and was killed", deadline.as_secs_f64())
            }
            ChildError::NoTimeLeft(invocation) => {
                write!(f, "'{invocation}' was not run: the programs before it used up the time limit")
            }
        }
    }
}

impl std::error::Error for ChildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ChildError::Io(_, error) => Some(error),
            ChildError::NotFound(_) | ChildError::Deadline(..) | ChildError::NoTimeLeft(_) => None,
        }
    }
}

impl ChildError {
    /// True when trying the same again soon may well work: the host was short of something for a moment, or a package
    /// manager was just writing the program.
    pub fn is_passing(&self) -> bool {
        const SHORT: [i32; 6] = [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EINTR, libc::ETXTBSY];
        match self {
            ChildError::NotFound(_) => false,
            ChildError::Io(_, error) => error.raw_os_error().is_some_and(|errno| SHORT.contains(&errno)),
            ChildError::Deadline(..) | ChildError::NoTimeLeft(_) => true,
        }
    }
}

/// Marks every descriptor but the three standard ones close-on-exec. Ours are already; what the program that started us
/// left open must not reach our children (close_range(2), Linux 5.11; where it is missing, systemd has closed them).
pub fn keep_descriptors_from_children() {
    // SAFETY: the call changes flags of descriptors and touches no memory.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// Runs child processes. The one seam at which a test can put a program of its own.
pub trait Exec {
    /// Runs to the end or to the deadline.
    ///
    /// # Errors
    /// When there is no end to speak of; an exit status other than 0 is no error here.
    fn run(&mut self, invocation: &Invocation) -> Result<Output, ChildError>;

    /// True when the program is in [`PATH`].
    fn has(&self, program: &str) -> bool;
}

/// Runs them for real.
#[derive(Debug, Default, Clone, Copy)]
pub struct Children;

impl Exec for Children {
    fn run(&mut self, invocation: &Invocation) -> Result<Output, ChildError> {
        run(invocation, invocation.deadline + invocation.allowance, &|| {})
    }

    fn has(&self, program: &str) -> bool {
        locate(program).is_some()
    }
}

/// Runs them for real, and all of one piece of work to one end: each for itself in time, they can together still be
/// slower than a watchdog or a stop allows. Clones share the end.
#[derive(Debug, Default, Clone)]
pub struct BoundedChildren {
    end: Rc<Cell<Option<Instant>>>,
    progress: Option<fn()>,
    told: Rc<Cell<Option<Instant>>>,
}

impl BoundedChildren {
    /// The same where somebody wants to be told each second that a program with much to do is still at it.
    pub fn telling(progress: fn()) -> Self {
        BoundedChildren { progress: Some(progress), ..BoundedChildren::default() }
    }

    /// When it was last told; `None` when it never was.
    pub fn told(&self) -> Option<Instant> {
        self.told.get()
    }

    /// A piece of work begins: whatever is run from now on has ended, or is killed, by then.
    pub fn end_by(&self, end: Instant) {
        self.end.set(Some(end));
    }

    /// When the present piece of work has to be done; `None` when nobody has said.
    pub fn end(&self) -> Option<Instant> {
        self.end.get()
    }
}

impl Exec for BoundedChildren {
    fn run(&mut self, invocation: &Invocation) -> Result<Output, ChildError> {
        let left = self.end().map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(ChildError::NoTimeLeft(invocation.to_string()));
        }
        let Invocation { deadline, allowance, .. } = *invocation;
        if allowance.is_zero() {
            return run(invocation, left.map_or(deadline, |left| left.min(deadline)), &|| {});
        }
        self.end.set(self.end().map(|end| end + allowance));
        let tell = || {
            self.progress.iter().for_each(|progress| progress());
            self.told.set(Some(Instant::now()));
        };
        run(invocation, left.map_or(deadline, |left| left.min(deadline)) + allowance, &tell)
    }

    fn has(&self, program: &str) -> bool {
        Children.has(program)
    }
}

/// `progress` is called each second until it ends.
fn run(invocation: &Invocation, deadline: Duration, progress: &dyn Fn()) -> Result<Output, ChildError> {
    let failed = |error| ChildError::Io(invocation.to_string(), error);
    let program = locate(&invocation.program).ok_or_else(|| ChildError::NotFound(invocation.program.clone()))?;
    let end = Instant::now() + deadline;
    let mut child = Command::new(program)
        .args(&invocation.arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut wait = Wait { end, progress, told: Instant::now() };
    let talk =
        converse(&mut child, &invocation.input, &mut wait).map(|streams| streams.filter(|_| ends(&child, &mut wait)));
    if !matches!(talk, Ok(Some(_))) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    match talk.map_err(failed)? {
        Some((stdout, stderr)) => Ok(Output { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }),
        None => Err(ChildError::Deadline(invocation.to_string(), deadline)),
    }
}

/// What can't be executed is passed over, as a shell does.
fn locate(program: &str) -> Option<std::path::PathBuf> {
    let is_program = |path: &std::path::PathBuf| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    PATH.split(':').map(|directory| std::path::Path::new(directory).join(program)).find(is_program)
}

type Streams = (Vec<u8>, Vec<u8>);

/// The time that a child has.
struct Wait<'a> {
    end: Instant,
    progress: &'a dyn Fn(),
    told: Instant,
}

impl Wait<'_> {
    const TOLD: Duration = Duration::from_secs(1);

    /// For how long to wait now; nothing past the end.
    fn next(&mut self) -> Duration {
        let now = Instant::now();
        if now >= self.told + Self::TOLD {
            (self.progress)();
            self.told = now;
        }
        self.end.saturating_duration_since(now).min(Self::TOLD)
    }
}

/// Feeds and drains the three pipes at once, so that no full pipe can stop either side; `None` past the end.
fn converse(child: &mut std::process::Child, input: &[u8], wait: &mut Wait<'_>) -> io::Result<Option<Streams>> {
    let (mut stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let pipes = [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
    pipes.into_iter().flatten().try_for_each(|fd| rustix::io::ioctl_fionbio(fd, true))?;
    let (mut out, mut err, mut written) = (Vec::new(), Vec::new(), 0);
    if input.is_empty() {
        stdin = None;
    }
    while stdin.is_some() || stdout.is_some() || stderr.is_some() {
        let left = wait.next();
        if left.is_zero() {
            return Ok(None);
        }
        wait_for_any(
            &[
                (stdin.as_ref().map(AsFd::as_fd), PollFlags::OUT),
                (stdout.as_ref().map(AsFd::as_fd), PollFlags::IN),
                (stderr.as_ref().map(AsFd::as_fd), PollFlags::IN),
            ],
            left,
        )?;
        if let Some(pipe) = stdin.as_mut() {
            match pipe.write(&input[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The child has read enough; what it says on its other pipes tells why.
                Err(_) => written = input.len(),
            }
            if written == input.len() {
                stdin = None;
            }
        }
        drain(&mut stdout, &mut out)?;
        drain(&mut stderr, &mut err)?;
        if out.len() + err.len() > LONGEST_OUTPUT {
            return Err(io::Error::other(format!("it wrote more than {} MiB", LONGEST_OUTPUT >> 20)));
        }
    }
    Ok(Some((out, err)))
}

/// True when the child has ended before its deadline; closed pipes are no end.
fn ends(child: &std::process::Child, wait: &mut Wait<'_>) -> bool {
    // Linux 5.3; on an older kernel whoever closes its pipes is trusted to end.
    let Ok(pidfd) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else { return true };
    loop {
        let left = wait.next();
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

fn wait_for_any(pipes: &[(Option<rustix::fd::BorrowedFd<'_>>, PollFlags)], left: Duration) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> =
        pipes.iter().filter_map(|(fd, flags)| fd.map(|fd| PollFd::from_borrowed_fd(fd, *flags))).collect();
    match poll(&mut fds, Some(&timespec(left))) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A wait, as poll(2) takes it.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

/// Reads a piece of what is there; closes the pipe at its end. A piece, so that who never stops meets its deadline.
fn drain(pipe: &mut Option<impl Read>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(reader) = pipe.as_mut() else { return Ok(()) };
    let mut buffer = [0; 65536];
    match reader.read(&mut buffer) {
        Ok(0) => *pipe = None,
        Ok(count) => into.extend_from_slice(&buffer[..count]),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn shell(script: &str) -> Invocation {
        Invocation::new("sh", &["-c", script])
    }

    #[test]
    fn output_and_status_come_back() {
        let output = Children.run(&shell("cat; echo no >&2; exit 3").with_input("x".repeat(300_000))).unwrap();
        assert_eq!((output.status.code(), output.stdout.len(), output.stderr.as_str()), (Some(3), 300_000, "no\n"));
    }

    #[test]
    fn the_environment_is_empty_but_for_path_and_language() {
        let output = Children.run(&shell("env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= | sort")).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("LC_ALL=C\nPATH={PATH}\n"));
    }

    #[test]
    fn a_child_past_its_deadline_is_killed() {
        let mut invocation = shell("exec sleep 600");
        invocation.deadline = Duration::from_millis(50);
        assert!(matches!(Children.run(&invocation), Err(ChildError::Deadline(_, _))));
    }

    #[test]
    fn closing_its_pipes_does_not_save_a_child_from_its_deadline() {
        let mut invocation = shell("exec >/dev/null 2>&1 </dev/null; exec sleep 20");
        invocation.deadline = Duration::from_millis(50);
        let begun = Instant::now();
        assert!(matches!(Children.run(&invocation), Err(ChildError::Deadline(_, _))));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_child_that_never_stops_talking_is_stopped() {
        let begun = Instant::now();
        assert!(Children.run(&Invocation::new("yes", &[])).is_err());
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn the_children_of_one_piece_of_work_share_its_end() {
        let mut children = BoundedChildren::default();
        let mut other = children.clone();
        assert!(children.run(&shell("exit 0")).is_ok(), "nobody has said when to end");
        children.end_by(Instant::now() + Duration::from_millis(50));
        let error = other.run(&shell("exec sleep 600")).unwrap_err();
        assert!(matches!(&error, ChildError::Deadline(_, allowed) if *allowed <= Duration::from_millis(50)), "{error}");
        let error = children.run(&shell("exit 0")).unwrap_err();
        assert!(matches!(error, ChildError::NoTimeLeft(_)) && error.is_passing(), "{error}");
        children.end_by(Instant::now() + Duration::from_secs(600));
        assert!(other.run(&shell("exit 0")).is_ok(), "the next piece of work");
    }

    #[test]
    fn what_is_allowed_for_much_to_do_is_added_to_the_end_of_its_piece_of_work_and_told_of() {
        static TOLD: AtomicU32 = AtomicU32::new(0);
        let mut children = BoundedChildren::telling(|| _ = TOLD.fetch_add(1, Ordering::Relaxed));
        children.end_by(Instant::now() + Duration::from_millis(10));
        let mut long = shell("sleep 2.5");
        long.allowance = Duration::from_secs(60);
        assert!(children.run(&long).is_ok());
        assert!(children.run(&shell("exit 0")).is_ok(), "the next one has what is left of it");
        assert!(TOLD.load(Ordering::Relaxed) >= 2);
    }

    #[test]
    fn a_missing_program_is_told_apart() {
        assert!(matches!(Children.run(&Invocation::new("no-such-program", &[])), Err(ChildError::NotFound(_))));
    }
}
