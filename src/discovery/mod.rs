//! Where the instances of the logic services come from. A source is one file: it makes a [`Feed`] and keeps it up to
//! date; each worker follows the feed and nobody knows which source it is.

mod change;
pub(crate) mod consul;
mod source;
mod start_error;
mod static_list;

pub(crate) use self::change::SourceChange;
pub(crate) use self::source::{BoundPorts, Discovery, DiscoveryContext, OwnEntry};
pub use self::source::{Feed, Snapshot};
pub use self::start_error::DiscoveryStartError;

impl Discovery {
    /// Starts the configured source.
    ///
    /// # Errors
    /// [`DiscoveryStartError`].
    pub(crate) fn start(context: DiscoveryContext) -> Result<Self, DiscoveryStartError> {
        match &context.config.consul {
            Some(consul) => consul::start(consul, &context),
            None => Ok(static_list::start(&context)),
        }
    }
}
