//! The routing of `hopmq-broker`, compiled into the fuzz targets that check it: it is private there.

#![allow(dead_code)]

#[path = "../broker/src/engine/routing/destinations.rs"]
mod destinations;
#[path = "../broker/src/engine/routing/headers.rs"]
mod headers;
#[path = "../broker/src/engine/routing/naive.rs"]
pub(crate) mod naive;
#[path = "../broker/src/engine/routing/nodes.rs"]
mod nodes;
#[path = "../broker/src/engine/routing/places.rs"]
mod places;
#[path = "../broker/src/engine/table.rs"]
mod table;
#[path = "../broker/src/engine/routing/topic.rs"]
mod topic;
#[path = "../broker/src/engine/routing/words.rs"]
mod words;
