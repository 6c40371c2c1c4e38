//! Reproducible random numbers and ids.

/// Computes one step of splitmix64, which is cheap, well distributed, and the same on every machine.
pub(crate) fn splitmix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Converts the upper 53 bits to a number from 0 to 1, excluding 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit in the mantissa")]
pub(crate) fn unit_interval(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Formats these bits as a version 4 UUID.
pub(super) fn uuid(high: u64, low: u64) -> String {
    let variant = (low >> 48) & 0x3fff | 0x8000;
    let (time_low, time_mid, time_high) = (high >> 32, (high >> 16) & 0xffff, high & 0xfff);
    format!("{time_low:08x}-{time_mid:04x}-4{time_high:03x}-{variant:04x}-{:012x}", low & 0xffff_ffff_ffff)
}
