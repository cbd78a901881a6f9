//! The records of tests/clients/README.md, the same in every driver.

/// Records in the sample.
pub const COUNT: usize = 40;
/// Timestamp of record 0 in milliseconds.
pub const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

const SIZES: [usize; 12] = [0, 1, 2, 10, 100, 1000, 4095, 4096, 4097, 16384, 65536, 204_800];

/// Headers in order: name and value.
pub type Headers = Vec<(&'static str, Option<Vec<u8>>)>;

pub fn value(i: usize) -> Option<Vec<u8>> {
    if i % 13 == 7 {
        return None;
    }
    let byte = |j: usize| {
        if i.is_multiple_of(2) {
            ((i * 31 + j * 7 + (j >> 8)) & 255) as u8
        } else {
            b'a' + (j % 3) as u8
        }
    };
    Some((0..SIZES[i % 12]).map(byte).collect())
}

pub fn key(i: usize) -> Option<Vec<u8>> {
    match i % 4 {
        0 => None,
        1 => Some(Vec::new()),
        _ => {
            let mut key = format!("key-{i}").into_bytes();
            key.extend([0, 255, i as u8]);
            Some(key)
        }
    }
}

pub fn headers(i: usize) -> Headers {
    let some = |text: &str| Some(text.as_bytes().to_vec());
    match i % 5 {
        0 => Vec::new(),
        1 => vec![("h", some(&format!("v-{i}")))],
        2 => vec![("d", some("1")), ("d", some("2")), ("d", some("1"))],
        3 => vec![("empty", some("")), ("null", None)],
        _ => vec![("", some("")), ("long", Some(vec![255; 300]))],
    }
}

/// Milliseconds since the epoch.
pub fn timestamp(i: usize) -> i64 {
    BASE_TIMESTAMP + i as i64 * 1000 - if i % 7 == 3 { 30_000 } else { 0 }
}
