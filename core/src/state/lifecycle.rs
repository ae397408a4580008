//! Where a connection stands between its first link and its end.

use hopmq_proto::Time;

/// The lifecycle of a connection.
#[derive(Debug)]
pub(crate) enum Lifecycle {
    /// The connection has not ended, whether or not there is a link to the broker.
    Open {
        link: LinkState,
        /// This program closes the connection.
        closing: Option<Closing>,
    },
    /// The connection has ended.
    Ended,
}

/// The link of an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// There is no link, or one whose handshake is not done.
    Connecting,
    /// The handshake is done, and what was declared is being declared again.
    Restoring,
    /// Channels and consumers are on the link: requests go out at once.
    Up,
    /// The link failed after its handshake, and the driver has not handled the loss yet.
    Failed,
}

/// A graceful close.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Closing {
    /// Confirms are awaited until `deadline`.
    Confirming {
        deadline: Time,
        /// The deadline for writing all output.
        flush: Time,
    },
    /// `connection.close` is queued; the broker must answer it by `deadline`.
    Sent {
        deadline: Time,
        /// Publishes that were not confirmed before.
        unconfirmed: usize,
        /// All output is written, `connection.close` too.
        flushed: bool,
    },
}

impl Closing {
    pub(super) fn deadline(self) -> Time {
        match self {
            Self::Confirming { deadline, .. } | Self::Sent { deadline, .. } => deadline,
        }
    }
}

impl Lifecycle {
    pub(super) fn new() -> Self {
        Self::Open { link: LinkState::Connecting, closing: None }
    }

    #[inline]
    pub(super) fn is_up(&self) -> bool {
        matches!(self, Self::Open { link: LinkState::Up, .. })
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// Whether the handshake of the present link is done.
    pub(super) fn is_link_open(&self) -> bool {
        matches!(self, Self::Open { link: LinkState::Restoring | LinkState::Up | LinkState::Failed, .. })
    }

    #[inline]
    pub(super) fn closing(&self) -> Option<Closing> {
        match self {
            Self::Open { closing, .. } => *closing,
            Self::Ended => None,
        }
    }

    #[inline]
    pub(super) fn is_closing(&self) -> bool {
        matches!(self, Self::Open { closing: Some(_), .. })
    }

    /// Whether `connection.close` is queued: nothing more goes out.
    #[inline]
    pub(super) fn is_close_sent(&self) -> bool {
        matches!(self, Self::Open { closing: Some(Closing::Sent { .. }), .. })
    }

    /// Sets the state of the link. A link whose handshake is not done can't fail, only be lost.
    pub(super) fn set_link(&mut self, state: LinkState) {
        match self {
            Self::Open { link: LinkState::Connecting, .. } if state == LinkState::Failed => {}
            Self::Open { link, .. } => *link = state,
            Self::Ended => {}
        }
    }

    /// Begins a graceful close. The first one counts.
    pub(super) fn begin_close(&mut self, deadline: Time, flush: Time) {
        if let Self::Open { closing, .. } = self {
            closing.get_or_insert(Closing::Confirming { deadline, flush });
        }
    }

    /// Notes that `connection.close` is queued.
    pub(super) fn close_sent(&mut self, deadline: Time, unconfirmed: usize) {
        if let Self::Open { closing, .. } = self {
            *closing = Some(Closing::Sent { deadline, unconfirmed, flushed: false });
        }
    }

    /// Notes that all output is written. If that includes `connection.close`, the broker must answer it by `limit`.
    pub(super) fn flushed(&mut self, limit: Time) {
        if let Self::Open { closing: Some(Closing::Sent { deadline, flushed: flushed @ false, .. }), .. } = self {
            *flushed = true;
            *deadline = limit.min(*deadline);
        }
    }

    /// Ends the connection. Returns whether it had not ended before.
    pub(super) fn end(&mut self) -> bool {
        !matches!(std::mem::replace(self, Self::Ended), Self::Ended)
    }
}
