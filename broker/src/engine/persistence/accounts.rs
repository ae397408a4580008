//! Users in the store: how they are encoded and decoded.
//!
//! Only the hash of a password is stored. It must never know what a permission is for.

use hopmq_proto::{FieldTable, Value};

use crate::engine::Engine;
use crate::engine::access::{Access, Account, Password, Pattern, UserLimits};
use crate::engine::persistence::tables;

impl Engine {
    /// Changes a user and its permissions, and stores the change. Cached permission checks are dropped.
    pub(crate) fn change_access<T>(&mut self, user: &str, change: impl FnOnce(&mut Access) -> T) -> T {
        self.topology += 1;
        let result = change(&mut self.access);
        if let Some(journal) = &mut self.journal {
            // A deleted user leaves an empty entry, so that a restart does not add `guest` again.
            let value = self.access.account(user).map_or(Vec::new(), |account| to_table(account).as_bytes().to_vec());
            journal.group.put(&tables::user_key(user), &value);
        }
        result
    }

    pub(in crate::engine) fn recover_user(&mut self, key: &[u8], value: &[u8]) {
        let names = tables::names(key).unwrap_or_default();
        let [name] = &names[..] else { return };
        match FieldTable::parse(value).ok().as_ref().and_then(of_table) {
            Some(account) if !value.is_empty() => self.access.put(name, account),
            _ => {
                self.access.remove(name);
            }
        }
    }
}

const CONNECTIONS: &str = "max-connections";
const CHANNELS: &str = "max-channels";

fn to_table(account: &Account) -> FieldTable {
    let mut permissions = FieldTable::new();
    for (vhost, [configure, write, read]) in &account.permissions {
        let list =
            FieldTable::new().with("configure", configure.text()).with("write", write.text()).with("read", read.text());
        permissions.insert(vhost, &list);
    }
    let mut topics = FieldTable::new();
    for ((vhost, exchange), patterns) in &account.topics {
        let topic = FieldTable::new().with("vhost", &**vhost).with("exchange", &**exchange);
        let topic = topic.with("write", patterns[0].text()).with("read", patterns[1].text());
        let number = topics.len().to_string();
        topics.insert(&number, &topic);
    }
    let table = FieldTable::new().with("local", account.local).with("impersonator", account.impersonator);
    let mut table = table.with("permissions", &permissions).with("topics", &topics);
    for (name, limit) in [(CONNECTIONS, account.limits.connections), (CHANNELS, account.limits.channels)] {
        if let Some(limit) = limit {
            table.insert(name, i64::from(limit));
        }
    }
    match &account.password {
        Password::WellKnown(_) => table,
        Password::Hash(hash) => table.with("hash", &**hash),
        Password::None => table.with("hash", ""),
    }
}

fn of_table(table: &FieldTable<&[u8]>) -> Option<Account> {
    let password = match text(table, "hash") {
        Some("") => Password::None,
        Some(hash) => Password::Hash(hash.into()),
        None => Password::GUEST,
    };
    let flag = |name| matches!(table.get(name), Some(Value::Bool(true)));
    let mut account = Account::new(password, flag("local"));
    account.impersonator = flag("impersonator");
    let limit = |name| table.get(name).and_then(|limit| u32::try_from(limit.as_i64()?).ok());
    account.limits = UserLimits { connections: limit(CONNECTIONS), channels: limit(CHANNELS) };
    for (vhost, patterns) in table_in(table, "permissions")?.iter() {
        let Value::Table(patterns) = patterns else { return None };
        let patterns = ["configure", "write", "read"].map(|name| pattern(&patterns, name));
        let [Some(configure), Some(write), Some(read)] = patterns else { return None };
        account.permissions.insert(vhost.into(), [configure, write, read]);
    }
    for (_, topic) in table_in(table, "topics")?.iter() {
        let Value::Table(topic) = topic else { return None };
        let key = (text(&topic, "vhost")?.into(), text(&topic, "exchange")?.into());
        account.topics.insert(key, [pattern(&topic, "write")?, pattern(&topic, "read")?]);
    }
    Some(account)
}

fn text<'a>(table: &FieldTable<&'a [u8]>, name: &str) -> Option<&'a str> {
    match table.get(name) {
        Some(Value::Str(bytes)) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn table_in<'a>(table: &FieldTable<&'a [u8]>, name: &str) -> Option<FieldTable<&'a [u8]>> {
    match table.get(name) {
        Some(Value::Table(table)) => Some(table),
        _ => None,
    }
}

fn pattern(table: &FieldTable<&[u8]>, name: &str) -> Option<Pattern> {
    Pattern::parse(text(table, name)?).ok()
}
