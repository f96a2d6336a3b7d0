//! What the auth service is asked by those who manage clients, and by clients about themselves (HP 1.20).
//!
//! Invariant: as in [`super::auth`].

use super::ClientProfile;
use crate::golang::go_struct;

go_struct! {
    /// `addDevice`: adds a device or replaces it.
    #[derive(Default)]
    pub struct AddDeviceArgs: "authapi.AddDeviceArgs" {
        /// Its login.
        device_id: String => "deviceID",
        /// Its name for people.
        display_name: String => "displayName",
        /// Its public key, base64 of the SPKI.
        pub_key: String => "pubKey",
    }
}

go_struct! {
    /// `addUser`: adds a user or replaces it.
    #[derive(Default)]
    pub struct AddUserArgs: "authapi.AddUserArgs" {
        /// Its login.
        user_id: String => "userID",
        /// Its name for people, with Go's capital letter.
        #[serde(skip_serializing_if = "String::is_empty")]
        display_name: String => "DisplayName",
        /// Its password; empty = none, or the former one.
        #[serde(skip_serializing_if = "String::is_empty")]
        password: String => "password",
        /// Its public key, base64 of the SPKI; empty = no token.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub_key: String => "pubKey",
        /// Its role.
        #[serde(skip_serializing_if = "String::is_empty")]
        role: String => "role",
    }
}

go_struct! {
    /// Reply of `getCount`.
    #[derive(Default)]
    pub struct CountReply: "authapi.GetCountResp" {
        /// How many clients there are.
        n: i64 => "n",
    }
}

go_struct! {
    /// `updateClient`: changes what the profile names.
    #[derive(Default)]
    pub struct UpdateClientArgs: "authapi.UpdateClientArgs" {
        /// Its login.
        client_id: String => "clientID",
        /// The new profile; empty fields change nothing.
        profile: ClientProfile => "profile",
    }
}

go_struct! {
    /// `updateClientPassword`.
    #[derive(Default)]
    pub struct ClientPasswordArgs: "authapi.UpdateClientPasswordArgs" {
        /// Its login.
        client_id: String => "clientID",
        /// The new password.
        password: String => "password",
    }
}

go_struct! {
    /// `updateRole`.
    #[derive(Default)]
    pub struct ClientRoleArgs: "authapi.UpdateRoleArgs" {
        /// Its login.
        client_id: String => "clientID",
        /// The new role.
        role: String => "role",
    }
}

go_struct! {
    /// `updateName` of the sender.
    #[derive(Default)]
    pub struct NewNameArgs: "authapi.UpdateNameArgs" {
        /// Its new name for people.
        new_name: String => "newName",
    }
}

go_struct! {
    /// `updatePassword` of the sender.
    #[derive(Default)]
    pub struct NewPasswordArgs: "authapi.UpdatePasswordArgs" {
        /// The new password.
        new_password: String => "newPassword",
    }
}

go_struct! {
    /// `updatePubKey` of the sender.
    #[derive(Default)]
    pub struct NewPubKeyArgs: "authapi.UpdatePubKeyArgs" {
        /// The new public key.
        new_pub_key: String => "newPubKey",
    }
}
