//! Who waits for which replies.
//!
//! Owns the inboxes of calls and streams in flight, by correlation id. In come replies, returned calls and the loss of
//! the link; out go the wakers of those who wait. It must never know a channel or a clock.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};

use hopmq::{ErrorKind, Message};

/// The replies that have not been taken, and how they end.
#[derive(Default)]
pub(super) struct Table {
    last: u64,
    /// How often the link was lost.
    losses: u64,
    late: u64,
    inboxes: BTreeMap<u64, Inbox>,
}

#[derive(Default)]
struct Inbox {
    /// Whether the message that the replies are awaited for has been sent on the present link.
    sent: bool,
    first: Option<Message>,
    more: VecDeque<Message>,
    limit: usize,
    end: Option<End>,
    waker: Option<Waker>,
}

/// Why no more replies come.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// The broker returned the call.
    Returned,
    /// The link or the channel that replies come through is lost.
    Lost(hopmq::Error),
    /// More replies came than the peer may send ahead.
    Flooded,
}

impl Table {
    /// Opens an inbox for at most `limit` untaken messages. Returns its id.
    pub(super) fn open(&mut self, limit: usize) -> u64 {
        self.last += 1;
        self.inboxes.insert(self.last, Inbox { limit, ..Inbox::default() });
        self.last
    }

    /// Returns how often the link was lost: see [`sent`](Self::sent).
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    /// Notes that the message was sent, which began when the link had been lost `losses` times.
    pub(super) fn sent(&mut self, id: u64, losses: u64) {
        let lost_meanwhile = losses != self.losses;
        let Some(inbox) = self.inboxes.get_mut(&id) else { return };
        inbox.sent = true;
        if lost_meanwhile && inbox.end.is_none() {
            let text = "the link was lost while the call was sent";
            inbox.end = Some(End::Lost(hopmq::Error::new(ErrorKind::OutcomeUnknown, text)));
        }
    }

    /// Closes an inbox. What arrives for it later is counted and dropped.
    pub(super) fn close(&mut self, id: u64) {
        self.inboxes.remove(&id);
    }

    /// Returns the number of open inboxes.
    pub(super) fn len(&self) -> usize {
        self.inboxes.len()
    }

    /// Returns how many messages came for closed inboxes.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// Takes the next message of an inbox.
    pub(super) fn poll(&mut self, id: u64, task: &mut Context<'_>) -> Poll<Result<Message, End>> {
        let Some(inbox) = self.inboxes.get_mut(&id) else { return Poll::Pending };
        if let Some(message) = inbox.first.take() {
            inbox.first = inbox.more.pop_front();
            return Poll::Ready(Ok(message));
        }
        if let Some(end) = &inbox.end {
            return Poll::Ready(Err(end.clone()));
        }
        if !inbox.waker.as_ref().is_some_and(|waker| waker.will_wake(task.waker())) {
            inbox.waker = Some(task.waker().clone());
        }
        Poll::Pending
    }

    /// Puts a message into its inbox. Gives it back if no call waits for it.
    pub(super) fn put(&mut self, id: Option<u64>, message: Message, due: &mut Vec<Waker>) -> Option<Message> {
        let Some(inbox) = id.and_then(|id| self.inboxes.get_mut(&id)) else {
            self.late += 1;
            return Some(message);
        };
        if inbox.first.is_none() {
            inbox.first = Some(message);
        } else if inbox.more.len() + 1 < inbox.limit {
            inbox.more.push_back(message);
        } else {
            inbox.end = Some(End::Flooded);
        }
        due.extend(inbox.waker.take());
        None
    }

    /// Ends an inbox because the broker returned its message.
    pub(super) fn returned(&mut self, id: Option<u64>, due: &mut Vec<Waker>) {
        if let Some(inbox) = id.and_then(|id| self.inboxes.get_mut(&id)) {
            inbox.end.get_or_insert(End::Returned);
            due.extend(inbox.waker.take());
        }
    }

    /// Ends all inboxes whose messages were sent: direct replies do not outlive their channel.
    pub(super) fn lost(&mut self, error: &hopmq::Error, due: &mut Vec<Waker>) {
        self.losses += 1;
        for inbox in self.inboxes.values_mut().filter(|inbox| inbox.sent) {
            inbox.end.get_or_insert_with(|| End::Lost(error.clone()));
            due.extend(inbox.waker.take());
        }
    }
}

/// Returns the id that a correlation id holds.
pub(super) fn id_of(message: &Message) -> Option<u64> {
    let text = message.properties().correlation_id()?;
    u64::from_str_radix(text, 16).ok()
}

/// Writes the correlation id of an inbox.
pub(super) fn correlation_id(id: u64) -> String {
    format!("{id:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> hopmq::Error {
        hopmq::Error::new(ErrorKind::Io, "cut")
    }

    fn poll(table: &mut Table, id: u64) -> Poll<Result<Message, End>> {
        table.poll(id, &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_loss_of_the_link_ends_what_was_sent_and_spares_what_was_not() {
        let (mut table, mut due) = (Table::default(), Vec::new());
        let (sent, waiting) = (table.open(1), table.open(1));
        table.sent(sent, table.losses());
        assert!(poll(&mut table, sent).is_pending());
        table.lost(&error(), &mut due);
        assert_eq!(due.len(), 1);
        assert!(matches!(poll(&mut table, sent), Poll::Ready(Err(End::Lost(_)))));
        assert!(poll(&mut table, waiting).is_pending());
        table.sent(waiting, table.losses());
        assert!(poll(&mut table, waiting).is_pending());
    }

    #[test]
    fn a_link_that_is_lost_while_a_call_is_sent_leaves_its_outcome_unknown() {
        let mut table = Table::default();
        let (id, before) = (table.open(1), table.losses());
        table.lost(&error(), &mut Vec::new());
        table.sent(id, before);
        assert!(matches!(poll(&mut table, id), Poll::Ready(Err(End::Lost(_)))));
    }

    #[test]
    fn a_returned_call_ends_once() {
        let (mut table, mut due) = (Table::default(), Vec::new());
        let id = table.open(1);
        table.returned(Some(id), &mut due);
        table.lost(&error(), &mut due);
        assert!(matches!(poll(&mut table, id), Poll::Ready(Err(End::Returned))));
        table.close(id);
        assert_eq!(table.len(), 0);
        table.returned(Some(id), &mut due);
        table.returned(None, &mut due);
    }
}
