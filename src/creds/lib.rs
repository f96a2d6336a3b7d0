//! Keys, tokens, certificates and the atomic files that hold them.
