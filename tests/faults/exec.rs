//! Programs that the system does not execute: a test for each of its errors (spec §17). Each names the cause and the way
//! out in `why`, and runs once it is mended, without another word to the launcher where it can notice that.

use crate::hub::{Home, Hub};
use crate::means::{explained, has_private_mounts, left_out, private_mounts};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const SLEEPER: &str = "exec sleep 1000";

/// A hub without a core, whose first failure is not tried again by itself.
fn home(autostart: &str) -> Home {
    Home::new(&format!(
        "logLevel: info\ncreatePluginCred: false\nautostart: [{autostart}]\n\
         restart: {{firstDelay: 1h, delay: 1h}}\n"
    ))
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A program of this machine with some of its bytes changed.
fn altered(hub: &Home, id: &str, alter: impl FnOnce(&mut Vec<u8>)) {
    let mut program = fs::read("/bin/true").unwrap();
    alter(&mut program);
    let part = hub.path(format!("plugins/.{id}.part"));
    fs::write(&part, program).unwrap();
    mode(&part, 0o755);
    fs::rename(part, hub.path("plugins").join(id)).unwrap();
}

/// It runs after it was mended and started by hand.
fn runs_once_mended(hub: &Hub, id: &str) {
    hub.home.plugin(id, SLEEPER);
    hub.ok(&["start", id]);
    hub.pid(id);
}

#[test]
fn enoent_of_an_interpreter_or_a_loader_names_what_is_missing() {
    let home = home("script, program");
    home.executable("script", "#!/nonexistent/python -u\n");
    altered(&home, "program", |bytes| {
        let name = b"/ld-linux";
        let at = bytes.windows(name.len()).position(|part| part == name);
        // Only its first bytes are the name of the loader; the rest may be a text of the program's own.
        bytes[at.unwrap() + 1] = b'L';
    });
    let hub = home.launch();
    let script = [
        "its interpreter /nonexistent/python is missing",
        "install it",
    ];
    explained(&hub, "script", &script);
    let program = ["the loader it was built for is missing", "install a build"];
    explained(&hub, "program", &program);
    runs_once_mended(&hub, "script");
    runs_once_mended(&hub, "program");
    hub.down();
}

#[test]
fn eacces_without_permission_is_blocked_until_there_is_some() {
    let home = home("closed, through");
    home.plugin("closed", SLEEPER);
    mode(&home.path("plugins/closed"), 0o644);
    let interpreter = home.path("interpreter");
    fs::copy("/bin/true", &interpreter).unwrap();
    mode(&interpreter, 0o644);
    home.executable("through", &format!("#!{}\n", interpreter.display()));
    let hub = home.launch();
    explained(&hub, "closed", &["is not executable", "chmod +x"]);
    let through = ["may not be executed", interpreter.to_str().unwrap()];
    explained(&hub, "through", &through);
    mode(&hub.path("plugins/closed"), 0o755);
    hub.pid("closed");
    runs_once_mended(&hub, "through");
    hub.down();
}

#[test]
fn eacces_of_a_file_system_without_programs_is_named_as_such() {
    if !has_private_mounts() {
        left_out(
            "a file system without programs",
            "needs mounts of its own (unshare -m, or user namespaces)",
        );
        return;
    }
    let home = home("worker");
    home.plugin("worker", SLEEPER);
    let mut command = private_mounts();
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,noexec \"$0\" && exec \"$1\"";
    command
        .args(["sh", "-c", script])
        .arg(home.path("plugins"))
        .arg(home.path("bin/launcher"));
    let hub = home.launch_by(command);
    explained(&hub, "worker", &["noexec", "mount -o remount,exec"]);
    hub.down();
}

#[test]
fn enoexec_of_what_is_no_program_says_what_would_be_one() {
    let home = home("text, zeroes, cut");
    home.executable("text", "this is no program\n");
    home.executable("zeroes", &"\0".repeat(5000));
    altered(&home, "cut", |bytes| bytes.truncate(40));
    let hub = home.launch();
    for id in ["text", "zeroes", "cut"] {
        explained(
            &hub,
            id,
            &["exec format error", "neither a program", "#!/bin/sh"],
        );
        runs_once_mended(&hub, id);
    }
    hub.down();
}

#[test]
fn etxtbsy_waits_for_the_end_of_the_writing_and_is_no_failure() {
    let home = home("copied");
    home.plugin("copied", SLEEPER);
    let writer = fs::File::options()
        .append(true)
        .open(home.path("plugins/copied"))
        .unwrap();
    let hub = home.launch();
    explained(
        &hub,
        "copied",
        &["text file busy", "still being written", "by itself"],
    );
    assert_eq!(hub.info("copied")["Restarts"], 0);
    drop(writer);
    hub.pid("copied");
    hub.down();
}

#[test]
fn a_program_of_the_wrong_architecture_is_told_with_both_machines() {
    let home = home("abroad");
    // The number of the machine; another one than any of ours, in the order of bytes of the file.
    altered(&home, "abroad", |bytes| {
        bytes[18..20].copy_from_slice(&[22, 0])
    });
    let hub = home.launch();
    let here = format!("this machine is {}", std::env::consts::ARCH);
    let parts = [
        "it is a program for s390x",
        &here,
        "install a build for this machine",
    ];
    explained(&hub, "abroad", &parts);
    runs_once_mended(&hub, "abroad");
    hub.down();
}
