use super::*;
use std::os::unix::fs::symlink;

fn around(exe: &str, argv0: &str) -> Surroundings {
    Surroundings {
        exe: PathBuf::from(exe),
        argv0: OsString::from(argv0),
        cwd: PathBuf::from("/area/here"),
        user_home: Some(PathBuf::from("/home/bob")),
    }
}

fn at_home(home: &str) -> Overrides {
    Overrides {
        home: Some(PathBuf::from(home)),
        ..Overrides::default()
    }
}

fn resolved(around: &Surroundings, over: &Overrides) -> Folders {
    Folders::resolve(around, over).expect("folders")
}

#[test]
fn the_home_is_that_of_the_executable_and_the_id_that_of_the_call() {
    // T22: called through PATH, argv[0] has no folder.
    let folders = resolved(
        &around("/home/bob/hub/bin/launcher", "launcher-east"),
        &Overrides::default(),
    );
    assert_eq!(folders.layout, Layout::User);
    assert_eq!(folders.home, Path::new("/home/bob/hub"));
    assert_eq!(folders.client_id, "launcher-east");
    assert_eq!(
        folders.config_file,
        Path::new("/home/bob/hub/config/launcher-east.yaml")
    );
    assert!(!folders.config_file_given);
    assert_eq!(
        folders.run_private(),
        Path::new("/home/bob/hub/run/private")
    );
    assert!(folders.more_bins.is_empty());
}

#[test]
fn the_system_layout_is_told_by_whole_components() {
    let system = resolved(
        &around("/opt/hivehub/bin/launcher", "/opt/hivehub/bin/launcher"),
        &Overrides::default(),
    );
    assert_eq!(system.layout, Layout::System);
    let places = [
        (&system.home, "/var/lib/hiveot"),
        (&system.bin, "/opt/hivehub/bin"),
        (&system.plugins, "/opt/hiveot/plugins"),
        (&system.config, "/etc/hiveot/conf.d"),
        (&system.certs, "/etc/hiveot/certs"),
        (&system.logs, "/var/log/hiveot"),
        (&system.stores, "/var/lib/hiveot"),
        (&system.run, "/run/hiveot"),
        (&system.config_file, "/etc/hiveot/conf.d/launcher.yaml"),
    ];
    for (is, should) in places {
        assert_eq!(is, Path::new(should));
    }
    assert_eq!(
        system.more_bins,
        [Path::new("/opt/hiveot/bin"), Path::new("/opt/hiveot")]
    );
    // T23
    for user in ["/optional/x", "/usrlocal", "/home/opt/usr"] {
        let folders = resolved(&around("/x/bin/launcher", "launcher"), &at_home(user));
        assert_eq!(folders.layout, Layout::User, "{user}");
    }
    for home in ["/opt", "/usr/local/hub", "/opt/hiveot/"] {
        let folders = resolved(&around("/x/bin/launcher", "launcher"), &at_home(home));
        assert_eq!(folders.layout, Layout::System, "{home}");
        assert_eq!(folders.bin, Path::new("/x/bin"));
    }
}

#[test]
fn given_paths_are_resolved_against_what_they_belong_to() {
    let here = around("/x/bin/launcher", "launcher");
    let over = Overrides {
        home: Some(PathBuf::from("../hub/./a")),
        config: Some(PathBuf::from("conf")),
        config_file: Some(PathBuf::from("my.yaml")),
        client_id: Some("me".to_owned()),
    };
    let folders = resolved(&here, &over);
    assert_eq!(folders.home, Path::new("/area/hub/a"));
    assert_eq!(folders.config, Path::new("/area/hub/a/conf"));
    // T21: not in the certs folder.
    assert_eq!(folders.config_file, Path::new("/area/hub/a/conf/my.yaml"));
    assert!(folders.config_file_given);
    assert_eq!(folders.client_id, "me");
    assert_eq!(resolved(&here, &at_home("~")).home, Path::new("/home/bob"));
    assert_eq!(
        resolved(&here, &at_home("~/h")).home,
        Path::new("/home/bob/h")
    );
    assert_eq!(
        resolved(&here, &at_home("a/~/h")).home,
        Path::new("/area/here/a/~/h")
    );
    assert_eq!(resolved(&here, &at_home("")).home, Path::new("/x"));
    let in_config = folders.in_config(Path::new("x.env")).expect("path");
    assert_eq!(in_config, Path::new("/area/hub/a/conf/x.env"));
    let in_home = folders.in_home(Path::new("stores/x")).expect("path");
    assert_eq!(in_home, Path::new("/area/hub/a/stores/x"));
}

#[test]
fn the_core_is_also_looked_for_beside_the_launcher() {
    let temp = tempfile::tempdir().expect("temp");
    let built = temp.path().join("target/debug");
    std::fs::create_dir_all(&built).expect("dir");
    let exe = built.join("launcher");
    let around = around(exe.to_str().expect("text"), "launcher");
    let home = temp.path().join("hub");
    let folders = resolved(&around, &at_home(home.to_str().expect("text")));
    assert_eq!(
        folders
            .find_core("mqttcore")
            .map_err(|error| error.to_string()),
        Err(format!(
            "findCore. core in config not found. Path={}/bin/mqttcore",
            home.display()
        ))
    );
    std::fs::write(built.join("mqttcore"), "x").expect("file");
    assert_eq!(folders.find_core("mqttcore"), Ok(built.join("mqttcore")));
    std::fs::create_dir_all(home.join("bin")).expect("dir");
    std::fs::write(home.join("bin/mqttcore"), "x").expect("file");
    assert_eq!(folders.find_core("mqttcore"), Ok(home.join("bin/mqttcore")));
}

#[test]
fn what_cannot_be_resolved_says_why() {
    let here = around("/x/bin/launcher", "launcher");
    let text = |over: &Overrides, around: &Surroundings| {
        Folders::resolve(around, over)
            .expect_err("refused")
            .to_string()
    };
    assert!(text(&at_home("~eve/x"), &here).contains("write the whole path"));
    let homeless = Surroundings {
        user_home: None,
        ..here.clone()
    };
    assert!(text(&at_home("~/x"), &homeless).contains("HOME is not set"));
    for (id, why) in [
        ("a.b", "breaks addressing"),
        ("a/b", "breaks addressing"),
        ("admin", "another account"),
        (&"x".repeat(65), "too long"),
    ] {
        let over = Overrides {
            client_id: Some(id.to_owned()),
            ..Overrides::default()
        };
        assert!(text(&over, &here).contains(why), "{id}");
    }
    assert!(text(&Overrides::default(), &around("/x/bin/l", "")).contains("it is empty"));
}

#[test]
fn a_home_of_others_is_refused() {
    let here = around("/x/bin/launcher", "launcher");
    for home in [
        "/",
        "/etc",
        "/tmp",
        "/tmp/",
        "/home",
        "/home/eve",
        "/home/eve/x/..",
    ] {
        let refused = resolved(&here, &at_home(home)).accept_home();
        let text = refused.expect_err(home).to_string();
        assert!(text.contains("/home/bob/hiveot"), "{text}");
    }
    for home in ["/home/eve/hub", "/tmp/hub", "/var/lib/hiveot", "/opt"] {
        assert!(
            resolved(&here, &at_home(home)).accept_home().is_ok(),
            "{home}"
        );
    }
}

#[test]
fn folders_are_made_with_exact_modes_and_kept_as_they_are() {
    let temp = tempfile::tempdir().expect("temp");
    let home = temp.path().join("a/hub");
    let folders = resolved(
        &around("/x/bin/launcher", "launcher"),
        &at_home(home.to_str().expect("text")),
    );
    std::fs::create_dir_all(home.join("logs")).expect("dir");
    std::fs::set_permissions(home.join("logs"), Permissions::from_mode(0o750)).expect("mode");
    std::fs::create_dir_all(home.join("run/private")).expect("dir");
    folders.create().expect("created");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o7777;
    for (path, wanted) in folders.with_modes() {
        let wanted = if path.ends_with("logs") {
            0o750
        } else {
            wanted
        };
        if path.ends_with("hub") || path.ends_with("run") {
            continue; // made above by the test, with its umask
        }
        assert_eq!(mode(&path), wanted, "{}", path.display());
    }
    folders.create().expect("again");
}

#[test]
fn something_else_in_a_folders_place_is_named() {
    let temp = tempfile::tempdir().expect("temp");
    let folders = resolved(
        &around("/x/bin/launcher", "launcher"),
        &at_home(temp.path().to_str().expect("text")),
    );
    std::fs::write(temp.path().join("certs"), "").expect("file");
    let text = folders.create().expect_err("a file").to_string();
    assert!(text.contains("certs\" is needed as a folder"), "{text}");
    std::fs::remove_file(temp.path().join("certs")).expect("removed");
    // A private folder that is a link may lead anywhere.
    std::fs::create_dir_all(temp.path().join("run")).expect("dir");
    std::fs::create_dir(temp.path().join("elsewhere")).expect("dir");
    symlink(temp.path().join("elsewhere"), folders.run_private()).expect("link");
    assert!(matches!(
        folders.create(),
        Err(PathError::NotAFolder { .. })
    ));
}

#[test]
fn what_the_launcher_keeps_is_closed_to_others() {
    let temp = tempfile::tempdir().expect("temp");
    let folders = resolved(
        &around("/x/bin/launcher", "launcher"),
        &at_home(temp.path().to_str().expect("text")),
    );
    let (path, was_open) = folders.own_store().expect("made");
    assert!(!was_open);
    let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o7777;
    assert_eq!(mode(&path), 0o700);
    for (open, told) in [(0o777, true), (0o755, false)] {
        std::fs::set_permissions(&path, Permissions::from_mode(open)).expect("mode");
        assert_eq!(folders.own_store().expect("closed").1, told);
        assert_eq!(mode(&path), 0o700);
    }
    // On another disk, by a link.
    let elsewhere = temp.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).expect("moved");
    symlink(&elsewhere, &path).expect("link");
    assert!(!folders.own_store().expect("followed").1);
}
