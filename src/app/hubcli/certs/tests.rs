use super::*;
use creds::ca::{ClientSubject, ServerNames};
use creds::{CredentialPaths, KeyPair};

const NOW: UnixTime = UnixTime(1_800_000_000);

fn on(wish: Certs, certs: &Path, now: UnixTime, json: bool) -> Result<Said, Failure> {
    perform(wish, certs, now, &View::for_tests(json))
}

fn in_days(days: i64) -> UnixTime {
    UnixTime(NOW.0 + days * DAY)
}

/// CA, hub and one client, as core and launcher make them.
fn hub(certs: &Path) {
    let ca = ca::load_or_create_ca(certs, NOW).unwrap();
    let names = ServerNames::new("hubhost", &["192.168.1.10".parse().unwrap()]);
    ca::load_or_create_server(certs, &ca, &names, NOW).unwrap();
    let subject = ClientSubject {
        client_id: "counter",
        unit: "service",
    };
    let key = KeyPair::generate().unwrap();
    let life = Duration::from_secs(100 * DAY.unsigned_abs());
    let pem = ca
        .issuer()
        .unwrap()
        .client(subject, key.public(), life, NOW)
        .unwrap();
    let path = CredentialPaths::new(certs, "counter").unwrap().cert;
    std::fs::write(path, pem).unwrap();
}

#[test]
fn certificates_are_shown_as_the_original_does_with_their_ends() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    hub(certs);
    let said = on(Certs::View, certs, NOW, false).unwrap();
    let expected = format!(
        "CA certificate path:  {0}/caCert.pem
  IsCA       :  true
  Version    :  3
  Valid until:  Mon, 12 Jan 2037 08:00:00 +0000
  Subject    :  CN=hiveot,ST=BC,L=HiveOT zone,O=HiveOT,C=CA
  Issuer     :  CN=hiveot,ST=BC,L=HiveOT zone,O=HiveOT,C=CA
  DNS names  :  []
  State      :  valid, 3650 days left

Server certificate path:  {0}/hubCert.pem
  IsCA        :  false
  Version     :  3
  Valid until :  Sat, 15 Jan 2028 08:00:00 +0000
  Subject     :  CN=nats-hubhost,ST=BC,L=local,OU=hiveot,O=hiveot,C=CA
  Issuer      :  CN=hiveot,ST=BC,L=HiveOT zone,O=HiveOT,C=CA
",
        certs.display()
    );
    assert!(said.out.starts_with(&expected), "{}\n{expected}", said.out);
    assert!(
        said.out.contains("  IP addresses:  [127.0.0.1 "),
        "{}",
        said.out
    );
    assert!(
        said.out.ends_with(
            "Client certificates:\n  counter                   Sun, 25 Apr 2027 08:00:00 +0000   valid, 100 days left\n"
        ),
        "{}",
        said.out
    );
    assert_eq!(said.err, "");
}

#[test]
fn ends_that_come_are_warned_of_a_month_before() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    hub(certs);
    let err = |days| on(Certs::View, certs, in_days(days), false).unwrap().err;
    let exit = |days| on(Certs::View, certs, in_days(days), false).unwrap().exit;
    assert_eq!(err(70), "");
    for (days, code) in [
        (0, ExitCode::Done),
        (71, ExitCode::Done),
        (101, ExitCode::Failed),
        (-10, ExitCode::Failed),
    ] {
        assert_eq!(exit(days), code, "{days}");
    }
    let file = certs.join("counterCert.pem");
    let file = file.display();
    assert_eq!(
        err(71),
        format!(
            "WARNING:  {file}: ends soon, 29 days left; hubcli restart counter renews it, if the launcher made it\n"
        )
    );
    assert!(
        err(101).contains("counterCert.pem: expired; "),
        "{}",
        err(101)
    );
    assert!(
        err(-10).contains("not valid yet: check the clock\n"),
        "{}",
        err(-10)
    );
    let said = on(Certs::View, certs, in_days(101), true).unwrap();
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    let client = &answer["clients"][0];
    assert_eq!(
        (&client["clientID"], &client["state"], &client["daysLeft"]),
        (&"counter".into(), &"expired".into(), &(-1).into())
    );
    assert_eq!(answer["hub"]["dnsNames"][0], "localhost");
    assert_eq!(answer["ca"]["validUntilMSE"], in_days(3650).0 * 1000);
}

#[test]
fn a_ca_is_made_and_replaced_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let create = |force| on(Certs::Create { days: 10, force }, &certs, NOW, false);
    let failure = on(Certs::View, &certs, NOW, false).unwrap_err();
    assert!(failure.text.contains("caCert.pem"), "{}", failure.text);
    let failure = create(false).unwrap_err();
    assert!(failure.text.ends_with("doesn't exist"), "{}", failure.text);
    let out = create(true).unwrap().out;
    assert!(out.starts_with("Generated CA certificate "), "{out}");
    let made = read(&certs.join(CA_CERT)).unwrap();
    assert_eq!(made.common_name(), Some("Hub CA"));
    assert_eq!(days_left(&made, NOW), 10);
    let said = on(Certs::View, &certs, NOW, false).unwrap();
    assert!(
        said.out.contains("Server certificate: none"),
        "{}",
        said.out
    );
    assert!(said.err.contains("hubcli cca --force"), "{}", said.err);

    hub(&certs);
    let failure = create(false).unwrap_err();
    assert!(
        failure.text.ends_with("Use --force to replace"),
        "{}",
        failure.text
    );
    assert_eq!(read(&certs.join(CA_CERT)).unwrap(), made);
    create(true).unwrap();
    let said = on(Certs::View, &certs, NOW, false).unwrap();
    assert!(
        said.err
            .contains("hubCert.pem: signed by another CA; a core that runs"),
        "{}",
        said.err
    );
    let of_client = "counterCert.pem: signed by another CA; it hangs on a CA before";
    assert!(said.err.contains(of_client), "{}", said.err);
    assert_eq!(said.exit, ExitCode::Done, "they will follow");
    std::fs::remove_file(certs.join(CA_CERT)).unwrap();
    let failure = create(false).unwrap_err();
    assert!(
        failure.text.starts_with("CA key already exists"),
        "{}",
        failure.text
    );
}

#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    hub(certs);
    std::fs::write(certs.join("otherCert.pem"), "x").unwrap();
    let said = on(Certs::View, certs, NOW, false).unwrap();
    assert!(
        said.err.contains("otherCert.pem holds no PEM block"),
        "{}",
        said.err
    );
}
