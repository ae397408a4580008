//! Limits of virtual hosts and users.

use super::Stage;
use crate::broker;
use crate::embedded::{Embedded, embedded};

impl Stage {
    /// Creates a virtual host of one connection and one queue, in which `guest` may do everything. Returns its name.
    /// [`Stage::delete_vhost`] deletes it.
    #[track_caller]
    pub fn vhost_of_one(&self, stem: &str) -> String {
        let name = self.name(stem);
        if let Some(Embedded { broker: embedded, .. }) = embedded() {
            embedded.add_vhost(&name);
            let limits = r#"{"max-connections": 1, "max-queues": 1}"#;
            let parameter =
                format!(r#"{{"component": "vhost-limits", "name": "limits", "vhost": "{name}", "value": {limits}}}"#);
            let imported = embedded.import_definitions(&format!(r#"{{"parameters": [{parameter}]}}"#));
            imported.expect("limits are supported");
            return name;
        }
        let put = |path: &str, body: &str| broker().http_with("PUT", path, body).expect("RabbitMQ accepts it");
        put(&format!("/api/vhosts/{name}"), "{}");
        put(&format!("/api/permissions/{name}/guest"), r#"{"configure":".*","write":".*","read":".*"}"#);
        put(&format!("/api/vhost-limits/{name}/max-connections"), r#"{"value":1}"#);
        put(&format!("/api/vhost-limits/{name}/max-queues"), r#"{"value":1}"#);
        name
    }

    /// Deletes a virtual host. The embedded broker, which ends with the test, keeps it.
    #[track_caller]
    pub fn delete_vhost(&self, name: &str) {
        if embedded().is_none() {
            broker().http_with("DELETE", &format!("/api/vhosts/{name}"), "").expect("the virtual host exists");
        }
    }

    /// Limits a user to one connection and two channels.
    #[track_caller]
    pub fn limit_user(&self, user: &str) {
        if let Some(Embedded { broker: embedded, .. }) = embedded() {
            let limits = r#"{"max-connections": 1, "max-channels": 2}"#;
            let user = format!(r#"{{"name": "{user}", "password": "{user}", "limits": {limits}}}"#);
            // Users without guest would remove it.
            let guest = r#"{"name": "guest", "password": "guest"}"#;
            let imported = embedded.import_definitions(&format!(r#"{{"users": [{user}, {guest}]}}"#));
            return imported.expect("limits are supported");
        }
        let put = |name: &str, value: u32| {
            let body = format!(r#"{{"value":{value}}}"#);
            broker().http_with("PUT", &format!("/api/user-limits/{user}/{name}"), &body).expect("RabbitMQ accepts it");
        };
        put("max-connections", 1);
        put("max-channels", 2);
    }
}
