//! The latest offset of every key of a part of a log, in a bounded amount of memory.
//!
//! Keys are kept as 128 bits of keyed hashes: a collision would delete a record, so their number is
//! chosen large and the hashes' own keys are random, which keeps anybody from making one.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::base::ids::Offset;

/// Bytes of a place in the table.
const PLACE_BYTES: usize = size_of::<Place>();

/// The table is full when so many of a hundred places are taken: longer searches cost more than a
/// second pass over the log.
const LOAD_PERCENT: usize = 75;

const PLACES_MIN: usize = 64;

#[derive(Clone, Copy)]
struct Place {
    /// 128 bits, in halves: as one number they would take 16 bytes more.
    hash: [u64; 2],
    /// -1: free.
    offset: i64,
}

const FREE: Place = Place { hash: [0; 2], offset: -1 };

/// Keys with the offsets of their last records.
pub(super) struct OffsetMap {
    hashers: [RandomState; 2],
    places: Vec<Place>,
    len: usize,
    places_max: usize,
}

impl OffsetMap {
    /// An empty map that never takes more than about `bytes_max`, and grows as it is filled.
    pub(super) fn new(bytes_max: usize) -> OffsetMap {
        let largest = (bytes_max / PLACE_BYTES).max(PLACES_MIN);
        // A power of two, so that a hash's low bits are a place.
        let places_max = 1 << largest.ilog2();
        OffsetMap {
            hashers: [RandomState::new(), RandomState::new()],
            places: vec![FREE; PLACES_MIN],
            len: 0,
            places_max,
        }
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Keys that still find room.
    pub(super) fn room(&self) -> usize {
        (self.places_max * LOAD_PERCENT / 100).saturating_sub(self.len)
    }

    /// Lets the map grow to twice its bound: for a single batch with more keys than that.
    pub(super) fn raise_bound(&mut self) {
        self.places_max *= 2;
    }

    /// Notes a record of `key`, if it is later than what is known. The caller looked for room.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) {
        if (self.len + 1) * 100 > self.places.len() * LOAD_PERCENT {
            self.grow();
        }
        let hash = self.hash(key);
        let place = find(&self.places, hash);
        let place = &mut self.places[place];
        if place.offset < 0 {
            self.len += 1;
        }
        *place = Place { hash, offset: place.offset.max(offset.0) };
    }

    /// Offset of the last record of `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let place = self.places[find(&self.places, self.hash(key))];
        (place.offset >= 0).then_some(Offset(place.offset))
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        self.hashers.each_ref().map(|hashers| {
            let mut hasher = hashers.build_hasher();
            hasher.write(key);
            hasher.finish()
        })
    }

    fn grow(&mut self) {
        let mut larger = vec![FREE; self.places.len() * 2];
        for place in self.places.iter().filter(|place| place.offset >= 0) {
            let free = find(&larger, place.hash);
            larger[free] = *place;
        }
        self.places = larger;
    }
}

/// Where a hash is, or the free place where it belongs. There is always a free one.
fn find(places: &[Place], hash: [u64; 2]) -> usize {
    let mask = places.len() - 1;
    let mut at = hash[0] as usize & mask;
    while places[at].offset >= 0 && places[at].hash != hash {
        at = (at + 1) & mask;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn every_key_has_its_last_offset_however_the_table_grew() {
        let mut map = OffsetMap::new(1 << 20);
        let mut model = HashMap::new();
        for offset in 0..20_000_i64 {
            let key = (offset * offset % 7_919).to_string();
            map.put(key.as_bytes(), Offset(offset));
            model.insert(key, offset);
        }
        assert_eq!(map.len(), model.len());
        for (key, offset) in model {
            assert_eq!(map.get(key.as_bytes()), Some(Offset(offset)));
        }
        assert_eq!(map.get(b"none"), None);
        map.put(b"0", Offset(0));
        assert_ne!(map.get(b"0"), Some(Offset(0)), "an earlier record changes nothing");
    }

    #[test]
    fn the_bound_holds_and_can_be_raised() {
        let bytes_max = 100 << 10;
        let mut map = OffsetMap::new(bytes_max);
        let room = map.room();
        assert!(room >= 1_000, "{room}");
        for key in 0..room {
            map.put(&key.to_le_bytes(), Offset(0));
        }
        assert_eq!(map.room(), 0);
        assert!(map.places.len() * PLACE_BYTES <= bytes_max);
        map.raise_bound();
        assert_eq!(map.room(), room, "twice as many");
    }
}
