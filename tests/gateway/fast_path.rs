//! `fastPath` on whatever kernel runs this: open connections are in a flowtable, or it is told why not. What a flowtable
//! does to packets is seen on kernels that have one, by `make test-fast-path`.

use crate::lab::{BACKENDS, Gateway, Lab};
use crate::on_each_backend;

const BINARY: &str = env!("CARGO_BIN_EXE_ip-masq-agent");
const KEY: &str = "fastPath: [wan0, lan0]\n";
const TABLE: &str = "ip-masq-agent-fastpath";

/// Whether the kernel takes the flowtable of another program.
fn has_flowtables(lab: &Lab) -> bool {
    let table = "table inet theirs {\n flowtable f {\n hook ingress priority 0\n devices = { lan0 }\n }\n}\n";
    lab.gateway.run_with_input("nft", &["-c", "-f", "-"], table).status.success()
}

fn tables(lab: &Lab) -> String {
    lab.gateway.must("nft", &["list", "tables"])
}

#[test]
fn it_is_in_the_kernel_or_told_with_its_place_and_never_in_the_way_of_the_policy() {
    on_each_backend(|lab, gateway, backend| {
        let has = has_flowtables(lab);
        gateway.agent.configure(&gateway.config(KEY));
        let before = gateway.agent.command("check", &["--host"]);
        let finding = format!(
            "{}:3:12: fastPath: connections are carried as without it: this kernel has no flowtables",
            gateway.agent.config_path()
        );
        let said = String::from_utf8_lossy(&before.stdout).into_owned();
        assert_eq!(said.contains(&finding), !has, "{backend}: {said}");
        assert!(has || before.status.code() == Some(1), "{backend}: {before:?}");
        assert!(!tables(lab).contains(TABLE), "{backend}: check wrote it");

        let mut service = gateway.agent.start();
        assert_eq!(tables(lab).contains(TABLE), has, "{backend}");
        let status = gateway.agent.must("status", &[]);
        let warning = "warning: fastPath has no effect: this kernel has no flowtables";
        assert_eq!(status.contains(warning), !has, "{backend}: {status}");
        assert_eq!(status.contains("fast path: lan0, wan0; offloaded connections: 0"), has, "{backend}: {status}");
        assert_eq!(gateway.agent.command("diff", &[]).status.code(), Some(i32::from(!has)), "{backend}");
        gateway.check("with fastPath", "lan 192.168.77.2 udp 203.0.113.200 203.0.113.1");

        gateway.agent.configure(&gateway.config(""));
        gateway.agent.must("reload", &[]);
        assert!(!tables(lab).contains(TABLE), "{backend}: the key went");
        let status = gateway.agent.must("status", &[]);
        assert!(!status.contains("fast"), "{backend}: {status}");
        assert!(service.stop().success(), "{backend}");
        let told = service.whole_log().iter().filter(|line| line.contains("fastPath has no effect")).count();
        assert_eq!(told, usize::from(!has), "{backend}: {:?}", service.log);
    });
}

#[test]
fn what_a_crash_left_of_it_goes_and_a_table_of_another_program_stays() {
    let left = "table inet ip-masq-agent-fastpath {\n comment \"managed by ip-masq-agent\"\n chain forward {\n }\n}\n";
    let theirs = "table inet ip-masq-agent-fastpath {\n chain theirs {\n }\n}\n";
    on_each_backend(|lab, gateway, backend| {
        gateway.agent.configure(&gateway.config(""));
        lab.gateway.nft(left);
        let diff = gateway.agent.command("diff", &[]);
        let said = String::from_utf8_lossy(&diff.stdout).into_owned();
        assert!(said.contains("# table inet ip-masq-agent-fastpath"), "{backend}: {said}");
        let mut service = gateway.agent.start();
        assert!(!tables(lab).contains(TABLE), "{backend}: left by a crash");
        service.stop();
        lab.gateway.nft(left);
        gateway.agent.must("flush", &[]);
        assert!(!tables(lab).contains(TABLE), "{backend}: flushed");

        lab.gateway.nft(theirs);
        gateway.agent.configure(&gateway.config(KEY));
        let mut service = gateway.agent.start();
        let status = gateway.agent.must("status", &[]);
        let warning = "warning: fastPath has no effect: table inet ip-masq-agent-fastpath is not ip-masq-agent's";
        assert!(status.contains(warning), "{backend}: {status}");
        service.stop();
        gateway.agent.must("flush", &[]);
        assert!(tables(lab).contains(TABLE), "{backend}: another program's");
    });
}

#[test]
fn an_interface_that_is_not_there_is_told_and_a_pattern_is_none() {
    let Some(lab) = Lab::build() else { return };
    let gateway = Gateway::new(&lab, BINARY, BACKENDS[0]);
    gateway.agent.configure("fastPath: [wan0, lna0]\n");
    let check = gateway.agent.command("check", &["--host"]);
    let finding =
        format!("{}:1:18: fastPath: no interface 'lna0' on this host; did you mean lan0?", gateway.agent.config_path());
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.code() == Some(1) && said.contains(&finding), "{said}");
}
