//! Capability `manageClients`: clients are added, shown, changed and removed.

use bus::wire::{
    AddDeviceArgs, AddServiceArgs, AddUserArgs, ClientArgs, ClientPasswordArgs, ClientProfile,
    ClientRoleArgs, CountReply, ProfileReply, TokenReply, UpdateClientArgs,
};

use super::{Answer, Auth, AuthError, Call, Effect, check_role, clipped, now_ms};
use crate::clients::{DEVICE, SERVICE, USER, is_reserved};
use crate::roles::{Role, is_login};

impl Auth {
    pub(super) async fn manage(&self, call: &Call) -> Result<Answer, AuthError> {
        match call.method.as_str() {
            "addService" => self.add_service(call.args()?).await,
            "addDevice" => self.add_device(call.args()?).await,
            "addUser" => self.add_user(call.args()?).await,
            "getProfiles" => Ok(self.profiles(call)),
            "getClientProfile" => {
                let args: ClientArgs = call.args()?;
                self.profile_of(&args.client_id)
            }
            "getCount" => Ok(Answer::of(&CountReply {
                n: i64::try_from(self.store.now().count()).unwrap_or(i64::MAX),
            })),
            "removeClient" => self.remove(call.args()?).await,
            "updateClient" => self.update_client(call.args()?).await,
            // The original's hubcli calls it by the name that it has among one's own (T33).
            "updateClientPassword" | "updatePassword" => {
                let args: ClientPasswordArgs = call.args()?;
                self.set_password(&args.client_id, &args.password).await
            }
            "updateRole" => self.update_role(call.args()?).await,
            _ => Err(call.unknown_method()),
        }
    }

    async fn add_service(&self, args: AddServiceArgs) -> Result<Answer, AuthError> {
        if args.service_id.is_empty() {
            return Err(AuthError::NoServiceId);
        }
        self.add(ClientProfile {
            client_id: args.service_id,
            client_type: SERVICE.to_owned(),
            display_name: args.display_name,
            pub_key: args.pub_key,
            role: Role::Service.word().to_owned(),
            ..ClientProfile::default()
        })
        .await
    }

    async fn add_device(&self, args: AddDeviceArgs) -> Result<Answer, AuthError> {
        if args.device_id.is_empty() {
            return Err(AuthError::NoDeviceId);
        }
        self.add(ClientProfile {
            client_id: args.device_id,
            client_type: DEVICE.to_owned(),
            display_name: args.display_name,
            pub_key: args.pub_key,
            role: Role::Device.word().to_owned(),
            ..ClientProfile::default()
        })
        .await
    }

    async fn add_user(&self, args: AddUserArgs) -> Result<Answer, AuthError> {
        if args.user_id.is_empty() {
            return Err(AuthError::NoUserId);
        }
        check_role(&args.role)?;
        // Hashed before anything is changed: a refused password adds no user.
        let hash = match args.password.as_str() {
            "" => None,
            password => Some(self.passwords.hash(password).await?),
        };
        let id = args.user_id.clone();
        let answer = self
            .add(ClientProfile {
                client_id: args.user_id,
                client_type: USER.to_owned(),
                display_name: args.display_name,
                pub_key: args.pub_key,
                role: args.role,
                ..ClientProfile::default()
            })
            .await?;
        if let Some(hash) = hash {
            self.store_hash(&id, hash).await?;
        }
        Ok(answer)
    }

    /// Adds or replaces a client and gives it a token if it has a key (HP 1.20).
    async fn add(&self, mut profile: ClientProfile) -> Result<Answer, AuthError> {
        let id = profile.client_id.clone();
        if !is_login(&id) {
            return Err(AuthError::BadId { id: clipped(&id) });
        }
        if is_reserved(&id) {
            return Err(AuthError::Reserved { id });
        }
        check_role(&profile.role)?;
        profile.token_validity_days = i64::from(self.tokens.validity.days(&profile.client_type));
        profile.updated_mse = now_ms();
        profile.pub_key = profile.pub_key.trim().to_owned();
        // Signed before it is stored: who cannot get a token is not added.
        let token = match profile.pub_key.as_str() {
            "" => String::new(),
            _ => self.tokens.issue(&profile)?.expose().to_owned(),
        };
        let ((), change) = self.store.change(|clients| clients.add(profile));
        self.store.kept(change).await?;
        Ok(Answer::of(&TokenReply { token }).and(Effect::Rejudge(id)))
    }

    /// All profiles. The original's client asks so for one, too, by its id, and looks for that one beside (T33).
    fn profiles(&self, call: &Call) -> Answer {
        #[derive(serde::Serialize)]
        struct Reply {
            profiles: Vec<ClientProfile>,
            #[serde(skip_serializing_if = "Option::is_none")]
            profile: Option<ClientProfile>,
        }
        let asked: ClientArgs = call.args().unwrap_or_default();
        let clients = self.store.now();
        Answer::of(&Reply {
            profiles: clients.profiles(),
            profile: clients.get(&asked.client_id).map(|it| it.profile.clone()),
        })
    }

    pub(super) fn profile_of(&self, id: &str) -> Result<Answer, AuthError> {
        let clients = self.store.now();
        let entry = clients
            .get(id)
            .ok_or_else(|| AuthError::Missing { id: clipped(id) })?;
        Ok(Answer::of(&ProfileReply {
            profile: entry.profile.clone(),
        }))
    }

    async fn remove(&self, args: ClientArgs) -> Result<Answer, AuthError> {
        let id = args.client_id;
        if is_reserved(&id) {
            return Err(AuthError::Reserved { id });
        }
        let (_, change) = self.store.change(|clients| clients.remove(&id));
        self.change_permissions(|permissions| permissions.forget(&id))
            .await?;
        self.store.kept(change).await?;
        Ok(Answer::default().and(Effect::ThrowOut(id)))
    }

    async fn update_client(&self, args: UpdateClientArgs) -> Result<Answer, AuthError> {
        let (id, new) = (args.client_id, args.profile);
        // The original's hubcli leaves it out.
        if !new.client_id.is_empty() && new.client_id != id {
            return Err(AuthError::Mismatch {
                id: clipped(&id),
                other: clipped(&new.client_id),
            });
        }
        if !["", DEVICE, SERVICE, USER].contains(&new.client_type.as_str()) {
            return Err(AuthError::ClientType {
                found: clipped(&new.client_type),
            });
        }
        check_role(&new.role)?;
        let known = self
            .known(&id)
            .map_err(|_| AuthError::NotFound { id: clipped(&id) })?;
        let changes = |now: &str, new: &str| !new.is_empty() && new != now;
        if is_reserved(&id)
            && (changes(&known.role, &new.role)
                || changes(&known.client_type, &new.client_type)
                || changes(&known.pub_key, &new.pub_key))
        {
            return Err(AuthError::Reserved { id });
        }
        self.update(&id, |known| {
            for (field, value) in [
                (&mut known.client_type, new.client_type),
                (&mut known.display_name, new.display_name),
                (&mut known.pub_key, new.pub_key),
                (&mut known.role, new.role),
            ] {
                if !value.is_empty() {
                    *field = value;
                }
            }
            if new.token_validity_days > 0 {
                known.token_validity_days = new.token_validity_days;
            }
        })
        .await?;
        Ok(Answer::default().and(Effect::Rejudge(id)))
    }

    async fn update_role(&self, args: ClientRoleArgs) -> Result<Answer, AuthError> {
        let (id, role) = (args.client_id, args.role);
        check_role(&role)?;
        if is_reserved(&id) {
            return Err(AuthError::Reserved { id });
        }
        self.update(&id, |known| known.role = role).await?;
        Ok(Answer::default().and(Effect::Rejudge(id)))
    }

    /// Changes a profile and waits until that is on disk.
    pub(super) async fn update(
        &self,
        id: &str,
        change: impl FnOnce(&mut ClientProfile),
    ) -> Result<(), AuthError> {
        let (found, change) = self.store.change(|clients| {
            clients
                .update(id, now_ms())
                .map(|entry| change(&mut entry.profile))
        });
        found.ok_or_else(|| AuthError::NotFound { id: clipped(id) })?;
        Ok(self.store.kept(change).await?)
    }

    pub(super) async fn set_password(&self, id: &str, password: &str) -> Result<Answer, AuthError> {
        let hash = self.passwords.hash(password).await?;
        self.store_hash(id, hash).await?;
        Ok(Answer::default().and(Effect::Rejudge(id.to_owned())))
    }

    async fn store_hash(&self, id: &str, hash: String) -> Result<(), AuthError> {
        let (found, change) = self.store.change(|clients| {
            clients
                .update(id, now_ms())
                .map(|entry| entry.password_hash = hash)
        });
        found.ok_or_else(|| AuthError::NotFound { id: clipped(id) })?;
        Ok(self.store.kept(change).await?)
    }
}
