//! Variable-length integers as Kafka writes them: unsigned (tagged fields, compact lengths) and
//! zig-zag signed (records). Decoding refuses overlong forms.

/// Reads an unsigned varint of at most 5 bytes. Returns the value and the bytes it took.
#[inline]
#[must_use]
pub fn read_unsigned(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut value: u32 = 0;
    for (idx, &byte) in bytes.iter().take(5).enumerate() {
        let low = u32::from(byte & 0x7f);
        if idx == 4 && byte > 0x0f {
            return None; // overflow of 32 bits, or a sixth byte announced
        }
        value |= low << (7 * idx);
        if byte & 0x80 == 0 {
            return Some((value, idx + 1));
        }
    }
    None
}

/// Reads a zig-zag varint of at most 5 bytes (record lengths, offset deltas).
#[inline]
#[must_use]
pub fn read_signed(bytes: &[u8]) -> Option<(i32, usize)> {
    let (raw, len) = read_unsigned(bytes)?;
    Some((((raw >> 1) as i32) ^ -((raw & 1) as i32), len))
}

/// Reads a zig-zag varlong of at most 10 bytes (timestamp deltas).
#[inline]
#[must_use]
pub fn read_signed_long(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut raw: u64 = 0;
    for (idx, &byte) in bytes.iter().take(10).enumerate() {
        if idx == 9 && byte > 1 {
            return None;
        }
        raw |= u64::from(byte & 0x7f) << (7 * idx);
        if byte & 0x80 == 0 {
            return Some((((raw >> 1) as i64) ^ -((raw & 1) as i64), idx + 1));
        }
    }
    None
}

/// Appends an unsigned varint.
pub fn write_unsigned(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a zig-zag varint.
pub fn write_signed(out: &mut Vec<u8>, value: i32) {
    write_unsigned(out, ((value << 1) ^ (value >> 31)) as u32);
}

/// Appends a zig-zag varlong.
pub fn write_signed_long(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push((raw as u8 & 0x7f) | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_survives_the_round_trip() {
        for value in [0, 1, -1, 63, 64, -64, -65, 8191, 1 << 20, i32::MAX, i32::MIN] {
            let mut out = Vec::new();
            write_signed(&mut out, value);
            assert_eq!(read_signed(&out), Some((value, out.len())));
        }
        for value in [0, -1, i64::MAX, i64::MIN, 1 << 40] {
            let mut out = Vec::new();
            write_signed_long(&mut out, value);
            assert_eq!(read_signed_long(&out), Some((value, out.len())));
        }
    }

    #[test]
    fn overlong_and_unfinished_forms_are_refused() {
        assert_eq!(read_unsigned(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None);
        assert_eq!(read_unsigned(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]), None);
        assert_eq!(read_unsigned(&[0x80]), None);
        assert_eq!(read_unsigned(&[]), None);
        assert_eq!(read_signed_long(&[0xff; 10]), None);
    }
}
