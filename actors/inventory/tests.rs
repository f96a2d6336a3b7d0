use super::*;
use crate::ports::{Plan, Teller};
use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::time::Duration;
use supervision::lifecycle::Rules;
use supervision::policy::LogPolicy;

fn id(name: &str) -> PluginId {
    PluginId::new(name).unwrap()
}

fn program(folder: &Path, name: &str) -> PathBuf {
    file(folder, name, "#!/bin/sh\n", 0o755)
}

fn file(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn plans(instances: &[(&str, &str)]) -> Plans {
    let plan = |instance_of: Option<&str>| Plan {
        rules: Rules::default(),
        logs: LogPolicy::default(),
        limits: supervision::limits::Limits::default(),
        args: Vec::new(),
        env: BTreeMap::new(),
        env_file: None,
        cwd: None,
        instance_of: instance_of.map(str::to_owned),
        requires: Vec::new(),
        needs: Vec::new(),
        teller: Teller::default(),
        sampling: None,
        on_core_restart: crate::ports::OnCoreRestart::Keep,
    };
    Plans {
        default: plan(None),
        core: plan(None),
        by_id: instances
            .iter()
            .map(|(name, binary)| (id(name), plan(Some(binary))))
            .collect(),
        autostart: Vec::new(),
        sampling: std::time::Duration::ZERO,
    }
}

#[test]
fn regular_executables_are_plugins_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    program(folder, "good");
    symlink(folder.join("good"), folder.join("linked")).unwrap();
    symlink(folder.join("nowhere"), folder.join("dangling")).unwrap();
    symlink(folder, folder.join("to-folder")).unwrap();
    std::fs::create_dir(folder.join("sub")).unwrap();
    file(folder, "text", "x", 0o644);
    file(folder, "empty", "", 0o755);
    program(folder, ".hidden");
    let found = read_folder(folder).unwrap();
    assert_eq!(found.refused, []);
    let names: Vec<_> = found.plugins.keys().map(PluginId::as_str).collect();
    assert_eq!(names, ["good", "linked"]);
    let linked = &found.plugins[&id("linked")];
    assert_eq!(
        (linked.size, linked.path.clone()),
        (10, folder.join("linked"))
    );
}

#[test]
fn what_cannot_be_an_id_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["admin", "core", "my.plugin", "a+b", &"x".repeat(65)] {
        program(dir.path(), name);
    }
    let odd: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
    std::fs::copy(dir.path().join("admin"), dir.path().join(odd)).unwrap();
    let found = read_folder(dir.path()).unwrap();
    assert!(found.plugins.is_empty());
    let names: Vec<_> = found.refused.iter().map(|r| r.file.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "a+b",
            "admin",
            "core",
            "my.plugin",
            &"x".repeat(64),
            "\u{fffd}"
        ]
    );
    assert_eq!(
        found.refused[3].reason,
        "the name has the character '.'; allowed are A-Z a-z 0-9 _ and -; rename the file, or run it under a valid id: \
         plugins: {NAME: {instanceOf: \"my.plugin\"}}"
    );
}

#[test]
fn a_path_that_is_no_program_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    symlink("nowhere", folder.join("dangling")).unwrap();
    file(folder, "text", "x", 0o644);
    file(folder, "empty", "", 0o755);
    let why = |name: &str| facts_of(&folder.join(name), name).unwrap_err().to_string();
    assert!(why("gone").starts_with("no such file in plugins"));
    assert!(why("dangling").contains("symbolic link"));
    assert!(why("text").contains("chmod +x"));
    assert!(why("empty").contains("is empty"));
    assert!(why(".").contains("not a regular file"));
    assert!(why("text/x").starts_with("cannot look at"));
}

#[test]
fn a_folder_that_is_not_there_is_an_error_that_names_it() {
    let error = read_folder(Path::new("/nonexistent/plugins")).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("cannot read the plugins folder /nonexistent/plugins: No such file"),
        "{text}"
    );
}

#[tokio::test]
async fn instances_have_the_facts_of_their_binary() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    program(folder, "my.plugin");
    program(folder, "lost");
    let core = program(folder, "mqttcore");
    let plans = plans(&[("east", "my.plugin"), ("lost", "gone")]);
    let folders = Folders::new(folder.to_owned(), Some(core.clone()), &plans);
    let scan = folders.scan().await.unwrap();
    let east = &scan.plugins[&id("east")];
    assert_eq!(
        (east.name.as_str(), &east.path),
        ("east", &folder.join("my.plugin"))
    );
    assert!(
        !scan.plugins.contains_key(&id("lost")),
        "what it should run is not there"
    );
    let core_found = scan.core.unwrap();
    assert_eq!(
        (core_found.name.as_str(), core_found.path),
        ("mqttcore", core)
    );
    assert_eq!(scan.refused.len(), 1);
}

#[tokio::test]
async fn a_change_is_told_also_when_the_folder_comes_anew() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("plugins");
    let folders = Folders::new(plugins.clone(), None, &plans(&[]));
    assert!(folders.scan().await.is_err());
    let (send, changes) = mpsc::channel();
    let watch = folders
        .watch(Box::new(move || {
            let _ = send.send(());
        }))
        .unwrap();
    let told = || changes.recv_timeout(Duration::from_secs(10)).unwrap();
    for round in ["one", "two"] {
        std::fs::create_dir(&plugins).unwrap();
        told();
        folders.scan().await.unwrap();
        while changes.try_recv().is_ok() {}
        program(&plugins, round);
        told();
        assert!(
            folders
                .scan()
                .await
                .unwrap()
                .plugins
                .contains_key(&id(round))
        );
        std::fs::remove_dir_all(&plugins).unwrap();
        told();
        assert!(folders.scan().await.is_err());
        while changes.try_recv().is_ok() {}
    }
    drop(watch);
    // The watcher's thread owns the sender; it ends with the guard.
    while changes.recv_timeout(Duration::from_secs(10)).is_ok() {}
    assert_eq!(changes.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn of_parents_only_what_happens_to_the_folders_counts() {
    let folders = [PathBuf::from("/home/p")];
    let matters = |paths: &[&str]| {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        crate::watch::matters(&paths, &folders)
    };
    assert!(matters(&["/home/p/a"]));
    assert!(matters(&["/home/p"]));
    assert!(!matters(&["/home/other"]));
    assert!(matters(&["/home/other", "/home/p"]));
    // Something was missed.
    assert!(matters(&[]));
}
