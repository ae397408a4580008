//! The log records of deprecated features (RabbitMQ's page "Deprecated Features").
//!
//! The use of a feature is told once for a connection or a queue.

use crate::engine::keys::SessionKey;
use crate::engine::queue::QueueSpec;
use crate::engine::{At, Engine};
use hopmq_proto::printable;

impl Engine {
    /// Logs that a connection sets a prefetch for a whole channel.
    pub(super) fn warn_of_global_qos(&mut self, id: SessionKey) {
        let profile = self.config.profile;
        let Some(session) = self.sessions.get_mut(id) else { return };
        if !profile.warns_of_deprecated() || std::mem::replace(&mut session.warned_of_global_qos, true) {
            return;
        }
        let connection = id.number();
        let peer = &*session.peer;
        let user = printable(session.user.as_ref().map_or("", |user| &user.name));
        let user = &*user;
        let feature = "global_qos";
        let meaning = match profile.shares_no_prefetch() {
            true => "the prefetch is one for each consumer of the channel",
            false => "RabbitMQ 4.3 makes the prefetch one for each consumer of the channel",
        };
        tracing::warn!(connection, peer, user, feature, meaning, "deprecated feature");
    }

    /// Logs the deprecated features of a new queue.
    pub(in crate::engine) fn warn_of_deprecated_queue(&self, at: At, queue: &str, spec: &QueueSpec) {
        if !self.config.profile.warns_of_deprecated() {
            return;
        }
        let (connection, queue) = (at.session.number(), &*printable(queue));
        if !spec.durable && spec.exclusive.is_none() {
            let feature = "transient_nonexcl_queues";
            let meaning = "RabbitMQ 4.3 refuses a queue that is neither durable nor exclusive";
            tracing::warn!(connection, queue, feature, meaning, "deprecated feature");
        }
        if spec.arguments.contains_key("x-queue-master-locator") {
            let feature = "queue_master_locator";
            let meaning = "RabbitMQ 4.3 refuses x-queue-master-locator";
            tracing::warn!(connection, queue, feature, meaning, "deprecated feature");
        }
    }
}
