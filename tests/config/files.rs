//! Which files are read, and which are refused as files.

use super::skip;
use ip_masq_agent::config::{Diagnostics, Locations, MAX_FILE_BYTES, Reading, Trust, read};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A directory that the service would trust.
struct Etc {
    root: TempDir,
}

impl Etc {
    fn new() -> Self {
        let etc = Etc { root: tempfile::tempdir().unwrap() };
        etc.chmod("", 0o755);
        etc
    }

    fn path(&self, name: &str) -> PathBuf {
        // Of the real path, so that a linked temporary directory is not the test's subject.
        let root = self.root.path().canonicalize().unwrap();
        if name.is_empty() { root } else { root.join(name) }
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
        fs::write(&path, content).unwrap();
        self.chmod(name, 0o644);
        path
    }

    fn locations(&self, file: &str) -> Locations {
        Locations { file: Some(self.path(file)), ..Locations::default() }
    }

    fn read(&self, file: &str) -> Result<Reading, Diagnostics> {
        read(&self.locations(file))
    }

    /// What is said about a file that is refused, without its path.
    fn refusal(&self, file: &str) -> String {
        let error = self.read(file).unwrap_err().to_string();
        let root = self.path("").display().to_string();
        error.replace(&format!("{root}/"), "").replace(&root, ".")
    }
}

fn names(reading: &Reading) -> Vec<String> {
    reading.sources.iter().map(|source| source.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_directory_is_read_in_the_order_of_bytes() {
    let etc = Etc::new();
    etc.write("main.conf", "");
    for name in ["9.yaml", "10.yaml", "B.toml", "a.json", ".hidden.yaml", "a.yaml~", "a.bak", "README", "old.yml"] {
        etc.write(&format!("d/{name}"), "");
    }
    let locations = Locations { directory: Some(etc.path("d")), ..etc.locations("main.conf") };
    let reading = read(&locations).unwrap();
    assert_eq!(names(&reading), ["main.conf", "10.yaml", "9.yaml", "B.toml", "a.json"]);
    assert_eq!(reading.warnings.len(), 1);
    assert!(reading.warnings[0].to_string().ends_with("/old.yml: not read; its name would have to end in .yaml"));
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    let etc = Etc::new();
    for name in ["a.yaml", "a.json", "a.toml"] {
        etc.write(name, "\u{feff}");
        assert_eq!(etc.read(name).unwrap().sources[0].text, "");
    }
}

#[test]
fn a_file_that_was_named_must_exist_and_be_a_file() {
    let etc = Etc::new();
    assert_eq!(etc.refusal("absent"), "absent: can't be opened: No such file or directory (os error 2)");
    fs::create_dir(etc.path("directory")).unwrap();
    assert_eq!(etc.refusal("directory"), "directory: is a directory, not a regular file");
    symlink("nowhere", etc.path("dangling")).unwrap();
    assert_eq!(etc.refusal("dangling"), "dangling: is a link to nothing");
    symlink("loop", etc.path("loop")).unwrap();
    assert!(etc.refusal("loop").starts_with("loop: can't be opened: "));
    let _listener = UnixListener::bind(etc.path("socket")).unwrap();
    assert_eq!(etc.refusal("socket"), "socket: is a socket, not a regular file");
    // Nobody writes to it: opening it as a file is opened would wait forever.
    rustix::fs::mkfifoat(rustix::fs::CWD, etc.path("fifo"), rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(etc.refusal("fifo"), "fifo: is a FIFO, not a regular file");
    symlink("/dev/zero", etc.path("device")).unwrap();
    assert!(etc.refusal("device").contains("device: is a device, not a regular file"));
    let locations = Locations { directory: Some(etc.path("no-such")), ..etc.locations("absent") };
    assert_eq!(read(&locations).unwrap_err().0.len(), 2);
}

#[test]
fn what_is_no_text_is_refused_with_its_place() {
    let etc = Etc::new();
    etc.write("binary.yaml", b"a: b\nc: \xff\xfe");
    let expected = "binary.yaml: not UTF-8 text: byte 0xff at offset 8, in line 2; is this a binary file?";
    assert_eq!(etc.refusal("binary.yaml"), expected);
}

#[test]
fn more_than_64_mib_is_refused_before_it_is_read() {
    let etc = Etc::new();
    let path = etc.write("huge.yaml", "");
    // Sparse: were it read, it would be 1 TiB of NUL.
    File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(etc.refusal("huge.yaml"), "huge.yaml: has 1099511627776 bytes, more than the limit of 64 MiB");
    File::options().write(true).open(&path).unwrap().set_len(MAX_FILE_BYTES).unwrap();
    assert_eq!(etc.read("huge.yaml").unwrap().sources[0].text.len() as u64, MAX_FILE_BYTES);
    etc.write("d/1.yaml", "");
    for name in ["d/2.yaml", "d/3.yaml"] {
        File::options().write(true).open(etc.write(name, "")).unwrap().set_len(MAX_FILE_BYTES - 1).unwrap();
    }
    etc.write("d/4.yaml", "abc");
    let locations = Locations { directory: Some(etc.path("d")), ..etc.locations("d/1.yaml") };
    let error = read(&locations).unwrap_err().to_string();
    assert!(error.ends_with("4.yaml: makes the configuration longer than the limit of 128 MiB"), "{error}");
}

#[test]
fn what_others_can_write_is_refused_or_warned_about() {
    let etc = Etc::new();
    etc.write("config.yaml", "");
    let cases =
        [(0o664, "its group", "0664"), (0o646, "everybody", "0646"), (0o666, "its group and everybody", "0666")];
    for (mode, who, shown) in cases {
        etc.chmod("config.yaml", mode);
        let expected = format!("config.yaml: can be written by {who} (mode {shown}); chmod go-w");
        assert_eq!(etc.refusal("config.yaml"), expected);
        let reading = read(&Locations { trust: Trust::Warn, ..etc.locations("config.yaml") }).unwrap();
        assert_eq!(names(&reading), ["config.yaml"]);
        assert!(reading.warnings[0].to_string().ends_with("chmod go-w; the service will refuse it"));
    }
    etc.chmod("config.yaml", 0o600);
    assert!(etc.read("config.yaml").unwrap().warnings.is_empty());
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let etc = Etc::new();
    etc.write("config.yaml", "");
    etc.chmod("", 0o1777);
    let message = etc.refusal("config.yaml");
    assert_eq!(message, ".: the directory can be written by its group and everybody (mode 1777); chmod go-w");
    etc.chmod("", 0o755);
    fs::create_dir(etc.path("empty.d")).unwrap();
    etc.chmod("empty.d", 0o775);
    let locations = Locations { directory: Some(etc.path("empty.d")), ..etc.locations("config.yaml") };
    let error = read(&locations).unwrap_err().to_string();
    assert!(error.ends_with("empty.d: the directory can be written by its group (mode 0775); chmod go-w"), "{error}");
}

#[test]
fn a_link_is_judged_by_where_it_leads() {
    let etc = Etc::new();
    etc.write("real/target.yaml", "");
    symlink("real/target.yaml", etc.path("config.yaml")).unwrap();
    assert_eq!(names(&etc.read("config.yaml").unwrap()), ["config.yaml"]);
    etc.chmod("real/target.yaml", 0o666);
    assert!(etc.refusal("config.yaml").starts_with("config.yaml: can be written by"));
    etc.chmod("real/target.yaml", 0o644);
    etc.chmod("real", 0o777);
    assert!(etc.refusal("config.yaml").starts_with("real: the directory can be written by"));
}

#[test]
fn what_belongs_to_somebody_else_is_refused() {
    let etc = Etc::new();
    let path = etc.write("config.yaml", "");
    if let Err(error) = std::os::unix::fs::chown(&path, Some(65534), None) {
        return skip(&format!("giving a file away needs root: {error}"));
    }
    assert_eq!(etc.refusal("config.yaml"), "config.yaml: belongs to user 65534, not to root");
}

/// The program, run by an ordinary user from a place where that user can run it.
fn as_nobody(etc: &Etc, arguments: &[&str]) -> Option<Output> {
    let program = etc.path("ip-masq-agent");
    fs::copy(env!("CARGO_BIN_EXE_ip-masq-agent"), &program).unwrap();
    etc.chmod("ip-masq-agent", 0o755);
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let probe = Command::new("setpriv").args(nobody).arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip("becoming an ordinary user needs root and setpriv");
        return None;
    }
    Some(Command::new("setpriv").args(nobody).arg(program).args(arguments).output().unwrap())
}

#[test]
fn an_ordinary_user_who_checks_is_only_warned() {
    let etc = Etc::new();
    let path = etc.write("config.yaml", "masqLinkLocal: true\n");
    etc.chmod("config.yaml", 0o666);
    let Some(output) = as_nobody(&etc, &["check", "--config", path.to_str().unwrap()]) else { return };
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("warning: ") && said.ends_with("; the service will refuse it\n"), "{said}");
}

#[test]
fn a_file_that_can_not_be_read_says_why() {
    let etc = Etc::new();
    let path = etc.write("config.yaml", "");
    etc.chmod("config.yaml", 0o600);
    let Some(output) = as_nobody(&etc, &["check", "--config", path.to_str().unwrap()]) else { return };
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, format!("{}: can't be opened: Permission denied (os error 13)\n", path.display()));
}

/// `check` with an /etc of its own, in a mount namespace; `script` fills /etc/ip-masq-agent.
fn check_in_own_etc(script: &str) -> Option<(Option<i32>, String)> {
    let namespace = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let probe = Command::new("unshare").args([namespace, "mount", "-t", "tmpfs", "none", "/etc"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip("a mount namespace of our own");
        return None;
    }
    let script = format!(
        "set -e; umask 022; mount -t tmpfs -o mode=755 none /etc; mkdir -p /etc/ip-masq-agent/config.d; \
         cd /etc/ip-masq-agent; {script}\nexec \"$0\" check",
    );
    let program = Path::new(env!("CARGO_BIN_EXE_ip-masq-agent"));
    let output = Command::new("unshare").args([namespace, "sh", "-c", &script]).arg(program).output().unwrap();
    assert!(output.stdout.is_empty());
    Some((output.status.code(), String::from_utf8(output.stderr).unwrap()))
}

#[test]
fn the_usual_places_are_read_when_no_file_is_named() {
    let cases = [
        ("", Some(0), ""),
        ("rmdir config.d; cd /; rmdir /etc/ip-masq-agent", Some(0), ""),
        (
            "echo 'x: 1' > config.yaml",
            Some(78),
            "/etc/ip-masq-agent/config.yaml:1:1: x: unknown key\n    x: 1\n    ^\n",
        ),
        (
            "echo 'x = 1' > config.toml",
            Some(78),
            "/etc/ip-masq-agent/config.toml:1:1: x: unknown key\n    x = 1\n    ^\n",
        ),
        ("echo '{\"masqLinkLocal\": true}' > config.yaml", Some(0), ""),
        (
            "touch config.yaml config.toml",
            Some(78),
            "/etc/ip-masq-agent/config.toml: /etc/ip-masq-agent/config.yaml is there too; keep one of them\n",
        ),
        ("ln -s nowhere config.yaml", Some(78), "/etc/ip-masq-agent/config.yaml: is a link to nothing\n"),
        ("mkdir config.d/a.yaml", Some(78), "/etc/ip-masq-agent/config.d/a.yaml: is a directory, not a regular file\n"),
        (
            "chmod 777 config.d",
            Some(78),
            "/etc/ip-masq-agent/config.d: the directory can be written by its group and everybody (mode 0777); chmod go-w\n",
        ),
        (
            "echo 'x: 1' > config.yaml; echo 'y: 1' > config.d/a.yaml",
            Some(78),
            "/etc/ip-masq-agent/config.yaml:1:1: x: unknown key\n    x: 1\n    ^\n\
             /etc/ip-masq-agent/config.d/a.yaml:1:1: y: unknown key\n    y: 1\n    ^\n",
        ),
    ];
    for (script, status, said) in cases {
        let Some(found) = check_in_own_etc(script) else { return };
        assert_eq!(found, (status, said.to_owned()), "{script}");
    }
}

#[test]
fn with_a_file_named_the_usual_directory_is_left_alone() {
    let fill = "echo 'x: 1' > config.d/a.yaml; echo > other.yaml; echo > config.yaml; set -- ";
    for (arguments, status) in [("--config other.yaml", 0), ("--config /etc/ip-masq-agent/config.yaml", 78)] {
        let script = format!("{fill}; exec \"$0\" check {arguments}");
        let Some((found, said)) = check_in_own_etc(&script) else { return };
        assert_eq!(found, Some(status), "{arguments}: {said}");
    }
}
