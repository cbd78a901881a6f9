//! Records go from a batch; what stays, stays as it was.

use super::super::{BatchBuilder, Compression, Retained, StoredBatch, Verdict, records};
use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

type Owned = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

const LIMIT: usize = 1 << 20;

fn content(batch: StoredBatch<'_>) -> Vec<Owned> {
    let mut walk = records(batch, LIMIT).unwrap();
    let mut all = Vec::new();
    while let Some(record) = walk.next_record() {
        let record = record.unwrap();
        let headers = record.headers().map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec)));
        all.push((
            record.offset().0,
            record.timestamp(),
            record.key().map(<[u8]>::to_vec),
            record.value().map(<[u8]>::to_vec),
            headers.collect(),
        ));
    }
    all
}

fn batch_of(compression: Compression, count: i64) -> super::super::RecordBatch {
    let mut builder = BatchBuilder::new(compression, 5_000);
    for idx in 0..count {
        let key = format!("key {idx}");
        let value = format!("value {idx}");
        let value = (idx % 5 != 4).then_some(value.as_bytes());
        builder.append(
            5_000 + 700 * (idx % 3),
            Some(key.as_bytes()),
            value,
            &[(b"h", None), (b"i", Some(b"j"))],
        );
    }
    builder.producer(ProducerId(9), ProducerEpoch(3), Sequence(40));
    builder.place(Offset(1_000), LeaderEpoch(6));
    builder.build_batch().unwrap()
}

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

#[test]
fn what_stays_keeps_offset_time_content_codec_and_sequence() {
    for codec in CODECS {
        let before = batch_of(codec, 20);
        let keep = |offset: i64| offset % 3 == 0;
        let judge = |record: &super::super::Record<'_>| {
            if keep(record.offset().0) { Verdict::Keep } else { Verdict::Drop }
        };
        let Retained::Some(after) = before.as_stored().retain(99, LIMIT, judge).unwrap() else {
            panic!("some go and some stay")
        };
        let expected: Vec<Owned> =
            content(before.as_stored()).into_iter().filter(|it| keep(it.0)).collect();
        assert_eq!(content(after.as_stored()), expected);
        let (old, new) = (before.as_stored(), after.as_stored());
        assert!(new.crc_matches());
        assert_eq!(new.delete_horizon_ms(), None);
        assert_eq!(new.max_timestamp(), expected.iter().map(|it| it.1).max().unwrap());
        assert_eq!((new.base_offset(), new.last_offset()), (old.base_offset(), old.last_offset()));
        assert_eq!(
            (new.leader_epoch(), new.compression()),
            (old.leader_epoch(), old.compression())
        );
        assert_eq!(new.producer(), old.producer());
    }
}

#[test]
fn a_delete_horizon_takes_the_place_of_the_base_timestamp_and_changes_no_record() {
    for codec in CODECS {
        let before = batch_of(codec, 10);
        let judge = |record: &super::super::Record<'_>| {
            if record.value().is_none() { Verdict::KeepForNow } else { Verdict::Keep }
        };
        let Retained::Some(after) = before.as_stored().retain(777_000, LIMIT, judge).unwrap()
        else {
            panic!("it has tombstones")
        };
        assert_eq!(after.as_stored().delete_horizon_ms(), Some(777_000));
        assert_eq!(content(after.as_stored()), content(before.as_stored()));
        assert!(after.as_stored().crc_matches());
        // The horizon that is there stays.
        assert!(matches!(after.as_stored().retain(888_000, LIMIT, judge).unwrap(), Retained::All));
    }
}

#[test]
fn a_batch_that_loses_nothing_is_left_alone_and_one_that_loses_all_has_only_its_header() {
    let before = batch_of(Compression::Zstd, 10);
    let all = before.as_stored().retain(1, LIMIT, |_| Verdict::Keep).unwrap();
    assert!(matches!(all, Retained::All));
    let nothing = before.as_stored().retain(1, LIMIT, |_| Verdict::Drop).unwrap();
    assert!(matches!(nothing, Retained::Nothing));
    let empty = before.as_stored().emptied().unwrap();
    let stored = empty.as_stored();
    assert!(stored.crc_matches());
    assert_eq!((stored.record_count(), stored.len_bytes()), (0, 61));
    assert_eq!((stored.base_offset(), stored.last_offset()), (Offset(1_000), Offset(1_009)));
    assert_eq!(stored.producer(), before.as_stored().producer());
    assert!(content(stored).is_empty());
    assert!(matches!(stored.retain(1, LIMIT, |_| Verdict::Keep).unwrap(), Retained::Nothing));
}

#[test]
fn broken_records_are_an_error_and_never_dropped_in_silence() {
    let whole = super::sample(Compression::None, 3);
    let cut = super::with_payload(&whole, &whole[61..whole.len() - 2]);
    let (batch, _) = StoredBatch::split_first(&cut).unwrap();
    assert!(batch.retain(1, LIMIT, |_| Verdict::Keep).is_err());
    let packed = batch_of(Compression::Gzip, 100);
    assert!(packed.as_stored().retain(1, 100, |_| Verdict::Keep).is_err(), "beyond the limit");
}
