use std::fmt;

/// How an app is: returned by [`Control::health`](crate::Control::health). `Display` writes a line for each queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether there is a link to the broker, as far as this side knows; false before the app runs and after its end.
    pub connected: bool,
    /// The queues, in the order of their routes.
    pub queues: Vec<QueueHealth>,
}

/// How the consumer of a queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueHealth {
    /// The name of the queue.
    pub queue: String,
    /// What its consumer does.
    pub state: QueueState,
}

/// What the consumer of a queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueState {
    /// It takes messages.
    Consuming,
    /// The program has paused it.
    Paused,
    /// It is not started yet, or the broker ended it and it could not be started again so far.
    Absent,
    /// The app was stopped, and takes no more messages.
    Stopped,
}

impl Health {
    /// Returns whether the app is connected, and consumes from all its queues, or the program itself has paused them.
    pub fn is_healthy(&self) -> bool {
        let serves = |queue: &QueueHealth| matches!(queue.state, QueueState::Consuming | QueueState::Paused);
        self.connected && self.queues.iter().all(serves)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.connected { "connected\n" } else { "not connected\n" })?;
        for QueueHealth { queue, state } in &self.queues {
            let state = match state {
                QueueState::Consuming => "consuming",
                QueueState::Paused => "paused",
                QueueState::Absent => "no consumer",
                QueueState::Stopped => "stopped",
            };
            writeln!(f, "{queue}: {state}")?;
        }
        Ok(())
    }
}
