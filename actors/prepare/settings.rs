//! Executable, environment file and working folder, as a start needs them. Blocks.

use crate::inventory::{facts_of, program_of};
use crate::ports::{FileFacts, Kind, Plan};
use crate::words::in_words;
use std::path::{Path, PathBuf};
use supervision::PluginId;
use supervision::lifecycle::BlockReason;

/// What a start finds in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InOrder {
    pub(super) file: FileFacts,
    pub(super) env_file: Vec<(String, String)>,
}

/// Where programs and relative paths are looked for.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) plugins: PathBuf,
    pub(super) core: Option<PathBuf>,
    pub(super) home: PathBuf,
}

impl Places {
    /// Whether executable, environment file and working folder of a plugin are there.
    pub(super) fn look(
        &self,
        id: &PluginId,
        kind: Kind,
        plan: &Plan,
    ) -> Result<InOrder, BlockReason> {
        let file = match kind {
            Kind::Plugin => {
                let path = program_of(&self.plugins, id, plan.instance_of.as_deref());
                facts_of(&path, id.as_str())
            }
            Kind::Core => {
                let Some(path) = self.core.as_deref() else {
                    let text = "no core is configured; set corebin".to_owned();
                    return Err(BlockReason::Executable(text));
                };
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                facts_of(path, &name)
            }
        };
        let file = file.map_err(|error| BlockReason::Executable(error.to_string()))?;
        super::needs::check(&plan.needs, id)?;
        if let Some(cwd) = &plan.cwd {
            check_folder(&self.home.join(cwd), id)?;
        }
        let env_file = match &plan.env_file {
            Some(path) => read_env_file(&self.home.join(path), id)?,
            None => Vec::new(),
        };
        Ok(InOrder { file, env_file })
    }
}

/// All that is wrong with a plugin's working folder and environment file, each with the way out; `home` is where relative
/// paths start. For a look without a start. Blocks.
#[must_use]
pub fn wrong_settings(home: &Path, id: &PluginId, plan: &Plan) -> Vec<BlockReason> {
    let cwd = plan.cwd.as_ref();
    let cwd = cwd.and_then(|cwd| check_folder(&home.join(cwd), id).err());
    let env_file = plan.env_file.as_ref();
    let env_file = env_file.and_then(|path| read_env_file(&home.join(path), id).err());
    cwd.into_iter().chain(env_file).collect()
}

fn check_folder(cwd: &Path, id: &PluginId) -> Result<(), BlockReason> {
    let why = match std::fs::metadata(cwd) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => "is not a folder".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        Err(error) => format!("cannot be entered: {error}"),
    };
    let text = format!(
        "its working folder {} {why}; create it or change plugins.{id}.cwd",
        cwd.display()
    );
    Err(BlockReason::Settings(text))
}

fn read_env_file(path: &Path, id: &PluginId) -> Result<Vec<(String, String)>, BlockReason> {
    let blocked = |why: String| {
        BlockReason::Settings(format!("{why}; correct it or change plugins.{id}.envFile"))
    };
    let text = creds::atomic::read_text(path).map_err(|error| blocked(in_words(&error)))?;
    super::envfile::parse(&text).map_err(|bad| blocked(bad.text(path)))
}
