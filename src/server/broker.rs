//! The whole broker: from checked settings to running cores, and down again. Runs on the control
//! thread, which then serves metadata and waits for signals.

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::core::BrokerView;
use super::serve::{CoreCommand, CoreStart, serve_core};
use crate::base::ids::{ShardId, TopicPartition};
use crate::cluster::controller::{
    Controller, ControllerHandle, ControllerOptions, OpenError, StartFacts, controller_channel,
};
use crate::cluster::directory::{DataDirectories, DirectoryError};
use crate::cluster::image::MetadataImage;
use crate::cluster::reconcile::Reconciler;
use crate::cluster::store::{RedbStore, StoreError};
use crate::cluster::topic_config::TopicDefaults;
use crate::config::exit::Exit;
use crate::config::{RecordValidation, Settings};
use crate::io::disk::Disk;
use crate::shard::mesh::MeshPlan;
use crate::shard::runtime::{ShardConfig, spawn_shard};
use crate::storage::{RecoveryError, StoreConfig, recover};
