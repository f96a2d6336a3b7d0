//! Who may use whom: crates by their manifests, programs by what their modules name.
//!
//! Invariants: the tables are those of the map of the house in README; a crate or program that is in no table is a finding.

use super::source::Source;
use super::{Finding, finding};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// Our crates: which of ours each may use, and which of others it must not.
const CRATES: [Rule; 8] = [
    Rule {
        name: "supervision",
        ours: &[],
        others: Others::Only(&["thiserror"]),
    },
    Rule {
        name: "os",
        ours: &["supervision"],
        others: Others::Not(&["ractor"]),
    },
    Rule {
        name: "logs",
        ours: &["supervision"],
        others: Others::Not(&["ractor", "tokio"]),
    },
    Rule {
        name: "creds",
        ours: &[],
        others: Others::Not(&["ractor", "tokio"]),
    },
    Rule {
        name: "bus",
        ours: &["supervision"],
        others: Others::Not(&["ractor"]),
    },
    Rule {
        name: "mqttcore",
        ours: &["bus", "creds"],
        others: Others::Not(&["ractor"]),
    },
    Rule {
        name: "actors",
        ours: &["supervision", "os", "logs", "creds", "bus"],
        others: Others::Not(&["clap", "serde_yaml", "saphyr-parser", "serde_path_to_error"]),
    },
    Rule {
        name: "launcher",
        ours: &[
            "supervision",
            "os",
            "logs",
            "creds",
            "bus",
            "mqttcore",
            "actors",
        ],
        others: Others::Not(&[]),
    },
];

/// Only the programs may turn errors into mere text.
const ONLY_IN_PROGRAMS: [&str; 1] = ["anyhow"];

/// Our programs: which of our crates each may use.
const PROGRAMS: [(&str, &[&str]); 3] = [
    (
        "launcher",
        &["supervision", "os", "logs", "creds", "bus", "actors"],
    ),
    ("hubcli", &["supervision", "bus", "creds", "logs"]),
    ("mqttcore", &["mqttcore"]),
];

struct Rule {
    name: &'static str,
    ours: &'static [&'static str],
    others: Others,
}

enum Others {
    Only(&'static [&'static str]),
    Not(&'static [&'static str]),
}

/// What a crate's manifest says.
pub struct Manifest {
    /// The crate.
    pub name: String,
    /// Its file, from the root of the workspace.
    pub file: String,
    /// What it depends on, but for its tests.
    pub dependencies: Vec<String>,
}

/// The manifests of the workspace, as cargo reads them.
pub fn manifests(root: &Path) -> Vec<Manifest> {
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let prefix = format!("{}/", root.display());
    let of = |package: &serde_json::Value| Manifest {
        name: text(&package["name"]),
        file: text(&package["manifest_path"]).replace(&prefix, ""),
        dependencies: package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .map(|dependency| text(&dependency["name"]))
            .collect(),
    };
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(of)
        .collect()
}

/// Crates that depend on what they must not.
pub fn of_crates(manifests: &[Manifest]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in manifests {
        let Some(rule) = CRATES.iter().find(|rule| rule.name == manifest.name) else {
            let what = format!(
                "the crate '{}' is not in the map of the house",
                manifest.name
            );
            findings.push(finding(&manifest.file, 0, what));
            continue;
        };
        for dependency in &manifest.dependencies {
            if let Some(why) = refusal(rule, dependency) {
                let what = format!("'{}' must not use '{dependency}': {why}", manifest.name);
                findings.push(finding(&manifest.file, 0, what));
            }
        }
    }
    findings
}

fn refusal(rule: &Rule, dependency: &str) -> Option<String> {
    if CRATES.iter().any(|other| other.name == dependency) {
        let may = rule.ours.contains(&dependency);
        return (!may).then(|| format!("of ours it may use {:?}", rule.ours));
    }
    if ONLY_IN_PROGRAMS.contains(&dependency) && rule.name != "launcher" {
        return Some("only the programs may".to_owned());
    }
    match rule.others {
        Others::Only(list) if !list.contains(&dependency) => {
            Some(format!("of others it may use {list:?}"))
        }
        Others::Not(list) if list.contains(&dependency) => {
            Some(format!("it must not use any of {list:?}"))
        }
        Others::Only(_) | Others::Not(_) => None,
    }
}

/// Programs whose modules, or those they lead to, name a crate that the program must not use.
pub fn of_programs(files: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let sources: BTreeMap<&str, Source> = files
        .iter()
        .filter(|(file, _)| is_of_root_package(file))
        .filter_map(|(file, text)| Some((file.as_str(), Source::read(text).ok()?)))
        .collect();
    for file in sources.keys().filter(|file| file.starts_with("src/bin/")) {
        let program = file.trim_start_matches("src/bin/").trim_end_matches(".rs");
        let Some((_, allowed)) = PROGRAMS.iter().find(|(name, _)| *name == program) else {
            let what = format!("the program '{program}' is not in the map of the house");
            findings.push(finding(file, 0, what));
            continue;
        };
        for module in reached(file, &sources) {
            findings.extend(uses(program, allowed, module, &sources[module]));
        }
    }
    findings
}

fn is_of_root_package(file: &str) -> bool {
    file == "src/lib.rs" || file.starts_with("src/bin/") || file.starts_with("src/app/")
}

fn uses(program: &str, allowed: &[&str], file: &str, source: &Source) -> Vec<Finding> {
    let named = |name: &str| {
        CRATES
            .iter()
            .any(|rule| rule.name == name && name != "launcher")
    };
    source
        .paths
        .iter()
        .filter(|path| named(&path.parts[0]) && !source.modules.contains(&path.parts[0]))
        .filter(|path| !allowed.contains(&path.parts[0].as_str()))
        .map(|path| {
            let what = format!(
                "the program '{program}' leads here and must not use '{}'",
                path.parts[0]
            );
            finding(file, path.line, what)
        })
        .collect()
}

/// The files of the root package that a program's file leads to by naming them.
fn reached<'a>(program: &'a str, sources: &BTreeMap<&'a str, Source>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::from([program]);
    let mut open = VecDeque::from([program]);
    while let Some(file) = open.pop_front() {
        for next in next_to(file, sources) {
            if seen.insert(next) {
                open.push_back(next);
            }
        }
    }
    seen
}

fn next_to<'a>(file: &str, sources: &BTreeMap<&'a str, Source>) -> Vec<&'a str> {
    let source = &sources[file];
    let here = module_of(file);
    let mut next = Vec::new();
    for path in &source.paths {
        let mut absolute = match path.parts[0].as_str() {
            "crate" | "launcher" => Vec::new(),
            "self" => here.clone(),
            "super" => here[..here.len().saturating_sub(1)].to_vec(),
            _ => continue,
        };
        for part in &path.parts[1..] {
            if part == "super" {
                absolute.pop();
            } else {
                absolute.push(part.clone());
            }
        }
        next.extend(file_of(&absolute, sources));
    }
    // A module leads to its parts; the two that only list the others do not.
    if !["src/lib.rs", "src/app/mod.rs", "src/app.rs"].contains(&file) {
        for module in &source.modules {
            let mut path = here.clone();
            path.push(module.clone());
            next.extend(file_of(&path, sources));
        }
    }
    next
}

/// The module that a file is, as its path from the crate's root.
fn module_of(file: &str) -> Vec<String> {
    let stem = file.trim_start_matches("src/").trim_end_matches(".rs");
    let stem = stem.trim_end_matches("/mod");
    if stem == "lib" || stem.starts_with("bin/") {
        return Vec::new();
    }
    stem.split('/').map(str::to_owned).collect()
}

/// The file of the deepest module that a path leads through; the crate's root itself leads nowhere.
fn file_of<'a>(path: &[String], sources: &BTreeMap<&'a str, Source>) -> Option<&'a str> {
    (1..=path.len()).rev().find_map(|length| {
        let stem = format!("src/{}", path[..length].join("/"));
        [format!("{stem}.rs"), format!("{stem}/mod.rs")]
            .iter()
            .find_map(|file| sources.get_key_value(file.as_str()).map(|(key, _)| *key))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_with(name: &str, dependencies: &[&str]) -> Vec<Finding> {
        of_crates(&[Manifest {
            name: name.to_owned(),
            file: "Cargo.toml".to_owned(),
            dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
        }])
    }

    #[test]
    fn crates_are_kept_apart() {
        for (name, bad) in [
            ("supervision", "tokio"),
            ("supervision", "os"),
            ("os", "ractor"),
            ("logs", "os"),
            ("logs", "tokio"),
            ("creds", "supervision"),
            ("bus", "creds"),
            ("mqttcore", "supervision"),
            ("mqttcore", "anyhow"),
            ("actors", "clap"),
            ("actors", "mqttcore"),
            ("news", "serde"),
        ] {
            assert_eq!(crate_with(name, &[bad]).len(), 1, "{name} with {bad}");
        }
        assert!(crate_with("actors", &["bus", "tokio"]).is_empty());
        assert!(crate_with("launcher", &["anyhow", "mqttcore"]).is_empty());
    }

    fn programs(files: &[(&str, &str)]) -> Vec<String> {
        let files = files
            .iter()
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
            .collect();
        of_programs(&files)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_program_is_followed_into_its_modules() {
        let found = programs(&[
            (
                "src/bin/hubcli.rs",
                "fn main() { launcher::app::hubcli::run() }",
            ),
            ("src/lib.rs", "pub mod app;"),
            (
                "src/app/mod.rs",
                "pub mod hubcli; pub mod wiring; mod shared;",
            ),
            (
                "src/app/hubcli/mod.rs",
                "mod table; use crate::app::shared::Folders; use bus::Info;",
            ),
            ("src/app/hubcli/table.rs", "fn a() { os::spawn() }"),
            ("src/app/shared.rs", "use {actors::Seat, logs::Tail};"),
            ("src/app/wiring.rs", "use actors::Root;"),
        ]);
        assert_eq!(
            found,
            [
                "src/app/hubcli/table.rs:1: the program 'hubcli' leads here and must not use 'os'",
                "src/app/shared.rs:1: the program 'hubcli' leads here and must not use 'actors'",
            ]
        );
    }

    #[test]
    fn super_and_self_are_followed_and_local_modules_are_not_crates() {
        let found = programs(&[
            ("src/bin/mqttcore.rs", "use launcher::app::mqttcore;"),
            (
                "src/app/mqttcore.rs",
                "use super::{logs, b}; use self::os::X; mod os; fn a() { os::b() }",
            ),
            ("src/app/logs.rs", "use creds::Key;"),
            ("src/app/b.rs", ""),
        ]);
        assert_eq!(
            found,
            ["src/app/logs.rs:1: the program 'mqttcore' leads here and must not use 'creds'"]
        );
    }

    #[test]
    fn an_unknown_program_is_found() {
        assert_eq!(programs(&[("src/bin/new.rs", "fn main() {}")]).len(), 1);
    }
}
