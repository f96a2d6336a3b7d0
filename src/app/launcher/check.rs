//! `launcher --check`: everything that can be known without starting (spec §3).
//!
//! Invariants: nothing is made, changed or started; all is looked at, so that every problem is told at once.

use super::{ExitCode, Settings};
use crate::app::config::{self, Config, sample};
use crate::app::paths::Folders;
use actors::inventory::{facts_of, program_of};
use actors::ports::{Plan, Plans};
use nix::unistd::AccessFlags;
use os::cgroup::CgroupUse;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use supervision::PluginId;

/// What a check found, a line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// What keeps the hub or a plugin from working as configured.
    pub problems: Vec<String>,
    /// What may be meant so.
    pub warnings: Vec<String>,
}

impl Findings {
    /// The exit code that tells of them.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.problems.is_empty() {
            ExitCode::Clean
        } else {
            ExitCode::Config
        }
    }

    /// Prints them: problems and warnings to `err`, that all is well to `out`.
    ///
    /// # Errors
    /// When the output is closed or full.
    pub fn print(
        &self,
        folders: &Folders,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<()> {
        for problem in &self.problems {
            writeln!(err, "{problem}")?;
        }
        for warning in &self.warnings {
            writeln!(err, "warning: {warning}")?;
        }
        match self.problems.len() {
            0 => writeln!(out, "{}: no problems", folders.config_file.display()),
            1 => writeln!(err, "1 problem"),
            count => writeln!(err, "{count} problems"),
        }
    }

    fn problem(&mut self, problem: &dyn std::error::Error) {
        self.problems.push(in_one_line(problem));
    }
}

/// Looks at folders, configuration and executables.
#[must_use]
pub fn check(folders: &Folders, settings: &Settings) -> Findings {
    let mut findings = Findings::default();
    for accepted in [
        folders.accept_home(),
        folders.accept_config(),
        folders.accept_run(),
    ] {
        if let Err(error) = accepted {
            findings.problem(&error);
        }
    }
    check_folders(folders, &mut findings);
    if let Some(Err(error)) = settings
        .server
        .as_ref()
        .map(|url| url.parse::<bus::client::Endpoint>())
    {
        findings.problem(&error);
    }
    if sample::for_first_start(folders).is_none() {
        findings.warnings.extend(config::without_file(folders));
    }
    match config::load_or_sample(folders) {
        Err(problems) => findings.problems.extend(problems.lines()),
        Ok(config) => check_config(folders, settings, &config, &mut findings),
    }
    findings
}

/// Folders that are there must be folders and usable; those that are not must be possible to make.
fn check_folders(folders: &Folders, findings: &mut Findings) {
    let read_only = [&folders.bin, &folders.plugins, &folders.config];
    for (path, _) in folders.with_modes() {
        if path == folders.config && folders.accept_config().is_err() {
            // Told already.
            continue;
        }
        let there = path.ancestors().find(|path| path.exists());
        let there = there.unwrap_or(Path::new("/"));
        if !there.is_dir() {
            let wrong =
                format!("{there:?} is needed as a folder, but is something else; move it away");
            findings.problems.push(wrong);
            continue;
        }
        let wanted = if there == path && read_only.contains(&&path) {
            AccessFlags::R_OK | AccessFlags::X_OK
        } else {
            AccessFlags::W_OK | AccessFlags::X_OK
        };
        if let Err(error) = nix::unistd::eaccess(there, wanted) {
            let what = if there == path { "used" } else { "made" };
            let wrong = format!(
                "the folder {path:?} cannot be {what} by this user: {there:?}: {}; change its owner or mode",
                error.desc()
            );
            findings.problems.push(wrong);
        }
    }
    // Several folders may lack the same thing above them.
    findings.problems.dedup();
}

fn check_config(folders: &Folders, settings: &Settings, config: &Config, findings: &mut Findings) {
    if let Some(core) = &config.core {
        match core.find(folders) {
            Err(missing) => {
                let way_out = missing.way_out(folders);
                findings.problems.push(format!("{missing}; {way_out}"));
            }
            Ok(path) => {
                if let Err(unfit) = facts_of(&path, core.name()) {
                    findings
                        .problems
                        .push(format!("the core cannot be started: {unfit}"));
                }
            }
        }
    } else if config.create_plugin_cred && settings.server.is_none() {
        findings.warnings.push(
            "no core is configured (corebin), so plugins get no credentials and are blocked until a hub is found; \
             set corebin or --server, or createPluginCred: false"
                .to_owned(),
        );
    }
    match config.plans(folders) {
        Err(error) => findings.problem(&error),
        Ok(plans) => {
            check_limits(config, &plans, findings);
            check_plugins(folders, &plans, findings);
        }
    }
}

/// Limits that only the kernel can keep need what `cgroups: off` switches off.
fn check_limits(config: &Config, plans: &Plans, findings: &mut Findings) {
    if config.cgroups != CgroupUse::Off {
        return;
    }
    let by_kernel = |plan: &Plan| plan.limits.hard || plan.limits.pids.is_some();
    let configured = plans.autostart.iter().chain(plans.by_id.keys());
    let limited: BTreeSet<&str> = configured
        .filter(|id| by_kernel(plans.of(id, actors::ports::Kind::Plugin)))
        .map(PluginId::as_str)
        .collect();
    if !limited.is_empty() {
        let names: Vec<&str> = limited.into_iter().collect();
        findings.warnings.push(format!(
            "limits.hard and limits.pids have no effect on {}, as cgroups is off",
            names.join(", ")
        ));
    }
}

fn check_plugins(folders: &Folders, plans: &Plans, findings: &mut Findings) {
    let required = plans.by_id.values().flat_map(|plan| &plan.requires);
    let configured = plans.autostart.iter().chain(plans.by_id.keys());
    let named: BTreeSet<&PluginId> = configured.chain(required).collect();
    for id in named {
        let plan = plans.of(id, actors::ports::Kind::Plugin);
        check_requires(id, plan, plans, findings);
        let path = program_of(&folders.plugins, id, plan.instance_of.as_deref());
        if let Err(unfit) = facts_of(&path, id.as_str()) {
            findings
                .warnings
                .push(format!("plugin {id} is blocked: {unfit}"));
        }
        for reason in actors::prepare::wrong_settings(&folders.home, id, plan) {
            findings
                .problems
                .push(format!("plugin {id} is blocked: {}", reason.text()));
        }
    }
    let instances: BTreeSet<&str> = plans
        .by_id
        .values()
        .filter_map(|plan| plan.instance_of.as_deref())
        .collect();
    findings
        .warnings
        .extend(unaddressable(&folders.plugins, &instances));
}

/// Somebody may start by hand what does not start by itself, so this may be meant so.
fn check_requires(id: &PluginId, plan: &Plan, plans: &Plans, findings: &mut Findings) {
    let starts = |id: &PluginId| plans.autostart.contains(id);
    let absent = plan.requires.iter().filter(|on| starts(id) && !starts(on));
    findings.warnings.extend(absent.map(|on| {
        format!(
            "plugin {id} requires {on}, which is not in autostart: it is blocked until {on} is started by hand"
        )
    }));
}

/// Executables whose names cannot be ids (T46), but for those that run under another.
fn unaddressable(plugins: &Path, instances: &BTreeSet<&str>) -> Vec<String> {
    let entries = std::fs::read_dir(plugins);
    let mut refused: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let passed_over = name.starts_with('.') || instances.contains(name.as_str());
            if passed_over || facts_of(&entry.path(), &name).is_err() {
                return None;
            }
            let error = PluginId::new(&name).err()?;
            Some(format!(
                "{:?} in the plugins folder is no plugin: {error}; rename it, or run it under a valid id by instanceOf",
                name
            ))
        })
        .collect();
    refused.sort();
    refused
}

/// An error with what caused it, in one line.
fn in_one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::paths::{Overrides, Surroundings};
    use std::os::unix::fs::PermissionsExt as _;

    struct Home {
        temp: tempfile::TempDir,
        folders: Folders,
    }

    fn home() -> Home {
        let temp = tempfile::tempdir().expect("temp");
        let around = Surroundings {
            exe: temp.path().join("bin/launcher"),
            argv0: "launcher".into(),
            cwd: temp.path().to_owned(),
            user_home: None,
        };
        let folders = Folders::resolve(&around, &Overrides::default()).expect("folders");
        Home { temp, folders }
    }

    impl Home {
        fn program(&self, path: &str) {
            let path = self.temp.path().join(path);
            std::fs::create_dir_all(path.parent().expect("folder")).expect("made");
            std::fs::write(&path, "#!/bin/sh\n").expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        }

        fn config(&self, text: &str) {
            std::fs::create_dir_all(&self.folders.config).expect("made");
            std::fs::write(&self.folders.config_file, text).expect("written");
        }

        fn check(&self) -> Findings {
            check(&self.folders, &Settings::default())
        }
    }

    #[test]
    fn an_empty_home_is_checked_as_its_first_start_would_find_it() {
        let home = home();
        let core = home.folders.bin.join("mqttcore");
        let missing = format!(
            "findCore. core in config not found. Path={}; put the program there, or correct or remove corebin in {}",
            core.display(),
            home.folders.config_file.display()
        );
        assert_eq!(home.check().problems, [missing]);
        home.program("bin/mqttcore");
        assert_eq!(home.check(), Findings::default());
        assert_eq!(home.check().exit_code(), ExitCode::Clean);
        assert!(!home.folders.config.exists(), "a check makes nothing");
    }

    #[test]
    fn another_broker_is_looked_for_everywhere_and_its_map_with_the_rest() {
        let home = home();
        home.config("corebin: {bin: sh, url: \"h:1\", auth: certificate}\n");
        assert_eq!(home.check(), Findings::default(), "sh is in PATH");
        let broker = home.temp.path().join("opt/broker");
        home.program("opt/broker");
        home.config(&format!("corebin: {{bin: {}}}\n", broker.display()));
        assert_eq!(home.check(), Findings::default());
        home.config("corebin: {bin: /no/such/broker}\nautostart: [broker]\n");
        let problems = home.check().problems.join("\n");
        let file = home.folders.config_file.display();
        assert_eq!(
            problems,
            format!(
                "{file}:2:13: autostart[0]: 'broker' is the core, which is started first anyway; expected the id of a plugin"
            )
        );
        home.config("corebin: {bin: no-such-broker}\n");
        let problems = home.check().problems.join("\n");
        assert!(
            problems.contains("findCore. core in config not found.")
                && problems.contains("bin/no-such-broker"),
            "{problems}"
        );
        home.config("corebin: {bin: /no/such/broker}\n");
        let problems = home.check().problems.join("\n");
        assert!(problems.contains("Path=/no/such/broker;"), "{problems}");
        home.config("corebin: {bin: mosquitto, auth: certificat}\nlogLevel: loud\n");
        let problems = home.check().problems;
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[0].contains(":1:33: corebin.auth: has the value 'certificat'")
                && problems[0].contains("did you mean certificate?"),
            "{problems:?}"
        );
    }

    #[test]
    fn everything_is_told_at_once() {
        let home = home();
        home.program("bin/mqttcore");
        home.program("plugins/bad.name");
        home.program("plugins/other.name");
        home.program("plugins/a");
        home.config(
            "corebin: mqttcor\nautostart: [a, gone]\nplugins:\n  a: {cwd: nowhere, envFile: a.env, requires: [lost]}\n  b: {instanceOf: other.name}\n",
        );
        std::fs::write(home.folders.config.join("a.env"), "A=1\nnonsense\n").expect("written");
        let findings = home.check();
        assert_eq!(findings.exit_code(), ExitCode::Config);
        let all = findings.problems.join("\n");
        for wanted in [
            "findCore. core in config not found. Path=",
            "plugin a is blocked: its working folder",
            "a.env:2: the line is not NAME=VALUE",
        ] {
            assert!(all.contains(wanted), "{wanted}\n{all}");
        }
        assert_eq!(findings.problems.len(), 3, "{all}");
        let warnings = findings.warnings.join("\n");
        assert!(
            warnings.contains("plugin gone is blocked: no such file in plugins"),
            "{warnings}"
        );
        assert!(
            warnings.contains("\"bad.name\" in the plugins folder is no plugin"),
            "{warnings}"
        );
        assert!(
            warnings.contains("plugin a requires lost, which is not in autostart")
                && warnings.contains("plugin lost is blocked: no such file in plugins"),
            "{warnings}"
        );
        assert_eq!(findings.warnings.len(), 4, "{warnings}");
    }

    #[test]
    fn limits_of_the_kernel_without_cgroups_are_told() {
        let home = home();
        home.program("plugins/a");
        home.config("createPluginCred: false\ncgroups: off\nautostart: [a]\nplugins: {a: {limits: {pids: 5}}}\n");
        assert_eq!(
            home.check().warnings,
            ["limits.hard and limits.pids have no effect on a, as cgroups is off"]
        );
        home.config("createPluginCred: false\nautostart: [a]\nplugins: {a: {limits: {pids: 5}}}\n");
        assert_eq!(home.check(), Findings::default());
    }

    #[test]
    fn what_is_wrong_is_printed_apart_from_what_is_right() {
        let home = home();
        home.config("corbin: x\nlogLevel: loud\n");
        let findings = home.check();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        findings
            .print(&home.folders, &mut out, &mut err)
            .expect("printed");
        assert!(out.is_empty());
        let text = String::from_utf8(err).expect("text");
        let file = home.folders.config_file.display();
        assert!(
            text.starts_with(&format!("{file}:1:1: corbin: is no known key; ")),
            "{text}"
        );
        assert!(
            text.contains(&format!("\n{file}:2:11: logLevel: has the value 'loud'; ")),
            "{text}"
        );
        assert!(text.ends_with("\n2 problems\n"), "{text}");
        home.config("createPluginCred: false\n");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        home.check()
            .print(&home.folders, &mut out, &mut err)
            .expect("printed");
        assert!(err.is_empty());
        assert_eq!(
            String::from_utf8(out).expect("text"),
            format!("{file}: no problems\n")
        );
    }

    #[test]
    fn folders_and_addresses_are_checked() {
        let home = home();
        home.program("bin/mqttcore");
        std::fs::write(home.temp.path().join("stores"), "").expect("written");
        let settings = Settings {
            server: Some("http://x".to_owned()),
            ..Settings::default()
        };
        let problems = check(&home.folders, &settings).problems.join("\n");
        assert!(
            problems.contains("stores\" is needed as a folder"),
            "{problems}"
        );
        assert!(
            problems.contains("'http://x' is no address of a hub"),
            "{problems}"
        );
    }

    #[test]
    fn a_home_too_deep_for_sockets_is_told() {
        let home = home();
        home.program("bin/mqttcore");
        let mut folders = home.folders.clone();
        folders.run = home.temp.path().join("x".repeat(100));
        let problems = check(&folders, &Settings::default()).problems.join("\n");
        assert!(problems.contains("at most 83 leave room"), "{problems}");
    }

    #[test]
    fn a_folder_of_configuration_that_is_none_is_told() {
        let home = home();
        home.program("bin/mqttcore");
        home.config("corebin: mqttcore\n");
        let mut folders = home.folders.clone();
        folders.config = home.folders.config_file.clone();
        folders.config_file = folders.config.join("launcher.yaml");
        let findings = check(&folders, &Settings::default());
        assert_eq!(findings.problems.len(), 1, "{findings:?}");
        assert!(
            findings.problems[0].contains("--configFile"),
            "{findings:?}"
        );
        assert_eq!(findings.exit_code(), ExitCode::Config);

        // A hub that ran once, and a mistyped folder.
        std::fs::create_dir_all(home.folders.stores.join("auth")).expect("made");
        folders.config = home.temp.path().join("confg");
        folders.config_file = folders.config.join("launcher.yaml");
        let findings = check(&folders, &Settings::default());
        assert_eq!(findings.problems, [""; 0]);
        let warnings = findings.warnings.join("\n");
        assert!(
            warnings.contains("confg/launcher.yaml: the defaults hold"),
            "{warnings}"
        );
    }
}
