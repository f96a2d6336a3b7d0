//! The core's keys and certificates, and those of `launcher` and `admin` (HP 1.16–1.18).
//!
//! Invariants: a certificate of another CA that the configuration names is used as it is and never replaced; who verifies
//! by `caCert.pem` of the certs folder verifies by the CA in use; never a new CA while `caCert.pem` exists (T35); `launcher.token` and `admin.token` are written after
//! everything else and replaced in one step.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bus::wire::{AUTH, ClientProfile, LAUNCHER, unix_ms};
use creds::atomic::{self, AtomicError, PUBLIC_MODE};
use creds::ca::{self, Ca, CaError, CaFiles, ServerFiles, ServerOrigin, Signing};
use creds::check::Certificate;
use creds::clock::NEVER;
use creds::files::{CA_CERT, CA_KEY, CredentialPaths, HUB_CERT, HUB_KEY};
use creds::keys::{self, KeyError};
use creds::{KeyPair, PublicKey, UnixTime};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;

use crate::auth::AuthError;
use crate::clients::{ADMIN, SERVICE, USER};
use crate::config::KeyFiles;
use crate::machine::{self, Names};
use crate::roles::Role;
use crate::validity::Validity;

/// Keys, certificates or tokens that cannot be had.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// CA or server certificate.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file.
    #[error(transparent)]
    File(#[from] AtomicError),
    /// A token.
    #[error(transparent)]
    Token(#[from] AuthError),
    /// `caCertFile` names another CA than the one all clients of this home verify the core by.
    #[error(
        "{path} is of another CA than {used}, which caCertFile names; move it away to have it replaced by a copy"
    )]
    OtherCa {
        /// `caCert.pem` of the certs folder.
        path: PathBuf,
        /// The CA's certificate.
        used: PathBuf,
    },
    /// A certificate or key for TLS that the configuration names.
    #[error("{path} is no use for TLS: {fault}")]
    Given {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
}

/// Where everything lies.
#[derive(Debug, Clone)]
pub struct Places {
    /// The certs folder.
    pub certs: PathBuf,
    /// What lies elsewhere.
    pub files: KeyFiles,
    /// The configured name or address of this machine.
    pub host: Option<String>,
    /// The token files of the core's own accounts, by login.
    pub tokens: Vec<(&'static str, PathBuf)>,
}

impl Places {
    fn place(&self, given: Option<&PathBuf>, name: &str) -> PathBuf {
        self.certs.join(given.map_or(Path::new(name), |path| path))
    }

    /// The CA's.
    #[must_use]
    pub fn ca(&self) -> CaFiles {
        CaFiles {
            cert: self.place(self.files.ca_cert.as_ref(), CA_CERT),
            key: self.place(self.files.ca_key.as_ref(), CA_KEY),
        }
    }

    /// The server's.
    #[must_use]
    pub fn server(&self) -> ServerFiles {
        ServerFiles {
            cert: self.place(self.files.server_cert.as_ref(), HUB_CERT),
            key: self.place(self.files.server_key.as_ref(), HUB_KEY),
        }
    }

    /// The files whose change matters, by their folder.
    #[must_use]
    pub fn watched(&self) -> BTreeMap<PathBuf, Vec<OsString>> {
        let (ca, server) = (self.ca(), self.server());
        let copy = self.certs.join(CA_CERT);
        let all = [ca.cert, ca.key, server.cert, server.key, copy];
        let tokens = self.tokens.iter().map(|(_, path)| path.clone());
        let mut watched: BTreeMap<PathBuf, Vec<OsString>> = BTreeMap::new();
        for path in all.into_iter().chain(tokens) {
            if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
                let names = watched.entry(folder.to_owned()).or_default();
                names.push(name.to_owned());
            }
        }
        watched
    }
}

/// What TLS clients are shown, and which CA theirs are to be of.
#[derive(Debug)]
pub struct Presence {
    /// The CA.
    pub ca: Certificate,
    /// The server certificate, and those between it and its CA when it is another's.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// The same, of a certificate that is made here.
    pub own_key: Option<PublicKey>,
    /// When it is to be looked at again, if nothing changes before: it is due then, or ends.
    pub due: UnixTime,
    /// What there is to be said about it, as long as it is so.
    pub remarks: Vec<String>,
}

/// What a core needs before it listens.
#[derive(Debug)]
pub struct Credentials {
    presence: Presence,
    hub: Arc<KeyPair>,
    auth: KeyPair,
    launcher: KeyPair,
    admin: KeyPair,
}

impl Credentials {
    /// Loads everything and makes what is missing. Blocks.
    ///
    /// # Errors
    /// The file, what is wrong and the way out. A CA or a key that is there is never replaced.
    pub fn prepare(places: &mut Places, now: UnixTime) -> Result<Credentials, CredentialError> {
        let (certs, files) = (&places.certs, &places.files);
        let names = machine::names(places.host.as_deref());
        let ca_files = places.ca();
        let ca = ca::load_or_create_ca_at(&ca_files, now)?;
        provide_ca(certs, &ca_files.cert, &ca, None)?;
        if let Signing::Impossible(reason) = &ca.signing {
            tracing::warn!(reason = crate::chain(reason), "the CA can only verify");
        }
        let presence = presence(&places.server(), files, ca, &names, now)?;
        // Tokens hang on this one wherever the key for TLS lies.
        let (hub, _) = keys::load_or_create_key(&certs.join(HUB_KEY))?;
        let account = |id: &str, key: &Option<PathBuf>, token: &Option<PathBuf>| {
            let mut paths = CredentialPaths::new(certs, id).map_err(KeyError::from)?;
            if let Some(key) = key {
                paths.key = certs.join(key);
                paths.public = paths.key.with_extension("pub");
            }
            if let Some(token) = token {
                paths.token = certs.join(token);
            }
            let (key, _) = keys::load_or_create_at(&paths)?;
            Ok::<_, KeyError>((key, paths.token))
        };
        let (launcher, launcher_token) =
            account(LAUNCHER, &files.launcher_key, &files.launcher_token)?;
        let (admin, admin_token) = account(ADMIN, &files.admin_key, &files.admin_token)?;
        places.tokens = vec![(LAUNCHER, launcher_token), (ADMIN, admin_token)];
        Ok(Credentials {
            presence,
            hub: Arc::new(hub),
            auth: KeyPair::generate()?,
            launcher,
            admin,
        })
    }

    /// What TLS clients are shown.
    #[must_use]
    pub fn into_presence(self) -> Presence {
        self.presence
    }

    /// The key that signs tokens.
    #[must_use]
    pub fn hub_key(&self) -> Arc<KeyPair> {
        Arc::clone(&self.hub)
    }

    /// The accounts every core has: `auth` (its key is new at each start), `launcher`, `admin` (HP 1.20).
    #[must_use]
    pub fn profiles(&self, validity: &Validity) -> [ClientProfile; 3] {
        let profile =
            |id: &str, client_type: &str, name: &str, role: Role, key: &KeyPair| ClientProfile {
                client_id: id.to_owned(),
                client_type: client_type.to_owned(),
                display_name: name.to_owned(),
                pub_key: key.public_text(),
                updated_mse: unix_ms(SystemTime::now()),
                token_validity_days: i64::from(validity.days(client_type)),
                role: role.word().to_owned(),
            };
        [
            profile(AUTH, SERVICE, "Auth Service", Role::Service, &self.auth),
            profile(
                LAUNCHER,
                SERVICE,
                "Launcher Service",
                Role::Service,
                &self.launcher,
            ),
            profile(ADMIN, USER, "Administrator", Role::Admin, &self.admin),
        ]
    }
}

/// Launcher, plugins and `hubcli` look for the CA in the certs folder: puts a copy there when it lies elsewhere, in place of
/// that of the CA `before`. Blocks.
///
/// # Errors
/// There is another one.
pub fn provide_ca(
    certs: &Path,
    used: &Path,
    ca: &Ca,
    before: Option<&Certificate>,
) -> Result<(), CredentialError> {
    let path = certs.join(CA_CERT);
    let there = match atomic::read_text(&path) {
        Ok(there) => there,
        Err(error) if error.is_missing() => {
            return Ok(atomic::write(&path, ca.cert_pem.as_bytes(), PUBLIC_MODE)?);
        }
        Err(error) => return Err(error.into()),
    };
    match Certificate::from_pem(&there) {
        Ok(there) if there.der() == ca.cert.der() => Ok(()),
        Ok(there) if before.is_some_and(|before| before.der() == there.der()) => {
            Ok(atomic::write(&path, ca.cert_pem.as_bytes(), PUBLIC_MODE)?)
        }
        Ok(_) | Err(_) => Err(CredentialError::OtherCa {
            path,
            used: used.to_owned(),
        }),
    }
}

/// What clients are shown: a certificate of another CA if the configuration names one, else the hub's own, renewed when that
/// is due. Blocks.
///
/// # Errors
/// The file, what is wrong and the way out.
pub fn presence(
    at: &ServerFiles,
    files: &KeyFiles,
    ca: Ca,
    names: &Names,
    now: UnixTime,
) -> Result<Presence, CredentialError> {
    if files.server_cert.is_some()
        && let Some(given) = given(at, &ca)?
    {
        return Ok(given);
    }
    let server = ca::load_or_create_server_at(at, &ca, &names.certificate, now)?;
    let file = at.cert.display();
    let mut remarks = Vec::new();
    match &server.origin {
        ServerOrigin::Found => {}
        ServerOrigin::Made { why } => tracing::info!(%file, why, "server certificate made"),
        ServerOrigin::KeptInNeed { why, cause } => {
            remarks.push(format!("{file} {why} and cannot be renewed: {cause}"));
        }
    }
    Ok(Presence {
        chain: vec![CertificateDer::from(server.cert.der().to_vec())],
        key: PrivatePkcs8KeyDer::from(server.key.pkcs8_der().to_vec()).into(),
        own_key: Some(*server.key.public()),
        due: server.due(&ca, now),
        remarks,
        ca: ca.cert,
    })
}

/// The certificate in the named file, when it is there and neither signed by the hub's CA nor made by a core.
fn given(at: &ServerFiles, ca: &Ca) -> Result<Option<Presence>, CredentialError> {
    let pem = match atomic::read_text(&at.cert) {
        Ok(pem) => pem,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let unusable = |path: &Path, fault: &dyn std::fmt::Display| CredentialError::Given {
        path: path.to_owned(),
        fault: fault.to_string(),
    };
    let leaf = Certificate::from_pem(&pem).map_err(|fault| unusable(&at.cert, &fault))?;
    let is_of_a_core = leaf
        .common_name()
        .is_some_and(|name| name.starts_with("nats-"));
    if is_of_a_core || leaf.is_signed_by(&ca.cert) {
        return Ok(None);
    }
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|fault| unusable(&at.cert, &fault))?;
    let key = atomic::read_text(&at.key)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let key = key.map_err(|fault| unusable(&at.key, &fault))?;
    let file = at.cert.display();
    let remarks = vec![format!(
        "{file} is of another CA: clients that verify by caCert.pem refuse it"
    )];
    Ok(Some(Presence {
        ca: ca.cert.clone(),
        chain,
        key,
        own_key: None,
        due: NEVER,
        remarks,
    }))
}
