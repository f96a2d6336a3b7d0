//! The actor tree: root, catalog, plugin, monitor, bridge, control.
