//! gRPC inside HTTP: counts the messages of a body. Each begins with a byte of flags and its length
//! in four.

/// The messages seen in one direction of a call.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    pub(crate) count: u64,
    prefix: [u8; 5],
    have: usize,
    /// Bytes of the message under way that are still to come.
    rest: usize,
}

impl Messages {
    /// Takes the next bytes of the body, however it was cut.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            let Some((first, rest)) = bytes.split_first() else {
                return;
            };
            self.prefix[self.have] = *first;
            self.have += 1;
            bytes = rest;
            if self.have == self.prefix.len() {
                let [_, length @ ..] = self.prefix;
                self.rest = u32::from_be_bytes(length) as usize;
                self.have = 0;
                self.count += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let body = [
            &[0, 0, 0, 0, 3][..],
            b"abc",
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 1, 0],
            &[7; 256],
        ]
        .concat();
        for size in [1, 2, 5, 7, body.len()] {
            let mut messages = Messages::default();
            body.chunks(size).for_each(|chunk| messages.read(chunk));
            assert_eq!(messages.count, 3, "in pieces of {size}");
        }
    }
}
