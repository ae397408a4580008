//! The class and number of a method, and what the specification says about each method.

mod specification;

use std::fmt;

/// The class and number of a method. Displays as `queue.declare`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId {
    /// The class, for instance 50 for `queue`.
    pub class: u16,
    /// The method within the class, for instance 10 for `queue.declare`.
    pub method: u16,
}

/// What the specification says about a method.
#[derive(Clone, Copy)]
struct Facts {
    name: &'static str,
    traits: u8,
}

// The bits of `Facts::traits`.
const CLIENT: u8 = 1;
const SERVER: u8 = 2;
const CONTENT: u8 = 4;
const SYNCHRONOUS: u8 = 8;
const REPLY: u8 = 16;

impl MethodId {
    /// Returns the name in the specification, for instance `queue.declare`; `unknown` if the method does not exist.
    pub fn name(self) -> &'static str {
        self.facts().map_or("unknown", |facts| facts.name)
    }

    /// Returns whether the method exists.
    pub fn is_known(self) -> bool {
        self.facts().is_some()
    }

    /// Returns whether a content header and a body follow the method.
    #[inline]
    pub fn has_content(self) -> bool {
        self.is(CONTENT)
    }

    /// Returns whether a client may send the method.
    #[inline]
    pub fn from_client(self) -> bool {
        self.is(CLIENT)
    }

    /// Returns whether a server may send the method.
    #[inline]
    pub fn from_server(self) -> bool {
        self.is(SERVER)
    }

    /// Returns whether the method asks for a reply, unless its `nowait` is set.
    #[inline]
    pub fn is_synchronous(self) -> bool {
        self.is(SYNCHRONOUS)
    }

    /// Returns whether the method is the reply to a synchronous method.
    #[inline]
    pub fn is_reply(self) -> bool {
        self.is(REPLY)
    }

    #[inline]
    fn is(self, bit: u8) -> bool {
        self.facts().is_some_and(|facts| facts.traits & bit != 0)
    }
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.facts() {
            Some(facts) => f.write_str(facts.name),
            None => write!(f, "method {}.{}", self.class, self.method),
        }
    }
}
