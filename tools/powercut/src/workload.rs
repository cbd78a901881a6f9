//! What is recorded: a broker's life with all that it does, over several starts.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Recipe;
use crate::device::Rig;
use crate::operator::Operator;
use crate::promises::{Place, TOPICS};
use crate::support::client::Client;
use crate::tools::random::Random;
use crate::writers::{Sent, Writers};

/// Starts of the broker, and how long each of its lives is.
const LIVES: usize = 5;
const LIFE: Duration = Duration::from_millis(1_400);
/// A place that got fewer batches acknowledged was not tested.
const ACKED_MIN: usize = 20;

/// Runs the workload on the rig's device. Where in the log the promises begin.
pub fn record(rig: &Rig, recipe: &Recipe, random: &mut Random) -> Result<usize, String> {
    let mounted = rig.format_and_mount()?;
    let log = rig.log();
    let sent: Vec<Arc<Sent>> = Place::all().into_iter().map(Sent::nothing).collect();
    let mut operator = Operator::new(log);
    let mut from = 0;
    for life in 0..LIVES {
        let broker = recipe.start(mounted.path(), cores(life))?;
        if life == 0 {
            create_topics(&mut Client::connect(broker.address()))?;
            from = log.len();
        }
        let writers = Writers::start(broker.address(), log, &sent);
        operator.work(broker.address(), &sent, random, LIFE)?;
        if life % 2 == 0 {
            broker.kill()?;
            // Its last answer may have been cut, which a writer takes badly.
            let _ = writers.join();
        } else {
            writers.finish()?;
            broker.stop()?;
        }
    }
    for sent in &sent {
        let acked = sent.acked();
        if acked < ACKED_MIN {
            return Err(format!("{}: only {acked} batches acknowledged", sent.place.name()));
        }
    }
    mounted.unmount()?;
    Ok(from)
}

/// `--cores` of each start in turn.
pub fn cores(start: usize) -> &'static str {
    if std::thread::available_parallelism().is_ok_and(|count| count.get() < 2) {
        return "0";
    }
    ["0,1", "0", "1"][start % 3]
}

fn create_topics(client: &mut Client) -> Result<(), String> {
    for topic in &TOPICS {
        let error = client.create_topic(topic.name, topic.partitions, topic.configs);
        if error != 0 {
            return Err(format!("creating {} got error {error}", topic.name));
        }
    }
    Ok(())
}
