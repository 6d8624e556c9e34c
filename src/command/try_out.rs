//! `try`: puts a candidate in force, from which the service goes back by its own timer unless it is confirmed.
//!
//! Whatever becomes of this process, the service keeps the time: a session that the candidate cuts off is none that could
//! take it back.

use super::ask::{self, ANSWER_TIMEOUT, Silence, ask, unanswered};
use super::confirm::{self, NotKept};
use super::{Context, eprint_line, eprint_lines, exit, print_diagnostics};
use crate::agent::{ReloadAnswer, ReloadOutcome};
use crate::cli::TryArgs;
use crate::config::{self, Flags, Locations, SECOND_TO_DAY, SourceText, Trust, parse_go_duration};
use crate::service::control::{Asked, Request, TryRequest};
use crate::sys::signals::{Signal, Signals};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, Instant};

/// What the service needs to go back, and to say so.
const GOING_BACK: Duration = Duration::from_secs(30);

/// Runs the command; returns its exit status.
pub fn run(_context: &Context, args: &TryArgs) -> u8 {
    let timeout = match timeout(&args.timeout) {
        Ok(timeout) => timeout,
        Err(why) => {
            eprint_line(format_args!("--timeout '{}': {why}", args.timeout));
            return exit::USAGE;
        }
    };
    let file = match args.file.as_deref().map(candidate).transpose() {
        Ok(file) => file,
        Err(diagnostics) => return print_diagnostics(&diagnostics),
    };
    let request = Request::Try(TryRequest { timeout, by: who(), file });
    match ask(&request, ANSWER_TIMEOUT) {
        Ok(ReloadAnswer { outcome: ReloadOutcome::Applied, message }) => {
            eprint_line(message);
            wait_for_confirmation(timeout)
        }
        Ok(ReloadAnswer { outcome, message }) => {
            eprint_lines(message.trim_end());
            confirm::status(outcome)
        }
        Err(silence) => unanswered("try", &silence),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let nanoseconds = parse_go_duration(text).map_err(|error| error.to_string())?;
    let timeout = Duration::from_nanos(nanoseconds.try_into().unwrap_or(0));
    if SECOND_TO_DAY.contains(&timeout) { Ok(timeout) } else { Err("must be from 1s to 24h".to_owned()) }
}

/// Its text as it is now: whoever can write the file can't change any more what is tried.
fn candidate(path: &Path) -> Result<SourceText, config::Diagnostics> {
    let locations = Locations { file: Some(path.to_owned()), directory: None, trust: Trust::Warn };
    let reading = config::read(&locations, &Flags::default())?;
    let missing = || config::Diagnostics(vec![config::Diagnostic::of_file(path, "can't be read")]);
    reading.sources.into_iter().next().ok_or_else(missing)
}

/// Who asks, for others who look or want to try something, too.
fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let user = user.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()));
    let terminal = std::fs::read_link("/proc/self/fd/0").ok().filter(|_| io::stdin().is_terminal());
    let terminal = terminal.map(|path| format!(" on {}", path.display())).unwrap_or_default();
    format!("{user}{terminal}").chars().take(100).collect()
}

/// Where somebody is at the terminal: Enter keeps it, Ctrl-C takes it back, and the session's end does neither. However
/// else it ends, the service says so at once.
fn wait_for_confirmation(timeout: Duration) -> u8 {
    if !is_at_terminal() {
        return exit::OK;
    }
    let (Ok(Some(trial)), Ok(signals)) = (confirm::trial(), Signals::install()) else { return exit::OK };
    let end = match ask::begin(&Request::Await(trial.report.number)) {
        Ok(end) => end,
        Err(silence) => return unanswered("try", &silence),
    };
    // What was typed before it was asked for is no answer.
    let _ = rustix::termios::tcflush(io::stdin(), rustix::termios::QueueSelector::IFlush);
    eprint_line("press Enter to keep it, Ctrl-C to go back now");
    let outcome = match key(&signals, &end, Instant::now() + timeout) {
        Key::Enter => confirm::keep_if_on(&trial),
        Key::Interrupt => ask(&Request::Back(trial.report.number), ANSWER_TIMEOUT).map_err(NotKept::from),
        Key::None => answer(end).map_err(NotKept::from),
        Key::Gone => return exit::FAILED,
    };
    match outcome {
        Ok(ReloadAnswer { outcome, message }) => {
            eprint_line(message);
            confirm::status(outcome)
        }
        Err(error) => {
            eprint_line(&error);
            error.status()
        }
    }
}

/// In the foreground of it: a background job that reads it would be stopped.
fn is_at_terminal() -> bool {
    let foreground = rustix::termios::tcgetpgrp(io::stdin());
    foreground.is_ok_and(|group| group == rustix::process::getpgrp())
}

enum Key {
    Enter,
    Interrupt,
    /// Nothing until it was over, or its time was up.
    None,
    /// Nobody is there any more.
    Gone,
}

fn key(signals: &Signals, end: &Asked, until: Instant) -> Key {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Key::None;
        }
        let stdin = io::stdin();
        let mut fds =
            [PollFd::new(&stdin, PollFlags::IN), PollFd::new(signals, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        match poll(&mut fds, Some(&crate::sys::child::timespec(left))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Key::Gone,
        }
        let (typed, ended) = (fds[0].revents(), fds[2].revents());
        match signals.take().first() {
            Some(Signal::Sigterm) => return Key::Interrupt,
            Some(Signal::Sighup) => return Key::Gone,
            None if typed.contains(PollFlags::IN) => {
                return match stdin.lock().read(&mut [0; 256]) {
                    Ok(1..) => Key::Enter,
                    _ => Key::Gone,
                };
            }
            None if !typed.is_empty() => return Key::Gone,
            None if !ended.is_empty() => return Key::None,
            None => {}
        }
    }
}

/// How it ended.
fn answer(end: Asked) -> Result<ReloadAnswer, Silence> {
    let text = end.answer(GOING_BACK).map_err(|error| match error.kind() {
        // With the service, which was killed.
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => Silence::NotRunning,
        _ => error.into(),
    })?;
    ask::read(&text)
}
