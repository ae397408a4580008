//! Passwords: their hashes, and the verification of logins on threads of their own.
//!
//! Every login that can't be granted at once costs the same, whether the user exists or not, and however its password
//! is kept: one argon2 hash of the broker's own cost. Hashes that were brought along with other parameters of argon2
//! are bounded in memory and time, and in their kinds; while a user has one, every login computes one of its kind too.

use std::future::pending;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Block, Params, PasswordHash, Version};
use async_executor::{Executor, Task};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256, Sha512};

use crate::engine::Claim;

/// What a hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// About 5 ms on one processor, and 8 MiB of memory. RabbitMQ answers a refused login in a few milliseconds, and
    /// clients wait no longer for the reason; its salted SHA-256 takes less than a microsecond.
    Full,
    /// For a test, whose passwords are no secrets.
    Least,
}

/// The memory of [`Cost::Full`], in blocks of 1 KiB.
const FULL_BLOCKS: u32 = 8 << 10;
/// The largest memory of a hash that was brought along, in blocks of 1 KiB: that of RFC 9106's second recommendation.
const MOST_BLOCKS: u32 = 64 << 10;
/// The most blocks that such a hash may compute: about 150 ms on one processor.
const MOST_WORK: u64 = 256 << 10;
/// How many kinds of argon2 hashes the users may have: each login computes one of each.
pub(super) const MOST_KINDS: usize = 4;
/// More verifications at once would take more memory than a flood of logins is worth.
const MOST_THREADS: usize = 4;

impl Cost {
    fn params(self) -> Params {
        let params = match self {
            Self::Full => Params::new(FULL_BLOCKS, 1, 1, None),
            Self::Least => Params::new(Params::MIN_M_COST, Params::MIN_T_COST, Params::MIN_P_COST, None),
        };
        params.unwrap_or_default()
    }
}

/// Returns the hash of a password that is not empty, as a PHC string.
pub(super) fn hashed(password: &str, cost: Cost) -> Option<String> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost.params());
    let hash = argon2.hash_password(password.as_bytes()).ok().filter(|_| !password.is_empty())?;
    Some(hash.to_string())
}

/// Whether a text is a hash that [`fits`] can verify.
pub(super) fn is_hash(text: &str) -> bool {
    Salted::parse(text).is_some() || PasswordHash::new(text).is_ok_and(|hash| Function::of(&hash).is_some())
}

/// Whether a text is a hash of argon2.
pub(super) fn is_argon2(text: &str) -> bool {
    text.starts_with('$')
}

/// RabbitMQ's hash: four octets of salt, and the SHA-256 or SHA-512 of salt and password. Without a hash, it is that of
/// no password.
#[derive(Default)]
struct Salted {
    salt: [u8; 4],
    hash: Vec<u8>,
}

impl Salted {
    fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        let (salt, hash) = bytes.split_first_chunk()?;
        matches!(hash.len(), 32 | 64).then(|| Self { salt: *salt, hash: hash.to_vec() })
    }

    /// Computes both, so that the time for a long password does not tell the user's.
    fn fits(&self, password: &[u8]) -> bool {
        let sha256 = Sha256::new().chain_update(self.salt).chain_update(password).finalize();
        let sha512 = Sha512::new().chain_update(self.salt).chain_update(password).finalize();
        same(&sha256, &self.hash) | same(&sha512, &self.hash)
    }
}

/// Compares all bytes, so that the time says nothing about the first difference.
fn same(own: &[u8], other: &[u8]) -> bool {
    own.len() == other.len()
        && own.iter().zip(other).fold(0, |difference, (own, other)| difference | (own ^ other)) == 0
}

/// Returns RabbitMQ's hash of a publicly known password. Its salt is constant.
#[cfg(feature = "definitions")]
pub(super) fn public_hash(password: &[u8]) -> String {
    let salt = *b"open";
    let hash = Sha256::new().chain_update(salt).chain_update(password).finalize();
    BASE64_STANDARD.encode([&salt[..], &hash[..]].concat())
}

/// Whether a password matches its hash. Whatever the hash is, and without one, the same is computed: an argon2 hash of
/// the broker's own cost, one of each kind that a user has, and both of RabbitMQ's hashes.
pub(super) fn fits(password: &[u8], hash: Option<&str>, kinds: &[Box<str>], cost: Cost) -> bool {
    let phc = hash.filter(|hash| is_argon2(hash)).and_then(|hash| PasswordHash::new(hash).ok());
    let phc = phc.as_ref().and_then(|hash| Some((Function::of(hash)?, hash.salt.as_ref()?, hash.hash.as_ref()?)));
    let kinds = kinds.iter().filter_map(|kind| Function::of(&PasswordHash::new(kind).ok()?));
    let mut functions = vec![Function::own(cost)];
    for function in kinds.chain(phc.map(|(function, ..)| function)) {
        if !functions.contains(&function) {
            functions.push(function);
        }
    }
    let mut holds = hash.and_then(Salted::parse).unwrap_or_default().fits(password);
    for function in functions {
        holds |= match phc {
            Some((its, salt, expected)) if its == function => {
                let mut own = vec![0; expected.as_bytes().len()];
                function.hash(password, salt.as_ref(), &mut own) && same(&own, expected.as_bytes())
            }
            _ => {
                function.hash(password, b"a salt of no user", &mut [0; Params::DEFAULT_OUTPUT_LEN]);
                false
            }
        };
    }
    holds
}

/// A function of argon2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Function {
    algorithm: Algorithm,
    version: Version,
    /// In blocks of 1 KiB.
    memory: u32,
    passes: u32,
    lanes: u32,
}

impl Function {
    /// Returns the function of the broker's own hashes.
    fn own(cost: Cost) -> Self {
        let params = cost.params();
        Self::new(Algorithm::Argon2id, Version::V0x13, &params)
    }

    /// Returns the function of a hash, unless it is another than argon2, or costs too much.
    fn of(hash: &PasswordHash) -> Option<Self> {
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = match hash.version {
            Some(version) => Version::try_from(version).ok()?,
            None => Version::default(),
        };
        let function = Self::new(algorithm, version, &Params::try_from(hash).ok()?);
        let work = u64::from(function.memory) * u64::from(function.passes);
        (function.memory <= MOST_BLOCKS && work <= MOST_WORK).then_some(function)
    }

    fn new(algorithm: Algorithm, version: Version, params: &Params) -> Self {
        let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
        Self { algorithm, version, memory, passes, lanes }
    }

    /// Hashes in a buffer that a later call uses again: a buffer for each call would stay with the allocator, which
    /// keeps memory for each thread. There are as many as verifications at once.
    fn hash(self, password: &[u8], salt: &[u8], out: &mut [u8]) -> bool {
        static BUFFERS: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());
        #[cfg(test)]
        tests::WORK.with_borrow_mut(|work| work.push(self));
        let Ok(params) = Params::new(self.memory, self.passes, self.lanes, None) else { return false };
        let count = params.block_count();
        let argon2 = Argon2::new(self.algorithm, self.version, params);
        let buffers = || BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = buffers().pop().unwrap_or_default();
        if buffer.len() < count {
            buffer.resize(count, Block::new());
        }
        let worked = argon2.hash_password_into_with_memory(password, salt, out, &mut buffer[..count]).is_ok();
        // A larger one was for a hash that was brought along.
        if buffer.len() <= FULL_BLOCKS as usize {
            let mut buffers = buffers();
            if buffers.len() < MOST_THREADS {
                buffers.push(buffer);
            }
        }
        worked
    }
}

/// Returns how many verifications run at once: as many as there are processors, at most four, so that a flood of logins
/// takes no more memory than that.
pub(super) fn thread_count() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

/// Verifies a password as [`fits`] does, on threads of their own, so that it delays other logins only. Dropping the
/// task cancels it.
pub(super) fn check(claim: Claim, cost: Cost) -> Task<bool> {
    static EXECUTOR: Executor<'static> = Executor::new();
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        for number in 0..thread_count() {
            let thread = thread::Builder::new().name(format!("hopmq-logins-{number}"));
            // One thread is enough, and others may exist.
            let _ = thread.spawn(|| async_io::block_on(EXECUTOR.run(pending::<()>())));
        }
    });
    EXECUTOR.spawn(async move { fits(&claim.password, claim.hash.as_deref(), &claim.kinds, cost) })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        /// What this thread has computed.
        pub(super) static WORK: RefCell<Vec<Function>> = const { RefCell::new(Vec::new()) };
    }

    fn least(password: &[u8], hash: &str) -> bool {
        fits(password, Some(hash), &[], Cost::Least)
    }

    #[test]
    fn a_password_matches_its_own_hash_only() {
        let one = hashed("one", Cost::Least).unwrap();
        let two = hashed("one", Cost::Full).unwrap();
        assert_ne!(one, two, "each has a salt of its own");
        assert!(least(b"one", &one) && least(b"one", &two));
        assert!(!least(b"two", &one) && !least(b"", &one) && !least(b"one", "not a hash"));
        assert!(!fits(b"one", None, &[], Cost::Least));
        assert!(is_hash(&one) && is_hash(&two) && !is_hash("") && !is_hash("not a hash") && !is_hash("$argon3$x"));
        assert_eq!(hashed("", Cost::Full), None);
        // Of another program, with a larger memory than the broker's own.
        let foreign = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5cyBzYWx0IGhlcmU$\
                       bm8gcGFzc3dvcmQgaXMga25vd24gdG8gZml0IHRoaXM";
        assert!(is_hash(foreign) && !least(b"one", foreign));
    }

    #[test]
    fn a_hash_in_rabbitmqs_format_matches_its_password() {
        // The example on RabbitMQ's page "Passwords", and one of RabbitMQ 4.0 with SHA-512.
        let sha256 = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        assert!(least(b"test12", sha256) && !least(b"test13", sha256) && !least(b"", sha256));
        let sha512 = "c2FsdH9M9guNNyJ69nHSlBmacoydlUzoTu606EsL5OneVNwgcwk1RqyOQ5LuobpXmebxED48wb3+QgeVtT/F/fPZs2k=";
        assert!(least(b"secret5", sha512) && !least(b"secret6", sha512) && is_hash(sha512));
    }

    #[test]
    fn every_login_computes_the_same_hashes_whatever_the_user_has() {
        let foreign = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5cyBzYWx0IGhlcmU$\
                       bm8gcGFzc3dvcmQgaXMga25vd24gdG8gZml0IHRoaXM";
        let own = hashed("secret", Cost::Full).unwrap();
        let kinds = ["$argon2id$v=19$m=19456,t=2,p=1".into(), "$argon2id$v=19$m=8192,t=1,p=1".into()];
        let work = |password: &[u8], hash| {
            WORK.take();
            let holds = fits(password, hash, &kinds, Cost::Full);
            (holds, WORK.take().iter().map(|function| (function.memory, function.passes)).collect::<Vec<_>>())
        };
        let expected = vec![(8192, 1), (19456, 2)];
        let rabbitmqs = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        assert_eq!(work(b"secret", Some(&own)), (true, expected.clone()));
        assert_eq!(work(b"test12", Some(rabbitmqs)), (true, expected.clone()));
        for hash in [Some(&*own), Some(foreign), Some(rabbitmqs), Some("nonsense"), Some(""), None] {
            assert_eq!(work(b"wrong", hash), (false, expected.clone()), "{hash:?}");
        }
    }

    #[test]
    fn a_hash_that_would_cost_too_much_is_none() {
        let hash = |memory: u32, passes: u32| {
            format!("$argon2id$v=19$m={memory},t={passes},p=1$bm9ib2R5cyBzYWx0IGhlcmU$bm8gcGFzc3dvcmQgaXMga25vd24")
        };
        assert!(is_hash(&hash(64 << 10, 3)) && is_hash(&hash(8, 30_000)));
        for (memory, passes) in [(65 << 10, 1), (64 << 10, 5), (u32::MAX, 1), (8, u32::MAX)] {
            assert!(!is_hash(&hash(memory, passes)), "{memory} KiB, {passes} passes");
        }
    }
}
