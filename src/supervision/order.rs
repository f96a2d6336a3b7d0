//! In which order plugins are started and stopped.
//!
//! Invariants: every id comes once; the same input gives the same order (the original's was random, T11).

use crate::PluginId;
use std::collections::{BTreeMap, BTreeSet};

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

/// What each plugin requires; those that require nothing need not be in it.
pub type Requirements = BTreeMap<PluginId, Vec<PluginId>>;

/// A circle of plugins that require each other, each once and the smallest id first; none when there is no such circle.
///
/// Of several circles the one through the smallest id, so that the same input gives the same.
#[must_use]
pub fn cycle(requires: &Requirements) -> Option<Vec<PluginId>> {
    requires.keys().find_map(|first| {
        let mut open = vec![vec![first]];
        let mut seen = BTreeSet::new();
        while let Some(way) = open.pop() {
            for next in way
                .last()
                .and_then(|last| requires.get(*last))
                .into_iter()
                .flatten()
            {
                if next == first {
                    return Some(way.into_iter().cloned().collect());
                }
                if seen.insert(next) {
                    open.push(way.iter().copied().chain([next]).collect());
                }
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<PluginId> {
        names.iter().filter_map(|n| PluginId::new(n).ok()).collect()
    }

    fn requirements(of: &[(&str, &[&str])]) -> Requirements {
        of.iter()
            .map(|(id, on)| (PluginId::new(id).unwrap(), ids(on)))
            .collect()
    }

    #[test]
    fn a_circle_is_found_and_shown_as_such() {
        let straight: &[(&str, &[&str])] = &[("a", &["b", "c"]), ("b", &["c"]), ("c", &["x"])];
        assert_eq!(cycle(&requirements(straight)), None);
        assert_eq!(cycle(&requirements(&[("a", &["a"])])), Some(ids(&["a"])));
        let round: &[(&str, &[&str])] = &[
            ("a", &["b"]),
            ("b", &["x", "d"]),
            ("c", &["b"]),
            ("d", &["c"]),
        ];
        assert_eq!(cycle(&requirements(round)), Some(ids(&["b", "d", "c"])));
    }

    #[test]
    fn a_long_chain_is_no_circle_until_it_is_closed() {
        let name = |n: u32| PluginId::new(&format!("p{n:04}")).unwrap();
        let mut chain: Requirements = (0..2_000).map(|n| (name(n), vec![name(n + 1)])).collect();
        assert_eq!(cycle(&chain), None);
        chain.insert(name(2_000), vec![name(0)]);
        assert_eq!(cycle(&chain).map(|circle| circle.len()), Some(2_001));
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
