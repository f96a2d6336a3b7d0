//! Warnings before the end of certificates (spec §6). Blocks.
//!
//! Invariants: of each at most one a day; none of what is renewed by itself and not overdue, and of what ends with its CA
//! only the CA itself.

use creds::UnixTime;
use creds::atomic;
use creds::check::Certificate;
use creds::ends::{End, Reminders};
use creds::files::{CA_CERT, CA_KEY, HUB_CERT};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How the files of client certificates end.
const CLIENT: &str = "Cert.pem";

/// What was warned of.
#[derive(Default)]
pub(super) struct Ends {
    reminders: Mutex<Reminders>,
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
        if let Some(ca) = &ca {
            let way_out = "hubcli cca --force makes a new one".to_owned();
            found.push((certs.join(CA_CERT), End::of(ca, now), way_out));
        }
        let key = certs.join(CA_KEY);
        for (client, path) in certificates(certs) {
            let Some(cert) = read(&path) else { continue };
            let ends_with_ca = ca
                .as_ref()
                .is_some_and(|ca| cert.not_after() >= ca.not_after());
            let renews = match client {
                _ if ends_with_ca || now < cert.renew_after(renew_at) => continue,
                None => "the core",
                Some(id) if kept(&id) => "the launcher",
                Some(_) => continue,
            };
            let way_out = format!(
                "{renews} renews it when {} can sign; its log says why it could not yet",
                key.display()
            );
            found.push((path, End::of(&cert, now), way_out));
        }
        let mut reminders = self
            .reminders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let due = found.into_iter().filter_map(|(path, end, way_out)| {
            let is_due = reminders.is_due(&path, end, now);
            let words = end.in_words().filter(|_| is_due)?;
            let file = path.display();
            Some(match end {
                // The way out of a wrong clock is no new certificate.
                End::Early => format!("the certificate {file} {words}"),
                End::Far | End::Near { .. } | End::Over => {
                    format!("the certificate {file} {words}; {way_out}")
                }
            })
        });
        due.collect()
    }
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
