//! Which shard and which data directory a partition gets. Pure: places in, places out.
//!
//! A topic is spread first (its partitions are written at the same time), then the whole: of the
//! shards that hold the fewest of this topic's partitions, the one with the fewest of all.

use rustc_hash::FxHashMap;

use super::command::PartitionMove;
use super::identity::DirectoryId;
use super::image::{MetadataImage, PartitionImage};
use crate::base::ids::{ShardId, TopicId};

/// How many partitions each shard and each directory holds.
#[derive(Clone, Debug)]
pub struct Placement {
    shards: Spread,
    directories: Vec<DirectoryId>,
    directory_spread: Spread,
    /// For each directory, how many of its partitions each shard holds.
    pairs: Vec<Vec<usize>>,
    /// For each directory, whether it takes new partitions.
    usable: Vec<bool>,
}

/// Partitions held by each of some places: of all topics, and of the topic being placed.
#[derive(Clone, Debug)]
struct Spread {
    all: Vec<usize>,
    of_topic: Vec<usize>,
}

impl Spread {
    fn new(places: usize) -> Spread {
        Spread { all: vec![0; places], of_topic: vec![0; places] }
    }

    fn add(&mut self, place: usize, is_of_topic: bool) {
        if let (Some(all), Some(of_topic)) = (self.all.get_mut(place), self.of_topic.get_mut(place))
        {
            *all += 1;
            *of_topic += usize::from(is_of_topic);
        }
    }

    /// The place with the fewest of the topic, then of all, then of `ties`, among those that
    /// `allows` lets through.
    fn take_least(&mut self, ties: &[usize], allows: impl Fn(usize) -> bool) -> usize {
        let places = (0..self.all.len()).filter(|place| allows(*place));
        let key = |place: &usize| {
            (self.of_topic[*place], self.all[*place], ties.get(*place).copied().unwrap_or(0))
        };
        let least = places.min_by_key(key).unwrap_or(0);
        self.add(least, true);
        least
    }

    fn next_topic(&mut self) {
        self.of_topic.fill(0);
    }
}

impl Placement {
    /// Counts what the image holds, for a topic that it holds already (to grow it) or does not.
    ///
    /// # Panics
    /// Without shards or directories: a started broker has at least one of each.
    #[must_use]
    pub fn of_image(image: &MetadataImage, topic: Option<TopicId>) -> Placement {
        let mut placement = Placement::empty(image.shard_count(), image.directories());
        let numbers: FxHashMap<DirectoryId, usize> =
            image.directories().iter().enumerate().map(|(at, id)| (*id, at)).collect();
        for (tp, _, place) in image.all_partitions() {
            let is_of_topic = Some(tp.topic_id) == topic;
            placement.shards.add(place.shard().0.into(), is_of_topic);
            if let Some(number) = numbers.get(&place.directory()) {
                placement.directory_spread.add(*number, is_of_topic);
                if let Some(pair) = placement.pairs[*number].get_mut(usize::from(place.shard().0)) {
                    *pair += 1;
                }
            }
        }
        placement
    }

    /// Lets new partitions only into `directories`; `None` if there is none.
    #[must_use]
    pub fn only_in(mut self, directories: &[DirectoryId]) -> Option<Placement> {
        self.usable = self.directories.iter().map(|id| directories.contains(id)).collect();
        self.usable.contains(&true).then_some(self)
    }

    fn empty(shard_count: u16, directories: &[DirectoryId]) -> Placement {
        assert!(shard_count > 0 && !directories.is_empty(), "a started broker has places");
        Placement {
            shards: Spread::new(shard_count.into()),
            directories: directories.to_vec(),
            directory_spread: Spread::new(directories.len()),
            pairs: vec![vec![0; shard_count.into()]; directories.len()],
            usable: vec![true; directories.len()],
        }
    }

    /// Places the partitions of a new topic, after those of the topics before it.
    #[must_use]
    pub fn place_topic(&mut self, count: usize, epoch_base: i32) -> Vec<PartitionImage> {
        self.shards.next_topic();
        self.directory_spread.next_topic();
        self.place(count, epoch_base)
    }

    /// Places `count` more partitions of the topic that was counted or placed last.
    #[must_use]
    pub fn place(&mut self, count: usize, epoch_base: i32) -> Vec<PartitionImage> {
        (0..count)
            .map(|_| {
                let number = self.directory_spread.take_least(&[], |place| self.usable[place]);
                PartitionImage::new(self.take_shard(number), self.directories[number], epoch_base)
            })
            .collect()
    }

    /// A shard for a partition in the directory of that number: of two shards that hold as many
    /// partitions, the one with fewer in this directory, so that every core uses every directory.
    fn take_shard(&mut self, directory: usize) -> ShardId {
        let shard = self.shards.take_least(&self.pairs[directory], |_| true);
        self.pairs[directory][shard] += 1;
        ShardId(u16::try_from(shard).expect("no more shards than a u16 counts"))
    }
}

/// Moves that spread all partitions over `shard_count` shards as if they were created there in the
/// order of their topics' names. Directories stay: moving a partition between shards costs nothing
/// at a start, moving its files would.
#[must_use]
pub fn moves_to_shards(image: &MetadataImage, shard_count: u16) -> Vec<PartitionMove> {
    let mut placement = Placement::empty(shard_count, image.directories());
    let mut moves = Vec::new();
    let mut topic_now = None;
    for (tp, _, place) in image.all_partitions() {
        if topic_now != Some(tp.topic_id) {
            topic_now = Some(tp.topic_id);
            placement.shards.next_topic();
        }
        let number = image.directories().iter().position(|id| *id == place.directory());
        let shard = placement.take_shard(number.unwrap_or(0));
        if shard != place.shard() {
            moves.push(PartitionMove::new(tp.topic_id, tp.partition, shard));
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::super::command::MetadataCommand;
    use super::*;
    use std::collections::BTreeMap;

    const DIRECTORIES: [DirectoryId; 2] =
        [DirectoryId::from_bytes([1; 16]), DirectoryId::from_bytes([2; 16])];

    fn image(shard_count: u16) -> MetadataImage {
        let mut image = MetadataImage::default();
        let directories = DIRECTORIES.to_vec();
        image.apply(&MetadataCommand::RegisterDirectories { directories }).unwrap();
        image.apply(&MetadataCommand::PlacePartitions { shard_count, moves: Vec::new() }).unwrap();
        image
    }

    fn create(image: &mut MetadataImage, number: u8, count: usize) {
        let partitions = Placement::of_image(image, None).place(count, 0);
        let name = format!("t{number}");
        let id = TopicId([number; 16]);
        let configs = BTreeMap::new();
        image.apply(&MetadataCommand::CreateTopic { name, id, partitions, configs }).unwrap();
    }

    fn counts(image: &MetadataImage, name: Option<&str>) -> Vec<usize> {
        let mut counts = vec![0; image.shard_count().into()];
        for (_, topic, place) in image.all_partitions() {
            if name.is_none_or(|name| name == &**topic.name()) {
                counts[usize::from(place.shard().0)] += 1;
            }
        }
        counts
    }

    #[test]
    fn topics_of_one_partition_are_spread_over_shards_and_directories() {
        let mut image = image(4);
        for number in 0..8 {
            create(&mut image, number, 1);
        }
        assert_eq!(counts(&image, None), [2, 2, 2, 2]);
        for directory in DIRECTORIES {
            let held = image.all_partitions().filter(|(_, _, p)| p.directory() == directory);
            assert_eq!(held.count(), 4);
        }
    }

    #[test]
    fn every_core_uses_every_directory() {
        for (shards, partitions) in [(2, 16), (4, 32), (3, 36)] {
            let mut image = image(shards);
            for number in 0..4 {
                create(&mut image, number, partitions / 4);
            }
            let mut pairs: BTreeMap<(u16, DirectoryId), usize> = BTreeMap::new();
            for (_, _, place) in image.all_partitions() {
                *pairs.entry((place.shard().0, place.directory())).or_default() += 1;
            }
            assert_eq!(pairs.len(), usize::from(shards) * 2, "{pairs:?}");
            let (least, most) = (pairs.values().min().unwrap(), pairs.values().max().unwrap());
            assert!(most - least <= 2, "{pairs:?}");
        }
    }

    #[test]
    fn a_directory_that_may_not_be_used_gets_nothing_new_and_its_turn_is_made_up_later() {
        let mut image = image(2);
        create(&mut image, 1, 2);
        let only = |image: &MetadataImage, directories: &[DirectoryId]| {
            Placement::of_image(image, None).only_in(directories)
        };
        assert!(only(&image, &[]).is_none());
        let placed = only(&image, &DIRECTORIES[..1]).unwrap().place_topic(4, 0);
        assert!(placed.iter().all(|place| place.directory() == DIRECTORIES[0]));
        let (name, id, configs) = ("t2".to_owned(), TopicId([2; 16]), BTreeMap::new());
        let command = MetadataCommand::CreateTopic { name, id, partitions: placed, configs };
        image.apply(&command).unwrap();
        create(&mut image, 3, 1);
        let placed = image.topic("t3").unwrap().partitions()[0].directory();
        assert_eq!(placed, DIRECTORIES[1], "the one with fewer partitions");
    }

    #[test]
    fn a_topic_is_spread_even_when_one_shard_is_emptier() {
        let mut image = image(2);
        for number in 0..8 {
            create(&mut image, number, 1);
        }
        for number in [1, 3, 5, 7] {
            image.apply(&MetadataCommand::DeleteTopic { id: TopicId([number; 16]) }).unwrap();
        }
        create(&mut image, 9, 4);
        assert_eq!(counts(&image, Some("t9")), [2, 2]);
    }

    #[test]
    fn a_topic_that_grows_goes_where_it_is_thinnest() {
        let mut image = image(2);
        create(&mut image, 1, 3);
        let id = TopicId([1; 16]);
        let partitions = Placement::of_image(&image, Some(id)).place(1, 0);
        assert_eq!(partitions[0].shard(), ShardId(0));
    }

    #[test]
    fn other_numbers_of_shards_spread_every_topic_again_and_keep_directories() {
        let mut image = image(2);
        for number in 0..5 {
            create(&mut image, number, 3);
        }
        let directories = |image: &MetadataImage| -> Vec<DirectoryId> {
            image.all_partitions().map(|(_, _, place)| place.directory()).collect()
        };
        let before = directories(&image);
        for shard_count in [4, 1, 3] {
            let moves = moves_to_shards(&image, shard_count);
            image.apply(&MetadataCommand::PlacePartitions { shard_count, moves }).unwrap();
            let all = counts(&image, None);
            assert!(all.iter().max().unwrap() - all.iter().min().unwrap() <= 1, "{all:?}");
            for number in 0..5 {
                let topic = counts(&image, Some(&format!("t{number}")));
                assert!(topic.iter().max().unwrap() - topic.iter().min().unwrap() <= 1);
            }
            assert!(moves_to_shards(&image, shard_count).is_empty());
            assert_eq!(directories(&image), before);
        }
    }
}
