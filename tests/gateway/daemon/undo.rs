//! Taking a change back.

use super::*;

const FRAGMENTS: &str = "/run/test/config.d";

fn read(host: &Host, path: &str) -> String {
    host.node.enter(|| fs::read_to_string(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_last_good_configuration_is_printed_and_written_back_and_nothing_is_lost() {
    let host = host!(GOOD);
    let none = host.command(&["last-good"]);
    assert_eq!((none.code, &*none.stderr), (Some(1), "no configuration has been saved as good yet\n"));
    let fragment = format!("{FRAGMENTS}/10-vpn.yaml");
    host.node.enter(|| {
        fs::create_dir(FRAGMENTS).unwrap();
        fs::write(&fragment, "masqMulticast: true").unwrap();
    });
    let with_fragments = ["--config-dir", FRAGMENTS];
    let mut service = host.start_as(host.prepare(&["run", "--config-dir", FRAGMENTS]));
    service.wait_for("READY=1");
    let last_good = |more: &[&str]| host.command(&[&["last-good"][..], more, &with_fragments].concat());
    let printed = last_good(&[]);
    let expected = format!("# {CONFIG}\n{GOOD}# {fragment}\nmasqMulticast: true\n");
    assert_eq!((printed.code, printed.stdout), (Some(0), expected));
    assert_eq!(last_good(&["--restore"]).stdout, "the files are as they were\n");

    let other = format!("{FRAGMENTS}/20-new.yaml");
    host.configure(BAD);
    host.node.enter(|| {
        fs::set_permissions(CONFIG, fs::Permissions::from_mode(0o640)).unwrap();
        fs::remove_file(&fragment).unwrap();
        fs::write(&other, "masqLinkLocal: true\n").unwrap();
    });
    let elsewhere = host.command(&["last-good", "--restore"]);
    assert_eq!(elsewhere.code, Some(2), "without the directory that the service was given: {elsewhere:?}");
    let restored = last_good(&["--restore"]);
    let said = format!(
        "{CONFIG}: restored; what was there is now {CONFIG}.before-restore\n{fragment}: restored\n\
         {other}: removed, it was not part of it; what was there is now {other}.before-restore\n"
    );
    assert_eq!((restored.code, restored.stdout), (Some(0), said), "{}", restored.stderr);
    assert_eq!((read(&host, CONFIG), read(&host, &fragment)), (GOOD.to_owned(), "masqMulticast: true".to_owned()));
    assert_eq!(read(&host, &format!("{CONFIG}.before-restore")), BAD);
    assert_eq!(read(&host, &format!("{other}.before-restore")), "masqLinkLocal: true\n");
    let mode = host.node.enter(|| fs::metadata(CONFIG)).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o640, "its mode is kept");
    assert_eq!(host.command(&["reload"]).code, Some(0));
    assert_eq!(host.command(&["status"]).code, Some(0));
}
