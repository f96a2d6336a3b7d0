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
    let knotted = knotted(requires);
    knotted.iter().find_map(|first| way_back(first, requires))
}

/// Those that are in a circle, or require something that is.
fn knotted(requires: &Requirements) -> BTreeSet<&PluginId> {
    let mut open: BTreeMap<&PluginId, usize> = BTreeMap::new();
    let mut required_by: BTreeMap<&PluginId, Vec<&PluginId>> = BTreeMap::new();
    for (id, on) in requires {
        let known = on.iter().filter(|on| requires.contains_key(*on));
        open.insert(id, known.clone().count());
        known.for_each(|on| required_by.entry(on).or_default().push(id));
    }
    let mut free: Vec<&PluginId> = open
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(id, _)| *id)
        .collect();
    while let Some(id) = free.pop() {
        open.remove(id);
        for by in required_by.remove(id).into_iter().flatten() {
            if let Some(count) = open.get_mut(by) {
                *count -= 1;
                if *count == 0 {
                    free.push(by);
                }
            }
        }
    }
    open.into_keys().collect()
}

/// A way from `first` over what is required back to it, without its end.
fn way_back(first: &PluginId, requires: &Requirements) -> Option<Vec<PluginId>> {
    let mut from: BTreeMap<&PluginId, &PluginId> = BTreeMap::new();
    let mut open = vec![first];
    while let Some(at) = open.pop() {
        for next in requires.get(at).into_iter().flatten() {
            if next == first {
                let mut way: Vec<PluginId> =
                    std::iter::successors(Some(at), |at| from.get(*at).copied())
                        .cloned()
                        .collect();
                way.reverse();
                return Some(way);
            }
            if !from.contains_key(next) {
                from.insert(next, at);
                open.push(next);
            }
        }
    }
    None
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
