//! The list in the configuration: said once, never changed.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Feed, Snapshot};
use crate::config::Instance;

/// A feed of these instances for ever.
pub(crate) fn feed(instances: &[Instance]) -> Feed {
    let mut instances = instances.to_vec();
    instances.sort_by(|one, other| (&one.service, &one.id).cmp(&(&other.service, &other.id)));
    watch::channel(Arc::new(Snapshot { instances })).1
}
