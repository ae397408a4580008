//! Damage to the folder of a stopped broker: the next start refuses it, or every message is there and right, or the
//! client is told.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use hopmq_broker::Broker;
use hopmq_broker::store::{self, DiskStorage, ErrorKind, Settings};
use hopmq_proto::method::{Encode, Method, basic, confirm, queue};
use hopmq_proto::{Kind, Properties};

use crate::{Door, Refused, Result, Scratch, Wire};

/// The name of the attack.
pub const NAME: &str = "store: a damaged folder";
/// Messages in the folder.
const MESSAGES: u64 = 2_000;
const QUEUE: &str = "kept";

/// What became of the damaged folders.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The start refused the folder.
    pub refused: u64,
    /// A client was told with an error that a message is damaged.
    pub told: u64,
    /// All messages were there.
    pub harmless: u64,
    /// Messages were missing, and no client was told: each damage.
    pub silent: Vec<String>,
    /// A message had a wrong content: each damage.
    pub wrong: Vec<String>,
}

impl Outcome {
    /// Returns whether the store lied.
    pub fn is_wrong(&self) -> bool {
        !self.silent.is_empty() || !self.wrong.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refused, told, harmless, silent, wrong } = self;
        write!(
            f,
            "{refused} refused, {told} told, {harmless} harmless, {} silent, {} wrong",
            silent.len(),
            wrong.len()
        )?;
        for lie in silent.iter().chain(wrong).take(10) {
            write!(f, "\n    {lie}")?;
        }
        Ok(())
    }
}

/// Numbers that look random, and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

/// Fills a folder, and damages copies of it in this many ways.
///
/// # Errors
/// If the undamaged folder cannot be used.
pub fn play(rounds: u64) -> Result<Outcome> {
    let original = Scratch::new()?;
    fill(original.path())?;
    // Reading takes the messages, so each reader gets a copy.
    if let Err(lie) = read(copy(original.path())?.path())? {
        return Err(format!("the undamaged folder: {lie:?}").into());
    }
    let mut outcome = Outcome::default();
    for round in 0..rounds {
        let copy = copy(original.path())?;
        let what = damage(copy.path(), &mut Random(0x9E37_79B9_7F4A_7C15 ^ (round + 1)))?;
        let what = format!("round {round}: {what}");
        match read(copy.path()) {
            Ok(Ok(())) => outcome.harmless += 1,
            Ok(Err(Lie::Missing(count))) => outcome.silent.push(format!("{what}: {count} messages are missing")),
            Ok(Err(Lie::Wrong(number))) => outcome.wrong.push(format!("{what}: message {number} is wrong")),
            Err(error) if error.is::<Refused>() => outcome.told += 1,
            Err(error) => match error.downcast_ref::<store::Error>().map(store::Error::kind) {
                Some(ErrorKind::Damaged) => outcome.refused += 1,
                _ => return Err(format!("{what}: {error}").into()),
            },
        }
    }
    Ok(outcome)
}

fn copy(folder: &Path) -> Result<Scratch> {
    let copy = Scratch::new()?;
    for file in files(folder)? {
        fs::copy(&file, copy.path().join(file.file_name().unwrap_or_default()))?;
    }
    Ok(copy)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn body(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(4 + (number % 60) as usize)
}

fn serve(folder: &Path) -> Result<(Broker, Wire)> {
    let settings = Settings { min_free: 0, ..Settings::default() };
    let broker = Broker::builder().watched(false).store(settings).open(DiskStorage::open(folder)?)?;
    let mut wire = Wire::open(&Door::broker(broker.listen("127.0.0.1:0")?))?;
    wire.channel(1)?;
    Ok((broker, wire))
}

fn fill(folder: &Path) -> Result {
    let (broker, mut wire) = serve(folder)?;
    wire.ask(1, &queue::Declare { queue: QUEUE, durable: true, ..Default::default() }, queue::DeclareOk::ID)?;
    wire.ask(1, &confirm::Select { nowait: false }, confirm::SelectOk::ID)?;
    for number in 0..MESSAGES {
        wire.publish(1, ("", QUEUE), &Properties::new().with_persistent(), &body(number))?;
    }
    let mut confirmed = 0;
    while confirmed < MESSAGES {
        let payload = wire.expect(basic::Ack::ID)?;
        if let Ok(Method::BasicAck(ack)) = Method::decode(&payload) {
            confirmed = if ack.multiple { ack.delivery_tag } else { confirmed.max(ack.delivery_tag) };
        }
    }
    drop(wire);
    drop(broker);
    Ok(())
}

#[derive(Debug)]
enum Lie {
    Missing(u64),
    Wrong(u64),
}

/// Reads all messages. The error is why the broker does not start, or what it tells the client.
fn read(folder: &Path) -> Result<std::result::Result<(), Lie>> {
    let (_broker, mut wire) = serve(folder)?;
    wire.ask(1, &queue::Declare { queue: QUEUE, durable: true, ..Default::default() }, queue::DeclareOk::ID)?;
    for _ in 0..MESSAGES {
        wire.method(1, &basic::Get { queue: QUEUE, no_ack: true });
    }
    wire.flush()?;
    let mut number = 0;
    while number < MESSAGES {
        let (kind, payload) = content(&mut wire)?;
        match kind {
            Kind::Body if payload == body(number) => number += 1,
            Kind::Body => return Ok(Err(Lie::Wrong(number))),
            _ => return Ok(Err(Lie::Missing(MESSAGES - number))),
        }
    }
    Ok(Ok(()))
}

/// Returns the next body, or the method that says that there are no more.
fn content(wire: &mut Wire) -> Result<(Kind, Vec<u8>)> {
    loop {
        let frame = wire.next()?;
        if frame.kind == Kind::Body {
            return Ok((Kind::Body, frame.payload));
        }
        if frame.kind != Kind::Method {
            continue;
        }
        match Method::decode(&frame.payload)? {
            Method::BasicGetEmpty(_) => return Ok((Kind::Method, Vec::new())),
            Method::ChannelClose(close) => {
                return Err(Refused { code: close.reply_code, text: close.reply_text.to_owned() }.into());
            }
            Method::BasicCancel(_) => {
                return Err(Refused { code: 0, text: "the consumer was cancelled".into() }.into());
            }
            _ => {}
        }
    }
}

/// Damages a file, and returns what was done.
fn damage(folder: &Path, random: &mut Random) -> Result<String> {
    for _ in 0..8 {
        random.below(2);
    }
    let files: Vec<_> =
        files(folder)?.into_iter().filter(|file| fs::metadata(file).is_ok_and(|file| file.len() > 0)).collect();
    let file = &files[random.below(files.len() as u64) as usize];
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut bytes = fs::read(file)?;
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let at = random.below(used as u64) as usize;
    let what = match random.below(6) {
        0 => {
            fs::remove_file(file)?;
            return Ok(format!("{name} is missing"));
        }
        1 => {
            bytes.clear();
            format!("{name} is empty")
        }
        2 => {
            bytes.truncate(at);
            format!("{name} is cut at byte {at} of {used}")
        }
        3 => {
            bytes[at..].iter_mut().take(512).for_each(|byte| *byte = 0);
            format!("512 zeros in {name} at byte {at} of {used}")
        }
        _ => {
            bytes[at] ^= 1 << random.below(8);
            format!("a flipped bit in {name} at byte {at} of {used}")
        }
    };
    fs::write(file, bytes)?;
    Ok(what)
}
