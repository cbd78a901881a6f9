//! Each command with tiny sizes: what was sent is answered, and is in the file.

use std::path::PathBuf;

/// A folder on a file system that takes `O_DIRECT`.
pub fn folder() -> PathBuf {
    std::env::temp_dir()
}
