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
