//! Plugin logs: capture, bounds, rotation, last lines.
