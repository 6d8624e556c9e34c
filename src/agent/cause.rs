//! Errors of other rooms, which the agent only passes on.

use std::sync::Arc;

/// Why something could not be done, in the words of whoever tried.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;
