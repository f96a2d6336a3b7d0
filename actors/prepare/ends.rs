//! Warnings before the end of certificates (spec §6). Blocks.
//!
//! Invariants: of each at most one a day; none of what is renewed by itself and not overdue, and of what ends with its CA
//! only the CA itself.

use bus::wire::local_time;
use creds::UnixTime;
use creds::atomic;
use creds::check::Certificate;
use creds::files::{CA_CERT, HUB_CERT};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long before its end a certificate is warned of.
const WARNED_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a warning is not repeated.
const QUIET: Duration = Duration::from_secs(23 * 3600);

/// How the files of client certificates end.
const CLIENT: &str = "Cert.pem";

/// What was warned of, and when.
#[derive(Default)]
pub(super) struct Ends {
    warned: Mutex<HashMap<PathBuf, UnixTime>>,
}

impl Ends {
    /// The warnings that are due at `now`; of clients only of those that are `kept` up. `renew_at` is the share of its life
    /// after which one should have been renewed.
    pub(super) fn warnings(
        &self,
        certs: &Path,
        kept: impl Fn(&str) -> bool,
        renew_at: f64,
        now: UnixTime,
    ) -> Vec<String> {
        let ca = read(&certs.join(CA_CERT));
        let mut found = Vec::new();
        if let Some(ca) = &ca
            && ends_soon(ca, now)
        {
            found.push((
                certs.join(CA_CERT),
                ca.not_after(),
                "make a new CA: hubcli cca --force".to_owned(),
            ));
        }
        for (client, path) in certificates(certs) {
            let Some(cert) = read(&path) else { continue };
            let ends_with_ca = ca
                .as_ref()
                .is_some_and(|ca| cert.not_after() >= ca.not_after());
            let overdue = now >= cert.renew_after(renew_at);
            if ends_with_ca || !overdue || !ends_soon(&cert, now) {
                continue;
            }
            let way_out = match client {
                None => "hubcli restart core renews it".to_owned(),
                Some(id) if kept(&id) => {
                    format!(
                        "it is renewed by itself once {certs}/caKey.pem can sign; the log says why it cannot",
                        certs = certs.display()
                    )
                }
                Some(_) => continue,
            };
            found.push((path, cert.not_after(), way_out));
        }
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.retain(|path, _| found.iter().any(|(of, ..)| of == path));
        found.retain(|(path, ..)| {
            let before = warned.get(path);
            before.is_none_or(|before| now < *before || now.since(*before) >= QUIET)
        });
        for (path, ..) in &found {
            warned.insert(path.clone(), now);
        }
        found
            .into_iter()
            .map(|(path, end, way_out)| {
                let ends = if end < now { "ended" } else { "ends" };
                let at = local_time(end.to_system());
                format!(
                    "the certificate {} {ends} at {at}; {way_out}",
                    path.display()
                )
            })
            .collect()
    }
}

fn ends_soon(cert: &Certificate, now: UnixTime) -> bool {
    cert.not_after() <= now.after(WARNED_BEFORE)
}

/// The certificates of the folder but that of the CA; with their client, which the hub's has none of.
fn certificates(certs: &Path) -> Vec<(Option<String>, PathBuf)> {
    let mut found = vec![(None, certs.join(HUB_CERT))];
    // A folder that cannot be read shows none; that is said by who needs what is in it.
    for entry in std::fs::read_dir(certs).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if let Some(id) = name.strip_suffix(CLIENT)
            && ![CA_CERT, HUB_CERT].contains(&name.as_str())
        {
            found.push((Some(id.to_owned()), entry.path()));
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> Option<Certificate> {
    let text = atomic::read_text(path).ok()?;
    Certificate::from_pem(&text).ok()
}
