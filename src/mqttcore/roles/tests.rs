use super::*;

const AGENTS: [&str; 3] = ["me", "other", "+"];
const KINDS: [&str; 5] = ["event", "action", "config", "rpc", "other"];

fn asker(role: Role) -> Asker<'static> {
    Asker {
        login: "me",
        mqtt_id: "me-host-1",
        role,
    }
}

/// The table of HP 1.14 once more, written as the document does.
fn table(role: Role) -> (&'static [&'static str], &'static [&'static str]) {
    match role {
        Role::Nobody => (&[], &[]),
        Role::Viewer => (&[], &["event/any"]),
        Role::Operator => (&["action/any"], &["event/any"]),
        Role::Manager => (&["action/any", "config/any"], &["event/any"]),
        Role::Admin => (&["action/any", "config/any", "rpc/any"], &["event/any"]),
        Role::Device => (
            &["event/self"],
            &["event/any", "action/self", "config/self"],
        ),
        Role::Service => (
            &["action/any", "config/any", "rpc/any", "event/self"],
            &["event/any", "rpc/self", "action/self", "config/self"],
        ),
    }
}

fn listed(list: &[&str], kind: &str, agent: &str) -> bool {
    list.contains(&format!("{kind}/any").as_str())
        || (agent == "me" && list.contains(&format!("{kind}/self").as_str()))
}

#[test]
fn every_role_kind_and_agent_is_judged_as_the_table_says() {
    let nothing = Permissions {
        granted: BTreeMap::new(),
    };
    for role in Role::ALL {
        let (publish, subscribe) = table(role);
        for kind in KINDS {
            for agent in AGENTS {
                let topic = format!("{kind}/{agent}/thing/name/me");
                assert_eq!(
                    asker(role).may_publish(&topic, &nothing),
                    listed(publish, kind, agent),
                    "{role:?} publishes {topic}"
                );
                for tail in ["thing/name/#", "+/+/#", "thing/#", "thing/name/+", "+/name"] {
                    for share in ["", "$share/group/"] {
                        let filter = format!("{share}{kind}/{agent}/{tail}");
                        assert_eq!(
                            asker(role).may_subscribe(&filter),
                            listed(subscribe, kind, agent),
                            "{role:?} subscribes {filter}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn nobody_gets_a_filter_that_reaches_further_than_it_may() {
    let filters = [
        "#",
        "+/#",
        "+/+/+/+",
        "+/+/+/+/#",
        "+/me/+/+/#",
        "event/#",
        "event/+/#",
        "event/me/#",
        "rpc/#",
        "$SYS/#",
        "$SYS/broker/clients/connected",
        "_INBOX",
        "_INBOX/#",
        "_INBOX/+",
        "_INBOX/+/#",
        "_INBOX/me",
        "_INBOX/me-host-10",
        "_INBOX/me-host-1x/#",
        "",
        "/",
        "////",
        "$share",
        "$share/",
        "$share/group",
        "$share//event/+/+/+/#",
        "$share/group/#",
        "$share/group/_INBOX/other",
        "$share/group/$share/group/event/+/+/+/#",
    ];
    for role in Role::ALL {
        for filter in filters {
            assert!(!asker(role).may_subscribe(filter), "{role:?} {filter}");
        }
    }
}

#[test]
fn an_inbox_is_its_connections_own_and_open_to_letters() {
    for role in Role::ALL {
        let me = asker(role);
        for own in [
            "_INBOX/me-host-1",
            "_INBOX/me-host-1/#",
            "_INBOX/me-host-1/a/+",
        ] {
            assert!(me.may_subscribe(own), "{role:?} {own}");
        }
        assert!(me.may_publish("_INBOX/other-host-2", &Permissions::default()));
        assert!(me.may_publish("_INBOX/other-host-2/x/y/z/1/2", &Permissions::default()));
        for none in ["_INBOX", "_INBOX/", "_INBOXES/x", "_INBOX//x"] {
            assert!(!me.may_publish(none, &Permissions::default()), "{none}");
        }
    }
    // T29: the login alone opens no inbox of a longer one.
    let adm = Asker {
        login: "adm",
        mqtt_id: "adm",
        role: Role::Admin,
    };
    assert!(!adm.may_subscribe("_INBOX/admin-host-1"));
    let odd = Asker {
        login: "+",
        mqtt_id: "+",
        role: Role::Service,
    };
    assert!(!odd.may_subscribe("_INBOX/+"));
    assert!(!odd.may_subscribe("rpc/+/+/+/#"));
}

#[test]
fn the_sender_is_the_fifth_and_last_level() {
    for role in Role::ALL {
        for topic in [
            "rpc/launcher/manage/list/admin",
            "rpc/launcher/manage/list",
            "rpc/launcher/manage/list/",
            "rpc/launcher/manage/list/me/admin",
            "action/dev/thing/name/ME",
            "action/dev/thing/name/me/",
            "event/me/thing",
            "",
            "$SYS/a/b/c/me",
        ] {
            assert!(
                !asker(role).may_publish(topic, &Permissions::default()),
                "{role:?} {topic}"
            );
        }
    }
}

#[test]
fn a_service_permission_opens_one_capability_to_the_named_roles() {
    let mut permissions = Permissions::default();
    assert!(permissions.set("state", "store", [Role::Viewer, Role::Device]));
    assert!(!permissions.set("state", "store", [Role::Device, Role::Viewer, Role::Viewer]));
    for role in Role::ALL {
        let blanket = matches!(role, Role::Admin | Role::Service);
        let named = matches!(role, Role::Viewer | Role::Device);
        let judged = |topic: &str| asker(role).may_publish(topic, &permissions);
        assert_eq!(
            judged("rpc/state/store/get/me"),
            blanket || named,
            "{role:?}"
        );
        assert_eq!(judged("rpc/state/other/get/me"), blanket, "{role:?}");
        assert_eq!(judged("rpc/other/store/get/me"), blanket, "{role:?}");
        assert!(!judged("rpc/state/store/get/other"), "{role:?}");
    }
    assert!(permissions.set("state", "store", [Role::Operator]));
    assert!(!asker(Role::Viewer).may_publish("rpc/state/store/get/me", &permissions));
    assert!(permissions.forget("state"));
    assert!(!asker(Role::Operator).may_publish("rpc/state/store/get/me", &permissions));
}

#[test]
fn auth_is_open_as_the_original_opens_it() {
    let permissions = Permissions::default();
    for role in Role::ALL {
        let blanket = matches!(role, Role::Admin | Role::Service);
        let people = matches!(role, Role::Viewer | Role::Operator | Role::Manager);
        let judged = |topic: &str| asker(role).may_publish(topic, &permissions);
        assert_eq!(judged("rpc/auth/manageClients/addService/me"), blanket);
        assert_eq!(judged("rpc/auth/roles/createRole/me"), blanket);
        assert_eq!(judged("rpc/auth/profile/refresh/me"), blanket || people);
    }
}

#[test]
fn judging_a_manager_takes_nothing_from_admins() {
    // T30: the original's shared array did.
    let mut permissions = Permissions::default();
    permissions.set("x", "y", [Role::Manager]);
    assert!(asker(Role::Manager).may_publish("rpc/x/y/z/me", &permissions));
    assert!(asker(Role::Admin).may_publish("rpc/launcher/manage/list/me", &permissions));
}

#[test]
fn client_ids_belong_to_their_login() {
    for (id, login, fits) in [
        ("admin", "admin", true),
        ("admin-hubhost-20231027122654.123", "admin", true),
        ("admin-", "admin", false),
        ("administrator", "admin", false),
        ("Admin", "admin", false),
        ("launcher-x", "admin", false),
        ("", "admin", false),
        ("auto-0123456789abcdef0123456789abcdef", "admin", true),
        ("auto-0123456789ABCDEF0123456789ABCDEF", "admin", false),
        ("auto-1", "admin", false),
        ("auto-1", "auto", true),
    ] {
        assert_eq!(fits_login(id, login), fits, "{id} of {login}");
    }
}

#[test]
fn logins_are_levels_and_file_names() {
    for good in ["admin", "zwavejs-cb", "user.1", "née", "urn:x"] {
        assert!(is_login(good), "{good}");
    }
    for bad in [
        "", ".x", "..", "a/b", "a+b", "#", "$SYS", "a\0b", "a\nb", "a\\b",
    ] {
        assert!(!is_login(bad), "{bad:?}");
    }
}

#[test]
fn words_of_roles_are_the_originals() {
    for role in Role::ALL {
        assert_eq!(Role::from_word(role.word()), role);
    }
    for other in ["Admin", "root", "none", " admin"] {
        assert_eq!(Role::from_word(other), Role::Nobody);
    }
}
