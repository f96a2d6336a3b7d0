//! What the machine and the user of a test allow.

use crate::hub::{Hub, PATIENCE};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A user who is neither root nor, in general, the owner of a hub.
pub const NOBODY: u32 = 65_534;

pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// A program run by an ordinary user, whom the system holds to limits.
pub fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let user = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .arg(program);
    command
}

/// Says that a test, or a part of one, cannot be done here, past the capture of a test's output.
pub fn left_out(what: &str, why: &str) {
    let _ = std::io::stderr().write_all(format!("left out: {what}: {why}\n").as_bytes());
}

/// Whether mounts can be made that only a test's own processes see.
pub fn has_private_mounts() -> bool {
    private_mounts()
        .args(["mount", "-t", "tmpfs", "none", "/mnt"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// What runs the command that follows with mounts of its own; an ordinary user is root in there.
pub fn private_mounts() -> Command {
    let mut command = Command::new("unshare");
    command.arg(if is_root() { "-m" } else { "-rm" });
    command
}

/// Runs a program where a hub sees its private mounts.
pub fn beside(hub: &Hub, program: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("nsenter");
    command.args(["-t", &hub.launcher_pid().to_string(), "-m"]);
    if !is_root() {
        command.args(["-U", "--preserve-credentials"]);
    }
    command
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What a program said on its error output.
pub fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until hubcli explains a plugin by all these parts, and returns all that it says.
pub fn explained(hub: &Hub, id: &str, parts: &[&str]) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let output = hub.hubcli(&["why", id]);
        let why = String::from_utf8_lossy(&output.stdout).into_owned();
        if parts.iter().all(|part| why.contains(part)) {
            return why;
        }
        if Instant::now() > until {
            let complaint = complaint(&output);
            panic!("no {parts:?} in:\n{why}{complaint}\n{}", hub.account());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether this is a process namespace of the test's own, where it may signal everybody. Where it is not, the test is run
/// in one, and its failure is this one's; where there can be none, it is left out.
pub fn in_own_processes(test: &str, what: &str) -> bool {
    const INSIDE: &str = "TEST_IN_OWN_PROCESSES";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        command
    };
    let can = unshare().arg("true").output();
    if !can.is_ok_and(|output| output.status.success()) {
        left_out(
            what,
            "needs processes of its own (unshare --pid --mount-proc)",
        );
        return false;
    }
    let output = unshare()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        complaint(&output)
    );
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    for line in said.lines().filter(|line| line.starts_with("left out: ")) {
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    }
    false
}
