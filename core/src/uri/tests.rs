use super::*;

fn parse(text: &str) -> Uri {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Returns the location in a URI as one comparable line: `scheme user:password hosts vhost path`.
fn summary(uri: &Uri) -> String {
    let hosts: Vec<String> = uri.hosts.iter().map(ToString::to_string).collect();
    let part = |part: &Option<String>| part.as_ref().map_or("-".to_owned(), |text| format!("{text:?}"));
    let (scheme, user, password) = (uri.scheme.name(), part(&uri.username), part(&uri.password));
    format!("{scheme} {user}:{password} {} {:?} {:?}", hosts.join(","), uri.vhost, uri.path)
}

#[test]
fn a_uri_gives_login_hosts_vhost_and_path() {
    let table = [
        // The examples of the specification, appendix A.
        ("amqp://user:pass@host:10000/vhost", r#"amqp "user":"pass" host:10000 "vhost" """#),
        ("amqp://user%61:%61pass@ho%61st:10000/v%2fhost", r#"amqp "usera":"apass" hoast:10000 "v/host" """#),
        ("amqp://", r#"amqp -:- localhost:5672 "/" """#),
        ("amqp://:@/", r#"amqp "":"" localhost:5672 "" """#),
        ("amqp://user@", r#"amqp "user":- localhost:5672 "/" """#),
        ("amqp://user:pass@", r#"amqp "user":"pass" localhost:5672 "/" """#),
        ("amqp://host", r#"amqp -:- host:5672 "/" """#),
        ("amqp://:10000", r#"amqp -:- localhost:10000 "/" """#),
        ("amqp:///vhost", r#"amqp -:- localhost:5672 "vhost" """#),
        ("amqp://host/", r#"amqp -:- host:5672 "" """#),
        ("amqp://host/%2f", r#"amqp -:- host:5672 "/" """#),
        ("amqp://[::1]", r#"amqp -:- [::1]:5672 "/" """#),
        // The rest of the grammar.
        ("amqps://host", r#"amqps -:- host:5671 "/" """#),
        ("AMQPS://Host", r#"amqps -:- Host:5671 "/" """#),
        ("amqp://host:1", r#"amqp -:- host:1 "/" """#),
        ("amqp://127.0.0.1:65535/%2F", r#"amqp -:- 127.0.0.1:65535 "/" """#),
        ("amqp://host/a%2Fb%20c", r#"amqp -:- host:5672 "a/b c" """#),
        ("amqp://host/a+b", r#"amqp -:- host:5672 "a+b" """#),
        ("amqp://host/%C3%A4", r#"amqp -:- host:5672 "ä" """#),
        ("amqp://host/ä", r#"amqp -:- host:5672 "ä" """#),
        ("amqp://host?heartbeat=1", r#"amqp -:- host:5672 "/" """#),
        ("amqp://host/?heartbeat=1", r#"amqp -:- host:5672 "" """#),
        ("amqp://host/v?", r#"amqp -:- host:5672 "v" """#),
        ("amqp://u:p:q@host", r#"amqp "u":"p:q" host:5672 "/" """#),
        ("amqp://u:%40%2F%3A%23%3F%25@host", r#"amqp "u":"@/:#?%" host:5672 "/" """#),
        ("amqp://u:p%2Cq@a,b", r#"amqp "u":"p,q" a:5672,b:5672 "/" """#),
        ("amqp://u:@host", r#"amqp "u":"" host:5672 "/" """#),
        ("amqp://:p@host", r#"amqp "":"p" host:5672 "/" """#),
        ("amqp://u,v:p,q@host", r#"amqp "u,v":"p,q" host:5672 "/" """#),
        ("amqp://[2001:db8::7]:5673/v", r#"amqp -:- [2001:db8::7]:5673 "v" """#),
        ("amqp://[fe80::1%25eth0]", r#"amqp -:- [fe80::1%eth0]:5672 "/" """#),
        ("amqp://u:p@a:1,b,[::1]:5673/v", r#"amqp "u":"p" a:1,b:5672,[::1]:5673 "v" """#),
        ("amqps://a,b:1", r#"amqps -:- a:5671,b:1 "/" """#),
        // Over a WebSocket, the path is HTTP's.
        ("ws://host", r#"ws -:- host:80 "/" "/""#),
        ("wss://host/", r#"wss -:- host:443 "/" "/""#),
        ("wss://u:p@host/ws/amqp?vhost=a%2fb", r#"wss "u":"p" host:443 "a/b" "/ws/amqp""#),
        ("ws://host:15670/a%20b?vhost=", r#"ws -:- host:15670 "" "/a%20b""#),
        ("ws://host?vhost=v", r#"ws -:- host:80 "v" "/""#),
        // A Unix socket.
        ("amqp+unix:///run/mq.sock", r#"amqp+unix -:-  "/" "/run/mq.sock""#),
        ("amqp+unix://u:p@/run/a%20b?vhost=v", r#"amqp+unix "u":"p"  "v" "/run/a b""#),
    ];
    for (text, expected) in table {
        assert_eq!(summary(&parse(text)), expected, "{text}");
    }
}

#[test]
fn query_parameters_are_read() {
    let uri = parse(
        "amqp://h?heartbeat=30&connection_timeout=1500&channel_max=16&frame_max=131072&spin=20\
         &auth_mechanism=plain&auth_mechanism=AMQPLAIN&",
    );
    assert_eq!(uri.heartbeat, Some(Duration::from_secs(30)));
    assert_eq!(uri.connection_timeout, Some(Duration::from_millis(1500)));
    assert_eq!(uri.spin, Some(Duration::from_micros(20)));
    assert_eq!((uri.channel_max, uri.frame_max), (Some(16), Some(131_072)));
    assert_eq!(uri.auth_mechanisms, ["PLAIN", "AMQPLAIN"]);
    assert_eq!(uri.tls, TlsQuery::default());

    let uri = parse("amqp://h?heartbeat=0&channel_max=0&frame_max=0&&auth_mechanism=External");
    assert_eq!(uri.heartbeat, Some(Duration::ZERO));
    assert_eq!((uri.channel_max, uri.frame_max), (Some(0), Some(0)));
    assert_eq!(uri.auth_mechanisms, ["EXTERNAL"]);

    let uri = parse("amqp://h");
    assert_eq!((uri.heartbeat, uri.connection_timeout), (None, None));
    assert_eq!((uri.channel_max, uri.frame_max), (None, None));
    assert!(uri.auth_mechanisms.is_empty());
}

#[test]
fn tls_parameters_are_read() {
    let uri = parse(
        "amqps://h?cacertfile=/etc/ca.pem&certfile=%2Fetc%2Fme%20too.pem&keyfile=key.pem&verify=verify_peer\
         &server_name_indication=mq.example&depth=3&fail_if_no_peer_cert=true",
    );
    assert_eq!(
        uri.tls,
        TlsQuery {
            cacertfile: Some("/etc/ca.pem".into()),
            certfile: Some("/etc/me too.pem".into()),
            keyfile: Some("key.pem".into()),
            verify: Some(true),
            server_name: Some(ServerName::Name("mq.example".into())),
        }
    );
    let uri = parse("wss://h/ws?verify=verify_none&server_name_indication=disable");
    assert_eq!(uri.tls.verify, Some(false));
    assert_eq!(uri.tls.server_name, Some(ServerName::Disabled));
}

/// Bad URIs, and what the error must mention. Every `secret` is a password, or might be one.
const BAD: &[(&str, &str)] = &[
    ("", "scheme"),
    ("localhost", "scheme"),
    ("amqp:host", "scheme"),
    ("http://host", "\"http\""),
    ("am qp://host", "space"),
    ("amqp://host ", "space"),
    ("amqp://ho\nst", "space"),
    ("guest:secret://host", "scheme"),
    ("secret@host", "scheme"),
    ("amqp://u:secret@host:port", "port"),
    ("amqp://u:secret@host:0", "port"),
    ("amqp://u:secret@host:65536", "port"),
    ("amqp://u:secret@host:-1", "port"),
    ("amqp://u:secret@host:", "port"),
    ("amqp://u:secret@host:5672:1", "brackets"),
    ("amqp://::1", "brackets"),
    ("amqp://[::1", "']'"),
    ("amqp://[localhost]", "IPv6"),
    ("amqp://[::1]5672", "after an IPv6"),
    ("amqp://[::1]:x", "port"),
    ("amqp://a,,b", "empty host"),
    ("amqp://a,", "empty host"),
    ("amqp://u:secret@a,u:secret@b", "'@'"),
    ("amqp://u:sec@ret@host", "%40"),
    ("amqp://u:sec/secret@host", "percent-encode"),
    ("amqp://u:5672/secret@host", "percent-encode"),
    ("amqp://u:5672?secret@host", "percent-encode"),
    ("amqp://u:sec#secret@host", "%23"),
    ("amqp://u:secret/part@host", "percent-encode"),
    ("amqp://u:secret%@host", "password"),
    ("amqp://u:secret%4@host", "password"),
    ("amqp://u:secret%zz@host", "password"),
    ("amqp://u:secret%+1@host", "password"),
    ("amqp://u:secret%ff@host", "UTF-8"),
    ("amqp://u%:secret@host", "user name"),
    ("amqp://h%st", "host"),
    ("amqp://host/%f", "vhost"),
    ("amqp://host//", "%2f"),
    ("amqp://host/a/b", "%2f"),
    ("amqp://host?vhost=a", "path"),
    ("amqp://host?heart_beat=3", "\"heart_beat\""),
    ("amqp://host?secure", "\"secure\""),
    ("amqp://host?=1", "\"\""),
    ("amqp://host?heartbeat", "no value"),
    ("amqp://host?heartbeat=", "no value"),
    ("amqp://host?heartbeat=+3", "whole number"),
    ("amqp://host?heartbeat=-3", "whole number"),
    ("amqp://host?heartbeat=1.5", "whole number"),
    ("amqp://host?heartbeat=65536", "16 bits"),
    ("amqp://host?heartbeat=1&heartbeat=2", "twice"),
    ("amqp://host?heartbeat=%", "\"heartbeat\""),
    ("amqp://host?%=1", "name of a parameter"),
    ("amqp://host?connection_timeout=0", "connection_timeout"),
    ("amqp://host?channel_max=65536", "channel_max"),
    ("amqp://host?frame_max=4095", "4096"),
    ("amqp://host?auth_mechanism=kerberos", "amqplain"),
    ("amqp://host?cacertfile=/ca.pem", "TLS"),
    ("amqp://host?verify=verify_none", "TLS"),
    ("ws://host?certfile=/ca.pem", "TLS"),
    ("amqps://host?verify=maybe", "verify_none"),
    ("amqps://host?certfile=/c.pem", "keyfile"),
    ("amqps://host?keyfile=/k.pem", "keyfile"),
    ("amqps://host?password=secret", "encrypted private key"),
    ("amqps://host?depth=deep", "depth"),
    ("amqps://host?fail_if_no_peer_cert=1", "fail_if_no_peer_cert"),
    ("amqp+unix://host/run/mq.sock", "three slashes"),
    ("amqp+unix://", "path"),
    ("amqp+unix:///", "path"),
    ("amqp+unix:///a%", "path"),
    ("wss://u:secret@host/ws?vhost=%ff", "\"vhost\""),
];

#[test]
fn errors_name_the_mistake() {
    for (text, mention) in BAD {
        let error = text.parse::<Uri>().expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        assert!(error.to_string().contains(mention), "{text}: {error}");
    }
}

#[test]
fn no_error_repeats_a_password() {
    for (text, _) in BAD {
        let error = text.parse::<Uri>().unwrap_err();
        assert!(!format!("{error} {error:?} {error:#?}").contains("secret"), "{text}: {error}");
    }
}

#[test]
fn display_and_debug_hide_the_password() {
    for text in ["amqp://me:secret@a,b/v", "wss://me:secret@host/ws", "amqp+unix://me:secret@/run/mq"] {
        let uri = parse(text);
        assert_eq!(uri.password.as_deref(), Some("secret"));
        let shown = format!("{uri} {uri:?} {uri:#?}");
        assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
    }
    assert_eq!(parse("amqp://me:x@a,[::1]:1/v").to_string(), "amqp://me@a:5672,[::1]:1 (vhost \"v\")");
    assert_eq!(parse("wss://h/ws?vhost=v").to_string(), "wss://h:443/ws (vhost \"v\")");
}

#[test]
fn a_vhost_has_at_most_255_bytes() {
    assert_eq!(parse(&format!("amqp://h/{}", "v".repeat(255))).vhost.len(), 255);
    for text in [format!("amqp://h/{}", "v".repeat(256)), format!("ws://h?vhost={}", "%C3%A4".repeat(128))] {
        assert!(text.parse::<Uri>().unwrap_err().to_string().contains("256 bytes"));
    }
}

#[test]
fn a_host_is_parsed_without_a_uri() {
    let address = |host: &str, port| Address { host: host.to_owned(), port };
    assert_eq!(Address::parse("a", 5672).unwrap(), address("a", 5672));
    assert_eq!(Address::parse("a:1", 5672).unwrap(), address("a", 1));
    assert_eq!(Address::parse("[::1]:2", 5672).unwrap(), address("::1", 2));
    assert!(Address::parse("a:b", 5672).is_err());
}

/// Mutated URIs never cause a panic.
#[test]
fn mutations_never_panic() {
    let seeds = ["amqp://u:p@a:5672,[::1]:1/%2f?heartbeat=1&vhost=%C3%A4", "amqp+unix://u:p@/run/ä?vhost=v"];
    for seed in seeds {
        let chars: Vec<char> = seed.chars().collect();
        for at in 0..chars.len() {
            for with in ['%', '@', '/', '?', ':', '[', ']', ',', '&', '=', 'ä', '\0'] {
                let mut text = chars.clone();
                text[at] = with;
                let _ = text.iter().collect::<String>().parse::<Uri>();
                let _ = text[..at].iter().collect::<String>().parse::<Uri>();
            }
        }
    }
}
