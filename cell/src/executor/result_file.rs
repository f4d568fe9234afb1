//! Reads what a container's work left to be told: one file of bounded size.

use std::io::Read;

use super::context::Context;
use super::inside::{Inside, as_user};

/// The content of the file, or of the first one of a folder.
///
/// # Errors
/// In words: it is not there, is no file, or is too large.
pub(super) async fn read(context: &Context<'_>, path: &str) -> Result<String, String> {
    let bytes_max = context.settings.result_bytes_max;
    let inside = Inside::of(context.garden, &context.order.handle).await?;
    // As root, as in Diego.
    let user = inside.user("0")?;
    let path = path.to_owned();
    as_user(user.clone(), move || {
        let file = inside.first_file(&path, &user)?;
        let mut bytes = Vec::new();
        // One more tells that there is more.
        let read = file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| format!("{path}: {error}"))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
            return Err(format!("result file is too large (over {bytes_max} bytes)"));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    })
    .await
}
