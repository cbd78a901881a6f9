//! The shell around the controller: a bounded queue of requests, one durable commit for all that
//! wait, the new image on every shard, then the answers.

use std::future::Future;
use std::sync::Arc;

use thiserror::Error;

use super::super::image::MetadataImage;
use super::super::store::StoreError;
use super::Controller;
use super::requests::{
    AlterConfigs, AlterConfigsError, CreatePartitionsError, CreateTopicError, CreatedTopic,
    DeleteTopicError, DeletedTopic, MorePartitions, NewTopic, ProducerIdBlock, TopicReference,
};

/// Requests that may wait; who comes then waits in its own task.
const QUEUE_LEN_MAX: usize = 256;

/// Requests that share one commit.
const GROUP_LEN_MAX: usize = 64;

/// The control thread does not answer: it failed or is stopping. A client may try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the controller is not available")]
pub struct ControllerUnavailable;

/// Asks the controller, from any thread and any runtime.
#[derive(Clone)]
pub struct ControllerHandle {
    queue: flume::Sender<Request>,
}

/// The controller's end of its queue.
pub struct ControllerInbox {
    queue: flume::Receiver<Request>,
}

/// A controller's queue. When the last handle is gone, [`Controller::serve`] ends.
#[must_use]
pub fn controller_channel() -> (ControllerHandle, ControllerInbox) {
    let (sender, receiver) = flume::bounded(QUEUE_LEN_MAX);
    (ControllerHandle { queue: sender }, ControllerInbox { queue: receiver })
}

type CreateTopicAnswers = Vec<Result<CreatedTopic, CreateTopicError>>;
type DeleteTopicAnswers = Vec<Result<DeletedTopic, DeleteTopicError>>;
type CreatePartitionsAnswers = Vec<Result<(), CreatePartitionsError>>;
type AlterConfigsAnswers = Vec<Result<(), AlterConfigsError>>;

enum Request {
    CreateTopics(Vec<NewTopic>, bool, flume::Sender<CreateTopicAnswers>),
    DeleteTopics(Vec<TopicReference>, flume::Sender<DeleteTopicAnswers>),
    CreatePartitions(Vec<MorePartitions>, bool, flume::Sender<CreatePartitionsAnswers>),
    AlterConfigs(Vec<AlterConfigs>, bool, flume::Sender<AlterConfigsAnswers>),
    AllocateProducerIds(flume::Sender<ProducerIdBlock>),
    Stop,
}

impl ControllerHandle {
    /// Creates topics; see [`Controller::create_topics`].
    ///
    /// # Errors
    /// The controller is gone.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Result<CreateTopicAnswers, ControllerUnavailable> {
        self.ask(|reply| Request::CreateTopics(topics, validate_only, reply)).await
    }

    /// Deletes topics; see [`Controller::delete_topics`].
    ///
    /// # Errors
    /// The controller is gone.
    pub async fn delete_topics(
        &self,
        topics: Vec<TopicReference>,
    ) -> Result<DeleteTopicAnswers, ControllerUnavailable> {
        self.ask(|reply| Request::DeleteTopics(topics, reply)).await
    }

    /// Adds partitions; see [`Controller::create_partitions`].
    ///
    /// # Errors
    /// The controller is gone.
    pub async fn create_partitions(
        &self,
        topics: Vec<MorePartitions>,
        validate_only: bool,
    ) -> Result<CreatePartitionsAnswers, ControllerUnavailable> {
        self.ask(|reply| Request::CreatePartitions(topics, validate_only, reply)).await
    }

    /// Changes configurations; see [`Controller::alter_configs`].
    ///
    /// # Errors
    /// The controller is gone.
    pub async fn alter_configs(
        &self,
        resources: Vec<AlterConfigs>,
        validate_only: bool,
    ) -> Result<AlterConfigsAnswers, ControllerUnavailable> {
        self.ask(|reply| Request::AlterConfigs(resources, validate_only, reply)).await
    }

    /// Takes a block of producer ids; see [`Controller::allocate_producer_ids`].
    ///
    /// # Errors
    /// The controller is gone.
    pub async fn allocate_producer_ids(&self) -> Result<ProducerIdBlock, ControllerUnavailable> {
        self.ask(Request::AllocateProducerIds).await
    }

    /// Ends [`Controller::serve`] after the requests before this one, though other handles live.
    pub async fn stop(&self) {
        // A controller that is gone already has stopped.
        let _ = self.queue.send_async(Request::Stop).await;
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(flume::Sender<T>) -> Request,
    ) -> Result<T, ControllerUnavailable> {
        let (reply, answer) = flume::bounded(1);
        self.queue.send_async(request(reply)).await.map_err(|_| ControllerUnavailable)?;
        answer.recv_async().await.map_err(|_| ControllerUnavailable)
    }
}

/// An answer that waits for its commit. Dropped without being called, it tells the one who asks
/// that the controller is gone.
type Answer = Box<dyn FnOnce() + Send>;

impl Controller {
    /// Serves the queue until every handle is gone or one says stop. `publish` gives an image to
    /// all shards and resolves when each has taken it over, so that an answer is true on every
    /// core.
    ///
    /// # Errors
    /// The store failed; those who wait learn that the controller is gone.
    pub async fn serve<P, F>(mut self, inbox: ControllerInbox, publish: P) -> Result<(), StoreError>
    where
        P: Fn(Arc<MetadataImage>) -> F,
        F: Future<Output = ()>,
    {
        // Shards still hold older images for a moment. They are freed here, when nobody else does:
        // freeing tens of thousands of topics would be felt on a shard.
        let mut older: Vec<Arc<MetadataImage>> = Vec::new();
        while let Ok(first) = inbox.queue.recv_async().await {
            let before = self.image();
            let mut answers = Vec::new();
            let mut is_stopping = self.answer(first, &mut answers);
            while !is_stopping && answers.len() < GROUP_LEN_MAX {
                let Ok(next) = inbox.queue.try_recv() else { break };
                is_stopping = self.answer(next, &mut answers);
            }
            if self.commit()? {
                publish(self.image()).await;
                older.push(before);
                older.retain(|image| Arc::strong_count(image) > 1);
            }
            for answer in answers {
                answer();
            }
            if is_stopping {
                break;
            }
        }
        Ok(())
    }

    /// Decides one request and keeps its answer; true if it was the last one.
    fn answer(&mut self, request: Request, answers: &mut Vec<Answer>) -> bool {
        let frees_room = matches!(request, Request::DeleteTopics(..) | Request::Stop);
        if !frees_room && !self.has_room() {
            return false; // who asked learns that we are not available, and asks again
        }
        answers.push(match request {
            Request::CreateTopics(topics, validate_only, reply) => {
                later(reply, self.create_topics(&topics, validate_only))
            }
            Request::DeleteTopics(topics, reply) => later(reply, self.delete_topics(&topics)),
            Request::CreatePartitions(topics, validate_only, reply) => {
                later(reply, self.create_partitions(&topics, validate_only))
            }
            Request::AlterConfigs(resources, validate_only, reply) => {
                later(reply, self.alter_configs(&resources, validate_only))
            }
            Request::AllocateProducerIds(reply) => later(reply, self.allocate_producer_ids()),
            Request::Stop => return true,
        });
        false
    }
}

fn later<T: Send + 'static>(reply: flume::Sender<T>, answer: T) -> Answer {
    Box::new(move || {
        // Who asked may be gone: its connection closed.
        let _ = reply.send(answer);
    })
}
