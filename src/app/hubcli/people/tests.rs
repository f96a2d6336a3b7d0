use super::super::ExitCode;
use super::*;
use std::cell::RefCell;

/// A core with a few clients.
struct Fake {
    profiles: RefCell<Vec<ClientProfile>>,
    passwords: RefCell<Vec<(String, String)>>,
    /// Accepts roles and does not store them (T33).
    old: bool,
    login: &'static str,
}

fn client(id: &str, client_type: &str, name: &str, role: &str) -> ClientProfile {
    ClientProfile {
        client_id: id.to_owned(),
        client_type: client_type.to_owned(),
        display_name: name.to_owned(),
        role: role.to_owned(),
        updated_mse: 1_698_434_809_600,
        ..ClientProfile::default()
    }
}

impl Default for Fake {
    fn default() -> Self {
        Fake {
            profiles: RefCell::new(vec![
                client("launcher", "service", "Launcher", "service"),
                client("joe", "user", "Joe \u{1b}[31m", "viewer"),
                client("admin", "user", "Administrator", "admin"),
            ]),
            passwords: RefCell::default(),
            old: false,
            login: "admin",
        }
    }
}

impl Fake {
    fn answer(&self, method: &str, args: &[u8]) -> Result<Vec<u8>, CallError> {
        let mut profiles = self.profiles.borrow_mut();
        let find = |id: &str| profiles.iter().position(|it| it.client_id == id);
        match method {
            "getProfiles" => Ok(encode(&ProfilesReply {
                profiles: profiles.clone(),
            })),
            "getClientProfile" => {
                let id = decode::<ClientArgs>(args).unwrap().client_id;
                let missing = || CallError::Remote(format!("clientID '{id}' does not exist"));
                let at = find(&id).ok_or_else(missing)?;
                let profile = profiles[at].clone();
                Ok(encode(&ProfileReply { profile }))
            }
            "addUser" => {
                let args: AddUserArgs = decode(args).unwrap();
                if args.password.len() < 5 {
                    return Err(CallError::Remote("password too short (4 chars)".to_owned()));
                }
                profiles.push(client(&args.user_id, USER, &args.display_name, &args.role));
                self.passwords
                    .borrow_mut()
                    .push((args.user_id, args.password));
                Ok(encode(&TokenReply::default()))
            }
            "removeClient" => {
                let at = find(&decode::<ClientArgs>(args).unwrap().client_id).unwrap();
                profiles.remove(at);
                Ok(Vec::new())
            }
            "updateRole" => {
                let args: ClientRoleArgs = decode(args).unwrap();
                let at = find(&args.client_id).unwrap();
                if !self.old {
                    profiles[at].role = args.role;
                }
                Ok(Vec::new())
            }
            "updateClientPassword" => {
                let args: ClientPasswordArgs = decode(args).unwrap();
                self.passwords
                    .borrow_mut()
                    .push((args.client_id, args.password));
                Ok(Vec::new())
            }
            "updatePassword" => {
                let args: NewPasswordArgs = decode(args).unwrap();
                let entry = (format!("own {}", self.login), args.new_password);
                self.passwords.borrow_mut().push(entry);
                Ok(Vec::new())
            }
            _ => Err(CallError::Timeout),
        }
    }
}

impl AskAuth for Fake {
    fn login(&self) -> &str {
        self.login
    }

    async fn ask(
        &self,
        capability: &str,
        method: &str,
        args: Vec<u8>,
    ) -> Result<Vec<u8>, CallError> {
        if capability == MANAGE_CLIENTS && self.login != "admin" {
            return Err(CallError::NotAuthorized);
        }
        assert_eq!(capability == PROFILE, method == "updatePassword");
        self.answer(method, &args)
    }
}

impl Passwords for &str {
    async fn ask(&self, _id: &str) -> Result<Secret, Failure> {
        Ok(Secret::new((*self).to_owned()))
    }

    fn generate(&self) -> Secret {
        Secret::new("by-chance".to_owned())
    }
}

fn on(fake: &Fake, wish: &People, json: bool) -> Result<Said, Failure> {
    let view = View::for_tests(json);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(perform(fake, &"chosen", wish, &view))
}

fn new(id: &str, role: &str, password: Chosen) -> People {
    People::Add(NewUser {
        id: id.to_owned(),
        name: String::new(),
        role: role.to_owned(),
        password,
    })
}

#[test]
fn users_are_listed_as_the_original_does_and_in_order() {
    let fake = Fake::default();
    assert_eq!(
        on(&fake, &People::List, false).unwrap().out,
        r"Users
Login ID             Display Name              Role            Updated
--------             ------------              ----            -------
admin                Administrator             admin           2023-10-27 19:26:49.600 +0000
joe                  Joe \u{1b}[31m            viewer          2023-10-27 19:26:49.600 +0000

Devices/Services
SenderID             Type            Updated
--------             ----            -------
launcher             service         2023-10-27 19:26:49.600 +0000
"
    );
    let said = on(&fake, &People::List, true).unwrap();
    let reply: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(reply["profiles"][1]["clientID"], "joe");
}

#[test]
fn a_generated_password_is_shown_once_and_a_chosen_one_never() {
    let fake = Fake::default();
    let out = on(&fake, &new("ann", "viewer", Chosen::ByChance), false)
        .unwrap()
        .out;
    assert_eq!(
        out,
        "User ann added successfully. Temp password: by-chance\n"
    );
    let out = on(&fake, &new("bob", "", Chosen::ByPeople), false)
        .unwrap()
        .out;
    assert_eq!(
        out,
        "User bob added successfully\nIt has no role, and so no rights: hubcli role bob viewer, or another one\n"
    );
    let wish = People::Password("ann".to_owned(), Chosen::ByPeople);
    let out = on(&fake, &wish, false).unwrap().out;
    assert_eq!(out, "User ann password has been updated\n");
    let wish = People::Password("ann".to_owned(), Chosen::ByChance);
    let out = on(&fake, &wish, false).unwrap().out;
    assert_eq!(
        out,
        "User ann password has been updated. Generated password: by-chance\n"
    );
    let json: serde_json::Value =
        serde_json::from_str(&on(&fake, &wish, true).unwrap().out).unwrap();
    assert_eq!(json, json!({"clientID": "ann", "password": "by-chance"}));
    let given: Vec<String> = fake
        .passwords
        .borrow()
        .iter()
        .map(|(id, password)| format!("{id} {password}"))
        .collect();
    assert_eq!(
        given,
        [
            "ann by-chance",
            "bob chosen",
            "ann chosen",
            "ann by-chance",
            "ann by-chance"
        ]
    );
}

#[test]
fn errors_of_the_core_come_with_a_way_out() {
    let wish = new("ann", "viewer", Chosen::ByPeople);
    let view = View::for_tests(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let failure = runtime
        .block_on(perform(&Fake::default(), &"1234", &wish, &view))
        .unwrap_err();
    assert_eq!(failure.text, "password too short (4 chars)");
    assert_eq!(failure.hint, "a password has 5 to 72 bytes");
    assert!(way_out("client ID 'admin' is reserved").starts_with("the hub itself"));
}

#[test]
fn nobody_who_is_there_is_replaced_and_nobody_else_removed_or_changed() {
    let fake = Fake::default();
    for (id, text) in [
        ("joe", "User joe exists already"),
        ("launcher", "Service launcher exists already"),
    ] {
        let failure = on(&fake, &new(id, "viewer", Chosen::ByChance), false).unwrap_err();
        assert_eq!(
            (failure.text.as_str(), failure.exit),
            (text, ExitCode::Failed)
        );
    }
    for wish in [
        People::Remove("jo".to_owned()),
        People::Password("jo".to_owned(), Chosen::ByChance),
        People::Role("jo".to_owned(), "viewer".to_owned()),
    ] {
        let failure = on(&fake, &wish, false).unwrap_err();
        assert_eq!(failure.text, "clientID 'jo' does not exist");
    }
    assert!(fake.passwords.borrow().is_empty());
    let out = on(&fake, &People::Remove("joe".to_owned()), false)
        .unwrap()
        .out;
    assert_eq!(out, "Client joe removed\n");
    assert_eq!(fake.profiles.borrow().len(), 2);
}

#[test]
fn a_role_is_said_to_be_changed_only_when_it_is() {
    let wish = People::Role("joe".to_owned(), "operator".to_owned());
    let out = on(&Fake::default(), &wish, false).unwrap().out;
    assert_eq!(out, "User joe role has been updated to operator\n");
    let old = Fake {
        old: true,
        ..Fake::default()
    };
    let failure = on(&old, &wish, false).unwrap_err();
    assert!(
        failure.text.contains("did not store it"),
        "{}",
        failure.text
    );
    assert!(failure.hint.contains("hubcli rmu joe"), "{}", failure.hint);
}

#[test]
fn everybody_may_change_the_own_password_and_no_other() {
    let joe = Fake {
        login: "joe",
        ..Fake::default()
    };
    let own = People::Password("joe".to_owned(), Chosen::ByPeople);
    on(&joe, &own, false).unwrap();
    assert_eq!(joe.passwords.borrow()[0].0, "own joe");
    let other = People::Password("admin".to_owned(), Chosen::ByPeople);
    let failure = on(&joe, &other, false).unwrap_err();
    assert!(failure.hint.contains("--login admin"), "{}", failure.hint);
    assert_eq!(joe.passwords.borrow().len(), 1);
}

/// A broker that is none of the hub's.
struct Broker(CallError);

impl AskAuth for Broker {
    fn login(&self) -> &str {
        "admin"
    }

    async fn ask(&self, _: &str, _: &str, _: Vec<u8>) -> Result<Vec<u8>, CallError> {
        Err(self.0.clone())
    }
}

#[tokio::test]
async fn a_hub_without_auth_service_is_named() {
    let topic = "rpc/auth/manageClients/getProfiles/admin".to_owned();
    for (error, text, hint) in [
        (
            CallError::NobodyServes { topic },
            "this hub has no auth service",
            "mosquitto",
        ),
        (CallError::Timeout, "deadline", "no auth service"),
        (
            CallError::NotAuthorized,
            "not authorized",
            "no auth service",
        ),
    ] {
        let said = perform(
            &Broker(error),
            &"secret",
            &People::List,
            &View::for_tests(false),
        )
        .await;
        let failure = said.unwrap_err();
        assert_eq!(failure.exit, crate::app::hubcli::code::ExitCode::Failed);
        assert!(failure.text.contains(text), "{}", failure.text);
        assert!(failure.hint.contains(hint), "{}", failure.hint);
    }
}
