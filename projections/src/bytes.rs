//! Numbers and texts as bytes, and back: bounded, and never past the end.
//!
//! Whatever is read may be damaged: every reading function can say no.

/// Adds a number of seven bits a byte, low ones first.
pub(crate) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap_or(0));
}

/// Adds a count of things in memory.
pub(crate) fn put_count(bytes: &mut Vec<u8>, count: usize) {
    put(bytes, u64::try_from(count).unwrap_or(u64::MAX));
}

/// Adds a number that may be negative: small ones of either sign are short.
pub(crate) fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    let folded = (number << 1) ^ (number >> 63);
    put(bytes, u64::from_ne_bytes(folded.to_ne_bytes()));
}

/// Adds a text with its length before it.
pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_count(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// What is left to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn count(&mut self) -> Option<usize> {
        self.number().and_then(|number| usize::try_from(number).ok())
    }

    /// A count of things that follow, at least one byte each: never more than the bytes left.
    pub(crate) fn count_of_rest(&mut self) -> Option<usize> {
        self.count().filter(|count| *count <= self.0.len())
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let folded = self.number()?;
        let half = i64::from_ne_bytes((folded >> 1).to_ne_bytes());
        Some(half ^ -i64::from_ne_bytes((folded & 1).to_ne_bytes()))
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let count = self.count()?;
        std::str::from_utf8(self.take(count)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_no_end_is_passed() {
        let mut bytes = Vec::new();
        for number in [0, 1, 127, 128, 300, u64::MAX] {
            put(&mut bytes, number);
        }
        for number in [0, -1, 1, i64::MIN, i64::MAX] {
            put_signed(&mut bytes, number);
        }
        put_text(&mut bytes, "é");

        let mut read = Bytes(&bytes);

        for number in [0, 1, 127, 128, 300, u64::MAX] {
            assert_eq!(read.number(), Some(number));
        }
        for number in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(read.signed(), Some(number));
        }
        assert_eq!(read.text(), Some("é"));
        assert!(read.is_empty());
        assert_eq!(read.number(), None);
        assert_eq!(Bytes(&[0xff; 11]).number(), None);
        assert_eq!(Bytes(&[5, b'a']).text(), None);
    }
}
