//! The controller's promises, on a store in memory.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::command::ALL_BROKERS;
use super::super::store::MemoryStore;
use super::super::topic_config::ConfigSource;
use super::*;
use crate::base::ids::{LeaderEpoch, ShardId, TopicId};

const DIRECTORY: DirectoryId = DirectoryId::from_bytes([1; 16]);

fn open_on(store: &MemoryStore, shard_count: u16) -> Controller {
    let options = ControllerOptions {
        broker: BrokerId(1),
        default_partition_count: 4,
        allows_topic_deletion: true,
        topic_defaults: TopicDefaults::new(BrokerId(1), |_| None),
        directory_states: super::DirectoryStates::default(),
    };
    // Ids must differ between controllers on one store, as real ones do.
    let mut next = u128::from(store.load().unwrap().image.last_index()) << 64;
    let random = Box::new(move || {
        next += 1;
        next.to_be_bytes()
    });
    let facts = StartFacts { shard_count, directories: vec![DIRECTORY] };
    Controller::open(Box::new(store.clone()), options, random, facts).unwrap()
}

fn controller() -> Controller {
    open_on(&MemoryStore::default(), 2)
}

fn topic(name: &str) -> NewTopic {
    NewTopic {
        name: name.into(),
        partition_count: -1,
        replication_factor: -1,
        ..NewTopic::default()
    }
}

fn create(controller: &mut Controller, topic: NewTopic) -> Result<CreatedTopic, CreateTopicError> {
    controller.create_topics(&[topic], false).pop().unwrap()
}

fn assigned(partition: i32, brokers: &[i32]) -> ManualAssignment {
    ManualAssignment { partition, brokers: brokers.to_vec() }
}

fn change(name: &str, operation: ConfigOperation, value: &str) -> ConfigChange {
    ConfigChange { name: name.into(), operation, value: Some(value.into()) }
}

fn alter(
    controller: &mut Controller,
    resource: ConfigResource,
    changes: &[ConfigChange],
) -> Result<(), AlterConfigsError> {
    let entry = AlterConfigs { resource, changes: changes.to_vec() };
    controller.alter_configs(&[entry], false).pop().unwrap()
}

#[test]
fn a_topic_gets_the_brokers_numbers_and_a_place_on_every_shard() {
    let mut controller = controller();
    let created = create(&mut controller, topic("a")).unwrap();
    assert_eq!((created.partition_count, created.replication_factor), (4, 1));
    assert_eq!(created.configs.len(), 33);
    assert!(controller.commit().unwrap());
    let image = controller.image();
    assert_eq!(image.topic("a").unwrap().id(), created.id);
    for shard in [ShardId(0), ShardId(1)] {
        assert_eq!(image.partitions_of_shard(shard).count(), 2);
    }
}

#[test]
fn wrong_numbers_get_kafkas_errors() {
    let mut controller = controller();
    let with = |partition_count, replication_factor| NewTopic {
        partition_count,
        replication_factor,
        ..topic("a")
    };
    for count in [0, -2, i32::MIN] {
        let error = create(&mut controller, with(count, -1)).unwrap_err();
        assert_eq!(error, CreateTopicError::InvalidPartitionCount);
    }
    for factor in [0, -2, 2, 3] {
        let error = create(&mut controller, with(1, factor)).unwrap_err();
        assert!(matches!(error, CreateTopicError::InvalidReplicationFactor(_)), "{factor}");
    }
    let error = create(&mut controller, with(i32::MAX, 1)).unwrap_err();
    assert_eq!(error, CreateTopicError::TooManyPartitions);
    let error = create(&mut controller, with(0, 2)).unwrap_err();
    assert_eq!(error, CreateTopicError::InvalidPartitionCount, "Kafka looks at it first");
    let half = |name: &str| NewTopic { partition_count: 5_001, ..topic(name) };
    let answers = controller.create_topics(&[half("a"), half("b")], false);
    assert_eq!(answers, vec![Err(CreateTopicError::TooManyPartitions); 2]);
    assert!(!controller.commit().unwrap(), "nothing was decided");
}

#[test]
fn a_manual_assignment_names_this_node_and_every_index_once() {
    let mut controller = controller();
    let with = |assignments: Vec<ManualAssignment>| NewTopic { assignments, ..topic("a") };
    for bad in [
        vec![assigned(0, &[])],
        vec![assigned(0, &[2])],
        vec![assigned(0, &[1, 1])],
        vec![assigned(0, &[1]), assigned(0, &[1])],
        vec![assigned(1, &[1])],
        vec![assigned(0, &[1]), assigned(2, &[1])],
        vec![assigned(-1, &[1])],
    ] {
        let error = create(&mut controller, with(bad.clone())).unwrap_err();
        assert!(matches!(error, CreateTopicError::InvalidAssignment(_)), "{bad:?}: {error}");
    }
    let numbers = NewTopic { partition_count: 1, ..with(vec![assigned(0, &[1])]) };
    let error = create(&mut controller, numbers).unwrap_err();
    assert_eq!(error, CreateTopicError::AssignmentWithNumbers("numPartitions"));
    let good = with(vec![assigned(1, &[1]), assigned(0, &[1])]);
    assert_eq!(create(&mut controller, good).unwrap().partition_count, 2);
}

#[test]
fn names_that_exist_collide_or_repeat_are_refused() {
    let mut controller = controller();
    create(&mut controller, topic("a.b")).unwrap();
    assert_eq!(create(&mut controller, topic("a.b")), Err(CreateTopicError::Exists("a.b".into())));
    for name in ["a_b", "", "..", "x y", "__cluster_metadata"] {
        assert!(create(&mut controller, topic(name)).is_err(), "{name}");
    }
    assert!(create(&mut controller, topic("a-b")).is_ok());
    let answers = controller.create_topics(&[topic("c"), topic("d"), topic("c")], false);
    assert_eq!(answers[0], Err(CreateTopicError::DuplicateInRequest));
    assert!(answers[1].is_ok());
    assert_eq!(answers[2], Err(CreateTopicError::DuplicateInRequest));
    assert!(controller.image().topic("c").is_none());
}

#[test]
fn validate_only_answers_the_same_and_changes_nothing() {
    let mut controller = controller();
    let answers = controller.create_topics(&[topic("a"), topic("b b")], true);
    assert!(answers[0].is_ok() && answers[1].is_err());
    assert!(!controller.commit().unwrap());
    assert_eq!(controller.image().topic_count(), 0);
}

#[test]
fn configs_of_a_new_topic_are_checked_and_shown() {
    let mut controller = controller();
    let with = |name: &str, value: Option<&str>| NewTopic {
        configs: vec![(name.into(), value.map(Into::into))],
        ..topic("a")
    };
    for (name, value) in [
        ("no.such.config", Some("1")),
        ("retention.ms", Some("abc")),
        ("retention.ms", None),
        ("cleanup.policy", Some("shred")),
        ("remote.storage.enable", Some("true")),
    ] {
        let error = create(&mut controller, with(name, value)).unwrap_err();
        assert!(matches!(error, CreateTopicError::InvalidConfig(_)), "{name}: {error}");
    }
    let created = create(&mut controller, with("retention.ms", Some(" 5 "))).unwrap();
    let shown = created.configs.iter().find(|config| config.name == "retention.ms").unwrap();
    assert_eq!((shown.value.as_deref(), shown.source), (Some("5"), ConfigSource::Topic));
}

#[test]
fn topics_are_deleted_by_name_or_id_but_not_twice_in_one_request() {
    let mut controller = controller();
    let ids: Vec<TopicId> =
        ["a", "b", "c"].map(|name| create(&mut controller, topic(name)).unwrap().id).into();
    let name = |name: &str| TopicReference::Name(name.into());
    let answers = controller.delete_topics(&[
        name("a"),
        TopicReference::Id(ids[1]),
        name("c"),
        TopicReference::Id(ids[2]),
        name("z"),
        TopicReference::Id(TopicId([9; 16])),
    ]);
    assert_eq!(answers[0].as_ref().unwrap().id, ids[0]);
    assert_eq!(answers[1].as_ref().unwrap().name, "b");
    assert_eq!(answers[2], Err(DeleteTopicError::DuplicateInRequest));
    assert_eq!(answers[3], Err(DeleteTopicError::DuplicateInRequest));
    assert_eq!(answers[4], Err(DeleteTopicError::UnknownName));
    assert_eq!(answers[5], Err(DeleteTopicError::UnknownId));
    controller.options.allows_topic_deletion = false;
    let refused = controller.delete_topics(&[name("c")]);
    assert_eq!(refused, [Err(DeleteTopicError::DeletionDisabled)]);
}

#[test]
fn a_topic_grows_and_never_shrinks() {
    let mut controller = controller();
    create(&mut controller, topic("a")).unwrap();
    let mut grow = |name: &str, partition_count, assignments| {
        let wanted = MorePartitions { name: name.into(), partition_count, assignments };
        controller.create_partitions(&[wanted], false).pop().unwrap()
    };
    for count in [4, 3, 0, -1] {
        let error = grow("a", count, None).unwrap_err();
        assert!(matches!(error, CreatePartitionsError::InvalidPartitionCount(_)), "{error}");
    }
    assert_eq!(grow("z", 5, None), Err(CreatePartitionsError::UnknownTopic));
    assert_eq!(grow("a", i32::MAX, None), Err(CreatePartitionsError::TooManyPartitions));
    for bad in [vec![], vec![vec![2]], vec![vec![1], vec![1]], vec![vec![]]] {
        let error = grow("a", 5, Some(bad)).unwrap_err();
        assert!(matches!(error, CreatePartitionsError::InvalidAssignment(_)), "{error}");
    }
    assert_eq!(grow("a", 5, Some(vec![vec![1]])), Ok(()));
    assert_eq!(grow("a", 6, None), Ok(()));
    let image = controller.image();
    assert_eq!(image.topic("a").unwrap().partitions().len(), 6);
    assert_eq!(image.partitions_of_shard(ShardId(0)).count(), 3);
}

#[test]
fn all_four_operations_change_a_topics_configs() {
    use ConfigOperation::{Append, Delete, Set, Subtract};
    let mut controller = controller();
    create(&mut controller, topic("a")).unwrap();
    let on = || ConfigResource::Topic("a".into());
    let own = |controller: &Controller, name: &str| {
        controller.image().topic("a").unwrap().configs().get(name).cloned()
    };
    alter(&mut controller, on(), &[change("retention.ms", Set, "9")]).unwrap();
    assert_eq!(own(&controller, "retention.ms").as_deref(), Some("9"));
    alter(&mut controller, on(), &[change("cleanup.policy", Append, "compact")]).unwrap();
    assert_eq!(own(&controller, "cleanup.policy").as_deref(), Some("delete,compact"));
    alter(&mut controller, on(), &[change("cleanup.policy", Subtract, "delete")]).unwrap();
    assert_eq!(own(&controller, "cleanup.policy").as_deref(), Some("compact"));
    let gone = ConfigChange { value: None, ..change("retention.ms", Delete, "") };
    alter(&mut controller, on(), std::slice::from_ref(&gone)).unwrap();
    assert_eq!(own(&controller, "retention.ms"), None);
    assert!(controller.commit().unwrap());
    alter(&mut controller, on(), &[gone]).unwrap();
    assert!(!controller.commit().unwrap(), "what changes nothing is not stored");
}

#[test]
fn a_bad_change_leaves_all_of_the_resource_alone() {
    use ConfigOperation::{Append, Set};
    let mut controller = controller();
    create(&mut controller, topic("a")).unwrap();
    let on = || ConfigResource::Topic("a".into());
    let good = change("retention.ms", Set, "9");
    let null = ConfigChange { value: None, ..good.clone() };
    for bad in [
        change("no.such", Set, "1"),
        change("segment.ms", Append, "1"),
        change("flush.messages", Set, "0"),
        null,
        good.clone(),
    ] {
        assert!(alter(&mut controller, on(), &[good.clone(), bad.clone()]).is_err(), "{bad:?}");
    }
    assert!(controller.image().topic("a").unwrap().configs().is_empty());
    let mut error_of = |name: &str| {
        let on = ConfigResource::Topic(name.into());
        alter(&mut controller, on, std::slice::from_ref(&good)).unwrap_err()
    };
    assert_eq!(error_of("z"), AlterConfigsError::UnknownTopic("z".into()));
    assert!(matches!(error_of("z z"), AlterConfigsError::InvalidName(_)));
    assert!(matches!(error_of(""), AlterConfigsError::InvalidRequest(_)));
    let entry = AlterConfigs { resource: on(), changes: vec![good] };
    let answers = controller.alter_configs(&[entry.clone(), entry], false);
    assert!(answers.iter().all(Result::is_err));
}

#[test]
fn broker_configs_that_stand_behind_topics_change_at_run_time_and_others_do_not() {
    let mut controller = controller();
    let set = |name: &str| [change(name, ConfigOperation::Set, "77")];
    let all = ConfigResource::AllBrokers;
    alter(&mut controller, all.clone(), &set("log.retention.ms")).unwrap();
    alter(&mut controller, ConfigResource::Broker(1), &set("message.max.bytes")).unwrap();
    let image = controller.image();
    assert_eq!(image.broker_config(ALL_BROKERS, "log.retention.ms"), Some("77"));
    assert_eq!(image.broker_config(1, "message.max.bytes"), Some("77"));
    for name in ["num.partitions", "log.retention.hours", "no.such"] {
        assert!(alter(&mut controller, all.clone(), &set(name)).is_err(), "{name}");
    }
    assert!(alter(&mut controller, ConfigResource::Broker(2), &set("log.retention.ms")).is_err());
    let bad = [change("log.retention.ms", ConfigOperation::Set, "x")];
    let error = alter(&mut controller, all, &bad).unwrap_err();
    let text = "Invalid value x for configuration log.retention.ms: Not a number of type LONG";
    assert_eq!(error, AlterConfigsError::InvalidRequest(text.into()));
}

#[test]
fn a_restart_raises_every_leader_epoch_and_gives_no_producer_id_twice() {
    let store = MemoryStore::default();
    let mut seen = Vec::new();
    for restart in 0..3 {
        let mut controller = open_on(&store, 2);
        if restart == 0 {
            create(&mut controller, topic("a")).unwrap();
        }
        seen.push(controller.allocate_producer_ids().first);
        controller.commit().unwrap();
        let image = controller.image();
        let place = image.topic("a").unwrap().partitions()[0];
        assert_eq!(image.leader_epoch(&place), LeaderEpoch(restart));
    }
    assert_eq!(seen, [0, 1000, 2000]);
}

#[test]
fn another_number_of_shards_places_all_partitions_again() {
    let store = MemoryStore::default();
    let mut controller = open_on(&store, 2);
    create(&mut controller, topic("a")).unwrap();
    controller.commit().unwrap();
    let image = open_on(&store, 4).image();
    for shard in 0..4 {
        assert_eq!(image.partitions_of_shard(ShardId(shard)).count(), 1);
    }
    assert_eq!(open_on(&store, 1).image().partitions_of_shard(ShardId(0)).count(), 4);
}

#[test]
fn a_directory_that_holds_partitions_must_be_given() {
    let store = MemoryStore::default();
    let mut controller = open_on(&store, 1);
    create(&mut controller, topic("a")).unwrap();
    controller.commit().unwrap();
    let facts = StartFacts { shard_count: 1, directories: vec![DirectoryId::from_bytes([2; 16])] };
    let options = controller.options.clone();
    let opened = Controller::open(Box::new(store), options, Box::new(|| [0; 16]), facts);
    let Err(OpenError::MissingDirectory { directory, partition_count }) = opened else {
        panic!("opened without its directory");
    };
    assert_eq!((directory, partition_count), (DIRECTORY, 4));
}

#[test]
fn many_commands_become_a_snapshot_and_stay_readable() {
    let store = MemoryStore::default();
    let mut controller = open_on(&store, 1);
    for _ in 0..COMMANDS_PER_SNAPSHOT + 5 {
        controller.allocate_producer_ids();
        controller.commit().unwrap();
    }
    let loaded = store.load().unwrap();
    assert!(loaded.command_count < 20, "{}", loaded.command_count);
    assert_eq!(loaded.image, *controller.image());
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn an_answer_comes_after_every_shard_has_the_image() {
    run(async {
        let (handle, inbox) = controller_channel();
        let published = Rc::new(RefCell::new(Vec::new()));
        let seen = published.clone();
        let serve = controller().serve(inbox, move |image| {
            let seen = seen.clone();
            async move {
                tokio::task::yield_now().await;
                seen.borrow_mut().push(image.topic_count());
            }
        });
        let ask = async {
            let answers = handle.create_topics(vec![topic("a")], false).await.unwrap();
            assert!(answers[0].is_ok());
            assert_eq!(*published.borrow(), [1]);
            let answers = handle.create_topics(vec![topic("b")], true).await.unwrap();
            assert!(answers[0].is_ok());
            assert_eq!(*published.borrow(), [1], "a validation changes no image");
            handle.stop().await;
        };
        let (served, ()) = tokio::join!(serve, ask);
        served.unwrap();
        assert_eq!(handle.allocate_producer_ids().await, Err(ControllerUnavailable));
    });
}

#[test]
fn without_room_nothing_is_changed_but_topics_can_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let (handle, inbox) = controller_channel();
        let mut controller = controller();
        create(&mut controller, topic("a")).unwrap();
        controller.keep_room(dir.path().to_owned(), u64::MAX);
        let serve = controller.serve(inbox, |_| async {});
        let ask = async {
            let created = handle.create_topics(vec![topic("b")], false).await;
            assert_eq!(created, Err(ControllerUnavailable));
            assert_eq!(handle.allocate_producer_ids().await, Err(ControllerUnavailable));
            let gone = TopicReference::Name("a".to_owned());
            assert!(handle.delete_topics(vec![gone]).await.unwrap()[0].is_ok());
            handle.stop().await;
        };
        let (served, ()) = tokio::join!(serve, ask);
        served.unwrap();
    });
    let mut controller = controller();
    controller.keep_room(dir.path().to_owned(), 0);
    assert!(controller.has_room());
    controller.keep_room(dir.path().join("missing"), u64::MAX);
    assert!(controller.has_room(), "nobody knows: the commit will say");
}

#[test]
fn after_a_failed_write_nobody_gets_an_answer() {
    run(async {
        let store = MemoryStore::default();
        let controller = open_on(&store, 1);
        store.fail();
        let (handle, inbox) = controller_channel();
        let serve = controller.serve(inbox, |_| async { panic!("published without a commit") });
        let (served, answer) = tokio::join!(serve, handle.allocate_producer_ids());
        assert!(matches!(served, Err(StoreError::Database { .. })));
        assert_eq!(answer, Err(ControllerUnavailable));
    });
}

#[test]
fn a_start_on_disk_finds_what_the_last_one_left() {
    use super::super::directory::DataDirectories;
    use super::super::identity::system_random;
    use super::super::store::RedbStore;
    let root = tempfile::tempdir().unwrap();
    let paths = [root.path().join("a"), root.path().join("b")];
    for restart in 0..3 {
        let directories = DataDirectories::open(&paths, BrokerId(1), &mut system_random()).unwrap();
        let store = RedbStore::open(directories.metadata_path()).unwrap();
        let options = controller().options;
        let facts = StartFacts { shard_count: 2, directories: directories.ids() };
        let mut controller =
            Controller::open(Box::new(store), options, system_random(), facts).unwrap();
        assert_eq!(controller.image().start_count(), restart + 1);
        assert_eq!(controller.image().topic_count(), usize::try_from(restart).unwrap());
        create(&mut controller, topic(&format!("t{restart}"))).unwrap();
        assert!(controller.commit().unwrap());
    }
}
