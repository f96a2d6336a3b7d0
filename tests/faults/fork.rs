//! A system without room for one more process or file: control goes on, cause and way out are told, and all is back by
//! itself when there is room (spec §17).

use crate::hub::{Home, Hub, eventually, signal_pid};
use crate::means::{NOBODY, as_user, explained, is_root, left_out};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const SLEEPER: &str = "exec sleep 1000";

fn home() -> Home {
    let home = Home::new(
        "logLevel: info\ncreatePluginCred: false\nautostart: [worker, other]\n\
         restart: {firstDelay: 100ms, delay: 100ms, maxDelay: 500ms}\n",
    );
    home.plugin("worker", SLEEPER);
    home.plugin("other", SLEEPER);
    home
}

/// The starts of a launcher fail with an error, as long as this is there.
struct Refused(Child);

impl Refused {
    /// None where no tracer may do that.
    fn with(hub: &Hub, errno: &str) -> Option<Refused> {
        let tasks = format!("/proc/{}/task", hub.launcher_pid());
        let mut command = Command::new("strace");
        let said = hub.path(format!("strace.{errno}"));
        let inject = format!("inject=clone,clone3,vfork,fork:error={errno}");
        command.args(["-q", "-e", &inject, "-o", "/dev/null"]);
        for task in fs::read_dir(tasks).unwrap().flatten() {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if name.trim() == "spawner" {
                command.arg("-p").arg(task.file_name());
            }
        }
        command
            .stdin(Stdio::null())
            .stderr(fs::File::create(&said).unwrap());
        let child = command.spawn().ok()?;
        let mut refused = Refused(child);
        let is_there = eventually("the tracer is there, or may not be", || {
            if refused.0.try_wait().unwrap().is_some() {
                return Some(false);
            }
            traced_by(hub.launcher_pid(), refused.0.id()).then_some(true)
        });
        is_there.then_some(refused)
    }
}

/// Whether all threads of a process that start others have a tracer.
fn traced_by(pid: i32, tracer: u32) -> bool {
    let spawners = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut spawners = spawners.filter(|task| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.trim() == "spawner"
    });
    spawners.all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.contains(&format!("TracerPid:\t{tracer}\n"))
    })
}

impl Drop for Refused {
    fn drop(&mut self) {
        // It lets go of them when it is asked, not when it is killed.
        signal_pid(i32::try_from(self.0.id()).unwrap(), 15);
        let _ = self.0.wait();
    }
}

/// Everything but starts goes on while the system refuses them.
fn is_borne(errno: &str, parts: &[&str]) {
    let hub = home().launch();
    let (worker, other) = (hub.pid("worker"), hub.pid("other"));
    let Some(refused) = Refused::with(&hub, errno) else {
        left_out(
            &format!("starts that fail with {errno}"),
            "needs strace, and leave to trace",
        );
        hub.down();
        return;
    };
    signal_pid(worker, 9);
    explained(&hub, "worker", parts);
    let all = hub.ok(&["why"]);
    assert!(
        all.contains("worker: backoff") && !all.contains("other"),
        "{all}"
    );
    assert!(
        hub.info("worker")["Cause"]
            .as_str()
            .unwrap()
            .contains(parts[0])
    );
    assert_eq!(hub.pid("other"), other);
    hub.ok(&["stop", "other"]);
    drop(refused);
    hub.pid("worker");
    hub.ok(&["start", "other"]);
    hub.down();
}

#[test]
fn fork_eagain_is_told_and_passes() {
    is_borne(
        "EAGAIN",
        &["resource temporarily unavailable", "TasksMax= or ulimit -u"],
    );
}

#[test]
fn fork_enomem_is_told_and_passes() {
    is_borne(
        "ENOMEM",
        &["cannot allocate memory", "end or limit what uses it"],
    );
}

#[test]
fn fork_emfile_is_told_and_passes() {
    is_borne(
        "EMFILE",
        &["too many open files", "LimitNOFILE= or ulimit -n"],
    );
}

#[test]
fn fork_enfile_is_told_and_passes() {
    is_borne(
        "ENFILE",
        &["too many open files in system", "raise fs.file-max"],
    );
}

/// Sets how many processes the user of a process may have, as far as that process starts them.
fn limit_processes(pid: i32, limit: &str) {
    let mut command = as_user(Path::new("prlimit"));
    let status = command
        .args([format!("--pid={pid}"), format!("--nproc={limit}:")])
        .status();
    assert!(status.unwrap().success());
}

/// The limit that is in force here.
fn usual_limit() -> String {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let processes = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max processes"));
    processes
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn fork_eagain_at_the_limit_of_a_users_processes_passes_when_it_is_raised() {
    let home = home();
    if is_root() {
        let owner = format!("{NOBODY}:{NOBODY}");
        let mut all = Command::new("chown");
        let all = all.args(["-R", &owner]).arg(home.path("")).status();
        assert!(all.unwrap().success());
    }
    let command = as_user(&home.path("bin/launcher"));
    let hub = home.launch_by(command);
    let (worker, other) = (hub.pid("worker"), hub.pid("other"));
    limit_processes(hub.launcher_pid(), "1");
    signal_pid(worker, 9);
    explained(
        &hub,
        "worker",
        &["resource temporarily unavailable", "TasksMax= or ulimit -u"],
    );
    assert_eq!(hub.pid("other"), other);
    hub.ok(&["stop", "other"]);
    limit_processes(hub.launcher_pid(), &usual_limit());
    hub.pid("worker");
    hub.ok(&["start", "other"]);
    hub.down();
}

#[test]
fn descriptor_exhaustion_leaves_control_and_reaping_by_the_reserve() {
    let ids: Vec<String> = (0..40).map(|n| format!("p{n}")).collect();
    let home = Home::new(&format!(
        "logLevel: info\ncreatePluginCred: false\nautostart: [{}]\n\
         restart: {{firstDelay: 1s, delay: 1s, maxDelay: 3s}}\n",
        ids.join(", ")
    ));
    for id in &ids {
        home.plugin(id, SLEEPER);
    }
    let mut command = Command::new("sh");
    // Root could raise the limit again.
    let unprivileged = if is_root() {
        "setpriv --bounding-set=-sys_resource"
    } else {
        "env"
    };
    command
        .args(["-c", &format!("ulimit -n 64 && exec {unprivileged} \"$0\"")])
        .arg(home.path("bin/launcher"));
    let hub = home.launch_by(command);
    let lacks = |info: &Value| info["Cause"].as_str().unwrap().contains("open files");
    let lacking = eventually("a start fails for want of descriptors", || {
        let output = hub.hubcli(&["--json", "ls"]);
        let list: Vec<Value> = serde_json::from_slice(&output.stdout).ok()?;
        let lacking = list
            .into_iter()
            .find(|info| info["Phase"] == "backoff" && lacks(info))?;
        Some(lacking["Name"].as_str().unwrap().to_owned())
    });
    explained(&hub, &lacking, &["open files", "LimitNOFILE= or ulimit -n"]);
    // What ends is reaped and told, and leaves its place to another.
    for _ in 0..3 {
        let up = eventually("one runs", || {
            let list = hub.list();
            list.into_iter().find(|info| info["Phase"] == "running")
        });
        let pid = i32::try_from(up["PID"].as_i64().unwrap()).unwrap();
        signal_pid(pid, 9);
        eventually("it is reaped", || {
            (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
        hub.ok(&["why"]);
    }
    hub.ok(&["stop", "all"]);
    hub.down();
}
