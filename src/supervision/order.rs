//! In which order plugins are started and stopped.
//!
//! Invariants: every id comes once; the same input gives the same order (the original's was random, T11).

use crate::PluginId;
use std::collections::BTreeSet;

/// The order of starts: as `autostart` lists them, then the rest by id (spec §9). Ids not in `wanted` are left out.
#[must_use]
pub fn start_order(autostart: &[PluginId], wanted: &BTreeSet<PluginId>) -> Vec<PluginId> {
    let mut seen = BTreeSet::new();
    autostart
        .iter()
        .chain(wanted)
        .filter(|id| wanted.contains(*id) && seen.insert(*id))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<PluginId> {
        names.iter().filter_map(|n| PluginId::new(n).ok()).collect()
    }

    #[test]
    fn listed_first_then_by_id_each_once() {
        let wanted = ids(&["d", "a", "c", "b"]).into_iter().collect();
        assert_eq!(
            start_order(&ids(&["c", "x", "b", "c"]), &wanted),
            ids(&["c", "b", "a", "d"])
        );
    }
}
