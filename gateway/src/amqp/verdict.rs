//! The decision about a frame.

/// The sender of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Browser,
    Upstream,
}

/// The decision about a frame.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The frame is passed on.
    Pass,
    /// The frame is dropped.
    Drop,
    /// These bytes are sent in place of the frame.
    Replace(Vec<u8>),
    /// A policy refused the frame; these bytes are sent in its place.
    Refuse(Vec<u8>),
}
