//! The launcher of a HiveOT hub.
