//! The storage of encoded tables and properties.

use std::borrow::Cow;

use bytes::Bytes;

/// Storage to read from. A reference returns slices that outlive the reference; owned storage (`Vec<u8>`, [`Bytes`], …)
/// returns slices of itself.
///
/// This is why `message.properties().content_type()` outlives the temporary that `properties()` returns.
pub trait Octets<'i, 'o>: AsRef<[u8]> {
    /// Returns the bytes.
    fn octets(&'i self) -> &'o [u8];
}

impl<'i, 'o, T: AsRef<[u8]> + ?Sized> Octets<'i, 'o> for &'o T {
    #[inline]
    fn octets(&'i self) -> &'o [u8] {
        (*self).as_ref()
    }
}

macro_rules! owned {
    ($($ty:ty),*) => {$(
        impl<'a> Octets<'a, 'a> for $ty {
            #[inline]
            fn octets(&'a self) -> &'a [u8] {
                self.as_ref()
            }
        }
    )*};
}

owned!(Vec<u8>, Box<[u8]>, std::sync::Arc<[u8]>, Bytes, Cow<'_, [u8]>);

/// Storage to write to: `Vec<u8>`, or a `Cow` that copies borrowed bytes at the first change.
pub trait OctetsMut: AsRef<[u8]> {
    /// Returns the bytes for a change.
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
