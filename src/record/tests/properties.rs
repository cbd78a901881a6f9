//! Properties over generated batches, and the differential against the `kafka-protocol` crate.
//!
//! That crate is the oracle with its known limits in mind: it keeps headers in a map (keys are
//! unique here where it reads or writes), wants UTF-8 keys, knows no LogAppendTime, and must not
//! see hostile counts, because it allocates what they claim.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::{check, resealed};
use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

const LIMIT: usize = 1 << 20;

const OPTIONS: ValidateOptions = ValidateOptions {
    require_keys: false,
    decompressed_bytes_max: LIMIT,
    timestamp_window_ms: None,
};

/// One record of the model.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn models() -> impl Strategy<Value = Vec<Model>> {
    let bytes = || proptest::option::of(vec(any::<u8>(), 0..80));
    let headers = vec(("[a-c]{0,2}", proptest::option::of(vec(any::<u8>(), 0..9))), 0..4);
    let timestamp =
        prop_oneof![0i64..1000, 1_700_000_000_000i64..1_700_000_100_000, 0..i64::MAX / 4];
    let one = (timestamp, bytes(), bytes(), headers)
        .prop_map(|(timestamp, key, value, headers)| Model { timestamp, key, value, headers });
    vec(one, 1..40)
}

fn codecs() -> impl Strategy<Value = Compression> {
    proptest::sample::select(&Compression::ALL[..])
}

/// A batch as a producer that takes the smallest timestamp as its base, with producer id 5.
fn build(codec: Compression, models: &[Model]) -> Bytes {
    let base = models.iter().map(|model| model.timestamp).min().unwrap();
    let mut builder = BatchBuilder::new(codec, base);
    for model in models {
        let headers: Vec<_> =
            model.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref())).collect();
        builder.append(model.timestamp, model.key.as_deref(), model.value.as_deref(), &headers);
    }
    builder.producer(ProducerId(5), ProducerEpoch(1), Sequence(100)).build().unwrap()
}

fn walk(batch: StoredBatch<'_>) -> Vec<(Offset, Model)> {
    let mut out = Vec::new();
    let mut records = records(batch, LIMIT).unwrap();
    while let Some(record) = records.next_record() {
        let record = record.unwrap();
        let headers = record.headers().map(|(name, value)| {
            (String::from_utf8(name.to_vec()).unwrap(), value.map(<[u8]>::to_vec))
        });
        let model = Model {
            timestamp: record.timestamp(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: headers.collect(),
        };
        out.push((record.offset(), model));
    }
    out
}

fn numbered(base: i64, models: &[Model]) -> Vec<(Offset, Model)> {
    (base..).map(Offset).zip(models.iter().cloned()).collect()
}

/// The oracle keeps the last of several headers with one key.
fn with_unique_headers(mut models: Vec<Model>) -> Vec<Model> {
    for model in &mut models {
        let mut seen = Vec::new();
        model.headers.retain(|(name, _)| {
            let fresh = !seen.contains(name);
            seen.push(name.clone());
            fresh
        });
    }
    models
}

fn to_oracle(offset: i64, model: &Model) -> oracle::Record {
    oracle::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 5,
        producer_epoch: 1,
        timestamp_type: oracle::TimestampType::Creation,
        offset,
        sequence: 100 + offset as i32,
        timestamp: model.timestamp,
        key: model.key.clone().map(Bytes::from),
        value: model.value.clone().map(Bytes::from),
        headers: model
            .headers
            .iter()
            .map(|(name, value)| {
                (StrBytes::from_string(name.clone()), value.clone().map(Bytes::from))
            })
            .collect(),
    }
}

fn oracle_codec(codec: Compression) -> oracle::Compression {
    match codec {
        Compression::None => oracle::Compression::None,
        Compression::Gzip => oracle::Compression::Gzip,
        Compression::Snappy => oracle::Compression::Snappy,
        Compression::Lz4 => oracle::Compression::Lz4,
        Compression::Zstd => oracle::Compression::Zstd,
    }
}

fn oracle_encode(codec: Compression, models: &[Model]) -> Bytes {
    let records: Vec<_> = (0..).zip(models).map(|(at, model)| to_oracle(at, model)).collect();
    let options = oracle::RecordEncodeOptions { version: 2, compression: oracle_codec(codec) };
    let mut out = BytesMut::new();
    oracle::RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
    out.freeze()
}

/// Everything that a broker may do with a batch, on bytes that may be anything. What it gives is
/// looked at for one thing: memory stays under the limit.
fn exercise(bytes: &Bytes, limit: usize) {
    for batch in stored_batches(bytes).flatten() {
        let _ = find_timestamp(batch, batch.max_timestamp(), limit);
        let _ = find_max_timestamp(batch, limit);
        if let Ok(mut records) = records(batch, limit) {
            while let Some(record) = records.next_record() {
                if let Ok(record) = record {
                    assert!(record.headers().count() <= batch.len_bytes().max(limit));
                }
            }
        }
        for codec in Compression::ALL {
            if let Ok(plain) = decompress(codec, batch.payload(), limit) {
                assert!(plain.len() <= limit && plain.capacity() <= (limit + 1).max(4096));
            }
        }
    }
    let Ok(batch) = check(bytes.clone()) else { return };
    let options = ValidateOptions { decompressed_bytes_max: limit, ..OPTIONS };
    if batch.validate_records(&options).is_ok() {
        let packed = batch.recompress(Compression::Lz4, limit).unwrap();
        let packed = check(packed.bytes().clone()).unwrap();
        // Plain records may exceed the limit, since they cost no memory; packed ones may not.
        let verdict = packed.validate_records(&options);
        let too_large = BatchError::TooLarge { bytes_max: limit };
        assert!(verdict.is_ok() || verdict == Err(too_large.into()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_built_is_what_is_walked_and_survives_stamping_and_recompression(
        models in models(), codec in codecs(), other in codecs(), base in 0..i64::MAX / 2
    ) {
        let batch = check(build(codec, &models)).unwrap();
        let newest = models.iter().map(|model| model.timestamp).max().unwrap();
        prop_assert_eq!(batch.max_timestamp(), newest);
        prop_assert_eq!(batch.validate_records(&OPTIONS).unwrap().max_timestamp_ms, newest);
        let batch = batch.recompress(other, LIMIT).unwrap();
        let mut log = vec![0; batch.len_bytes()];
        let stamp = Stamp {
            base_offset: Offset(base),
            leader_epoch: LeaderEpoch(3),
            log_append_time_ms: None,
        };
        batch.copy_front(&mut log, &batch.stamped(&stamp));
        let (stored, _) = StoredBatch::split_first(&log).unwrap();
        prop_assert!(stored.crc_matches());
        prop_assert_eq!(walk(stored), numbered(base, &models));
        prop_assert_eq!(stored.last_offset().0, base + models.len() as i64 - 1);
    }

    #[test]
    fn a_time_is_found_where_a_plain_search_finds_it(
        models in models(), codec in codecs(), target in any::<i64>(), pick in any::<prop::sample::Index>()
    ) {
        let batch = check(build(codec, &models)).unwrap();
        for target in [target, models[pick.index(models.len())].timestamp] {
            let expected = models.iter().position(|model| model.timestamp >= target);
            let found = find_timestamp(batch.as_stored(), target, LIMIT).unwrap();
            let expected = expected.map(|at| (Offset(at as i64), models[at].timestamp));
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_oracle_reads_what_we_write(models in models(), codec in codecs()) {
        let models = with_unique_headers(models);
        let mut bytes = build(codec, &models);
        let set = oracle::RecordBatchDecoder::decode(&mut bytes).unwrap();
        let expected: Vec<_> =
            (0..).zip(&models).map(|(at, model)| to_oracle(at, model)).collect();
        prop_assert_eq!(set.records, expected);
        prop_assert_eq!(set.compression, oracle_codec(codec));
    }

    #[test]
    fn we_read_what_the_oracle_writes(models in models(), codec in codecs()) {
        let models = with_unique_headers(models);
        let bytes = oracle_encode(codec, &models);
        if codec == Compression::None || codec == Compression::Snappy {
            prop_assert_eq!(&bytes, &build(codec, &models), "byte for byte");
        }
        let batch = check(bytes).unwrap();
        prop_assert!(batch.validate_records(&OPTIONS).is_ok());
        prop_assert_eq!(walk(batch.as_stored()), numbered(0, &models));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic_or_exceed_its_limit(
        bytes in vec(any::<u8>(), 0..400), limit in 0usize..20_000
    ) {
        let bytes = Bytes::from(bytes);
        exercise(&bytes, limit);
        // The same bytes behind a sound length, magic and CRC.
        let mut framed = BytesMut::from(bytes.as_ref());
        if framed.len() >= 61 {
            framed[16] = 2;
            framed[22] %= 5;
            exercise(&resealed(framed), limit);
        }
    }

    #[test]
    fn no_damage_to_a_sound_batch_makes_it_panic_or_exceed_its_limit(
        models in models(),
        codec in codecs(),
        damage in vec((21usize..2000, any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        limit in 0usize..20_000,
    ) {
        let mut bytes = BytesMut::from(build(codec, &models).as_ref());
        let len = bytes.len();
        for (at, with) in damage {
            bytes[21 + (at - 21) % (len - 21)] = with;
        }
        exercise(&resealed(bytes.clone()), limit);
        bytes.truncate(61 + cut.index(len - 60));
        exercise(&resealed(bytes), limit);
    }
}
