//! Where encoded tables and properties keep their bytes.

use std::borrow::Cow;

use bytes::Bytes;

/// Bytes to read from: a reference hands out slices that outlive it, owned storage (`Vec<u8>`, [`Bytes`], …) lends its
/// own.
///
/// Thanks to it `message.properties().content_type()` is not tied to the temporary that `properties()` returns.
pub trait Octets<'i, 'o>: AsRef<[u8]> {
    /// The bytes.
    fn octets(&'i self) -> &'o [u8];
}

impl<'i, 'o, T: AsRef<[u8]> + ?Sized> Octets<'i, 'o> for &'o T {
    #[inline]
    fn octets(&'i self) -> &'o [u8] {
        (*self).as_ref()
    }
}

macro_rules! lend {
    ($($ty:ty),*) => {$(
        impl<'a> Octets<'a, 'a> for $ty {
            #[inline]
            fn octets(&'a self) -> &'a [u8] {
                self.as_ref()
            }
        }
    )*};
}

lend!(Vec<u8>, Box<[u8]>, std::sync::Arc<[u8]>, Bytes, Cow<'_, [u8]>);

/// Bytes to write to: `Vec<u8>`, or a `Cow` that copies what it borrows at the first change.
pub trait OctetsMut: AsRef<[u8]> {
    /// The bytes, to be changed.
    fn to_mut(&mut self) -> &mut Vec<u8>;
}

impl OctetsMut for Vec<u8> {
    #[inline]
    fn to_mut(&mut self) -> &mut Vec<u8> {
        self
    }
}

impl OctetsMut for Cow<'_, [u8]> {
    #[inline]
    fn to_mut(&mut self) -> &mut Vec<u8> {
        Cow::to_mut(self)
    }
}
