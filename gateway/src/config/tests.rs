use super::environment::{KEYS, variable, variables};
use super::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    read_with(text, &[])
}

fn read_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::read(text, "gateway.toml", environment)
}

#[track_caller]
fn assert_text(error: &ConfigError, expected: &[&str]) {
    let text = error.to_string();
    for part in expected {
        assert!(text.contains(part), "`{text}` does not contain `{part}`");
    }
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = read("").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:15670");
    assert_eq!(config.origin.allow, ["same-origin"]);
}

#[test]
fn every_key_is_in_the_readme_with_its_default() {
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
            assert!(line.contains(&format!("`{shown}`")) || shown == "[]", "the default of {path} is {shown}: {line}");
        }
    }
}

#[test]
fn every_key_of_the_settings_is_in_the_list_of_keys() {
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    for (section, table) in defaults.iter().filter_map(|(name, value)| Some((name, value.as_table()?))) {
        for key in table.keys().filter(|_| section != "auth") {
            assert!(KEYS.iter().any(|(s, k, _)| s == section && k == key), "{section}.{key} is not in the list");
        }
    }
}

#[test]
fn environment_variables_override_the_file() {
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
    assert_eq!(config.listen.port(), 2);
    assert_eq!(config.limits.connections, 5);
    assert_eq!(config.limits.login_timeout, Time::seconds(3));
    assert_eq!(config.origin.allow, ["https://a.example", "null"]);
    assert!(config.origin.require && config.auth.jwt.is_some_and(|jwt| jwt.audience == "chat"));
}

#[test]
fn every_key_has_its_own_variable() {
    let mut names: Vec<String> = variables().collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(names.contains(&variable("limits", "login_timeout")));
}

#[test]
fn an_error_in_the_file_names_the_file_the_line_the_setting_and_the_reason() {
    for (text, expected_line, expected_setting, expected_text) in [
        ("colour = 1", Some(1), None, &["unknown field `colour`", "expected one of", "listen"][..]),
        ("[limits]\nlogin_timout = \"1s\"", Some(2), Some("limits"), &["login_timout", "login_timeout"]),
        ("listen = \"here\"", Some(1), Some("listen"), &["socket address"]),
        (
            "[limits]\nlogin_timeout = \"10\"",
            Some(2),
            Some("limits.login_timeout"),
            &["`10` is not a duration", "ms, s, m or h"],
        ),
        ("[limits]\nframe_max = \"1KB\"", Some(2), Some("limits.frame_max"), &["`1KB` is not a size", "KiB"]),
        ("[limits]\nchannels = 70000", Some(2), Some("limits.channels"), &["70000"]),
        ("[proxy]\ntrusted = [\"all\"]", Some(2), Some("proxy.trusted"), &["invalid IP address"]),
        ("[proxy]\nheader = \"via\"", Some(2), Some("proxy.header"), &["via", "x-forwarded-for", "forwarded"]),
        ("[log]\nformat = \"xml\"", Some(2), Some("log.format"), &["xml", "text", "json"]),
        ("[[auth.policy]]\npublish = [{ exchange = \"a\" }]", Some(2), Some("auth.policy.publish"), &["routing_key"]),
        ("listen = 1\nlisten = 2", Some(2), None, &["duplicate key"]),
    ] {
        let error = read(text).unwrap_err();
        assert_text(&error, expected_text);
        assert_text(&error, &["gateway.toml, line ", expected_setting.unwrap_or_default()]);
        let ConfigError::Parse { file, line, setting, .. } = &error else { panic!("{error:?}") };
        assert_eq!((file.as_str(), *line), ("gateway.toml", expected_line), "{error}");
        assert_eq!(setting.as_deref(), expected_setting, "{error}");
    }
}

#[test]
fn a_value_out_of_range_is_named_with_the_range() {
    for (text, expected) in [
        ("[limits]\nframe_max = 100", "limits.frame_max: 100B is out of range; it must be at least 4KiB"),
        ("[limits]\nchannels = 0", "limits.channels: 0 is out of range; it must be at least 1"),
        (
            "[limits]\nframe_max = \"1GiB\"\n[websocket]\nmessage_max = \"2GiB\"",
            "limits.frame_max: 1024MiB is out of range; it must be at most 16MiB",
        ),
        (
            "[websocket]\nping_timeout = \"1s\"",
            "websocket.ping_timeout: 1s is out of range; it must be longer than websocket.ping_interval, which is 30s",
        ),
        (
            "[limits]\nbytes_per_second = \"100B\"",
            "limits.bytes_per_second: 100B is out of range; it must be 0 for no limit, or at least 2185B: a frame may \
             have 128KiB (limits.frame_max), and must not pause its client for longer than 60 s",
        ),
        (
            "[[auth.policy]]\nbytes_per_second = \"2KiB\"",
            "auth.policy[0].bytes_per_second: 2KiB is out of range; it must be 0 for no limit, or at least 2185B",
        ),
        ("[limits]\npending_logins = 0", "limits.pending_logins: 0 is out of range; it must be at least 1"),
        ("[limits]\nlogin_timeout = \"0s\"", "limits.login_timeout: 0s is out of range; it must be longer than 0s"),
    ] {
        let error = read(text).unwrap_err();
        assert!(matches!(error, ConfigError::OutOfRange { .. }), "{error:?}");
        assert_text(&error, &[expected]);
    }
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_what_is_allowed() {
    for (text, expected) in [
        (
            "[origin]\nallow = [\"example.com/x\"]",
            &["origin.allow: ", "`example.com/x` is not an origin", "same-origin"][..],
        ),
        ("[log]\nlevel = \"loud\"", &["log.level: ", "`loud` is not a level", "debug"]),
        ("[upstream]\nhosts = []", &["upstream.hosts is not set", "name at least one"]),
    ] {
        assert_text(&read(text).unwrap_err(), expected);
    }
}

#[test]
fn an_error_in_the_environment_names_the_variable() {
    for (name, value, expected) in [
        ("HOPMQ_GATEWAY_LIMITS_CHANNELS", "many", "`many` is not a whole number"),
        ("HOPMQ_GATEWAY_ORIGIN_REQUIRE", "yes", "`yes` is neither true nor false"),
        ("HOPMQ_GATEWAY_LIMITS_LOGIN_TIMEOUT", "soon", "`soon` is not a duration"),
    ] {
        let error = read_with("", &[(name, value)]).unwrap_err();
        assert!(matches!(&error, ConfigError::Variable { name: found, .. } if found == name), "{error:?}");
        assert_text(&error, &[name, expected]);
    }
    let error = read_with("", &[("HOPMQ_GATEWAY_LIMIT_CHANNELS", "1")]).unwrap_err();
    assert!(matches!(error, ConfigError::UnknownVariable { .. }), "{error:?}");
    assert_text(&error, &["HOPMQ_GATEWAY_LIMIT_CHANNELS is not a setting", "HOPMQ_GATEWAY_LIMITS_CHANNELS"]);
}

#[test]
fn an_unreadable_settings_file_is_named_with_the_reason() {
    let error = Config::load(Some(Path::new("/nowhere/gateway.toml")), []).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }), "{error:?}");
    assert_text(&error, &["config: cannot read /nowhere/gateway.toml: "]);
}

#[test]
fn files_and_secrets_that_cannot_be_used_are_named_without_their_content() {
    let jwt = "[auth.jwt]\nissuer = \"i\"\naudience = \"a\"\nsecret = \"0123456789abcdef0123456789abcdef\"\n";
    let policy = "[[auth.policy]]\nusername = \"web\"\npassword = \"hunter2\"\n";
    let build = |text: &str| crate::Gateway::new(read(text)?).map(drop);
    build(&format!("{jwt}{policy}")).unwrap();
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (text, expected) in [
        (policy.to_owned(), &["auth.policy: ", "[auth.jwt]"][..]),
        (jwt.to_owned(), &["auth.policy is not set", "nothing is allowed"]),
        (
            format!("{}{policy}", jwt.replace("secret", "jwks_file")),
            &["auth.jwt.jwks_file: cannot read 0123456789abcdef0123456789abcdef: "],
        ),
        (
            format!("{}jwks_file = {manifest:?}\n{policy}", jwt.replace("secret", "# ")),
            &["auth.jwt.jwks_file: cannot use ", "Cargo.toml: not a JWKS: "],
        ),
        (
            format!("{}{policy}", jwt.replace("0123456789abcdef\"", "\"")),
            &["auth.jwt.secret: a secret of 16 bytes is out of range", "at least 32 bytes"],
        ),
        (format!("{}{policy}", jwt.replace("issuer = \"i\"", "")), &["auth.jwt.issuer is not set"]),
        (format!("{jwt}algorithms = [\"none\"]\n{policy}"), &["auth.jwt.algorithms: `none` is not", "HS256"]),
        (format!("{jwt}algorithms = [\"RS256\"]\n{policy}"), &["auth.jwt.algorithms: `RS256` is not", "HS256"]),
        (format!("{jwt}{policy}consume = [\"a{{\"]"), &["auth.policy[0].consume: `a{`", "brace"]),
        (format!("{jwt}{}", policy.replace("username = \"web\"", "")), &["auth.policy[0].username is not set"]),
        (format!("{jwt}{}", policy.replace("password", "# ")), &["auth.policy[0].password is not set"]),
        (format!("{jwt}{policy}password_file = \"/x\""), &["auth.policy[0].password: set either"]),
        ("[upstream]\nhosts = [\"amqp://guest:hunter2@x\"]".to_owned(), &["upstream.hosts[0]: ", "[[auth.policy]]"]),
        ("[upstream]\nhosts = [\"amqp://guest:hunter2 @x\"]".to_owned(), &["upstream.hosts[0]: this is not a URI"]),
        ("[upstream]\nhosts = [\"http://x\"]".to_owned(), &["upstream.hosts[0]: ", "amqp://HOST:PORT"]),
        (
            "[upstream]\nhosts = [\"amqps://x\"]\nca_file = \"/nowhere\"".to_owned(),
            &["upstream.ca_file: cannot read /nowhere: "],
        ),
        (
            format!("[upstream]\nhosts = [\"amqps://x\"]\nca_file = {manifest:?}"),
            &["upstream.ca_file: cannot use ", "no PEM certificate"],
        ),
        ("[auth.ticket]\nsecret = \"hunter2".to_owned(), &["gateway.toml, line 2: "]),
        ("[auth.ticket]\nsecret = hunter2".to_owned(), &["gateway.toml, line 2: "]),
        ("[auth.ticket]\nsecret = 4242".to_owned(), &["auth.ticket.secret: a secret must be text in quotes"]),
    ] {
        let error = build(&text).unwrap_err();
        assert_text(&error, expected);
        for secret in ["hunter2", "4242"] {
            assert!(!error.to_string().contains(secret) && !format!("{error:?}").contains(secret), "{error:?}");
        }
    }
}

#[test]
fn secrets_are_not_shown() {
    let config = read("[auth.ticket]\nsecret = \"hunter2\"").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!toml::to_string(&config).unwrap().contains("hunter2"));
}
