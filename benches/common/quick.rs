//! What a run is asked for.

use anyhow::{Result, bail};

/// What is to be measured, and how long.
pub struct Wanted {
    /// All there are.
    all: &'static [&'static str],
    /// Fewer rounds.
    pub quick: bool,
    /// Beginnings of the names of the parts that are wanted; none = all.
    named: Vec<String>,
}

impl Wanted {
    /// By `BENCH_QUICK` or `--quick`, and by names of parts.
    ///
    /// # Errors
    /// An unknown argument, or a name that is the beginning of none of `parts`.
    pub fn read(parts: &'static [&'static str]) -> Result<Wanted> {
        let mut wanted = Wanted {
            all: parts,
            quick: std::env::var_os("BENCH_QUICK").is_some_and(|value| !value.is_empty()),
            named: Vec::new(),
        };
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                "--quick" => wanted.quick = true,
                // cargo's own.
                "--bench" => {}
                name if parts.iter().any(|part| part.starts_with(name)) => {
                    wanted.named.push(argument);
                }
                other => bail!(
                    "unknown argument '{other}'; there is --quick (fewer rounds), and the parts: {}",
                    parts.join(" ")
                ),
            }
        }
        Ok(wanted)
    }

    /// Whether there is such a part, and it is.
    pub fn wants(&self, part: &str) -> bool {
        let is_named =
            self.named.is_empty() || self.named.iter().any(|name| part.starts_with(name));
        is_named && self.all.contains(&part)
    }
}
