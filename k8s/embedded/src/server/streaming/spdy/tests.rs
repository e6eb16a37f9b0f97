use super::*;
use flate2::{Compress, Compression, FlushCompress};

fn pack(packer: &mut Compress, headers: &[(&str, &str)]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
    let mut plain = number(headers.len()).to_vec();
    for (name, value) in headers {
        for text in [name, value] {
            plain.extend(number(text.len()));
            plain.extend(text.as_bytes());
        }
    }
    let mut packed = Vec::with_capacity(4096);
    packer
        .compress_vec(&plain, &mut packed, FlushCompress::Sync)
        .unwrap();
    packed
}

fn open(id: u32, block: &[u8]) -> Vec<u8> {
    let mut frame = 0x8003_0001u32.to_be_bytes().to_vec();
    frame.extend(u32::try_from(block.len() + 10).unwrap().to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.extend([0; 6]);
    frame.extend(block);
    frame
}

#[tokio::test]
async fn frames_of_a_client_are_read() {
    let mut packer = Compress::new(Compression::default(), true);
    assert_eq!(packer.set_dictionary(&DICTIONARY).unwrap(), DICTIONARY_SUM);
    let mut bytes = open(
        1,
        &pack(&mut packer, &[("Streamtype", "error"), ("port", "8080")]),
    );
    bytes.extend(open(3, &pack(&mut packer, &[("streamtype", "data")])));
    bytes.extend([0, 0, 0, 3, 1, 0, 0, 2, b'h', b'i']);
    bytes.extend([0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]);
    let mut reader = Reader::new(bytes.as_slice());
    let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        reader.next().await.unwrap(),
        Some(Frame::Open {
            id: 1,
            headers: vec![text("streamtype", "error"), text("port", "8080")]
        })
    );
    assert_eq!(
        reader.next().await.unwrap(),
        Some(Frame::Open {
            id: 3,
            headers: vec![text("streamtype", "data")]
        })
    );
    assert_eq!(
        reader.next().await.unwrap(),
        Some(Frame::Data {
            id: 3,
            bytes: "hi".into(),
            last: true
        })
    );
    assert_eq!(reader.next().await.unwrap(), Some(Frame::Ping { id: 9 }));
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn nonsense_is_an_error_and_no_panic() {
    for nonsense in [
        open(1, b"\x78\xf9junk"),
        open(1, b""),
        vec![0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0],
        vec![0, 0, 0, 1, 0, 0xff, 0xff, 0xff],
    ] {
        assert!(Reader::new(nonsense.as_slice()).next().await.is_err());
    }
}

#[tokio::test]
async fn our_replies_can_be_unpacked() {
    let (ours, mut theirs) = tokio::io::duplex(1024);
    let (writer, work) = Writer::new(ours);
    let write = async {
        writer.accept(1, true).await;
        writer.accept(3, false).await;
        writer.data(3, b"hello", true).await;
        drop(writer);
    };
    let (_, done) = tokio::join!(write, work);
    done.unwrap();
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes).await.unwrap();
    let mut reader = Reader::new(&[][..]);
    // type, length, stream id, block
    assert_eq!(bytes[..4], [0x80, 3, 0, 2]);
    assert_eq!(reader.headers(&bytes[12..32]).unwrap(), []);
    assert_eq!(reader.headers(&bytes[44..58]).unwrap(), []);
    assert_eq!(bytes[58..], *b"\0\0\0\x03\x01\0\0\x05hello");
}
