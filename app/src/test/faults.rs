//! Faults of the app's links and of the broker, chosen by the seed of the test.

use hopmq_broker::{Broker, Confirms, Direction};

use super::TestApp;

impl TestApp {
    /// Injects a fault that the seed chooses, and returns its name: the link of an app is cut, now or within its next
    /// frames; the broker withholds or refuses confirms until [`heal`](Self::heal); it cancels an app's consumers; it
    /// closes an app's channel. The connection of the test itself stays whole.
    ///
    /// # Panics
    /// On a real broker, which has no faults to order.
    #[track_caller]
    pub fn fault(&self) -> &'static str {
        let Some(broker) = self.broker() else {
            panic!("a real broker has no faults to order: make this test `embedded`")
        };
        let mut random = self.random.borrow_mut();
        let links: Vec<_> = broker.inspect().connections().into_iter().filter(is_app).map(|link| link.id).collect();
        let Some(link) = random.choose(&links) else { return "no link to disturb" };
        let disturb = broker.faults().connection(link);
        let direction = if random.below(2) == 0 { Direction::FromClient } else { Direction::ToClient };
        match random.below(8) {
            0 => {
                disturb.cut();
                "a link is cut"
            }
            1 | 2 => {
                disturb.cut_after(direction, random.below(30));
                "a link is cut after some frames"
            }
            3 => {
                disturb.cut_within(direction, random.below(30));
                "a link is cut within a frame"
            }
            4 => {
                broker.faults().confirms(Confirms::Withheld);
                "confirms are withheld"
            }
            5 => {
                broker.faults().confirms(Confirms::Refused);
                "confirms are refused"
            }
            6 => cancel(broker, link, &mut random),
            _ => {
                let channels = broker.inspect().channels().into_iter().filter(|channel| channel.connection == link);
                let numbers: Vec<_> = channels.map(|channel| channel.number).collect();
                let Some(number) = random.choose(&numbers) else { return "no channel to close" };
                disturb.close_channel(number, 406, "PRECONDITION_FAILED - a fault of the test");
                "a channel is closed"
            }
        }
    }

    /// Ends the faults that last: confirms are true again.
    pub fn heal(&self) {
        if let Some(broker) = self.broker() {
            broker.faults().confirms(Confirms::True);
        }
    }
}

fn is_app(connection: &hopmq_broker::inspect::Connection) -> bool {
    connection.name.as_deref().is_some_and(|name| name.starts_with("app "))
}

fn cancel(broker: &Broker, link: u64, random: &mut Random) -> &'static str {
    let consumers = broker.inspect().consumers().into_iter().filter(|consumer| consumer.connection == link);
    let tags: Vec<_> = consumers.map(|consumer| consumer.tag).collect();
    match random.choose(&tags) {
        Some(tag) => {
            broker.faults().cancel_consumer(&tag);
            "a consumer is cancelled"
        }
        None => "no consumer to cancel",
    }
}

/// Random numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed ^ 0x05ee_d0fa)
    }

    /// Draws a number below `limit`; 0 if `limit` is 0.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    fn choose<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(from.len() as u64) as usize;
        from.get(index).cloned()
    }
}
