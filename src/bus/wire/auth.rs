//! What the auth service is asked and answers (HP 1.20).
//!
//! Invariant: reading follows Go; a field that Go omits when empty is omitted here too.

use crate::golang::go_struct;

/// The auth service's login.
pub const AUTH: &str = "auth";
/// Its capability for those who manage clients.
pub const MANAGE_CLIENTS: &str = "manageClients";
/// Its capability for clients about themselves.
pub const PROFILE: &str = "profile";
/// Its capability about roles, which accepts and does nothing.
pub const ROLES: &str = "roles";

fn is_zero(number: &i64) -> bool {
    *number == 0
}

go_struct! {
    /// What is known of a client.
    #[derive(Default)]
    pub struct ClientProfile: "authapi.ClientProfile" {
        /// Its login.
        #[serde(skip_serializing_if = "String::is_empty")]
        client_id: String => "clientID",
        /// `device`, `service` or `user`.
        #[serde(skip_serializing_if = "String::is_empty")]
        client_type: String => "clientType",
        /// Its name for people.
        #[serde(skip_serializing_if = "String::is_empty")]
        display_name: String => "displayName",
        /// Its public key, base64 of the SPKI.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub_key: String => "pubKey",
        /// When it was changed last, Unix ms.
        #[serde(skip_serializing_if = "is_zero")]
        updated_mse: i64 => "updatedMSE",
        /// How long its tokens are valid, in days.
        #[serde(skip_serializing_if = "is_zero")]
        token_validity_days: i64 => "tokenValidityDays",
        /// Its role, empty = none.
        #[serde(skip_serializing_if = "String::is_empty")]
        role: String => "role",
    }
}

go_struct! {
    /// `addService`: adds a service or replaces it.
    #[derive(Default)]
    pub struct AddServiceArgs: "authapi.AddServiceArgs" {
        /// Its login.
        service_id: String => "serviceID",
        /// Its name for people.
        display_name: String => "displayName",
        /// Its public key, base64 of the SPKI.
        pub_key: String => "pubKey",
    }
}

go_struct! {
    /// Reply with a token: `addService`, `addDevice`, `addUser`, `refresh`.
    #[derive(Default)]
    pub struct TokenReply: "authapi.AddServiceResp" {
        /// The token; empty when the client has no key.
        token: String => "token",
    }
}

go_struct! {
    /// Methods that name a client: `getClientProfile`, `removeClient`.
    #[derive(Default)]
    pub struct ClientArgs: "authapi.GetClientProfileArgs" {
        /// Its login.
        client_id: String => "clientID",
    }
}

go_struct! {
    /// Reply of `getClientProfile` and `getProfile`.
    #[derive(Default)]
    pub struct ProfileReply: "authapi.GetProfileResp" {
        /// The client's profile.
        profile: ClientProfile => "profile",
    }
}

go_struct! {
    /// Reply of `getProfiles`, in no order.
    #[derive(Default)]
    pub struct ProfilesReply: "authapi.GetProfilesResp" {
        /// One of each client.
        profiles: Vec<ClientProfile> => "profiles",
    }
}

go_struct! {
    /// `setServicePermissions`: which roles may call a capability of the sender.
    #[derive(Default)]
    pub struct ServicePermissionsArgs: "authapi.SetServicePermissionsArgs" {
        /// The capability.
        capability: String => "capability",
        /// The roles, each once.
        roles: Vec<String> => "roles",
    }
}

go_struct! {
    /// `newToken`: a token in exchange for the sender's password.
    #[derive(Default)]
    pub struct NewTokenArgs: "authapi.NewTokenArgs" {
        /// The password.
        password: String => "password",
    }
}

go_struct! {
    /// Reply of `newToken`, with Go's capital letter.
    #[derive(Default)]
    pub struct NewTokenReply: "authapi.NewTokenResp" {
        /// The token.
        token: String => "Token",
    }
}
