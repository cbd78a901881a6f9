//! CRC-32C (Castagnoli), the checksum of record batches and of every structure on disk.

/// CRC-32C of `bytes`.
#[inline]
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}

/// Continues `crc` over `bytes`: `crc32c_append(crc32c(a), b)` equals the CRC of `a` then `b`.
#[inline]
#[must_use]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    ::crc32c::crc32c_append(crc, bytes)
}

/// The CRC of `a` then `b` from the CRCs of both and the length of `b`, without reading them:
/// logarithmic in the length.
#[inline]
#[must_use]
pub fn crc32c_combine(crc_a: u32, crc_b: u32, b_len: usize) -> u32 {
    ::crc32c::crc32c_combine(crc_a, crc_b, b_len)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_of_rfc_3720_holds() {
        assert_eq!(super::crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(super::crc32c_append(super::crc32c(b"1234"), b"56789"), 0xE306_9283);
    }
}
