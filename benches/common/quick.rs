//! The short form.

use anyhow::{Result, bail};

/// Whether the short form is asked for, by `BENCH_QUICK` or `--quick`.
pub fn is_wanted() -> Result<bool> {
    let mut quick = std::env::var_os("BENCH_QUICK").is_some_and(|value| !value.is_empty());
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => quick = true,
            // cargo's own.
            "--bench" => {}
            other => bail!("unknown argument '{other}'; there is only --quick: fewer rounds"),
        }
    }
    Ok(quick)
}
