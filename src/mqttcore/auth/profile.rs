//! Capability `profile`: what a client asks and changes about itself.

use std::net::Ipv4Addr;

use bus::wire::{
    ClientProfile, NewNameArgs, NewPasswordArgs, NewPubKeyArgs, NewTokenArgs, NewTokenReply,
    ServicePermissionsArgs, TokenReply,
};
use tokio::time::Instant;

use super::{Answer, Auth, AuthError, Call, Effect, clipped};
use crate::clients::SERVICE;
use crate::guesses::TooEarly;
use crate::roles::{Role, is_login};

/// The most capabilities one service may register.
const MAX_CAPABILITIES: usize = 256;

impl Auth {
    pub(super) async fn profile(&self, call: &Call) -> Result<Answer, AuthError> {
        let id = call.sender.as_str();
        match call.method.as_str() {
            "getProfile" => self.profile_of(id),
            "newToken" => {
                let args: NewTokenArgs = call.args()?;
                self.check_password(id, &args.password).await?;
                let token = self.token_of(id)?;
                Ok(Answer::of(&NewTokenReply { token }))
            }
            "refresh" => Ok(Answer::of(&TokenReply {
                token: self.token_of(id)?,
            })),
            "setServicePermissions" => self.set_service_permissions(id, call.args()?).await,
            "updateName" => {
                let args: NewNameArgs = call.args()?;
                self.update(id, |known| known.display_name = args.new_name)
                    .await?;
                Ok(Answer::default())
            }
            "updatePassword" => {
                let args: NewPasswordArgs = call.args()?;
                self.set_password(id, &args.new_password).await
            }
            "updatePubKey" => {
                let args: NewPubKeyArgs = call.args()?;
                self.update(id, |known| {
                    args.new_pub_key.trim().clone_into(&mut known.pub_key);
                })
                .await?;
                Ok(Answer::default().and(Effect::Rejudge(id.to_owned())))
            }
            _ => Err(call.unknown_method()),
        }
    }

    async fn check_password(&self, id: &str, password: &str) -> Result<(), AuthError> {
        let hash = self
            .store
            .now()
            .get(id)
            .map(|entry| entry.password_hash.clone());
        // Who has logged in without the password must not find it out here; where it is asked from is not known, and
        // does not count against the login elsewhere.
        let nowhere = Ipv4Addr::UNSPECIFIED.into();
        let attempt = self
            .guesses
            .begin(id, true, nowhere, Instant::now())
            .map_err(|TooEarly| AuthError::TooEarly { id: clipped(id) })?;
        tokio::time::sleep_until(attempt.at).await;
        let fits = self.passwords.fits(password.as_bytes(), hash.as_deref());
        if fits.await {
            self.guesses.right(&attempt, Instant::now());
            return Ok(());
        }
        Err(AuthError::Login { id: clipped(id) })
    }

    pub(super) fn known(&self, id: &str) -> Result<ClientProfile, AuthError> {
        let clients = self.store.now();
        let entry = clients.get(id);
        entry
            .map(|entry| entry.profile.clone())
            .ok_or_else(|| AuthError::Missing { id: clipped(id) })
    }

    fn token_of(&self, id: &str) -> Result<String, AuthError> {
        Ok(self.tokens.issue(&self.known(id)?)?.expose().to_owned())
    }

    /// Opens a capability of the sender to roles. What it said before about that capability no longer counts (T31).
    async fn set_service_permissions(
        &self,
        id: &str,
        args: ServicePermissionsArgs,
    ) -> Result<Answer, AuthError> {
        let profile = self.known(id)?;
        if profile.client_type != SERVICE {
            return Err(AuthError::NotAService {
                id: clipped(id),
                found: clipped(&profile.client_type),
            });
        }
        if !is_login(&args.capability) {
            return Err(AuthError::BadCapability {
                capability: clipped(&args.capability),
            });
        }
        let grants = self.grants.now();
        if !grants.has(id, &args.capability) && grants.count(id) >= MAX_CAPABILITIES {
            return Err(AuthError::TooManyCapabilities {
                id: clipped(id),
                limit: MAX_CAPABILITIES,
            });
        }
        let roles = Role::of_words(&args.roles);
        self.change_permissions(|permissions| permissions.set(id, &args.capability, roles))
            .await?;
        Ok(Answer::default())
    }
}
