//! How long to wait between attempts, and how many there are.

use std::time::Duration;

/// The delays between the attempts at one message, and the number of attempts.
///
/// ```
/// use std::time::Duration;
/// use hopmq_app::Backoff;
///
/// let backoff = Backoff::exponential(Duration::from_secs(1), 5).max(Duration::from_secs(60)).attempts(5);
/// let delays: Vec<_> = (1..6).map(|attempt| backoff.delay(attempt)).collect();
/// let seconds = |s| Some(Duration::from_secs(s));
/// assert_eq!(delays, [seconds(1), seconds(5), seconds(25), seconds(60), None]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    delays: Delays,
    attempts: u32,
    /// The share of each delay that may be taken off, in percent.
    jitter: u8,
}

#[derive(Clone, Debug, PartialEq)]
enum Delays {
    Exponential { first: Duration, factor: u32, max: Duration },
    List(Vec<Duration>),
}

/// The longest time in which a message may wait in its slot: half of RabbitMQ's default timeout for an acknowledgement.
pub(crate) const LONGEST_IN_SLOT: Duration = Duration::from_secs(15 * 60);

impl Backoff {
    /// Makes no second attempt.
    pub fn never() -> Self {
        Self { delays: Delays::List(Vec::new()), attempts: 1, jitter: 0 }
    }

    /// Waits for `first`, and then `factor` times as long before each further attempt, up to five minutes
    /// ([`max`](Self::max)), for four attempts ([`attempts`](Self::attempts)).
    pub fn exponential(first: Duration, factor: u32) -> Self {
        let delays = Delays::Exponential { first, factor, max: Duration::from_secs(300) };
        Self { delays, attempts: 4, jitter: 0 }
    }

    /// Waits for the same time before each further attempt, for four attempts.
    pub fn fixed(delay: Duration) -> Self {
        Self::exponential(delay, 1).max(delay)
    }

    /// Waits for these times in turn, and makes one attempt more than there are times.
    pub fn list(delays: impl IntoIterator<Item = Duration>) -> Self {
        let delays: Vec<_> = delays.into_iter().collect();
        let attempts = u32::try_from(delays.len()).unwrap_or(u32::MAX).saturating_add(1);
        Self { delays: Delays::List(delays), attempts, jitter: 0 }
    }

    /// Sets the longest delay of an exponential backoff.
    #[must_use]
    pub fn max(mut self, longest: Duration) -> Self {
        if let Delays::Exponential { max, .. } = &mut self.delays {
            *max = longest;
        }
        self
    }

    /// Sets how often the handler is called for one message, the first time included; at least 1. A list repeats its
    /// last delay.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Shortens each delay by a random share of up to `percent`, so that messages that failed together do not come back
    /// together.
    #[must_use]
    pub fn jitter(mut self, percent: u8) -> Self {
        self.jitter = percent.min(100);
        self
    }

    /// Returns how often the handler is called for one message.
    pub(crate) fn most(&self) -> u32 {
        self.attempts
    }

    /// Returns the delay after attempt number `attempt`, or `None` if that was the last.
    pub fn delay(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let index = attempt.saturating_sub(1);
        match &self.delays {
            Delays::Exponential { first, factor, max } => {
                let factor = factor.checked_pow(index).unwrap_or(u32::MAX);
                Some(first.checked_mul(factor).unwrap_or(*max).min(*max))
            }
            Delays::List(list) => list.get(index as usize).or(list.last()).copied(),
        }
    }

    /// Returns all delays, without repetitions, in ascending order.
    pub(crate) fn steps(&self) -> Vec<Duration> {
        let mut steps = Vec::new();
        let mut last = None;
        for attempt in 1..self.attempts.min(self.different()) {
            let delay = self.delay(attempt);
            if delay != last {
                steps.extend(delay);
            }
            last = delay;
        }
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// Returns the sum of all delays.
    pub(crate) fn total(&self) -> Duration {
        let different = self.different().min(self.attempts);
        let single = (1..different).filter_map(|attempt| self.delay(attempt));
        let sum = single.fold(Duration::ZERO, Duration::saturating_add);
        // All others are as long as the last of these.
        let last = self.delay(different.max(1)).unwrap_or_default();
        sum.saturating_add(last.saturating_mul(self.attempts - different))
    }

    /// Returns the attempt from which on all delays are the same: a backoff of any length has few different ones,
    /// because it ends to grow at its longest one, or with its list.
    fn different(&self) -> u32 {
        match &self.delays {
            Delays::Exponential { factor, .. } if *factor <= 1 => 2,
            Delays::Exponential { .. } => 64,
            Delays::List(list) => u32::try_from(list.len()).unwrap_or(u32::MAX).saturating_add(1),
        }
    }

    /// Returns `delay` less a share that `random` chooses.
    pub(crate) fn jittered(&self, delay: Duration, random: u32) -> Duration {
        let share = f64::from(random) / f64::from(u32::MAX) * f64::from(self.jitter) / 100.0;
        delay.mul_f64(1.0 - share)
    }
}
