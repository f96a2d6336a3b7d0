//! What an operator or a crash leaves in files: configuration, journals, the kernel's tables.

use crate::{Corpus, run};
use launcher::app::config;
use mqttcore::Config;
use os::table::Stat;
use os::told::{STATUS_BYTES, Said};
use std::path::Path;

const WORDS: [&str; 26] = [
    "\n", ": ", "- ", "{", "}", "[", "]", "&a ", "*a", "<<: *a", "!!str ", "|", ">-", "'", "\"",
    "#", "---\n", "...\n", "? ", "~", "null", "yes", "1e9", "0x1f", "  ", "\t",
];

/// Nine anchors, each ten times the former.
fn laughs() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let before = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    text
}

#[test]
fn configurations_of_the_launcher() {
    let shipped =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/launcher.yaml"))
            .unwrap();
    let seeds = [
        shipped,
        "logLevel: info\ncorebin: mqttcore\nautostart: [a, b]\nrestart: {delay: 1s, maxDelay: 5m, jitter: 0.2}\n".to_owned(),
        "plugins:\n  lamp:\n    args: [\"-x\"]\n    env: {A: b}\n    stop: {grace: 3s}\n    limits: {memory: 64MiB}\n".to_owned(),
        "autostart:\n- a\n- b\nlogtofile: yes\n".to_owned(),
        laughs(),
        "a: &a\n  b: *a\n".to_owned(),
        "\u{feff}corebin: \u{e9}\n".to_owned(),
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[".to_owned(),
        "{a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a:".to_owned(),
    ];
    run("launcher.yaml", 8, &Corpus::of(seeds, &WORDS), |input| {
        match config::parse(input, "launcher") {
            // Reading it again finds the same.
            Ok(config) => assert_eq!(config::parse(input, "launcher").unwrap(), config),
            Err(problems) => {
                assert!(!problems.is_empty());
                let length: usize = problems.iter().map(|problem| problem.wrong.len()).sum();
                assert!(
                    length < 64 * 1024 + 16 * input.len(),
                    "{length} bytes of complaints"
                );
            }
        }
    });
}

#[test]
fn configurations_of_the_core() {
    let seeds = [
        "mqttserver:\n  port: 8883\n  wsPort: 8884\n  inMemUDSName: \"\"\n  limits: {packetBytes: 4096, loginSeconds: 3}\nenableMDNS: false\n".to_owned(),
        "auth:\n  deviceTokenValidityDays: 90\nlogLevel: warning\n".to_owned(),
        laughs(),
        "a: &a\n  b: *a\n".to_owned(),
        String::new(),
        "mqttserver: [1, 2]\n? {a: b}\n: c\n".to_owned(),
        "- - - - - - - - - -".to_owned(),
        "mqttserver: {limits: {freeGuesses: -1, inFlight: 1e99}}".to_owned(),
    ];
    run("mqttcore.yaml", 8, &Corpus::of(seeds, &WORDS), |input| {
        let text = String::from_utf8_lossy(input);
        let file = Path::new("mqttcore.yaml");
        match Config::parse(file, &text) {
            Ok(config) => assert_eq!(Config::parse(file, &text).unwrap(), config),
            Err(error) => {
                let said = error.to_string();
                assert!(!said.is_empty());
                assert!(
                    said.len() < 64 * 1024 + 256 * input.len(),
                    "{} bytes of complaints",
                    said.len()
                );
            }
        }
    });
}

#[test]
fn tables_of_the_kernel() {
    let seeds = [
        "1234 (a) b) S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 99 1 2 3 4 5 6 7 8",
        "1 (systemd) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 5 1 2 3 94000 5 6",
        "() Z",
        ")(",
    ];
    let own = std::fs::read("/proc/self/stat").unwrap();
    let seeds: Vec<Vec<u8>> = seeds
        .iter()
        .map(|seed| seed.as_bytes().to_vec())
        .chain([own])
        .collect();
    run(
        "stat",
        1,
        &Corpus::of(seeds, &[")", "(", " ", "-1", "4294967296", "\n"]),
        |input| {
            if let Some(stat) = Stat::parse(input) {
                assert!(stat.comm.len() <= 3 * input.len());
            }
        },
    );
}

#[test]
fn journals() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    // What a journal looks like is the launcher's own business: one that it has written is the seed.
    let mut seeds = vec![Vec::new(), b"not a journal\n".to_vec(), vec![0; 64]];
    seeds.push(written(folder.path()));
    run(
        "journal",
        20,
        &Corpus::of(seeds, &["\n", "\"", "{", "}", "run", "0000"]),
        |input| {
            use actors::ports::Memory;
            std::fs::write(&journal, input).unwrap();
            let (memory, _notices) = actors::memory::DiskMemory::open(folder.path()).unwrap();
            let hands = memory.hands();
            drop(memory);
            assert!(hands.len() <= input.len());
            // Whatever was found is kept so that the next finds it, too.
            let (memory, notices) = actors::memory::DiskMemory::open(folder.path()).unwrap();
            assert_eq!(memory.hands(), hands, "{notices:?}");
            drop(memory);
            for entry in std::fs::read_dir(folder.path()).unwrap() {
                std::fs::remove_file(entry.unwrap().path()).unwrap();
            }
        },
    );
}

fn written(folder: &Path) -> Vec<u8> {
    use actors::ports::Memory;
    let (memory, _) = actors::memory::DiskMemory::open(folder).unwrap();
    let id = supervision::PluginId::new("lamp").unwrap();
    for run in 1..4 {
        memory.keep_run(&id, supervision::Run(run));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(memory.flush()).unwrap();
    drop(memory);
    let bytes = std::fs::read(folder.join("journal")).unwrap();
    assert!(!bytes.is_empty());
    bytes
}

#[test]
fn messages_to_the_notify_socket() {
    let corpus = Corpus::of(
        [
            "READY=1\nSTATUS=all is well\nMAINPID=5",
            "WATCHDOG=1\nWATCHDOG_USEC=20000000",
            "EXTEND_TIMEOUT_USEC=18446744073709551615\nRELOADING=1",
            "BARRIER=1\0",
        ],
        &[
            "READY=1",
            "STATUS=",
            "WATCHDOG=trigger",
            "\n",
            "=",
            "\0",
            "\u{1F600}",
        ],
    );
    run("notify", 1, &corpus, |input| {
        let said = Said::read(input);
        let bounded = |text: &String| text.len() <= STATUS_BYTES;
        assert!(said.status.as_ref().is_none_or(bounded));
        // What stands before does not change what comes after.
        let mut ready = b"READY=1\n".to_vec();
        ready.extend_from_slice(input);
        let after = Said::read(&ready);
        let zeroes = input.strip_suffix(b"\0").unwrap_or(input).contains(&0);
        assert_eq!(after.ready, !zeroes);
        assert_eq!(after.status, said.status);
    });
}
