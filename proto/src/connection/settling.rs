//! The calls of a client that settle deliveries.
//!
//! In come delivery tags; out go acks and rejects. An ack at the end of the output is extended rather than followed by
//! another.

use super::{ACK_ARGUMENTS, Connection, LastAck};
use crate::error::Error;
use crate::method::basic;

impl Connection {
    /// Client: acknowledges a delivery, or all up to it. Consecutive acks in the output are merged into one `multiple`
    /// ack if they leave no earlier delivery unacked.
    ///
    /// # Errors
    /// The caller's fault, if the channel is not open or the delivery is already settled.
    #[inline]
    pub fn ack(&mut self, number: u16, delivery_tag: u64, multiple: bool) -> Result<(), Error> {
        let channel = self.open_channel_mut(number)?;
        channel.settle(delivery_tag, multiple)?;
        let is_lowest = !channel.transactional && channel.unacked.first().is_none_or(|lowest| lowest > delivery_tag);
        let last = LastAck { channel: number, end: self.output.position() };
        if is_lowest && self.last_ack == Some(last) {
            // The ack at the end of the output covers this delivery too.
            let out = self.output.frames();
            let arguments = out.len() - ACK_ARGUMENTS - 1;
            let [tag @ .., multiple] = &mut out[arguments..][..ACK_ARGUMENTS] else { return Ok(()) };
            tag.copy_from_slice(&delivery_tag.to_be_bytes());
            *multiple = 1;
            return Ok(());
        }
        self.send_often(number, &basic::Ack { delivery_tag, multiple })?;
        self.last_ack = is_lowest.then(|| LastAck { channel: number, end: self.output.position() });
        Ok(())
    }

    /// Client: acknowledges deliveries, in the order of their tags: with one ack if no other delivery up to the last of
    /// them is unacked. Returns how many were acknowledged, and the first error; one error keeps none of the others
    /// from being acknowledged.
    pub fn ack_all<I>(&mut self, number: u16, tags: I) -> (u64, Result<(), Error>)
    where
        I: ExactSizeIterator<Item = u64> + DoubleEndedIterator + Clone,
    {
        let channel = match self.open_channel_mut(number) {
            Ok(channel) => channel,
            Err(error) => return (0, Err(error)),
        };
        let mut ends = tags.clone();
        let (Some(first), count) = (ends.next(), tags.len()) else { return (0, Ok(())) };
        let last = ends.next_back().unwrap_or(first);
        let unacked = &channel.unacked;
        // If all up to the last are as many as the batch, and begin with it, a batch without gaps is all of them.
        let has_gaps = last.checked_sub(first).is_none_or(|between| between != count as u64 - 1);
        if !channel.transactional
            && unacked.count_up_to(last) == count
            && (!has_gaps && unacked.first() == Some(first) || tags.clone().all(|tag| unacked.contains(tag)))
        {
            return (count as u64, self.ack(number, last, true));
        }
        let mut count = 0;
        let mut first = Ok(());
        for tag in tags {
            match self.ack(number, tag, false) {
                Ok(()) => count += 1,
                Err(error) if first.is_ok() => first = Err(error),
                Err(_) => {}
            }
        }
        (count, first)
    }

    /// Client: rejects a delivery, or all up to it. The broker requeues them, or else dead-letters or drops them.
    ///
    /// # Errors
    /// The errors of [`Connection::ack`].
    pub fn nack(&mut self, number: u16, delivery_tag: u64, multiple: bool, requeue: bool) -> Result<(), Error> {
        self.open_channel_mut(number)?.settle(delivery_tag, multiple)?;
        self.send(number, &basic::Nack { delivery_tag, multiple, requeue })
    }

    /// Client: rejects one delivery with `basic.reject`, which every broker supports.
    ///
    /// # Errors
    /// The errors of [`Connection::ack`].
    pub fn reject(&mut self, number: u16, delivery_tag: u64, requeue: bool) -> Result<(), Error> {
        self.open_channel_mut(number)?.settle(delivery_tag, false)?;
        self.send(number, &basic::Reject { delivery_tag, requeue })
    }
}
