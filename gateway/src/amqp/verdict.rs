//! What becomes of a frame.

/// Where a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Browser,
    Upstream,
}

/// What becomes of a frame.
#[derive(Debug)]
pub(crate) enum Verdict {
    Pass,
    Drop,
    Replace(Vec<u8>),
    /// The same, for what was refused.
    Refuse(Vec<u8>),
}
