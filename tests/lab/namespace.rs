//! A node of the lab: a network namespace and a mount namespace with a `/run` of its own.

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Output, Stdio};

/// What lies over `/usr/sbin` once a program was hidden or replaced: links to all of them.
pub const SHADOW: &str = "/run/sbin";

/// Where the programs themselves are then.
pub const REAL: &str = "/run/real";

/// A network namespace with loopback up, no IPv6 duplicate address detection, and a private tmpfs on `/run`
/// (so that the xtables lock is nobody else's). It is gone when this and every process and socket in it are gone.
pub struct Namespace {
    /// What messages call it.
    pub name: &'static str,
    net: File,
    mnt: File,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// When the caller may not (neither root nor inside a user namespace of its own).
    pub fn new(name: &'static str) -> io::Result<Self> {
        let (net, mnt) = on_own_thread(leave_for_new_namespaces)?;
        let namespace = Namespace { name, net, mnt };
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0");
        namespace.sysctl("net/ipv6/conf/all/accept_dad", "0");
        namespace.ip("link set lo up\n");
        Ok(namespace)
    }

    /// The same network seen with mounts of its own: what is mounted there later hides nothing from the others. `/run`
    /// is shared.
    ///
    /// # Errors
    /// When the caller may not.
    pub fn with_mounts_of_its_own(&self, name: &'static str) -> io::Result<Self> {
        let (net, mnt) = self.enter(|| {
            // SAFETY: as in `leave_for_new_namespaces`.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
            own_namespaces()
        })?;
        Ok(Namespace { name, net, mnt })
    }

    /// Runs `work` inside. Sockets that it opens and processes that it starts stay inside.
    ///
    /// The working directory is `/` while it runs.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_own_thread(|| {
            self.join().unwrap_or_else(|error| panic!("{}: can't enter the namespace: {error}", self.name));
            work()
        })
    }

    fn join(&self) -> io::Result<()> {
        // SAFETY: only the file system attributes (root, working directory) of this thread are unshared.
        unsafe { unshare_unsafe(UnshareFlags::FS) }?;
        move_into_link_name_space(self.net.as_fd(), Some(LinkNameSpaceType::Network))?;
        move_into_link_name_space(self.mnt.as_fd(), Some(LinkNameSpaceType::Mount))?;
        Ok(())
    }

    /// The network namespace as a path that other processes of the same user can open while this one lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.net.as_raw_fd())
    }

    /// Writes a sysctl, named as under `/proc/sys`.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.enter(|| fs::write(format!("/proc/sys/{name}"), value))
            .unwrap_or_else(|error| panic!("{}: sysctl {name}={value}: {error}", self.name));
    }

    /// Runs lines of `ip -batch`.
    pub fn ip(&self, lines: &str) {
        let output = self.run_with_input("ip", &["-batch", "-"], lines);
        assert!(output.status.success(), "{}: ip -batch:\n{lines}{}", self.name, text(&output.stderr));
    }

    /// Runs a script of nft's.
    pub fn nft(&self, script: &str) {
        let output = self.run_with_input("nft", &["-f", "-"], script);
        assert!(output.status.success(), "{}: nft -f -:\n{script}{}", self.name, text(&output.stderr));
    }

    /// Runs a program to its end.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.run_with_input(program, arguments, "")
    }

    /// Runs a program that reads `input`, to its end.
    pub fn run_with_input(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let run = || -> io::Result<Output> {
            let mut child = Command::new(program)
                .args(arguments)
                .env("PATH", ip_masq_agent::sys::child::PATH)
                .env("LC_ALL", "C")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            // A program that ends without reading its input says so in its status, not here.
            let _ = child.stdin.take().expect("standard input is piped").write_all(input.as_bytes());
            child.wait_with_output()
        };
        self.enter(run).unwrap_or_else(|error| panic!("{}: '{program}' could not be run: {error}", self.name))
    }

    /// Takes programs of `/usr/sbin` away, in this node only: names and patterns, as a shell reads them. They are in
    /// `/run/real` still.
    pub fn hide(&self, patterns: &str) {
        self.shadow_programs();
        self.must("sh", &["-c", &format!("cd {SHADOW} && rm -f {patterns}")]);
    }

    /// Puts a shell script in the place of a program of `/usr/sbin`, in this node only. The script finds the program
    /// itself in `/run/real`.
    pub fn replace(&self, program: &str, script: &str) {
        self.shadow_programs();
        // Not written in its place: a script that is just being run can't be. And not by us: children of other tests would
        // hold it open for writing for a moment, and what somebody can write is not run.
        let put = format!("cat >{SHADOW}/.new && chmod 755 {SHADOW}/.new && mv {SHADOW}/.new {SHADOW}/{program}");
        let output = self.run_with_input("sh", &["-c", &put], &format!("#!/bin/sh\n{script}\n"));
        assert!(output.status.success(), "{}: can't replace '{program}': {}", self.name, text(&output.stderr));
    }

    /// Gives a program back that was hidden or replaced.
    pub fn give_back(&self, program: &str) {
        self.shadow_programs();
        self.must("ln", &["-sf", &format!("{REAL}/{program}"), SHADOW]);
    }

    /// Puts a directory of links before `/usr/sbin`, once.
    pub fn shadow_programs(&self) {
        if self.enter(|| fs::exists(SHADOW)).is_ok_and(|there| there) {
            return;
        }
        let script = format!(
            "mkdir {REAL} {SHADOW} && mount --bind /usr/sbin {REAL} && ln -s {REAL}/* {SHADOW} && \
             mount --bind {SHADOW} /usr/sbin"
        );
        self.must("sh", &["-c", &script]);
    }

    /// Runs a program that must succeed, and returns what it wrote on standard output.
    pub fn must(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        assert!(output.status.success(), "{}: {program} {arguments:?}: {}", self.name, text(&output.stderr));
        text(&output.stdout)
    }
}

/// What a program wrote, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Moves the calling thread into new namespaces and returns what keeps them alive.
fn leave_for_new_namespaces() -> io::Result<(File, File)> {
    // SAFETY: the file descriptor table stays shared; a thread of its own may leave the other two.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755"))?;
    own_namespaces()
}

fn own_namespaces() -> io::Result<(File, File)> {
    Ok((File::open("/proc/thread-self/ns/net")?, File::open("/proc/thread-self/ns/mnt")?))
}
