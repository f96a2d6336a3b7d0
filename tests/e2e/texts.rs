//! What hubcli prints and how it exits (HP 1.22, spec §13).

use crate::hub::Home;

#[test]
fn hubcli_speaks_as_the_original_and_exits_by_outcome() {
    let home = Home::new("corebin: mqttcore\n");
    home.plugin("echoer", "exec sleep 1000");
    let hub = home.up();
    let text = hub.ok(&["start", "echoer"]);
    assert!(text.starts_with("Service 'echoer' started\n"), "{text}");
    assert!(
        text.contains("Service") && text.contains("mqttcore"),
        "{text}"
    );
    let text = hub.ok(&["start", "all"]);
    assert!(text.starts_with("All services started\n"), "{text}");
    let text = hub.ok(&["stop", "all"]);
    assert!(text.starts_with("All services stopped\n"), "{text}");

    let nope = hub.hubcli(&["start", "nope"]);
    assert_eq!(nope.status.code(), Some(1));
    let err = String::from_utf8(nope.stderr).unwrap();
    assert!(
        err.starts_with("ERROR:  plugin 'nope' not found\n"),
        "{err}"
    );
    assert_eq!(hub.hubcli(&["start"]).status.code(), Some(2));
    assert_eq!(hub.hubcli(&["fly"]).status.code(), Some(2));
    let nowhere = hub.hubcli(&["--home", "/nonexistent", "ls"]);
    assert_eq!(nowhere.status.code(), Some(3), "{nowhere:?}");
    hub.down();
}

#[test]
fn a_configuration_with_mistakes_is_refused_with_all_of_them() {
    let home = Home::new("corebn: mqttcore\nrestart: {delay: soon}\n");
    let mut hub = home.launch();
    assert_eq!(hub.ended().code(), Some(78));
    let text = std::fs::read_to_string(hub.path("launcher.err")).unwrap();
    assert!(text.contains("launcher.yaml:1:1: corebn: "), "{text}");
    assert!(text.contains("did you mean corebin?"), "{text}");
    assert!(
        text.contains("launcher.yaml:2:18: restart.delay: "),
        "{text}"
    );
}
