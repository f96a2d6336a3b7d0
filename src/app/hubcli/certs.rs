//! The certificates of a hub: shown, and the CA made anew (HP 1.18, 1.22). Needs no hub that runs.
//!
//! Invariants: a CA that is there is replaced only when that is asked for by `--force`; no private key is read or shown.

use super::cli::Certs;
use super::code::ExitCode;
use super::exit::Failure;
use super::say::{Said, escaped};
use super::view::View;
use creds::UnixTime;
use creds::atomic::{self, AtomicError};
use creds::ca;
use creds::check::Certificate;
use creds::ends::End;
use creds::files::{CA_CERT, CA_KEY, HUB_CERT};
use serde_json::{Value, json};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Common name of a CA that is made here (HP 1.18).
const COMMON_NAME: &str = "Hub CA";
/// How the files of client certificates end.
const CLIENT: &str = "Cert.pem";
const DAY: i64 = 24 * 60 * 60;
/// RFC 1123 with a numeric zone, as the original writes it.
const UNTIL: &str = "%a, %d %b %Y %H:%M:%S %z";

/// Does what was asked for in the folder `certs`.
pub(super) fn perform(
    wish: Certs,
    certs: &Path,
    now: UnixTime,
    view: &View,
) -> Result<Said, Failure> {
    match wish {
        Certs::View => show(certs, now, view),
        Certs::Create { days, force } => create(certs, days, force, now, view),
    }
}

/// How a certificate fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Valid,
    /// It ends soon.
    Ending,
    Expired,
    /// Its time has not come: most often the clock is wrong.
    Early,
    /// Another CA signed it.
    Foreign,
}

impl State {
    fn of(cert: &Certificate, ca: &Certificate, now: UnixTime) -> State {
        if !cert.is_signed_by(ca) {
            return State::Foreign;
        }
        match End::of(cert, now) {
            End::Early => State::Early,
            End::Over => State::Expired,
            End::Near { .. } => State::Ending,
            End::Far => State::Valid,
        }
    }

    /// Whether nobody takes it now, for a reason that does not pass by itself as a change of the CA does.
    fn is_of_no_use(self) -> bool {
        match self {
            State::Valid | State::Ending | State::Foreign => false,
            State::Expired | State::Early => true,
        }
    }

    fn word(self) -> &'static str {
        match self {
            State::Valid => "valid",
            State::Ending => "ends soon",
            State::Expired => "expired",
            State::Early => "not valid yet: check the clock",
            State::Foreign => "signed by another CA",
        }
    }
}

fn days_left(cert: &Certificate, now: UnixTime) -> i64 {
    cert.not_after().0.saturating_sub(now.0).div_euclid(DAY)
}

/// A certificate that is shown.
struct Shown {
    path: PathBuf,
    /// The client, of a client certificate.
    client: String,
    cert: Certificate,
    state: State,
    days: i64,
}

impl Shown {
    fn json(&self) -> Value {
        let cert = &self.cert;
        let mut shown = json!({
            "path": self.path.display().to_string(),
            "isCA": cert.is_ca(),
            "version": cert.version(),
            "validFromMSE": cert.not_before().0.saturating_mul(1000),
            "validUntilMSE": cert.not_after().0.saturating_mul(1000),
            "daysLeft": self.days,
            "state": self.state.word(),
            "subject": cert.subject(),
            "issuer": cert.issuer(),
            "dnsNames": cert.dns_names(),
            "addresses": cert.addresses(),
        });
        if !self.client.is_empty() {
            shown["clientID"] = self.client.as_str().into();
        }
        shown
    }

    fn until(&self) -> String {
        let seconds = jiff::Timestamp::from_second(self.cert.not_after().0);
        seconds.map_or_else(|_| String::new(), |time| time.strftime(UNTIL).to_string())
    }

    /// As the original shows one, and how it fares; `width` is that of the names.
    fn lines(&self, title: &str, width: usize) -> String {
        let cert = &self.cert;
        let mut out = format!("{title} path:  {}\n", self.path.display());
        let mut line = |name: &str, value: &str| {
            out.push_str(&format!("  {name:<width$}:  {}\n", escaped(value)));
        };
        line("IsCA", &cert.is_ca().to_string());
        line("Version", &cert.version().to_string());
        line("Valid until", &self.until());
        line("Subject", cert.subject());
        line("Issuer", cert.issuer());
        line("DNS names", &format!("[{}]", cert.dns_names().join(" ")));
        if !cert.is_ca() {
            let addresses: Vec<String> = cert.addresses().iter().map(ToString::to_string).collect();
            line("IP addresses", &format!("[{}]", addresses.join(" ")));
        }
        line("State", &self.in_words());
        out
    }

    fn in_words(&self) -> String {
        match self.state {
            State::Valid | State::Ending => {
                format!("{}, {} days left", self.state.word(), self.days)
            }
            State::Expired | State::Early | State::Foreign => self.state.word().to_owned(),
        }
    }

    /// What to do about it: about its end, or that it hangs on another CA; none where nothing is wrong.
    fn warning(&self, about_end: &str, about_ca: &str) -> Option<String> {
        let way_out = match self.state {
            State::Valid => return None,
            State::Ending | State::Expired => format!("; {about_end}"),
            // New dates would be no better.
            State::Early => String::new(),
            State::Foreign => format!("; {about_ca}"),
        };
        let file = self.path.display();
        Some(format!("WARNING:  {file}: {}{way_out}\n", self.in_words()))
    }
}

fn show(certs: &Path, now: UnixTime, view: &View) -> Result<Said, Failure> {
    let path = certs.join(CA_CERT);
    let hint = "a core makes one when it starts, and so does hubcli cca";
    let ca = read(&path).map_err(|text| Failure::failed(text, hint))?;
    let shown = |path: PathBuf, client: &str, cert: Certificate| Shown {
        state: State::of(&cert, &ca, now),
        days: days_left(&cert, now),
        client: client.to_owned(),
        path,
        cert,
    };
    let authority = shown(path, "", ca.clone());
    let hub_path = certs.join(HUB_CERT);
    // There is none before the first start of the core.
    let hub = if hub_path.exists() {
        let hint = "move it away, and the core makes a new one";
        let cert = read(&hub_path).map_err(|text| Failure::failed(text, hint))?;
        Some(shown(hub_path, "", cert))
    } else {
        None
    };
    let mut clients = Vec::new();
    let mut unreadable = Vec::new();
    for (client, path) in client_files(certs) {
        match read(&path) {
            Ok(cert) => clients.push(shown(path, &client, cert)),
            Err(text) => unreadable.push(format!("WARNING:  {text}\n")),
        }
    }
    let all = clients.iter().chain([&authority]).chain(&hub);
    let is_bad = !unreadable.is_empty() || all.into_iter().any(|one| one.state.is_of_no_use());
    let exit = if is_bad {
        ExitCode::Failed
    } else {
        ExitCode::Done
    };
    if view.json {
        let mut answer = json!({
            "ca": authority.json(),
            "clients": clients.iter().map(Shown::json).collect::<Vec<_>>(),
        });
        if let Some(hub) = &hub {
            answer["hub"] = hub.json();
        }
        let said = Said::done(format!("{answer}\n"));
        return Ok(Said { exit, ..said });
    }
    let out = format!(
        "{}\n{}\n{}",
        authority.lines("CA certificate", 11),
        hub.as_ref().map_or_else(
            || "Server certificate: none; the core makes one when it starts\n".to_owned(),
            |hub| hub.lines("Server certificate", 12)
        ),
        client_lines(&clients),
    );
    let err = warnings(&authority, hub.as_ref(), &clients) + &unreadable.concat();
    Ok(Said { out, err, exit })
}

fn client_lines(clients: &[Shown]) -> String {
    if clients.is_empty() {
        return "Client certificates: none\n".to_owned();
    }
    let mut out = "Client certificates:\n".to_owned();
    for shown in clients {
        let (until, state) = (shown.until(), shown.in_words());
        let client = escaped(&shown.client);
        out.push_str(&format!("  {client:<25} {until}   {state}\n"));
    }
    out
}

fn warnings(ca: &Shown, hub: Option<&Shown>, clients: &[Shown]) -> String {
    let new_ca = "hubcli cca --force makes a new one, and every client then needs it";
    let of_ca = ca.warning(new_ca, new_ca);
    // Nothing outlives its CA: what ends with it cannot be renewed before it.
    let ends_with_ca = |shown: &Shown| {
        shown.state == State::Ending && shown.cert.not_after() >= ca.cert.not_after()
    };
    let of_hub = hub.filter(|hub| !ends_with_ca(hub)).and_then(|hub| {
        hub.warning(
            "the core renews it by itself when caKey.pem is there and good: core.log says why it does not",
            "a core that runs makes a new one by itself: core.log says why it does not",
        )
    });
    let clients = clients.iter().filter(|shown| !ends_with_ca(shown));
    let of_clients = clients.filter_map(|shown| {
        let id = escaped(&shown.client);
        shown.warning(
            &format!("hubcli restart {id} renews it, if the launcher made it"),
            &format!(
                "it hangs on a CA before, which a core that runs lets in for a day after the change; the launcher \
                 renews what it made when the core shows a certificate of the new CA: hubcli why {id}"
            ),
        )
    });
    let all = of_ca.into_iter().chain(of_hub).chain(of_clients);
    all.collect()
}

/// The client certificates of the folder, by client. A folder that may not be listed shows none.
fn client_files(certs: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(certs).into_iter().flatten().flatten();
    let mut found: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let id = name.strip_suffix(CLIENT)?;
            let is_client = !id.is_empty()
                && !id.starts_with('.')
                && ![CA_CERT, HUB_CERT].contains(&name.as_str());
            is_client.then(|| (id.to_owned(), entry.path()))
        })
        .collect();
    found.sort();
    found
}

fn read(path: &Path) -> Result<Certificate, String> {
    let text = atomic::read_text(path).map_err(|error| in_full(&error))?;
    Certificate::from_pem(&text).map_err(|fault| format!("{} {fault}", path.display()))
}

fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn create(
    certs: &Path,
    days: u32,
    force: bool,
    now: UnixTime,
    view: &View,
) -> Result<Said, Failure> {
    let (cert, key) = (certs.join(CA_CERT), certs.join(CA_KEY));
    if !certs.is_dir() {
        let text = format!("certificate folder '{}' doesn't exist", certs.display());
        if !force {
            return Err(Failure::failed(text, "with --force it is made"));
        }
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(certs);
        made.map_err(|error| Failure::failed(format!("{text}: {error}"), "make it yourself"))?;
    }
    for (path, what) in [(&cert, "certificate"), (&key, "key")] {
        if !force && path.symlink_metadata().is_ok() {
            let text = format!(
                "CA {what} already exists in '{}'. Use --force to replace",
                path.display()
            );
            let hint = "hubcli vca shows it; a new one voids every certificate of the hub";
            return Err(Failure::failed(text, hint));
        }
    }
    let life = Duration::from_secs(u64::from(days) * DAY.unsigned_abs());
    ca::replace_ca(certs, COMMON_NAME, life, now).map_err(|error| {
        let hint = "run it as the user of the hub, who owns the folder";
        Failure::failed(in_full(&error), hint)
    })?;
    give_to_owner(certs, &[&cert, &key]).map_err(|error| {
        Failure::failed(in_full(&error), "give them to the hub's user by chown")
    })?;
    if view.json {
        let answer = json!({
            "caCertPath": cert.display().to_string(),
            "caKeyPath": key.display().to_string(),
            "days": days,
        });
        return Ok(Said::done(format!("{answer}\n")));
    }
    Ok(Said::done(format!(
        "Generated CA certificate {} and its key {}, valid for {days} days\n\
         A hub that runs follows by itself: first its core shows a certificate of the new CA, then the launcher renews \
         those of the plugins; those of the old CA are let in for another day, or until: hubcli restart core\n\
         What still hangs on the old CA is shown by: hubcli vca\n\
         Clients on other machines need the new {CA_CERT} before they can connect again\n",
        cert.display(),
        key.display(),
    )))
}

/// What root makes in somebody's folder must be readable for that user.
fn give_to_owner(folder: &Path, files: &[&PathBuf]) -> Result<(), AtomicError> {
    for file in files {
        let given = folder.metadata().and_then(|folder| {
            let (uid, gid) = (folder.uid(), folder.gid());
            if file.metadata()?.uid() == uid {
                return Ok(());
            }
            std::os::unix::fs::chown(file, Some(uid), Some(gid))
        });
        given.map_err(|source| AtomicError::Replace {
            path: (*file).clone(),
            source,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
