use super::super::say::Paint;
use super::*;
use bus::rpc::Method;
use bus::wire::{LastExit, PlanReply, Why};
use std::cell::RefCell;

/// A launcher with two plugins, of which `bad` fails to start.
#[derive(Default)]
struct Fake {
    asked: RefCell<Vec<Method>>,
    /// Speaks only the original's methods.
    old: bool,
    /// What is wrong with it.
    trouble: String,
}

fn info(name: &str, phase: &str) -> PluginInfo {
    PluginInfo {
        name: name.to_owned(),
        running: phase == "running",
        phase: phase.to_owned(),
        ..PluginInfo::default()
    }
}

fn remote(text: &str) -> Failure {
    Failure::failed(text, "some hint")
}

impl Ask for Fake {
    async fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        self.asked.borrow_mut().push(request.method());
        let phase = |running: bool| match (self.old, running) {
            (true, _) => "",
            (false, true) => "running",
            (false, false) => "stopped",
        };
        match request {
            Request::List(_) => Ok(Reply::List(ListReply {
                info: vec![info("bad", "backoff"), info("counter", phase(true))],
                launcher: self.trouble.clone(),
            })),
            Request::StartAllPlugins => Ok(Reply::Empty),
            Request::StopAllPlugins(args) => {
                assert!(!args.including_core);
                Err(remote("operation not permitted"))
            }
            Request::StartPlugin(StartArgs { name, .. })
            | Request::RestartPlugin(NameArgs { name })
                if name == "slow" =>
            {
                let mut slow = info("slow", "starting");
                slow.cause = "waits for \u{1b}state".to_owned();
                Ok(Reply::Info(Box::new(slow)))
            }
            Request::StartPlugin(StartArgs { name, .. })
            | Request::RestartPlugin(NameArgs { name }) => match name.as_str() {
                "bad" => Err(remote("exit status 1")),
                "counter" => Ok(Reply::Info(Box::new(info("counter", phase(true))))),
                other => Err(remote(&not_found(other))),
            },
            Request::StopPlugin(args) if args.name == "counter" => {
                Ok(Reply::Info(Box::new(info("counter", phase(false)))))
            }
            Request::EnablePlugin(args) | Request::DisablePlugin(args)
                if args.name == "counter" =>
            {
                Ok(Reply::Info(Box::new(info("counter", phase(false)))))
            }
            Request::StopPlugin(NameArgs { name })
            | Request::EnablePlugin(SettingArgs { name, .. })
            | Request::DisablePlugin(SettingArgs { name, .. }) => Err(remote(&not_found(name))),
            Request::Reload(_) => Ok(Reply::Plan(PlanReply::default())),
            Request::GetPlugin(_) if self.old => {
                Err(remote("method 'getPlugin' not part of capability 'manage'"))
            }
            Request::GetPlugin(args) => Ok(Reply::Plugin(Box::new(GetPluginReply {
                info: PluginInfo {
                    path: "/hub/plugins/bad".to_owned(),
                    start_count: 4,
                    restarts: 3,
                    ..info(&args.name, "backoff")
                },
                why: Why {
                    last_exit: LastExit {
                        run: 4,
                        text: "exited with code 1 after 0.0 s".to_owned(),
                        ..LastExit::default()
                    },
                    tail: vec!["cannot open /dev/x".to_owned(), "\u{1b}[31mbye".to_owned()],
                    next_start_mse: 3_000,
                    hint: "mend it, then hubcli start bad".to_owned(),
                    ..Why::default()
                },
            }))),
        }
    }
}

fn perform_on(fake: &Fake, command: &Command, json: bool) -> Result<Said, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(perform(fake, command, &View::for_tests(json)))
}

fn on(command: &Command) -> Result<Said, Failure> {
    perform_on(&Fake::default(), command, false)
}

fn deed(deed: Deed, name: &str) -> Command {
    Command::One(deed, name.to_owned())
}

#[test]
fn success_has_the_words_of_the_original_and_then_the_list() {
    for (command, sentence) in [
        (Command::StartAll, "All services started"),
        (deed(Deed::Start, "counter"), "Service 'counter' started"),
        (deed(Deed::Stop, "counter"), "Service 'counter' stopped"),
        (
            deed(Deed::Restart, "counter"),
            "Service 'counter' restarted",
        ),
        (deed(Deed::Enable, "counter"), "Service 'counter' enabled"),
        (deed(Deed::Disable, "counter"), "Service 'counter' disabled"),
        (
            deed(Deed::Start, "slow"),
            r"Service 'slow' is starting: waits for \u{1b}state",
        ),
    ] {
        for old in [false, true] {
            let fake = Fake {
                old,
                ..Fake::default()
            };
            let said = perform_on(&fake, &command, false).unwrap();
            assert_eq!(said.out.lines().next(), Some(sentence));
            assert!(said.out.contains("\nService ") && said.out.contains("\ncounter "));
            assert_eq!((said.err.as_str(), said.exit), ("", ExitCode::Done));
        }
    }
}

#[test]
fn programs_get_json() {
    let json = |command: &Command| {
        let said = perform_on(&Fake::default(), command, true).unwrap();
        assert_eq!(said.out.matches('\n').count(), 1);
        serde_json::from_str::<serde_json::Value>(&said.out).unwrap()
    };
    let list = json(&Command::List);
    assert_eq!(
        (&list[0]["Name"], &list[1]["Running"]),
        (&"bad".into(), &true.into())
    );
    assert_eq!(json(&Command::StartAll), list);
    let one = json(&deed(Deed::Restart, "counter"));
    assert_eq!(one["Phase"], "running");

    let failure = perform_on(&Fake::default(), &deed(Deed::Start, "bad"), true).unwrap_err();
    let said = failure.said(true, Paint::Plain);
    let error: serde_json::Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(
        (said.out.as_str(), &error["error"]),
        ("", &"exit status 1".into())
    );
}

#[test]
fn a_failed_start_is_explained() {
    let failure = on(&deed(Deed::Start, "bad")).unwrap_err();
    let said = failure.said(false, Paint::Plain);
    assert_eq!(
        said.err,
        "ERROR:  exit status 1
        bad run 4: exited with code 1 after 0.0 s
        it is tried again in 2s
        | cannot open /dev/x
        | \\u{1b}[31mbye
hint:  mend it, then hubcli start bad; its log is /hub/logs/bad.log
"
    );
    assert_eq!((said.out.as_str(), said.exit), ("", ExitCode::Failed));

    let old = Fake {
        old: true,
        ..Fake::default()
    };
    let failure = perform_on(&old, &deed(Deed::Start, "bad"), false).unwrap_err();
    assert_eq!(
        failure.said(false, Paint::Plain).err,
        "ERROR:  exit status 1\nhint:  some hint\n"
    );
}

#[test]
fn a_failed_stop_says_so_where_the_original_does() {
    let failure = on(&deed(Deed::Stop, "nope")).unwrap_err();
    let said = failure.said(false, Paint::Plain);
    assert_eq!(said.out, "Stop nope failed: plugin 'nope' not found\n");
    assert!(
        said.err
            .starts_with("ERROR:  plugin 'nope' not found\nhint:  "),
        "{}",
        said.err
    );
    let failure = on(&Command::StopAll).unwrap_err();
    assert_eq!(
        failure.more.out,
        "Stop all failed: operation not permitted\n"
    );
}

#[test]
fn a_file_that_is_not_executable_is_named() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("script"), "#!/bin/sh\n").unwrap();
    let mut view = View::for_tests(false);
    view.plugins = temp.path().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let hint = |name| runtime.block_on(nearest(&Fake::default(), name, &view));
    assert!(hint("script").contains("script is there, but is not executable"));
    assert!(hint("other name").starts_with("hubcli ls"));
}

#[test]
fn a_mistyped_name_gets_the_nearest() {
    let failure = on(&deed(Deed::Start, "conter")).unwrap_err();
    assert!(
        failure.hint.starts_with("did you mean 'counter'?"),
        "{}",
        failure.hint
    );
    let failure = on(&deed(Deed::Start, "xyz")).unwrap_err();
    assert!(
        failure.hint.starts_with("hubcli ls shows all names"),
        "{}",
        failure.hint
    );
}

#[test]
fn only_what_is_needed_is_asked() {
    let fake = Fake::default();
    perform_on(&fake, &deed(Deed::Start, "counter"), true).unwrap();
    assert_eq!(*fake.asked.borrow(), [Method::StartPlugin]);
    let fake = Fake::default();
    perform_on(&fake, &Command::List, false).unwrap();
    assert_eq!(*fake.asked.borrow(), [Method::List]);
}

#[test]
fn what_is_wrong_with_the_launcher_is_seen_below_the_list_and_not_in_that_for_programs() {
    let fake = Fake {
        trouble: "degraded: launcher.yaml:3:1: x".to_owned(),
        ..Fake::default()
    };
    let said = perform_on(&fake, &Command::List, false).unwrap();
    assert!(
        said.out.ends_with(
            "\n! launcher: degraded: launcher.yaml:3:1: x\n  hubcli why launcher tells more\n"
        ),
        "{}",
        said.out
    );
    let said = perform_on(&fake, &Command::List, true).unwrap();
    assert!(!said.out.contains("degraded"), "{}", said.out);
    let said = perform_on(&fake, &deed(Deed::Start, "counter"), false).unwrap();
    assert!(said.out.contains("! launcher: degraded"), "{}", said.out);
}

#[test]
fn a_log_is_named_when_there_is_one_and_the_cores_is_not_a_plugins() {
    let log = |path: &str, start_count| {
        let info = PluginInfo {
            path: path.to_owned(),
            start_count,
            ..info("x", "blocked")
        };
        log_of(&info, &View::for_tests(false)).map(|log| log.display().to_string())
    };
    assert_eq!(log("/hub/plugins/x", 0), None);
    assert_eq!(log("/hub/plugins/x", 1).as_deref(), Some("/hub/logs/x.log"));
    assert_eq!(log("/hub/bin/x", 1).as_deref(), Some("/hub/logs/core.log"));
}
