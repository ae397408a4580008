//! The part after the `?`.

use super::*;

/// The smallest frame that every peer of AMQP 0-9-1 must take, in bytes.
const MIN_FRAME: u32 = 4096;

impl Uri {
    pub(super) fn read_query(&mut self, query: &str) -> Result<()> {
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, "name of a parameter")?;
            if name != "auth_mechanism" && seen.contains(&name) {
                return Err(config(format!("the parameter {name:?} is given twice")));
            }
            let value = decode(value, &format!("parameter {name:?}"))?;
            if value.is_empty() && name != "vhost" {
                return Err(match is_known(&name) {
                    true => config(format!("the parameter {name:?} has no value")),
                    false => unknown(&name),
                });
            }
            self.read_parameter(&name, value)?;
            seen.push(name);
        }
        if self.tls.certfile.is_some() != self.tls.keyfile.is_some() {
            return Err(config("of certfile and keyfile only one is given: a client's certificate needs its key"));
        }
        Ok(())
    }

    fn read_parameter(&mut self, name: &str, value: String) -> Result<()> {
        if is_tls(name) && !self.scheme.is_tls() {
            let scheme = self.scheme.name();
            return Err(config(format!("the parameter {name:?} is about TLS, and the scheme {scheme} has none")));
        }
        match name {
            "heartbeat" => self.heartbeat = Some(Duration::from_secs(number::<u16>(name, &value)?.into())),
            "connection_timeout" => {
                self.connection_timeout = match number::<u32>(name, &value)? {
                    0 => return Err(config("a connection_timeout of 0 ms leaves no time to connect")),
                    millis => Some(Duration::from_millis(millis.into())),
                }
            }
            "channel_max" => self.channel_max = Some(number(name, &value)?),
            "frame_max" => {
                self.frame_max = match number(name, &value)? {
                    1..MIN_FRAME => return Err(config(format!("frame_max is below {MIN_FRAME} bytes (0: no limit)"))),
                    bytes => Some(bytes),
                }
            }
            "auth_mechanism" => {
                let mechanism = sasl::built_in(&value).ok_or_else(|| {
                    config("an auth_mechanism is none of plain, external, amqplain, anonymous".to_owned())
                })?;
                self.auth_mechanisms.push(mechanism.0);
            }
            "vhost" if self.scheme.is_websocket() || self.scheme == Scheme::Unix => self.vhost = value,
            "vhost" => return Err(config("the vhost is the path here: amqp://host/vhost, not a parameter")),
            "cacertfile" => self.tls.cacertfile = Some(value.into()),
            "certfile" => self.tls.certfile = Some(value.into()),
            "keyfile" => self.tls.keyfile = Some(value.into()),
            "password" => {
                return Err(config(
                    "the parameter \"password\" is for an encrypted private key, which is not supported: \
                     decrypt the key first, for example with `openssl pkey -in key.pem -out plain.pem`",
                ));
            }
            "verify" => {
                self.tls.verify = match &*value {
                    "verify_peer" => Some(true),
                    "verify_none" => Some(false),
                    _ => return Err(config("the parameter \"verify\" is neither verify_peer nor verify_none")),
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
                    return Err(config("the parameter \"fail_if_no_peer_cert\" is neither true nor false"));
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
const OTHERS: [&str; 6] = ["heartbeat", "connection_timeout", "channel_max", "frame_max", "auth_mechanism", "vhost"];

fn is_tls(name: &str) -> bool {
    TLS.contains(&name)
}

fn is_known(name: &str) -> bool {
    is_tls(name) || OTHERS.contains(&name)
}

fn unknown(name: &str) -> Error {
    config(format!(
        "the parameter {name:?} is unknown. Known are {} and, with TLS, {}",
        OTHERS.join(", "),
        TLS.join(", ")
    ))
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or_else(|| {
        let bits = 8 * size_of::<T>();
        config(format!("the parameter {name:?} is not a whole number of {bits} bits without a sign"))
    })
}
