//! What a TLS greeting asks for (`ClientHello`, RFC 8446, RFC 6066, RFC 7301), read without taking
//! part in the handshake.

/// Longest greeting looked at; Envoy's limit.
pub(crate) const GREETING_BYTES: usize = 16 * 1024;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const APPLICATION_PROTOCOLS: u16 = 16;
const HOST_NAME: u8 = 0;

/// What a client began with. The default: not with TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) tls: bool,
    /// Lower-case; empty: the client names no server.
    pub(crate) server_name: String,
    /// Application protocols that it offers.
    pub(crate) alpn: Vec<Box<[u8]>>,
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// More bytes are needed to tell.
    Unfinished,
    NotTls,
    Tls(Hello),
}

/// Reads the greeting at the start of `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Greeting {
    let mut handshake = Vec::new();
    let mut records = Reader(bytes);
    loop {
        // A record: type, version 3.x, length, content. A greeting may lie in several.
        if [HANDSHAKE_RECORD, 3]
            .iter()
            .zip(records.0)
            .any(|(wanted, have)| wanted != have)
        {
            return Greeting::NotTls;
        }
        let Some(content) = records.skip(3).and_then(|()| records.list16()) else {
            return match bytes.len() {
                GREETING_BYTES.. => Greeting::NotTls,
                _ => Greeting::Unfinished,
            };
        };
        handshake.extend_from_slice(content.0);
        match handshake[..] {
            [CLIENT_HELLO, a, b, c, ref body @ ..] => {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if let Some(body) = body.get(..length) {
                    return match extensions(Reader(body)) {
                        Some(hello) => Greeting::Tls(hello),
                        None => Greeting::NotTls,
                    };
                }
            }
            [CLIENT_HELLO, ..] | [] => {}
            _ => return Greeting::NotTls,
        }
    }
}

/// `None`: the greeting is broken.
fn extensions(mut hello: Reader<'_>) -> Option<Hello> {
    let mut asked = Hello {
        tls: true,
        ..Hello::default()
    };
    hello.skip(2 + 32)?; // version, random
    hello.list8()?; // session
    hello.list16()?; // cipher suites
    hello.list8()?; // compression
    if hello.0.is_empty() {
        return Some(asked);
    }
    let mut extensions = hello.list16()?;
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let mut content = extensions.list16()?;
        match kind {
            SERVER_NAME => {
                let mut names = content.list16()?;
                if names.number8()? == HOST_NAME {
                    let name = std::str::from_utf8(names.list16()?.0).ok()?;
                    asked.server_name = name.to_ascii_lowercase();
                }
            }
            APPLICATION_PROTOCOLS => {
                let mut names = content.list16()?;
                while !names.0.is_empty() {
                    asked.alpn.push(names.list8()?.0.into());
                }
            }
            _ => {}
        }
    }
    Some(asked)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    fn number8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number16(&mut self) -> Option<u16> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// What follows its own length of one byte.
    fn list8(&mut self) -> Option<Self> {
        let length = self.number8()?;
        self.take(length.into()).map(Reader)
    }

    fn list16(&mut self) -> Option<Self> {
        let length = self.number16()?;
        self.take(length.into()).map(Reader)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A greeting as clients send it, for `name` if there is one.
    pub(crate) fn hello(name: Option<&str>) -> Vec<u8> {
        let list16 = |content: &[u8]| {
            let mut out = (content.len() as u16).to_be_bytes().to_vec();
            out.extend_from_slice(content);
            out
        };
        let mut extensions = vec![0, 23, 0, 0];
        if let Some(name) = name {
            let entry = [&[HOST_NAME][..], &list16(name.as_bytes())].concat();
            extensions.extend([0, 0]);
            extensions.extend(list16(&list16(&entry)));
        }
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[0],
            &list16(&[0x13, 0x01]),
            &[1, 0],
            &list16(&extensions),
        ]
        .concat();
        let length = (body.len() as u32).to_be_bytes();
        let handshake = [&[CLIENT_HELLO][..], &length[1..], &body].concat();
        [&[HANDSHAKE_RECORD, 3, 1][..], &list16(&handshake)].concat()
    }

    #[test]
    fn names_are_found_and_anything_else_is_told_apart() {
        let named = |name: &str| {
            Greeting::Tls(Hello {
                tls: true,
                server_name: name.into(),
                alpn: Vec::new(),
            })
        };
        assert_eq!(read(&hello(Some("Web.Test"))), named("web.test"));
        assert_eq!(read(&hello(None)), named(""));
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Greeting::NotTls);
        let whole = hello(Some("web.test"));
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), Greeting::Unfinished, "{end}");
        }
        // The same in two records.
        let (first, second) = whole[5..].split_at(20);
        let record = |content: &[u8]| {
            [
                &[HANDSHAKE_RECORD, 3, 1, 0, content.len() as u8][..],
                content,
            ]
            .concat()
        };
        assert_eq!(
            read(&[record(first), record(second)].concat()),
            named("web.test")
        );
        // A length that leads beyond its list.
        let mut broken = whole.clone();
        let last = broken.len() - "web.test".len() - 1;
        broken[last] += 1;
        assert_eq!(read(&broken), Greeting::NotTls);
        assert_eq!(
            read(&[&[22, 3, 1, 0xff, 0xff][..], &[0; GREETING_BYTES]].concat()),
            Greeting::NotTls
        );
    }
}
