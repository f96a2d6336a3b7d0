//! Those who may log in: users, devices and services (HP 1.20, 1.22).
//!
//! Invariants: nobody is replaced who is there already; what is said was seen, also where a core accepts what it does not
//! do (T33); a generated password is shown once, in the answer that it made.

use super::ask::AskAuth;
use super::cli::{Chosen, NewUser, People};
use super::exit::Failure;
use super::say::{Said, escaped};
use super::session::failure_of;
use super::table::{Style, padded};
use super::view::{View, line};
use bus::client::CallError;
use bus::golang::{decode, encode};
use bus::wire::{
    AddUserArgs, ClientArgs, ClientPasswordArgs, ClientProfile, ClientRoleArgs, MANAGE_CLIENTS,
    NewPasswordArgs, PROFILE, ProfileReply, ProfilesReply, TokenReply,
};
use creds::Secret;
use serde_json::json;

/// The client type of people.
const USER: &str = "user";
/// Who may ask for everything.
const ADMIN: &str = "admin";
/// When a profile was changed (HP 1.22).
const UPDATED: &str = "%Y-%m-%d %H:%M:%S.%3f %z";

/// Where new passwords come from.
pub(super) trait Passwords {
    /// Somebody chooses one for a login.
    async fn ask(&self, id: &str) -> Result<Secret, Failure>;
    /// Chance does.
    fn generate(&self) -> Secret;
}

/// Does what was asked for.
pub(super) async fn perform(
    auth: &impl AskAuth,
    passwords: &impl Passwords,
    wish: &People,
    view: &View,
) -> Result<Said, Failure> {
    match wish {
        People::List => list(auth, view).await,
        People::Add(user) => add(auth, passwords, user, view).await,
        People::Remove(id) => remove(auth, id, view).await,
        People::Password(id, chosen) => password(auth, passwords, id, *chosen, view).await,
        People::Role(id, role) => set_role(auth, id, role, view).await,
    }
}

async fn list(auth: &impl AskAuth, view: &View) -> Result<Said, Failure> {
    let reply = manage(auth, "getProfiles", Vec::new()).await?;
    let mut reply: ProfilesReply = decode(&reply).map_err(|error| unreadable(&error))?;
    // The original's core tells them in no order.
    reply.profiles.sort_by(|a, b| a.client_id.cmp(&b.client_id));
    Ok(Said::done(if view.json {
        line(&encode(&reply))
    } else {
        table(&reply.profiles, &view.table)
    }))
}

/// The two tables of the original.
fn table(profiles: &[ClientProfile], style: &Style) -> String {
    let row = |cells: &[(&str, usize)], last: &str| {
        let cells: String = cells
            .iter()
            .map(|(text, width)| format!("{} ", padded(&escaped(text), *width)))
            .collect();
        format!("{cells}{last}").trim_end().to_owned() + "\n"
    };
    let users = |id, name, role, last: &str| row(&[(id, 20), (name, 25), (role, 15)], last);
    let others = |id, kind, last: &str| row(&[(id, 20), (kind, 15)], last);
    let mut out = "Users\n".to_owned();
    out += &users("Login ID", "Display Name", "Role", "Updated");
    out += &users("--------", "------------", "----", "-------");
    for profile in profiles.iter().filter(|it| it.client_type == USER) {
        let updated = style.time(profile.updated_mse, UPDATED);
        let (name, role) = (&profile.display_name, &profile.role);
        out += &users(&profile.client_id, name, role, &updated);
    }
    out += "\nDevices/Services\n";
    out += &others("SenderID", "Type", "Updated");
    out += &others("--------", "----", "-------");
    for profile in profiles.iter().filter(|it| it.client_type != USER) {
        let updated = style.time(profile.updated_mse, UPDATED);
        out += &others(&profile.client_id, &profile.client_type, &updated);
    }
    out
}

async fn add(
    auth: &impl AskAuth,
    passwords: &impl Passwords,
    user: &NewUser,
    view: &View,
) -> Result<Said, Failure> {
    let id = &user.id;
    if let Some(known) = profile(auth, id).await? {
        return Err(Failure::failed(
            format!("{} {id} exists already", kind(&known)),
            format!(
                "hubcli role {id} ROLE changes its role, hubcli password {id} its password, hubcli rmu {id} removes it"
            ),
        ));
    }
    let (secret, shown) = chosen(passwords, id, user.password).await?;
    let args = AddUserArgs {
        user_id: id.clone(),
        display_name: user.name.clone(),
        password: secret.expose().to_owned(),
        pub_key: String::new(),
        role: user.role.clone(),
    };
    let reply = manage(auth, "addUser", encode(&args)).await?;
    let reply: TokenReply = decode(&reply).map_err(|error| unreadable(&error))?;
    if view.json {
        let mut answer = json!({"clientID": id, "role": user.role, "token": reply.token});
        if let Some(password) = shown {
            answer["password"] = password.expose().into();
        }
        return Ok(json_line(&answer));
    }
    let mut out = format!("User {} added successfully", escaped(id));
    if let Some(password) = shown {
        out += &format!(". Temp password: {}", password.expose());
    }
    out.push('\n');
    if user.role.is_empty() {
        out += &format!(
            "It has no role, and so no rights: hubcli role {} viewer, or another one\n",
            escaped(id)
        );
    }
    Ok(Said::done(out))
}

/// The password, and again if it is to be shown.
async fn chosen(
    passwords: &impl Passwords,
    id: &str,
    how: Chosen,
) -> Result<(Secret, Option<Secret>), Failure> {
    Ok(match how {
        Chosen::ByPeople => (passwords.ask(id).await?, None),
        Chosen::ByChance => {
            let secret = passwords.generate();
            (secret.clone(), Some(secret))
        }
    })
}

async fn remove(auth: &impl AskAuth, id: &str, view: &View) -> Result<Said, Failure> {
    existing(auth, id).await?;
    let args = ClientArgs {
        client_id: id.to_owned(),
    };
    manage(auth, "removeClient", encode(&args)).await?;
    Ok(told(
        view,
        format!("Client {} removed\n", escaped(id)),
        &json!({"clientID": id}),
    ))
}

async fn password(
    auth: &impl AskAuth,
    passwords: &impl Passwords,
    id: &str,
    how: Chosen,
    view: &View,
) -> Result<Said, Failure> {
    let own = auth.login() == id;
    if !own {
        existing(auth, id).await?;
    }
    let (secret, shown) = chosen(passwords, id, how).await?;
    let password = secret.expose().to_owned();
    // Everybody may change the own one, and only admins those of others.
    if own {
        let args = encode(&NewPasswordArgs {
            new_password: password,
        });
        let done = auth.ask(PROFILE, "updatePassword", args).await;
        done.map_err(|error| refused(auth.login(), &error))?;
    } else {
        let args = encode(&ClientPasswordArgs {
            client_id: id.to_owned(),
            password,
        });
        manage(auth, "updateClientPassword", args).await?;
    }
    let mut out = format!("User {} password has been updated", escaped(id));
    let mut answer = json!({"clientID": id});
    if let Some(password) = shown {
        out += &format!(". Generated password: {}", password.expose());
        answer["password"] = password.expose().into();
    }
    out.push('\n');
    Ok(told(view, out, &answer))
}

async fn set_role(auth: &impl AskAuth, id: &str, role: &str, view: &View) -> Result<Said, Failure> {
    existing(auth, id).await?;
    let args = ClientRoleArgs {
        client_id: id.to_owned(),
        role: role.to_owned(),
    };
    manage(auth, "updateRole", encode(&args)).await?;
    // The original's core says yes and does nothing.
    if existing(auth, id).await?.role != role {
        return Err(Failure::failed(
            format!("the core accepted the new role of '{id}' and did not store it"),
            format!(
                "cores of the original cannot change roles: hubcli rmu {id}, then hubcli addu {id} ROLE"
            ),
        ));
    }
    let word = if role.is_empty() { "none" } else { role };
    Ok(told(
        view,
        format!("User {} role has been updated to {word}\n", escaped(id)),
        &json!({"clientID": id, "role": role}),
    ))
}

fn told(view: &View, sentence: String, answer: &serde_json::Value) -> Said {
    if view.json {
        json_line(answer)
    } else {
        Said::done(sentence)
    }
}

fn json_line(answer: &serde_json::Value) -> Said {
    Said::done(format!("{answer}\n"))
}

/// The profile of one who must be there.
async fn existing(auth: &impl AskAuth, id: &str) -> Result<ClientProfile, Failure> {
    match profile(auth, id).await? {
        Some(profile) => Ok(profile),
        None => Err(Failure::failed(
            format!("clientID '{id}' does not exist"),
            "hubcli lu shows who there is",
        )),
    }
}

/// The profile of one, if there is such a one.
async fn profile(auth: &impl AskAuth, id: &str) -> Result<Option<ClientProfile>, Failure> {
    let args = encode(&ClientArgs {
        client_id: id.to_owned(),
    });
    match auth.ask(MANAGE_CLIENTS, "getClientProfile", args).await {
        Ok(reply) => {
            let reply: ProfileReply = decode(&reply).map_err(|error| unreadable(&error))?;
            Ok(Some(reply.profile))
        }
        Err(CallError::Remote(text)) if text.ends_with("does not exist") => Ok(None),
        Err(error) => Err(refused(auth.login(), &error)),
    }
}

async fn manage(auth: &impl AskAuth, method: &str, args: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let answer = auth.ask(MANAGE_CLIENTS, method, args).await;
    answer.map_err(|error| refused(auth.login(), &error))
}

fn refused(login: &str, error: &CallError) -> Failure {
    let mut failure = failure_of(error);
    match error {
        CallError::Remote(text) => way_out(text).clone_into(&mut failure.hint),
        CallError::NobodyServes { .. } => {
            "this hub has no auth service".clone_into(&mut failure.text);
            "who may log in to a broker such as mosquitto, and what he may do there, is said by its own files (config/mosquitto.acl); a client's certificate is signed by the hub's CA"
                .clone_into(&mut failure.hint);
        }
        CallError::Timeout => {
            failure.hint =
                "the core has no auth service, or does not answer: with a core such as mosquitto, its own files say who may log in"
                    .to_owned();
        }
        // On the hub's own core admin may always.
        CallError::NotAuthorized if login == ADMIN => {
            failure.hint =
                "this hub has no auth service, or its broker forbids admin to ask it: see the broker's own files, such as config/mosquitto.acl"
                    .to_owned();
        }
        CallError::NotAuthorized
        | CallError::Refused(_)
        | CallError::NotConnected
        | CallError::Disconnected(_)
        | CallError::Invalid { .. } => {}
    }
    failure
}

/// What to do about an error of the auth service.
fn way_out(text: &str) -> &'static str {
    if text.starts_with("password too") {
        "a password has 5 to 72 bytes"
    } else if text.ends_with("is reserved") {
        "the hub itself needs this login as it is; its password may be changed"
    } else if text.starts_with("invalid client ID") {
        "take letters, digits, '-' and '_'"
    } else {
        "hubcli lu shows who there is"
    }
}

fn unreadable(error: &bus::golang::DecodeError) -> Failure {
    Failure::failed(
        format!("the reply of the auth service cannot be read: {error}"),
        "are hubcli and the core of the same version?",
    )
}

fn kind(profile: &ClientProfile) -> &'static str {
    match profile.client_type.as_str() {
        "device" => "Device",
        "service" => "Service",
        _ => "User",
    }
}

#[cfg(test)]
mod tests;
