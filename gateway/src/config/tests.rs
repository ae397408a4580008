use super::environment::{KEYS, Kind, variable};
use super::*;

fn read(text: &str) -> Result<Config, String> {
    read_with(text, &[])
}

fn read_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::read(text, "gateway.toml", environment).map_err(|error| error.to_string())
}

#[test]
fn nothing_needs_to_be_set() {
    let config = read("").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:15670");
    assert_eq!(config.origin.allow, ["same-origin"]);
}

#[test]
fn every_key_is_known_and_in_the_readme_with_its_default() {
    let readme = include_str!("../../README.md");
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    for (section, key, _) in KEYS {
        let path = if section.is_empty() { (*key).to_owned() } else { format!("{section}.{key}") };
        let line = readme.lines().find(|line| line.starts_with(&format!("| `{path}` |")));
        let line = line.unwrap_or_else(|| panic!("`{path}` is not in README.md"));
        let table =
            if section.is_empty() { Some(&defaults) } else { defaults.get(*section).and_then(|t| t.as_table()) };
        if let Some(default) = table.and_then(|table| table.get(*key)) {
            let default = default.to_string();
            let shown = default.trim_matches('"');
            let shown = if shown == "0B" { "0" } else { shown };
            assert!(line.contains(&format!("`{shown}`")) || shown == "[]", "{path} is {shown} and not as in: {line}");
        }
    }
    // And none is forgotten in the list.
    for (section, table) in defaults.iter().filter_map(|(name, value)| Some((name, value.as_table()?))) {
        for key in table.keys().filter(|_| section != "auth") {
            assert!(KEYS.iter().any(|(s, k, _)| s == section && k == key), "{section}.{key} is not in the list");
        }
    }
}

#[test]
fn the_environment_has_the_last_word() {
    let config = read_with(
        "listen = \"127.0.0.1:1\"\n[limits]\nconnections = 5",
        &[
            ("HOPMQ_GATEWAY_LISTEN", "127.0.0.1:2"),
            ("HOPMQ_GATEWAY_LIMITS_LOGIN_TIMEOUT", "3s"),
            ("HOPMQ_GATEWAY_ORIGIN_ALLOW", "https://a.example, null"),
            ("HOPMQ_GATEWAY_ORIGIN_REQUIRE", "true"),
            ("HOPMQ_GATEWAY_AUTH_JWT_AUDIENCE", "chat"),
            ("HOPMQ_GATEWAY_CONFIG", "the file"),
            ("SOMETHING_ELSE", "x"),
        ],
    )
    .unwrap();
    assert_eq!((config.listen.port(), config.limits.connections), (2, 5));
    assert_eq!(config.limits.login_timeout, Time::seconds(3));
    assert_eq!(config.origin.allow, ["https://a.example", "null"]);
    assert!(config.origin.require && config.auth.jwt.is_some_and(|jwt| jwt.audience == "chat"));
}

#[test]
fn every_key_has_a_variable_of_its_own() {
    let mut names: Vec<String> = KEYS
        .iter()
        .filter(|(.., kind)| *kind != Kind::FileOnly)
        .map(|(section, key, _)| variable(section, key))
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn what_is_wrong_is_named_and_so_is_what_is_allowed() {
    for (text, words) in [
        ("colour = 1", &["colour", "expected one of", "listen"][..]),
        ("[limits]\nlogin_timout = \"1s\"", &["login_timout", "login_timeout", "line 2"]),
        ("listen = \"here\"", &["line 1", "listen", "socket address"]),
        ("[limits]\nlogin_timeout = \"10\"", &["`10` is no time", "ms, s, m or h", "login_timeout"]),
        ("[limits]\nframe_max = \"1KB\"", &["`1KB` is no size", "KiB", "frame_max"]),
        ("[limits]\nframe_max = 100", &["limits.frame_max", "at least 4096"]),
        ("[limits]\nframe_max = \"1GiB\"\n[websocket]\nmessage_max = \"2GiB\"", &["at most 16MiB"]),
        ("[limits]\nchannels = 70000", &["70000", "channels"]),
        ("[websocket]\nping_timeout = \"1s\"", &["websocket.ping_timeout", "websocket.ping_interval"]),
        ("[origin]\nallow = [\"example.com/x\"]", &["origin.allow", "example.com/x", "same-origin"]),
        ("[proxy]\ntrusted = [\"everybody\"]", &["trusted", "line 2"]),
        ("[proxy]\nheader = \"via\"", &["via", "x-forwarded-for", "forwarded"]),
        ("[log]\nlevel = \"loud\"", &["log.level", "loud", "debug"]),
        ("[log]\nformat = \"xml\"", &["xml", "text", "json"]),
        ("[upstream]\nhosts = []", &["upstream.hosts", "name one"]),
    ] {
        let error = read(text).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{error}\ndoes not say {word}");
        }
    }
    for (name, value, words) in [
        ("HOPMQ_GATEWAY_LIMIT_CHANNELS", "1", &["HOPMQ_GATEWAY_LIMIT_CHANNELS", "HOPMQ_GATEWAY_LIMITS_CHANNELS"][..]),
        ("HOPMQ_GATEWAY_LIMITS_CHANNELS", "many", &["HOPMQ_GATEWAY_LIMITS_CHANNELS", "whole number"]),
        ("HOPMQ_GATEWAY_ORIGIN_REQUIRE", "yes", &["HOPMQ_GATEWAY_ORIGIN_REQUIRE", "true nor false"]),
        ("HOPMQ_GATEWAY_LIMITS_LOGIN_TIMEOUT", "soon", &["login_timeout", "`soon` is no time"]),
    ] {
        let error = read_with("", &[(name, value)]).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{error}\ndoes not say {word}");
        }
    }
}

#[test]
fn settings_that_name_things_are_held_to_them() {
    let jwt = "[auth.jwt]\nissuer = \"i\"\naudience = \"a\"\nsecret = \"0123456789abcdef0123456789abcdef\"\n";
    let policy = "[[auth.policy]]\nusername = \"web\"\npassword = \"hunter2\"\n";
    let build = |text: &str| {
        let config = read(text)?;
        crate::Gateway::new(config).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(build(&format!("{jwt}{policy}")), Ok(()));
    for (text, words) in [
        (policy.to_owned(), &["auth.policy", "[auth.jwt]"][..]),
        (jwt.to_owned(), &["auth.policy", "nobody may do anything"]),
        (format!("{}{policy}", jwt.replace("secret", "jwks_file")), &["auth.jwt.jwks_file", "0123456789abcdef"]),
        (format!("{}{policy}", jwt.replace("0123456789abcdef\"", "\"")), &["auth.jwt.secret", "at least 32 bytes"]),
        (format!("{}{policy}", jwt.replace("issuer = \"i\"", "")), &["auth.jwt.issuer"]),
        (format!("{jwt}algorithms = [\"none\"]\n{policy}"), &["auth.jwt.algorithms", "`none`", "HS256"]),
        (format!("{jwt}algorithms = [\"RS256\"]\n{policy}"), &["auth.jwt.algorithms", "`RS256`", "HS256"]),
        (format!("{jwt}{policy}consume = [\"a{{\"]"), &["auth.policy[0].consume", "brace"]),
        (format!("{jwt}{policy}publish = [{{ exchange = \"a\" }}]"), &["publish"]),
        (format!("{jwt}{}", policy.replace("username = \"web\"", "")), &["auth.policy[0].username"]),
        (format!("{jwt}{}", policy.replace("password", "# ")), &["auth.policy[0].password"]),
        ("[upstream]\nhosts = [\"amqp://guest:hunter2@x\"]".to_owned(), &["upstream.hosts", "[[auth.policy]]"]),
        ("[upstream]\nhosts = [\"http://x\"]".to_owned(), &["upstream.hosts", "amqp://HOST:PORT"]),
        ("[upstream]\nhosts = [\"amqps://x\"]\nca_file = \"/nowhere\"".to_owned(), &["upstream.ca_file", "/nowhere"]),
    ] {
        let error = build(&text).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{error}\ndoes not say {word}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let config = read("[auth.ticket]\nsecret = \"hunter2\"").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!toml::to_string(&config).unwrap().contains("hunter2"));
}
