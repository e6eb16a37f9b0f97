//! The fuzz targets on a few thousand damaged inputs: what a fuzzer finds in its first seconds.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{fuzzing, sni::tests::hello};

/// A copy with a few bytes changed, lost, repeated or cut off.
fn damaged(seed: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..5) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..5) {
            0 => bytes[at] = random.random(),
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => drop(bytes.remove(at)),
            3 => {
                let end = bytes.len().min(at + random.random_range(1..20));
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn run(seeds: &[Vec<u8>], target: fn(&[u8]), rounds: usize) {
    let mut random = SmallRng::seed_from_u64(1);
    for seed in seeds {
        target(seed);
        for _ in 0..rounds {
            target(&damaged(seed, &mut random));
        }
    }
}

#[test]
fn connections_end_whatever_they_carry() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS, and HEADERS of `GET /` for `a` by the static table.
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let headers = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x86, 0x41, 1, b'a'];
    run(
        &[
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /nobody HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            b"POST /re/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec(),
            b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nx".to_vec(),
            [&preface[..], &settings, &headers].concat(),
        ],
        fuzzing::http,
        300,
    );
}

#[test]
fn first_bytes_are_read_or_refused() {
    run(
        &[
            hello(Some("web.test")),
            b"/a/../b/%2e%2E/c%2F//d".to_vec(),
            b"user@[::1]:15000".to_vec(),
            b"%REQ(X?Y):3% %START_TIME%\n".to_vec(),
            b"\0\0\0\0\x03abc\x01\0\0\0\0".to_vec(),
        ],
        fuzzing::first_bytes,
        5_000,
    );
}

#[test]
fn configurations_are_compiled_or_refused() {
    let update = r#"{"version":2,"complete":true,"node":{"accessLog":true,"accessLogFormat":{"text":"%RESPONSE_CODE%"}},
        "listeners":{"l":{"name":"l","address":"127.0.0.1:0","direction":"inbound","accept":"redirected","filterChains":[
            {"name":"c","destinationPort":80,"destinations":["10.0.0.0/8","*.a"],"serverNames":["*.b"],
             "filter":{"tcp":{"statPrefix":"t","clusters":[{"name":"x","weight":1},{"name":"y","weight":4294967295}]}}}]}},
        "routes":{"r":{"name":"r","virtualHosts":[{"name":"v","domains":["a","*.b","c.*","*"],"routes":[
            {"name":"1","match":{"path":{"regex":"/(a|b)*"}},"action":{"forward":{"clusters":[{"name":"x","weight":0}],"timeout":"1.5s"}},
             "requestHeaders":{"set":[["x-a","%REQ(b)%"]],"remove":["c"]}}]}]}},
        "clusters":{"x":{"name":"x","discovery":"eds","connectTimeout":"1s"}},
        "endpoints":{"x":{"clusterName":"x","endpoints":[{"address":"1.2.3.4:5","workload":{}}]}}}"#;
    run(&[update.as_bytes().to_vec()], fuzzing::config, 3_000);
}
