//! The members of a group, and which partitions each should work on.
//!
//! All members consume from all partitions, and the broker chooses one of them for each: the consumer that is there
//! longest. The members tell each other that they live, through a fanout exchange, and agree on an owner of each
//! partition. A member that is not the owner starts its consumer anew, so that the owner's becomes the oldest. A member
//! that ends without a word costs no time: the broker has its partitions taken over at once, and only their fair
//! division waits for its silence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::{FutureExt, StreamExt};
use hopmq::{Channel, Consumer, Time};

use crate::context::Context;
use crate::control::Control;
use crate::worker::Gate;

/// How often a member says that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// After which silence a member counts as gone.
const SILENCE: Duration = Duration::from_secs(16);
/// How often a member that has a partition of another starts its consumer anew, before it waits for the members to
/// change: the owner may have paused the queue.
const CORRECTIONS: u8 = 3;
/// How often a starting member looks whether its consumers are there.
const START: Duration = Duration::from_millis(20);

/// The members of one group, as one of them sees it.
pub(crate) struct Members {
    group: String,
    /// The consumers of the partitions.
    parts: Vec<Arc<Gate>>,
    /// When each was heard last.
    heard: BTreeMap<String, Time>,
    me: String,
    owners: Vec<String>,
    corrections: u8,
}

enum Event {
    Said(String),
    Beat,
    Stopped,
    Lost(hopmq::Error),
}

impl Members {
    pub(crate) fn new(group: &str, parts: Vec<Arc<Gate>>) -> Self {
        Self {
            group: group.to_owned(),
            parts,
            heard: BTreeMap::new(),
            me: String::new(),
            owners: Vec::new(),
            corrections: 0,
        }
    }

    /// Takes part until the app is stopped.
    pub(crate) async fn run(mut self, context: Context, control: Control) {
        while let Err(error) = self.take_part(&context, &control).await {
            tracing::warn!(group = self.group, %error, "the members of the group can't be heard; trying again");
            let wait = async { context.sleep(BEAT).await };
            let stopped = async { control.stopped().await };
            wait.or(stopped).await;
            if control.is_stopped() {
                return;
            }
        }
    }

    async fn take_part(&mut self, context: &Context, control: &Control) -> hopmq::Result<()> {
        let exchange = format!("{}.members", self.group);
        let channel = context.connection().channel().await?;
        channel.exchange(&exchange).kind("fanout").durable().declare().await?;
        let queue = channel.queue("").exclusive().declare().await?;
        let nothing = hopmq::FieldTable::new();
        channel.queue_bind(queue.name(), &exchange, "", &nothing).await?;
        let mut consumer = channel.consume(queue.name()).no_ack().await?;
        if self.me.is_empty() {
            queue.name().clone_into(&mut self.me);
        }
        // The others give up partitions when they learn of this member: its consumers must be there then.
        while !self.parts.iter().all(|part| part.is_consuming()) && !control.is_stopped() {
            context.sleep(START).await;
        }
        self.say(&channel, &exchange, "join").await?;
        let mut beat = context.alarms().now() + BEAT;
        loop {
            match next(context, control, &mut consumer, beat).await {
                Event::Said(text) => {
                    if self.hear(&text, context.alarms().now()) {
                        self.say(&channel, &exchange, "here").await?;
                    }
                }
                Event::Beat => {
                    self.say(&channel, &exchange, "here").await?;
                    let now = context.alarms().now();
                    beat = now + BEAT;
                    let me = &self.me;
                    self.heard.retain(|member, heard| member == me || now - *heard < SILENCE);
                    self.divide();
                    self.correct();
                }
                Event::Stopped => return self.say(&channel, &exchange, "leave").await,
                Event::Lost(error) => return Err(error),
            }
        }
    }

    async fn say(&self, channel: &Channel, exchange: &str, word: &str) -> hopmq::Result<()> {
        channel.publish(exchange, "", format!("{word} {}", self.me)).send().await
    }

    /// Notes what a member said. Returns whether it must be answered.
    fn hear(&mut self, text: &str, now: Time) -> bool {
        let Some((word, member)) = text.split_once(' ') else { return false };
        match word {
            "leave" => self.heard.remove(member),
            _ => self.heard.insert(member.to_owned(), now),
        };
        self.divide();
        word == "join" && member != self.me
    }

    /// Divides the partitions among the members, and starts the consumers of those anew that have another owner now.
    fn divide(&mut self) {
        let mut members: Vec<_> = self.heard.keys().collect();
        if !self.heard.contains_key(&self.me) {
            members.push(&self.me);
            members.sort_unstable();
        }
        let owners: Vec<_> = (0..self.parts.len()).map(|part| members[part % members.len()].clone()).collect();
        for (part, owner) in owners.iter().enumerate() {
            let before = self.owners.get(part).unwrap_or(&self.me);
            if *owner != self.me && owner != before {
                self.parts[part].renew();
            }
        }
        if owners != self.owners {
            self.corrections = 0;
            tracing::info!(group = self.group, members = members.len(), "the partitions are divided anew");
        }
        self.owners = owners;
    }

    /// Gives up partitions that came to this member although they have another owner: their consumers were started
    /// while the members changed.
    fn correct(&mut self) {
        let strays = self.owners.iter().zip(&self.parts).filter(|(owner, part)| **owner != self.me && part.has_taken());
        if self.corrections < CORRECTIONS && strays.map(|(_, part)| part.renew()).count() > 0 {
            self.corrections += 1;
        }
    }
}

async fn next(context: &Context, control: &Control, consumer: &mut Consumer, beat: Time) -> Event {
    let said = async {
        match consumer.next().await {
            Some(Ok(delivery)) => Event::Said(delivery.text().into_owned()),
            Some(Err(error)) => Event::Lost(error),
            None => Event::Lost(hopmq::Error::new(hopmq::ErrorKind::ConsumerCancelled, "the consumer ended")),
        }
    };
    let beat = async {
        context.alarms().until(beat).await;
        Event::Beat
    };
    let stopped = async {
        control.stopped().await;
        Event::Stopped
    };
    stopped.or(said).or(beat).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(me: &str, parts: usize) -> Members {
        let mut members = Members::new("shop.billing", (0..parts).map(|_| Arc::default()).collect());
        members.me = me.to_owned();
        members
    }

    fn renewed(members: &Members) -> Vec<bool> {
        members.parts.iter().map(|part| part.take_renewal()).collect()
    }

    #[test]
    fn members_agree_on_owners_whose_shares_differ_by_one() {
        let (mut a, mut b, mut c) = (members("a", 7), members("b", 7), members("c", 7));
        for word in ["join a", "join b", "join c"] {
            for member in [&mut a, &mut b, &mut c] {
                member.hear(word, Time::ZERO);
            }
        }
        assert_eq!(a.owners, ["a", "b", "c", "a", "b", "c", "a"]);
        assert!(a.owners == b.owners && b.owners == c.owners);
        assert_eq!(renewed(&a), [false, true, true, true, true, true, false]);
        for member in [&mut a, &mut b] {
            member.hear("leave c", Time::ZERO);
        }
        assert_eq!(a.owners, ["a", "b", "a", "b", "a", "b", "a"]);
        assert_eq!(renewed(&a), [false, false, false, true, false, true, false], "what stays is left alone");
    }

    #[test]
    fn only_a_new_member_is_answered() {
        let mut a = members("a", 2);
        assert!(!a.hear("join a", Time::ZERO));
        assert!(a.hear("join b", Time::ZERO));
        assert!(!a.hear("here b", Time::ZERO) && !a.hear("nonsense", Time::ZERO));
    }

    #[test]
    fn a_stray_partition_is_given_up_a_few_times() {
        let mut a = members("a", 2);
        a.hear("join b", Time::ZERO);
        renewed(&a);
        a.parts[1].note_taken();
        for _ in 0..CORRECTIONS {
            a.correct();
            assert_eq!(renewed(&a), [false, true]);
        }
        a.correct();
        assert_eq!(renewed(&a), [false, false]);
    }
}
