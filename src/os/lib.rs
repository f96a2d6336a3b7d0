//! Every system call of supervision: spawning, process trees, pidfds, FIFOs, the clock.
