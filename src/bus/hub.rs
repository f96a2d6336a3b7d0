//! Where a hub is found from its home (spec §13).
