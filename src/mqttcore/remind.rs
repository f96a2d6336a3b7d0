//! Reminders of certificates that end, in the core's log (spec §6).
//!
//! Invariants: of each at most one a day; none of what is renewed by itself and not overdue, and of what ends with its CA only
//! the CA itself.

use std::path::PathBuf;

use creds::UnixTime;
use creds::atomic;
use creds::check::Certificate;
use creds::ends::{End, Reminders};
use creds::files::{CA_CERT, HUB_CERT};
use rustls::pki_types::CertificateDer;

use crate::credentials::Places;

/// How the files of client certificates end.
const CLIENT: &str = "Cert.pem";
/// From this share of its life on a client certificate should have been renewed: the launcher does so at 0.66 by default.
const OVERDUE: f64 = 0.75;
/// What to do about a CA.
const NEW_CA: &str =
    "hubcli cca --force makes a new one, and clients on other machines then need its caCert.pem";

/// Says what ends of the CA, of the server certificate whose `chain` is shown, and of the client certificates in the folder.
/// Blocks.
pub fn of_ends(
    places: &Places,
    ca: &Certificate,
    chain: &[CertificateDer<'static>],
    now: UnixTime,
    reminders: &mut Reminders,
) {
    for text in due(places, ca, chain, now, reminders) {
        tracing::warn!("{text}");
    }
}

fn due(
    places: &Places,
    ca: &Certificate,
    chain: &[CertificateDer<'static>],
    now: UnixTime,
    reminders: &mut Reminders,
) -> Vec<String> {
    let mut all = vec![(places.ca().cert, End::of(ca, now), NEW_CA.to_owned())];
    let shown = chain
        .first()
        .and_then(|leaf| Certificate::from_der(leaf).ok());
    if let Some(shown) = shown {
        let (end, path) = (End::of(&shown, now), places.server().cert);
        if !shown.is_signed_by(ca) {
            let way_out = "it is another CA's: renew it, and it is shown at once";
            all.push((path, end, way_out.to_owned()));
        } else if !ends_with(&shown, ca) {
            let way_out = format!(
                "it is renewed by itself when {} can sign",
                places.ca().key.display()
            );
            all.push((path, end, way_out));
        }
    }
    for (id, path) in clients(places) {
        let text = atomic::read_text(&path).ok();
        let Some(cert) = text.and_then(|text| Certificate::from_pem(&text).ok()) else {
            continue;
        };
        if cert.is_signed_by(ca) && !ends_with(&cert, ca) && now >= cert.renew_after(OVERDUE) {
            let way_out = format!("hubcli restart {id} renews it, if the launcher made it");
            all.push((path, End::of(&cert, now), way_out));
        }
    }
    let mut texts = Vec::new();
    for (path, end, way_out) in all {
        if reminders.is_due(&path, end, now)
            && let Some(words) = end.in_words()
        {
            // The way out of a wrong clock is no new certificate.
            let way_out = if end == End::Early {
                String::new()
            } else {
                format!("; {way_out}")
            };
            texts.push(format!(
                "the certificate {} {words}{way_out}",
                path.display()
            ));
        }
    }
    texts
}

/// Nothing outlives its CA: what ends with it cannot be renewed before it.
fn ends_with(cert: &Certificate, ca: &Certificate) -> bool {
    cert.not_after() >= ca.not_after()
}

/// The client certificates of the certs folder, by client. A folder that cannot be read shows none.
fn clients(places: &Places) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(&places.certs)
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let is_client = ![CA_CERT, HUB_CERT].contains(&name.as_str());
            let id = name
                .strip_suffix(CLIENT)
                .filter(|id| is_client && !id.is_empty())?;
            Some((id.to_owned(), entry.path()))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use creds::KeyPair;
    use creds::ca::{self, ClientSubject, ServerNames};

    use super::*;
    use crate::config::KeyFiles;

    const NOW: UnixTime = UnixTime(1_800_000_000);
    const DAY: Duration = creds::ends::DAY;

    struct World {
        _folder: tempfile::TempDir,
        places: Places,
        ca: Certificate,
        chain: Vec<CertificateDer<'static>>,
        reminders: Reminders,
    }

    fn world(ca_days: u32) -> World {
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            certs: folder.path().to_owned(),
            files: KeyFiles::default(),
            host: None,
            tokens: Vec::new(),
        };
        let ca = ca::replace_ca(folder.path(), "CA", DAY * ca_days, NOW).unwrap();
        let names = ServerNames::new("hub", &[]);
        let server = ca::load_or_create_server(folder.path(), &ca, &names, NOW).unwrap();
        let key = KeyPair::generate().unwrap();
        let subject = ClientSubject {
            client_id: "counter",
            unit: "service",
        };
        let issuer = ca.issuer().unwrap();
        let client = issuer
            .client(subject, key.public(), DAY * 100, NOW)
            .unwrap();
        std::fs::write(folder.path().join("counterCert.pem"), client).unwrap();
        World {
            _folder: folder,
            places,
            chain: vec![CertificateDer::from(server.cert.der().to_vec())],
            ca: ca.cert,
            reminders: Reminders::default(),
        }
    }

    impl World {
        fn due(&mut self, days: u32) -> Vec<String> {
            let now = NOW.after(DAY * days);
            due(
                &self.places,
                &self.ca,
                &self.chain,
                now,
                &mut self.reminders,
            )
        }
    }

    #[test]
    fn what_ends_is_said_daily_with_the_way_out() {
        let mut world = world(3650);
        assert!(world.due(0).is_empty());
        // Renewed by itself at two thirds, were the launcher there.
        assert!(world.due(69).is_empty());
        let said = world.due(76).concat();
        for part in ["counterCert.pem ends in 24 days", "hubcli restart counter"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(world.due(76).is_empty());
        assert_eq!(world.due(77).len(), 1);
        assert_eq!(
            world.due(340).len(),
            2,
            "the hub's, too, which could not be renewed"
        );
    }

    #[test]
    fn what_ends_with_its_ca_is_not_said_beside_it() {
        let mut world = world(40);
        let said = world.due(20);
        assert_eq!(said.len(), 1);
        for part in ["caCert.pem ends in 20 days", "hubcli cca --force"] {
            assert!(said[0].contains(part), "{said:?}");
        }
        let said = world.due(41).concat();
        assert!(said.contains("has expired"), "{said}");
        let early = due(
            &world.places,
            &world.ca,
            &world.chain,
            NOW.before(DAY),
            &mut world.reminders,
        );
        assert_eq!(early.len(), 1);
        assert!(early[0].contains("check the clock") && !early[0].contains("cca"));
    }
}
