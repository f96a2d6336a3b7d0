//! Every method of the auth service on the wire (HP 1.20), with its reply's exact form, and the texts of its errors.

use super::*;
use creds::token;

const MANAGE: &str = "manageClients";
const PROFILE: &str = "profile";

/// What a reply has to be; `TOKEN` stands for any token, `MS` for any time.
fn is_like(found: &str, expected: &str) -> bool {
    let token = found.split('"').find(|part| part.starts_with("eyJ"));
    let mut found = token.map_or_else(|| found.to_owned(), |token| found.replace(token, "TOKEN"));
    while let Some(at) = found.find("\"updatedMSE\":1") {
        let digits = at + "\"updatedMSE\":".len();
        let end = found[digits..]
            .find(|c: char| !c.is_ascii_digit())
            .map_or(found.len(), |end| digits + end);
        found.replace_range(digits..end, "MS");
    }
    found == expected
}

#[tokio::test]
async fn every_method_replies_in_the_originals_form() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let key = KeyPair::generate().unwrap().public_text();
    let joe = format!(
        r#"{{"clientID":"joe","clientType":"user","displayName":"Joe","pubKey":"{key}","updatedMSE":MS,"tokenValidityDays":30,"role":"viewer"}}"#
    );
    let dev = format!(
        r#"{{"clientID":"dev","clientType":"device","displayName":"D","pubKey":"{key}","updatedMSE":MS,"tokenValidityDays":90,"role":"device"}}"#
    );
    let svc = format!(
        r#"{{"clientID":"svc","clientType":"service","displayName":"S","pubKey":"{key}","updatedMSE":MS,"tokenValidityDays":365,"role":"service"}}"#
    );
    for (capability, method, args, reply) in [
        (
            MANAGE,
            "addDevice",
            format!(r#"{{"deviceID":"dev","displayName":"D","pubKey":"{key}"}}"#),
            r#"{"token":"TOKEN"}"#.to_owned(),
        ),
        (
            MANAGE,
            "addService",
            format!(r#"{{"serviceID":"svc","displayName":"S","pubKey":"{key}"}}"#),
            r#"{"token":"TOKEN"}"#.to_owned(),
        ),
        (
            MANAGE,
            "addUser",
            r#"{"userID":"joe","DisplayName":"Joe","password":"secret","role":"viewer"}"#
                .to_owned(),
            r#"{"token":""}"#.to_owned(),
        ),
        (
            MANAGE,
            "addUser",
            format!(r#"{{"userID":"joe","DisplayName":"Joe","pubKey":"{key}","role":"viewer"}}"#),
            r#"{"token":"TOKEN"}"#.to_owned(),
        ),
        (MANAGE, "getCount", String::new(), r#"{"n":6}"#.to_owned()),
        (
            MANAGE,
            "getClientProfile",
            r#"{"clientID":"joe"}"#.to_owned(),
            format!(r#"{{"profile":{joe}}}"#),
        ),
        (
            MANAGE,
            "getClientProfile",
            r#"{"clientID":"dev"}"#.to_owned(),
            format!(r#"{{"profile":{dev}}}"#),
        ),
        (
            MANAGE,
            "getClientProfile",
            r#"{"clientID":"svc"}"#.to_owned(),
            format!(r#"{{"profile":{svc}}}"#),
        ),
        (
            MANAGE,
            "updateClient",
            r#"{"clientID":"joe","profile":{"clientID":"joe","displayName":"J"}}"#.to_owned(),
            String::new(),
        ),
        (
            MANAGE,
            "updateClientPassword",
            r#"{"clientID":"joe","password":"secret-joe"}"#.to_owned(),
            String::new(),
        ),
        (
            MANAGE,
            "updateRole",
            r#"{"clientID":"joe","role":"operator"}"#.to_owned(),
            String::new(),
        ),
        (
            MANAGE,
            "removeClient",
            r#"{"clientID":"dev"}"#.to_owned(),
            String::new(),
        ),
        (
            MANAGE,
            "removeClient",
            r#"{"clientID":"dev"}"#.to_owned(),
            String::new(),
        ),
        (
            MANAGE,
            "getCount",
            "null".to_owned(),
            r#"{"n":5}"#.to_owned(),
        ),
        (
            "roles",
            "createRole",
            r#"{"role":"x"}"#.to_owned(),
            String::new(),
        ),
        (
            "roles",
            "deleteRole",
            r#"{"role":"x"}"#.to_owned(),
            String::new(),
        ),
    ] {
        let address = format!("rpc/auth/{capability}/{method}");
        let (kind, found) = admin.request(&address, &args).await;
        assert_eq!(kind, "json", "{method}: {found}");
        assert!(is_like(&found, &reply), "{method}: {found} {reply}");
    }
    let (_, all) = admin
        .request("rpc/auth/manageClients/getProfiles", "")
        .await;
    assert!(
        all.starts_with(r#"{"profiles":[{"clientID":"admin","#),
        "{all}"
    );

    let joe = joe
        .replace(r#""Joe""#, r#""Jo""#)
        .replace("viewer", "operator");
    let mut own = user(&core, "joe").await;
    for (method, args, reply) in [
        ("updateName", r#"{"newName":"Jo"}"#, String::new()),
        ("getProfile", "", format!(r#"{{"profile":{joe}}}"#)),
        (
            "newToken",
            r#"{"password":"secret-joe"}"#,
            r#"{"Token":"TOKEN"}"#.to_owned(),
        ),
        ("refresh", "", r#"{"token":"TOKEN"}"#.to_owned()),
        (
            "updatePassword",
            r#"{"newPassword":"secret-2"}"#,
            String::new(),
        ),
        (
            "updatePubKey",
            &format!(r#"{{"newPubKey":"{key}"}}"#),
            String::new(),
        ),
    ] {
        let (kind, found) = own
            .request(&format!("rpc/auth/{PROFILE}/{method}"), args)
            .await;
        assert_eq!(kind, "json", "{method}: {found}");
        assert!(is_like(&found, &reply), "{method}: {found} {reply}");
    }
    core.stop().await;
}

#[tokio::test]
async fn errors_have_the_originals_texts_for_ones_own_things_too() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "joe", "viewer").await;
    let mut joe = user(&core, "joe").await;
    for (method, args, text) in [
        (
            "newToken",
            r#"{"password":"wrong"}"#,
            "invalid login as 'joe'",
        ),
        (
            "newToken",
            r#"{"password":"secret-joe"}"#,
            "CreateToken: client has no public key",
        ),
        ("refresh", "", "CreateToken: client has no public key"),
        (
            "updatePassword",
            r#"{"newPassword":"1234"}"#,
            "password too short (4 chars)",
        ),
        (
            "setServicePermissions",
            r#"{"capability":"x","roles":["viewer"]}"#,
            "Client 'joe' must be a service, not a 'user'",
        ),
        (
            "getCount",
            "",
            "method 'getCount' not part of capability 'profile'",
        ),
    ] {
        let found = joe
            .fail(&format!("rpc/auth/{PROFILE}/{method}"), args)
            .await;
        assert_eq!(found, text, "{method}");
    }
    let args = r#"{"clientID":"joe","profile":{"clientType":"robot"}}"#;
    let found = admin
        .fail("rpc/auth/manageClients/updateClient", args)
        .await;
    assert_eq!(found, "invalid clientType 'robot'");
    // What is not one's own is not even asked.
    assert_eq!(
        joe.publish("rpc/auth/manageClients/getCount/joe", "").await,
        DENIED
    );
    assert_eq!(
        joe.publish("rpc/auth/roles/createRole/joe", "").await,
        DENIED
    );
    core.stop().await;
}

#[tokio::test]
async fn tokens_live_as_long_as_the_profile_says() {
    let mut home = Home::new();
    home.settings.config.validity.device = 3;
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let key = KeyPair::generate().unwrap().public_text();
    let add = format!(r#"{{"deviceID":"dev","pubKey":"{key}"}}"#);
    let reply = admin.ask("rpc/auth/manageClients/addDevice", &add).await;
    let days = |token: &str| {
        let claims = token::peek(token).unwrap();
        (claims.exp - claims.iat) / 86_400
    };
    assert_eq!(days(reply["token"].as_str().unwrap()), 3);
    add_user(&mut admin, "joe", "viewer").await;
    let args =
        format!(r#"{{"clientID":"joe","profile":{{"tokenValidityDays":7,"pubKey":"{key}"}}}}"#);
    admin
        .ask("rpc/auth/manageClients/updateClient", &args)
        .await;
    let mut joe = user(&core, "joe").await;
    let reply = joe.ask("rpc/auth/profile/refresh", "").await;
    assert_eq!(days(reply["token"].as_str().unwrap()), 7);
    core.stop().await;
}
