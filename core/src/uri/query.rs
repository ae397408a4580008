//! The query parameters of a URI.

use super::*;

/// The smallest frame that every AMQP 0-9-1 peer must accept, in bytes.
const MIN_FRAME: u32 = 4096;

impl Uri {
    pub(super) fn read_query(&mut self, query: &str) -> Result<()> {
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, "name of a parameter")?;
            if name != "auth_mechanism" && seen.contains(&name) {
                return Err(config(format!("the parameter {} is given twice; remove one", Quoted(&name))));
            }
            let value = decode(value, &format!("parameter {}", Quoted(&name)))?;
            if value.is_empty() && name != "vhost" {
                return Err(match is_known(&name) {
                    true => config(format!("the parameter {} has no value; set one or remove it", Quoted(&name))),
                    false => unknown(&name),
                });
            }
            self.read_parameter(&name, value)?;
            seen.push(name);
        }
        if self.tls.certfile.is_some() != self.tls.keyfile.is_some() {
            return Err(config("only one of certfile and keyfile is given; a client certificate needs both"));
        }
        Ok(())
    }

    fn read_parameter(&mut self, name: &str, value: String) -> Result<()> {
        if is_tls(name) && !self.scheme.is_tls() {
            let (name, scheme) = (Quoted(name), self.scheme.name());
            return Err(config(format!("the parameter {name} needs TLS, which {scheme} does not use")));
        }
        match name {
            "heartbeat" => self.heartbeat = Some(Duration::from_secs(number::<u16>(name, &value)?.into())),
            "connection_timeout" => {
                self.connection_timeout = match number::<u32>(name, &value)? {
                    0 => return Err(config("connection_timeout is 0 ms; use 1 or more")),
                    millis => Some(Duration::from_millis(millis.into())),
                }
            }
            "spin" => self.spin = Some(Duration::from_micros(number::<u16>(name, &value)?.into())),
            "channel_max" => self.channel_max = Some(number(name, &value)?),
            "frame_max" => {
                self.frame_max = match number(name, &value)? {
                    1..MIN_FRAME => return Err(config(format!("frame_max must be {MIN_FRAME} or more (0: no limit)"))),
                    bytes => Some(bytes),
                }
            }
            "auth_mechanism" => {
                let mechanism = sasl::built_in(&value).ok_or_else(|| {
                    config("unknown auth_mechanism; use plain, external, amqplain or anonymous".to_owned())
                })?;
                self.auth_mechanisms.push(mechanism.0);
            }
            "vhost" if self.scheme.is_websocket() || self.scheme == Scheme::Unix => self.vhost = value,
            "vhost" => return Err(config("vhost is not a parameter of amqp; write it as the path: amqp://host/vhost")),
            "cacertfile" => self.tls.cacertfile = Some(value.into()),
            "certfile" => self.tls.certfile = Some(value.into()),
            "keyfile" => self.tls.keyfile = Some(value.into()),
            "password" => {
                return Err(config(
                    "the parameter \"password\" is for an encrypted private key, which is not supported; \
                     decrypt the key, for example with `openssl pkey -in key.pem -out plain.pem`",
                ));
            }
            "verify" => {
                self.tls.verify = match &*value {
                    "verify_peer" => Some(true),
                    "verify_none" => Some(false),
                    _ => return Err(config("the parameter \"verify\" must be verify_peer or verify_none")),
                }
            }
            "server_name_indication" => {
                self.tls.server_name = Some(match &*value {
                    "disable" => ServerName::Disabled,
                    _ => ServerName::Name(value),
                });
            }
            "depth" => drop(number::<u8>(name, &value)?),
            "fail_if_no_peer_cert" => {
                if !matches!(&*value, "true" | "false") {
                    return Err(config("the parameter \"fail_if_no_peer_cert\" must be true or false"));
                }
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

const TLS: [&str; 8] = [
    "cacertfile",
    "certfile",
    "keyfile",
    "password",
    "verify",
    "server_name_indication",
    "depth",
    "fail_if_no_peer_cert",
];
const OTHERS: [&str; 7] =
    ["heartbeat", "connection_timeout", "channel_max", "frame_max", "auth_mechanism", "vhost", "spin"];

fn is_tls(name: &str) -> bool {
    TLS.contains(&name)
}

fn is_known(name: &str) -> bool {
    is_tls(name) || OTHERS.contains(&name)
}

fn unknown(name: &str) -> Error {
    let name = Quoted(name);
    config(format!("unknown parameter {name}; known are {} and, with TLS, {}", OTHERS.join(", "), TLS.join(", ")))
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or_else(|| {
        let (name, bits) = (Quoted(name), 8 * size_of::<T>());
        config(format!("the parameter {name} must be an unsigned whole number of at most {bits} bits"))
    })
}
