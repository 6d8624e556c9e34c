//! What goes on all the while: other programs that commit, files that stir. Begun by one step, ended by a later one.

use crate::lab::Namespace;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is going on.
#[derive(Default)]
pub struct Background {
    /// Commits to a table of another program.
    pub commits: Option<Worker>,
    /// A file beside the configuration that is made and removed.
    pub stir: Option<Worker>,
}

/// Does one thing again and again until it is dropped.
pub struct Worker {
    /// How often a second.
    pub rate: f64,
    turn: Arc<Mutex<()>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn new(every: Duration, mut work: impl FnMut() + Send + 'static, end: impl FnOnce() + Send + 'static) -> Self {
        let (stop, stopped) = channel();
        let turn = Arc::<Mutex<()>>::default();
        let turns = turn.clone();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let _turn = turns.lock().expect("nobody panics with it");
                work();
            }
            drop(work);
            end();
        });
        Worker { rate: 1.0 / every.as_secs_f64(), turn, stop: Some(stop), thread: Some(thread) }
    }

    /// It rests until this is dropped.
    pub fn rest(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().expect("nobody panics with it")
    }

    /// Commits to nf_tables, so many a second.
    pub fn commits(node: &Namespace, per_second: f64) -> Self {
        let start = || Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut nft = node.enter(start).expect("nft -i");
        let mut input = nft.stdin.take().expect("standard input is piped");
        let mut there = false;
        let work = move || {
            there = !there;
            // Who flushes everything takes the table away as well.
            let verb = if there { "add table inet noise; add" } else { "delete" };
            let _ = writeln!(input, "{verb} chain inet noise c");
        };
        // At the end of its input it ends.
        Worker::new(Duration::from_secs_f64(1.0 / per_second), work, move || drop(nft.wait()))
    }

    /// Stirs in the directory of the configuration.
    pub fn stir(node: &Namespace, directory: &str, every: Duration) -> Self {
        let directory = node.enter(|| File::open(directory)).expect("the directory");
        let work = move || {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            let _ = openat(&directory, ".stir", flags, Mode::RUSR);
            let _ = unlinkat(&directory, ".stir", AtFlags::empty());
        };
        Worker::new(every, work, || ())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
